package eventstore

import (
	"context"
	"fmt"

	"tollbook/domain"
	"tollbook/domain/cloudevents"
	"tollbook/eventstore/merkle"
)

// A Turn is a moment in which the book stands still: all that is booked is
// durable and known to the followers, and nothing else is booked until it ends.
// So what is decided in it by what the book knows is still right when it is booked.
type Turn struct {
	pending *pending
	failed  error
}

// Act calls decide in a turn of its own and books what it books together: all of
// it, in one block, or, where decide returns an error, none. That error is
// returned as it is. decide should be quick, as nobody else is booked meanwhile,
// and must not call Submit, Act or Close.
//
// Other errors are those of [Book.Submit]; after that of ctx it is open whether
// decide was or will be called.
func (b *Book) Act(ctx context.Context, decide func(*Turn) error) error {
	s := &submission{done: make(chan struct{}), decide: func(t *Turn) error {
		if err := ctx.Err(); err != nil {
			return err
		}
		return decide(t)
	}}
	_, err := b.submit(ctx, s)
	return err
}

// act is the committer's part of Act. The error is the book's; the caller's own
// is in s.
func (b *Book) act(s *submission) error {
	t := &Turn{pending: newPending(b)}
	if s.err = s.decide(t); s.err == nil {
		s.err = t.failed
	}
	if t.pending.failed != nil {
		s.err = t.pending.failed
		return s.err
	}
	if s.err != nil {
		return nil
	}
	s.err = t.pending.seal()
	return s.err
}

// Head is how far the book goes before what is booked in the turn.
func (t *Turn) Head() Head { return t.pending.book.chain.head }

// Look says whether an event of this identity is booked, at which position, and
// whether it is the same.
func (t *Turn) Look(e *domain.Event) (position uint64, same, known bool) {
	entry, known := t.pending.lookup(identityOf(e))
	if !known {
		return 0, false, false
	}
	leaf := merkle.Leaf(cloudevents.Append(nil, e))
	return entry.Position, entry.Digest == [16]byte(leaf[:16]), true
}

// Known reports whether an event of this identity is booked.
func (t *Turn) Known(e *domain.Event) bool {
	_, known := t.pending.lookup(identityOf(e))
	return known
}

// Book books an event, or counts it as a duplicate, and returns which and its
// position. Nothing is suspended: an event that conflicts with a booked one, or
// that the book cannot hold, makes Act fail; Look beforehand.
func (t *Turn) Book(e domain.Event) Result {
	canonical := cloudevents.Append(nil, &e)
	key, leaf := identityOf(&e), merkle.Leaf(canonical)
	p := t.pending
	switch err := keepable(&e, canonical); {
	case t.failed != nil:
		return Result{}
	case err != nil:
		t.failed = fmt.Errorf("event %s %s can't be booked: %w", e.Source, e.ID, err)
		return Result{}
	case len(p.events) == maxBlockEvents || p.text+len(canonical) > maxEventText:
		t.failed = fmt.Errorf("%w: what is to be booked together fits no block (%d events, %d bytes): do less at once", ErrTooLarge, len(p.events)+1, p.text+len(canonical))
		return Result{}
	}
	known, twice := p.lookup(key)
	if twice && known.Digest != [16]byte(leaf[:16]) {
		t.failed = fmt.Errorf("source %s id %s is booked at position %d with other content", e.Source, e.ID, known.Position)
		return Result{}
	}
	return p.decide(&Record{Event: e}, key, leaf, len(canonical), known, twice)
}
