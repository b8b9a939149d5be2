package api

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/micro"

	"tollbook/api/alerts"
	"tollbook/consumers"
	"tollbook/consumers/jetstream"
	"tollbook/domain"
	"tollbook/eventstore"
	"tollbook/projections"
	"tollbook/projections/forecast"
)

// gzipFrom is from how many bytes an answer is compressed: it must fit a NATS
// message, and documents of many small pools shrink twentyfold.
const gzipFrom = 64 << 10

// inFlight is how many requests are worked on at once; further ones wait in NATS.
const inFlight = 64

// Service answers requests. Its fields are not changed after Start.
type Service struct {
	Book      *eventstore.Book
	Intake    *consumers.Intake
	Months    *projections.Months
	Desk      *Desk
	Gaps      *projections.Gaps
	Key       *eventstore.SigningKey // signs anchors
	Clock     func() domain.Instant  // when somebody decides
	Closer    *Closer
	Explainer *Explainer
	Log       *slog.Logger
	Mirror    func() MirrorStatus // nil without one
	Alerts    *alerts.Announcer

	forecasts forecast.Live
}

// An endpoint is one question the service answers. What it asks is the payload,
// what comes of it the answer, both JSON.
type endpoint struct {
	subject string // below Prefix
	handle  func(context.Context, micro.Request) (any, error)
}

// endpoints are those that only tell, then those below as.<who>., which change
// the book: whoever may publish there acts under that name.
func (s *Service) endpoints() []endpoint {
	return []endpoint{
		{"publish.>", s.publish},
		{"pools", s.pools},
		{"invoice", s.invoice},
		{"statement", s.statement},
		{"forecast", s.forecast},
		{"calls", s.calls},
		{"status", s.status},
		{"anchor", s.anchor},
		{"explain", s.explain},
		{"explain.line", s.explainLine},
		{"explain.pool", s.explainPool},
		{"suspense.list", s.suspenseList},
		{"suspense.show", s.suspenseShow},
		{"gaps", s.gaps},
		{"documents", s.documents},
		{"alerts", s.alerts},
		{"as.*.suspense.recycle", s.suspenseRecycle},
		{"as.*.suspense.write-off", s.suspenseWriteOff},
		{"as.*.gaps.waive", s.gapsWaive},
		{"as.*.exceptions.waive", s.exceptionsWaive},
		{"as.*.close", s.close},
	}
}

// ReadSubjects are the subjects, Prefix included, of the endpoints that only
// tell: all that whoever may change nothing needs.
func ReadSubjects() []string {
	var subjects []string
	for _, e := range (&Service{}).endpoints() {
		if !strings.HasPrefix(e.subject, "publish.") && !strings.HasPrefix(e.subject, "as.") {
			subjects = append(subjects, Prefix+e.subject)
		}
	}
	return subjects
}

// awaited reports whether an answer is wanted on an inbox. Anywhere else it would
// be published with the engine's rights where its asker has none: an answer on
// $JS.API.STREAM.DELETE.TOLLBOOK deletes the stream. And what nobody waits for
// nobody asked: so come the stream's acknowledgements, for a sender that named a
// subject of the service as its inbox.
func awaited(reply string) bool {
	return strings.HasPrefix(reply, "_INBOX.") || strings.HasPrefix(reply, "_INBOX_")
}

// Start adds the service to the connection, until the returned stop is called.
func (s *Service) Start(ctx context.Context, nc *nats.Conn, version string) (stop func() error, err error) {
	service, err := micro.AddService(nc, micro.Config{
		Name: ServiceName, Version: version,
		Description: "Telephony billing: books events, answers pools and invoices",
	})
	if err != nil {
		return nil, fmt.Errorf("NATS service: %w", err)
	}
	turns := make(chan struct{}, inFlight)
	for _, e := range s.endpoints() {
		name := strings.NewReplacer(".>", "", "*.", "", ".", "-").Replace(e.subject)
		err = errors.Join(err, service.AddEndpoint(name, micro.HandlerFunc(func(r micro.Request) {
			turns <- struct{}{}
			go func() {
				defer func() { <-turns }()
				s.answer(ctx, nc, r, e.handle)
			}()
		}), micro.WithEndpointSubject(Prefix+e.subject)))
	}
	if err == nil {
		// Whoever is told that the engine is ready finds somebody listening.
		err = nc.FlushTimeout(10 * time.Second)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("NATS service: %w", err), service.Stop())
	}
	return service.Stop, nil
}

// wrong is an error of the request, not of the engine.
type wrong struct{ error }

// answer works on a request and answers it. It uses the connection and not the
// methods of r, whose fields the library reads at the same time.
func (s *Service) answer(ctx context.Context, nc *nats.Conn, r micro.Request, handle func(context.Context, micro.Request) (any, error)) {
	if !awaited(r.Reply()) {
		s.Log.Warn("request refused: its reply subject must be an inbox (_INBOX.… or _INBOX_<user>.…)",
			"subject", domain.MaskNumbers(r.Subject()), "reply", domain.MaskNumbers(r.Reply()))
		return
	}
	m := &nats.Msg{Subject: r.Reply()}
	v, err := handle(ctx, r)
	if err == nil {
		m.Header = nats.Header{"Content-Type": {"application/json"}}
		m.Data, err = json.Marshal(v)
	}
	size := len(m.Data)
	if size > gzipFrom {
		m.Header.Set("Content-Encoding", "gzip")
		m.Data = compress(m.Data)
	}
	if err != nil {
		code := "503"
		if _, ok := err.(wrong); ok {
			code = "400"
		}
		m = refusal(r, code, err.Error())
	}
	err = nc.PublishMsg(m)
	if errors.Is(err, nats.ErrMaxPayload) {
		err = nc.PublishMsg(refusal(r, "413", fmt.Sprintf("the answer has %d bytes, more than a message on this NATS: ask with --data DIR on the engine's machine, or raise max_payload", len(m.Data))))
	}
	if err != nil {
		s.Log.Warn("answer not sent", "subject", domain.MaskNumbers(r.Subject()), "bytes", size, "error", err)
	}
}

// refusal is an answer that is none.
func refusal(r micro.Request, code, line string) *nats.Msg {
	return &nats.Msg{Subject: r.Reply(), Header: nats.Header{micro.ErrorCodeHeader: {code}, micro.ErrorHeader: {line}}}
}

func compress(data []byte) []byte {
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	// Writing to a bytes.Buffer cannot fail.
	_, _ = w.Write(data)
	_ = w.Close()
	return b.Bytes()
}

func (s *Service) publish(ctx context.Context, r micro.Request) (any, error) {
	m := consumers.Message{
		Subject: consumers.SubjectPrefix + strings.TrimPrefix(r.Subject(), Prefix+"publish."),
		Header: consumers.HeaderIn(func(yield func(string, string) bool) {
			for name, values := range r.Headers() {
				if !yield(name, strings.Join(values, jetstream.RepeatSeparator)) {
					return
				}
			}
		}),
		Payload: r.Data(), AnyTenant: true,
	}
	records := s.Intake.Records(m)
	results, err := s.Intake.Book(ctx, records)
	if err != nil {
		return nil, err
	}
	return receipt(records, results), nil
}

func (s *Service) month(r micro.Request) (MonthRequest, projections.Statement, error) {
	var q MonthRequest
	if err := json.Unmarshal(r.Data(), &q); err != nil {
		return q, projections.Statement{}, wrong{fmt.Errorf("the request must be JSON such as {\"tenant\":\"contoso\",\"month\":\"2026-10\"}: %w", err)}
	}
	statement, err := StatementOf(s.Months, q)
	return q, statement, err
}

// StatementOf checks a request and asks the months.
func StatementOf(months *projections.Months, q MonthRequest) (projections.Statement, error) {
	if !consumers.ValidTenant(q.Tenant) {
		return projections.Statement{}, wrong{fmt.Errorf("tenant %.80q: must be 1 to 63 of a-z, 0-9 and -", q.Tenant)}
	}
	month, err := domain.ParseMonth(q.Month)
	if err != nil {
		return projections.Statement{}, wrong{err}
	}
	return months.Statement(q.Tenant, month), nil
}

func (s *Service) pools(_ context.Context, r micro.Request) (any, error) {
	_, statement, err := s.month(r)
	return statement.PoolsOnly(), err
}

func (s *Service) invoice(_ context.Context, r micro.Request) (any, error) {
	q, statement, err := s.month(r)
	return statement.Only(q.Country, q.Plan), err
}

func (s *Service) status(context.Context, micro.Request) (any, error) {
	status := StatusOf(s.Months)
	if s.Mirror != nil {
		mirror := s.Mirror()
		status.Mirror = &mirror
	}
	return status, nil
}

// StatusOf is how far the months are.
func StatusOf(months *projections.Months) Status {
	head := months.Head()
	status := Status{Position: head.Events, Block: head.Block, Head: head.String(), Tenants: []TenantStatus{}}
	for _, tenant := range months.Tenants() {
		intake, _ := months.Intake(tenant)
		t := TenantStatus{Tenant: tenant, Received: intake.Received(), Months: []string{}, Intake: intake}
		for _, m := range months.MonthsOf(tenant) {
			t.Months = append(t.Months, m.String())
		}
		status.Tenants = append(status.Tenants, t)
	}
	return status
}
