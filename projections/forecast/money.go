package forecast

import (
	"cmp"
	"maps"
	"math"
	"math/big"
	"slices"

	"tollbook/domain"
)

// A price is what a second of overage costs on average in a currency, in minor
// units. Where a lane's calls are priced in several currencies, it has one of each.
type price struct {
	currency domain.Currency
	second   float64
}

// prices are those of a lane, by currency: what was over it, and where that is few
// calls, its latest, be they of months before.
func (m *model) prices(l lane) []price {
	rates := map[rate]count{}
	calls := int64(0)
	for _, s := range m.months {
		for r, n := range s.rates[l] {
			rates[r] = rates[r].plus(n.calls, n.seconds)
			calls += n.calls
		}
		if calls >= pricedCalls {
			break
		}
	}
	list := slices.SortedFunc(maps.Keys(rates), func(a, b rate) int {
		return cmp.Or(cmp.Compare(a.currency, b.currency), cmp.Compare(a.price, b.price), cmp.Compare(a.fee, b.fee))
	})
	seconds := 0.0
	var prices []price
	for _, r := range list {
		if n := len(prices); n == 0 || prices[n-1].currency != r.currency {
			prices = append(prices, price{currency: r.currency})
		}
		n := rates[r]
		seconds += float64(n.seconds)
		// Micros of the unit, of which a minute of seconds is charged.
		prices[len(prices)-1].second += (float64(n.seconds)*float64(r.price)/60 + float64(float64(n.calls)*float64(r.fee))) / 1e6 * math.Pow10(r.currency.Digits())
	}
	if seconds == 0 {
		return nil
	}
	for i := range prices {
		prices[i].second /= seconds
	}
	return prices
}

// charges are what overage cost so far, by lane and currency, as lines of an invoice
// are rounded.
type charges []charge

type charge struct {
	first    int
	currency domain.Currency
	minor    int64
}

func (c charges) of(first int, currency domain.Currency) int64 {
	for i := range c {
		if c[i].first == first && c[i].currency == currency {
			return c[i].minor
		}
	}
	return 0
}

func chargesOf(lines []lineSum) (list charges) {
next:
	for i := range lines {
		l := &lines[i]
		amount := domain.Charge(l.line.Price, l.line.Fee, l.calls, l.seconds, l.line.Currency.Digits())
		for j := range list {
			if list[j].first == l.first && list[j].currency == l.line.Currency {
				list[j].minor += amount.Minor.Int64()
				continue next
			}
		}
		list = append(list, charge{l.first, l.line.Currency, amount.Minor.Int64()})
	}
	return list
}

// merged are the lines of a pool with each but once.
func merged(lines []lineSum) []lineSum {
	if len(lines) == 0 {
		return nil
	}
	type key struct {
		first int
		line  *domain.Line
	}
	index := make(map[key]int, len(lines))
	all := make([]lineSum, 0, len(lines))
	for _, l := range lines {
		i, has := index[key{l.first, l.line}]
		if !has {
			i = len(all)
			index[key{l.first, l.line}] = i
			all = append(all, lineSum{first: l.first, line: l.line})
		}
		all[i].count = all[i].plus(l.calls, l.seconds)
	}
	return all
}

func text(minor int64, c domain.Currency) string {
	a := domain.Amount{Digits: c.Digits()}
	a.Minor.SetInt64(minor)
	return a.String()
}

// rounded is x as a whole number, half away from zero.
func rounded(x float64) int64 { return int64(math.Round(x)) }

// A purse sums what invoices will come to, by currency.
type purse map[domain.Currency]*outlook

type outlook struct {
	charged                   big.Int // so far
	mean, variance, deviation float64 // of what comes
}

func (p purse) of(c domain.Currency) *outlook {
	if p[c] == nil {
		p[c] = &outlook{}
	}
	return p[c]
}

// add adds what comes of other pools.
func (p purse) add(other purse) {
	for currency, o := range other {
		sum := p.of(currency)
		sum.mean += o.mean
		sum.variance += o.variance
		sum.deviation += o.deviation
	}
}

// together is how far pools are off for the same reasons, from 0 to 1.
const together = 0.2

func (p purse) totals() []Total {
	totals := []Total{}
	for _, currency := range slices.Sorted(maps.Keys(p)) {
		o := p[currency]
		amount := func(further float64) string {
			a := domain.Amount{Digits: currency.Digits()}
			a.Minor.Add(&o.charged, big.NewInt(rounded(further)))
			return a.String()
		}
		further := stream{level: o.mean}
		if o.mean > 0 {
			further.a = (float64((1-together)*o.variance) + float64(together*o.deviation*o.deviation)) / (o.mean * o.mean)
		}
		totals = append(totals, Total{
			Currency: string(currency), Charged: amount(0), Expected: amount(o.mean),
			Low: amount(further.at(1, -deviations)), High: amount(further.at(1, deviations)),
		})
	}
	return totals
}
