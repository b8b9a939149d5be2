package eventstore

import (
	"bytes"
	"context"
	"fmt"
	"runtime"

	"golang.org/x/sync/errgroup"

	"tollbook/domain"
	"tollbook/eventstore/block"
	"tollbook/eventstore/merkle"
)

// A Piece is a block read for rating: its calls by columns, all else as events.
type Piece struct {
	Head     Head // of the block
	First    uint64
	Size     int // bytes
	SealedAt domain.Instant
	Calls    *block.CallRows
	Others   []Positioned // in the order of the book

	// Of a block that a [Loader] is told of:
	Duplicates []block.Duplicates
}

// Positioned is an event and where it is.
type Positioned struct {
	Position uint64
	Event    domain.Event
}

// Each calls call and other with what the block has, in the order of the book.
func (p *Piece) Each(call func(*block.CallRow) error, other func(position uint64, e *domain.Event) error) error {
	others := p.Others
	before := func(position uint64) error {
		for len(others) > 0 && others[0].Position < position {
			if err := other(others[0].Position, &others[0].Event); err != nil {
				return err
			}
			others = others[1:]
		}
		return nil
	}
	err := p.Calls.Each(func(row *block.CallRow) error {
		if len(others) > 0 {
			if err := before(row.Position); err != nil {
				return err
			}
		}
		return call(row)
	})
	if err != nil {
		return err
	}
	return before(p.Head.Events + 1)
}

// reading a block goes through the hands of several goroutines.
type readAhead struct {
	n      uint64
	data   []byte
	hash   merkle.Hash
	reader *block.Reader
	ready  block.Ready
	piece  Piece
	err    error
	opened chan struct{} // hash and reader are there, or err
	read   chan struct{} // piece is, or err
}

// blocksAhead is how many blocks are read ahead for each core.
const blocksAhead = 4

// Pieces is [Walk.Run] for rating: it reads, hashes and decodes blocks on all cores
// while each takes them in order. Columns that rating does not need are not
// decoded; the chain of hashes covers them. Leaves is not looked at.
func (w Walk) Pieces(ctx context.Context, each func(*Piece) error) (Head, error) {
	cores := runtime.GOMAXPROCS(0)
	group, ctx := errgroup.WithContext(ctx)
	work := make(chan func(), blocksAhead*cores)
	inOrder := make(chan *readAhead, blocksAhead*cores)
	decoded := make(chan *readAhead, blocksAhead*cores)
	send := func(ch chan *readAhead, r *readAhead) error {
		select {
		case ch <- r:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	do := func(f func()) error {
		select {
		case work <- f:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	ended, end := context.WithCancel(ctx) // when every block is taken
	for range cores {
		group.Go(func() error {
			for {
				select {
				case f := <-work:
					f()
				case <-ended.Done():
					return nil
				}
			}
		})
	}
	reading, stop := context.WithCancel(ctx)
	defer stop()
	group.Go(func() error {
		defer close(inOrder)
		err := w.Log.Read(reading, 1, func(n uint64, data []byte) error {
			r := &readAhead{n: n, data: bytes.Clone(data), opened: make(chan struct{}), read: make(chan struct{})}
			select {
			case <-reading.Done():
				return errEnough
			case work <- r.open:
			}
			select {
			case <-reading.Done():
				return errEnough
			case inOrder <- r:
				return nil
			}
		})
		if reading.Err() != nil {
			return ctx.Err()
		}
		return err
	})
	var c chain
	group.Go(func() error {
		defer close(decoded)
		for r := range inOrder {
			select {
			case <-r.opened:
			case <-ctx.Done():
				return ctx.Err()
			}
			if err := c.follow(r); err != nil {
				return err
			}
			if err := w.Anchor.check(c.head); err != nil {
				return err
			}
			if err := do(r.decode); err != nil {
				return err
			}
			if err := send(decoded, r); err != nil {
				return err
			}
			if w.Until != 0 && c.head.Events >= w.Until {
				stop()
				return nil
			}
		}
		return nil
	})
	var head Head
	group.Go(func() error {
		defer end()
		for r := range decoded {
			select {
			case <-r.read:
			case <-ctx.Done():
				return ctx.Err()
			}
			if r.err != nil {
				return fmt.Errorf("%w: block %d: %w", ErrCorrupt, r.n, r.err)
			}
			head = r.piece.Head
			if err := each(&r.piece); err != nil {
				return err
			}
		}
		return nil
	})
	if err := group.Wait(); err != nil {
		return head, err
	}
	if w.Until != 0 && head.Events >= w.Until {
		return head, nil
	}
	return head, w.Anchor.reached(head)
}

// open hashes the block and reads what needs no other block.
func (r *readAhead) open() {
	defer close(r.opened)
	r.hash = block.Hash(r.data)
	r.reader, r.err = block.NewReader(r.data)
}

// decode reads the columns.
func (r *readAhead) decode() {
	defer close(r.read)
	r.columns(0)
	r.data = nil
}

// columns reads the piece, with fields beyond those that rating needs.
func (r *readAhead) columns(more block.Fields) {
	if r.piece.Calls, r.err = r.ready.CallRows(more); r.err != nil {
		return
	}
	r.err = r.reader.Rows(func(position uint64, e *domain.Event) error {
		r.piece.Others = append(r.piece.Others, Positioned{position, *e})
		return nil
	})
}

// follow checks that the block continues the chain, and gives it its symbols.
func (c *chain) follow(r *readAhead) error {
	corrupt := func(format string, args ...any) error {
		return fmt.Errorf("%w: block %d: %s", ErrCorrupt, r.n, fmt.Sprintf(format, args...))
	}
	if r.n != c.head.Block+1 {
		return corrupt("follows block %d; the blocks between are missing", c.head.Block)
	}
	if r.err != nil {
		return fmt.Errorf("%w: block %d: %w", ErrCorrupt, r.n, r.err)
	}
	h := r.reader.Header()
	switch {
	case h.Number != r.n:
		return corrupt("says it is block %d", h.Number)
	case h.Prev != c.head.Hash:
		return corrupt("continues a block with hash %s, but block %d has %s", h.Prev, c.head.Block, c.head.Hash)
	case h.First != c.head.Events+1:
		return corrupt("begins at position %d, but block %d ends at %d", h.First, c.head.Block, c.head.Events)
	}
	var err error
	if r.ready, err = r.reader.Ready(&c.symbols); err != nil {
		return fmt.Errorf("%w: block %d: %w", ErrCorrupt, r.n, err)
	}
	c.head = Head{Block: r.n, Hash: r.hash, Events: c.head.Events + uint64(h.Count)}
	r.piece = Piece{Head: c.head, First: h.First, Size: len(r.data), SealedAt: h.SealedAt}
	return nil
}
