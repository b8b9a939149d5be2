package api

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"runtime"
	"strconv"
	"strings"
	"time"

	"github.com/go-json-experiment/json"
	"golang.org/x/sync/semaphore"
	"golang.org/x/time/rate"

	"tollbook/consumers"
	"tollbook/consumers/cdr"
	"tollbook/domain"
	"tollbook/eventstore"
)

// Limits of the intake over HTTP, for all senders together. What is beyond the
// last three is answered with 429 and comes again.
const (
	// MaxBody is the longest body taken, in bytes, and the longest that one of gzip
	// may become: what a NATS message may have, so that what came either way fits
	// the book.
	MaxBody = consumers.MaxPayload

	// maxBooking is how many requests wait for the book at once: as many as its
	// queue has room for.
	maxBooking = 1024

	// maxHeld is how many bytes requests hold from their first byte to their answer:
	// a book that is slow does not make memory grow.
	maxHeld = 256 << 20

	// recordBytes is what a record takes beside its own bytes until it is booked and
	// answered.
	recordBytes = 1 << 10
)

// DefaultBodyTimeout is how long a body may take to come.
const DefaultBodyTimeout = 30 * time.Second

// When to come again: when room may be free, and when another engine may run.
const (
	soon  = time.Second
	later = 5 * time.Second
)

// HTTPConfig is what the intake over HTTP needs.
type HTTPConfig struct {
	Intake *consumers.Intake
	Log    *slog.Logger // what was refused that sending again can't help

	Access *consumers.Access // who may send; nil: anybody, and nobody unless Local
	Local  bool              // only this machine reaches the handler

	Rate int // requests a second of each user of Access, and as many at once; 0: no limit

	BodyTimeout time.Duration // 0: DefaultBodyTimeout
}

// httpIntake books what is posted.
type httpIntake struct {
	HTTPConfig
	senders *senders // nil: nobody is asked who they are
	booking *semaphore.Weighted
	held    *semaphore.Weighted
	turns   chan struct{}  // to decode: more at once than processors would only hold more memory
	told    rate.Sometimes // of refusals, so that a sender gone mad does not fill the log
}

// NewHTTPIntake serves POST /v1/events and POST /v1/cdr/{tenant}/{format}/{switch},
// as the package's comment describes them. It is safe for concurrent use.
func NewHTTPIntake(c HTTPConfig) http.Handler { return newHTTPIntake(c, maxBooking, maxHeld) }

func newHTTPIntake(c HTTPConfig, booking, held int64) http.Handler {
	if c.BodyTimeout == 0 {
		c.BodyTimeout = DefaultBodyTimeout
	}
	h := &httpIntake{
		HTTPConfig: c,
		booking:    semaphore.NewWeighted(booking), held: semaphore.NewWeighted(held),
		turns: make(chan struct{}, runtime.GOMAXPROCS(0)),
		told:  rate.Sometimes{First: 10, Interval: time.Second},
	}
	if c.Access != nil {
		h.senders = newSenders(*c.Access, c.Rate)
	}
	mux := http.NewServeMux()
	serve := func(pattern string, take func(http.ResponseWriter, *http.Request) (Receipt, *problem)) {
		mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
			receipt, refused := take(w, r)
			h.answer(w, r, receipt, refused)
		})
	}
	for path, address := range map[string]address{"/v1/events": ofEvents, "/v1/cdr/{tenant}/{format}/{switch}": ofCDRs} {
		serve("POST "+path, func(w http.ResponseWriter, r *http.Request) (Receipt, *problem) { return h.receive(w, r, address) })
		serve(path, func(w http.ResponseWriter, r *http.Request) (Receipt, *problem) {
			w.Header().Set("Allow", http.MethodPost)
			return Receipt{}, refuse(http.StatusMethodNotAllowed, "method %.20s: records are posted", r.Method)
		})
	}
	serve("/v1/", func(_ http.ResponseWriter, r *http.Request) (Receipt, *problem) {
		return Receipt{}, refuse(http.StatusNotFound, "path %.200q: must be /v1/events or /v1/cdr/<tenant>/<format>/<switch>", domain.MaskNumbers(r.URL.Path))
	})
	return mux
}

// receive books the records of a request. It returns a receipt once all of them
// are durable; after a problem some may be, and sending all of them again is safe.
func (h *httpIntake) receive(w http.ResponseWriter, r *http.Request, address address) (Receipt, *problem) {
	user, refused := h.sender(r)
	if refused != nil {
		return Receipt{}, refused
	}
	m, events, refused := address(r, user)
	if refused != nil {
		return Receipt{}, refused
	}
	if user != nil && !user.MayPublish(m.Subject) {
		return Receipt{}, refuse(http.StatusForbidden, "user %s (%s) may not publish here: a switch posts to /v1/events and /v1/cdr/<tenant>/<format>/<switch>, tenant and switch its own", user.Name, user.Role)
	}
	kind, refused := contentOf(r, events)
	if refused != nil {
		return Receipt{}, refused
	}
	memory := hold{of: h.held}
	defer memory.release()
	if m.Payload, refused = h.body(w, r, &memory); refused != nil {
		return Receipt{}, refused
	}
	m.Header = noHeader
	switch kind {
	case binary:
		m.Header = attributes(r.Header)
	case batch:
		if emptyBatch(m.Payload) {
			return receipt(nil, nil), nil
		}
	}
	if len(bytes.TrimSpace(m.Payload)) == 0 && kind != binary {
		return Receipt{}, refuse(http.StatusBadRequest, "the body is empty: post one record, or many")
	}
	return h.book(r.Context(), m, &memory)
}

// book books a request that is here as a whole.
func (h *httpIntake) book(ctx context.Context, m consumers.Message, memory *hold) (Receipt, *problem) {
	if !h.booking.TryAcquire(1) {
		return Receipt{}, busy()
	}
	defer h.booking.Release(1)
	records := h.records(m)
	if !memory.more(len(records) * recordBytes) {
		return Receipt{}, busy()
	}
	// Not until the sender goes away: what it sent is in the book's queue all the
	// same, and room that only seems free would let the next one add to it.
	results, err := h.Intake.Book(context.WithoutCancel(ctx), records)
	if err != nil {
		p := refuse(http.StatusServiceUnavailable, "%v: %v", ErrStopping, err)
		p.retry = later
		return Receipt{}, p
	}
	return receipt(records, results), nil
}

func (h *httpIntake) records(m consumers.Message) []eventstore.Record {
	h.turns <- struct{}{}
	defer func() { <-h.turns }()
	return h.Intake.Records(m)
}

// sender is who posts; nil where nobody is asked.
func (h *httpIntake) sender(r *http.Request) (*consumers.User, *problem) {
	// A page in a browser on this machine reaches loopback too, under whatever name
	// its own machine chooses to resolve to it. No switch sends these.
	if r.Header.Get("Origin") != "" || r.Header.Get("Sec-Fetch-Site") != "" {
		return nil, refuse(http.StatusForbidden, "a web page's request (it has Origin or Sec-Fetch-Site): records are posted by switches and programs")
	}
	if h.senders != nil {
		return h.senders.of(r)
	}
	if !h.Local {
		return nil, refuse(http.StatusForbidden, "--http is open to other machines and there are no users: give serve --auth, made with 'tollbook access add-switch --password', or let --http listen to this machine only")
	}
	return nil, nil
}

// An address tells where a request's records come in, and whether they are events.
type address func(*http.Request, *consumers.User) (m consumers.Message, events bool, refused *problem)

// ofEvents takes a switch's events as its own subject does. Anybody else's name
// their tenant themselves, as in files.
func ofEvents(_ *http.Request, user *consumers.User) (m consumers.Message, events bool, refused *problem) {
	if user != nil && user.Role == consumers.RoleSwitch {
		return consumers.Message{Subject: consumers.CDRSubject(user.Tenant, consumers.FormatCloudEvents, user.Switch)}, true, nil
	}
	return consumers.Message{Subject: consumers.SubjectPrefix + domain.NoTenant + ".events", AnyTenant: true}, true, nil
}

// ofCDRs takes the records of a switch as its subject does. A path that can be
// no subject is refused, for here its sender can be told.
func ofCDRs(r *http.Request, _ *consumers.User) (m consumers.Message, events bool, refused *problem) {
	tenant, format, sw := r.PathValue("tenant"), r.PathValue("format"), r.PathValue("switch")
	wrong := func(name, value, rule string) (consumers.Message, bool, *problem) {
		return consumers.Message{}, false, refuse(http.StatusNotFound, "path: %s %.128q: %s", name, domain.MaskNumbers(value), rule)
	}
	_, known := cdr.Lookup(format)
	switch {
	case !consumers.ValidTenant(tenant):
		return wrong("tenant", tenant, "must be 1 to 63 of a-z, 0-9 and -, not beginning with -")
	case !known && format != consumers.FormatCloudEvents:
		return wrong("format", format, "is not one of "+strings.Join(append(cdr.Names(), consumers.FormatCloudEvents), ", "))
	case !consumers.ValidSwitch(sw):
		return wrong("switch", sw, "must be 1 to 128 bytes of visible ASCII without . * > /")
	}
	return consumers.Message{Subject: consumers.CDRSubject(tenant, format, sw)}, format == consumers.FormatCloudEvents, nil
}

// A problem is why nothing is promised of a request.
type problem struct {
	status int
	detail string        // one line: what, where, what to do
	retry  time.Duration // when sending it again may help; 0: it can't
}

// refuse makes a problem that sending again can't help.
func refuse(status int, format string, args ...any) *problem {
	return &problem{status: status, detail: fmt.Sprintf(format, args...)}
}

// busy is the answer where all senders together are too many.
func busy() *problem {
	return &problem{status: http.StatusTooManyRequests, detail: "too much is waiting to be booked: send it again", retry: soon}
}

// answer writes the receipt, or the problem as RFC 9457 has it. An error of
// writing is the connection's, and its sender will come again.
func (h *httpIntake) answer(w http.ResponseWriter, r *http.Request, receipt Receipt, p *problem) {
	if p == nil {
		w.Header().Set("Content-Type", "application/json")
		_ = writeLine(w, receipt)
		return
	}
	w.Header().Set("Content-Type", "application/problem+json")
	if p.retry > 0 {
		w.Header().Set("Retry-After", strconv.Itoa(int((p.retry+time.Second-1)/time.Second)))
	} else {
		// Switches don't show what they are answered.
		h.told.Do(func() {
			name, _ := credential(r)
			h.Log.Warn("HTTP request refused", "status", p.status, "error", p.detail, "user", fmt.Sprintf("%.64s", domain.MaskNumbers(name)), "from", r.RemoteAddr)
		})
	}
	if p.status == http.StatusUnauthorized {
		w.Header().Set("WWW-Authenticate", `Basic realm="tollbook", charset="UTF-8"`)
	}
	w.WriteHeader(p.status)
	_ = writeLine(w, struct {
		Title  string `json:"title"`
		Status int    `json:"status"`
		Detail string `json:"detail"`
	}{http.StatusText(p.status), p.status, strings.ToValidUTF8(p.detail, "?")})
}

func writeLine(w http.ResponseWriter, v any) error {
	line, err := json.Marshal(v)
	if err == nil {
		_, err = w.Write(append(line, '\n'))
	}
	return err
}
