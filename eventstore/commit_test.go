package eventstore_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"

	"tollbook/domain"
	"tollbook/eventstore"
)

// held opens a book whose appends of block n wait until release is called.
func held(t *testing.T, n uint64) (s *shelf, release func()) {
	t.Helper()
	s = newShelf(t, t.TempDir())
	gate := make(chan struct{})
	s.log.Before = func(m uint64) {
		if m == n {
			<-gate
		}
	}
	return s.open(), func() { close(gate) }
}

// bubble runs a test in which a goroutine that is left over, or waits for ever,
// is a failure.
func bubble(t *testing.T, test func(t *testing.T)) {
	t.Helper()
	warm(t)
	synctest.Test(t, test)
}

// A lone record does not wait; what comes while it is appended shares one block.
func TestGroupCommit(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s, release := held(t, 1)
		var all sync.WaitGroup
		var mu sync.Mutex
		at := map[uint64]int{} // position → call
		submit := func(from, to int) {
			list := calls(from, to)
			results, err := s.book.Submit(ctx, list)
			if err != nil || len(results) != len(list) {
				t.Errorf("calls %d to %d: %d results, %v", from, to, len(results), err)
				return
			}
			mu.Lock()
			defer mu.Unlock()
			for i, r := range results {
				if r.Status != eventstore.Booked || r.Position != results[0].Position+uint64(i) {
					t.Errorf("calls %d to %d: %v", from, to, results)
				}
				at[r.Position] = from + i
			}
		}
		all.Go(func() { submit(1, 1) })
		synctest.Wait()
		if head := s.book.Head(); head.Block != 0 {
			t.Errorf("the head is at block %d while block 1 is being appended", head.Block)
		}
		for i := range 300 {
			all.Go(func() { submit(2+3*i, 4+3*i) })
		}
		synctest.Wait()
		release()
		all.Wait()
		if head := s.book.Head(); head.Block != 2 || head.Events != 901 {
			t.Errorf("%d blocks with %d events, not 2 with 901", head.Block, head.Events)
		}
		events := s.check()
		for position, id := range at {
			if e := events[position-1]; e.ID != fmt.Sprintf("call-%d", id) {
				t.Errorf("position %d has %s, not call %d", position, e.ID, id)
			}
		}
		if len(at) != 901 {
			t.Errorf("%d positions", len(at))
		}
		s.close()
	})
}

// Conflicts and repeats are told apart within the block they come in, too.
func TestGroupDuplicates(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s, release := held(t, 1)
		var all sync.WaitGroup
		var mu sync.Mutex
		var results []eventstore.Result
		submit := func(list []eventstore.Record) {
			r, err := s.book.Submit(ctx, list)
			if err != nil {
				t.Error(err)
			}
			mu.Lock()
			results = append(results, r...)
			mu.Unlock()
		}
		all.Go(func() { submit(calls(1, 1)) })
		synctest.Wait()
		e := call("contoso", "switch/mil-1", 2)
		for range 10 {
			all.Go(func() { submit(records(e, longer(e, 1000))) })
		}
		synctest.Wait()
		release()
		all.Wait()
		wantCounts(t, results, 2, 18, 1)
		s.check()
		s.close()
	})
}

// A Submit whose context ends returns at once. Its records may be booked all the
// same, so sending them again is safe, and they are the caller's again.
func TestCancelledSubmit(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s, release := held(t, 1)
		var all sync.WaitGroup
		all.Go(func() {
			if _, err := s.book.Submit(ctx, calls(1, 1)); err != nil {
				t.Error(err)
			}
		})
		synctest.Wait()
		submit := func(id int) (cancel func()) {
			cancelled, cancel := context.WithCancel(ctx)
			all.Go(func() {
				list := calls(id, id)
				results, err := s.book.Submit(cancelled, list)
				if !errors.Is(err, context.Canceled) || results != nil {
					t.Errorf("call %d: %v, %v", id, results, err)
				}
				list[0] = eventstore.Record{}
			})
			return cancel
		}
		var cancels []func()
		for i := range eventstore.QueueDepth {
			cancels = append(cancels, submit(2+i))
		}
		synctest.Wait() // the queue is full
		last := submit(2 + eventstore.QueueDepth)
		synctest.Wait()
		for _, cancel := range append(cancels, last) {
			cancel()
		}
		synctest.Wait()
		release()
		all.Wait()
		synctest.Wait()
		wantCounts(t, s.submit(calls(1, 1+eventstore.QueueDepth)), 0, 1+eventstore.QueueDepth, 0)
		wantCounts(t, s.submit(calls(2+eventstore.QueueDepth, 2+eventstore.QueueDepth)), 1, 0, 0) // it had no place
		s.close()
	})
}

// Close while Submits wait: each of them returns, with what became of its
// records or with ErrClosed.
func TestCloseWhileSubmitsWait(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s, release := held(t, 1)
		const senders = eventstore.QueueDepth + 200
		var all sync.WaitGroup
		var mu sync.Mutex
		booked := map[int]eventstore.Result{}
		submit := func(id int) {
			results, err := s.book.Submit(ctx, calls(id, id))
			switch {
			case err == nil:
				mu.Lock()
				booked[id] = results[0]
				mu.Unlock()
			case !errors.Is(err, eventstore.ErrClosed) || results != nil:
				t.Errorf("call %d: %v, %v", id, results, err)
			}
		}
		all.Go(func() { submit(1) })
		synctest.Wait()
		for id := range senders {
			all.Go(func() { submit(2 + id) })
		}
		synctest.Wait()
		for range 3 {
			all.Go(func() {
				if err := s.book.Close(); err != nil {
					t.Errorf("close: %v", err)
				}
			})
		}
		synctest.Wait()
		select {
		case <-s.book.Done():
			t.Error("the book is done while a block is being appended")
		default:
		}
		release()
		all.Wait()
		<-s.book.Done()
		if err := s.book.Err(); err != nil {
			t.Errorf("a book that was closed has failed: %v", err)
		}
		if _, ok := booked[1]; !ok {
			t.Error("what was being appended was not finished")
		}
		_, err := s.book.Submit(ctx, calls(1, 1))
		wantError(t, err, eventstore.ErrClosed)
		s.log = s.log.Reopen()
		s.open()
		events := s.check()
		for id, r := range booked {
			if r.Status != eventstore.Booked || events[r.Position-1].ID != fmt.Sprintf("call-%d", id) {
				t.Errorf("call %d: %v", id, r)
			}
		}
		list := calls(1, 1+senders)
		wantCounts(t, s.submit(list), len(list)-len(events), len(events), 0)
		s.close()
	})
}

// Close waits for those who read, and has them stop.
func TestCloseWhileEventsAreRead(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := newShelf(t, t.TempDir()).open()
		s.submit(calls(1, 10))
		s.submit(calls(11, 20))
		reading := make(chan struct{})
		resume := make(chan struct{})
		var all sync.WaitGroup
		all.Go(func() {
			first := true
			err := s.book.Events(ctx, []uint64{1, 11}, func(position uint64, _ *domain.Event) error {
				if !first {
					t.Errorf("position %d is read while the book closes", position)
				}
				first = false
				close(reading)
				<-resume
				return nil
			})
			wantError(t, err, eventstore.ErrClosed)
		})
		<-reading
		all.Go(s.close)
		synctest.Wait()
		close(resume)
		all.Wait()
	})
}

// The fault table: each append fails, and fails but has happened. No sender is
// told anything; the book takes no more; opened again it has the block or has
// not, and sending all again books everything once.
func TestAppendFails(t *testing.T) {
	const batches, size = 4, 5
	for n := uint64(1); n <= batches; n++ {
		for _, persisted := range []bool{false, true} {
			t.Run(fmt.Sprintf("block %d, persisted %v", n, persisted), func(t *testing.T) {
				s := newShelf(t, t.TempDir()).open()
				s.log.FailAppend(n, persisted)
				batch := func(i uint64) []eventstore.Record { return calls(int(i)*size, int(i)*size+size-1) }
				for i := uint64(1); i < n; i++ {
					wantCounts(t, s.submit(batch(i)), size, 0, 0)
				}
				before := s.book.Head()
				results, err := s.book.Submit(ctx, batch(n))
				wantError(t, err, eventstore.ErrUncertain, fmt.Sprintf("block %d", n))
				if results != nil {
					t.Errorf("results %v of an append that failed", results)
				}
				<-s.book.Done()
				wantError(t, s.book.Err(), eventstore.ErrUncertain)
				_, err = s.book.Submit(ctx, batch(n+1))
				wantError(t, err, eventstore.ErrUncertain)
				if head := s.book.Head(); head != before || len(s.told) != int(before.Events) {
					t.Errorf("head %v, and the follower was told of %d events; before %v", head, len(s.told), before)
				}
				s.reopen()
				s.check()
				for i := uint64(1); i <= batches; i++ {
					there := i < n || i == n && persisted
					results := s.submit(batch(i))
					if there {
						wantCounts(t, results, 0, size, 0)
					} else {
						wantCounts(t, results, size, 0, 0)
					}
					for j, r := range results {
						if r.Position != (i-1)*size+uint64(j)+1 {
							t.Errorf("batch %d, record %d: %v", i, j, r)
						}
					}
				}
				s.reopen()
				s.check()
				s.close()
			})
		}
	}
}

// An append that fails fails everybody who waits, and of a Submit that was
// spread over blocks, what is durable stays.
func TestAppendFailsAll(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s, release := held(t, 1)
		s.log.FailAppend(3, false)
		long := calls(1000, 1000+eventstore.MaxBlockEvents+100) // blocks 2 and 3
		var all sync.WaitGroup
		all.Go(func() {
			if _, err := s.book.Submit(ctx, calls(1, 1)); err != nil {
				t.Error(err)
			}
		})
		synctest.Wait()
		for i := range 50 {
			list := calls(2+i, 2+i)
			if i == 0 {
				list = long
			}
			all.Go(func() {
				results, err := s.book.Submit(ctx, list)
				// One that came before the long one may have been in block 2.
				if len(list) > 1 || err != nil {
					wantError(t, err, eventstore.ErrUncertain)
					if results != nil {
						t.Errorf("%d results", len(results))
					}
				}
			})
		}
		synctest.Wait()
		release()
		all.Wait()
		<-s.book.Done()
		s.reopen()
		s.check()
		if head := s.book.Head(); head.Block != 2 || head.Events != 1+eventstore.MaxBlockEvents {
			t.Errorf("head at block %d, position %d", head.Block, head.Events)
		}
		s.submit(slices.Concat(calls(1, 51), long))
		if head := s.book.Head(); head.Events != uint64(51+len(long)) {
			t.Errorf("%d events", head.Events)
		}
		s.close()
	})
}

// Another writer on the same log is noticed before anything is lost.
func TestAnotherWriter(t *testing.T) {
	s := newShelf(t, t.TempDir()).open()
	s.submit(calls(1, 3))
	other := newShelf(t, t.TempDir())
	other.log = s.log.Reopen()
	if err := copyAnchor(s.dir, other.dir); err != nil {
		t.Fatal(err)
	}
	other.open().submit(calls(4, 6))
	_, err := s.book.Submit(ctx, calls(7, 9))
	wantError(t, err, eventstore.ErrConflict, "block 2")
	<-s.book.Done()
	wantError(t, s.book.Err(), eventstore.ErrConflict)
	other.close()
	s.reopen()
	wantCounts(t, s.submit(calls(1, 9)), 3, 6, 0)
	s.close()
}
