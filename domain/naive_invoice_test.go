package domain_test

import (
	"cmp"
	"maps"
	"math/big"
	"slices"
	"strings"

	"tollbook/domain"
)

// --- R8 charge, R9 lines and rounding, R10 exceptions

func (n *naive) rating() domain.Rating {
	r := domain.Rating{Tenant: n.tenant, Month: n.month}
	for _, p := range n.pools {
		pool := domain.PoolRating{
			Country: p.country, Plan: p.plan.Plan, Scope: p.plan.Scope, User: p.user,
			Licences: p.count, ExhaustedAt: p.exhaustedAt,
		}
		for i, b := range p.plan.Buckets {
			pool.Buckets = append(pool.Buckets, domain.BucketRating{Name: b.Name, Granted: p.granted[i], Used: p.used[i], Overage: p.overage[i]})
		}
		r.Pools = append(r.Pools, pool)
	}
	r.Invoices = n.invoices()
	r.Exceptions, r.Counts = n.count()
	return r
}

type naiveInvoice struct {
	country, plan string
	currency      domain.Currency
}

// charge is R8, exact, in the currency's unit.
func (c *naiveCall) charge() *big.Rat {
	sum := big.NewRat(c.over*int64(c.row.Price), 60*1_000_000)
	return sum.Add(sum, big.NewRat(int64(c.row.ConnectFee), 1_000_000))
}

func (n *naive) invoices() []domain.Invoice {
	lines := map[naiveInvoice]map[domain.Line]*domain.InvoiceLine{}
	exact := map[naiveInvoice]map[domain.Line]*big.Rat{}
	for _, c := range n.calls {
		if c.over == 0 {
			continue
		}
		key := naiveInvoice{c.pool.country, c.pool.plan.Plan, c.deck.currency}
		line := domain.Line{
			Deck: c.deck.name, Version: c.deck.version, Currency: c.deck.currency,
			Country: c.row.Country, Name: c.row.Name, RowType: c.row.RowType, Price: c.row.Price, Fee: c.row.ConnectFee,
		}
		if lines[key] == nil {
			lines[key], exact[key] = map[domain.Line]*domain.InvoiceLine{}, map[domain.Line]*big.Rat{}
		}
		if lines[key][line] == nil {
			lines[key][line], exact[key][line] = &domain.InvoiceLine{Line: line}, new(big.Rat)
		}
		lines[key][line].Calls++
		lines[key][line].Seconds += c.over
		exact[key][line].Add(exact[key][line], c.charge())
	}
	// Where nothing is to be paid, the invoice says so in a currency that the
	// first country of the licences leads to.
	for _, p := range n.pools {
		if !slices.ContainsFunc(slices.Collect(maps.Keys(lines)), func(k naiveInvoice) bool {
			return k.country == p.country && k.plan == p.plan.Plan
		}) {
			lines[naiveInvoice{p.country, p.plan.Plan, n.emptyCurrency(p)}] = nil
		}
	}

	var invoices []domain.Invoice
	for key, byLine := range lines {
		inv := domain.Invoice{Country: key.country, Plan: key.plan, Currency: key.currency}
		for line, l := range byLine {
			l.Amount = rounded(exact[key][line], key.currency)
			inv.Lines = append(inv.Lines, *l)
		}
		slices.SortFunc(inv.Lines, func(a, b domain.InvoiceLine) int {
			return cmp.Or(strings.Compare(a.Country, b.Country), strings.Compare(a.Name, b.Name), strings.Compare(a.RowType, b.RowType),
				cmp.Compare(a.Price, b.Price), cmp.Compare(a.Fee, b.Fee), strings.Compare(a.Deck, b.Deck), strings.Compare(a.Version, b.Version))
		})
		inv.Total.Digits = key.currency.Digits()
		for _, l := range inv.Lines {
			inv.Total.Minor.Add(&inv.Total.Minor, &l.Amount.Minor)
		}
		invoices = append(invoices, inv)
	}
	slices.SortFunc(invoices, func(a, b domain.Invoice) int {
		return cmp.Or(strings.Compare(a.Country, b.Country), strings.Compare(a.Plan, b.Plan), cmp.Compare(a.Currency, b.Currency))
	})
	return invoices
}

// emptyCurrency is of the invoice that p shares with every pool of its country and plan.
func (n *naive) emptyCurrency(p *naivePool) domain.Currency {
	var countries []string
	for _, q := range n.pools {
		if q.country != p.country || q.plan.Plan != p.plan.Plan {
			continue
		}
		for _, l := range q.licences {
			countries = append(countries, l.country)
		}
	}
	if versions := n.decks(n.deckName(slices.Min(countries), p.plan)); len(versions) > 0 {
		return versions[0].currency
	}
	if c := n.config(n.month); c != nil && c.Currency != "" {
		return c.Currency
	}
	return domain.NoCurrency
}

// rounded is the one rounding of R9: half away from zero; charges are never negative.
func rounded(exact *big.Rat, currency domain.Currency) domain.Amount {
	a := domain.Amount{Digits: currency.Digits()}
	scale := new(big.Int).Exp(big.NewInt(10), big.NewInt(int64(a.Digits)), nil)
	minor := new(big.Rat).Mul(exact, new(big.Rat).SetInt(scale))
	minor.Add(minor, big.NewRat(1, 2))
	a.Minor.Quo(minor.Num(), minor.Denom())
	return a
}

// count is R10 and the counts of spec/outputs.md.
func (n *naive) count() ([]domain.Exception, domain.Counts) {
	var counts domain.Counts
	found := map[string]domain.Exception{}
	except := func(reason string, seconds int64) {
		found[reason] = domain.Exception{Reason: reason, Count: found[reason].Count + 1, Seconds: found[reason].Seconds + seconds}
	}
	for _, c := range n.calls {
		counts.Calls++
		switch {
		case c.class == naiveFree:
			counts.Free++
		case c.class == naiveOutside:
			counts.Outside++
		case c.class == naiveInBucket && c.over == 0:
			counts.InPool++
		case c.class == naiveInBucket:
			counts.Overage++
		default:
			except(string(c.class), c.billed)
		}
	}
	for range n.ungranted {
		except(domain.Ungranted, 0)
	}
	for _, e := range n.dangling {
		var seconds int64
		if d, ok := e.Data.(*domain.Correction); ok {
			seconds = billedSeconds(&d.Call, domain.Increment{First: 60, Step: 60})
		}
		except(domain.Dangling, seconds)
	}
	exceptions := slices.Collect(maps.Values(found))
	slices.SortFunc(exceptions, func(a, b domain.Exception) int { return strings.Compare(a.Reason, b.Reason) })
	return exceptions, counts
}
