package domain

import (
	"cmp"
	"slices"
)

// A bill gathers what the pools of one plan and country owe (R9). Pools of
// single users share the bill of their plan and country.
type bill struct {
	country, plan string
	terms         *Plan
	firstLicence  string // alphabetically first licence country
	cells         map[uint32]cell
}

type bills map[poolKey]*bill

func (b bills) of(p *pool) *bill {
	key := poolKey{country: p.key.country, plan: p.key.plan}
	one := b[key]
	if one == nil {
		one = &bill{country: key.country, plan: key.plan, terms: p.plan, cells: map[uint32]cell{}}
		b[key] = one
	}
	if first := p.first; one.firstLicence == "" || first < one.firstLicence {
		one.firstLicence = first
	}
	return one
}

// take adds cells to the bill and returns how many calls they are.
func (b *bill) take(cells map[uint32]cell) (calls int64) {
	for line, c := range cells {
		sum := b.cells[line]
		sum.calls += c.calls
		sum.seconds += c.seconds
		b.cells[line] = sum
		calls += c.calls
	}
	return calls
}

func (b bills) invoices(m *month) []Invoice {
	var all []Invoice
	for _, one := range b {
		byCurrency := map[Currency]*Invoice{}
		for index, sum := range one.cells {
			line := m.lines[index]
			invoice := byCurrency[line.Currency]
			if invoice == nil {
				invoice = &Invoice{Country: one.country, Plan: one.plan, Currency: line.Currency}
				byCurrency[line.Currency] = invoice
			}
			invoice.Lines = append(invoice.Lines, InvoiceLine{
				Line: *line, Calls: sum.calls, Seconds: sum.seconds,
				Amount: Charge(line.Price, line.Fee, sum.calls, sum.seconds, line.Currency.Digits()),
			})
		}
		if len(byCurrency) == 0 {
			currency := m.account.defaultCurrency(m.id, one.terms, one.firstLicence)
			byCurrency[currency] = &Invoice{Country: one.country, Plan: one.plan, Currency: currency}
		}
		for _, invoice := range byCurrency {
			slices.SortFunc(invoice.Lines, compareLines)
			invoice.Total.Digits = invoice.Currency.Digits()
			for i := range invoice.Lines {
				invoice.Total.Add(invoice.Lines[i].Amount)
			}
			all = append(all, *invoice)
		}
	}
	slices.SortFunc(all, compareInvoices)
	return all
}

func compareInvoices(a, b Invoice) int {
	return cmp.Or(cmp.Compare(a.Country, b.Country), cmp.Compare(a.Plan, b.Plan), cmp.Compare(a.Currency, b.Currency))
}

func compareLines(a, b InvoiceLine) int {
	return cmp.Or(cmp.Compare(a.Country, b.Country), cmp.Compare(a.Name, b.Name), cmp.Compare(a.RowType, b.RowType),
		cmp.Compare(a.Price, b.Price), cmp.Compare(a.Fee, b.Fee), cmp.Compare(a.Deck, b.Deck), cmp.Compare(a.Version, b.Version))
}
