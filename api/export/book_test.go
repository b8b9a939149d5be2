package export_test

import (
	"bytes"
	"context"
	"fmt"

	"time"

	"pgregory.net/rapid"

	"tollbook/api"
	"tollbook/api/export"
	"tollbook/domain"
	"tollbook/eventstore"
	"tollbook/eventstore/memlog"
	"tollbook/projections"
)

func instant(s string) domain.Instant {
	t, err := time.Parse(time.RFC3339, s)
	if err != nil {
		panic(err)
	}
	return domain.InstantOf(t)
}

func phone(s string) domain.Number {
	n, err := domain.ParseNumber(s)
	if err != nil {
		panic(err)
	}
	return n
}

// fataler is a test, or a check of one.
type fataler interface {
	Fatal(...any)
	Fatalf(string, ...any)
	Errorf(string, ...any)
	Helper()
}

// A desk is a book with live months, as an engine has them.
type desk struct {
	t         fataler
	book      *eventstore.Book
	months    *projections.Months
	closer    *api.Closer
	explainer *api.Explainer
	n         int
}

const tenant = "contoso"

func newDesk(t fataler, dir string) *desk {
	t.Helper()
	months := projections.NewMonths()
	clock := func() domain.Instant { return instant("2028-01-01T00:00:00Z") }
	log := memlog.New(t)
	book, err := eventstore.Open(context.Background(), dir, func(string) (eventstore.Log, error) { return log, nil },
		eventstore.Options{Clock: clock, Follow: []eventstore.Follower{months.Follow}})
	if err != nil {
		t.Fatal(err)
	}
	return &desk{t: t, book: book, months: months, closer: &api.Closer{Book: book, Months: months, Clock: clock}, explainer: api.ExplainBook(book, months)}
}

func (d *desk) receive(events ...domain.Event) {
	d.t.Helper()
	batch := make([]eventstore.Record, len(events))
	for i, e := range events {
		batch[i].Event = e
	}
	results, err := d.book.Submit(context.Background(), batch)
	if err != nil {
		d.t.Fatal(err)
	}
	for i, r := range results {
		if r.Status != eventstore.Booked {
			d.t.Fatalf("%+v: %+v", events[i], r)
		}
	}
}

func (d *desk) event(source string, said domain.Instant, data domain.Data) domain.Event {
	d.n++
	return domain.Event{Tenant: tenant, Source: source, ID: fmt.Sprint("-e", d.n), Time: said, Data: data}
}

// close closes a month, whatever exceptions it has.
func (d *desk) close(month string) {
	d.t.Helper()
	for {
		doc, err := d.closer.Close(context.Background(), api.CloseRequest{Tenant: tenant, Month: month}, "ada")
		if err != nil {
			d.t.Fatal(err)
		}
		if doc.Closed {
			return
		}
		id, _ := domain.ParseMonth(month)
		waived := false
		for _, e := range d.months.Statement(tenant, id).Exceptions {
			if _, n := d.months.Exceptions(tenant, id, e.Reason); n < e.Count {
				waived = true
				if _, err := d.closer.Waive(context.Background(), api.ExceptionRequest{Tenant: tenant, Month: month, Exception: e.Reason, Why: "known"}, "ada"); err != nil {
					d.t.Fatal(err)
				}
			}
		}
		if !waived {
			d.t.Fatalf("%s does not close: %+v", month, doc.Blockers)
		}
	}
}

// export writes a month and returns the bytes.
func (d *desk) export(q export.Query) ([]byte, export.Manifest) {
	d.t.Helper()
	q.Tenant, q.Program = tenant, "test"
	e, err := export.Begin(context.Background(), d.explainer, q)
	if err != nil {
		d.t.Fatal(q, err)
	}
	var b bytes.Buffer
	m, err := e.Write(context.Background(), &b)
	if err != nil {
		d.t.Fatal(q, err)
	}
	return b.Bytes(), m
}

// Names that spreadsheets, XML or fonts may stumble over.
var (
	places  = []string{"Italy", "=1+1", "+39", "-12.50", "@SUM(A1)", "'quoted'", `a "b"; =c`, "Łódź, Ελλάδα, Москва", "東京", "_x0041_", " <&> ", "\u202e+1", "＝1"}
	users   = []string{"ada@example.org", "=cmd|'/C calc'!A0", "+390212345", "-2+3", "@bob", "\"eve\"", "ann,bea;=x"}
	sources = []string{"switch/mil-1", "=switch", "-7", "@", "'s'", "a,\"=b\""}
)

// A writer makes up the events of a month or two.
type writer struct {
	*desk
	r *rapid.T
}

func one[E any](w *writer, choices ...E) E { return rapid.SampledFrom(choices).Draw(w.r, "choice") }

func (w *writer) number(low, high int) int { return rapid.IntRange(low, high).Draw(w.r, "number") }

func (w *writer) moment(month string) domain.Instant {
	start := instant(month + "-01T00:00:00Z")
	return start + domain.Instant(w.number(0, 27*24))*domain.Instant(time.Hour) + one(w, 0, 1, domain.Instant(time.Second)/4, domain.Instant(time.Minute))
}

func (w *writer) terms() {
	first := instant("2026-09-01T00:00:00Z")
	events := []domain.Event{w.event("admin", first, &domain.TenantConfig{
		TimeZone: "UTC", Zone: time.UTC, Currency: "USD", EffectiveFrom: 20260101, Decks: map[string]string{"FR": "other"},
	})}
	for i, name := range []string{"NATIONAL", "WORLD", "OWN"} {
		minutes := map[string]int64{domain.AnyCountry: int64(w.number(0, 3)) * 20}
		p := &domain.Plan{
			Plan: name, Name: name, EffectiveFrom: 20260101, Kinds: []string{domain.KindUser}, Deck: "standard", Scope: domain.Scope(i),
			Increment: domain.DefaultIncrement, Grant: domain.GrantPeak, Buckets: []domain.Bucket{{Name: "=domestic", Zone: domain.ZoneDomestic, Minutes: minutes}},
		}
		if name == "WORLD" {
			p.Linked = true
			p.Buckets = append(p.Buckets, domain.Bucket{Name: "world", Zone: domain.ZoneAll, Minutes: minutes})
		}
		events = append(events, w.event("admin", first, p))
	}
	for _, deck := range []string{"other", "standard"} {
		d := &domain.Deck{Deck: deck, Version: "-1", EffectiveFrom: first, Currency: one(w, domain.Currency("EUR"), "JPY", "KWD"), Part: 1, Parts: 1}
		for i, prefix := range []string{"39", "393", "33", "337", "44"} {
			d.Rows = append(d.Rows, domain.Row{
				Prefix: prefix, Country: []string{"IT", "IT", "FR", "FR", "GB"}[i], Name: one(w, places...), RowType: []string{"landline", "mobile"}[i%2],
				Price: one(w, domain.Micros(5_000), 125_000, 1, 999_999_999_999), ConnectFee: one(w, domain.Micros(0), 0, 5_000), Increment: domain.Increment{First: 1, Step: 1},
			})
		}
		events = append(events, w.event("admin", first, d))
	}
	for _, user := range users[:len(users)-1] {
		events = append(events, w.event("crm", first, &domain.Assignment{User: user, Plan: one(w, "NATIONAL", "WORLD", "OWN"), Country: one(w, "IT", "IT", "FR"), EffectiveAt: first}))
	}
	w.receive(events...)
}

func (w *writer) call(month string) domain.Call {
	c := domain.Call{
		User: one(w, users...), Kind: one(w, domain.KindUser, domain.KindUser, domain.KindForward), Calling: phone("+390281234567"),
		Called:     phone(one(w, "+390612345", "+39333123", "+33145678", "+3370012***", "+4420123", "+74951234", "112")),
		AnsweredAt: w.moment(month), BillableMS: one[int64](w, 600_000, 61_000, 30_001, 3_599_999),
	}
	if w.number(0, 9) == 0 {
		c.Disposition, c.BillableMS = domain.Busy, 0
	}
	return c
}

func (w *writer) calls(month string, low, high int) {
	var events []domain.Event
	for range w.number(low, high) {
		c := w.call(month)
		e := w.event(one(w, sources...), c.AnsweredAt+1, &c)
		events = append(events, e)
		switch ref := (domain.Ref{Source: e.Source, ID: e.ID}); w.number(0, 12) {
		case 0:
			events = append(events, w.event("mediation", c.AnsweredAt+2, &domain.Void{Ref: ref, Reason: "a test"}))
		case 1:
			events = append(events, w.event("mediation", c.AnsweredAt+2, &domain.Correction{Ref: ref, Call: w.call(month), Reason: "wrong"}))
		}
	}
	if len(events) > 0 {
		w.receive(events...)
	}
}

// history is a closed month, and one that is open with adjustments of the first.
func history(r *rapid.T, dir string) *desk {
	w := &writer{newDesk(r, dir), r}
	w.terms()
	w.calls("2026-10", 1, 25)
	w.receive(w.event("switch/mil-1", instant("2026-10-31T00:00:00Z"), &domain.Call{
		User: users[0], Kind: domain.KindUser, Calling: phone("+390281234567"), Called: phone("+390612345"), AnsweredAt: instant("2026-10-30T00:00:00Z"), BillableMS: 60_000,
	})) // so that October is the first month
	w.close("2026-10")
	w.calls("2026-10", 0, 5)
	w.calls("2026-11", 0, 25)
	return w.desk
}
