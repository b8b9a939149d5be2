package api_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"

	"tollbook/api"
	"tollbook/consumers"
	"tollbook/domain"
	"tollbook/domain/cloudevents"
	"tollbook/eventstore"
	"tollbook/eventstore/memlog"
	"tollbook/projections"
)

const patience = 30 * time.Second

// A rig is a service on a book in memory, behind a NATS server, and who asks it.
type rig struct {
	t      *testing.T
	nc     *nats.Conn
	client *api.Client
	book   *eventstore.Book
	ctx    context.Context // for patience
}

// newRig starts a service on a NATS server whose messages have at most so many bytes.
func newRig(t *testing.T, maxPayload int32) *rig {
	t.Helper()
	srv, err := server.NewServer(&server.Options{Host: "127.0.0.1", Port: server.RANDOM_PORT, MaxPayload: maxPayload, NoLog: true, NoSigs: true})
	if err != nil {
		t.Fatal(err)
	}
	srv.Start()
	t.Cleanup(func() { srv.Shutdown(); srv.WaitForShutdown() })
	if !srv.ReadyForConnections(patience) {
		t.Fatal("the NATS server did not start")
	}
	dial := func() *nats.Conn {
		nc, err := nats.Connect(srv.ClientURL())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(nc.Close)
		return nc
	}
	clock := func() domain.Instant { return domain.MinInstant }
	switches, months := consumers.NewSwitches(), projections.NewMonths()
	book, err := eventstore.Open(t.Context(), t.TempDir(), func(string) (eventstore.Log, error) { return memlog.New(t), nil },
		eventstore.Options{Clock: clock, Follow: []eventstore.Follower{switches.Follow, months.Follow}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = book.Close() })
	service := &api.Service{Book: book, Intake: consumers.NewIntake(book, switches, clock), Months: months, Clock: clock, Log: slog.New(slog.DiscardHandler)}
	stop, err := service.Start(context.Background(), dial(), "0.0.0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = stop() })
	nc := dial()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	t.Cleanup(cancel)
	return &rig{t: t, nc: nc, client: api.NewClient(nc), book: book, ctx: ctx}
}

// call is an event of a call, as JSON.
func call(tenant, id string) []byte {
	return fmt.Appendf(nil, `{"specversion":"1.0","id":%q,"source":"switch/mil-1","type":"tollbook.call.completed.v1","time":"2026-10-05T09:01:00Z","tenant":%q,"data":%s}`, id, tenant, callData)
}

const callData = `{"user":"ada@contoso.example","direction":"outbound","calling":"+390281234567","called":"+390612345678","answered_at":"2026-10-05T09:00:00Z","billable_ms":60000,"disposition":"answered"}`

// publish sends a request as it is and returns what became of its records.
func (r *rig) publish(m *nats.Msg) api.Receipt {
	r.t.Helper()
	answer, err := r.nc.RequestMsg(m, patience)
	if err != nil {
		r.t.Fatal(err)
	}
	var receipt api.Receipt
	if err := json.Unmarshal(answer.Data, &receipt); err != nil {
		r.t.Fatalf("%v: %v %.300q", err, answer.Header, answer.Data)
	}
	return receipt
}

// TestAnswerTooLong: what does not fit a NATS message is answered with a line
// that says so and what to do, and the service goes on.
func TestAnswerTooLong(t *testing.T) {
	r := newRig(t, 4096)
	for i := range 100 {
		if _, err := r.client.Publish(r.ctx, "tollbook.-.events", call(fmt.Sprint("tenant-", i), "x")); err != nil {
			t.Fatal(err)
		}
	}
	status, err := r.client.Status(r.ctx)
	if err == nil {
		t.Fatalf("%d tenants are told in 4 KiB", len(status.Tenants))
	}
	for _, part := range []string{"413", "bytes, more than a message on this NATS", "--data DIR", "max_payload"} {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("the answer does not say %q: %v", part, err)
		}
	}
	if errors.Is(err, api.ErrStopping) || strings.Contains(err.Error(), "\n") {
		t.Errorf("not one line of a refusal: %q", err)
	}
	invoice, err := r.client.Invoice(r.ctx, api.MonthRequest{Tenant: "tenant-7", Month: "2026-10"})
	if err != nil || invoice.Tenant != "tenant-7" {
		t.Errorf("afterwards: %+v, %v", invoice, err)
	}
}

// TestRequestHeaders: attributes of binary mode are found in any case, a repeated
// one is refused and kept, and headers have room that a stream has not.
func TestRequestHeaders(t *testing.T) {
	r := newRig(t, consumers.MaxPayload)
	ask := func(id string, change func(nats.Header)) api.Receipt {
		h := nats.Header{
			"Ce-Specversion": {"1.0"}, "CE-ID": {id}, "ce-Source": {"switch/mil-1"}, "ce-TYPE": {"tollbook.call.completed.v1"}, "cE-time": {"2026-10-05T09:01:00Z"},
		}
		change(h)
		return r.publish(&nats.Msg{Subject: api.Prefix + "publish.contoso.call.completed", Header: h, Data: []byte(callData)})
	}
	if got := ask("any-case", func(nats.Header) {}); got.Booked != 1 {
		t.Errorf("attributes in any case: %+v", got)
	}
	if got := ask("megabyte", func(h nats.Header) { h.Set("x", strings.Repeat("x", 1<<20)) }); got.Booked != 1 {
		t.Errorf("a megabyte of headers: %+v", got)
	}
	if got := ask("msg-id", func(h nats.Header) { h.Set("Nats-Msg-Id", "same") }); got.Booked != 1 {
		t.Errorf("a Nats-Msg-Id: %+v", got)
	}
	if got := ask("msg-id-too", func(h nats.Header) { h.Set("Nats-Msg-Id", "same") }); got.Booked != 1 {
		t.Errorf("the same Nats-Msg-Id with another record: %+v", got)
	}
	for name, change := range map[string]func(nats.Header){
		"twice":        func(h nats.Header) { h.Add("CE-ID", "other") },
		"in two cases": func(h nats.Header) { h.Set("ce-id", "other") },
		"a number":     func(h nats.Header) { h.Set("cE-time", "+393471234567") },
	} {
		got := ask(name[:1], change)
		if got.Suspended != 1 || len(got.Records) != 1 || got.Records[0].Detail == "" || strings.Contains(got.Records[0].Detail, "393471") {
			t.Errorf("%s: %+v", name, got)
		}
	}
}

// TestRequestLimits: the longest request and the one that has one byte more.
func TestRequestLimits(t *testing.T) {
	r := newRig(t, consumers.MaxPayload)
	longest := call("contoso", "longest")
	longest = append(longest, strings.Repeat(" ", consumers.MaxPayload-len(longest))...)
	if got, err := r.client.Publish(r.ctx, "tollbook.contoso.call.completed", longest); err != nil || got.Booked != 1 {
		t.Errorf("the longest: %+v, %v", got, err)
	}
	if _, err := r.client.Publish(r.ctx, "tollbook.contoso.call.completed", append(longest, ' ')); !errors.Is(err, nats.ErrMaxPayload) {
		t.Errorf("one byte more: %v", err)
	}
	many := strings.Repeat("{}\n", cloudevents.MaxEventsPerMessage)
	if got, err := r.client.Publish(r.ctx, "tollbook.contoso.events", []byte(many)); err != nil || got.Received != cloudevents.MaxEventsPerMessage || got.Suspended != 1 {
		t.Errorf("as many records as may be: %d received, %d suspended, %v", got.Received, got.Suspended, err)
	}
	if got, err := r.client.Publish(r.ctx, "tollbook.contoso.events", []byte(many+"{}")); err != nil || got.Received != 1 || got.Suspended != 1 {
		t.Errorf("one more: %+v, %v", got, err)
	}
}
