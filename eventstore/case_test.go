package eventstore_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"tollbook/domain"
	"tollbook/domain/cloudevents"
	"tollbook/eventstore"
	"tollbook/eventstore/block"
	"tollbook/eventstore/memlog"
	"tollbook/eventstore/merkle"
)

var ctx = context.Background()

// tb is *testing.T, *testing.B or *rapid.T.
type tb interface {
	memlog.TB
	Fatalf(format string, args ...any)
}

var started = domain.InstantOf(time.Date(2026, 10, 1, 8, 0, 0, 0, time.UTC))

// ticking is a clock that goes on by a second each time somebody looks.
func ticking() func() domain.Instant {
	var ticks atomic.Int64
	return func() domain.Instant { return started + domain.Instant(ticks.Add(1)*int64(time.Second)) }
}

// call is a call of a minute that a switch numbered.
func call(tenant, source string, id int) domain.Event {
	at := started + domain.Instant(id)*domain.Instant(time.Second)
	number := func(s string) domain.Number {
		n, err := domain.ParseNumber(s)
		if err != nil {
			panic(err)
		}
		return n
	}
	return domain.Event{
		Tenant: tenant, Source: source, ID: fmt.Sprintf("call-%d", id), Time: at,
		Data: &domain.Call{
			User: fmt.Sprintf("user%d@%s.example", id%50, tenant), Kind: domain.KindUser,
			Calling: number(fmt.Sprintf("+39020000%04d", id%50)), Called: number("+41441234567"),
			AnsweredAt: at, BillableMS: 60_000, Disposition: domain.Answered,
		},
	}
}

// longer is the same call with other content.
func longer(e domain.Event, ms int64) domain.Event {
	c := *e.Data.(*domain.Call)
	c.BillableMS += ms
	e.Data = &c
	return e
}

func records(events ...domain.Event) []eventstore.Record {
	list := make([]eventstore.Record, len(events))
	for i, e := range events {
		list[i] = eventstore.Record{Event: e, Subject: "tollbook." + e.Tenant + ".call.completed"}
	}
	return list
}

// calls are some calls of one switch, by their numbers.
func calls(from, to int) []eventstore.Record {
	var events []domain.Event
	for id := from; id <= to; id++ {
		events = append(events, call("contoso", "switch/mil-1", id))
	}
	return records(events...)
}

// A shelf is a data directory whose log is in memory, its open book, and what a
// follower of that was told.
type shelf struct {
	t     tb
	dir   string
	log   *memlog.Log
	book  *eventstore.Book
	clock func() domain.Instant
	keep  int // events that its index has in memory; 0: as many as ever

	told    []domain.Event
	head    eventstore.Head
	repeats map[[2]string]uint64 // by the book's blocks and since
}

func newShelf(t tb, dir string) *shelf {
	return &shelf{t: t, dir: dir, log: memlog.New(t), clock: ticking()}
}

func (s *shelf) tryOpen() error {
	s.told, s.head, s.repeats = nil, eventstore.Head{}, map[[2]string]uint64{}
	book, err := eventstore.Open(ctx, s.dir, func(path string) (eventstore.Log, error) {
		if path != eventstore.LogPath(s.dir) {
			s.t.Errorf("the log is opened at %s", path)
		}
		return s.log, nil
	}, eventstore.Options{Clock: s.clock, Follow: []eventstore.Follower{s.follow}}.KeepRecent(s.keep))
	if err == nil {
		s.book = book
	}
	return err
}

func (s *shelf) follow(u eventstore.Update) {
	if len(u.Events) > 0 && u.First != uint64(len(s.told))+1 {
		s.t.Errorf("the follower is told of position %d after %d", u.First, len(s.told))
	}
	s.told = append(s.told, u.Events...)
	if u.Head.Events != uint64(len(s.told)) {
		s.t.Errorf("the follower is told of a head at position %d, and of %d events", u.Head.Events, len(s.told))
	}
	s.head = u.Head
	for _, d := range u.Duplicates {
		s.repeats[[2]string{d.Tenant, d.Source}] += d.N
	}
}

// open opens the book; a log that was closed is opened anew.
func (s *shelf) open() *shelf {
	s.t.Helper()
	if err := s.tryOpen(); err != nil {
		s.t.Fatalf("open: %v", err)
	}
	return s
}

func (s *shelf) close() {
	s.t.Helper()
	if err := s.book.Close(); err != nil {
		s.t.Errorf("close: %v", err)
	}
	s.log = s.log.Reopen()
}

func (s *shelf) reopen() {
	s.t.Helper()
	s.close()
	s.open()
}

// submit books records that must not fail, and checks the book after.
func (s *shelf) submit(list []eventstore.Record) []eventstore.Result {
	s.t.Helper()
	results, err := s.book.Submit(ctx, list)
	if err != nil || len(results) != len(list) {
		s.t.Fatalf("%d results of %d records, %v", len(results), len(list), err)
	}
	s.check()
	return results
}

// check checks every invariant of a book that nobody is submitting to, and
// returns its events.
func (s *shelf) check() []domain.Event {
	s.t.Helper()
	events, head := checkLog(s.t, s.dir, s.log.Reopen())
	if got := s.book.Head(); got != head {
		s.t.Errorf("the book's head is %v, that of its log %v", got, head)
	}
	anchor, err := eventstore.ReadAnchor(eventstore.AnchorPath(s.dir))
	if err != nil || anchor.Head != head {
		s.t.Errorf("the anchor is %v, %v; the head %v", anchor, err, head)
	}
	if head.Block > 0 && s.head != head || len(s.told) != len(events) {
		s.t.Errorf("the follower was told of %d events up to %v; there are %d up to %v", len(s.told), s.head, len(events), head)
	}
	for i := range min(len(events), len(s.told)) {
		if !bytes.Equal(canonical(&s.told[i]), canonical(&events[i])) {
			s.t.Errorf("the follower was told of another event at position %d", i+1)
		}
	}
	return events
}

func canonical(e *domain.Event) []byte { return cloudevents.Append(nil, e) }

// checkLog checks every invariant of a log that is a book, and returns its events
// in their order. The log is closed then.
func checkLog(t tb, dir string, log eventstore.Log) ([]domain.Event, eventstore.Head) {
	t.Helper()
	anchor, err := eventstore.ReadAnchor(eventstore.AnchorPath(dir))
	if err != nil {
		t.Fatalf("anchor: %v", err)
	}
	var events []domain.Event
	var tree merkle.Tree
	var number uint64
	walk := eventstore.Walk{Log: log, Anchor: anchor, Leaves: true}
	head, err := walk.Run(ctx, func(b *block.Block, head eventstore.Head, size int) error {
		number++
		if b.Number != number || head.Block != number || b.First != tree.Size+1 {
			t.Errorf("block %d with position %d where block %d with %d is due", b.Number, b.First, number, tree.Size+1)
		}
		if len(b.Events) == 0 || len(b.Events) > eventstore.MaxBlockEvents || size > eventstore.MaxBlockBytes {
			t.Errorf("block %d has %d events and %d bytes", number, len(b.Events), size)
		}
		text := 0
		for i := range b.Events {
			one := canonical(&b.Events[i])
			text += len(one)
			tree.Append(merkle.Leaf(one))
		}
		if last := len(canonical(&b.Events[len(b.Events)-1])); text > eventstore.MaxBlockText && text > 2*last {
			t.Errorf("block %d has %d bytes of text", number, text)
		}
		if !slices.Equal(tree.Peaks, b.Tree) || head.Events != tree.Size {
			t.Errorf("block %d does not have the Merkle tree over all events up to it", number)
		}
		events = append(events, b.Events...)
		return nil
	})
	if err != nil {
		t.Fatalf("walk: %v", err)
	}
	quick, err := eventstore.Walk{Log: log, Anchor: anchor}.Run(ctx, func(*block.Block, eventstore.Head, int) error { return nil })
	if err != nil || quick != head {
		t.Errorf("a walk without leaves ends at %v, %v; with them at %v", quick, err, head)
	}
	seen := map[[3]string]int{}
	for i, e := range events {
		key := [3]string{e.Tenant, e.Source, e.ID}
		if first, twice := seen[key]; twice {
			t.Errorf("%v is booked at positions %d and %d", key, first, i+1)
		}
		seen[key] = i + 1
	}
	if err := log.Close(); err != nil {
		t.Errorf("close: %v", err)
	}
	return events, head
}

// count is how many results have each status.
func count(results []eventstore.Result) (booked, duplicate, suspended int) {
	for _, r := range results {
		switch r.Status {
		case eventstore.Booked:
			booked++
		case eventstore.Duplicate:
			duplicate++
		case eventstore.Suspended:
			suspended++
		}
	}
	return booked, duplicate, suspended
}

func wantCounts(t tb, results []eventstore.Result, booked, duplicate, suspended int) {
	t.Helper()
	b, d, s := count(results)
	if b != booked || d != duplicate || s != suspended {
		t.Errorf("%d booked, %d duplicate, %d suspended; want %d, %d, %d", b, d, s, booked, duplicate, suspended)
	}
}

// wantError is of an error that must be one of ours and say something.
func wantError(t tb, err, want error, say ...string) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Errorf("error %v; want %v", err, want)
		return
	}
	for _, s := range say {
		if !strings.Contains(err.Error(), s) {
			t.Errorf("error %q does not say %q", err, s)
		}
	}
}

// warm has the block encoder's shared parts made outside of any bubble of
// testing/synctest, in which they would have to stay.
func warm(t *testing.T) {
	t.Helper()
	s := newShelf(t, t.TempDir()).open()
	s.submit(calls(1, 100))
	s.close()
}
