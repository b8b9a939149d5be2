package domain_test

import (
	"fmt"
	"math/big"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"tollbook/domain"
)

// billed is what a line of a month came to: in one document or in several.
type billed struct {
	calls, seconds int64
	minor          big.Int
}

// lineOf names a line of an invoice of a month.
func lineOf(month domain.Month, i *domain.Invoice, l *domain.InvoiceLine) string {
	return fmt.Sprintf("%v %s %s %+v", month, i.Country, i.Plan, l.Line)
}

// sumOf sums documents line by line, each line under the month it belongs to.
func sumOf(documents ...domain.Rating) map[string]string {
	sums := map[string]*billed{}
	add := func(month domain.Month, i *domain.Invoice, l *domain.InvoiceLine) {
		name := lineOf(month, i, l)
		if sums[name] == nil {
			sums[name] = &billed{}
		}
		sums[name].calls += l.Calls
		sums[name].seconds += l.Seconds
		sums[name].minor.Add(&sums[name].minor, &l.Amount.Minor)
	}
	for _, d := range documents {
		for i := range d.Invoices {
			invoice := &d.Invoices[i]
			for l := range invoice.Lines {
				add(d.Month, invoice, &invoice.Lines[l])
			}
			for a := range invoice.Adjustments {
				add(invoice.Adjustments[a].Month, invoice, &invoice.Adjustments[a].InvoiceLine)
			}
		}
	}
	text := map[string]string{}
	for name, sum := range sums {
		if sum.calls != 0 || sum.seconds != 0 || sum.minor.Sign() != 0 {
			text[name] = fmt.Sprintf("%d calls, %d s, %s minor units", sum.calls, sum.seconds, &sum.minor)
		}
	}
	return text
}

// TestDocumentsSumUp closes months while a history comes in, in any order. After
// every close, all documents of the tenant together are the months as they are
// rated then, line by line: calls, seconds and rounded amounts (R12).
func TestDocumentsSumUp(t *testing.T) {
	closes, adjustments := 0, 0
	rapid.Check(t, func(t *rapid.T) {
		events := rapid.Permutation(histories.Draw(t, "history")).Draw(t, "order")
		b := domain.NewLedger()
		documents := map[string][]domain.Rating{}
		tenants := tenantsOf(events)
		for i := range events {
			b.Add(&events[i])
			if rapid.IntRange(0, 30).Draw(t, "close") > 0 && i+1 < len(events) {
				continue
			}
			for _, tenant := range tenants {
				month, any := b.NextToClose(tenant)
				if !any || month > ratedMonths[len(ratedMonths)-1]+2 {
					continue
				}
				issued := b.Draft(tenant, month)
				b.Add(&domain.Event{Tenant: tenant, Source: "tollbook/months", ID: "closed/" + month.String(), Data: &domain.MonthClosed{Month: month, Number: fmt.Sprint(closes), Position: uint64(i)}})
				documents[tenant] = append(documents[tenant], issued)
				closes++
				for i := range issued.Invoices {
					invoice := &issued.Invoices[i]
					adjustments += len(invoice.Adjustments)
					if diff := wrongTotal(invoice); diff != "" {
						t.Fatalf("%s %v: %s", tenant, month, diff)
					}
				}
				var rated []domain.Rating
				for m := ratedMonths[0] - 3; m <= month; m++ {
					rated = append(rated, b.Rating(tenant, m)) // TestAgreesWithNaiveRating vouches for it
				}
				if diff := cmp.Diff(sumOf(rated...), sumOf(documents[tenant]...)); diff != "" {
					t.Fatalf("%s, once %v is closed after %d events (-rated now +issued in all):\n%s\n%s", tenant, month, i+1, diff, describe(events[:i+1]))
				}
			}
		}
	})
	t.Logf("%d months closed, %d adjustments", closes, adjustments)
	if adjustments == 0 {
		t.Error("no document had an adjustment")
	}
}

// wrongTotal says whether an invoice's total is not the sum of what stands on it,
// or an adjustment is of nothing or out of order.
func wrongTotal(i *domain.Invoice) string {
	sum := new(big.Int)
	for _, l := range i.Lines {
		sum.Add(sum, &l.Amount.Minor)
	}
	seen := map[string]bool{}
	for _, a := range i.Adjustments {
		sum.Add(sum, &a.Amount.Minor)
		name := lineOf(a.Month, i, &a.InvoiceLine)
		if a.Calls == 0 && a.Seconds == 0 || seen[name] {
			return fmt.Sprintf("adjustment %s of nothing, or twice", name)
		}
		seen[name] = true
	}
	if !slices.IsSortedFunc(i.Adjustments, func(a, b domain.Adjustment) int { return int(a.Month - b.Month) }) {
		return "adjustments are not by month"
	}
	if sum.Cmp(&i.Total.Minor) != 0 {
		return fmt.Sprintf("total %s is not the sum %s", i.Total, sum)
	}
	return ""
}

// An issued document never changes what a draft of another month shows: only the
// month to close next carries adjustments.
func TestOnlyTheNextDocumentAdjusts(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		events := histories.Draw(t, "history")
		b := domain.NewLedger()
		for i := range events {
			b.Add(&events[i])
		}
		for _, tenant := range tenantsOf(events) {
			if month, any := b.NextToClose(tenant); any {
				b.Add(&domain.Event{Tenant: tenant, Data: &domain.MonthClosed{Month: month}})
				for _, other := range ratedMonths {
					if other != month+1 {
						for _, i := range b.Draft(tenant, other).Invoices {
							if len(i.Adjustments) > 0 {
								t.Fatalf("%v carries adjustments, %v is to close next", other, month+1)
							}
						}
					}
				}
				if next := b.Draft(tenant, month+1); slices.ContainsFunc(next.Invoices, func(i domain.Invoice) bool { return len(i.Adjustments) > 0 }) {
					t.Fatalf("%v adjusts %v, of which nothing has changed:\n%v", month+1, month, sumOf(next))
				}
			}
		}
	})
}
