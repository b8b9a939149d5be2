package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/micro"

	"tollbook/api"
	"tollbook/domain"
	"tollbook/projections"
)

// A setClock stands still until it is set.
type setClock struct{ at atomic.Int64 }

func (c *setClock) now() domain.Instant { return domain.Instant(c.at.Load()) }

func (c *setClock) set(text string) { c.at.Store(int64(instant(text))) }

// newRigAt starts an engine whose clock says at until the test sets it.
func newRigAt(t *testing.T, at string) (*rig, *setClock) {
	t.Helper()
	clock := new(setClock)
	clock.set(at)
	r := &rig{t: t, dir: t.TempDir(), clock: clock.now}
	r.start()
	t.Cleanup(r.stop)
	return r, clock
}

// TestClosingStory is half a year of one tenant: months close, what comes late
// becomes adjustments, and each document is replayed.
func TestClosingStory(t *testing.T) {
	r, clock := newRigAt(t, "2026-09-28T08:00:00Z")
	text, err := os.ReadFile("testdata/closing.txt")
	if err != nil {
		t.Fatal(err)
	}
	s := newStory(t, "testdata/closing", "TOLLBOOK_NATS="+r.NATSAddress, "DATA="+r.dir)
	s.clock = clock
	golden(t, "closing.txt", s.tell(string(text)))
}

// callAt is a call of a tenant's user, answered at an instant.
func callAt(tenant, id, answered string, seconds int64) domain.Event {
	e := someCall(tenant, id, "user000@"+tenant+".example", seconds)
	at := instant(answered)
	e.Time, e.Data.(*domain.Call).AnsweredAt = at+domain.Instant(seconds)*domain.Instant(time.Second), at
	return e
}

// since makes events of [licensed] hold from a day on.
func since(day string, events []domain.Event) []domain.Event {
	at := instant(day + "T00:00:00Z")
	for i := range events {
		events[i].Time = at
		switch data := events[i].Data.(type) {
		case *domain.Plan:
			data.EffectiveFrom = domain.MonthOf(at.Time()).FirstDay()
		case *domain.Deck:
			data.EffectiveFrom = at
		case *domain.Assignment:
			data.EffectiveAt = at
		}
	}
	return events
}

func monthArgs(command, tenant, month string, more ...string) []string {
	return append([]string{command, "--tenant", tenant, "--month", month}, more...)
}

// close closes a month, and fails unless that issues a document.
func (r *rig) close(tenant, month string) api.CloseDocument {
	r.t.Helper()
	doc := decoded[api.CloseDocument](r.t, r.ask(monthArgs("close", tenant, month, "--by", "ada", "--format", "json")...))
	if !doc.Closed {
		r.t.Fatalf("%s of %s: %+v", month, tenant, doc)
	}
	return doc
}

func (r *rig) issued(tenant string) []api.IssuedDocument {
	r.t.Helper()
	return decoded[api.IssuesDocument](r.t, r.ask("documents", "--tenant", tenant, "--format", "json")).Documents
}

// TestClosingJSON: each command prints one line of JSON, also of what it refuses.
func TestClosingJSON(t *testing.T) {
	r, _ := newRigAt(t, "2026-11-04T08:00:00Z")
	r.book(licensed("contoso")...)
	nobody := oneCall(2)
	nobody.Data.(*domain.Call).User = "nobody@contoso.example"
	r.book(callAt("contoso", "1", "2026-10-05T09:00:00Z", 130*60), nobody)
	run := func(code int, args ...string) string {
		t.Helper()
		args = append(args, "--format", "json")
		if args[0] != "replay" {
			args = append(args, "--nats", r.NATSAddress)
		}
		p := command(t, args...)
		if p.code != code || strings.Count(p.out, "\n") != 1 || (p.err == "") != (code == exitDone) || strings.Count(p.err, "\n") > 1 {
			t.Fatalf("%v: exit status %d, printed %q and %q", args, p.code, p.out, p.err)
		}
		return p.out
	}
	shut := monthArgs("close", "contoso", "2026-10", "--by", "ada")
	waive := append([]string{"exceptions"}, monthArgs("waive", "contoso", "2026-10", "--by", "ada", "--exception", "unlicensed", "--why", "a guest")...)

	open := decoded[api.CloseDocument](t, run(exitFailed, shut...))
	want := api.CloseDocument{Tenant: "contoso", Month: "2026-10", Blockers: []projections.Blocker{{
		What: "exception", Detail: "1 unlicensed (0 of them waived)",
		Do: "assign the users a licence from before their calls, or: tollbook exceptions waive --tenant contoso --month 2026-10 --exception unlicensed --why TEXT",
	}}}
	if diff := cmp.Diff(want, open); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	waived := decoded[api.ExceptionDocument](t, run(exitDone, waive...))
	if diff := cmp.Diff(api.ExceptionDocument{Tenant: "contoso", Month: "2026-10", Exception: "unlicensed", Count: 1}, waived); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	head := r.Book.Head()
	dry := decoded[api.CloseDocument](t, run(exitDone, append(shut, "--dry-run")...))
	closed := decoded[api.CloseDocument](t, run(exitDone, shut...))
	// 130 minutes of the 120, at 0.016.
	want = api.CloseDocument{
		Tenant: "contoso", Month: "2026-10", Blockers: []projections.Blocker{}, Number: "2026-0001", Digest: closed.Digest,
		Position: head.Events, Head: head.String(),
		Totals: []api.Payable{{Country: "IT", Plan: "DOMESTIC_120", Currency: "EUR", Total: "0.16"}},
	}
	if diff := cmp.Diff(want, dry); diff != "" {
		t.Errorf("the dry run, -want +got:\n%s", diff)
	}
	want.Closed = true
	if diff := cmp.Diff(want, closed); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	// The document is what invoice answers, in RFC 8785.
	if got := projections.Digest([]byte(canonical(t, r.ask(monthArgs("invoice", "contoso", "2026-10", "--format", "json")...)))); got != closed.Digest {
		t.Errorf("the invoice has digest %s, the document %s", got, closed.Digest)
	}
	documents := decoded[api.IssuesDocument](t, run(exitDone, "documents", "--tenant", "contoso"))
	if diff := cmp.Diff(api.IssuesDocument{Tenant: "contoso", Documents: []api.IssuedDocument{{Number: "2026-0001", Month: "2026-10", Position: head.Events, Digest: closed.Digest}}}, documents); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	check := decoded[checkDocument](t, run(exitDone, monthArgs("replay", "contoso", "2026-10", "--data", r.dir, "--check")...))
	if diff := cmp.Diff(checkDocument{
		Tenant: "contoso", Month: "2026-10", Number: "2026-0001", Position: head.Events, BookedAt: head.Events + 1, Digest: closed.Digest, Holds: true, Differences: []projections.Difference{},
	}, check); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	again := decoded[api.CloseDocument](t, run(exitFailed, shut...))
	if again.Closed || len(again.Blockers) != 1 || again.Blockers[0].What != projections.BlockedByOrder || again.Number != "" {
		t.Errorf("closed again: %+v", again)
	}
}

// TestClosingRequests: what others than the commands may ask.
func TestClosingRequests(t *testing.T) {
	r, _ := newRigAt(t, "2026-11-04T08:00:00Z")
	r.book(licensed("contoso")...)
	r.book(oneCall(1))
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	for _, c := range []struct{ subject, payload, want string }{
		{"as.a!b.close", `{"tenant":"contoso","month":"2026-10"}`, "must be a name of 1 to 64 letters"},
		{"as.ada.close", "", "must be JSON such as"},
		{"as.ada.close", "{\n\"tenant\": 4}", "must be JSON such as"},
		{"as.ada.close", `{"tenant":"Contoso","month":"2026-10"}`, "must be 1 to 63"},
		{"as.ada.close", `{"tenant":"contoso","month":"10/2026"}`, "is not a month"},
		{"as.a!b.exceptions.waive", `{}`, "must be a name of 1 to 64 letters"},
		{"as.ada.exceptions.waive", "[]", "must be JSON such as"},
		{"as.ada.exceptions.waive", `{"tenant":"contoso","month":"2026-10","exception":"unlicensed","why":""}`, "why: required"},
		{"as.ada.exceptions.waive", `{"tenant":"contoso","month":"2026-10","exception":"unlicensed","why":"one\ntwo"}`, "must be one line"},
		{"as.ada.exceptions.waive", `{"tenant":"contoso","month":"2026-10","exception":"un\nknown","why":"x"}`, `no exceptions "un\nknown"`},
		{"documents", "", "must be JSON such as"},
		{"documents", `{"tenant":"-"}`, "must be 1 to 63"},
	} {
		msg, err := r.nc.RequestWithContext(ctx, api.Prefix+c.subject, []byte(c.payload))
		if err != nil {
			t.Fatalf("%s %s: %v", c.subject, c.payload, err)
		}
		said := msg.Header.Get(micro.ErrorHeader)
		if msg.Header.Get(micro.ErrorCodeHeader) != "400" || !strings.Contains(said, c.want) || strings.Contains(said, "\n") || len(said) > 400 {
			t.Errorf("%s %s: %v, want 400 and one line with %q", c.subject, c.payload, msg.Header, c.want)
		}
	}
	if n := r.Book.Head().Events; n != 4 {
		t.Errorf("what was refused is in the book: %d events", n)
	}
}

// TestGapOfWildSource: a command that is proposed does what it says, whatever a
// source is called.
func TestGapOfWildSource(t *testing.T) {
	const wild = `-x';touch${IFS}gone;'`
	r, _ := newRigAt(t, "2026-11-04T08:00:00Z")
	r.book(licensed("contoso")...)
	r.book(countedCalls(wild, 1, 3, 7)...)
	doc := decoded[api.CloseDocument](t, command(t, monthArgs("close", "contoso", "2026-10", "--by", "ada", "--format", "json", "--nats", r.NATSAddress)...).out)
	if len(doc.Blockers) != 2 {
		t.Fatalf("%+v", doc)
	}
	s := newStory(t, "testdata/closing", "TOLLBOOK_NATS="+r.NATSAddress)
	for _, b := range doc.Blockers {
		_, line, _ := strings.Cut(b.Do, "or: ")
		if out := s.run(strings.Replace(line, "TEXT", "lost", 1)); !strings.HasPrefix(out, "waived: ") {
			t.Errorf("%s\n%s", line, out)
		}
	}
	if _, err := os.Stat(filepath.Join(s.dir, "gone")); err == nil {
		t.Error("the source's name was run as a command")
	}
	r.close("contoso", "2026-10")
}

// TestVoidedMonthNeedsNoClosing: a switch whose clock was wrong does not make
// somebody close the months of twenty years, once its call is voided.
func TestVoidedMonthNeedsNoClosing(t *testing.T) {
	r, _ := newRigAt(t, "2026-11-04T08:00:00Z")
	r.book(licensed("contoso")...)
	r.book(callAt("contoso", "wrong", "2003-01-01T00:00:00Z", 60), oneCall(1))
	void := domain.Event{Tenant: "contoso", Source: "desk", ID: "v", Time: instant("2026-10-06T09:00:00Z"), Data: &domain.Void{Ref: domain.Ref{Source: "switch/mil-1", ID: "wrong"}, Reason: "its clock"}}
	shut := monthArgs("close", "contoso", "2026-10", "--by", "ada", "--format", "json", "--nats", r.NATSAddress)
	if doc := decoded[api.CloseDocument](t, command(t, shut...).out); doc.Closed || !strings.Contains(doc.Blockers[0].Detail, "2003-01 is not closed") {
		t.Errorf("%+v", doc)
	}
	r.book(void)
	r.close("contoso", "2026-10")
	done(t, monthArgs("replay", "contoso", "2026-10", "--data", r.dir, "--check")...)
}

// TestClosingAtOnce: eight clients close the same month of two tenants at the same
// time, while calls pour in. One of them closes it, and the others are told so.
func TestClosingAtOnce(t *testing.T) {
	r, _ := newRigAt(t, "2027-07-01T08:00:00Z")
	tenants := []string{"contoso", "fabrikam"}
	for _, tenant := range tenants {
		r.book(licensed(tenant)...)
		r.book(callAt(tenant, "first", "2026-10-01T09:00:00Z", 7200))
	}
	pouring, stop := context.WithCancel(context.Background())
	var senders sync.WaitGroup
	for _, tenant := range tenants {
		senders.Go(func() {
			for n := 0; pouring.Err() == nil; n++ {
				e := callAt(tenant, fmt.Sprint("call-", n), fmt.Sprintf("2026-%02d-07T09:00:00Z", 10+n%3), 3600)
				r.request(subjectOf(&e), ndjson([]domain.Event{e}))
			}
		})
	}
	answered := map[string][]api.IssuedDocument{}
	for month := domain.MonthOf(time.Date(2026, 10, 1, 0, 0, 0, 0, time.UTC)); month.String() < "2027-06"; month++ {
		var mu sync.Mutex
		var clients sync.WaitGroup
		start := make(chan struct{})
		for client := range 8 * len(tenants) {
			tenant := tenants[client%len(tenants)]
			clients.Go(func() {
				nc, err := nats.Connect(r.NATSAddress)
				if err != nil {
					t.Error(err)
					return
				}
				defer nc.Close()
				ctx, cancel := context.WithTimeout(context.Background(), patience)
				defer cancel()
				<-start
				doc, err := api.NewClient(nc).Close(ctx, "ada", api.CloseRequest{Tenant: tenant, Month: month.String()})
				mu.Lock()
				defer mu.Unlock()
				switch {
				case err != nil:
					t.Errorf("%s: %v", tenant, err)
				case doc.Closed:
					answered[tenant] = append(answered[tenant], api.IssuedDocument{Number: doc.Number, Month: doc.Month, Position: doc.Position, Digest: doc.Digest})
				case len(doc.Blockers) != 1 || !strings.Contains(doc.Blockers[0].Detail, "is closed, by document"):
					t.Errorf("%s: %+v", tenant, doc)
				}
			})
		}
		close(start)
		clients.Wait()
	}
	stop()
	senders.Wait()
	adjusted := 0
	for _, tenant := range tenants {
		if diff := cmp.Diff(answered[tenant], r.issued(tenant)); diff != "" || len(answered[tenant]) != 8 {
			t.Errorf("%s (-answered +in the book):\n%s", tenant, diff)
		}
		checkNumbers(t, r.issued(tenant))
		for _, d := range answered[tenant] {
			done(t, monthArgs("replay", tenant, d.Month, "--data", r.dir, "--check")...)
			pools := decoded[projections.PoolsDocument](t, r.ask(monthArgs("pools", tenant, d.Month, "--format", "json")...))
			if pools.Position != d.Position {
				t.Errorf("the pools of %s answer as of position %d, document %s as of %d", d.Month, pools.Position, d.Number, d.Position)
			}
			for _, i := range decoded[projections.InvoiceDocument](t, r.ask(monthArgs("invoice", tenant, d.Month, "--format", "json")...)).Invoices {
				adjusted += len(i.Adjustments)
			}
		}
	}
	if adjusted == 0 {
		t.Error("no call was late")
	}
}

// checkNumbers: a tenant's documents are of one month after the other, numbered
// from 1 in each year, and each is what its events make.
func checkNumbers(t *testing.T, documents []api.IssuedDocument) {
	t.Helper()
	var month domain.Month
	n := 0
	for i, d := range documents {
		of, err := domain.ParseMonth(d.Month)
		if n++; i > 0 && of/12 != month/12 {
			n = 1
		}
		if want := fmt.Sprintf("%s-%04d", d.Month[:4], n); err != nil || i > 0 && of != month+1 || d.Number != want || d.Problem != "" {
			t.Errorf("document %d of %d is %+v, after %s; want number %s", i+1, len(documents), d, month, want)
		}
		month = of
	}
}

// TestCloseAfterDays: what is due is closed by itself, if nothing is open. The
// engine goes through the tenants in their order, so that once the last is closed
// it has looked at all.
func TestCloseAfterDays(t *testing.T) {
	r, clock := newRigAt(t, "2026-10-20T08:00:00Z")
	for tenant, days := range map[string]int{"blocked": 5, "due": 5, "hand": 0, "later": 20, "x-one": 1, "y-five": 5} {
		r.book(since("2026-09-01", licensed(tenant))...)
		r.book(domain.Event{Tenant: tenant, Source: "admin", ID: "configured", Time: instant("2026-09-01T00:00:00Z"), Data: &domain.TenantConfig{
			TimeZone: "UTC", Zone: time.UTC, Currency: "EUR", CloseAfterDays: days, EffectiveFrom: 20260901,
		}})
		r.book(callAt(tenant, "call", "2026-10-05T09:00:00Z", 60))
	}
	nobody := callAt("blocked", "nobody's", "2026-10-05T09:00:00Z", 60)
	nobody.Data.(*domain.Call).User = "guest@blocked.example"
	r.book(nobody)

	// at starts the engine at an instant, waits until a tenant has so many
	// documents, and checks what all have.
	at := func(now, last string, want map[string]string) {
		t.Helper()
		r.stop()
		clock.set(now)
		r.start()
		r.until(last+" is closed", func() bool {
			documents := r.issued(last)
			return len(documents) > 0 && documents[len(documents)-1].Month == want[last]
		})
		got := map[string]string{}
		for _, tenant := range []string{"blocked", "due", "hand", "later", "x-one", "y-five"} {
			if documents := r.issued(tenant); len(documents) > 0 {
				got[tenant] = documents[len(documents)-1].Month
				checkNumbers(t, documents)
			}
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s, the last month of each that is closed (-want +got):\n%s", now, diff)
		}
	}
	at("2026-11-05T23:59:59Z", "x-one", map[string]string{"x-one": "2026-10"})
	at("2026-11-06T00:00:00Z", "y-five", map[string]string{"due": "2026-10", "x-one": "2026-10", "y-five": "2026-10"})
	// After months without an engine.
	at("2027-02-10T00:00:00Z", "y-five", map[string]string{"due": "2027-01", "later": "2026-12", "x-one": "2027-01", "y-five": "2027-01"})
	// What kept it open is gone: it is closed at the next look, and not a day later.
	closer, told := &api.Closer{Book: r.Book, Months: r.Months, Clock: r.clock}, map[string]stays{}
	if r.closeNext(t.Context(), closer, "blocked", told) || told["blocked"].told != r.clock() {
		t.Errorf("what is blocked: %+v", told)
	}
	r.book(domain.Event{Tenant: "blocked", Source: "admin", ID: "guest", Time: clock.now(), Data: &domain.Assignment{User: "guest@blocked.example", Plan: "DOMESTIC_120", Country: "IT", EffectiveAt: instant("2026-10-01T00:00:00Z")}})
	for month := 10; month <= 13; month++ { // to January
		if !r.closeNext(t.Context(), closer, "blocked", told) {
			t.Errorf("month %d stays open", month)
		}
	}
	if r.closeNext(t.Context(), closer, "blocked", told) {
		t.Error("February was closed before it was over")
	}
	at("2027-03-06T00:00:00Z", "y-five", map[string]string{"blocked": "2027-02", "due": "2027-02", "later": "2027-01", "x-one": "2027-02", "y-five": "2027-02"})
	r.close("hand", "2026-10")
	for _, e := range booked(t, r.dir) {
		if data, ok := e.Data.(*domain.MonthClosed); ok && (data.By == "tollbook") != (e.Tenant != "hand") {
			t.Errorf("%s of %s was closed by %s", data.Month, e.Tenant, data.By)
		}
	}
}

// closedTwice is an engine with two closed months, the second of which adjusts the
// first, and a late call that the next will take in.
func closedTwice(t *testing.T) *rig {
	t.Helper()
	r, _ := newRigAt(t, "2027-01-04T08:00:00Z")
	r.book(licensed("contoso")...)
	r.book(callAt("contoso", "1", "2026-10-05T09:00:00Z", 130*60))
	r.close("contoso", "2026-10")
	r.book(callAt("contoso", "2", "2026-10-06T09:00:00Z", 10*60))
	r.book(callAt("contoso", "3", "2026-11-06T09:00:00Z", 140*60))
	r.close("contoso", "2026-11")
	r.book(callAt("contoso", "4", "2026-11-07T09:00:00Z", 10*60))
	return r
}

// TestClosingAfterRestart: documents, numbers and drafts are, byte for byte, what
// they were before a restart, and what the book alone makes.
func TestClosingAfterRestart(t *testing.T) {
	r := closedTwice(t)
	all := func() map[string]string {
		said := map[string]string{"documents": r.ask("documents", "--tenant", "contoso", "--format", "json")}
		for _, month := range []string{"2026-10", "2026-11", "2026-12", "2027-01"} {
			for _, what := range []string{"invoice", "pools"} {
				args := monthArgs(what, "contoso", month, "--format", "json")
				said[what+month] = r.ask(args...)
				if diff := cmp.Diff(said[what+month], done(t, append(args, "--data", r.dir)...)); diff != "" {
					t.Errorf("%s of %s (-engine +book):\n%s", what, month, diff)
				}
			}
		}
		said["dry run"] = r.ask(monthArgs("close", "contoso", "2026-12", "--dry-run", "--format", "json")...)
		return said
	}
	before := all()
	r.restart()
	if diff := cmp.Diff(before, all()); diff != "" {
		t.Errorf("-before +after the restart:\n%s", diff)
	}
	if doc := r.close("contoso", "2026-12"); doc.Number != "2026-0003" || doc.Totals[0].Total != "0.16" {
		t.Errorf("%+v", doc)
	}
	if doc := decoded[api.CloseDocument](t, before["dry run"]); doc.Number != "2026-0003" || doc.Closed {
		t.Errorf("%+v", doc)
	}
}

// TestTamperedDocuments: somebody writes the whole book anew, so that every hash
// holds. A document that is not what its events make is found, with the lines.
func TestTamperedDocuments(t *testing.T) {
	r := closedTwice(t)
	r.stop()
	// rewrite changes the text of the second document, and its digest.
	rewrite := func(old, with string) func(*domain.MonthClosed) {
		return func(d *domain.MonthClosed) {
			text := strings.Replace(string(d.Document), old, with, 1)
			if text == string(d.Document) {
				t.Fatalf("the document has no %q: %s", old, text)
			}
			d.Document, d.Digest = []byte(text), projections.Digest([]byte(text))
		}
	}
	const line = "invoice IT DOMESTIC_120 EUR"
	// 20 minutes over, at 0.016.
	madeOf3 := projections.Made{Calls: 1, First: []projections.MadeCall{{Positions: []uint64{7}, LineCall: projections.LineCall{
		Ref: projections.Ref{Source: "switch/mil-1", ID: "3"}, At: "2026-11-06T09:00:00Z", User: "user000@contoso.example", Called: "+390612345678",
		Billed: 140 * 60, Overage: 20 * 60, Exact: "8/25",
	}}}}
	for name, c := range map[string]struct {
		edit    func(*domain.MonthClosed)
		problem string
		want    []projections.Difference // nil: not these alone
	}{
		"nothing": {func(*domain.MonthClosed) {}, "", []projections.Difference{}},
		"a total": {
			rewrite(`"total":"0.48"`, `"total":"48.00"`), "is not what the events up to position 7 make",
			[]projections.Difference{{Where: line + ", total", Issued: "48.00", Replayed: "0.48"}},
		},
		"a line": {
			rewrite(`"amount":"0.32","calls":1`, `"amount":"0.32","calls":9`), "is not what the events",
			[]projections.Difference{{
				Where: line + ", line IT Italy landline at 0.016 + 0, deck standard 1", Issued: "9 calls, 1200 s, 0.32", Replayed: "1 calls, 1200 s, 0.32", Made: madeOf3,
			}},
		},
		"an adjustment": {
			rewrite(`"month":"2026-10","price"`, `"month":"2026-09","price"`), "is not what the events",
			[]projections.Difference{
				{Where: line + ", adjustment of 2026-09 IT Italy landline at 0.016 + 0, deck standard 1", Issued: "1 calls, 600 s, 0.16"},
				{Where: line + ", adjustment of 2026-10 IT Italy landline at 0.016 + 0, deck standard 1", Replayed: "1 calls, 600 s, 0.16", Made: projections.Made{
					See: "tollbook diff --data DIR --tenant contoso --month 2026-10 --at 4 --at 7",
				}},
			},
		},
		"a line of its own": {
			rewrite(`"destination":"Italy","destination_country":"IT","price":"0.016","seconds":1200`, `"destination":"Rome","destination_country":"IT","price":"0.016","seconds":1200`), "is not what the events",
			[]projections.Difference{
				{Where: line + ", line IT Italy landline at 0.016 + 0, deck standard 1", Replayed: "1 calls, 1200 s, 0.32", Made: madeOf3},
				{Where: line + ", line IT Rome landline at 0.016 + 0, deck standard 1", Issued: "1 calls, 1200 s, 0.32"},
			},
		},
		"the counts":           {rewrite(`"overage":1`, `"overage":0`), "is not what the events", nil},
		"the number on it":     {rewrite(`"number":"2026-0002"`, `"number":"2026-0007"`), "is not what the events", nil},
		"white space":          {rewrite(`{`, `{ `), "is not what the events", nil},
		"a field of its own":   {rewrite(`{`, `{"approved":true,`), "is not what the events", nil},
		"no document":          {func(d *domain.MonthClosed) { d.Document, d.Digest = []byte("none"), projections.Digest([]byte("none")) }, "is not what", nil},
		"the digest":           {func(d *domain.MonthClosed) { d.Digest = projections.Digest(nil) }, "has digest", nil},
		"the number beside it": {func(d *domain.MonthClosed) { d.Number = "2026-0009" }, "is booked as 2026-0009, as of position 7", nil},
		"the position":         {func(d *domain.MonthClosed) { d.Position = 6 }, "is booked as 2026-0002, as of position 6", nil},
		"the head":             {func(d *domain.MonthClosed) { d.Head = projections.Digest(nil) }, "is booked as", nil},
	} {
		t.Run(name, func(t *testing.T) {
			forged := &rig{t: t, dir: forge(t, r.dir, func(_ uint64, e *domain.Event) {
				if data, ok := e.Data.(*domain.MonthClosed); ok && data.Month.String() == "2026-11" {
					c.edit(data)
				}
			}), clock: r.clock}
			done(t, "verify", "--data", forged.dir) // the book is a whole one
			args := monthArgs("replay", "contoso", "2026-11", "--data", forged.dir, "--check")
			p := command(t, append(args, "--format", "json")...)
			doc := decoded[checkDocument](t, p.out)
			if p.code != map[bool]int{true: exitDone, false: exitCheck}[c.problem == ""] || doc.Holds != (c.problem == "") || !strings.Contains(p.err, c.problem) || strings.Count(p.err, "\n") > 1 {
				t.Errorf("exit status %d: %s%s", p.code, p.out, p.err)
			}
			if c.want != nil {
				// The digest of the document is its own, so that a book which agrees with itself says nothing of it.
				if diff := cmp.Diff(c.want, doc.Differences); diff != "" {
					t.Errorf("-want +got:\n%s", diff)
				}
			} else if len(doc.Differences) == 0 {
				t.Error("no difference is shown")
			}
			for _, d := range doc.Differences {
				if d.Issued == d.Replayed || d.Where == "" {
					t.Errorf("no difference: %+v", d)
				}
				if text := command(t, args...).out; !strings.Contains(text, d.Where+"\n") || !strings.Contains(text, d.Issued) || !strings.Contains(text, d.Replayed) {
					t.Errorf("%+v is not in\n%s", d, text)
				}
			}
			done(t, monthArgs("replay", "contoso", "2026-10", "--data", forged.dir, "--check")...)

			forged.start()
			defer forged.stop()
			documents := forged.issued("contoso")
			if len(documents) != 2 || documents[0].Problem != "" || (documents[1].Problem == "") != (c.problem == "") || !strings.Contains(documents[1].Problem, c.problem) {
				t.Errorf("documents: %+v", documents)
			}
			if text := forged.ask("documents", "--tenant", "contoso"); !strings.Contains(text, c.problem) {
				t.Errorf("documents prints\n%s", text)
			}
		})
	}

	// What is said of a line that does not hold: the calls that make it, and where they are.
	t.Run("a call", func(t *testing.T) {
		dir := forge(t, r.dir, func(_ uint64, e *domain.Event) {
			if call, ok := e.Data.(*domain.Call); ok && e.ID == "3" {
				call.BillableMS += 60_000
			}
		})
		p := command(t, monthArgs("replay", "contoso", "2026-11", "--data", dir, "--check")...)
		const want = `booked
    issued   2026-0002, as of position 7, sha256:…
    replayed 2026-0002, as of position 7, sha256:…
document
    issued   contoso 2026-11, issued, 2026-0002, as of position 7, sha256:…
    replayed contoso 2026-11, issued, 2026-0002, as of position 7, sha256:…
` + line + `, line IT Italy landline at 0.016 + 0, deck standard 1
    issued   1 calls, 1200 s, 0.32
    replayed 1 calls, 1260 s, 0.34
    made by  1 call
            position  call            answered (UTC)        user                     called         billed m:ss  charged  exactly
            7         switch/mil-1 3  2026-11-06T09:00:00Z  user000@contoso.example  +390612345678       141:00    21:00   42/125
` + line + `, total
    issued   0.48
    replayed 0.50

The events up to position 7 make what is replayed; the document in the book, at position 8, says what is issued. Both can be shown to anybody.
The document names another block than holds that position: it was issued for other events, or was changed.
Whether events or document were written anew, an anchor that was kept elsewhere tells: tollbook verify --data DIR --anchor FILE
If neither was, the program that issued it computed otherwise than this one.
`
		p.out = regexp.MustCompile(`sha256:[0-9a-f]{64}`).ReplaceAllString(p.out, "sha256:…")
		if p.code != exitCheck || p.out != want {
			t.Errorf("exit status %d:\n%s%s", p.code, cmp.Diff(want, p.out), p.err)
		}
	})
	// An adjustment says how to see what made it, and that shows it.
	t.Run("a late call", func(t *testing.T) {
		dir := forge(t, r.dir, func(_ uint64, e *domain.Event) {
			if call, ok := e.Data.(*domain.Call); ok && e.ID == "2" {
				call.BillableMS += 60_000
			}
		})
		p := command(t, monthArgs("replay", "contoso", "2026-11", "--data", dir, "--check", "--format", "json")...)
		differences := decoded[checkDocument](t, p.out).Differences
		i := slices.IndexFunc(differences, func(d projections.Difference) bool { return d.See != "" })
		if i < 0 || differences[i].Replayed != "1 calls, 660 s, 0.18" {
			t.Fatalf("%+v", differences)
		}
		args := strings.Fields(strings.Replace(differences[i].See, "DIR", dir, 1))[1:]
		d := decoded[projections.DiffDocument](t, done(t, append(args, "--format", "json")...))
		if len(d.Calls) != 1 || d.Calls[0].ID != "2" || d.Calls[0].After.Exact != "22/125" || len(d.Lines) != 1 || d.Lines[0].After.Seconds-d.Lines[0].Before.Seconds != 660 {
			t.Errorf("%+v", d)
		}
	})
	t.Run("a month twice", func(t *testing.T) {
		dir := forge(t, r.dir, func(_ uint64, e *domain.Event) {
			if data, ok := e.Data.(*domain.MonthClosed); ok && data.Month.String() == "2026-11" {
				data.Month--
			}
		})
		forged := &rig{t: t, dir: dir, clock: r.clock}
		forged.start()
		defer forged.stop()
		documents := forged.issued("contoso")
		if len(documents) != 2 || documents[0].Problem != "" || !strings.Contains(documents[1].Problem, "months close in order") {
			t.Errorf("documents: %+v", documents)
		}
		refused(t, exitFailed, "is not closed", monthArgs("replay", "contoso", "2026-11", "--data", dir, "--check")...)
	})
	t.Run("a damaged book", func(t *testing.T) {
		flipBit(t, r.dir, 3)
		refused(t, exitCheck, "block 3: ", monthArgs("replay", "contoso", "2026-11", "--data", r.dir, "--check")...)
	})
}
