package whatif

import (
	"cmp"
	"math/big"
	"slices"

	"tollbook/domain"
	"tollbook/projections"
)

const methodLicences = "For each plan and country in turn, how many licences: from without those of users who made no call (who held it longest goes first), to as many more as the overage could pay for. " +
	"More licences never make more overage, so a range of numbers is left out if the licences of its fewest and the overage of its most together cost no less than the best found; else it is halved and rated there (branch and bound). "

// licences finds the cheapest number of licences of each plan and country.
func (z *sizer) licences() error {
	z.doc.Method, z.doc.Exact = methodLicences, true
	pools := map[string]int{} // plans, and how many of their countries are sized
	for _, s := range z.held() {
		if z.plans != nil && !z.plans[s.plan] {
			continue
		}
		currency, ok := z.priced(s)
		if !ok {
			z.note("%s in %s is left as it is: it has no price of one currency in all months; --prices gives one", s.plan, s.country)
			continue
		}
		pools[s.plan]++
		if err := z.number(s, currency); err != nil {
			return err
		}
	}
	for plan, countries := range pools {
		p, _ := z.world.ledger.PlanInForce(z.world.tenant, plan, z.months[0])
		if countries > 1 && (p == nil || p.Scope == domain.ScopeTenant || len(p.SharedPools) > 0) {
			z.doc.Exact = false
			z.note("licences of %s in several countries make one pool: the countries were sized one after the other", plan)
		}
	}
	slices.Sort(z.doc.Notes)
	return nil
}

// A dial sets how many licences of a seat there are, against what is held.
type dial struct {
	*sizer
	seat
	family domain.Family
	idle   []string                    // whose licences may go, in this order
	was    map[string][]domain.Holding // of them
	spare  []string                    // names of licences there may be more
	n      int                         // set: below 0 so many idle ones are gone
}

func (z *sizer) dial(s seat) *dial {
	d := &dial{sizer: z, seat: s, family: z.world.ledger.FamilyOf(z.world.tenant, s.plan), was: map[string][]domain.Holding{}}
	long := map[string]domain.Instant{}
	for _, user := range z.world.users() {
		for _, span := range z.spans {
			for _, h := range span.of(z.world.held[user], d.family) {
				if h.Plan == s.plan && h.Country == s.country {
					long[user] += h.To - h.From
				}
			}
		}
		if long[user] > 0 && z.used[d.family][user].Calls == 0 {
			d.idle = append(d.idle, user)
			d.was[user] = z.world.held[user]
		}
	}
	// Those who hold it longest first: fewer of them leave fewer to be bought.
	slices.SortStableFunc(d.idle, func(a, b string) int { return cmp.Compare(long[b], long[a]) })
	return d
}

// set changes the world so that n licences more are held, or −n fewer.
func (d *dial) set(n int) {
	for ; d.n < n && d.n < 0; d.n++ { // give back
		user := d.idle[-d.n-1]
		d.world.hold(user, d.family, d.was[user], d.spans[0].from)
	}
	for ; d.n > n && d.n > 0; d.n-- {
		for _, s := range d.spans {
			d.world.change(d.spare[d.n-1], d.family, s, nil)
		}
	}
	for ; d.n < n; d.n++ {
		for k := len(d.spare) + 1; d.n == len(d.spare); k++ {
			if name := d.world.spare(d.plan, d.country, k); len(d.world.held[name]) == 0 {
				d.spare = append(d.spare, name)
			}
		}
		user := d.spare[d.n]
		for _, s := range d.spans {
			d.world.change(user, d.family, s, []domain.Holding{{User: user, Plan: d.plan, Country: d.country, Family: d.family, From: s.from, To: s.to}})
		}
	}
	for ; d.n > n; d.n-- {
		user := d.idle[-d.n]
		for _, s := range d.spans {
			d.world.change(user, d.family, s, slices.DeleteFunc(s.of(d.world.held[user], d.family), func(h domain.Holding) bool {
				return h.Plan == d.plan && h.Country == d.country
			}))
		}
	}
}

// most is how many more licences can pay: their price in all months is no more
// than the plan's overage.
func (d *dial) most(currency domain.Currency) int {
	plan, _ := d.world.ledger.PlanInForce(d.world.tenant, d.plan, d.months[0])
	if plan == nil || plan.Scope == domain.ScopeUser || len(plan.Buckets) == 0 || !plan.GrantsIn(d.country) {
		return 0
	}
	over, each := new(big.Int), int64(0)
	for _, month := range d.months {
		rated := d.stand.Rated(month)
		rated.Invoices = slices.DeleteFunc(rated.Invoices, func(i projections.Invoice) bool { return i.Plan != d.plan })
		over.Add(over, charged(&rated).in(currency))
		price, _ := d.price.of(d.seat, month)
		each += int64(price.Price)
	}
	if over.Sign() <= 0 {
		return 0
	}
	if each == 0 { // as many as anybody likes: no number is the right one
		d.doc.Exact = false
		d.note("%s in %s costs nothing: more of it was not tried", d.plan, d.country)
		return 0
	}
	// In millionths, with what rounding each month's licences may take off.
	over.Add(over, big.NewInt(int64(len(d.months))))
	over.Mul(over, new(big.Int).Exp(big.NewInt(10), big.NewInt(int64(6-currency.Digits())), nil))
	if n := over.Quo(over, big.NewInt(each)); n.IsInt64() && n.Int64() < maxSpare {
		return int(n.Int64())
	}
	d.doc.Exact = false
	d.note("more than %d licences more of %s in %s were not tried", maxSpare, d.plan, d.country)
	return maxSpare
}

// A rated number of licences.
type rated struct {
	n int
	state
}

// number finds the cheapest number of licences of a seat.
func (z *sizer) number(s seat, currency domain.Currency) error {
	d := z.dial(s)
	try := func(n int) (rated, bool, error) {
		d.set(n)
		s, ok, err := z.try()
		return rated{n, s}, ok, err
	}
	best := rated{0, z.now}
	better := func(r *rated) bool {
		if !z.now.allows(&r.state) {
			return false
		}
		order := r.sum(currency).Cmp(best.sum(currency))
		return order < 0 || order == 0 && max(r.n, -r.n) < max(best.n, -best.n)
	}
	// Ranges whose ends are rated, to look between.
	type gap struct{ low, high rated }
	var gaps []gap
	ends := []int{-len(d.idle), 0, d.most(currency)}
	low := best
	for i, n := range ends {
		end := rated{0, z.now}
		if n != 0 {
			var ok bool
			var err error
			if end, ok, err = try(n); err != nil {
				return err
			} else if !ok {
				z.stop()
				break
			}
			if better(&end) {
				best = end
			}
		}
		if i > 0 {
			gaps = append(gaps, gap{low, end})
		}
		low = end
	}
	bound := func(g *gap) *big.Int { return new(big.Int).Add(g.low.rented.in(currency), g.high.charged.in(currency)) }
	for len(gaps) > 0 {
		// The one that promises most first.
		i := 0
		for j := range gaps {
			if bound(&gaps[j]).Cmp(bound(&gaps[i])) < 0 {
				i = j
			}
		}
		g := gaps[i]
		gaps = slices.Delete(gaps, i, i+1)
		if g.high.n-g.low.n < 2 || bound(&g).Cmp(best.sum(currency)) >= 0 {
			continue
		}
		middle, ok, err := try((g.low.n + g.high.n) / 2)
		if err != nil {
			return err
		}
		if !ok {
			z.stop()
			break
		}
		if better(&middle) {
			best = middle
		}
		gaps = append(gaps, gap{g.low, middle}, gap{middle, g.high})
	}
	d.set(best.n)
	if best.n == 0 {
		return nil
	}
	advice := LicenceAdvice{
		Plan: s.plan, Country: s.country, Change: best.n, Remove: []string{}, Currency: string(currency),
		Saving: text(new(big.Int).Sub(z.now.sum(currency), best.sum(currency)), currency),
	}
	scenario := &z.proposal
	if best.n < 0 {
		advice.Remove = append(advice.Remove, d.idle[:-best.n]...)
		scenario.Remove = append(scenario.Remove, Removal{Plan: s.plan, Country: s.country, Users: advice.Remove})
	} else {
		scenario.Add = append(scenario.Add, Addition{Plan: s.plan, Country: s.country, Licences: best.n})
	}
	z.doc.Licences = append(z.doc.Licences, advice)
	z.now = best.state
	return nil
}

// stop notes that not all was tried.
func (z *sizer) stop() {
	z.doc.Exact = false
	z.note("stopped after %d ratings: --trials allows more", z.limit)
}
