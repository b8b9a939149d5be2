package eventstore_test

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"

	"tollbook/domain"
	"tollbook/eventstore"
	"tollbook/eventstore/block"
	"tollbook/eventstore/merkle"
)

func TestDuplicates(t *testing.T) {
	s := newShelf(t, t.TempDir()).open()
	list := calls(1, 3)
	wantResults := func(got []eventstore.Result, want ...eventstore.Result) {
		t.Helper()
		if !slices.Equal(got, want) {
			t.Errorf("results %v; want %v", got, want)
		}
	}
	booked := func(at uint64) eventstore.Result {
		return eventstore.Result{Status: eventstore.Booked, Position: at}
	}
	again := func(at uint64) eventstore.Result {
		return eventstore.Result{Status: eventstore.Duplicate, Position: at}
	}
	wantResults(s.submit(slices.Concat(list[:2], list[:1], list[1:])), booked(1), booked(2), again(1), again(2), booked(3))
	wantResults(s.submit(list), again(1), again(2), again(3))
	if head := s.book.Head(); head.Block != 1 || head.Events != 3 {
		t.Errorf("repeats made a block: %v", head)
	}
	if n := s.repeats[[2]string{"contoso", "switch/mil-1"}]; n != 5 {
		t.Errorf("the follower was told of %d repeats, not 5", n)
	}
	wantResults(s.submit(calls(3, 4)), again(3), booked(4))
	s.reopen()
	if n := s.repeats[[2]string{"contoso", "switch/mil-1"}]; n != 6 {
		t.Errorf("the blocks count %d repeats, not 6", n)
	}
	wantResults(s.submit(calls(1, 5)), again(1), again(2), again(3), again(4), booked(5))
	// The same id of another source or tenant is another event.
	wantResults(s.submit(records(call("contoso", "switch/mil-2", 1), call("fabrikam", "switch/mil-1", 1))), booked(6), booked(7))
	s.close()
}

func TestConflict(t *testing.T) {
	s := newShelf(t, t.TempDir()).open()
	first := call("contoso", "switch/mil-1", 1)
	other := longer(first, 1000)
	s.submit(records(first))

	inOther := records(other)
	inOther[0].Raw = []byte("as it came")
	conflicts := s.submit(slices.Concat(records(other), inOther, records(first), records(other)))
	wantCounts(t, conflicts, 0, 2, 2)
	if r := conflicts[2]; r.Status != eventstore.Duplicate || r.Position != 1 {
		t.Errorf("the first one again: %v", r)
	}
	if r := conflicts[3]; r.Status != eventstore.Duplicate || r.Position != conflicts[0].Position {
		t.Errorf("the conflicting one again: %v", r)
	}
	events := s.check()
	if !bytes.Equal(canonical(&events[0]), canonical(&first)) {
		t.Error("the first event has changed")
	}
	for i, raw := range [][]byte{canonical(&other), []byte("as it came")} {
		r := conflicts[i]
		suspended, ok := events[r.Position-1].Data.(*domain.Suspended)
		if !ok || r.Reason != eventstore.ReasonConflict || suspended.Reason != r.Reason || suspended.Detail != r.Detail ||
			!bytes.Equal(suspended.Raw, raw) || suspended.Subject != "tollbook.contoso.call.completed" {
			t.Errorf("result %v, suspended %+v", r, suspended)
		}
		for _, e := range []domain.Event{first, other} {
			leaf := merkle.Leaf(canonical(&e))
			if !strings.Contains(r.Detail, hex.EncodeToString(leaf[:16])) {
				t.Errorf("detail %q lacks the digest %x", r.Detail, leaf[:16])
			}
		}
	}
	s.reopen()
	results := s.submit(slices.Concat(records(other), inOther, records(first)))
	wantCounts(t, results, 0, 3, 0)
	wantCounts(t, s.submit(records(longer(first, 2000))), 0, 0, 1) // a third one
	s.close()
}

func TestSuspendedAgain(t *testing.T) {
	s := newShelf(t, t.TempDir()).open()
	suspend := func(raw, subject, detail string) []eventstore.Record {
		e := eventstore.Suspend("contoso", subject, []byte(raw), eventstore.ReasonSyntax, detail, s.clock())
		return []eventstore.Record{{Event: e, Subject: subject}}
	}
	first := s.submit(suspend("{", "tollbook.contoso.x", "ends too soon"))[0]
	if first.Status != eventstore.Suspended || first.Reason != eventstore.ReasonSyntax || first.Detail != "ends too soon" {
		t.Errorf("result %v", first)
	}
	// Refused for another reason, at another time: it is the same record.
	if r := s.submit(suspend("{", "tollbook.contoso.x", "ends in the middle"))[0]; r.Status != eventstore.Duplicate || r.Position != first.Position {
		t.Errorf("again: %v", r)
	}
	wantCounts(t, s.submit(slices.Concat(suspend("{{", "tollbook.contoso.x", ""), suspend("{", "tollbook.contoso.y", ""))), 0, 0, 2)
	s.close()
}

// What the book can't hold is suspended, and keeps nothing else out. What its
// sender and the subject say may be anything.
func TestUnkeepable(t *testing.T) {
	s := newShelf(t, t.TempDir()).open()
	nobody := domain.Event{Tenant: "contoso", Source: "admin", ID: "1", Time: started, Data: &domain.Assignment{Plan: "DOMESTIC", Country: "IT", EffectiveAt: started}}
	list := slices.Concat(calls(1, 1), records(nobody), calls(2, 2))
	list[1].Subject = strings.Repeat("é", 2000) + "\x00\xff"
	for _, first := range []bool{true, false} {
		before := slices.Clone(list)
		results := s.submit(list)
		if !slices.EqualFunc(list, before, func(a, b eventstore.Record) bool { return a.Event == b.Event && a.Subject == b.Subject }) {
			t.Error("the caller's records have changed")
		}
		if r := results[1]; first {
			wantCounts(t, results, 2, 0, 1)
			if r.Status != eventstore.Suspended || r.Reason != eventstore.ReasonEvent || r.Detail == "" {
				t.Errorf("result %v", r)
			}
		} else {
			wantCounts(t, results, 0, 3, 0)
		}
		s.reopen()
	}
	s.close()
}

// However long a record is that can't be booked, what is kept of it fits a block,
// and the book goes on; so does one whose event is short and whose bytes are long.
func TestTooLarge(t *testing.T) {
	s := newShelf(t, t.TempDir()).open()
	list := append(calls(1, 2), unread(40<<20))
	results := s.submit(list)
	wantCounts(t, results, 2, 0, 1)
	if !strings.Contains(results[2].Detail, "has 41943040 bytes") {
		t.Errorf("detail %s", results[2].Detail)
	}
	wantBlocks(t, s, 2, 1)

	conflict := calls(1, 1)[0]
	other := *conflict.Event.Data.(*domain.Call)
	other.BillableMS++
	conflict.Event.Data, conflict.Raw = &other, unread(40<<20).Event.Data.(*domain.Suspended).Raw
	conflict.Raw = append(conflict.Raw, conflict.Raw...)
	results = s.submit([]eventstore.Record{conflict})
	wantCounts(t, results, 0, 0, 1)
	if results[0].Reason != eventstore.ReasonConflict {
		t.Errorf("result %v", results[0])
	}
	wantBlocks(t, s, 2, 1, 1)
	s.reopen()
	wantCounts(t, s.submit(list), 0, 3, 0)
	s.close()
}

// unread is a record of so many bytes that could not be read, and can't be compressed.
func unread(size int) eventstore.Record {
	return eventstore.Record{Event: eventstore.Suspend("contoso", "s", noise(size), eventstore.ReasonSyntax, "", started)}
}

// wantBlocks is of how many events each block has.
func wantBlocks(t *testing.T, s *shelf, want ...int) {
	t.Helper()
	var got []int
	_, err := eventstore.Walk{Log: s.log.Reopen()}.Run(ctx, func(b *block.Block, _ eventstore.Head, _ int) error {
		got = append(got, len(b.Events))
		return nil
	})
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("blocks of %v events, %v; want %v", got, err, want)
	}
}

// noise is bytes that nothing compresses.
func noise(n int) []byte {
	b := make([]byte, n)
	_, _ = rand.NewChaCha8([32]byte{byte(n)}).Read(b)
	return b
}

func TestBlocksSplit(t *testing.T) {
	s := newShelf(t, t.TempDir()).open()
	results := s.submit(calls(1, 2*eventstore.MaxBlockEvents+10))
	for i, r := range results {
		if r.Status != eventstore.Booked || r.Position != uint64(i)+1 {
			t.Fatalf("record %d: %v", i, r)
		}
	}
	wantBlocks(t, s, eventstore.MaxBlockEvents, eventstore.MaxBlockEvents, 10)
	s.reopen()
	s.check()
	s.close()
}

// Two events of three million bytes, four in base64, share a block; one that is
// longer than a block's text has one of its own.
func TestBlocksSplitByText(t *testing.T) {
	s := newShelf(t, t.TempDir()).open()
	results, err := s.book.Submit(ctx, append([]eventstore.Record{unread(3e6), unread(3e6 + 1), unread(3e6 + 2), unread(6.5e6)}, calls(1, 2)...))
	if err != nil {
		t.Fatal(err)
	}
	wantCounts(t, results, 2, 0, 4)
	wantBlocks(t, s, 2, 1, 1, 2)
	s.close()
}

func TestSubmitNothing(t *testing.T) {
	s := newShelf(t, t.TempDir()).open()
	if results, err := s.book.Submit(ctx, nil); len(results) != 0 || err != nil {
		t.Errorf("%v, %v", results, err)
	}
	s.check()
	s.reopen()
	s.check()
	s.close()
}

func TestLocked(t *testing.T) {
	s := newShelf(t, t.TempDir()).open()
	s.submit(calls(1, 1))
	_, err := eventstore.Open(ctx, s.dir, func(string) (eventstore.Log, error) {
		t.Error("the log was opened without the lock")
		return s.log.Reopen(), nil
	}, eventstore.Options{Clock: s.clock})
	wantError(t, err, eventstore.ErrLocked, "process "+strconv.Itoa(os.Getpid()), s.dir)
	s.submit(calls(2, 2))
	s.reopen()
	s.check()
	s.close()
}

// A directory or a log that can't be had leaves nothing locked.
func TestOpenFails(t *testing.T) {
	dir := t.TempDir()
	want := errors.New("no log today")
	_, err := eventstore.Open(ctx, dir, func(string) (eventstore.Log, error) { return nil, want }, eventstore.Options{Clock: ticking()})
	wantError(t, err, want)
	cancelled, cancel := context.WithCancel(ctx)
	cancel()
	s := newShelf(t, dir)
	_, err = eventstore.Open(cancelled, dir, func(string) (eventstore.Log, error) { return s.log, nil }, eventstore.Options{Clock: ticking()})
	wantError(t, err, context.Canceled)
	s.log = s.log.Reopen()
	s.open().submit(calls(1, 1))
	s.close()
}

func TestWalkUntil(t *testing.T) {
	s := newShelf(t, t.TempDir()).open()
	for from := 1; from <= 41; from += 10 {
		s.submit(calls(from, from+9))
	}
	end := s.book.Head()
	for _, test := range []struct{ until, block uint64 }{{0, 5}, {1, 1}, {10, 1}, {11, 2}, {25, 3}, {40, 4}, {41, 5}, {50, 5}, {51, 5}} {
		for _, leaves := range []bool{false, true} {
			log := s.log.Reopen()
			blocks := uint64(0)
			head, err := eventstore.Walk{Log: log, Anchor: &eventstore.Anchor{Head: end}, Leaves: leaves, Until: test.until}.Run(ctx,
				func(b *block.Block, head eventstore.Head, _ int) error {
					if blocks++; b.Number != blocks || head.Block != blocks {
						t.Errorf("block %d, head %v, where block %d is next", b.Number, head, blocks)
					}
					return nil
				})
			if err != nil || head.Block != test.block || head.Events != 10*test.block || blocks != test.block {
				t.Errorf("until %d: %v, %v after %d blocks; want block %d", test.until, head, err, blocks, test.block)
			}
		}
	}
	want := errors.New("enough of it")
	if _, err := (eventstore.Walk{Log: s.log.Reopen()}).Run(ctx, func(*block.Block, eventstore.Head, int) error { return want }); err != want {
		t.Errorf("error %v, not that of the caller", err)
	}
	s.close()
}

// Events are found in blocks of generations past, with their strings.
func TestEvents(t *testing.T) {
	s := newShelf(t, t.TempDir()).open()
	s.book.LimitSymbols(block.Limits{Symbols: 30})
	var list []eventstore.Record
	for id := range 100 {
		list = append(list, records(call(fmt.Sprintf("tenant%d", id/10), "switch/mil-1", id))...)
	}
	for batch := range slices.Chunk(list, 5) {
		s.submit(batch)
	}
	if n := generations(t, s); n < 4 {
		t.Fatalf("only %d generations of symbols", n)
	}
	for _, positions := range [][]uint64{nil, {1}, {100}, {37, 3, 99}, {50, 50, 49}, {0, 1, 101, 1 << 63}, {0}, {200}} {
		var want []uint64
		for _, p := range slices.Sorted(slices.Values(positions)) {
			if p >= 1 && p <= 100 {
				want = append(want, p)
			}
		}
		var got []uint64
		err := s.book.Events(ctx, positions, func(position uint64, e *domain.Event) error {
			got = append(got, position)
			if !bytes.Equal(canonical(e), canonical(&list[position-1].Event)) {
				t.Errorf("position %d has %s", position, canonical(e))
			}
			return nil
		})
		if err != nil || !slices.Equal(got, want) {
			t.Errorf("positions %v: got %v, %v; want %v", positions, got, err, want)
		}
	}
	want := errors.New("enough of it")
	if err := s.book.Events(ctx, []uint64{1, 2}, func(uint64, *domain.Event) error { return want }); err != want {
		t.Errorf("error %v, not that of the caller", err)
	}
	// From within, one may book: what a suspended record has become.
	err := s.book.Events(ctx, []uint64{1, 60}, func(position uint64, e *domain.Event) error {
		_, err := s.book.Submit(ctx, records(longer(*e, 1000)))
		return err
	})
	if err != nil {
		t.Error(err)
	}
	s.check()
	s.reopen() // with several generations
	wantCounts(t, s.submit(list), 0, 100, 0)
	s.close()
	wantError(t, s.book.Events(ctx, []uint64{1}, func(uint64, *domain.Event) error { return nil }), eventstore.ErrClosed)
}

func generations(t *testing.T, s *shelf) int {
	t.Helper()
	starts := map[uint64]bool{}
	for _, data := range s.log.Blocks() {
		r, err := block.NewReader(data)
		if err != nil {
			t.Fatal(err)
		}
		starts[r.SymbolsFrom()] = true
	}
	return len(starts)
}

func TestRepeatKey(t *testing.T) {
	counts := map[[2]string]uint64{}
	add := func(tenant, source string) [2]string {
		key := eventstore.RepeatKey(counts, tenant, source)
		counts[key]++
		return key
	}
	for i := range eventstore.MaxRepeatSources {
		source := strconv.Itoa(i)
		if key := add("contoso", source); key != [2]string{"contoso", source} {
			t.Fatalf("source %d is counted under %v", i, key)
		}
	}
	if key := add("contoso", "7"); key != [2]string{"contoso", "7"} {
		t.Errorf("a source that is known is counted under %v", key)
	}
	if key := add("contoso", "new"); key != [2]string{"contoso", eventstore.SuspenseSource} {
		t.Errorf("one source too many is counted under %v", key)
	}
	for i := range 100_000 {
		add(strconv.Itoa(i), "new")
	}
	if key := add("one-more", "new"); key != [2]string{domain.NoTenant, eventstore.SuspenseSource} {
		t.Errorf("one tenant too many is counted under %v", key)
	}
	if len(counts) > eventstore.MaxRepeatTenants+1 || len(counts) > block.MaxEvents {
		t.Errorf("%d counts", len(counts))
	}
}
