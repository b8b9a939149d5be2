package whatif

import (
	"context"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"tollbook/domain"
	"tollbook/eventstore"
	"tollbook/eventstore/sqlite"
	"tollbook/projections"
)

// million is a book of a million calls of October of a tenant with 2,000 licences
// of two plans. The pool of the larger one ends on about the 20th.
func million(b *testing.B) eventstore.Walk {
	b.Helper()
	dir := b.TempDir()
	now := instant("2026-10-01T00:00:00Z")
	book, err := eventstore.Open(context.Background(), dir, func(path string) (eventstore.Log, error) { return sqlite.Open(path) }, eventstore.Options{
		Clock: func() domain.Instant { now += domain.Instant(time.Millisecond); return now },
	})
	if err != nil {
		b.Fatal(err)
	}
	var batch []eventstore.Record
	flush := func() {
		if _, err := book.Submit(context.Background(), batch); err != nil {
			b.Fatal(err)
		}
		batch = nil
	}
	add := func(id string, at domain.Instant, data domain.Data) {
		if batch = append(batch, eventstore.Record{Event: domain.Event{Tenant: tenant, Source: "switch/mil-1", ID: id, Time: at, Data: data}}); len(batch) == 5000 {
			flush()
		}
	}
	first := instant("2026-10-01T00:00:00Z")
	for _, p := range []struct {
		name    string
		minutes int64
		price   domain.Micros
	}{{"SMALL", 1000, 4_000_000}, {"LARGE", 2000, 7_000_000}, {"PAYG", 0, 500_000}} {
		plan := &domain.Plan{
			Plan: p.name, EffectiveFrom: 20260101, Kinds: []string{domain.KindUser}, Deck: "standard", Increment: domain.DefaultIncrement,
			LicencePrice: map[string]domain.LicencePrice{domain.AnyCountry: {Price: p.price, Currency: "EUR"}},
		}
		if p.minutes > 0 {
			plan.Buckets = []domain.Bucket{{Name: "all", Zone: domain.ZoneAll, Minutes: map[string]int64{domain.AnyCountry: p.minutes}}}
		}
		add(p.name, first, plan)
	}
	deck := &domain.Deck{Deck: "standard", Version: "1", EffectiveFrom: first, Currency: "EUR", Part: 1, Parts: 1}
	for i, prefix := range []string{"39", "393", "33"} {
		deck.Rows = append(deck.Rows, domain.Row{Prefix: prefix, Country: "IT", Name: prefix, RowType: "landline", Price: domain.Micros(16_000 * (i + 1)), Increment: domain.DefaultIncrement})
	}
	add("deck", first, deck)
	const users = 2000
	for n := range users {
		add(fmt.Sprint("l-", n), first, &domain.Assignment{User: fmt.Sprintf("user%04d", n), Plan: []string{"SMALL", "LARGE"}[n%2], Country: "IT", EffectiveAt: first})
	}
	r := rand.New(rand.NewPCG(1, 1))
	for n := range 1_000_000 {
		c := &domain.Call{
			User: fmt.Sprintf("user%04d", min(r.IntN(users), r.IntN(users))), Kind: domain.KindUser, Calling: phone("+390281234567"),
			Called:     phone([]string{"+390612345678", "+393331234567", "+33145678901"}[r.IntN(3)]),
			AnsweredAt: first + domain.Instant(r.Int64N(int64(31*24*time.Hour))/1e9*1e9), BillableMS: 1000 * r.Int64N(600),
		}
		add(fmt.Sprintf("%08x-%04x-4000-8000-%012x", r.Uint32(), n%65536, n), c.AnsweredAt, c)
	}
	flush()
	if err := book.Close(); err != nil {
		b.Fatal(err)
	}
	log, err := sqlite.OpenReadOnly(eventstore.LogPath(dir))
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = log.Close() })
	return eventstore.Walk{Log: log}
}

// BenchmarkWhatIf is a month of a million calls: the replay alone, what-ifs of it,
// and sizings.
func BenchmarkWhatIf(b *testing.B) {
	walk := million(b)
	month := instant("2026-10-01T00:00:00Z")
	id := domain.MonthOf(month.Time())
	b.Run("replay", func(b *testing.B) {
		for b.Loop() {
			if _, err := projections.Replay(context.Background(), walk, tenant, id, 0, nil); err != nil {
				b.Fatal(err)
			}
		}
	})
	half := make([]string, 1000)
	for i := range half {
		half[i] = fmt.Sprintf("user%04d", 2*i)
	}
	for _, c := range []struct {
		name string
		Scenario
	}{
		{"nothing", Scenario{}},
		{"100-licences-more", Scenario{Add: []Addition{{Plan: "SMALL", Country: "IT", Licences: 100}}}},
		{"1000-users-moved", Scenario{Plans: []PlanChange{{Users: half, To: "LARGE"}}}},
		{"grant", Scenario{Grants: []GrantChange{{Plan: "SMALL", Grant: "prorated"}}}},
	} {
		c.Tenant, c.Month = tenant, "2026-10"
		b.Run(c.name, func(b *testing.B) {
			for b.Loop() {
				if _, err := Evaluate(context.Background(), walk, c.Scenario, nil); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
	for _, by := range []string{ByLicences, ByUsers} {
		b.Run("right-size-"+by, func(b *testing.B) {
			for b.Loop() {
				began := time.Now()
				d, err := RightSize(context.Background(), walk, Sizing{Tenant: tenant, Months: []string{"2026-10"}, By: by, Trials: 500}, nil)
				if err != nil {
					b.Fatal(err)
				}
				b.ReportMetric(float64(d.Trials), "ratings/op")
				b.ReportMetric(float64(time.Since(began).Milliseconds())/float64(d.Trials), "ms/rating")
				b.Logf("exact %v, %v", d.Exact, d.Totals)
			}
		})
	}
}
