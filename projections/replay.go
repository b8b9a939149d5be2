package projections

import (
	"cmp"
	"context"
	"errors"
	"fmt"

	"tollbook/domain"
	"tollbook/eventstore"
	"tollbook/eventstore/block"
)

// Replay makes the statement of a month from the book alone. until is the
// position as of which; 0: for a closed month the one it was closed at, for any
// other the end of the book. A month as of the position it was closed at is the
// issued document (R13). The head a statement names is the block that holds its
// position. progress, if not nil, is told of every block: events and bytes so far.
func Replay(ctx context.Context, walk eventstore.Walk, tenant string, month domain.Month, until uint64, progress func(events, bytes uint64)) (Statement, error) {
	r := replay{ledger: domain.NewLedger(), tenant: tenant, month: month, until: until}
	if err := r.run(ctx, walk, progress); err != nil {
		return Statement{}, err
	}
	if r.closed != nil && (until == 0 || until == r.closed.Replayed.Position) {
		return r.closed.Replayed, nil
	}
	return statement(r.ledger.Draft(tenant, month), r.head), nil
}

// Check makes a month's issued document again from the book alone. The error of
// an Issue that no longer is what it was is its own, by [Issue.Check]; the book is
// then read once more, for what makes its lines.
func Check(ctx context.Context, walk eventstore.Walk, tenant string, month domain.Month, progress func(events, bytes uint64)) (Issue, error) {
	r := replay{ledger: domain.NewLedger(), tenant: tenant, month: month}
	if err := r.run(ctx, walk, progress); err != nil {
		return Issue{}, err
	}
	if r.closed == nil {
		return Issue{}, fmt.Errorf("month %s of %s is not closed: there is no issued document to check", month, tenant)
	}
	if r.closed.Check() == nil {
		return *r.closed, nil
	}
	return *r.closed, r.closed.find(ctx, walk, r.ledger, tenant, month)
}

// Fold makes the view of a tenant's months as of a position; 0: the end of the
// book. A month that was closed there is as it was issued.
func Fold(ctx context.Context, walk eventstore.Walk, tenant string, until uint64, progress func(events uint64)) (*View, error) {
	v := &View{Ledger: domain.NewLedger()}
	if until != 0 {
		walk.Until = until + 1 // which may say that a month was closed there
	}
	_, err := walk.Run(ctx, func(b *block.Block, head eventstore.Head, _ int) error {
		if progress != nil {
			progress(head.Events)
		}
		for i := range b.Events {
			e, position := &b.Events[i], b.First+uint64(i)
			if until != 0 && position > until {
				if closed, ok := e.Data.(*domain.MonthClosed); ok && e.Tenant == tenant {
					v.closed = closed
				}
				return nil
			}
			if e.Tenant == tenant || e.Tenant == domain.CatalogTenant {
				v.Ledger.Add(e)
			}
			v.Head = eventstore.Head{Block: head.Block, Hash: head.Hash, Events: position}
		}
		return nil
	})
	if err == nil && until > v.Head.Events {
		err = BeyondEnd(until, v.Head.Events)
	}
	if err != nil {
		return nil, err
	}
	return v, nil
}

// BeyondEnd is the error about a position that a book does not have.
func BeyondEnd(position, events uint64) error {
	return fmt.Errorf("position %d is beyond the end of the book: it has %d events", position, events)
}

// A replay is the fold of one tenant's events.
type replay struct {
	ledger *domain.Ledger
	tenant string
	month  domain.Month
	until  uint64

	head   eventstore.Head // of the last event taken
	closed *Issue          // the month's
}

// errReplayed ends a walk that has all it needs.
var errReplayed = errors.New("replayed")

func (r *replay) run(ctx context.Context, walk eventstore.Walk, progress func(events, bytes uint64)) error {
	if r.until != 0 {
		// One event more: it may say that the month was closed there.
		walk.Until = r.until + 1
	}
	r.ledger.Run = inParallel
	feed := newFeed(r.ledger, r.tenant)
	var size uint64
	_, err := walk.Pieces(ctx, func(p *eventstore.Piece) error {
		size += uint64(p.Size)
		if progress != nil {
			progress(p.Head.Events, size)
		}
		return r.take(p, feed)
	})
	if err == nil && r.until > r.head.Events {
		err = BeyondEnd(r.until, r.head.Events)
	}
	return err
}

func (r *replay) take(p *eventstore.Piece, feed *feed) error {
	if r.closed != nil && r.until == 0 {
		return nil // what comes later is no part of the document; the walk goes on for the chain
	}
	feed.begin(p.Calls)
	before := r.head
	// The hash is that of the block that holds the position, whichever of its events that is.
	at := func(position uint64) eventstore.Head {
		if position < p.First {
			return before
		}
		return eventstore.Head{Block: p.Head.Block, Hash: p.Head.Hash, Events: position}
	}
	last := min(p.Head.Events, cmp.Or(r.until, p.Head.Events))
	err := p.Each(func(row *block.CallRow) error {
		if row.Position > last {
			return errReplayed
		}
		feed.add(row)
		return nil
	}, func(position uint64, e *domain.Event) error {
		if closed, ok := e.Data.(*domain.MonthClosed); ok && e.Tenant == r.tenant && closed.Month == r.month && r.closed == nil {
			issue, err := issued(r.ledger, r.tenant, closed, at(position-1))
			if err != nil {
				return err
			}
			issue.BookedAt = position
			r.closed = &issue
			if r.until == 0 {
				last = position - 1
				return errReplayed
			}
		}
		if position > last {
			return errReplayed
		}
		if e.Tenant == r.tenant || e.Tenant == domain.CatalogTenant {
			r.ledger.Add(e)
		}
		return nil
	})
	if errors.Is(err, errReplayed) {
		err = nil
	}
	r.head = at(last)
	return err
}
