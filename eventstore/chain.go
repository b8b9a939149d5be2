package eventstore

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"

	"tollbook/domain"
	"tollbook/domain/cloudevents"
	"tollbook/eventstore/block"
	"tollbook/eventstore/merkle"
)

// A Head says how far a book goes: its last block, that block's hash, and how
// many events there are up to and including it.
type Head struct {
	Block  uint64
	Hash   merkle.Hash
	Events uint64
}

// String is the hash as documents print it.
func (h Head) String() string { return "sha256:" + hex.EncodeToString(h.Hash[:]) }

// A chain follows the blocks of a log one by one and checks that each continues
// the one before.
type chain struct {
	head    Head
	tree    merkle.Tree
	chunks  []merkle.Hash // roots of the tree's full chunks, if all leaves were checked
	symbols block.Symbols
}

// next checks and decodes block n. With leaves it also checks the Merkle tree
// against the events themselves and returns their leaf hashes; without, the
// tree is taken from the header, which the chain of hashes protects.
func (c *chain) next(n uint64, data []byte, leaves bool) (*block.Block, []merkle.Hash, error) {
	corrupt := func(format string, args ...any) error {
		return fmt.Errorf("%w: block %d: %s", ErrCorrupt, n, fmt.Sprintf(format, args...))
	}
	if n != c.head.Block+1 {
		return nil, nil, corrupt("follows block %d; the blocks between are missing", c.head.Block)
	}
	b, err := block.Decode(data, &c.symbols)
	if err != nil {
		return nil, nil, fmt.Errorf("%w: block %d: %w", ErrCorrupt, n, err)
	}
	switch {
	case b.Number != n:
		return nil, nil, corrupt("says it is block %d", b.Number)
	case b.Prev != c.head.Hash:
		return nil, nil, corrupt("continues a block with hash %s, but block %d has %s", b.Prev, c.head.Block, c.head.Hash)
	case b.First != c.head.Events+1:
		return nil, nil, corrupt("begins at position %d, but block %d ends at %d", b.First, c.head.Block, c.head.Events)
	}
	var hashes []merkle.Hash
	if leaves {
		hashes = make([]merkle.Hash, len(b.Events))
		var canonical []byte
		for i := range b.Events {
			canonical = cloudevents.Append(canonical[:0], &b.Events[i])
			hashes[i] = merkle.Leaf(canonical)
			c.chunks = merkle.AppendChunk(c.chunks, &c.tree, hashes[i])
			c.tree.Append(hashes[i])
		}
		for i, peak := range c.tree.Peaks {
			if peak != b.Tree[i] {
				return nil, nil, corrupt("its events do not make the Merkle tree it names")
			}
		}
	} else {
		c.tree.Size = b.First - 1 + uint64(len(b.Events))
		c.tree.Peaks = append(c.tree.Peaks[:0], b.Tree...)
	}
	c.head = Head{Block: n, Hash: block.Hash(data), Events: c.head.Events + uint64(len(b.Events))}
	return b, hashes, nil
}

// A Reader is the part of a [Log] that a walk needs.
type Reader interface {
	Read(ctx context.Context, from uint64, each func(n uint64, block []byte) error) error
	Head(ctx context.Context) (uint64, error)
}

// Walk walks the book while it is written, up to where it is now.
func (b *Book) Walk() Walk { return Walk{Log: reading{b}} }

// reading is a book as a Reader.
type reading struct{ book *Book }

func (r reading) Read(ctx context.Context, from uint64, each func(n uint64, block []byte) error) error {
	return r.book.Blocks(ctx, from, each)
}

func (r reading) Head(context.Context) (uint64, error) { return r.book.Head().Block, nil }

// A Walk reads a log from its first block on.
type Walk struct {
	Log    Reader
	Anchor *Anchor // what the book must reach; nil: not compared
	Leaves bool    // check every event against the Merkle tree, not only the blocks against the chain
	Until  uint64  // stop after the block that holds this position; 0: at the end
}

var errEnough = errors.New("enough")

// Run calls each with every block in order, once it is known to continue the one
// before, and returns how far it went. It returns ErrCorrupt, naming the block,
// as soon as one does not, or if the book ends before the anchor.
func (w Walk) Run(ctx context.Context, each func(b *block.Block, head Head, size int) error) (Head, error) {
	var c chain
	err := w.run(ctx, &c, func(b *block.Block, _ []merkle.Hash, size int) error { return each(b, c.head, size) })
	return c.head, err
}

func (w Walk) run(ctx context.Context, c *chain, each func(b *block.Block, leaves []merkle.Hash, size int) error) error {
	err := w.Log.Read(ctx, c.head.Block+1, func(n uint64, data []byte) error {
		b, leaves, err := c.next(n, data, w.Leaves)
		if err != nil {
			return err
		}
		if err := w.Anchor.check(c.head); err != nil {
			return err
		}
		if err := each(b, leaves, len(data)); err != nil {
			return err
		}
		if w.Until != 0 && c.head.Events >= w.Until {
			return errEnough
		}
		return nil
	})
	if errors.Is(err, errEnough) {
		return nil
	}
	if err != nil {
		return err
	}
	return w.Anchor.reached(c.head)
}

// PositionAt is the position up to which the book was known at t: that of the last
// block before the first that was sealed later. Block times are the engine's own.
// 0: nothing was.
func (w Walk) PositionAt(ctx context.Context, t domain.Instant) (position uint64, err error) {
	err = w.Log.Read(ctx, 1, func(n uint64, data []byte) error {
		header, err := block.DecodeHeader(data)
		if err != nil {
			return fmt.Errorf("%w: block %d: %w", ErrCorrupt, n, err)
		}
		if header.SealedAt > t {
			return errEnough
		}
		position = header.First - 1 + uint64(header.Count)
		return nil
	})
	if errors.Is(err, errEnough) {
		err = nil
	}
	return position, err
}

// instant is a clock as the book uses it.
type instant = func() domain.Instant
