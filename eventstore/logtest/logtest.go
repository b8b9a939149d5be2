// Package logtest is the contract of [eventstore.Log] as a suite of tests, which
// every implementation passes.
package logtest

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"sync"
	"testing"

	"tollbook/eventstore"
)

// Run runs the suite. open opens the log of a directory for writing: what a log
// closed before kept there, or a new one.
func Run(t *testing.T, open func(t *testing.T, dir string) eventstore.Log) {
	for _, test := range []struct {
		name string
		run  func(t *testing.T, s *suite)
	}{
		{"Empty", testEmpty},
		{"AppendRead", testAppendRead},
		{"Conflict", testConflict},
		{"Size", testSize},
		{"Large", testLarge},
		{"NotKept", testNotKept},
		{"Appenders", testAppenders},
		{"Reopen", testReopen},
		{"ReadWhileAppending", testReadWhileAppending},
		{"WithinRead", testWithinRead},
		{"ErrorOfEach", testErrorOfEach},
		{"Cancelled", testCancelled},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := &suite{t: t, dir: t.TempDir(), open: open}
			s.Log = open(t, s.dir)
			defer func() { s.must(s.Close()) }()
			test.run(t, s)
		})
	}
}

// suite is one test's log.
type suite struct {
	eventstore.Log
	t    *testing.T
	dir  string
	open func(t *testing.T, dir string) eventstore.Log
}

func (s *suite) must(err error) {
	s.t.Helper()
	if err != nil {
		s.t.Fatal(err)
	}
}

// content is a block of some size, at least 16, that says which one it is and who
// wrote it.
func content(n, writer uint64, size int) []byte {
	block := binary.LittleEndian.AppendUint64(make([]byte, 0, size), n)
	block = binary.LittleEndian.AppendUint64(block, writer)
	for len(block) < size {
		half := block[:min(len(block), size-len(block))]
		block = append(block, half...)
		block[len(block)-1] ^= byte(len(block)>>4 | 1)
	}
	return block
}

// sizes of blocks, around the pages of a database.
var sizes = []int{16, 17, 4000, 4096, 5000, 60_000, 128 << 10}

func block(n uint64) []byte { return content(n, 0, sizes[n%uint64(len(sizes))]) }

func (s *suite) fill(from, to uint64) {
	s.t.Helper()
	for n := from; n <= to; n++ {
		s.must(s.Append(context.Background(), n, block(n)))
	}
}

// wantHead is the one thing that is right about a log from outside: its head,
// and that Read from anywhere gives exactly the blocks up to it.
func (s *suite) wantHead(head uint64) {
	s.t.Helper()
	got, err := s.Head(context.Background())
	if err != nil || got != head {
		s.t.Fatalf("head %d, %v; want %d", got, err, head)
	}
	for _, from := range []uint64{0, 1, 2, head / 2, head, head + 1, math.MaxInt64, math.MaxUint64} {
		next := max(from, 1)
		err := s.Read(context.Background(), from, func(n uint64, got []byte) error {
			if n != next {
				return fmt.Errorf("block %d where %d is next", n, next)
			}
			if !bytes.Equal(got, block(n)) {
				return fmt.Errorf("block %d is not what was appended", n)
			}
			next++
			return nil
		})
		if err != nil {
			s.t.Fatalf("read from %d: %v", from, err)
		}
		if want := max(from, head+1); next != max(want, 1) {
			s.t.Fatalf("read from %d ended before %d; want %d", from, next, want)
		}
	}
}

func testEmpty(_ *testing.T, s *suite) {
	s.wantHead(0)
}

func testAppendRead(_ *testing.T, s *suite) {
	for n := range uint64(8) {
		s.fill(n+1, n+1)
		s.wantHead(n + 1)
	}
	s.fill(9, 150) // more than an implementation reads at once
	s.wantHead(150)
}

func testConflict(t *testing.T, s *suite) {
	refused := func(n uint64) {
		t.Helper()
		if err := s.Append(context.Background(), n, content(n, 9, 500)); !errors.Is(err, eventstore.ErrConflict) {
			t.Fatalf("append of block %d: %v; want ErrConflict", n, err)
		}
	}
	for _, n := range []uint64{0, 2, math.MaxInt64, math.MaxInt64 + 1, math.MaxUint64} {
		refused(n)
	}
	s.wantHead(0)
	s.fill(1, 3)
	for _, n := range []uint64{0, 1, 2, 3, 5, 6, math.MaxInt64, math.MaxInt64 + 1, math.MaxUint64} {
		refused(n)
	}
	s.wantHead(3)
	s.fill(4, 4) // a conflict is no reason to refuse what follows
	s.wantHead(4)
}

func testSize(t *testing.T, s *suite) {
	largest := content(1, 0, eventstore.MaxBlockBytes)
	for _, wrong := range [][]byte{nil, {}, append(largest[:len(largest):len(largest)], 0)} {
		if err := s.Append(context.Background(), 1, wrong); !errors.Is(err, eventstore.ErrTooLarge) {
			t.Fatalf("append of %d bytes: %v; want ErrTooLarge", len(wrong), err)
		}
	}
	s.wantHead(0)
	s.must(s.Append(context.Background(), 1, largest))
	s.must(s.Append(context.Background(), 2, []byte{7}))
	read := 0
	s.must(s.Read(context.Background(), 1, func(n uint64, block []byte) error {
		read++
		if want := map[uint64][]byte{1: largest, 2: {7}}[n]; !bytes.Equal(block, want) {
			return fmt.Errorf("block %d has %d bytes that are not what was appended", n, len(block))
		}
		return nil
	}))
	if read != 2 {
		t.Fatalf("read %d blocks, not 2", read)
	}
}

// More bytes than an implementation reads at once, in blocks of different length.
func testLarge(t *testing.T, s *suite) {
	size := func(n uint64) int { return int(n%4+1) << 20 }
	const blocks = 16
	for n := uint64(1); n <= blocks; n++ {
		s.must(s.Append(context.Background(), n, content(n, 0, size(n))))
	}
	read := uint64(0)
	s.must(s.Read(context.Background(), 1, func(n uint64, got []byte) error {
		if read++; n != read || !bytes.Equal(got, content(n, 0, size(n))) {
			return fmt.Errorf("block %d where %d is next, or not what was appended", n, read)
		}
		return nil
	}))
	if read != blocks {
		t.Fatalf("read %d blocks of %d", read, blocks)
	}
}

// A block is the caller's again after Append.
func testNotKept(_ *testing.T, s *suite) {
	buf := make([]byte, 0, 1<<20+16)
	for n := range uint64(10) {
		buf = append(buf[:0], block(n+1)...)
		s.must(s.Append(context.Background(), n+1, buf))
	}
	clear(buf[:cap(buf)])
	s.wantHead(10)
}

// Of appenders who all try the same number exactly one succeeds.
func testAppenders(t *testing.T, s *suite) {
	const writers, target = 8, 60
	var mu sync.Mutex
	winner := map[uint64]uint64{}
	var all sync.WaitGroup
	for writer := range uint64(writers) {
		all.Go(func() {
			for {
				head, err := s.Head(context.Background())
				if err != nil || head >= target {
					if err != nil {
						t.Errorf("writer %d: %v", writer, err)
					}
					return
				}
				n := head + 1
				err = s.Append(context.Background(), n, content(n, writer, 300))
				switch {
				case err == nil:
					mu.Lock()
					if other, twice := winner[n]; twice {
						t.Errorf("block %d was appended by %d and by %d", n, other, writer)
					}
					winner[n] = writer
					mu.Unlock()
				case !errors.Is(err, eventstore.ErrConflict):
					t.Errorf("writer %d, block %d: %v", writer, n, err)
					return
				}
			}
		})
	}
	all.Wait()
	read := uint64(0)
	s.must(s.Read(context.Background(), 1, func(n uint64, block []byte) error {
		read++
		if by, ok := winner[n]; !ok || !bytes.Equal(block, content(n, by, 300)) {
			return fmt.Errorf("block %d is not that of who was told so (%d)", n, by)
		}
		return nil
	}))
	if read < target || read != uint64(len(winner)) {
		t.Fatalf("%d blocks of %d appends", read, len(winner))
	}
}

func testReopen(t *testing.T, s *suite) {
	reopen := func() {
		s.must(s.Close())
		s.Log = s.open(t, s.dir)
	}
	reopen()
	s.wantHead(0)
	for n := range uint64(4) {
		s.fill(n*10+1, n*10+10)
		reopen()
		s.wantHead(n*10 + 10)
	}
	if err := s.Append(context.Background(), 40, block(40)); !errors.Is(err, eventstore.ErrConflict) {
		t.Fatalf("append of a block that is there: %v", err)
	}
}

// Readers see a beginning of the log, at least as long as when they began.
func testReadWhileAppending(t *testing.T, s *suite) {
	const target = 200
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	var readers sync.WaitGroup
	for range 3 {
		readers.Go(func() {
			for done := false; !done && ctx.Err() == nil; {
				before, err := s.Head(context.Background())
				if err != nil {
					t.Error(err)
					return
				}
				next := uint64(1)
				err = s.Read(context.Background(), 1, func(n uint64, got []byte) error {
					if n != next || !bytes.Equal(got, content(n, 0, 3000)) {
						return fmt.Errorf("block %d where %d is next, or not what was appended", n, next)
					}
					next++
					return nil
				})
				if err != nil || next <= before {
					t.Errorf("read up to %d, %v; the head was %d before", next-1, err, before)
					return
				}
				done = next > target
			}
		})
	}
	for n := uint64(1); n <= target; n++ {
		if err := s.Append(context.Background(), n, content(n, 0, 3000)); err != nil {
			t.Errorf("append of block %d: %v", n, err)
			cancel() // readers would wait for blocks that don't come
			break
		}
	}
	readers.Wait()
}

// All methods may be called from within a Read, which ends at the head it began with.
func testWithinRead(t *testing.T, s *suite) {
	s.fill(1, 100)
	read := uint64(0)
	s.must(s.Read(context.Background(), 1, func(n uint64, got []byte) error {
		read++
		if err := s.Append(context.Background(), 100+n, block(100+n)); err != nil {
			return err
		}
		if head, err := s.Head(context.Background()); err != nil || head != 100+n {
			return fmt.Errorf("head %d, %v, after block %d was appended", head, err, 100+n)
		}
		err := s.Read(context.Background(), 100+n, func(m uint64, appended []byte) error {
			if m != 100+n || !bytes.Equal(appended, block(m)) {
				return fmt.Errorf("block %d is not that which was just appended", m)
			}
			return nil
		})
		if err == nil && !bytes.Equal(got, block(n)) {
			err = fmt.Errorf("block %d has changed during its turn", n)
		}
		return err
	}))
	if read != 100 {
		t.Fatalf("read %d blocks of the 100 there were at the beginning", read)
	}
	s.wantHead(200)
}

func testErrorOfEach(t *testing.T, s *suite) {
	s.fill(1, 10)
	want := errors.New("enough")
	for stop := uint64(1); stop <= 10; stop++ {
		last := uint64(0)
		err := s.Read(context.Background(), 1, func(n uint64, _ []byte) error {
			last = n
			if n == stop {
				return want
			}
			return nil
		})
		if err != want {
			t.Fatalf("error %v, not that of each", err)
		}
		if last != stop {
			t.Fatalf("read up to block %d after an error at %d", last, stop)
		}
	}
	s.wantHead(10)
}

func testCancelled(t *testing.T, s *suite) {
	s.fill(1, 10)
	ctx, cancel := context.WithCancel(context.Background())
	last := uint64(0)
	err := s.Read(ctx, 1, func(n uint64, _ []byte) error {
		if last = n; n == 3 {
			cancel()
		}
		return nil
	})
	if !errors.Is(err, context.Canceled) || last != 3 {
		t.Fatalf("read up to block %d, %v, after the context was cancelled in block 3", last, err)
	}
	if err := s.Append(ctx, 11, block(11)); !errors.Is(err, context.Canceled) {
		t.Fatalf("append with a cancelled context: %v", err)
	}
	err = s.Read(ctx, 1, func(uint64, []byte) error {
		t.Error("a block was read with a cancelled context")
		return nil
	})
	if !errors.Is(err, context.Canceled) {
		t.Fatalf("read with a cancelled context: %v", err)
	}
	if _, err := s.Head(ctx); !errors.Is(err, context.Canceled) {
		t.Fatalf("head with a cancelled context: %v", err)
	}
	s.wantHead(10)
	s.fill(11, 11) // nothing was uncertain
	s.wantHead(11)
}
