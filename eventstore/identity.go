package eventstore

import (
	"context"
	"errors"
	"fmt"
	"math"
	"path/filepath"

	"tollbook/domain"
	"tollbook/eventstore/block"
	"tollbook/eventstore/index"
)

// IndexPath is where a data directory has the index of its events' identities. It
// is made of the book, and may be deleted at any time.
func IndexPath(dir string) string { return filepath.Join(dir, "index") }

// notSearched is no position that an index covers.
const notSearched = math.MaxUint64

func (b *Book) warn(err error) { b.notes.Warn(err.Error()) }

// reach drops of the index what is not of the log, and returns the block that it
// goes up to: the events up to there were checked when they were added to it.
func (b *Book) reach(ctx context.Context) (block uint64, err error) {
	head, chunks := b.index.Reach(func(h index.Head) bool {
		at, ok, failed := HeadAt(ctx, b.log.Read, h.Block)
		if failed != nil && !errors.Is(failed, ErrCorrupt) { // reading all will say where that is
			err = failed
		}
		return ok && at == Head(h)
	})
	b.chain.chunks = chunks
	return head.Block, err
}

// search looks in the caller's goroutine for what s has. The committer asks for
// what was added to the index since.
func (b *Book) search(s *submission) {
	s.found = make([]index.Entry, len(s.keys))
	var err error
	if s.cover, err = b.index.Search(s.keys, s.found); err != nil {
		s.cover = notSearched // the committer sees to it
	}
}

// known is what the index has of a key. searched says what it said when it
// covered the book up to position cover.
func (b *Book) known(key *index.Key, searched index.Entry, cover uint64) (index.Entry, bool, error) {
	if searched.Position != 0 {
		return searched, true, nil // for ever
	}
	if e, ok := b.index.Recent(key); ok {
		return e, true, nil
	}
	if cover == b.index.Cover() && !b.index.Broken() {
		return index.Entry{}, false, nil
	}
	return b.mend(key)
}

// mend looks a key up, and has the index made again where it is damaged.
func (b *Book) mend(key *index.Key) (index.Entry, bool, error) {
	err := error(index.ErrDamaged)
	if !b.index.Broken() {
		var e index.Entry
		var ok bool
		if e, ok, err = b.index.Find(key); err == nil {
			return e, ok, nil
		}
	}
	if err := b.reindex(context.Background(), err); err != nil {
		return index.Entry{}, false, err
	}
	return b.index.Find(key)
}

// reindex makes the index again from the log, up to the chain's head, because of
// damage. Nothing is booked meanwhile.
func (b *Book) reindex(ctx context.Context, damage error) error {
	b.notes.Warn("the index is made again from the book", "because", damage.Error(), "events", b.chain.head.Events)
	b.indexed.Lock()
	defer b.indexed.Unlock()
	b.index.Reset()
	if b.chain.head.Block == 0 {
		return nil
	}
	var c chain
	l := loader{log: b.log, until: b.chain.head.Block, leaves: 1, index: b.index}
	b.index.Fill()
	err := l.run(ctx, &c, func(blk *loaded) error { return blk.enter(b.index) })
	if err == nil {
		err = b.unite()
	}
	return b.twice(ctx, err)
}

// unite ends the filling of the index, and sees that no identity is there twice.
// Where the disk does not let it see that, the answers are right all the same.
func (b *Book) unite() error {
	err := b.index.Unite()
	if _, ok := errors.AsType[*index.TwiceError](err); !ok && err != nil {
		b.warn(fmt.Errorf("index: %w", err))
		return nil
	}
	return err
}

// twice says more of an identity that the log has twice. Other errors stay as they are.
func (b *Book) twice(ctx context.Context, err error) error {
	twice, ok := errors.AsType[*index.TwiceError](err)
	if !ok {
		return err
	}
	var at uint64
	var event domain.Event
	_, failed := Walk{Log: b.log, Until: twice.Second}.Run(ctx, func(blk *block.Block, _ Head, _ int) error {
		if i := twice.Second - blk.First; i < uint64(len(blk.Events)) {
			at, event = blk.Number, blk.Events[i]
		}
		return nil
	})
	if failed != nil {
		return failed
	}
	return fmt.Errorf("%w: block %d: %w (%s %s %s)", ErrCorrupt, at, twice, event.Tenant, event.Source, event.ID)
}
