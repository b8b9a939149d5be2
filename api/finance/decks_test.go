package finance_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"tollbook/api/finance"
	"tollbook/cmd/tollbook/deckcsv"
	"tollbook/consumers"
	"tollbook/domain"
	"tollbook/eventstore"
	"tollbook/eventstore/memlog"
	"tollbook/projections"
	"tollbook/projections/decks"
)

// A deckRig is a desk on a book in memory.
type deckRig struct {
	t    *testing.T
	desk *finance.DeckDesk
	dir  string
	now  time.Time
}

func newDeckRig(t *testing.T) *deckRig {
	t.Helper()
	r := &deckRig{t: t, dir: t.TempDir(), now: time.Date(2026, 11, 2, 9, 0, 0, 0, time.UTC)}
	clock := func() domain.Instant { return domain.InstantOf(r.now) }
	switches, months := consumers.NewSwitches(), projections.NewMonths()
	book, err := eventstore.Open(t.Context(), r.dir, func(string) (eventstore.Log, error) { return memlog.New(t), nil },
		eventstore.Options{Clock: clock, Follow: []eventstore.Follower{switches.Follow, months.Follow}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = book.Close() })
	r.desk = &finance.DeckDesk{
		Book: book, Months: months, Intake: consumers.NewIntake(book, switches, clock), Clock: clock, Stages: finance.StagesOf(r.dir, deckcsv.Parse),
	}
	return r
}

const firstDeck = `prefix,destination,country,type,rate_per_min,currency
39,Italy,IT,landline,0.016,EUR
393,Italy - Mobile,IT,mobile,0.1,EUR
`

// request is of a version of the catalogue's deck.
func request(version string, from string) finance.DeckRequest {
	return finance.DeckRequest{Tenant: "catalog", Deck: "standard", Version: version, EffectiveFrom: from, File: "deck.csv"}
}

func (r *deckRig) stage(file string, q finance.DeckRequest) finance.DeckStage {
	r.t.Helper()
	s, err := r.desk.StageDeck(r.t.Context(), "ada", strings.NewReader(file), q)
	if err != nil {
		r.t.Fatal(err)
	}
	return s
}

// activated is a stage that was activated.
func (r *deckRig) activated(file string, q finance.DeckRequest) finance.DeckStage {
	r.t.Helper()
	s, err := r.desk.ActivateDeck(r.t.Context(), "bob", r.stage(file, q).ID, false)
	if err != nil {
		r.t.Fatal(err)
	}
	return s
}

// A deck from the file to the month's calls: staged, compared, activated once.
func TestDeckDesk(t *testing.T) {
	r := newDeckRig(t)
	ctx := t.Context()
	first := r.activated(firstDeck, request("2026-09", "2026-09-01T00:00:00Z"))
	if want := (&finance.DeckActivation{By: "bob", At: "2026-11-02T09:00:00Z", Booked: 1, Position: 1}); !cmp.Equal(first.Activated, want) {
		t.Errorf("activated: %+v", first.Activated)
	}
	again, err := r.desk.ActivateDeck(ctx, "eve", first.ID, false)
	if err != nil || !cmp.Equal(again.Activated, first.Activated) {
		t.Errorf("activated again: %+v, %v", again.Activated, err)
	}

	dearer := r.stage(strings.Replace(firstDeck, "0.1,", "0.25,", 1), request("2026-12", "2026-12-01T00:00:00Z"))
	if dearer.Report.InForce != "2026-09" || dearer.Report.Errors() != 0 || len(dearer.Report.Counts) != 1 || dearer.Report.Counts[0].Code != decks.FoundDearer {
		t.Errorf("report: %+v", dearer.Report)
	}
	if same := r.stage(strings.Replace(firstDeck, "0.1,", "0.25,", 1), dearer.DeckRequest); same.ID != dearer.ID {
		t.Errorf("staged again: %s, want %s", same.ID, dearer.ID)
	}
	diff, err := r.desk.DiffDecks(ctx, finance.DeckChoice{Tenant: "catalog", Stage: dearer.ID}, "", decks.DiffPage{})
	if err != nil || diff.Before != "2026-09" || diff.Dearer != 1 || diff.Unchanged != 1 {
		t.Errorf("diff: %+v, %v", diff, err)
	}
	doc, err := r.desk.Decks(ctx, "catalog")
	if err != nil {
		t.Fatal(err)
	}
	want := []finance.DeckInfo{{Deck: "standard", Version: "2026-09", Own: true, EffectiveFrom: "2026-09-01T00:00:00Z", Currency: "EUR", Rows: 2, Parts: 1, State: "valid", InForce: true}}
	if diff := cmp.Diff(want, doc.Versions); diff != "" || len(doc.Stages) != 2 || doc.Position != 1 {
		t.Errorf("decks, %d stages at %d: -want +got:\n%s", len(doc.Stages), doc.Position, diff)
	}
	var prefixes []string
	for q := (finance.DeckQuery{Tenant: "contoso", Deck: "standard", Limit: 1}); ; {
		page, err := r.desk.Deck(ctx, q)
		if err != nil {
			t.Fatal(err)
		}
		for _, row := range page.Page {
			prefixes = append(prefixes, row.Prefix+" "+row.Price)
		}
		if q.After = page.Next; q.After == "" {
			break
		}
	}
	if diff := cmp.Diff([]string{"39 0.016", "393 0.1"}, prefixes); diff != "" {
		t.Errorf("rows: -want +got:\n%s", diff)
	}

	r.book(licensed())
	impact, err := r.desk.Impact(ctx, finance.ImpactQuery{DeckChoice: finance.DeckChoice{Tenant: "catalog", Stage: dearer.ID}, Of: "contoso"})
	if err != nil {
		t.Fatal(err)
	}
	if total := impact.Totals[0]; impact.Month != "2026-10" || total.Before != "1.00" || total.After != "2.50" || total.Difference != "1.50" {
		t.Errorf("impact: %+v", impact)
	}
	unchanged, err := r.desk.Impact(ctx, finance.ImpactQuery{DeckChoice: finance.DeckChoice{Tenant: "catalog", Deck: "standard"}, Of: "contoso", Month: "2026-10"})
	if err != nil || len(unchanged.Lines)+len(unchanged.Prefixes) != 0 {
		t.Errorf("impact of the deck in force: %+v, %v", unchanged, err)
	}
}

func (r *deckRig) book(events []domain.Event) {
	r.t.Helper()
	var records []eventstore.Record
	for _, e := range events {
		records = append(records, eventstore.Record{Event: e})
	}
	results, err := r.desk.Intake.Book(context.Background(), records)
	if err != nil {
		r.t.Fatal(err)
	}
	for _, result := range results {
		if result.Status != eventstore.Booked {
			r.t.Fatalf("%+v", result)
		}
	}
}

// licensed is a user without minutes, and ten minutes to a mobile in October.
func licensed() []domain.Event {
	at := domain.InstantOf(time.Date(2026, 10, 5, 9, 0, 0, 0, time.UTC))
	called, err := domain.ParseNumber("+393331234567")
	if err != nil {
		panic(err)
	}
	var events []domain.Event
	for i, data := range []domain.Data{
		&domain.Plan{Plan: "PAYG", Name: "PAYG", EffectiveFrom: 20260101, Kinds: []string{domain.KindUser}, Increment: domain.DefaultIncrement, Deck: "standard"},
		&domain.Assignment{User: "ada", Plan: "PAYG", Country: "IT", EffectiveAt: at},
		&domain.Call{User: "ada", Kind: domain.KindUser, Called: called, AnsweredAt: at, BillableMS: 600_000},
	} {
		events = append(events, domain.Event{Tenant: "contoso", Source: "test", ID: fmt.Sprint(i), Time: at, Data: data})
	}
	return events
}

// What has errors is staged, so that its report can be read, and not activated
// unless somebody insists.
func TestDeckWithErrors(t *testing.T) {
	r := newDeckRig(t)
	r.activated(firstDeck, request("2026-09", "2026-09-01T00:00:00Z"))
	dollars := r.stage(strings.ReplaceAll(firstDeck, "EUR", "USD"), request("2026-12", "2026-12-01T00:00:00Z"))
	if dollars.Report.Errors() != 1 {
		t.Fatalf("report: %+v", dollars.Report)
	}
	_, err := r.desk.ActivateDeck(t.Context(), "bob", dollars.ID, false)
	if status(err) != 409 || !strings.Contains(err.Error(), "it is in USD, and deck standard in EUR") {
		t.Errorf("activated: %v", err)
	}
	s, err := r.desk.ActivateDeck(t.Context(), "bob", dollars.ID, true)
	if err != nil || !s.Activated.Forced {
		t.Errorf("forced: %+v, %v", s.Activated, err)
	}
	// What was without errors when it was staged may have some later.
	late := r.stage(strings.Replace(firstDeck, "0.1,", "0.2,", 1), request("2026-13", "2026-12-01T00:00:00Z"))
	r.activated(firstDeck, request("2026-14", "2026-12-01T00:00:00Z"))
	if _, err := r.desk.ActivateDeck(t.Context(), "bob", late.ID, false); status(err) != 409 {
		t.Errorf("activated behind a later one: %v", err)
	}
}

// status is that of an error that whoever asks can do something about; 0: it is none.
func status(err error) int {
	if e, ok := errors.AsType[*finance.Error](err); ok {
		return e.Status
	}
	return 0
}

func TestDeckRefused(t *testing.T) {
	r := newDeckRig(t)
	ctx := t.Context()
	good := r.stage(firstDeck, request("2026-12", "2026-12-01T00:00:00Z"))
	stage := func(file string, q finance.DeckRequest) error {
		_, err := r.desk.StageDeck(ctx, "ada", strings.NewReader(file), q)
		return err
	}
	diff := func(c finance.DeckChoice, only string) error {
		_, err := r.desk.DiffDecks(ctx, c, "", decks.DiffPage{Only: only})
		return err
	}
	impact := func(q finance.ImpactQuery) error { _, err := r.desk.Impact(ctx, q); return err }
	_, unknownRows := r.desk.Deck(ctx, finance.DeckQuery{Tenant: "contoso", Deck: "gold"})
	_, unknownStage := r.desk.ActivateDeck(ctx, "ada", strings.Repeat("0", 64), false)
	_, notAnID := r.desk.ActivateDeck(ctx, "ada", "../../etc/passwd", false)
	for _, c := range []struct {
		err    error
		status int
		want   string
	}{
		{stage("prefix\n39\n", request("1", "2026-12-01T00:00:00Z")), 400, "line 1: the header"},
		{stage(firstDeck, request("1", "December")), 400, `effective_from "December": must be a time`},
		{stage(firstDeck, request("", "2026-12-01T00:00:00Z")), 400, "version"},
		{stage(firstDeck+strings.Repeat("\n", finance.MaxDeckBytes), request("1", "2026-12-01T00:00:00Z")), 400, "more than 64 MiB"},
		{unknownRows, 404, `no version of deck "gold" is in force`},
		{unknownStage, 404, "no deck is staged"},
		{notAnID, 404, "no deck is staged"},
		{diff(finance.DeckChoice{Tenant: "contoso", Stage: good.ID}, ""), 404, "no deck is staged"},
		{diff(finance.DeckChoice{Tenant: "catalog", Stage: good.ID}, "worse"), 400, "must be one of"},
		{diff(finance.DeckChoice{Tenant: "catalog", Deck: "standard", Version: "x"}, ""), 404, `no version "x"`},
		{impact(finance.ImpactQuery{DeckChoice: finance.DeckChoice{Tenant: "catalog", Stage: good.ID}, Of: "contoso", Month: "May"}), 400, "is not a month"},
		{impact(finance.ImpactQuery{DeckChoice: finance.DeckChoice{Tenant: "catalog", Stage: good.ID}, Of: "contoso"}), 400, "no month with calls"},
		{impact(finance.ImpactQuery{DeckChoice: finance.DeckChoice{Tenant: "fabrikam", Stage: good.ID}, Of: "contoso"}), 400, "prices no calls of contoso"},
	} {
		if status(c.err) != c.status || !strings.Contains(c.err.Error(), c.want) || strings.Contains(c.err.Error(), "\n") {
			t.Errorf("%d %v, want %d and one line with %q", status(c.err), c.err, c.status, c.want)
		}
	}
}

// A file that is not what was staged any more is not published.
func TestStageThatWasChanged(t *testing.T) {
	r := newDeckRig(t)
	s := r.stage(firstDeck, request("2026-12", "2026-12-01T00:00:00Z"))
	path := filepath.Join(r.dir, "staged", s.ID+".csv")
	if err := os.WriteFile(path, []byte(strings.Replace(firstDeck, "0.1,", "0.9,", 1)), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := r.desk.ActivateDeck(t.Context(), "bob", s.ID, true); err == nil || !strings.Contains(err.Error(), "it is not what was staged; stage the file again") {
		t.Errorf("activated: %v", err)
	}
}

// The last stages of each tenant are kept.
func TestStagesAreLimited(t *testing.T) {
	r := newDeckRig(t)
	version := func(tenant string, i int) finance.DeckRequest {
		q := request(fmt.Sprint("v", i), "2026-12-01T00:00:00Z")
		q.Tenant = tenant
		return q
	}
	other := r.stage(firstDeck, version("contoso", 0))
	for i := range finance.MaxStages + 1 {
		r.now = r.now.Add(time.Second)
		r.stage(firstDeck, version("catalog", i))
	}
	r.stage(firstDeck, version("catalog", 7)) // which is there
	stages, err := r.desk.Stages.Of("catalog")
	if err != nil || len(stages) != finance.MaxStages || stages[len(stages)-1].Version != "v1" {
		t.Errorf("%v: %d stages are kept, the first of %s", err, len(stages), stages[len(stages)-1].Version)
	}
	if _, err := r.desk.Stages.Stage(other.ID); err != nil {
		t.Errorf("the other tenant's: %v", err)
	}
	files, err := os.ReadDir(filepath.Join(r.dir, "staged"))
	if err != nil || len(files) != 2*(finance.MaxStages+1) {
		t.Errorf("%v: %d files", err, len(files))
	}
}

// The same file an hour later is the same stage, and once it is published nothing
// more is, whenever its events would have been.
func TestDeckAgainLater(t *testing.T) {
	r := newDeckRig(t)
	q := request("2026-12", "2026-12-01T00:00:00Z")
	first := r.activated(firstDeck, q)
	r.now = r.now.Add(time.Hour)
	if again := r.stage(firstDeck, q); again.ID != first.ID || again.At != first.At || !again.Report.Identical || again.Activated == nil {
		t.Errorf("staged again: %+v", again)
	}
	q.Time = "2026-11-01T00:00:00Z"
	if other := r.activated(firstDeck, q); other.ID == first.ID || other.Activated.Booked != 0 || other.Activated.Duplicate != 1 {
		t.Errorf("with another time: %+v", other.Activated)
	}
	if n := r.desk.Book.Head().Events; n != 1 {
		t.Errorf("the book has %d events", n)
	}
}

// An activation that was cut off is completed by the next, also of a file that was
// staged at another time.
func TestDeckCutOff(t *testing.T) {
	r := newDeckRig(t)
	file := []byte("prefix,destination,country,type,rate_per_min,currency\n")
	for i := range 10_000 {
		file = fmt.Appendf(file, "39%05d,Italy,IT,landline,0.016,EUR\n", i)
	}
	q := request("2026-12", "2026-12-01T00:00:00Z")
	s := r.stage(string(file), q)
	_, sheet, err := r.desk.Stages.Open(s.ID)
	if err != nil {
		t.Fatal(err)
	}
	events, err := sheet.Events()
	if err != nil || len(events) < 3 {
		t.Fatalf("%v: %d parts", err, len(events))
	}
	if _, err := r.desk.Intake.Book(t.Context(), []eventstore.Record{{Event: events[1], Subject: "tollbook.catalog.events"}}); err != nil {
		t.Fatal(err)
	}
	q.Time = "2026-11-01T00:00:00Z"
	if s := r.activated(string(file), q); s.Activated.Booked != len(events)-1 || s.Activated.Duplicate != 1 || s.Report.Errors() > 0 {
		t.Errorf("activated: %+v, %+v", s.Activated, s.Report.Counts)
	}
	doc, err := r.desk.Decks(t.Context(), "catalog")
	if err != nil || doc.Versions[0].State != "valid" || doc.Versions[0].Rows != 10_000 {
		t.Errorf("%v: %+v", err, doc.Versions)
	}
}

// A tenant's deck must not take the place of the catalogue's by its name alone.
func TestDeckThatHides(t *testing.T) {
	r := newDeckRig(t)
	r.activated(firstDeck, request("2026-09", "2026-09-01T00:00:00Z"))
	q := request("2026-12", "2026-12-01T00:00:00Z")
	q.Tenant = "contoso"
	s := r.stage(firstDeck, q)
	if s.Report.Counts[0].Code != decks.FoundHides {
		t.Errorf("found %+v", s.Report.Counts)
	}
	if _, err := r.desk.ActivateDeck(t.Context(), "bob", s.ID, false); !errors.Is(err, finance.ErrDeckErrors) {
		t.Errorf("activated: %v", err)
	}
}
