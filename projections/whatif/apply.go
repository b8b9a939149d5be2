package whatif

import (
	"cmp"
	"fmt"
	"maps"
	"path"
	"slices"

	"tollbook/domain"
)

// A change is the scenario of one month, made in a world.
type change struct {
	*world
	month domain.Month
	span
	used  [len(domain.Families)]map[string]domain.Usage // where a change asks for it
	words []string                                      // what was changed, a line each
}

func (c *change) say(format string, args ...any) {
	c.words = append(c.words, fmt.Sprintf(format, args...))
}

func (c *change) apply(s *Scenario) error {
	for i := range s.Grants {
		if err := c.grant(&s.Grants[i]); err != nil {
			return err
		}
	}
	for i := range s.Decks {
		if err := c.deck(&s.Decks[i]); err != nil {
			return err
		}
	}
	// Who uses what is asked before any licence changes, so that changes by number do
	// not depend on one another. It is not asked for nothing: it looks at every call.
	if slices.ContainsFunc(s.Remove, func(r Removal) bool { return r.Licences > 0 }) || slices.ContainsFunc(s.Add, func(a Addition) bool { return a.Unlicensed }) {
		c.used = c.ledger.Usage(c.tenant, c.month)
	}
	for i := range s.Remove {
		if err := c.remove(&s.Remove[i]); err != nil {
			return err
		}
	}
	for i := range s.Plans {
		if err := c.plan(&s.Plans[i]); err != nil {
			return err
		}
	}
	for i := range s.Add {
		if err := c.add(&s.Add[i]); err != nil {
			return err
		}
	}
	return nil
}

// republish publishes a plan of the month again, otherwise.
func (c *change) republish(name string, otherwise func(*domain.Plan)) error {
	plan, owner := c.ledger.PlanInForce(c.tenant, name, c.month)
	if plan == nil {
		return refuse("plan %s: no version is in force in %s", name, c.month)
	}
	p := *plan
	p.EffectiveFrom = c.month.FirstDay()
	otherwise(&p)
	c.publish(owner, &p)
	return nil
}

func (c *change) grant(g *GrantChange) error {
	i := slices.Index(domain.Grants[:], g.Grant)
	if i < 0 {
		return refuse("grant %.20q of plan %s: must be peak, any, start or prorated", g.Grant, g.Plan)
	}
	c.say("%s grants by %s", g.Plan, g.Grant)
	return c.republish(g.Plan, func(p *domain.Plan) { p.Grant = domain.Grant(i) })
}

// deck has all that names a deck name another. A version of its own, of a file or
// of the book, becomes a deck of its own: so it may have another currency, and
// lines tell what they are priced by.
func (c *change) deck(d *DeckChange) error {
	use, parts := d.Use, d.Parts
	known := c.ledger.Decks(c.tenant)
	if d.Version != "" {
		i := slices.IndexFunc(known, func(v domain.DeckVersion) bool { return v.Deck == d.Use && v.Version == d.Version })
		if i < 0 || known[i].State != domain.DeckValid && known[i].State != domain.DeckOtherCurrency {
			return refuse("deck %s has no version %s that is complete and valid; tollbook deck list has them", d.Use, d.Version)
		}
		use, parts = d.Use+"@"+d.Version, known[i].Parts
	} else if parts != nil {
		use = path.Base(d.File)
	}
	named := func(v domain.DeckVersion) bool { return v.Deck == use }
	if parts == nil && !slices.ContainsFunc(known, named) {
		return refuse("deck %s is not in the book; tollbook deck list has them", use)
	}
	if parts != nil {
		for slices.ContainsFunc(known, named) {
			use += " (what-if)"
		}
		for _, part := range parts {
			p := *part
			p.Deck, p.EffectiveFrom = use, c.from
			c.publish(c.tenant, &p)
		}
		if v, ok := c.ledger.DeckAt(c.tenant, use, c.from); !ok || v.State != domain.DeckValid {
			return refuse("deck %s of %s is not valid as a whole: a part is missing, or two rows have one prefix", d.Deck, d.File)
		}
	}
	found := false
	if config := c.ledger.ConfigInForce(c.tenant, c.month); slices.Contains(slices.Collect(maps.Values(config.Decks)), d.Deck) {
		config.Decks = maps.Clone(config.Decks)
		for country, name := range config.Decks {
			if name == d.Deck {
				config.Decks[country] = use
			}
		}
		config.EffectiveFrom = c.month.FirstDay()
		c.publish(c.tenant, &config)
		found = true
	}
	for _, name := range c.ledger.PlanNames(c.tenant) {
		if p, _ := c.ledger.PlanInForce(c.tenant, name, c.month); p != nil && p.Deck == d.Deck {
			if err := c.republish(name, func(p *domain.Plan) { p.Deck = use }); err != nil {
				return err
			}
			found = true
		}
	}
	if !found {
		return refuse("deck %s: no plan of %s and no country of the tenant's configuration names it", d.Deck, c.month)
	}
	c.say("%s is priced by %s", d.Deck, use)
	return nil
}

// matching are the licences within the month of a plan and a country, "" of any.
func (c *change) matching(user string, family domain.Family, plan, country string) (match func(domain.Holding) bool, any bool) {
	match = func(h domain.Holding) bool {
		return (plan == "" || h.Plan == plan) && (country == "" || h.Country == country)
	}
	return match, slices.ContainsFunc(c.of(c.held[user], family), match)
}

// holders are the users with matching licences, sorted.
func (c *change) holders(family domain.Family, plan, country string) []string {
	return slices.DeleteFunc(c.users(), func(user string) bool {
		_, any := c.matching(user, family, plan, country)
		return !any
	})
}

func in(country string) string {
	if country == "" {
		return ""
	}
	return " in " + country
}

func (c *change) remove(r *Removal) error {
	family := c.ledger.FamilyOf(c.tenant, r.Plan)
	users := r.Users
	if r.Licences > 0 {
		users = c.holders(family, r.Plan, r.Country)
		if len(users) < r.Licences {
			return refuse("remove %d of %s%s: %d users hold it in %s", r.Licences, r.Plan, in(r.Country), len(users), c.month)
		}
		usage := c.used[family]
		slices.SortStableFunc(users, func(a, b string) int {
			return cmp.Or(cmp.Compare(usage[a].Seconds, usage[b].Seconds), cmp.Compare(usage[a].Calls, usage[b].Calls))
		})
		users = users[:r.Licences]
	}
	for _, user := range users {
		match, any := c.matching(user, family, r.Plan, r.Country)
		if !any {
			return refuse("remove %s%s of %s: holds none in %s", r.Plan, in(r.Country), user, c.month)
		}
		c.change(user, family, c.span, slices.DeleteFunc(c.of(c.held[user], family), match))
	}
	c.say("%s of %s%s fewer: %s", licences(len(users)), r.Plan, in(r.Country), names(users))
	return nil
}

func (c *change) plan(p *PlanChange) error {
	family := c.ledger.FamilyOf(c.tenant, p.To)
	if p.From != "" && c.ledger.FamilyOf(c.tenant, p.From) != family {
		return refuse("plan %s can't take the place of %s: it is of another family", p.To, p.From)
	}
	users := p.Users
	if len(users) == 0 {
		users = c.holders(family, p.From, p.In)
	}
	if len(users) == 0 {
		return refuse("plan %s instead of %s%s: nobody holds it in %s", p.To, p.From, in(p.In), c.month)
	}
	granted := map[string]error{} // by country
	for _, user := range users {
		match, any := c.matching(user, family, p.From, p.In)
		if !any {
			return refuse("plan %s instead of %s%s for %s: holds none in %s", p.To, cmp.Or(p.From, "another"), in(p.In), user, c.month)
		}
		inside := c.of(c.held[user], family)
		for i := range inside {
			if !match(inside[i]) {
				continue
			}
			inside[i].Plan, inside[i].Country = p.To, cmp.Or(p.Country, inside[i].Country)
			err, asked := granted[inside[i].Country]
			if !asked {
				err = c.grantsIn(p.To, inside[i].Country, c.month)
				granted[inside[i].Country] = err
			}
			if err != nil {
				return err
			}
		}
		c.change(user, family, c.span, inside)
	}
	c.say("%s%s instead of %s%s: %s", p.To, in(p.Country), cmp.Or(p.From, "what they hold"), in(p.In), names(users))
	return nil
}

func (c *change) add(a *Addition) error {
	if err := c.grantsIn(a.Plan, a.Country, c.month); err != nil {
		return err
	}
	family := c.ledger.FamilyOf(c.tenant, a.Plan)
	users := a.Users
	switch {
	case a.Unlicensed:
		usage := c.used[family]
		users = slices.SortedFunc(maps.Keys(usage), func(a, b string) int {
			return cmp.Or(cmp.Compare(usage[b].UnlicensedSeconds, usage[a].UnlicensedSeconds), cmp.Compare(a, b))
		})
		users = slices.DeleteFunc(users, func(user string) bool { return usage[user].UnlicensedCalls == 0 })
		if len(users) < a.Licences {
			return refuse("add %d of %s in %s to users without a licence: %d of them made calls in %s", a.Licences, a.Plan, a.Country, len(users), c.month)
		}
		users = users[:a.Licences]
	case a.Licences > 0:
		users = nil
		for n := 1; len(users) < a.Licences; n++ {
			if name := c.spare(a.Plan, a.Country, n); len(c.held[name]) == 0 {
				users = append(users, name)
			}
		}
	}
	for _, user := range users {
		gaps := c.gaps(c.held[user], family)
		if len(gaps) == 0 {
			return refuse("add %s to %s: holds a licence of that family all through %s; change the plan instead", a.Plan, user, c.month)
		}
		inside := c.of(c.held[user], family)
		for _, gap := range gaps {
			inside = append(inside, domain.Holding{User: user, Plan: a.Plan, Country: a.Country, Family: family, From: gap.from, To: gap.to})
		}
		slices.SortFunc(inside, func(x, y domain.Holding) int { return cmp.Compare(x.From, y.From) })
		c.change(user, family, c.span, inside)
	}
	if a.Licences > 0 && !a.Unlicensed {
		c.say("%s of %s in %s more, which nobody uses", licences(a.Licences), a.Plan, a.Country)
	} else {
		c.say("%s of %s in %s more: %s", licences(len(users)), a.Plan, a.Country, names(users))
	}
	return nil
}

func licences(n int) string {
	if n == 1 {
		return "1 licence"
	}
	return fmt.Sprintf("%d licences", n)
}

// names are the first of some users.
func names(users []string) string {
	text := ""
	for i, user := range users {
		if i == 3 && len(users) > 4 {
			return text + fmt.Sprintf(" and %d more", len(users)-i)
		}
		if i > 0 {
			text += ", "
		}
		text += user
	}
	return text
}
