package whatif

import (
	"bytes"
	"context"
	"maps"
	"slices"

	"tollbook/domain"
	"tollbook/eventstore"
	"tollbook/projections"
)

// A Document says what a month would have been, against what it is.
type Document struct {
	Tenant   string   `json:"tenant"`
	Month    string   `json:"month"`
	Status   string   `json:"status"` // of the actual month: draft or issued
	Number   *string  `json:"number"`
	Position uint64   `json:"position"`
	Head     string   `json:"head"`
	Changes  []string `json:"changes"` // what the scenario has otherwise, a line each
	// Nothing of the month is otherwise: its statement is the same, byte for byte.
	Unchanged bool `json:"unchanged"`

	Totals     []Total                       `json:"totals"` // by currency
	Licences   []Licences                    `json:"licences"`
	Invoices   []projections.TotalChange     `json:"invoices"` // this and what follows: only what differs
	Lines      []projections.LineChange      `json:"lines"`
	Pools      []projections.PoolChange      `json:"pools"`
	Exceptions []projections.ExceptionChange `json:"exceptions"`
	Before     projections.Counts            `json:"counts_before"`
	After      projections.Counts            `json:"counts_after"`

	Statement *projections.Statement `json:"statement,omitzero"` // the month as it would be, if asked for
}

// Licences are how many of a plan and country have to be bought for the month: the
// most held at the same instant. Amounts are null where nobody said the price.
type Licences struct {
	Plan     string  `json:"plan"`
	Country  string  `json:"country"`
	Before   int64   `json:"before"`
	After    int64   `json:"after"`
	Price    *string `json:"price"` // of one for the month
	Currency *string `json:"currency"`
	Amounts  *Effect `json:"amounts"`
}

// Evaluate says what a scenario makes of its month. The book is read once, then the
// month is rated twice; progress is told of the events and bytes read. An error
// about the scenario is a [*Refusal].
func Evaluate(ctx context.Context, walk eventstore.Walk, s Scenario, progress func(events, bytes uint64)) (Document, error) {
	d, _, _, err := evaluate(ctx, walk, s, progress)
	return d, err
}

func evaluate(ctx context.Context, walk eventstore.Walk, s Scenario, progress func(events, bytes uint64)) (d Document, before, after projections.Statement, err error) {
	month, err := s.check()
	if err != nil {
		return d, before, after, err
	}
	stand, err := projections.StandOf(ctx, walk, s.Tenant, month, s.At, progress)
	if err != nil {
		return d, before, after, err
	}
	if before, err = stand.Statement(); err != nil {
		return d, before, after, err
	}
	w := newWorld(stand.Ledger, s.Tenant)
	from, to := stand.Ledger.Bounds(s.Tenant, month)
	c := change{world: w, month: month, span: span{from, to}, words: []string{}}
	price, err := newPrices(s.Prices, w)
	if err != nil {
		return d, before, after, err
	}
	seatsBefore := w.seats(c.span)
	if err = c.apply(&s); err != nil {
		return d, before, after, err
	}
	if err = ctx.Err(); err != nil {
		return d, before, after, err
	}
	if after, err = stand.Statement(); err != nil {
		return d, before, after, err
	}
	seatsAfter := w.seats(c.span)

	diff := projections.Compare(&before, &after)
	d = Document{
		Tenant: s.Tenant, Month: s.Month, Status: before.Status, Number: before.Number, Position: before.Position, Head: before.Head, Changes: c.words,
		Licences: bought(seatsBefore, seatsAfter, price, month),
		Invoices: diff.Totals, Lines: diff.Lines, Pools: diff.Pools, Exceptions: diff.Exceptions, Before: before.Counts, After: after.Counts,
	}
	var was, now bill
	was.charged, now.charged = charged(&before), charged(&after)
	was.rented = price.rented(seatsBefore, month)
	now.rented = price.rented(seatsAfter, month)
	d.Totals = totals(was, now)
	if s.Statement {
		d.Statement = &after
	}
	a, err := projections.Canonical(before)
	if err != nil {
		return d, before, after, err
	}
	b, err := projections.Canonical(after)
	d.Unchanged = bytes.Equal(a, b)
	return d, before, after, err
}

// bought lists the licences of every plan and country that any are held of.
func bought(before, after map[seat]int64, price prices, month domain.Month) []Licences {
	all := maps.Clone(before)
	maps.Copy(all, after)
	list := []Licences{}
	for _, s := range slices.SortedFunc(maps.Keys(all), compareSeats) {
		l := Licences{Plan: s.plan, Country: s.country, Before: before[s], After: after[s]}
		if p, ok := price.of(s, month); ok {
			text, currency := p.Price.String(), string(p.Currency)
			amounts := effect(rent(p, l.Before), rent(p, l.After), p.Currency)
			l.Price, l.Currency, l.Amounts = &text, &currency, &amounts
		}
		list = append(list, l)
	}
	return list
}
