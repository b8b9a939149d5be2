package projections_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"runtime"
	"testing"
	"time"

	"tollbook/api"
	"tollbook/domain"
	"tollbook/eventstore"
	"tollbook/eventstore/sqlite"
	"tollbook/projections"
)

// bigBook books a million calls of October of a tenant with 2,000 licences, closes
// the month, and books what comes late: 1,000 calls, a correction and a void for
// each 100th of them, ten licences. It returns where the terms end and where the
// book does.
func bigBook(tb testing.TB, dir string) (terms, end uint64) {
	tb.Helper()
	const users = 2000
	months := projections.NewMonths()
	now := instant("2026-10-01T00:00:00Z")
	clock := func() domain.Instant { now += domain.Instant(time.Millisecond); return now }
	book, err := eventstore.Open(context.Background(), dir, openLog, eventstore.Options{Clock: clock, Follow: []eventstore.Follower{months.Follow}})
	if err != nil {
		tb.Fatal(err)
	}
	var batch []eventstore.Record
	flush := func() {
		results, err := book.Submit(context.Background(), batch)
		for i := range results {
			if err == nil && results[i].Status != eventstore.Booked {
				err = fmt.Errorf("%+v: %+v", batch[i].Event, results[i])
			}
		}
		if err != nil {
			tb.Fatal(err)
		}
		batch = nil
	}
	add := func(source, id string, at domain.Instant, data domain.Data) domain.Ref {
		e := domain.Event{Tenant: "contoso", Source: source, ID: id, Time: at, Data: data}
		if batch = append(batch, eventstore.Record{Event: e}); len(batch) == 5000 {
			flush()
		}
		return domain.Ref{Source: source, ID: id}
	}
	first := instant("2026-10-01T00:00:00Z")
	user := func(n int) string { return fmt.Sprintf("user%04d@contoso.example", n) }
	add("admin", "plan", first, &domain.Plan{
		Plan: "DOMESTIC_120", Name: "Domestic 120", EffectiveFrom: 20260101, Kinds: []string{domain.KindUser}, Deck: "standard",
		Scope: domain.ScopeCountry, Increment: domain.DefaultIncrement, Grant: domain.GrantPeak,
		Buckets: []domain.Bucket{{Name: "domestic", Zone: domain.ZoneDomestic, Minutes: map[string]int64{domain.AnyCountry: 120}}},
	})
	deck := &domain.Deck{Deck: "standard", Version: "1", EffectiveFrom: first, Currency: "EUR", Part: 1, Parts: 1}
	for _, row := range []domain.Row{
		{Prefix: "39", Country: "IT", Name: "Italy", RowType: "landline", Price: 16_000},
		{Prefix: "393", Country: "IT", Name: "Italy", RowType: "mobile", Price: 125_000, ConnectFee: 5_000},
		{Prefix: "33", Country: "FR", Name: "France", RowType: "landline", Price: 20_000},
	} {
		row.Increment = domain.DefaultIncrement
		deck.Rows = append(deck.Rows, row)
	}
	add("admin", "deck", first, deck)
	for n := range users {
		add("licence-desk", fmt.Sprint("l-", n), first, &domain.Assignment{User: user(n), Plan: "DOMESTIC_120", Country: "IT", EffectiveAt: first})
	}
	flush()
	terms = book.Head().Events

	r := rand.New(rand.NewPCG(1, 1))
	call := func() *domain.Call {
		return &domain.Call{
			User: user(r.IntN(users)), Kind: domain.KindUser, Calling: phone("+390281234567"),
			Called:     phone([]string{"+390612345678", "+393331234567", "+33145678901"}[min(r.IntN(10)/5, r.IntN(3))]),
			AnsweredAt: first + domain.Instant(r.Int64N(int64(31*24*time.Hour))/1e9*1e9), BillableMS: 1000 * r.Int64N(400),
		}
	}
	for n := range million {
		c := call()
		add("switch/mil-1", fmt.Sprintf("%08x-%04x-4000-8000-%012x", r.Uint32(), n%65536, n), c.AnsweredAt+hour, c)
	}
	flush()
	now = instant("2026-11-03T08:00:00Z")
	closer := &api.Closer{Book: book, Months: months, Clock: clock}
	if doc, err := closer.Close(context.Background(), api.CloseRequest{Tenant: "contoso", Month: "2026-10"}, "ada"); err != nil || !doc.Closed {
		tb.Fatalf("%+v, %v", doc, err)
	}
	for n := range 1000 {
		c := call()
		ref := add("switch/mil-2", fmt.Sprint("late-", n), c.AnsweredAt+hour, c)
		if n%100 == 0 {
			add("billing-desk", fmt.Sprint("k-", n), now, &domain.Correction{Ref: ref, Call: *call(), Reason: "mil-2 counts ringing"})
		}
		if n%100 == 50 {
			add("billing-desk", fmt.Sprint("v-", n), now, &domain.Void{Ref: ref, Reason: "a test call"})
		}
	}
	for n := range 10 {
		add("licence-desk", fmt.Sprint("new-", n), now, &domain.Assignment{User: fmt.Sprintf("new%d@contoso.example", n), Plan: "DOMESTIC_120", Country: "IT", EffectiveAt: first})
	}
	flush()
	end = book.Head().Events
	if err := book.Close(); err != nil {
		tb.Fatal(err)
	}
	return terms, end
}

// BenchmarkDiff compares a month of a million calls with what it was: since it was
// closed, and since before its first call, so that every call is new.
func BenchmarkDiff(b *testing.B) {
	dir := b.TempDir()
	terms, end := bigBook(b, dir)
	for _, c := range []struct {
		name   string
		before uint64
	}{{"since it was closed", 0}, {"every call", terms}} {
		b.Run(c.name, func(b *testing.B) {
			log, err := sqlite.OpenReadOnly(eventstore.LogPath(dir))
			if err != nil {
				b.Fatal(err)
			}
			defer func() { _ = log.Close() }()
			var most uint64
			watched, done := make(chan struct{}), make(chan struct{})
			go func() { // the highest heap on the way
				defer close(done)
				for {
					select {
					case <-watched:
						return
					case <-time.After(20 * time.Millisecond):
						var m runtime.MemStats
						runtime.ReadMemStats(&m)
						most = max(most, m.HeapInuse)
					}
				}
			}()
			for b.Loop() {
				d, err := projections.Diff(context.Background(), eventstore.Walk{Log: log}, "contoso", october(), c.before, 0, projections.DiffLimits{Calls: 50, Events: 50}, nil)
				if err != nil || d.CallsChanged == 0 {
					b.Fatalf("%v, %d calls changed", err, d.CallsChanged)
				}
			}
			close(watched)
			<-done
			b.ReportMetric(float64(end)*float64(b.N)/b.Elapsed().Seconds(), "events/s")
			b.ReportMetric(float64(most)/float64(end), "B/event")
			b.ReportMetric(0, "ns/op")
		})
	}
}
