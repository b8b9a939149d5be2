package finance_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sync/errgroup"

	"tollbook/api"
	"tollbook/api/finance"
	"tollbook/domain"
	"tollbook/eventstore"
	"tollbook/projections"
)

const october = "2026-10"

// busyDesk is that of askingDesk; more books calls of ada's from the second day on,
// twelve minutes each, of which all is overage.
func busyDesk(t *testing.T) (desk *finance.Desk, more func(day, calls int) error) {
	t.Helper()
	desk = askingDesk(t)
	desk.Explainer = api.ExplainBook(desk.Book, desk.Months)
	called, err := domain.ParseNumber("+390699887766")
	if err != nil {
		t.Fatal(err)
	}
	booked := 0
	return desk, func(day, calls int) error {
		var records []eventstore.Record
		for range calls {
			booked++
			at := domain.InstantOf(time.Date(2026, 10, day, 0, 0, 0, 0, time.UTC)) + domain.Instant(booked)*domain.Instant(time.Second)
			records = append(records, eventstore.Record{Event: domain.Event{Tenant: "contoso", Source: "switch/mil-1", ID: fmt.Sprint("c-", booked), Time: at, Data: &domain.Call{
				User: "ada", Kind: domain.KindUser, Called: called, AnsweredAt: at, BillableMS: 12 * 60_000,
			}}})
		}
		_, err := desk.Book.Submit(t.Context(), records)
		return err
	}
}

func poolOf() finance.PoolQuery {
	return finance.PoolQuery{Tenant: "contoso", Month: october, Plan: "DOMESTIC_10", Country: "IT"}
}

// TestPoolAndOverflow: a view agrees with the statement, and all pages as of one
// position are of it, whatever is booked meanwhile, earlier calls too.
func TestPoolAndOverflow(t *testing.T) {
	desk, more := busyDesk(t)
	if err := more(2, 30); err != nil {
		t.Fatal(err)
	}
	view, err := desk.Pool(t.Context(), poolOf())
	if err != nil {
		t.Fatal(err)
	}
	statement, err := desk.Month(t.Context(), "contoso", october, 0)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(statement.Pools[0], view.Pool); diff != "" || view.Position != statement.Position {
		t.Errorf("of position %d and %d (-statement +view):\n%s", statement.Position, view.Position, diff)
	}
	draw := projections.Draw{Calls: 31, Billed: 31 * 720, Overage: 31*720 - 600}
	if diff := cmp.Diff([]projections.UserDraw{{User: "ada", Draw: draw}}, view.Users); diff != "" || !view.Counted {
		t.Errorf("-want +got:\n%s", diff)
	}
	ask := finance.OverflowQuery{Tenant: "contoso", Month: october, Plan: "DOMESTIC_10", Limit: 7, AsOf: api.AsOf{At: view.Position}}
	calls, seconds := 0, int64(0)
	for {
		page, err := desk.Overflow(t.Context(), ask)
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range page.Calls {
			calls, seconds = calls+1, seconds+c.Overage
		}
		if page.Position != view.Position || page.Country != "IT" {
			t.Errorf("a page of position %d, want %d; of %s", page.Position, view.Position, page.Country)
		}
		if ask.After = page.Next; page.Next == nil {
			break
		}
		if err := more(1, 3); err != nil {
			t.Fatal(err)
		}
	}
	if calls != 31 || seconds != view.Pool.Buckets[0].Overage {
		t.Errorf("%d calls have %d s of overage, the pool has %d", calls, seconds, view.Pool.Buckets[0].Overage)
	}
}

// TestSearchIDs: an id is found in any month, with the source or without, and only
// the whole of it.
func TestSearchIDs(t *testing.T) {
	desk, more := busyDesk(t)
	if err := more(2, 12); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		text, month string
		want        []string
	}{
		{"c-7", october, []string{"switch/mil-1 c-7 overage"}},
		{"switch/mil-1 c-12", "2027-01", []string{"switch/mil-1 c-12 overage"}},
		{"ops 2", october, []string{"ops 2 "}}, // the licence
		{"c-", october, nil},
		{"c-13", october, nil},
	} {
		d, err := desk.Search(t.Context(), finance.SearchQuery{Tenant: "contoso", Month: c.month, Text: c.text})
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, e := range d.Events {
			class, month := "", ""
			if e.Call != nil {
				class, month = e.Call.Class, october
			}
			got = append(got, e.Source+" "+e.ID+" "+class)
			if e.Month != month || e.Position == 0 {
				t.Errorf("%s: %+v", c.text, e)
			}
		}
		if diff := cmp.Diff(c.want, got); diff != "" {
			t.Errorf("%q (-want +got):\n%s", c.text, diff)
		}
	}
}

func TestPoolRefusals(t *testing.T) {
	desk, _ := busyDesk(t)
	for want, ask := range map[string]func() error{
		"no such pool": func() error {
			q := poolOf()
			q.Plan = "NONE"
			_, err := desk.Pool(t.Context(), q)
			return err
		},
		`tenant "Contoso"`: func() error {
			_, err := desk.Search(t.Context(), finance.SearchQuery{Tenant: "Contoso", Month: october, Text: "ada"})
			return err
		},
		"must be 2 to 256 characters": func() error {
			_, err := desk.Search(t.Context(), finance.SearchQuery{Tenant: "contoso", Month: october, Text: " a "})
			return err
		},
		"after.at": func() error {
			_, err := desk.Overflow(t.Context(), finance.OverflowQuery{Tenant: "contoso", Month: october, Plan: "DOMESTIC_10", After: &projections.After{At: "noon"}})
			return err
		},
		"beyond the end of the book": func() error {
			q := poolOf()
			q.At = 1000
			_, err := desk.Pool(t.Context(), q)
			return err
		},
	} {
		err := ask()
		if e, ok := errors.AsType[*finance.Error](err); !ok || e.Status != 400 || !strings.Contains(e.Detail, want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
}

// TestLookWhileBooking: whoever looks while calls are booked sees one position at a
// time. The race detector sees whether what is read without the lock is left alone.
func TestLookWhileBooking(t *testing.T) {
	desk, more := busyDesk(t)
	group, ctx := errgroup.WithContext(t.Context())
	group.Go(func() error {
		for day := range 25 {
			if err := more(day+2, 200); err != nil {
				return err
			}
		}
		return nil
	})
	group.Go(func() error {
		for range 40 {
			view, err := desk.Pool(ctx, poolOf())
			if err != nil {
				return err
			}
			b := view.Pool.Buckets[0]
			if view.Counted && view.Users[0].Billed != b.Used+b.Overage || view.Position != 4+uint64(b.Used+b.Overage)/720-1 {
				return fmt.Errorf("position %d: %+v of %+v", view.Position, view.Users, b)
			}
		}
		return nil
	})
	group.Go(func() error {
		for i := range 40 {
			d, err := desk.Search(ctx, finance.SearchQuery{Tenant: "contoso", Month: october, Text: []string{"ada", "+390699", "c-1"}[i%3], Limit: 10_000})
			if err != nil {
				return err
			}
			if i%3 == 0 && uint64(len(d.Calls)) != d.Position-3 { // less the terms
				return fmt.Errorf("%d calls at position %d", len(d.Calls), d.Position)
			}
		}
		return nil
	})
	if err := group.Wait(); err != nil {
		t.Fatal(err)
	}
}
