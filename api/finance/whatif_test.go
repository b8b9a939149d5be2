package finance_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"tollbook/api/finance"
	"tollbook/domain"
	"tollbook/eventstore"
	"tollbook/eventstore/memlog"
	"tollbook/projections"
	"tollbook/projections/whatif"
)

// askingDesk is a desk on a book with one licence of 10 minutes and a call of 12.
func askingDesk(t *testing.T) *finance.Desk {
	t.Helper()
	first := domain.InstantOf(time.Date(2026, 10, 1, 0, 0, 0, 0, time.UTC))
	months := projections.NewMonths()
	book, err := eventstore.Open(t.Context(), t.TempDir(), func(string) (eventstore.Log, error) { return memlog.New(t), nil }, eventstore.Options{
		Clock: func() domain.Instant { return first }, Follow: []eventstore.Follower{months.Follow},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = book.Close() })
	called, err := domain.ParseNumber("+390612345678")
	if err != nil {
		t.Fatal(err)
	}
	var records []eventstore.Record
	for i, data := range []domain.Data{
		&domain.Plan{
			Plan: "DOMESTIC_10", EffectiveFrom: 20260101, Kinds: []string{domain.KindUser}, Deck: "standard", Increment: domain.DefaultIncrement,
			Buckets:      []domain.Bucket{{Name: "all", Zone: domain.ZoneAll, Minutes: map[string]int64{domain.AnyCountry: 10}}},
			LicencePrice: map[string]domain.LicencePrice{domain.AnyCountry: {Price: 100_000, Currency: "EUR"}},
		},
		&domain.Deck{Deck: "standard", Version: "1", EffectiveFrom: first, Currency: "EUR", Part: 1, Parts: 1, Rows: []domain.Row{
			{Prefix: "39", Country: "IT", Name: "Italy", RowType: "landline", Price: 100_000, Increment: domain.DefaultIncrement},
		}},
		&domain.Assignment{User: "ada", Plan: "DOMESTIC_10", Country: "IT", EffectiveAt: first},
		&domain.Call{User: "ada", Kind: domain.KindUser, Calling: called, Called: called, AnsweredAt: first, BillableMS: 12 * 60_000},
	} {
		records = append(records, eventstore.Record{Event: domain.Event{Tenant: "contoso", Source: "ops", ID: fmt.Sprint(i), Time: first, Data: data}})
	}
	if _, err := book.Submit(t.Context(), records); err != nil {
		t.Fatal(err)
	}
	return &finance.Desk{Book: book, Months: months}
}

// TestWhatIf: a licence more costs 0.10 and saves the 2 minutes that are over, 0.20.
func TestWhatIf(t *testing.T) {
	desk := askingDesk(t)
	d, err := desk.WhatIf(t.Context(), whatif.Scenario{Tenant: "contoso", Month: "2026-10", Add: []whatif.Addition{{Plan: "DOMESTIC_10", Country: "IT", Licences: 1}}})
	if err != nil {
		t.Fatal(err)
	}
	want := []whatif.Total{{
		Currency: "EUR", Invoices: whatif.Effect{Before: "0.20", After: "0.00", Difference: "-0.20"},
		Licences: whatif.Effect{Before: "0.10", After: "0.20", Difference: "0.10"}, Sum: whatif.Effect{Before: "0.30", After: "0.20", Difference: "-0.10"},
	}}
	if diff := cmp.Diff(want, d.Totals); diff != "" {
		t.Errorf("what-if: -want +got:\n%s", diff)
	}
	var told []string
	sized, err := desk.RightSize(t.Context(), whatif.Sizing{Tenant: "contoso", Months: []string{"2026-10"}, By: whatif.ByLicences},
		func(done, of uint64) { told = append(told, fmt.Sprint(done, "/", of)) })
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, sized.Totals); diff != "" || !sized.Exact {
		t.Errorf("right-size, exact %v: -want +got:\n%s", sized.Exact, diff)
	}
	if diff := cmp.Diff([]string{"4/4", "1/2000", "2/2000"}, told); diff != "" {
		t.Errorf("progress: -want +got:\n%s", diff)
	}
	if now := desk.Months.Statement("contoso", 2026*12+9); now.Invoices[0].Total != "0.20" {
		t.Errorf("the live month has changed: %+v", now)
	}
}

func TestWhatIfRefusals(t *testing.T) {
	desk := askingDesk(t)
	october := whatif.Scenario{Tenant: "contoso", Month: "2026-10"}
	for name, c := range map[string]struct {
		change func(*whatif.Scenario)
		want   string
	}{
		"tenant":   {func(s *whatif.Scenario) { s.Tenant = "Contoso" }, `tenant "Contoso": must be 1 to 63 of a-z, 0-9 and -`},
		"month":    {func(s *whatif.Scenario) { s.Month = "October" }, `"October" is not a month such as 2026-10`},
		"position": {func(s *whatif.Scenario) { s.At = 5 }, "position 5 is beyond the end of the book: it has 4 events"},
		"plan": {func(s *whatif.Scenario) { s.Grants = []whatif.GrantChange{{Plan: "NONE", Grant: "any"}} },
			"plan NONE: no version is in force in 2026-10"},
		"file": {func(s *whatif.Scenario) { s.Decks = []whatif.DeckChange{{Deck: "standard", File: "/etc/passwd"}} },
			"deck standard: name what to use instead: a deck of the book, or a file"},
	} {
		s := october
		c.change(&s)
		_, err := desk.WhatIf(t.Context(), s)
		if told, ok := errors.AsType[*finance.Error](err); !ok || told.Status != 400 || told.Detail != c.want {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
	}
}

// TestWhatIfsTakeTurns: two are worked on, a third waits until one is done, or
// until whoever asked has gone.
func TestWhatIfsTakeTurns(t *testing.T) {
	desk := askingDesk(t)
	s := whatif.Scenario{Tenant: "contoso", Month: "2026-10"}
	began, hold, ended := make(chan struct{}), make(chan struct{}), make(chan error)
	for range finance.MaxWhatIfs {
		go func() {
			_, err := desk.WhatIf(t.Context(), s, func(uint64, uint64) {
				began <- struct{}{}
				<-hold
			})
			ended <- err
		}()
	}
	for range finance.MaxWhatIfs {
		<-began
	}
	gone, leave := context.WithCancel(t.Context())
	leave()
	if _, err := desk.WhatIf(gone, s); !errors.Is(err, context.Canceled) {
		t.Errorf("whoever left got %v", err)
	}
	go func() {
		_, err := desk.WhatIf(t.Context(), s, func(uint64, uint64) { began <- struct{}{} })
		ended <- err
	}()
	select {
	case <-began:
		t.Error("a third one began beside two")
	default:
	}
	close(hold)
	<-began // its turn has come
	for range finance.MaxWhatIfs + 1 {
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}
}
