package projections

import (
	"context"

	"tollbook/domain"
	"tollbook/eventstore"
)

// A Stand is a tenant's month with all that makes it: what [Replay] folds, before
// it is made into a statement. Its ledger is the caller's own, so that it may be
// asked what other events would make of the month.
type Stand struct {
	Ledger *domain.Ledger
	Head   eventstore.Head // of the last event taken

	tenant string
	month  domain.Month
	issued bool // the month was closed at Head
}

// StandOf folds the book as [Replay] does, with the same until and progress. A
// closed month whose events no longer make its document is an error: nothing can
// be compared with it.
func StandOf(ctx context.Context, walk eventstore.Walk, tenant string, month domain.Month, until uint64, progress func(events, bytes uint64)) (*Stand, error) {
	r := replay{ledger: domain.NewLedger(), tenant: tenant, month: month, until: until}
	if err := r.run(ctx, walk, progress); err != nil {
		return nil, err
	}
	s := &Stand{Ledger: r.ledger, Head: r.head, tenant: tenant, month: month}
	if s.issued = r.closed != nil && (until == 0 || until == r.closed.Replayed.Position); s.issued {
		return s, r.closed.Check()
	}
	return s, nil
}

// Statement is what the ledger makes of the month now: before anything is added
// to it, what [Replay] says, byte for byte.
func (s *Stand) Statement() (Statement, error) {
	if !s.issued {
		return statement(s.Ledger.Draft(s.tenant, s.month), s.Head), nil
	}
	i, err := issue(s.Ledger, s.tenant, s.month, s.Head)
	return i.Replayed, err
}

// Rated is another month of the tenant as the ledger rates it now, without
// adjustments of others.
func (s *Stand) Rated(month domain.Month) Statement {
	return statement(s.Ledger.Rating(s.tenant, month), s.Head)
}

// Compare says what two statements of a month have different: the totals, lines,
// pools and exceptions of a [DiffDocument].
func Compare(was, now *Statement) DiffDocument {
	d := DiffDocument{Totals: []TotalChange{}, Lines: []LineChange{}, Pools: []PoolChange{}, Exceptions: []ExceptionChange{}}
	d.compare(was, now)
	return d
}
