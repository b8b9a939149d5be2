package finance

import (
	"cmp"
	"context"
	"fmt"
	"math/big"
	"net/http"
	"slices"

	"tollbook/api"
	"tollbook/domain"
	"tollbook/projections"
)

// TenantInfo is a tenant with the months in which it has calls, and what came in.
type TenantInfo struct {
	Tenant   string   `json:"tenant"`
	Months   []string `json:"months"`
	Received uint64   `json:"received"`
	projections.Intake
}

// Tenants are those with anything in the book, but for the catalogue's.
func (d *Desk) Tenants() []TenantInfo {
	list := []TenantInfo{}
	for _, t := range api.StatusOf(d.Months).Tenants {
		if t.Tenant != domain.CatalogTenant && t.Tenant != domain.NoTenant {
			list = append(list, TenantInfo{t.Tenant, t.Months, t.Received, t.Intake})
		}
	}
	return list
}

// A Total is what invoices in one currency come to.
type Total struct {
	Currency string `json:"currency"`
	Total    string `json:"total"`
}

// TotalsOf are the totals of a month's invoices, by currency.
func TotalsOf(s projections.Statement) []Total {
	sums, digits := map[string]*big.Rat{}, map[string]int{}
	for _, i := range s.Invoices {
		amount, ok := new(big.Rat).SetString(i.Total)
		if !ok {
			continue // documents have amounts only
		}
		if sums[i.Currency] == nil {
			sums[i.Currency] = new(big.Rat)
		}
		sums[i.Currency].Add(sums[i.Currency], amount)
		digits[i.Currency] = domain.Currency(i.Currency).Digits()
	}
	totals := []Total{}
	for currency, sum := range sums {
		totals = append(totals, Total{currency, sum.FloatString(digits[currency])})
	}
	slices.SortFunc(totals, func(a, b Total) int { return cmp.Compare(a.Currency, b.Currency) })
	return totals
}

// MonthInfo is a month in short.
type MonthInfo struct {
	Month  string  `json:"month"`
	Status string  `json:"status"`          // draft or issued
	Number string  `json:"number,omitzero"` // of an issued document
	Next   bool    `json:"next"`            // it is the one to close next
	Totals []Total `json:"totals"`
}

// MonthsOf are the months in which a tenant has calls, and those that were issued,
// in order.
func (d *Desk) MonthsOf(tenant string) ([]MonthInfo, error) {
	if _, err := monthOf(tenant, "2026-01"); err != nil {
		return nil, err
	}
	months := map[string]bool{}
	for _, m := range d.Months.MonthsOf(tenant) {
		months[m.String()] = true
	}
	for _, i := range d.Months.Issues(tenant) {
		months[i.Replayed.Month] = true
	}
	next, hasNext := d.Months.NextToClose(tenant)
	list := []MonthInfo{}
	for month := range months {
		id, err := domain.ParseMonth(month)
		if err != nil {
			return nil, err
		}
		s := d.Months.Statement(tenant, id)
		one := MonthInfo{Month: month, Status: s.Status, Next: hasNext && next == id, Totals: TotalsOf(s)}
		if s.Number != nil {
			one.Number = *s.Number
		}
		list = append(list, one)
	}
	slices.SortFunc(list, func(a, b MonthInfo) int { return cmp.Compare(a.Month, b.Month) })
	return list, nil
}

// Month is a month as it is now or was issued; at not 0: as of that position.
func (d *Desk) Month(ctx context.Context, tenant, month string, at uint64) (projections.Statement, error) {
	id, err := monthOf(tenant, month)
	if err != nil {
		return projections.Statement{}, err
	}
	if at == 0 {
		return d.Months.Statement(tenant, id), nil
	}
	if end := d.Months.Head().Events; at > end {
		return projections.Statement{}, &Error{http.StatusBadRequest, projections.BeyondEnd(at, end).Error()}
	}
	return tell(d.Explainer.Statement(ctx, api.StatementRequest{Tenant: tenant, Month: id.String(), At: at}))
}

// Calls are a page of a month's calls (q.Limit 0: a hundred).
func (d *Desk) Calls(ctx context.Context, q api.CallsRequest) (projections.CallsDocument, error) {
	q.Limit = cmp.Or(q.Limit, defaultPage)
	return tell(d.Explainer.Calls(ctx, q))
}

// Line explains an invoice line by a page of its calls (q.Limit 0: a hundred).
func (d *Desk) Line(ctx context.Context, q api.ExplainLineRequest) (projections.LineDocument, error) {
	q.Limit = cmp.Or(q.Limit, defaultPage)
	return tell(d.Explainer.Line(ctx, q))
}

// Grant explains the minutes of a pool by a page of its licences (q.Limit 0: a hundred).
func (d *Desk) Grant(ctx context.Context, q api.ExplainPoolRequest) (projections.GrantDocument, error) {
	q.Limit = cmp.Or(q.Limit, defaultPage)
	return tell(d.Explainer.Pool(ctx, q))
}

// Call is a call's passport: what it costs and why, where the book has it, and the proof.
func (d *Desk) Call(ctx context.Context, q api.ExplainRequest) (api.ExplainDocument, error) {
	if _, ok := d.Book.Find(q.Tenant, q.Source, q.ID); !ok {
		return api.ExplainDocument{}, &Error{http.StatusNotFound, api.NotBooked(q).Error()}
	}
	return tell(d.Explainer.Event(ctx, d.Book, d.Key, q))
}

// changesListed is how much of each kind Changes lists.
const changesListed = 100

// Changes are what of a month changed between two positions.
func (d *Desk) Changes(ctx context.Context, tenant, month string, from, to uint64) (projections.DiffDocument, error) {
	id, err := monthOf(tenant, month)
	if err != nil {
		return projections.DiffDocument{}, err
	}
	end := d.Months.Head().Events
	if to == 0 {
		to = end
	}
	if from == 0 || from > to || to > end {
		return projections.DiffDocument{}, &Error{http.StatusBadRequest, fmt.Sprintf("from %d to %d: positions begin at 1 and must be in order, and the book has %d events", from, to, end)}
	}
	if err := whatIfs.Acquire(ctx, 1); err != nil { // it has two months in memory
		return projections.DiffDocument{}, err
	}
	defer whatIfs.Release(1)
	return projections.Diff(ctx, d.Book.Walk(), tenant, id, from, to, projections.DiffLimits{Calls: changesListed, Events: changesListed}, nil)
}
