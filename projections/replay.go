package projections

import (
	"context"
	"fmt"

	"tollbook/domain"
	"tollbook/eventstore"
	"tollbook/eventstore/block"
)

// Replay makes the statement of a month from the book alone, as of position
// until (0: the end of the book). The head it names is the block that holds that
// position. progress, if not nil, is told of every block: events and bytes so far.
func Replay(ctx context.Context, walk eventstore.Walk, tenant string, month domain.Month, until uint64, progress func(events, bytes uint64)) (Statement, error) {
	ledger := domain.NewLedger()
	walk.Until = until
	var bytes uint64
	head, err := walk.Run(ctx, func(b *block.Block, head eventstore.Head, size int) error {
		for i := range b.Events {
			if until != 0 && b.First+uint64(i) > until {
				break
			}
			if e := &b.Events[i]; e.Tenant == tenant || e.Tenant == domain.CatalogTenant {
				ledger.Add(e)
			}
		}
		bytes += uint64(size)
		if progress != nil {
			progress(head.Events, bytes)
		}
		return nil
	})
	if err != nil {
		return Statement{}, err
	}
	if until > head.Events {
		return Statement{}, fmt.Errorf("position %d is beyond the end of the book: it has %d events", until, head.Events)
	}
	if until != 0 {
		head.Events = until
	}
	return statement(ledger.Rating(tenant, month), head), nil
}
