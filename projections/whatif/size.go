package whatif

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"math/big"
	"slices"

	"tollbook/domain"
	"tollbook/eventstore"
	"tollbook/projections"
)

// What right-sizing looks for.
const (
	ByLicences = "licences" // how many licences of each plan and country
	ByUsers    = "users"    // the plan of each user
)

// A Sizing asks for the cheapest licences that would have carried the calls of some
// months.
type Sizing struct {
	Tenant string   `json:"tenant"`
	Months []string `json:"months"`
	At     uint64   `json:"at,omitzero"`      // the position as of which; 0: the end of the book
	By     string   `json:"by"`               // licences or users
	Plans  []string `json:"plans,omitempty"`  // that may be proposed; empty: all that have a price
	Prices []Price  `json:"prices,omitempty"` // instead of the catalogue's
	// At most so many ratings of the months are tried; 0: DefaultTrials.
	Trials int `json:"trials,omitzero"`
}

// Limits of a sizing.
const (
	MaxMonths     = 24
	DefaultTrials = 2000
	MaxTrials     = 1_000_000
	maxSpare      = 20_000 // licences of one plan and country that are tried at most
	maxExhaustive = 1024   // ways to give plans to users that are all tried
)

// A SizingDocument is what would have been the cheapest, and how that was found.
type SizingDocument struct {
	Tenant   string   `json:"tenant"`
	Months   []string `json:"months"`
	Position uint64   `json:"position"`
	Head     string   `json:"head"`
	By       string   `json:"by"`
	Method   string   `json:"method"`
	Exact    bool     `json:"exact"` // nothing the method may propose is cheaper
	Trials   int      `json:"trials"`
	Notes    []string `json:"notes"` // what was left out, and why

	Totals   []Total         `json:"totals"` // of all months, as they are and as proposed
	Licences []LicenceAdvice `json:"licences"`
	Users    []UserAdvice    `json:"users"`

	// What is proposed, month by month. Evaluated, their differences add up to that of
	// the totals.
	Scenarios []Scenario `json:"scenarios"`
}

// LicenceAdvice is how many licences of a plan and country would have been the
// cheapest. More are spare ones: they make minutes, and nobody uses them. Fewer are
// those of users who made no call that asks for a licence.
type LicenceAdvice struct {
	Plan     string   `json:"plan"`
	Country  string   `json:"country"`
	Change   int      `json:"change"`
	Remove   []string `json:"remove"` // of these users
	Currency string   `json:"currency"`
	Saving   string   `json:"saving"` // in all months, once what stands before it in the list is done
}

// UserAdvice is the plan that would have been the cheapest for a user.
type UserAdvice struct {
	User    string `json:"user"`
	Country string `json:"country"`
	From    string `json:"from"` // the plan held, of several the first
	To      string `json:"to"`
}

// RightSize says which licences would have been the cheapest. The months are rated
// as of one position, closed ones too. What is proposed was rated: in no currency
// is it dearer than what is, and in no month do more calls or licences need
// attention. progress is told of the events read, with no trials, then of the
// ratings tried. An error about what was asked is a [*Refusal].
func RightSize(ctx context.Context, walk eventstore.Walk, q Sizing, progress func(events uint64, trials int)) (SizingDocument, error) {
	if progress == nil {
		progress = func(uint64, int) {}
	}
	z, err := q.check()
	if err != nil {
		return SizingDocument{}, err
	}
	// No month 0 is ever closed: the fold goes to the position.
	stand, err := projections.StandOf(ctx, walk, q.Tenant, 0, q.At, func(events, _ uint64) { progress(events, 0) })
	if err != nil {
		return SizingDocument{}, err
	}
	z.ctx, z.stand, z.world, z.doc.Position, z.doc.Head = ctx, stand, newWorld(stand.Ledger, q.Tenant), stand.Head.Events, stand.Head.String()
	z.was = maps.Clone(z.world.held)
	z.progress = func() { progress(stand.Head.Events, z.doc.Trials) }
	if z.price, err = newPrices(q.Prices, z.world); err != nil {
		return SizingDocument{}, err
	}
	known := stand.Ledger.PlanNames(q.Tenant)
	for _, plan := range q.Plans {
		if !slices.Contains(known, plan) {
			return SizingDocument{}, refuse("plan %s is not in the catalogue; tollbook import-catalog publishes plans", plan)
		}
	}
	for _, month := range z.months {
		from, to := stand.Ledger.Bounds(q.Tenant, month)
		z.spans = append(z.spans, span{from, to})
		for family, users := range stand.Ledger.Usage(q.Tenant, month) {
			for user, u := range users {
				sum := z.used[family][user]
				z.used[family][user] = domain.Usage{Calls: sum.Calls + u.Calls, Seconds: sum.Seconds + u.Seconds}
			}
		}
	}
	before, err := z.rate()
	if err != nil {
		return SizingDocument{}, err
	}
	z.now = before
	if q.By == ByLicences {
		err = z.licences()
	} else {
		err = z.users()
	}
	if err != nil {
		return SizingDocument{}, err
	}
	z.doc.Totals = totals(before.bill, z.now.bill)
	z.scenarios(q)
	return z.doc, nil
}

// A sizer looks for what is cheaper than what is.
type sizer struct {
	ctx      context.Context
	stand    *projections.Stand
	world    *world
	was      map[string][]domain.Holding // by user, as in the book
	price    prices
	months   []domain.Month
	spans    []span
	used     [len(domain.Families)]map[string]domain.Usage // in all months
	plans    map[string]bool                               // nil: all
	limit    int
	progress func()

	proposal Scenario // what is accepted so far, of any month
	now      state    // what it comes to; the world is so between trials
	doc      SizingDocument
}

// A state is what the months come to, with the licences the world has.
type state struct {
	bill
	exceptions map[exception]int64
}

type exception struct {
	month  int
	reason string
}

// MaxTrials is how many ratings are tried at most.
func (q *Sizing) MaxTrials() int { return cmp.Or(q.Trials, DefaultTrials) }

func (q *Sizing) check() (*sizer, error) {
	z := &sizer{limit: q.MaxTrials()}
	z.doc = SizingDocument{Tenant: q.Tenant, By: q.By, Months: []string{}, Notes: []string{}, Licences: []LicenceAdvice{}, Users: []UserAdvice{}}
	for family := range z.used {
		z.used[family] = map[string]domain.Usage{}
	}
	switch {
	case q.Tenant == "":
		return nil, refuse("tenant: is required")
	case q.By != ByLicences && q.By != ByUsers:
		return nil, refuse("by %.20q: must be licences or users", q.By)
	case len(q.Months) == 0 || len(q.Months) > MaxMonths:
		return nil, refuse("%d months: name 1 to %d", len(q.Months), MaxMonths)
	case q.Trials < 0 || q.Trials > MaxTrials:
		return nil, refuse("trials %d: must be 0 to %d", q.Trials, MaxTrials)
	}
	for _, text := range q.Months {
		month, err := domain.ParseMonth(text)
		if err != nil {
			return nil, refuse("month: %v", err)
		}
		z.months = append(z.months, month)
	}
	slices.Sort(z.months)
	if len(slices.Compact(slices.Clone(z.months))) != len(z.months) {
		return nil, refuse("months: name each once")
	}
	for _, month := range z.months {
		z.doc.Months = append(z.doc.Months, month.String())
	}
	for _, plan := range q.Plans {
		if z.plans == nil {
			z.plans = map[string]bool{}
		}
		z.plans[plan] = true
	}
	return z, nil
}

// rate rates the months as the world is.
func (z *sizer) rate() (state, error) {
	s := state{bill{purse{}, purse{}}, map[exception]int64{}}
	for i, month := range z.months {
		if err := z.ctx.Err(); err != nil {
			return s, err
		}
		rated := z.stand.Rated(month)
		s.charged.plus(charged(&rated))
		s.rented.plus(z.price.rented(z.world.seats(z.spans[i]), month))
		for _, e := range rated.Exceptions {
			s.exceptions[exception{i, e.Reason}] = e.Count
		}
	}
	return s, nil
}

// try rates what the world was changed to; false: nothing more may be tried.
func (z *sizer) try() (state, bool, error) {
	if z.doc.Trials >= z.limit {
		return state{}, false, nil
	}
	z.doc.Trials++
	z.progress()
	s, err := z.rate()
	return s, err == nil, err
}

func (s *state) sum(c domain.Currency) *big.Int {
	return new(big.Int).Add(s.charged.in(c), s.rented.in(c))
}

// allows reports whether a state may take the place of s: no currency is dearer,
// and no more calls or licences need attention.
func (s *state) allows(other *state) bool {
	for _, p := range []purse{other.charged, other.rented} {
		for c := range p {
			if other.sum(c).Cmp(s.sum(c)) > 0 {
				return false
			}
		}
	}
	for e, n := range other.exceptions {
		if n > s.exceptions[e] {
			return false
		}
	}
	return true
}

// priced are the months' prices of a seat, if all have one, of one currency.
func (z *sizer) priced(s seat) (domain.Currency, bool) {
	var currency domain.Currency
	for _, month := range z.months {
		p, ok := z.price.of(s, month)
		if !ok || currency != "" && currency != p.Currency {
			return "", false
		}
		currency = p.Currency
	}
	return currency, true
}

func (z *sizer) note(format string, args ...any) {
	if text := fmt.Sprintf(format, args...); !slices.Contains(z.doc.Notes, text) {
		z.doc.Notes = append(z.doc.Notes, text)
	}
}

// held are the seats of which any licence is held in any of the months, sorted.
func (z *sizer) held() []seat {
	all := map[seat]bool{}
	for _, s := range z.spans {
		for key := range z.world.seats(s) {
			all[key] = true
		}
	}
	return slices.SortedFunc(maps.Keys(all), compareSeats)
}

// scenarios are what is proposed for each month: of users, those whose licences
// touch it.
func (z *sizer) scenarios(q Sizing) {
	for i, month := range z.months {
		s := z.proposal
		s.Tenant, s.Month, s.At, s.Prices = q.Tenant, month.String(), z.doc.Position, q.Prices
		having := func(users []string, plan, country string, any bool) []string {
			family := z.world.ledger.FamilyOf(z.world.tenant, plan)
			return slices.DeleteFunc(slices.Clone(users), func(user string) bool {
				return !slices.ContainsFunc(z.spans[i].of(z.was[user], family), func(h domain.Holding) bool {
					return any || h.Plan == plan && h.Country == country
				})
			})
		}
		s.Remove, s.Plans = nil, nil
		for _, r := range z.proposal.Remove {
			if r.Users = having(r.Users, r.Plan, r.Country, false); len(r.Users) > 0 {
				s.Remove = append(s.Remove, r)
			}
		}
		for _, p := range z.proposal.Plans {
			if p.Users = having(p.Users, p.To, "", true); len(p.Users) > 0 {
				s.Plans = append(s.Plans, p)
			}
		}
		z.doc.Scenarios = append(z.doc.Scenarios, s)
	}
}
