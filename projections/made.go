package projections

import (
	"context"
	"fmt"

	"tollbook/domain"
	"tollbook/eventstore"
	"tollbook/eventstore/block"
)

// Made is what makes a line of a document.
type Made struct {
	Calls int64      `json:"calls,omitzero"` // of a line: how many
	First []MadeCall `json:"first,omitzero"` // of them, by R7's order
	See   string     `json:"see,omitzero"`   // of an adjustment: the command that lists them
}

// A MadeCall is a call of a line, with where the events about it are.
type MadeCall struct {
	LineCall
	Positions []uint64 `json:"positions"`
}

// How much is shown of a document that does not hold.
const (
	madeLines = 20 // so many lines are taken apart
	madeCalls = 5  // into so many calls each
)

// find finds what makes the lines that were issued otherwise. ledger has the events
// of walk that the issue was made of.
func (i *Issue) find(ctx context.Context, walk eventstore.Walk, ledger *domain.Ledger, tenant string, month domain.Month) error {
	differs := map[string]bool{}
	for _, d := range i.Differences() {
		differs[d.Where] = true
	}
	i.made = map[string]Made{}
	calls := map[domain.Ref]*MadeCall{}
	for _, invoice := range ledger.Draft(tenant, month).Invoices {
		name := whereInvoice(invoice.Country, invoice.Plan, string(invoice.Currency))
		for _, l := range invoice.Lines {
			where := whereLine(name, line(l))
			if !differs[where] || len(i.made) == madeLines {
				continue
			}
			shares, _ := ledger.LineCalls(tenant, month, invoice.Country, invoice.Plan, l.Line, nil, madeCalls)
			m := Made{Calls: l.Calls, First: make([]MadeCall, len(shares))}
			for n := range shares {
				m.First[n] = MadeCall{LineCall: lineCall(&shares[n]), Positions: []uint64{}}
				calls[shares[n].Ref] = &m.First[n]
			}
			i.made[where] = m
		}
		for _, a := range invoice.Adjustments {
			where := whereAdjustment(name, Adjustment{a.Month.String(), line(a.InvoiceLine)})
			if closed := ledger.Closings(tenant); differs[where] {
				since := closed[len(closed)-1].Position
				i.made[where] = Made{See: fmt.Sprintf("tollbook diff --data DIR --tenant %s --month %s --at %d --at %d", tenant, a.Month, since, i.Replayed.Position)}
			}
		}
	}
	if len(calls) == 0 {
		return nil
	}
	walk.Until = i.Replayed.Position
	_, err := walk.Run(ctx, func(b *block.Block, _ eventstore.Head, _ int) error {
		for n := range b.Events {
			position := b.First + uint64(n)
			ref, ok := callOf(&b.Events[n])
			if c := calls[ref]; ok && c != nil && b.Events[n].Tenant == tenant && position <= i.Replayed.Position && len(c.Positions) < maxAbout {
				c.Positions = append(c.Positions, position)
			}
		}
		return nil
	})
	return err
}

func lineCall(s *domain.Share) LineCall {
	return LineCall{
		Ref: Ref(s.Ref), At: s.At.String(), User: s.User, Called: s.Called.String(),
		Billed: s.Billed, Overage: s.Over, Outside: s.Outside, Exact: s.Exact.RatString(),
	}
}

// callOf is the call that an event is about: it reports, corrects or voids it.
func callOf(e *domain.Event) (domain.Ref, bool) {
	if _, ok := e.Data.(*domain.Call); ok {
		return domain.Ref{Source: e.Source, ID: e.ID}, true
	}
	return amends(e)
}
