package whatif

import (
	"bytes"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/big"
	"slices"
	"strings"

	"tollbook/domain"
	"tollbook/projections"
)

// A Price is what one licence costs for a month.
type Price struct {
	Plan     string `json:"plan"`
	Country  string `json:"country"` // of the licence; "*": every country that has no price of its own
	Price    string `json:"price"`
	Currency string `json:"currency"`
}

// MaxPrices is how many prices may be given: more than there are plans and countries.
const MaxPrices = 10_000

const maxPriceBytes = 1 << 20

// ReadPrices reads a CSV file of prices: plan,country,price,currency, in that order,
// with a header of these names.
func ReadPrices(r io.Reader) ([]Price, error) {
	text, err := io.ReadAll(io.LimitReader(r, maxPriceBytes+1))
	if err != nil {
		return nil, err
	}
	if len(text) > maxPriceBytes {
		return nil, fmt.Errorf("has more than %d MiB", maxPriceBytes>>20)
	}
	in := csv.NewReader(bytes.NewReader(text))
	in.FieldsPerRecord, in.TrimLeadingSpace = 4, true
	header, err := in.Read()
	if err != nil || !slices.Equal(header, []string{"plan", "country", "price", "currency"}) {
		return nil, errors.New("line 1: must be plan,country,price,currency")
	}
	var prices []Price
	for {
		row, err := in.Read()
		if errors.Is(err, io.EOF) {
			return prices, nil
		}
		if err != nil {
			return nil, err
		}
		p := Price{row[0], row[1], row[2], row[3]}
		if _, _, err := p.read(); err != nil {
			line, _ := in.FieldPos(0)
			return nil, fmt.Errorf("line %d: %w", line, err)
		}
		if prices = append(prices, p); len(prices) > MaxPrices {
			return nil, fmt.Errorf("has more than %d prices", MaxPrices)
		}
	}
}

// A seat is what a licence is bought as.
type seat struct{ plan, country string }

func (p Price) read() (s seat, price domain.LicencePrice, err error) {
	price.Price, err = domain.ParseMicros(p.Price)
	if err == nil {
		price.Currency, err = domain.ParseCurrency(p.Currency)
	}
	if err == nil && (p.Plan == "" || p.Country != domain.AnyCountry && !isCountry(p.Country)) {
		err = errors.New("must name a plan, and a country by two capitals such as IT, or *")
	}
	if err != nil {
		err = refuse("price of %s in %s, %s %s: %v", p.Plan, p.Country, p.Price, p.Currency, err)
	}
	return seat{p.Plan, p.Country}, price, err
}

// prices are those given and, where there is none, the catalogue's.
type prices struct {
	given map[seat]domain.LicencePrice
	world *world
}

func newPrices(given []Price, w *world) (prices, error) {
	if len(given) > MaxPrices {
		return prices{}, refuse("%d prices: at most %d", len(given), MaxPrices)
	}
	p := prices{map[seat]domain.LicencePrice{}, w}
	plans := w.ledger.PlanNames(w.tenant)
	for _, one := range given {
		s, price, err := one.read()
		if err != nil {
			return p, err
		}
		if !slices.Contains(plans, s.plan) {
			return p, refuse("price of %s in %s: the book has no such plan for %s", s.plan, s.country, w.tenant)
		}
		if _, twice := p.given[s]; twice {
			return p, refuse("price of %s in %s: is there twice, leave one", s.plan, s.country)
		}
		p.given[s] = price
	}
	return p, nil
}

// of is the price of a licence in a month; false: nobody said.
func (p prices) of(s seat, month domain.Month) (domain.LicencePrice, bool) {
	any := seat{s.plan, domain.AnyCountry}
	for _, key := range []seat{s, any} {
		if price, ok := p.given[key]; ok {
			return price, true
		}
	}
	plan, _ := p.world.ledger.PlanInForce(p.world.tenant, s.plan, month)
	if plan == nil {
		return domain.LicencePrice{}, false
	}
	for _, country := range []string{s.country, domain.AnyCountry} {
		if price, ok := plan.LicencePrice[country]; ok {
			return price, true
		}
	}
	return domain.LicencePrice{}, false
}

// seats are how many licences of a plan and country have to be bought for a month:
// the most that are held at the same instant, as one that passes from one user to
// another is bought once.
func (w *world) seats(s span) map[seat]int64 {
	type edge struct {
		at   domain.Instant
		sign int64
	}
	edges := map[seat][]edge{}
	for _, list := range w.held {
		for _, h := range list {
			if from, to := max(h.From, s.from), min(h.To, s.to); from < to {
				key := seat{h.Plan, h.Country}
				edges[key] = append(edges[key], edge{from, 1}, edge{to, -1})
			}
		}
	}
	most := map[seat]int64{}
	for key, list := range edges {
		// Intervals are half-open: at one instant ends come first.
		slices.SortFunc(list, func(a, b edge) int {
			if a.at != b.at {
				return int(min(max(a.at-b.at, -1), 1))
			}
			return int(a.sign - b.sign)
		})
		now := int64(0)
		for _, e := range list {
			now += e.sign
			most[key] = max(most[key], now)
		}
	}
	return most
}

// rent is what some licences cost for a month, rounded once as an invoice line is.
func rent(price domain.LicencePrice, n int64) *big.Int {
	amount := domain.Charge(0, price.Price, n, 0, price.Currency.Digits())
	return &amount.Minor
}

// A purse is money by currency, in minor units.
type purse map[domain.Currency]*big.Int

func (p purse) add(c domain.Currency, minor *big.Int) {
	if p[c] == nil {
		p[c] = new(big.Int)
	}
	p[c].Add(p[c], minor)
}

func (p purse) plus(o purse) {
	for c, minor := range o {
		p.add(c, minor)
	}
}

// in is how much of a currency there is.
func (p purse) in(c domain.Currency) *big.Int {
	if p[c] == nil {
		return new(big.Int)
	}
	return p[c]
}

func text(minor *big.Int, c domain.Currency) string {
	a := domain.Amount{Digits: c.Digits()}
	a.Minor.Set(minor)
	return a.String()
}

// charged is what a month's invoices come to.
func charged(s *projections.Statement) purse {
	p := purse{}
	for i := range s.Invoices {
		// An amount has exactly its currency's minor digits.
		minor, _ := new(big.Int).SetString(strings.Replace(s.Invoices[i].Total, ".", "", 1), 10)
		p.add(domain.Currency(s.Invoices[i].Currency), minor)
	}
	return p
}

// rented is what the licences of a month cost whose price is known.
func (p prices) rented(seats map[seat]int64, month domain.Month) purse {
	cost := purse{}
	for s, n := range seats {
		if price, ok := p.of(s, month); ok {
			cost.add(price.Currency, rent(price, n))
		}
	}
	return cost
}

func compareSeats(a, b seat) int {
	return strings.Compare(a.plan+"\x00"+a.country, b.plan+"\x00"+b.country)
}

// An Effect is an amount before and after.
type Effect struct {
	Before     string `json:"before"`
	After      string `json:"after"`
	Difference string `json:"difference"`
}

func effect(before, after *big.Int, c domain.Currency) Effect {
	return Effect{text(before, c), text(after, c), text(new(big.Int).Sub(after, before), c)}
}

// A Total is all money of one currency: what the invoices come to, and what the
// licences cost whose price is known.
type Total struct {
	Currency string `json:"currency"`
	Invoices Effect `json:"invoices"`
	Licences Effect `json:"licences"`
	Sum      Effect `json:"sum"`
}

// A bill is what a month costs in all.
type bill struct{ charged, rented purse }

func totals(before, after bill) []Total {
	all := purse{}
	for _, p := range []purse{before.charged, before.rented, after.charged, after.rented} {
		all.plus(p)
	}
	list := []Total{}
	for _, c := range slices.Sorted(maps.Keys(all)) {
		sum := func(b bill) *big.Int { return new(big.Int).Add(b.charged.in(c), b.rented.in(c)) }
		list = append(list, Total{
			string(c), effect(before.charged.in(c), after.charged.in(c), c), effect(before.rented.in(c), after.rented.in(c), c), effect(sum(before), sum(after), c),
		})
	}
	return list
}
