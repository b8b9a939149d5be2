package eventstore_test

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"

	"tollbook/domain"
	"tollbook/eventstore"
)

func TestAct(t *testing.T) {
	s := newShelf(t, t.TempDir()).open()
	s.submit(calls(1, 3))

	first, again, other := call("contoso", "switch/mil-1", 2), call("contoso", "switch/mil-1", 9), call("contoso", "switch/mil-1", 10)
	var results []eventstore.Result
	err := s.book.Act(ctx, func(turn *eventstore.Turn) error {
		if head := turn.Head(); head.Events != 3 || head != s.head {
			t.Errorf("the turn is at %v, the follower at %v", head, s.head)
		}
		position, same, known := turn.Look(&first)
		if position != 2 || !same || !known {
			t.Errorf("a booked event is looked up as %d %v %v", position, same, known)
		}
		changed := longer(first, 1000)
		if position, same, known := turn.Look(&changed); position != 2 || same || !known {
			t.Errorf("a conflict is looked up as %d %v %v", position, same, known)
		}
		if _, _, known := turn.Look(&again); known {
			t.Error("an event is known that was never booked")
		}
		for _, e := range []domain.Event{first, again, again, other} {
			results = append(results, turn.Book(e))
		}
		if position, same, known := turn.Look(&again); position != 4 || !same || !known {
			t.Errorf("what the turn books is looked up as %d %v %v", position, same, known)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	wantCounts(t, results, 2, 2, 0)
	if s.head.Events != 5 || s.head.Block != 2 {
		t.Errorf("the book is at %v, not at position 5 in block 2", s.head)
	}
	s.check()
	s.close()
}

// All of an Act or nothing.
func TestActBooksNothing(t *testing.T) {
	s := newShelf(t, t.TempDir()).open()
	s.submit(calls(1, 3))
	good := call("contoso", "switch/mil-1", 9)
	declined := errors.New("declined")
	unkeepable := good
	unkeepable.Data = &domain.Void{} // names no call
	for name, c := range map[string]struct {
		decide func(*eventstore.Turn) error
		want   string
	}{
		"declined":   {func(turn *eventstore.Turn) error { turn.Book(good); return declined }, "declined"},
		"conflict":   {func(turn *eventstore.Turn) error { turn.Book(good); turn.Book(longer(good, 1000)); return nil }, "source switch/mil-1 id call-9 is booked at position 4 with other content"},
		"unkeepable": {func(turn *eventstore.Turn) error { turn.Book(good); turn.Book(unkeepable); return nil }, "event switch/mil-1 call-9 can't be booked"},
		"too many": {func(turn *eventstore.Turn) error {
			for id := range 17_000 {
				turn.Book(call("contoso", "switch/mil-2", id))
			}
			return nil
		}, "fits no block"},
	} {
		if err := s.book.Act(ctx, c.decide); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: error %v, want %q", name, err, c.want)
		}
	}
	cancelled, cancel := context.WithCancel(ctx)
	cancel()
	if err := s.book.Act(cancelled, func(turn *eventstore.Turn) error { turn.Book(good); return nil }); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v of a cancelled Act", err)
	}
	wantCounts(t, s.submit(records(good)), 1, 0, 0) // so it was not booked before
	s.check()
	s.close()
	wantError(t, s.book.Act(ctx, func(*eventstore.Turn) error { return nil }), eventstore.ErrClosed)
}

// Turns that count up what they find, among Submits: no two see the same.
func TestActsTakeTurns(t *testing.T) {
	s := newShelf(t, t.TempDir()).open()
	var wait sync.WaitGroup
	numbers := map[int]bool{}
	next := 0
	for worker := range 8 {
		wait.Go(func() {
			for i := range 25 {
				if _, err := s.book.Submit(ctx, calls(1000*worker+i, 1000*worker+i)); err != nil {
					t.Error(err)
				}
				err := s.book.Act(ctx, func(turn *eventstore.Turn) error {
					// What a follower would have counted: the numbers booked so far.
					if turn.Head().Events < uint64(next) {
						t.Errorf("%d numbers were given out, but the book has %d events", next, turn.Head().Events)
					}
					next++
					if numbers[next] {
						t.Errorf("number %d twice", next)
					}
					numbers[next] = true
					turn.Book(call("contoso", "numbers", next))
					return nil
				})
				if err != nil {
					t.Error(err)
				}
			}
		})
	}
	wait.Wait()
	if next != 200 || s.book.Head().Events != 400 {
		t.Errorf("%d numbers and %d events, not 200 and 400", next, s.book.Head().Events)
	}
	s.check()
	s.close()
}

// An append that fails under an Act ends the book, and the Act knows.
func TestActFails(t *testing.T) {
	s := newShelf(t, t.TempDir()).open()
	s.submit(calls(1, 3))
	s.log.FailAppend(2, true)
	err := s.book.Act(ctx, func(turn *eventstore.Turn) error { turn.Book(call("contoso", "switch/mil-1", 9)); return nil })
	wantError(t, err, eventstore.ErrUncertain)
	<-s.book.Done()
	wantError(t, s.book.Act(ctx, func(*eventstore.Turn) error { return nil }), eventstore.ErrUncertain)
	s.close()
}
