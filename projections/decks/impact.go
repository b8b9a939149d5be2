package decks

import (
	"cmp"
	"fmt"
	"math/big"
	"slices"
	"strconv"

	"tollbook/domain"
	"tollbook/projections"
)

// An Impact says what a month would have come to, had a version been in force from
// its first instant on, and is without adjustments. Amounts of totals and lines
// are those of the two statements; those by prefix are exact fractions of the
// currency's unit, such as 61/480, as nothing is rounded below a line.
type Impact struct {
	Tenant   string   `json:"tenant"`
	Month    string   `json:"month"`
	Position uint64   `json:"position"` // of the book, as of which
	Deck     string   `json:"deck"`
	Version  string   `json:"version"`
	InForce  []string `json:"in_force"` // the versions that price the month

	Totals     []ImpactTotal     `json:"totals"`     // of every invoice
	Lines      []ImpactLine      `json:"lines"`      // those that differ, the greatest difference first
	Exceptions []ImpactException `json:"exceptions"` // those that differ

	Currency      string         `json:"currency"` // of what follows: calls priced by the deck
	Prefixes      []ImpactPrefix `json:"prefixes"` // that differ, the greatest difference first
	PrefixesFound int            `json:"prefixes_found"`
	Others        string         `json:"others"` // difference of those not listed, exactly
}

// ImpactTotal is of an invoice.
type ImpactTotal struct {
	Country  string `json:"country"`
	Plan     string `json:"plan"`
	Currency string `json:"currency"`
	ImpactAmounts
}

// ImpactAmounts are in the currency.
type ImpactAmounts struct {
	Before     string `json:"before"`
	After      string `json:"after"`
	Difference string `json:"difference"`
}

// ImpactLine is what invoice lines to one destination come to, whatever their prices.
type ImpactLine struct {
	Country            string `json:"country"` // of the invoice
	Plan               string `json:"plan"`
	Currency           string `json:"currency"`
	DestinationCountry string `json:"destination_country"`
	Destination        string `json:"destination"`
	Type               string `json:"type"`
	SecondsBefore      int64  `json:"seconds_before"`
	SecondsAfter       int64  `json:"seconds_after"`
	ImpactAmounts
}

// ImpactException is of calls that cost nothing yet.
type ImpactException struct {
	Reason string `json:"reason"`
	Before int64  `json:"before"`
	After  int64  `json:"after"`
}

// ImpactPrefix is of the numbers of a prefix that no longer one of the two
// versions has: a change of the diff in money.
type ImpactPrefix struct {
	Prefix    string    `json:"prefix"`
	RowBefore *RowState `json:"row_before"`
	RowAfter  *RowState `json:"row_after"`
	Calls     int64     `json:"calls"` // with overage, before or else after
	Seconds   int64     `json:"seconds"`
	ImpactAmounts
}

// Limits of an Impact.
const (
	DefaultTop = 50
	MaxTop     = 10_000
)

// ImpactOf rates a month with the versions in force, and again with the sheet in
// their place. The view must be the caller's alone: its ledger is another one
// afterwards.
func ImpactOf(v *projections.View, s *Sheet, tenant string, month domain.Month, top int) (*Impact, error) {
	if top <= 0 {
		top = DefaultTop
	}
	l := v.Ledger
	d := &Impact{
		Tenant: tenant, Month: month.String(), Position: v.Head.Events, Deck: s.Deck, Version: s.Version, InForce: []string{},
		Totals: []ImpactTotal{}, Lines: []ImpactLine{}, Exceptions: []ImpactException{}, Currency: string(s.Currency), Prefixes: []ImpactPrefix{},
	}
	known := l.Decks(tenant)
	taken := map[string]bool{}
	priced := map[string]*index{} // by version
	for i := range known {
		one := &known[i]
		if one.Deck != s.Deck {
			continue
		}
		if one.State == domain.DeckValid && one.Currency != s.Currency && (one.Own || s.Tenant == domain.CatalogTenant) {
			return nil, fmt.Errorf("deck %s is in %s, and this version in %s would never be in force: publish it as another deck", s.Deck, one.Currency, s.Currency)
		}
		taken[one.Version] = true
	}
	indexOf := func(version string) *index {
		x := priced[version]
		if x == nil {
			x = newIndex(nil)
			for i := range known {
				if known[i].Deck == s.Deck && known[i].Version == version {
					x = newIndex(SheetOf(tenant, &known[i]))
				}
			}
			priced[version] = x
		}
		return x
	}

	from, to := l.Bounds(tenant, month)
	before := l.Rating(tenant, month)
	sums := prefixSums{of: map[string]*prefixSum{}, after: newIndex(s), deck: s.Deck}
	inForce := versionsAt(known, s.Deck)
	for o := range l.Overages(tenant, month) {
		sums.add(o, indexOf(inForce.at(o.At)), false)
	}
	for _, one := range inForce {
		if one.EffectiveFrom < to && one.Version == inForce.at(max(one.EffectiveFrom, from)) {
			d.InForce = append(d.InForce, one.Version)
		}
	}

	name := s.Version
	for taken[name] {
		name = "staged " + name
	}
	l.WithdrawDecks(s.Tenant, s.Deck, from, to)
	l.Add(&domain.Event{Tenant: s.Tenant, Source: DefaultSource, ID: name, Time: from, Data: &domain.Deck{
		Deck: s.Deck, Version: name, EffectiveFrom: from, Currency: s.Currency, Part: 1, Parts: 1, Rows: s.Rows,
	}})
	after := l.Rating(tenant, month)
	for o := range l.Overages(tenant, month) {
		sums.add(o, indexOf(inForce.at(o.At)), true)
	}
	d.totals(&before, &after)
	d.lines(&before, &after)
	d.exceptions(&before, &after)
	d.prefixes(sums, min(top, MaxTop))
	return d, nil
}

// versionList are valid versions of a deck, by when they take effect.
type versionList []domain.DeckVersion

func versionsAt(known []domain.DeckVersion, deck string) versionList {
	var list versionList
	for _, v := range known {
		if v.Deck == deck && v.State == domain.DeckValid {
			list = append(list, v)
		}
	}
	return list
}

// at is the version in force; "": none.
func (l versionList) at(t domain.Instant) string {
	for i := len(l) - 1; i >= 0; i-- {
		if l[i].EffectiveFrom <= t {
			return l[i].Version
		}
	}
	return ""
}

func (d *Impact) totals(before, after *domain.Rating) {
	type key struct {
		country, plan string
		currency      domain.Currency
	}
	all := map[key]*[2]domain.Amount{}
	for side, r := range []*domain.Rating{before, after} {
		for i := range r.Invoices {
			v := &r.Invoices[i]
			k := key{v.Country, v.Plan, v.Currency}
			if all[k] == nil {
				zero := domain.Amount{Digits: v.Currency.Digits()}
				all[k] = &[2]domain.Amount{zero, zero}
			}
			all[k][side].Add(v.Total)
		}
	}
	for k, sides := range all {
		d.Totals = append(d.Totals, ImpactTotal{k.country, k.plan, string(k.currency), amounts(&sides[0], &sides[1])})
	}
	slices.SortFunc(d.Totals, func(a, b ImpactTotal) int {
		return cmp.Or(cmp.Compare(a.Country, b.Country), cmp.Compare(a.Plan, b.Plan), cmp.Compare(a.Currency, b.Currency))
	})
}

func amounts(before, after *domain.Amount) ImpactAmounts {
	difference := domain.Amount{Digits: after.Digits}
	difference.Minor.Sub(&after.Minor, &before.Minor)
	return ImpactAmounts{before.String(), after.String(), difference.String()}
}

func (d *Impact) lines(before, after *domain.Rating) {
	type key struct {
		country, plan, to, name, rowType string
		currency                         domain.Currency
	}
	type sums struct {
		amount  [2]domain.Amount
		seconds [2]int64
	}
	all := map[key]*sums{}
	for side, r := range []*domain.Rating{before, after} {
		for i := range r.Invoices {
			v := &r.Invoices[i]
			for j := range v.Lines {
				line := &v.Lines[j]
				k := key{v.Country, v.Plan, line.Country, line.Name, line.RowType, v.Currency}
				if all[k] == nil {
					zero := domain.Amount{Digits: v.Currency.Digits()}
					all[k] = &sums{amount: [2]domain.Amount{zero, zero}}
				}
				all[k].amount[side].Add(line.Amount)
				all[k].seconds[side] += line.Seconds
			}
		}
	}
	size := map[key]*big.Int{}
	var keys []key
	for k, s := range all {
		if s.seconds[0] == s.seconds[1] && s.amount[0].Minor.Cmp(&s.amount[1].Minor) == 0 {
			continue
		}
		keys = append(keys, k)
		size[k] = new(big.Int).Abs(new(big.Int).Sub(&s.amount[1].Minor, &s.amount[0].Minor))
	}
	slices.SortFunc(keys, func(a, b key) int {
		return cmp.Or(size[b].Cmp(size[a]), cmp.Compare(a.country, b.country), cmp.Compare(a.plan, b.plan), cmp.Compare(a.currency, b.currency),
			cmp.Compare(a.to, b.to), cmp.Compare(a.name, b.name), cmp.Compare(a.rowType, b.rowType))
	})
	for _, k := range keys {
		s := all[k]
		d.Lines = append(d.Lines, ImpactLine{
			k.country, k.plan, string(k.currency), k.to, k.name, k.rowType, s.seconds[0], s.seconds[1], amounts(&s.amount[0], &s.amount[1]),
		})
	}
}

func (d *Impact) exceptions(before, after *domain.Rating) {
	counts := map[string]*[2]int64{}
	for side, r := range []*domain.Rating{before, after} {
		for _, e := range r.Exceptions {
			if counts[e.Reason] == nil {
				counts[e.Reason] = &[2]int64{}
			}
			counts[e.Reason][side] = e.Count
		}
	}
	for reason, c := range counts {
		if c[0] != c[1] {
			d.Exceptions = append(d.Exceptions, ImpactException{reason, c[0], c[1]})
		}
	}
	slices.SortFunc(d.Exceptions, func(a, b ImpactException) int { return cmp.Compare(a.Reason, b.Reason) })
}

// prefixSums gather what calls cost by cell.
type prefixSums struct {
	of    map[string]*prefixSum
	after *index
	deck  string
	text  [domain.MaxDigits + 1]byte
}

type prefixSum struct {
	rows    [2]*domain.Row
	terms   [2]map[terms]*[2]int64 // calls, seconds
	calls   [2]int64
	seconds [2]int64
}

// terms are what the calls of a line cost.
type terms struct{ price, fee domain.Micros }

// add takes a call in that the deck prices, before or after.
func (p *prefixSums) add(o domain.Overage, was *index, after bool) {
	if o.Line.Deck != p.deck {
		return
	}
	text := p.digits(o.Called)
	a, b := was.find(text), p.after.find(text)
	cell := a
	if b != nil && (a == nil || len(b.Prefix) > len(a.Prefix)) {
		cell = b
	}
	if cell == nil {
		return // it is priced by one of the two
	}
	s := p.of[cell.Prefix]
	if s == nil {
		s = &prefixSum{terms: [2]map[terms]*[2]int64{{}, {}}}
		p.of[cell.Prefix] = s
	}
	s.rows = [2]*domain.Row{a, b}
	side := 0
	if after {
		side = 1
	}
	k := terms{o.Line.Price, o.Line.Fee}
	if s.terms[side][k] == nil {
		s.terms[side][k] = &[2]int64{}
	}
	s.terms[side][k][0]++
	s.terms[side][k][1] += o.Seconds
	s.calls[side]++
	s.seconds[side] += o.Seconds
}

// digits is a number as an index looks it up, for as long as nobody asks for another.
func (p *prefixSums) digits(n domain.Number) []byte {
	text := p.text[:0]
	if n.Short() {
		text = append(text, '=')
	}
	var digits [20]byte
	plain := strconv.AppendUint(digits[:0], n.Digits, 10)
	for i := len(plain); i < int(n.Len); i++ {
		text = append(text, '0')
	}
	if n.Len == 0 {
		return text
	}
	return append(text, plain...)
}

// exactly is what one side comes to.
func (s *prefixSum) exactly(side int) *big.Rat {
	sum := new(big.Rat)
	for k, n := range s.terms[side] {
		sum.Add(sum, domain.ExactCharge(k.price, k.fee, n[0], n[1]))
	}
	return sum
}

func (d *Impact) prefixes(sums prefixSums, top int) {
	type one struct {
		prefix             string
		before, after, sum *big.Rat
		size               *big.Rat
	}
	var all []one
	for prefix, s := range sums.of {
		o := one{prefix: prefix, before: s.exactly(0), after: s.exactly(1)}
		o.sum = new(big.Rat).Sub(o.after, o.before)
		if o.sum.Sign() == 0 {
			continue
		}
		o.size = new(big.Rat).Abs(o.sum)
		all = append(all, o)
	}
	slices.SortFunc(all, func(a, b one) int { return cmp.Or(b.size.Cmp(a.size), cmp.Compare(a.prefix, b.prefix)) })
	d.PrefixesFound = len(all)
	others := new(big.Rat)
	for i, o := range all {
		if i >= top {
			others.Add(others, o.sum)
			continue
		}
		s := sums.of[o.prefix]
		side := 0
		if s.calls[0] == 0 {
			side = 1
		}
		d.Prefixes = append(d.Prefixes, ImpactPrefix{
			o.prefix, rowState(s.rows[0]), rowState(s.rows[1]), s.calls[side], s.seconds[side],
			ImpactAmounts{o.before.RatString(), o.after.RatString(), o.sum.RatString()},
		})
	}
	d.Others = others.RatString()
}
