package main

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	"github.com/google/go-cmp/cmp"
	"github.com/nats-io/nats.go"
	natsjs "github.com/nats-io/nats.go/jetstream"

	"tollbook/api"
	"tollbook/consumers"
	"tollbook/domain"
	"tollbook/domain/cloudevents"
	"tollbook/eventstore"
	"tollbook/eventstore/block"
	"tollbook/projections"
)

var update = flag.Bool("update", false, "rewrite the golden files in testdata")

// asProgram makes the test binary the program: for tests that kill it.
const asProgram = "TOLLBOOK_TEST_AS_PROGRAM"

// patience is how long a test waits for what is certain to come; only a failing
// test waits that long.
const patience = time.Minute

func TestMain(m *testing.M) {
	if os.Getenv(asProgram) != "" {
		main()
	}
	// An engine a check, and its seed is printed: few checks, nothing left in the tree.
	for name, value := range map[string]string{"rapid.checks": "12", "rapid.shrinktime": "5s", "rapid.nofailfile": "true"} {
		if err := flag.Set(name, value); err != nil {
			panic(err)
		}
	}
	os.Exit(m.Run())
}

// A tester is testing.T or rapid.T.
type tester interface {
	Helper()
	Logf(format string, args ...any)
	Errorf(format string, args ...any)
	Fatalf(format string, args ...any)
}

// A printed is what a command left behind.
type printed struct {
	code     int
	out, err string
}

// command runs a command in this process.
func command(t tester, args ...string) printed {
	t.Helper()
	return commandWith(context.Background(), args...)
}

func commandWith(ctx context.Context, args ...string) printed {
	var out, err bytes.Buffer
	code := Run(ctx, args, Streams{strings.NewReader(""), &out, &err})
	return printed{code, out.String(), err.String()}
}

// done runs a command that has to succeed, and returns what it prints.
func done(t tester, args ...string) string {
	t.Helper()
	p := command(t, args...)
	if p.code != exitDone {
		t.Fatalf("tollbook %s: exit status %d: %s", strings.Join(args, " "), p.code, p.err)
	}
	return p.out
}

// decoded is JSON as a value of type T.
func decoded[T any](t tester, text string) (v T) {
	t.Helper()
	if err := json.Unmarshal([]byte(text), &v); err != nil {
		t.Fatalf("not the JSON expected: %v\n%.500s", err, text)
	}
	return v
}

// canonical is a printed document in RFC 8785, without the fields named.
func canonical(t tester, text string, without ...string) string {
	t.Helper()
	fields := decoded[map[string]jsontext.Value](t, text)
	for _, name := range without {
		if _, ok := fields[name]; !ok {
			t.Fatalf("the document has no %s: %s", name, text)
		}
		delete(fields, name)
	}
	data, err := projections.Canonical(fields)
	if err != nil {
		t.Fatalf("%v", err)
	}
	return string(data)
}

// A rig is a running engine on a directory, and a connection to it.
type rig struct {
	*Engine
	t      tester
	dir    string
	clock  func() domain.Instant // nil: the machine's
	http   string                // where to listen for HTTP; "": nowhere
	nc     *nats.Conn
	js     natsjs.JetStream
	client *api.Client
}

// newRig starts an engine that the test ends with.
func newRig(t *testing.T) *rig {
	t.Helper()
	r := startRig(t, t.TempDir())
	t.Cleanup(r.stop)
	return r
}

// startRig starts an engine on a directory that may have a book already.
func startRig(t tester, dir string) *rig {
	t.Helper()
	r := &rig{t: t, dir: dir}
	r.start()
	return r
}

func (r *rig) start() {
	r.t.Helper()
	if r.clock == nil {
		r.clock = clock
	}
	ctx := context.Background()
	engine, err := StartEngine(ctx, EngineConfig{
		Dir: r.dir, NATSListen: "127.0.0.1:0", NATSSync: time.Minute, HTTPListen: r.http, Clock: r.clock, Log: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		r.t.Fatalf("engine on %s: %v", r.dir, err)
	}
	r.Engine = engine
	if r.nc, err = nats.Connect(engine.NATSAddress); err != nil {
		r.t.Fatalf("%v", err)
	}
	if r.js, err = natsjs.New(r.nc); err != nil {
		r.t.Fatalf("%v", err)
	}
	r.client = api.NewClient(r.nc)
}

func (r *rig) stop() {
	r.t.Helper()
	if r.Engine == nil {
		return
	}
	r.nc.Close()
	if err := r.Stop(); err != nil {
		r.t.Errorf("stopping: %v", err)
	}
	r.Engine = nil
}

func (r *rig) restart() {
	r.t.Helper()
	r.stop()
	r.start()
}

// ask runs a command against the engine; it has to succeed.
func (r *rig) ask(args ...string) string {
	r.t.Helper()
	return done(r.t, append(args, "--nats", r.NATSAddress)...)
}

// publishFile runs publish on a file and returns its report.
func (r *rig) publishFile(args ...string) publishReport {
	r.t.Helper()
	return decoded[publishReport](r.t, r.ask(append([]string{"publish", "--format", "json"}, args...)...))
}

func (r *rig) status() api.Status {
	r.t.Helper()
	return decoded[api.Status](r.t, r.ask("status", "--format", "json"))
}

// intake is what status says came in of a tenant.
func (r *rig) intake(tenant string) api.TenantStatus {
	r.t.Helper()
	for _, one := range r.status().Tenants {
		if one.Tenant == tenant {
			return one
		}
	}
	return api.TenantStatus{Tenant: tenant}
}

// stream publishes a message as a switch does, and returns once JetStream has it.
func (r *rig) stream(m *nats.Msg) {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if _, err := r.js.PublishMsg(ctx, m); err != nil {
		r.t.Fatalf("publishing on %q: %v", m.Subject, err)
	}
}

// request publishes a message through the engine's service.
func (r *rig) request(subject string, payload []byte) api.Receipt {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	receipt, err := r.client.Publish(ctx, subject, payload)
	if err != nil {
		r.t.Fatalf("publishing on %q: %v", subject, err)
	}
	return receipt
}

// book books events and fails unless each is new.
func (r *rig) book(events ...domain.Event) {
	r.t.Helper()
	receipt := r.request(consumers.SubjectPrefix+"-.events", ndjson(events))
	if receipt.Booked != len(events) {
		r.t.Fatalf("of %d events %d were booked: %+v", len(events), receipt.Booked, receipt.Records)
	}
}

// drained waits until the engine has acknowledged all that the stream had.
func (r *rig) drained() {
	r.t.Helper()
	r.until("the stream is empty", func() bool {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		stream, err := r.js.Stream(ctx, consumers.StreamName)
		if err != nil {
			r.t.Fatalf("%v", err)
		}
		return stream.CachedInfo().State.Msgs == 0
	})
}

// until polls for something that has to become true.
func (r *rig) until(what string, holds func() bool) {
	r.t.Helper()
	for deadline := time.Now().Add(patience); !holds(); time.Sleep(2 * time.Millisecond) {
		select {
		case <-r.Book.Done():
			r.t.Fatalf("waiting until %s: the book has stopped: %v", what, r.Book.Err())
		default:
		}
		if time.Now().After(deadline) {
			r.t.Fatalf("not within %v: %s; %+v", patience, what, r.status())
		}
	}
}

// booked reads all events of a directory's book, checked against chain and tree.
func booked(t tester, dir string) []domain.Event {
	t.Helper()
	walk, closeLog, err := openBook(context.Background(), dir, "")
	if err != nil {
		t.Fatalf("%v", err)
	}
	defer closeLog()
	walk.Leaves = true
	var events []domain.Event
	if _, err := walk.Run(context.Background(), func(b *block.Block, _ eventstore.Head, _ int) error {
		events = append(events, b.Events...)
		return nil
	}); err != nil {
		t.Fatalf("%v", err)
	}
	return events
}

func ndjson(events []domain.Event) []byte {
	var text []byte
	for i := range events {
		text = append(cloudevents.Append(text, &events[i]), '\n')
	}
	return text
}

// subjectOf is where an event of its type is published.
func subjectOf(e *domain.Event) string {
	what := strings.TrimSuffix(strings.TrimPrefix(string(e.Data.Type()), "tollbook."), ".v1")
	return consumers.SubjectPrefix + e.Tenant + "." + what
}

func writeFile(t *testing.T, name string, data []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, data, 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

// golden compares text with a file of testdata, or rewrites it with -update.
func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.MkdirAll("testdata", 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("%s (-want +got; -update rewrites it):\n%s", path, diff)
	}
}

func instant(text string) domain.Instant {
	at, err := time.Parse(time.RFC3339Nano, text)
	if err != nil {
		panic(err)
	}
	return domain.InstantOf(at)
}

// someCall is an answered call of n seconds within Italy, from October 2026.
func someCall(tenant, id, user string, seconds int64) domain.Event {
	answered := instant("2026-10-05T09:00:00Z")
	return domain.Event{
		Tenant: tenant, Source: "switch/mil-1", ID: id, Time: answered + domain.Instant(seconds)*domain.Instant(time.Second),
		Data: &domain.Call{
			User: user, Kind: domain.KindUser, Calling: mustNumber("+390281234567"), Called: mustNumber("+390612345678"),
			AnsweredAt: answered, BillableMS: seconds * 1000,
		},
	}
}

// licensed is what makes calls of user000@TENANT.example cost something: plan,
// deck, and one licence of 120 minutes.
func licensed(tenant string) []domain.Event {
	said := instant("2026-09-28T12:00:00Z")
	event := func(id string, data domain.Data) domain.Event {
		return domain.Event{Tenant: tenant, Source: "admin", ID: id, Time: said, Data: data}
	}
	return []domain.Event{
		event("plan", &domain.Plan{
			Plan: "DOMESTIC_120", Name: "Domestic 120", EffectiveFrom: 20260101, Kinds: []string{domain.KindForward, domain.KindTransfer, domain.KindUser},
			Buckets:   []domain.Bucket{{Name: "domestic", Minutes: map[string]int64{domain.AnyCountry: 120}}},
			Increment: domain.DefaultIncrement, Deck: "standard",
		}),
		event("deck", &domain.Deck{
			Deck: "standard", Version: "1", EffectiveFrom: instant("2026-01-01T00:00:00Z"), Currency: "EUR", Part: 1, Parts: 1,
			Rows: []domain.Row{{Prefix: "39", Country: "IT", Name: "Italy", RowType: "landline", Price: 16_000, Increment: domain.DefaultIncrement}},
		}),
		event("licence", &domain.Assignment{User: fmt.Sprintf("user000@%s.example", tenant), Plan: "DOMESTIC_120", Country: "IT", EffectiveAt: instant("2026-09-30T22:00:00Z")}),
	}
}
