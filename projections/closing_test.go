package projections_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"math/big"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/go-json-experiment/json"
	gocmp "github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"tollbook/api"
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

func month(s string) domain.Month {
	m, err := domain.ParseMonth(s)
	if err != nil {
		panic(err)
	}
	return m
}

func phone(s string) domain.Number {
	n, err := domain.ParseNumber(s)
	if err != nil {
		panic(err)
	}
	return n
}

func zone(name string) *time.Location {
	z, err := time.LoadLocation(name)
	if err != nil {
		panic(err)
	}
	return z
}

// --- histories

// The months of the histories cross a year, in which the numbers begin again.
var (
	historyMonths  = []domain.Month{month("2026-11"), month("2026-12"), month("2027-01"), month("2027-02")}
	historyTenants = []string{"contoso", "acme"}
)

// afterAll is when every month of the histories, and some more, is over.
var afterAll = instant("2028-01-01T00:00:00Z")

// A writer makes up the events of a history. Its instants, users and numbers are
// few, so that events meet.
type writer struct {
	t      *rapid.T
	events []domain.Event
	ids    map[string]int // by tenant: two tenants have the same ids
}

func (w *writer) number(low, high int) int { return rapid.IntRange(low, high).Draw(w.t, "number") }

func pick[E any](w *writer, choices ...E) E {
	return rapid.SampledFrom(choices).Draw(w.t, "choice")
}

func (w *writer) add(tenant, source string, said domain.Instant, data domain.Data) domain.Ref {
	w.ids[tenant]++
	e := domain.Event{Tenant: tenant, Source: source, ID: fmt.Sprint("e", w.ids[tenant]), Time: said, Data: data}
	w.events = append(w.events, e)
	return domain.Ref{Source: e.Source, ID: e.ID}
}

// moment is in one of the months, every third time where one of them begins in some zone.
func (w *writer) moment() domain.Instant {
	m := pick(w, historyMonths...)
	if w.number(0, 2) == 0 {
		return m.Start(zone(pick(w, "UTC", "Europe/Rome", "America/New_York"))) + pick(w, 0, -1, domain.Instant(time.Second), -hour/2)
	}
	return m.Start(time.UTC) + domain.Instant(w.number(0, 27))*24*hour + domain.Instant(w.number(0, 3))*hour
}

func (w *writer) day() domain.Date {
	return pick(w, historyMonths...).FirstDay() + domain.Date(w.number(0, 1))
}

// terms are what holds from the beginning, published by the catalogue and the tenants.
func (w *writer) terms() {
	for _, name := range []string{"NATIONAL", "WORLD", "OWN"} {
		w.plan(domain.CatalogTenant, name, 20260101)
	}
	w.deck(domain.CatalogTenant, "v1", instant("2026-01-01T00:00:00Z"), "EUR")
	for _, tenant := range historyTenants {
		w.config(tenant, 20260101)
		for _, user := range historyUsers {
			w.licence(tenant, user, instant("2026-10-01T00:00:00Z"))
		}
	}
}

var historyUsers = []string{"ada@example.org", "bob@example.org", "eve@example.org"}

func (w *writer) plan(owner, name string, from domain.Date) {
	minutes := map[string]int64{domain.AnyCountry: int64(w.number(0, 4)) * 15}
	p := &domain.Plan{
		Plan: name, Name: name, EffectiveFrom: from, Kinds: []string{domain.KindUser}, Deck: "standard",
		Scope:     map[string]domain.Scope{"NATIONAL": domain.ScopeCountry, "WORLD": domain.ScopeTenant, "OWN": domain.ScopeUser}[name],
		Increment: pick(w, domain.DefaultIncrement, domain.Increment{First: 1, Step: 1}),
		Grant:     pick(w, domain.GrantPeak, domain.GrantProrated),
		Buckets:   []domain.Bucket{{Name: "domestic", Zone: domain.ZoneDomestic, Minutes: minutes}},
	}
	if name == "WORLD" {
		p.Linked = true
		p.Buckets = append(p.Buckets, domain.Bucket{Name: "world", Zone: domain.ZoneAll, Minutes: minutes})
	}
	w.add(owner, "admin", instant("2026-10-01T00:00:00Z")+domain.Instant(w.number(0, 1000))*hour, p)
}

// deck publishes a version. Prices of half a cent a minute leave lines that end in half a cent.
func (w *writer) deck(owner, version string, from domain.Instant, currency domain.Currency) {
	d := &domain.Deck{Deck: "standard", Version: version, EffectiveFrom: from, Currency: currency, Part: 1, Parts: 1}
	for _, row := range []domain.Row{
		{Prefix: "39", Country: "IT", Name: "Italy", RowType: "landline", Price: 5_000},
		{Prefix: "393", Country: "IT", Name: "Italy", RowType: "mobile", Price: 125_000, ConnectFee: 5_000},
		{Prefix: "33", Country: "FR", Name: "France", RowType: "landline", Price: 16_000},
	} {
		row.Increment = domain.DefaultIncrement
		row.Price = pick(w, row.Price, 1, row.Price)
		d.Rows = append(d.Rows, row)
	}
	w.add(owner, "admin", from, d)
}

func (w *writer) config(tenant string, from domain.Date) {
	z := zone(pick(w, "Europe/Rome", "UTC", "America/New_York"))
	w.add(tenant, "admin", instant("2026-10-01T00:00:00Z")+domain.Instant(w.number(0, 1000))*hour, &domain.TenantConfig{
		TimeZone: z.String(), Zone: z, Currency: pick(w, domain.Currency("EUR"), "USD"), EffectiveFrom: from, Decks: map[string]string{},
	})
}

func (w *writer) licence(tenant, user string, from domain.Instant) {
	w.add(tenant, "crm", from, &domain.Assignment{
		User: user, Plan: pick(w, "NATIONAL", "WORLD", "OWN"), Country: pick(w, "IT", "FR", "IT"), EffectiveAt: from,
	})
}

func (w *writer) call() domain.Call {
	c := domain.Call{
		User: pick(w, historyUsers...), Kind: domain.KindUser, Calling: phone("+390281234567"),
		Called:     phone(pick(w, "+390612345", "+39333123", "+33145678", "+74951234", "112")),
		AnsweredAt: w.moment(), BillableMS: pick[int64](w, 600_000, 1_800_000, 61_000, 30_001, 3_599_999),
	}
	switch w.number(0, 15) {
	case 0:
		c.User = "stranger@example.org"
	case 1:
		c.Disposition, c.BillableMS = domain.Busy, 0
	}
	return c
}

// late is what changes terms after the fact.
func (w *writer) late() {
	tenant := pick(w, historyTenants...)
	owner := pick(w, tenant, domain.CatalogTenant)
	switch w.number(0, 5) {
	case 0:
		w.plan(owner, pick(w, "NATIONAL", "WORLD", "OWN"), w.day())
	case 1: // one version of a deck has one content: the version is who, when and what
		from, currency := w.moment(), pick(w, domain.Currency("EUR"), "EUR", "JPY")
		w.deck(owner, fmt.Sprint("v", len(w.events)), from, currency)
	case 2: // an earlier version decides the currency
		w.deck(owner, fmt.Sprint("v", len(w.events)), instant("2025-01-01T00:00:00Z"), pick(w, domain.Currency("EUR"), "KWD"))
	case 3:
		w.config(tenant, w.day())
	case 4:
		w.licence(tenant, pick(w, historyUsers...), w.moment())
	case 5:
		w.add(tenant, "crm", w.moment(), &domain.Removal{User: pick(w, historyUsers...), Plan: pick(w, "NATIONAL", "WORLD", "OWN"), EffectiveAt: w.moment()})
	}
}

// histories are the events of two tenants over four months, in the order in which
// they come: in any, or with the first terms before the rest.
var histories = rapid.Custom(func(t *rapid.T) []domain.Event {
	w := &writer{t: t, ids: map[string]int{}}
	w.terms()
	terms := len(w.events)
	for _, tenant := range historyTenants {
		for range w.number(5, 20) {
			c := w.call()
			ref := w.add(tenant, pick(w, "switch/mil-1", "switch/rom-1"), c.AnsweredAt+hour, &c)
			for range w.number(0, 5) - 3 { // none mostly, one, or a correction of a correction
				if w.number(0, 2) == 0 {
					w.add(tenant, "mediation", w.moment(), &domain.Void{Ref: ref, Reason: "a test call"})
				} else {
					w.add(tenant, "mediation", w.moment(), &domain.Correction{Ref: ref, Call: w.call(), Reason: "wrong trunk"})
				}
			}
		}
	}
	for range w.number(0, 8) {
		w.late()
	}
	if rapid.Bool().Draw(t, "terms come first") {
		return append(w.events[:terms:terms], rapid.Permutation(w.events[terms:]).Draw(t, "order")...)
	}
	return rapid.Permutation(w.events).Draw(t, "order")
})

// --- a book in which months are closed

// A story is a book in which months are closed while events come, and what was
// said on the way.
type story struct {
	t      *rapid.T
	dir    string
	log    *memlog.Log
	book   *eventstore.Book
	months *projections.Months
	closer *api.Closer

	events []domain.Event    // of the book, by position − 1
	heads  []eventstore.Head // of the blocks that hold them
	drafts []known
	issued map[string][]issuedThen

	images []image // snapshots that are not written yet, of the months that are live
}

// An image is a snapshot that was begun when so many events were known.
type image struct {
	events int
	write  func(io.Writer) error
}

// issuedThen is a month as it was closed.
type issuedThen struct {
	month     domain.Month
	data      *domain.MonthClosed
	position  uint64 // of the month.closed
	statement string // with the pools, canonical
}

func (s *story) open() {
	s.months, s.events, s.heads = projections.NewMonths(), nil, nil
	remember := func(u eventstore.Update) {
		for i := range u.Events {
			s.events, s.heads = append(s.events, u.Events[i]), append(s.heads, u.Head)
		}
	}
	clock := func() domain.Instant { return afterAll }
	options := eventstore.Options{Clock: clock, Follow: []eventstore.Follower{remember}}
	switch rapid.IntRange(0, 3).Draw(s.t, "start") {
	case 0:
		options.Follow = append(options.Follow, s.months.Follow)
	case 1: // without a snapshot
		if err := os.RemoveAll(eventstore.SnapshotsPath(s.dir)); err != nil {
			s.t.Fatal(err)
		}
		fallthrough
	default:
		options.Resume = []eventstore.Resumer{s.months}
	}
	s.log = s.log.Reopen()
	book, err := eventstore.Open(context.Background(), s.dir, func(string) (eventstore.Log, error) { return s.log, nil }, options)
	if err != nil {
		s.t.Fatal(err)
	}
	s.book, s.closer = book, &api.Closer{Book: book, Months: s.months, Clock: clock}
}

// resume writes the snapshots that were begun before, and has months go on from
// them with what came since: they are the live ones.
func (s *story) resume() {
	for _, i := range s.images {
		var b bytes.Buffer
		if err := i.write(&b); err != nil {
			s.t.Fatal(err)
		}
		months := projections.NewMonths()
		accept, err := months.Resume(&b)
		if err != nil {
			s.t.Fatal(err)
		}
		accept()
		for n := i.events; n < len(s.events); {
			end := n + 1
			for end < len(s.events) && s.heads[end] == s.heads[n] {
				end++
			}
			months.Follow(eventstore.Update{Head: s.heads[n], First: uint64(n) + 1, Events: s.events[n:end]})
			n = end
		}
		if diff := gocmp.Diff(s.everything(), everythingOf(s.t, months)); diff != "" {
			s.t.Fatalf("begun at position %d (-live +resumed):\n%s", i.events, diff)
		}
		if live, resumed := s.months.Crossings(), months.Crossings(); len(live) > len(resumed) {
			s.t.Fatalf("crossings %v, and resumed %v", live, resumed)
		}
		for _, tenant := range historyTenants {
			for _, m := range shownMonths() {
				now := func(m2 *projections.Months) (doc projections.Statement, at uint64) {
					at, err := m2.View(tenant, m, func(v *projections.View) (err error) {
						doc, err = v.Statement(tenant, m)
						return err
					})
					if err != nil {
						s.t.Fatal(err)
					}
					return doc, at
				}
				// Months that were moved and moved back in between are made anew, and
				// are the same.
				doc, at := now(months)
				if _, changed := now(s.months); at == 0 && changed != 0 {
					want, err := projections.Replay(s.t.Context(), s.book.Walk(), tenant, m, changed, nil)
					if err != nil {
						s.t.Fatal(err)
					}
					if diff := gocmp.Diff(want.Invoices, doc.Invoices) + gocmp.Diff(want.Pools, doc.Pools); diff != "" {
						s.t.Fatalf("%s of %s has changed since it was closed, which the resumed months don't know (-issued +resumed):\n%s", m, tenant, diff)
					}
				}
			}
			issues := months.Issues(tenant)
			for n, i := range s.months.Issues(tenant) {
				if n >= len(issues) || !gocmp.Equal(i.Replayed, issues[n].Replayed) || !bytes.Equal(i.Bytes, issues[n].Bytes) || issues[n].Check() != nil {
					s.t.Fatalf("document %s is resumed as something else", i.Number)
				}
			}
		}
	}
	s.images = nil
}

func (s *story) restart() {
	s.resume()
	before, booked := s.everything(), len(s.events)
	if err := s.book.Close(); err != nil {
		s.t.Fatal(err)
	}
	s.open()
	if diff := gocmp.Diff(before, s.everything()); diff != "" || booked != len(s.events) {
		s.t.Fatalf("a restart changed what is said, or %d events to %d (-before +after):\n%s", booked, len(s.events), diff)
	}
}

// shownMonths are those that anything may have come into.
func shownMonths() []domain.Month {
	var months []domain.Month
	for m := historyMonths[0] - 1; m <= lastClosed+1; m++ {
		months = append(months, m)
	}
	return months
}

// everything is what is said of all months, by tenant and month.
func (s *story) everything() map[string]string { return everythingOf(s.t, s.months) }

func everythingOf(t *rapid.T, months *projections.Months) map[string]string {
	said := map[string]string{}
	for _, tenant := range historyTenants {
		for _, m := range shownMonths() {
			said[tenant+" "+m.String()] = canonical(t, months.Statement(tenant, m))
		}
		intake, head := months.Intake(tenant)
		said[tenant] = fmt.Sprint(intake, head)
	}
	return said
}

func (s *story) receive(events []domain.Event) {
	var batch []eventstore.Record
	for _, e := range events {
		batch = append(batch, eventstore.Record{Event: e})
	}
	results, err := s.book.Submit(context.Background(), batch)
	if err != nil {
		s.t.Fatal(err)
	}
	for i, r := range results {
		if r.Status != eventstore.Booked {
			s.t.Fatalf("%+v: %+v", events[i], r)
		}
	}
}

// note remembers a draft, and makes sure that what was issued is said as it was.
func (s *story) note() {
	for _, tenant := range historyTenants {
		open := shownMonths()
		for _, i := range s.issued[tenant] {
			live := s.months.Statement(tenant, i.month)
			if diff := gocmp.Diff(i.statement, canonical(s.t, live)); diff != "" {
				s.t.Fatalf("%s of %s has changed since it was issued (-issued +live):\n%s", i.month, tenant, diff)
			}
			if document := canonical(s.t, live.InvoiceDocument); document != string(i.data.Document) {
				s.t.Fatalf("%s of %s is not the document:\n%s\n%s", i.month, tenant, document, i.data.Document)
			}
			open = slices.DeleteFunc(open, func(m domain.Month) bool { return m == i.month })
		}
		draft := s.months.Statement(tenant, rapid.SampledFrom(open).Draw(s.t, "draft"))
		s.drafts = append(s.drafts, known{tenant, draft.Position, canonical(s.t, draft)})
	}
}

// lastClosed is the last month that is closed: one without calls.
var lastClosed = historyMonths[len(historyMonths)-1] + 2

// closeNext closes the tenant's next month, waiving what keeps it open; false
// while there is none.
func (s *story) closeNext(tenant string) bool {
	ctx := context.Background()
	ledger := domain.NewLedger()
	for i := range s.events {
		ledger.Add(&s.events[i])
	}
	next, any := ledger.NextToClose(tenant)
	if !any || next > lastClosed {
		return false
	}
	request := api.CloseRequest{Tenant: tenant, Month: next.String(), DryRun: true}
	would, err := s.closer.Close(ctx, request, "ada")
	if err != nil {
		s.t.Fatal(err)
	}
	var open []string
	for _, e := range s.months.Statement(tenant, next).Exceptions {
		if _, waived := s.months.Exceptions(tenant, next, e.Reason); e.Count > waived {
			open = append(open, e.Reason)
		}
	}
	if len(would.Blockers) != len(open) || slices.ContainsFunc(would.Blockers, func(b projections.Blocker) bool { return b.What != projections.BlockedByException }) {
		s.t.Fatalf("%s of %s has open %v: %+v", next, tenant, open, would)
	}
	for _, reason := range open {
		if _, err := s.closer.Waive(ctx, api.ExceptionRequest{Tenant: tenant, Month: next.String(), Exception: reason, Why: "they will come"}, "ada"); err != nil {
			s.t.Fatal(err)
		}
	}
	wrong := request
	wrong.Month = (next + domain.Month(rapid.SampledFrom([]int{-1, 1}).Draw(s.t, "out of order"))).String()
	if doc, err := s.closer.Close(ctx, wrong, "ada"); err != nil || doc.Closed || len(doc.Blockers) != 1 || doc.Blockers[0].What != projections.BlockedByOrder {
		s.t.Fatalf("%s is to be closed next, %s: %+v, %v", next, wrong.Month, doc, err)
	}
	if would, err = s.closer.Close(ctx, request, "ada"); err != nil || would.Closed || len(would.Blockers) > 0 {
		s.t.Fatalf("%+v, %v", would, err)
	}
	head := s.heads[len(s.heads)-1]
	request.DryRun = false
	doc, err := s.closer.Close(ctx, request, "ada")
	if err != nil || !doc.Closed {
		s.t.Fatalf("%+v, %v", doc, err)
	}
	would.Closed = true
	if diff := gocmp.Diff(would, doc); diff != "" {
		s.t.Fatalf("-dry run +closed:\n%s", diff)
	}
	s.takeIssue(tenant, next, head)
	return true
}

// takeIssue checks the newest event as the month.closed of a tenant, issued after head.
func (s *story) takeIssue(tenant string, m domain.Month, head eventstore.Head) {
	data := s.events[len(s.events)-1].Data.(*domain.MonthClosed)
	inYear := 1
	for _, i := range s.issued[tenant] {
		if i.month/12 == m/12 {
			inYear++
		}
	}
	want := &domain.MonthClosed{
		Month: m, Number: fmt.Sprintf("%d-%04d", m/12, inYear), Position: head.Events, Head: head.String(),
		Digest: projections.Digest(data.Document), Document: data.Document, By: "ada",
	}
	if diff := gocmp.Diff(want, data); diff != "" {
		s.t.Fatalf("month.closed (-want +got):\n%s", diff)
	}
	var d projections.InvoiceDocument
	if err := json.Unmarshal(data.Document, &d); err != nil {
		s.t.Fatal(err)
	}
	about := projections.InvoiceDocument{
		Tenant: tenant, Month: m.String(), Status: projections.StatusIssued, Number: &want.Number, Position: want.Position, Head: want.Head,
		Invoices: d.Invoices, Exceptions: d.Exceptions, Counts: d.Counts,
	}
	if diff := gocmp.Diff(about, d); diff != "" {
		s.t.Fatalf("document (-want +got):\n%s", diff)
	}
	s.issued[tenant] = append(s.issued[tenant], issuedThen{m, data, uint64(len(s.events)), canonical(s.t, s.months.Statement(tenant, m))})
	var rated, documents []projections.InvoiceDocument
	all := s.fold(tenant, uint64(len(s.events)), false)
	for id := historyMonths[0] - 1; id <= m; id++ {
		rated = append(rated, all.Statement(tenant, id).InvoiceDocument)
	}
	for _, i := range s.issued[tenant] {
		var d projections.InvoiceDocument
		if err := json.Unmarshal(i.data.Document, &d); err != nil {
			s.t.Fatal(err)
		}
		documents = append(documents, d)
	}
	if diff := gocmp.Diff(linesOf(s.t, rated), linesOf(s.t, documents)); diff != "" {
		s.t.Fatalf("%s, once %s is closed (-rated over everything +issued in all):\n%s", tenant, m, diff)
	}
}

// fold is the months of the first events of the book; without closings, each
// month is what it is rated as.
func (s *story) fold(tenant string, until uint64, closings bool) *projections.Months {
	events := slices.Clone(s.events[:until])
	if !closings {
		events = slices.DeleteFunc(events, func(e domain.Event) bool { return e.Tenant == tenant && e.Data.Type() == domain.TypeMonthClosed })
	}
	months := projections.NewMonths()
	head := s.heads[until-1]
	months.Follow(eventstore.Update{Head: eventstore.Head{Block: head.Block, Hash: head.Hash, Events: until}, First: 1, Events: events})
	return months
}

// expected is what Replay is to say of a month as of a position.
func (s *story) expected(tenant string, m domain.Month, until uint64) string {
	closed := false
	for _, i := range s.issued[tenant] {
		if i.month == m && i.data.Position == until {
			return i.statement
		}
		closed = closed || i.month == m && i.position <= until
	}
	// Of a month that was closed before, what it is rated as then.
	return canonical(s.t, s.fold(tenant, until, !closed).Statement(tenant, m))
}

func (s *story) replay(tenant string, m domain.Month, until uint64) string {
	statement, err := projections.Replay(context.Background(), eventstore.Walk{Log: s.log.Reopen()}, tenant, m, until, nil)
	if err != nil {
		s.t.Fatal(err)
	}
	return canonical(s.t, statement)
}

// check replays the book, at the positions at which something is different and some others.
func (s *story) check() {
	compare := func(what, tenant string, m domain.Month, until uint64, want string) {
		if diff := gocmp.Diff(want, s.replay(tenant, m, until)); diff != "" {
			s.t.Fatalf("%s of %s at position %d, %s (-want +replayed):\n%s", m, tenant, until, what, diff)
		}
	}
	end := uint64(len(s.events))
	for _, tenant := range historyTenants {
		issues := s.months.Issues(tenant)
		if len(issues) != len(s.issued[tenant]) {
			s.t.Fatalf("%s has %d documents, not %d", tenant, len(issues), len(s.issued[tenant]))
		}
		for n, i := range s.issued[tenant] {
			compare("as issued", tenant, i.month, i.data.Position, i.statement)
			compare("the closed month", tenant, i.month, 0, i.statement)
			for _, until := range []uint64{max(1, i.data.Position-1), i.position} {
				compare("beside the closing", tenant, i.month, until, s.expected(tenant, i.month, until))
			}
			checked, err := projections.Check(context.Background(), eventstore.Walk{Log: s.log.Reopen()}, tenant, i.month, nil)
			if err != nil {
				s.t.Fatal(err)
			}
			for _, issue := range []*projections.Issue{&checked, issues[n]} {
				if err := issue.Check(); err != nil || len(issue.Differences()) > 0 || !bytes.Equal(issue.Document, i.data.Document) {
					s.t.Fatalf("%s of %s: %v, %+v", i.month, tenant, err, issue.Differences())
				}
			}
		}
		open := rapid.SampledFrom(shownMonths()).Draw(s.t, "month at the end")
		if !slices.ContainsFunc(s.issued[tenant], func(i issuedThen) bool { return i.month == open }) {
			compare("the end", tenant, open, 0, canonical(s.t, s.months.Statement(tenant, open)))
		}
	}
	for _, k := range rapid.Permutation(s.drafts).Draw(s.t, "replayed")[:min(4, len(s.drafts))] {
		var d projections.Statement
		if err := json.Unmarshal([]byte(k.bytes), &d); err != nil {
			s.t.Fatal(err)
		}
		for _, i := range s.issued[k.tenant] {
			if i.month.String() == d.Month && i.data.Position == k.at { // the draft that was issued then
				d.Status, d.Number = projections.StatusIssued, &i.data.Number
			}
		}
		compare("as the draft was", k.tenant, month(d.Month), k.at, canonical(s.t, d))
	}
	for range 4 {
		tenant, m := rapid.SampledFrom(historyTenants).Draw(s.t, "tenant"), rapid.SampledFrom(shownMonths()).Draw(s.t, "month")
		until := rapid.Uint64Range(1, end).Draw(s.t, "until")
		compare("anywhere", tenant, m, until, s.expected(tenant, m, until))
	}
}

// linesOf sums documents line by line, each under the month it belongs to; what
// comes to nothing is left out. It makes sure that totals are those of the lines.
func linesOf(t *rapid.T, documents []projections.InvoiceDocument) map[string]string {
	type sum struct {
		calls, seconds int64
		amount         big.Rat
	}
	sums := map[string]*sum{}
	amount := func(s string) *big.Rat {
		r, ok := new(big.Rat).SetString(s)
		if !ok {
			t.Fatalf("amount %q", s)
		}
		return r
	}
	for _, d := range documents {
		for _, i := range d.Invoices {
			total := new(big.Rat)
			add := func(month string, l projections.Line) {
				total.Add(total, amount(l.Amount))
				name := fmt.Sprint(month, " ", i.Country, " ", i.Plan, " ", i.Currency, " ", l.Deck, " ", l.DeckVersion, " ",
					l.DestinationCountry, " ", l.Destination, " ", l.Type, " ", l.Price, " ", l.ConnectFee)
				if sums[name] == nil {
					sums[name] = &sum{}
				}
				sums[name].calls += l.Calls
				sums[name].seconds += l.Seconds
				sums[name].amount.Add(&sums[name].amount, amount(l.Amount))
			}
			for _, l := range i.Lines {
				add(d.Month, l)
			}
			for _, a := range i.Adjustments {
				add(a.Month, a.Line)
			}
			if total.Cmp(amount(i.Total)) != 0 {
				t.Fatalf("the total of %+v is %s", i, total)
			}
		}
	}
	text := map[string]string{}
	for name, s := range sums {
		if s.calls != 0 || s.seconds != 0 || s.amount.Sign() != 0 {
			text[name] = fmt.Sprintf("%d calls, %d s, %s", s.calls, s.seconds, s.amount.RatString())
		}
	}
	return text
}

// TestClosedMonths closes months of a book while events come in any order, in
// batches and with restarts. Whatever comes later, a closed month is said as it
// was issued, byte for byte, and replay makes the same from the book, at any
// position. All documents together are what the months are rated as, line by
// line. Numbers have no hole (R12, R13).
func TestClosedMonths(t *testing.T) {
	base := t.TempDir()
	documents, adjustments, credits, twoCurrencies, longest := 0, 0, 0, 0, 0
	rapid.Check(t, func(t *rapid.T) {
		events := histories.Draw(t, "history")
		dir, err := os.MkdirTemp(base, "book")
		if err != nil {
			t.Fatal(err)
		}
		s := &story{t: t, dir: dir, log: memlog.New(t), issued: map[string][]issuedThen{}}
		s.open()
		defer func() { _ = s.book.Close() }()
		for len(events) > 0 {
			n := min(rapid.IntRange(1, 12).Draw(t, "batch"), len(events))
			s.receive(events[:n])
			events = events[n:]
			switch rapid.IntRange(0, 5).Draw(t, "then") {
			case 0, 1:
				s.closeNext(rapid.SampledFrom(historyTenants).Draw(t, "closes"))
			case 2:
				s.restart()
			case 3:
				s.images = append(s.images, image{len(s.events), s.months.Snapshot(false)})
			}
			s.note()
		}
		for _, tenant := range historyTenants {
			for range rapid.IntRange(0, 6).Draw(t, "closed at the end") {
				s.closeNext(tenant)
			}
		}
		s.restart()
		s.note()
		s.check()
		for _, issued := range s.issued {
			documents += len(issued)
			longest = max(longest, len(issued))
			for _, i := range issued {
				var d projections.InvoiceDocument
				if err := json.Unmarshal(i.data.Document, &d); err != nil {
					t.Fatal(err)
				}
				currencies := map[[2]string]int{} // by country and plan
				for _, invoice := range d.Invoices {
					adjustments += len(invoice.Adjustments)
					if invoice.Credit() {
						credits++
					}
					currencies[[2]string{invoice.Country, invoice.Plan}]++
				}
				for _, n := range currencies {
					if n > 1 {
						twoCurrencies++
						break
					}
				}
			}
		}
	})
	t.Logf("%d documents, up to %d of a tenant, %d adjustments, %d credit notes, %d documents of two currencies", documents, longest, adjustments, credits, twoCurrencies)
	for what, n := range map[string]int{"adjustment": adjustments, "credit note": credits} {
		if n == 0 {
			t.Errorf("no document has an example of: %s", what)
		}
	}
	if longest < len(historyMonths)+1 {
		t.Errorf("no tenant has closed more than %d months", longest)
	}
}
