// Package memlog is a log in memory, for tests of what is built on one.
//
// The model: blocks live in a store that several Logs may share, as processes
// share a file; a Log polices how its caller uses it and fails the test when the
// contract of [eventstore.Log] is broken, and fails appends when it is told to.
// Nothing is durable. logtest.Run shows that it keeps the contract itself.
package memlog

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"

	"tollbook/eventstore"
)

// TB is what a Log needs of a test: *testing.T and *rapid.T have it.
type TB interface {
	Helper()
	Errorf(format string, args ...any)
}

// poison fills a block once its reader may not look at it any more.
const poison = 0xdb

// keptBlocks is how many poisoned blocks a Log keeps, to see whether somebody
// writes to them.
const keptBlocks = 256

// A store is the blocks, whichever Log they came through.
type store struct {
	mu     sync.Mutex
	blocks [][]byte        // block n at n−1; nil: missing
	faults map[uint64]bool // appends of these blocks fail; true: but happen
}

// A Log is an eventstore.Log. It fails the test when its caller appends after
// ErrUncertain, changes a block during its Append, changes a block it was given
// or writes to it later, uses or closes the Log after Close, or closes it while
// somebody reads. A caller that keeps a block beyond its turn finds it full of
// 0xDB.
type Log struct {
	// Before, if not nil, is called by each Append before it does anything, and
	// may wait. Set it before the Log is used.
	Before func(n uint64)

	t     TB
	store *store

	mu        sync.Mutex
	closed    bool
	reads     int
	uncertain error
	given     [][]byte // poisoned since
}

var _ eventstore.Log = (*Log)(nil)

// New returns an empty log that reports to t.
func New(t TB) *Log { return Of(t) }

// Of returns a log of these blocks, which it copies; a nil one is missing.
func Of(t TB, blocks ...[]byte) *Log {
	return &Log{t: t, store: &store{blocks: copies(blocks), faults: map[uint64]bool{}}}
}

// Reopen returns a new Log over the same blocks, as another process would have
// it. l may be closed or not, and may still append: then the two are writers
// that do not know of each other.
func (l *Log) Reopen() *Log { return &Log{t: l.t, store: l.store} }

// FailAppend makes the next append of block n, through any Log of these blocks,
// fail with ErrUncertain. persisted: the block is there nevertheless.
func (l *Log) FailAppend(n uint64, persisted bool) {
	l.store.mu.Lock()
	defer l.store.mu.Unlock()
	l.store.faults[n] = persisted
}

// Blocks returns copies of all blocks.
func (l *Log) Blocks() [][]byte {
	l.store.mu.Lock()
	defer l.store.mu.Unlock()
	return copies(l.store.blocks)
}

func copies(blocks [][]byte) [][]byte {
	blocks = slices.Clone(blocks)
	for i, block := range blocks {
		blocks[i] = bytes.Clone(block)
	}
	return blocks
}

// begin is the part of all methods that polices Close.
func (l *Log) begin(ctx context.Context, what string) error {
	l.t.Helper()
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		l.t.Errorf("memlog: %s after Close", what)
		return fmt.Errorf("memlog: %s after Close", what)
	}
	return ctx.Err()
}

// Append implements eventstore.Log.
func (l *Log) Append(ctx context.Context, n uint64, block []byte) error {
	l.t.Helper()
	if err := l.begin(ctx, "Append"); err != nil {
		return err
	}
	l.mu.Lock()
	uncertain := l.uncertain
	l.mu.Unlock()
	if uncertain != nil {
		l.t.Errorf("memlog: Append of block %d after ErrUncertain", n)
		return uncertain
	}
	if len(block) == 0 || len(block) > eventstore.MaxBlockBytes {
		return fmt.Errorf("%w: block %d has %d bytes", eventstore.ErrTooLarge, n, len(block))
	}
	kept := bytes.Clone(block)
	if l.Before != nil {
		l.Before(n)
	}
	err := l.store.append(n, kept)
	if !bytes.Equal(block, kept) {
		l.t.Errorf("memlog: block %d was changed while it was appended", n)
	}
	if err == errFault {
		err = fmt.Errorf("%w: block %d: %w", eventstore.ErrUncertain, n, err)
		l.mu.Lock()
		l.uncertain = err
		l.mu.Unlock()
	}
	return err
}

var errFault = errors.New("memlog was told to fail")

func (s *store) append(n uint64, block []byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if n != uint64(len(s.blocks))+1 {
		return fmt.Errorf("%w: block %d is not the next one", eventstore.ErrConflict, n)
	}
	persisted, fails := s.faults[n]
	delete(s.faults, n)
	if !fails || persisted {
		s.blocks = append(s.blocks, block)
	}
	if fails {
		return errFault
	}
	return nil
}

// Read implements eventstore.Log.
func (l *Log) Read(ctx context.Context, from uint64, each func(n uint64, block []byte) error) error {
	l.t.Helper()
	if err := l.begin(ctx, "Read"); err != nil {
		return err
	}
	l.mu.Lock()
	l.reads++
	l.mu.Unlock()
	defer func() {
		l.mu.Lock()
		l.reads--
		l.mu.Unlock()
	}()
	l.store.mu.Lock()
	blocks := l.store.blocks // appended to, never changed
	l.store.mu.Unlock()
	for n := max(from, 1); n <= uint64(len(blocks)); n++ {
		if err := ctx.Err(); err != nil {
			return err
		}
		block := blocks[n-1]
		if block == nil {
			return fmt.Errorf("%w: block %d is missing", eventstore.ErrCorrupt, n)
		}
		if err := l.give(n, block, each); err != nil {
			return err
		}
	}
	return nil
}

func (l *Log) give(n uint64, block []byte, each func(n uint64, block []byte) error) error {
	l.t.Helper()
	given := bytes.Clone(block)
	err := each(n, given)
	if !bytes.Equal(given, block) {
		l.t.Errorf("memlog: block %d was changed by who read it", n)
	}
	copy(given, bytes.Repeat([]byte{poison}, len(given)))
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.given) == keptBlocks {
		l.checkGiven(l.given[:1])
		l.given = slices.Delete(l.given, 0, 1)
	}
	l.given = append(l.given, given)
	return err
}

func (l *Log) checkGiven(given [][]byte) {
	l.t.Helper()
	for _, block := range given {
		if bytes.Count(block, []byte{poison}) != len(block) {
			l.t.Errorf("memlog: a block was written to after its turn")
		}
	}
}

// Head implements eventstore.Log.
func (l *Log) Head(ctx context.Context) (uint64, error) {
	l.t.Helper()
	if err := l.begin(ctx, "Head"); err != nil {
		return 0, err
	}
	l.store.mu.Lock()
	defer l.store.mu.Unlock()
	return uint64(len(l.store.blocks)), nil
}

// Close implements eventstore.Log.
func (l *Log) Close() error {
	l.t.Helper()
	if err := l.begin(context.Background(), "Close"); err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.closed = true
	if l.reads > 0 {
		l.t.Errorf("memlog: Close while somebody reads")
	}
	l.checkGiven(l.given)
	return nil
}
