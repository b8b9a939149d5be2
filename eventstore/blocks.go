package eventstore

import (
	"context"
	"errors"
	"fmt"

	"tollbook/eventstore/block"
)

// A ReadFunc calls each with the blocks from number from on, in order, as
// [Log.Read] does; a block is valid during the call only.
type ReadFunc = func(ctx context.Context, from uint64, each func(n uint64, data []byte) error) error

// Blocks is a [ReadFunc] of the book while it is written: it goes up to the head
// at the time of the call, and not to a block that nobody was told of.
//
// Errors: the first of each, as it is; that of ctx; ErrClosed; ErrCorrupt.
func (b *Book) Blocks(ctx context.Context, from uint64, each func(n uint64, data []byte) error) error {
	b.mu.Lock()
	if b.closed {
		b.mu.Unlock()
		return ErrClosed
	}
	end := b.head.Block
	b.reads.Add(1)
	b.mu.Unlock()
	defer b.reads.Done()
	if from > end {
		return nil
	}
	err := b.log.Read(ctx, from, func(n uint64, data []byte) error {
		select {
		case <-b.closing:
			return ErrClosed
		default:
		}
		if n > end {
			return errEnough
		}
		return each(n, data)
	})
	if errors.Is(err, errEnough) {
		return nil
	}
	return err
}

// HeadAt is how far a book goes up to and including block n, by that block
// alone; false where it has no such block.
func HeadAt(ctx context.Context, read ReadFunc, n uint64) (head Head, ok bool, err error) {
	if n == 0 {
		return Head{}, true, nil
	}
	err = read(ctx, n, func(n uint64, data []byte) error {
		header, err := block.DecodeHeader(data)
		if err != nil {
			return fmt.Errorf("%w: block %d: %w", ErrCorrupt, n, err)
		}
		head, ok = Head{Block: n, Hash: block.Hash(data), Events: header.First - 1 + uint64(header.Count)}, true
		return errEnough
	})
	if errors.Is(err, errEnough) {
		err = nil
	}
	return head, ok, err
}
