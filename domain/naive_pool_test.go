package domain_test

import (
	"cmp"
	"math/big"
	"slices"
	"strings"

	"tollbook/domain"
)

// --- R3 licences, R4 pools, R5 grants

func (n *naive) hold() {
	type step struct {
		event      domain.Event
		user, plan string
		at         domain.Instant
		assigned   *domain.Assignment // nil: removed
	}
	for family := range domain.Family(len(domain.Families)) {
		var steps []step
		for _, e := range n.own {
			switch d := e.Data.(type) {
			case *domain.Assignment:
				steps = append(steps, step{e, d.User, d.Plan, d.EffectiveAt, d})
			case *domain.Removal:
				steps = append(steps, step{e, d.User, d.Plan, d.EffectiveAt, nil})
			}
		}
		steps = slices.DeleteFunc(steps, func(s step) bool { return n.family(s.plan) != family })
		slices.SortFunc(steps, func(a, b step) int {
			return cmp.Or(cmp.Compare(a.at, b.at), later(a.event, b.event))
		})
		held := map[string]*naiveLicence{}
		for _, s := range steps {
			current := held[s.user]
			if s.assigned == nil {
				if current != nil && current.plan == s.plan {
					current.to = s.at
					delete(held, s.user)
				}
				continue
			}
			if current != nil {
				current.to = s.at
			}
			l := &naiveLicence{user: s.user, plan: s.plan, country: s.assigned.Country, family: family, from: s.at, to: domain.MaxInstant + 1}
			held[s.user] = l
			n.licences = append(n.licences, l)
		}
	}
	n.licences = slices.DeleteFunc(n.licences, func(l *naiveLicence) bool { return l.from >= l.to })
}

// grants tells whether every bucket of p has minutes for the country (R10).
func grants(p *domain.Plan, country string) bool {
	if p == nil {
		return false
	}
	for i := range p.Buckets {
		if _, ok := minutesOf(&p.Buckets[i], country); !ok {
			return false
		}
	}
	return true
}

func minutesOf(b *domain.Bucket, country string) (int64, bool) {
	if m, ok := b.Minutes[country]; ok {
		return m, true
	}
	m, ok := b.Minutes[domain.AnyCountry]
	return m, ok
}

// open makes the month's pools out of the licences that touch it.
func (n *naive) open() {
	start, end := n.start(n.month), n.start(n.month+1)
	for _, l := range n.licences {
		if l.from >= end || l.to <= start {
			continue
		}
		if !grants(n.plan(l.plan), l.country) {
			n.ungranted = append(n.ungranted, l)
			continue
		}
		p := n.poolOf(l)
		if p == nil {
			p = &naivePool{plan: n.plan(l.plan)}
			p.country, p.user = poolKey(p.plan, l)
			n.pools = append(n.pools, p)
		}
		p.licences = append(p.licences, l)
	}
	slices.SortFunc(n.pools, func(a, b *naivePool) int {
		return cmp.Or(strings.Compare(a.country, b.country), strings.Compare(a.plan.Plan, b.plan.Plan), strings.Compare(a.user, b.user))
	})
	for _, p := range n.pools {
		p.grant(start, end)
	}
}

// poolKey is what R4 adds to tenant, month and plan.
func poolKey(p *domain.Plan, l *naiveLicence) (country, user string) {
	country = l.country
	if shared, ok := p.SharedPools[country]; ok {
		country = shared
	}
	switch p.Scope {
	case domain.ScopeTenant:
		country = ""
	case domain.ScopeUser:
		user = l.user
	}
	return country, user
}

func (n *naive) poolOf(l *naiveLicence) *naivePool {
	for _, p := range n.pools {
		country, user := poolKey(p.plan, l)
		if p.plan.Plan == l.plan && p.country == country && p.user == user {
			return p
		}
	}
	return nil
}

// grant computes R5 for the month [start, end).
func (p *naivePool) grant(start, end domain.Instant) {
	users := map[string]bool{}
	for _, l := range p.licences {
		users[l.user] = true
	}
	// The number held changes for the better only where an interval begins.
	instants := []domain.Instant{start}
	for _, l := range p.licences {
		if l.from > start {
			instants = append(instants, l.from)
		}
	}
	heldAt := func(t domain.Instant) (held []*naiveLicence) {
		for _, l := range p.licences {
			if l.holds(t) {
				held = append(held, l)
			}
		}
		return held
	}
	switch p.plan.Grant {
	case domain.GrantPeak:
		for _, t := range instants {
			p.count = max(p.count, int64(len(heldAt(t))))
		}
	case domain.GrantStart:
		p.count = int64(len(heldAt(start)))
	default:
		p.count = int64(len(users))
	}

	p.used, p.overage = make([]int64, len(p.plan.Buckets)), make([]int64, len(p.plan.Buckets))
	for i := range p.plan.Buckets {
		sum := func(held []*naiveLicence) (minutes int64) {
			for _, l := range held {
				m, _ := minutesOf(&p.plan.Buckets[i], l.country)
				minutes += m
			}
			return minutes
		}
		var seconds int64
		switch p.plan.Grant {
		case domain.GrantPeak:
			for _, t := range instants {
				seconds = max(seconds, 60*sum(heldAt(t)))
			}
		case domain.GrantStart:
			seconds = 60 * sum(heldAt(start))
		case domain.GrantAny:
			for user := range users {
				var most int64
				for _, l := range p.licences {
					if l.user == user {
						most = max(most, sum([]*naiveLicence{l}))
					}
				}
				seconds += 60 * most
			}
		case domain.GrantProrated:
			exact := new(big.Rat)
			for _, l := range p.licences {
				overlap := min(l.to, end) - max(l.from, start)
				share := big.NewRat(int64(overlap), int64(end-start))
				exact.Add(exact, share.Mul(share, big.NewRat(60*sum([]*naiveLicence{l}), 1)))
			}
			seconds = new(big.Int).Quo(exact.Num(), exact.Denom()).Int64()
		}
		p.granted = append(p.granted, seconds)
	}
}
