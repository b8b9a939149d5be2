package domain

import (
	"cmp"
	"maps"
	"slices"
)

// closings are a tenant's issued documents and what they came to (R12).
type closings struct {
	closed []*MonthClosed                // in order
	issued map[Month]map[billedLine]cell // by closed month, as last issued or adjusted
	waived map[Month]map[string]int64    // exceptions by reason that keep nothing open

	closedAt map[Month]madeAt // what a month was made of when it was closed
}

// madeAt tells whether a month was changed in the meantime.
type madeAt struct {
	month   *month
	changes uint64
}

// A billedLine is a line of an invoice, and of which one.
type billedLine struct {
	country, plan string
	Line
}

// An Adjustment is what a line of an earlier, closed month has changed by since
// that month was last issued or adjusted.
type Adjustment struct {
	Month Month
	InvoiceLine
}

// next is the month to close next: months close in order, from the first that
// has calls. false: there is none.
func (a *account) next() (Month, bool) {
	if n := len(a.closed); n > 0 {
		return a.closed[n-1].Month + 1, true
	}
	a.resolve()
	first, found := Month(0), false
	for id, m := range a.months {
		// A call that was voided or corrected away is none, as if the correction had come first.
		if (!found || id < first) && m.any() {
			first, found = id, true
		}
	}
	return first, found
}

// close takes in that a month was issued: what all months up to it amount to by
// the events added before is what they were billed as.
func (a *account) close(data *MonthClosed) {
	a.closed = append(a.closed, data)
	if a.issued == nil {
		a.issued, a.closedAt = map[Month]map[billedLine]cell{}, map[Month]madeAt{}
	}
	a.resolve()
	for id, m := range a.months {
		if id <= data.Month {
			a.issued[id] = m.billed()
		}
	}
	if m := a.months[data.Month]; m != nil {
		a.closedAt[data.Month] = madeAt{m, m.changes}
	}
	// A month whose calls have all gone to others is billed as nothing.
	for id := range a.issued {
		if a.months[id] == nil {
			delete(a.issued, id)
		}
	}
}

func (a *account) waive(data *ExceptionWaived) {
	if a.waived == nil {
		a.waived = map[Month]map[string]int64{}
	}
	if a.waived[data.Month] == nil {
		a.waived[data.Month] = map[string]int64{}
	}
	a.waived[data.Month][data.Exception] = max(a.waived[data.Month][data.Exception], data.Count)
}

// billed is what the month's invoices have, line by line. The map is never changed:
// when the month does, another one takes its place.
func (m *month) billed() map[billedLine]cell {
	m.refresh()
	if m.billing == nil || m.billedAt != m.changes {
		m.billing, m.billedAt = map[billedLine]cell{}, m.changes
		for _, invoice := range m.rating().Invoices {
			for i := range invoice.Lines {
				l := &invoice.Lines[i]
				m.billing[billedLine{invoice.Country, invoice.Plan, l.Line}] = cell{l.Calls, l.Seconds}
			}
		}
	}
	return m.billing
}

// adjust adds to a month's rating what earlier months have changed by since they
// were issued. The amount of an adjustment is the difference of the line's
// amounts, each rounded as R9 has it: so what was billed for a line, all
// documents together, is always the amount of the line as it is now.
func (a *account) adjust(r *Rating) {
	for _, id := range a.before(r.Month) {
		now := map[billedLine]cell{}
		if m := a.months[id]; m != nil {
			now = m.billed()
		}
		before := a.issued[id]
		for line, sum := range now {
			if was := before[line]; was != sum {
				r.adjust(id, line, was, sum)
			}
		}
		for line, was := range before {
			if _, still := now[line]; !still {
				r.adjust(id, line, was, cell{})
			}
		}
	}
	slices.SortFunc(r.Invoices, compareInvoices)
	for i := range r.Invoices {
		slices.SortFunc(r.Invoices[i].Adjustments, func(a, b Adjustment) int {
			return cmp.Or(cmp.Compare(a.Month, b.Month), compareLines(a.InvoiceLine, b.InvoiceLine))
		})
	}
}

// before are the months before one that have calls or were billed, in order.
func (a *account) before(id Month) []Month {
	ids := map[Month]bool{}
	for k := range a.months {
		ids[k] = k < id
	}
	for k := range a.issued {
		ids[k] = k < id
	}
	maps.DeleteFunc(ids, func(_ Month, before bool) bool { return !before })
	return slices.Sorted(maps.Keys(ids))
}

func (r *Rating) adjust(id Month, line billedLine, was, now cell) {
	digits := line.Currency.Digits()
	amount := Charge(line.Price, line.Fee, now.calls, now.seconds, digits)
	before := Charge(line.Price, line.Fee, was.calls, was.seconds, digits)
	amount.Minor.Sub(&amount.Minor, &before.Minor)
	i := slices.IndexFunc(r.Invoices, func(v Invoice) bool {
		return v.Country == line.country && v.Plan == line.plan && v.Currency == line.Currency
	})
	if i < 0 {
		i = len(r.Invoices)
		r.Invoices = append(r.Invoices, Invoice{Country: line.country, Plan: line.plan, Currency: line.Currency, Total: Amount{Digits: digits}})
	}
	invoice := &r.Invoices[i]
	invoice.Adjustments = append(invoice.Adjustments, Adjustment{id, InvoiceLine{
		Line: line.Line, Calls: now.calls - was.calls, Seconds: now.seconds - was.seconds, Amount: amount,
	}})
	invoice.Total.Add(amount)
}

// NextToClose is the tenant's month to close next; false while it has no calls.
func (l *Ledger) NextToClose(tenant string) (Month, bool) {
	if a := l.accounts[tenant]; a != nil {
		return a.next()
	}
	return 0, false
}

// Closings are the tenant's closed months, in order. The caller must not change
// them.
func (l *Ledger) Closings(tenant string) []*MonthClosed {
	if a := l.accounts[tenant]; a != nil {
		return a.closed
	}
	return nil
}

// Draft is the month as it would be issued now: of the month to close next, with
// the adjustments of those before it; of any other, its rating.
func (l *Ledger) Draft(tenant string, id Month) Rating {
	r := l.Rating(tenant, id)
	if a := l.accounts[tenant]; a != nil && len(a.closed) > 0 && a.closed[len(a.closed)-1].Month+1 == id {
		a.adjust(&r)
	}
	return r
}

// Waived is how many exceptions of a reason keep the month open no longer.
func (l *Ledger) Waived(tenant string, id Month, reason string) int64 {
	if a := l.accounts[tenant]; a != nil {
		return a.waived[id][reason]
	}
	return 0
}

// Bounds are the first instant of the tenant's month and that of the next one.
func (l *Ledger) Bounds(tenant string, id Month) (from, to Instant) {
	a := l.accounts[tenant]
	if a == nil {
		a = newAccount(l, tenant)
	}
	return a.start(id), a.start(id + 1)
}

// CloseAfterDays is the tenant's close_after_days of a month; 0: by hand.
func (l *Ledger) CloseAfterDays(tenant string, id Month) int {
	if a := l.accounts[tenant]; a != nil {
		return a.config(id).CloseAfterDays
	}
	return 0
}
