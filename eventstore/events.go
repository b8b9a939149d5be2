package eventstore

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"sort"

	"tollbook/domain"
	"tollbook/eventstore/block"
)

// Events reads events by position, in ascending order, and calls each with them,
// as often as their position is named; one that is not in the book is passed
// over. Of the log it reads the blocks that hold them and, for calls, the
// symbols of the blocks before in their generation. Each block's checksum is
// compared; the chain was, when the book was opened. each may call Submit, but
// not Close.
//
// Errors: the first of each, as it is; that of ctx; ErrClosed; ErrCorrupt.
func (b *Book) Events(ctx context.Context, positions []uint64, each func(position uint64, e *domain.Event) error) error {
	b.mu.Lock()
	if b.closed {
		b.mu.Unlock()
		return ErrClosed
	}
	b.reads.Add(1)
	firsts, end := b.firsts, b.head.Events
	b.mu.Unlock()
	defer b.reads.Done()

	positions = slices.Sorted(slices.Values(positions))
	var symbols block.Symbols
	for len(positions) > 0 && positions[0] <= end {
		// The block of the first of them, and which others it holds.
		n := sort.Search(len(firsts), func(i int) bool { return firsts[i] > positions[0] })
		last := end
		if n < len(firsts) {
			last = firsts[n] - 1
		}
		count := sort.Search(len(positions), func(i int) bool { return positions[i] > last })
		wanted := positions[:count]
		positions = positions[count:]
		if n == 0 {
			continue // position 0 is no event's
		}
		if err := b.eventsOf(ctx, uint64(n), &symbols, wanted, each); err != nil {
			return err
		}
	}
	return nil
}

// Events is [Book.Events] for whoever only reads the book: it walks, and checks,
// all of it up to the last of the positions.
func (w Walk) Events(ctx context.Context, positions []uint64, each func(position uint64, e *domain.Event) error) error {
	if len(positions) == 0 {
		return nil
	}
	positions = slices.Sorted(slices.Values(positions))
	w.Until = positions[len(positions)-1]
	_, err := w.Run(ctx, func(b *block.Block, head Head, _ int) error {
		for ; len(positions) > 0 && positions[0] <= head.Events; positions = positions[1:] {
			if i := positions[0] - b.First; i < uint64(len(b.Events)) {
				if err := each(positions[0], &b.Events[i]); err != nil {
					return err
				}
			}
		}
		return nil
	})
	return err
}

// eventsOf reads the wanted events of block n. symbols are those of an earlier
// block's generation, or none.
func (b *Book) eventsOf(ctx context.Context, n uint64, symbols *block.Symbols, wanted []uint64, each func(uint64, *domain.Event) error) error {
	var r *block.Reader
	err := b.read(ctx, n, n, func(data []byte) (err error) {
		r, err = block.NewReader(bytes.Clone(data))
		return err
	})
	if err != nil {
		return err
	}
	found := make(map[uint64]*domain.Event, len(wanted))
	keep := func(position uint64, e domain.Event) {
		if _, ok := slices.BinarySearch(wanted, position); ok {
			found[position] = &e
		}
	}
	err = r.Rows(func(position uint64, e *domain.Event) error {
		keep(position, *e)
		return nil
	})
	if err == nil && len(found) < len(slices.Compact(slices.Clone(wanted))) {
		err = b.calls(ctx, r, n, symbols, keep)
	}
	if err != nil {
		return err
	}
	for _, position := range wanted {
		e := found[position]
		if e == nil {
			return fmt.Errorf("%w: block %d does not hold position %d", ErrCorrupt, n, position)
		}
		if err := each(position, e); err != nil {
			return err
		}
	}
	return nil
}

// calls reads the calls of block n, which r is of, and whatever symbols it needs.
func (b *Book) calls(ctx context.Context, r *block.Reader, n uint64, symbols *block.Symbols, keep func(uint64, domain.Event)) error {
	if symbols.From() != r.SymbolsFrom() {
		*symbols = b.symbolsOf(r.SymbolsFrom())
	}
	err := b.read(ctx, max(symbols.Next(), r.SymbolsFrom()), n, func(data []byte) error {
		before, err := block.NewReader(data)
		if err != nil {
			return err
		}
		return before.Load(symbols)
	})
	if err != nil {
		return err
	}
	b.keepSymbols(symbols)
	return r.Calls(symbols, block.AllFields, func(position uint64, e *domain.Event, c *domain.Call) error {
		event, call := *e, *c
		event.Data = &call
		keep(position, event)
		return nil
	})
}

// symbolsOf are those of a generation as far as they are known: all of the newest,
// and what was read last of another one. Reading them anew takes all blocks of the
// generation, small as most of them may be.
func (b *Book) symbolsOf(from uint64) block.Symbols {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, s := range []*block.Symbols{b.symbols, b.older} {
		if s != nil && s.From() == from {
			return *s.Clone()
		}
	}
	return block.Symbols{}
}

// keepSymbols keeps those of an older generation for the next one who reads there.
func (b *Book) keepSymbols(s *block.Symbols) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if s.From() != b.symbols.From() && (b.older == nil || b.older.From() != s.From() || b.older.Next() < s.Next()) {
		b.older = s.Clone()
	}
}

// read calls each with blocks from to to.
func (b *Book) read(ctx context.Context, from, to uint64, each func(data []byte) error) error {
	if from > to {
		return nil
	}
	err := b.log.Read(ctx, from, func(n uint64, data []byte) error {
		select {
		case <-b.closing:
			return ErrClosed
		default:
		}
		if err := each(data); err != nil {
			return fmt.Errorf("%w: block %d: %w", ErrCorrupt, n, err)
		}
		if n == to {
			return errEnough
		}
		return nil
	})
	if errors.Is(err, errEnough) {
		return nil
	}
	return err
}
