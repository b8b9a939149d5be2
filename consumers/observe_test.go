package consumers_test

import (
	"context"
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"

	"tollbook/consumers"
	"tollbook/domain"
	"tollbook/eventstore"
)

// TestObserve: an observer is called before records go to the book, and told of
// each and of what became of it once it is durable.
func TestObserve(t *testing.T) {
	durable, seen := 0, 0
	book, err := eventstore.Open(t.Context(), t.TempDir(), openMemlog(t, nil), eventstore.Options{
		Clock: func() domain.Instant { return domain.MinInstant }, Follow: []eventstore.Follower{func(u eventstore.Update) { durable += len(u.Events) }},
	})
	if err != nil {
		t.Fatal(err)
	}
	switches := consumers.NewSwitches()
	in := consumers.NewIntake(book, switches, func() domain.Instant { return domain.MinInstant })
	var told []string
	in.Observe = func() func([]eventstore.Record, []eventstore.Result, error) {
		before := durable
		return func(records []eventstore.Record, results []eventstore.Result, err error) {
			if err != nil {
				told = append(told, err.Error())
				return
			}
			for i := range records {
				told = append(told, records[i].Event.ID+" "+results[i].Status.String())
				if results[i].Status == eventstore.Booked {
					seen++
				}
			}
			if durable-before != seen {
				t.Errorf("told of %d records when %d were durable", seen, durable-before)
			}
			seen = 0
		}
	}
	call := func(id string) eventstore.Record {
		return eventstore.Record{Event: domain.Event{Tenant: "contoso", Source: "ops", ID: id, Time: domain.MinInstant, Data: kamA().Data}}
	}
	ctx, cancel := context.WithCancel(t.Context())
	for _, records := range [][]eventstore.Record{{call("a"), call("b")}, {call("b"), call("c")}} {
		if _, err := in.Book(ctx, records); err != nil {
			t.Fatal(err)
		}
	}
	if err := book.Close(); err != nil {
		t.Fatal(err)
	}
	cancel()
	if _, err := in.Book(t.Context(), []eventstore.Record{call("d")}); !errors.Is(err, eventstore.ErrClosed) {
		t.Fatal(err)
	}
	want := []string{"a booked", "b booked", "b duplicate", "c booked", eventstore.ErrClosed.Error()}
	if diff := cmp.Diff(want, told); diff != "" {
		t.Errorf("(-want +told):\n%s", diff)
	}
}
