package eventstore_test

import (
	"os"
	"testing"
	"time"

	"pgregory.net/rapid"

	"tollbook/domain"
	"tollbook/eventstore"
	"tollbook/eventstore/block"
	"tollbook/eventstore/memlog"
)

// TestPositionAt compares the position up to which a book was known at a time with
// the blocks themselves, also of a clock that is set back: what was sealed after
// a later block is not known before it.
func TestPositionAt(t *testing.T) {
	base := t.TempDir()
	rapid.Check(t, func(t *rapid.T) {
		dir, err := os.MkdirTemp(base, "book")
		if err != nil {
			t.Fatal(err)
		}
		now := started
		s := &shelf{t: t, dir: dir, log: memlog.New(t), clock: func() domain.Instant { return now }}
		s.open()
		next := 1
		for range rapid.IntRange(0, 8).Draw(t, "blocks") {
			now += domain.Instant(rapid.IntRange(-2, 3).Draw(t, "nanoseconds"))
			n := rapid.IntRange(1, 3).Draw(t, "events")
			s.submit(calls(next, next+n-1))
			next += n
		}
		s.close()

		type sealed struct {
			at     domain.Instant
			events uint64
		}
		var blocks []sealed
		walk := eventstore.Walk{Log: s.log.Reopen()}
		if _, err := walk.Run(ctx, func(b *block.Block, head eventstore.Head, _ int) error {
			blocks = append(blocks, sealed{b.SealedAt, head.Events})
			return nil
		}); err != nil {
			t.Fatal(err)
		}
		for at := started - 20; at <= started+30; at++ {
			want := uint64(0)
			for _, b := range blocks {
				if b.at > at {
					break
				}
				want = b.events
			}
			got, err := eventstore.Walk{Log: s.log.Reopen()}.PositionAt(ctx, at)
			if err != nil || got != want {
				t.Fatalf("at %d ns: position %d, %v; want %d of %v", at-started, got, err, want, blocks)
			}
		}
	})
}

// A damaged block is no end of what was known.
func TestPositionAtDamage(t *testing.T) {
	s := filled(t)
	blocks := s.log.Blocks()
	blocks[2][32] ^= 0x80 // sealed_at, by docs/FORMAT.md
	_, err := eventstore.Walk{Log: memlog.Of(t, blocks...)}.PositionAt(ctx, domain.InstantOf(time.Date(2100, 1, 1, 0, 0, 0, 0, time.UTC)))
	wantError(t, err, eventstore.ErrCorrupt, "block 3")
}
