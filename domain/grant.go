package domain

import (
	"cmp"
	"math/big"
	"slices"
)

// A GrantPassport says how the licences of a pool make its minutes (R5).
type GrantPassport struct {
	Country, Plan, User string
	Rule                Grant
	From, To            Instant // the month, [From, To)
	Licences            int64   // that make the grant, as a [PoolRating] has them
	Buckets             []BucketGrant
	Intervals           []GrantShare // by user, from
}

// A BucketGrant is what a bucket is granted.
type BucketGrant struct {
	Name    string
	Seconds int64
	// The instant whose licences make it: of GrantPeak the first at which most is
	// held, of GrantStart the month's first. 0: no single one.
	At Instant
}

// A GrantShare is one licence interval of the pool, clipped to the month, and what it adds.
type GrantShare struct {
	User, Country string
	From, To      Instant
	By            Ref        // the assignment
	Minutes       []int64    // that the plan gives such a licence, by bucket
	Seconds       []*big.Rat // that it adds to the grant, by bucket; exact, rounded down in the sum only
}

// ExplainGrant is the passport of a pool's grant; user is "" for all but pools of
// one user; its intervals are shared out by [GrantPassport.Share]. false: the month
// has no such pool.
func (l *Ledger) ExplainGrant(tenant string, id Month, country, plan, user string) (GrantPassport, bool) {
	a := l.accounts[tenant]
	if a == nil {
		return GrantPassport{}, false
	}
	a.resolve()
	m := a.months[id]
	if m == nil {
		m = a.newMonth(id)
	}
	m.refresh()
	p := m.pools[poolKey{country, plan, user}]
	if p == nil {
		return GrantPassport{}, false
	}
	g := GrantPassport{Country: country, Plan: plan, User: user, Rule: p.plan.Grant, From: m.start, To: m.end, Licences: p.count}
	for holder, list := range p.holders {
		for _, h := range list {
			s := GrantShare{User: a.users.names[holder], Country: h.country, From: h.from, To: h.to, By: a.assignmentAt(holder, p.plan.Plan, h.from)}
			for b := range p.plan.Buckets {
				minutes, _ := p.plan.Buckets[b].minutes(h.country)
				s.Minutes = append(s.Minutes, minutes)
			}
			g.Intervals = append(g.Intervals, s)
		}
	}
	g.Buckets = make([]BucketGrant, len(p.plan.Buckets))
	for _, l := range p.lanes {
		for i, b := range l.buckets {
			g.Buckets[b] = BucketGrant{Name: p.plan.Buckets[b].Name, Seconds: l.granted[i]}
		}
	}
	return g, true
}

// Share sorts the intervals and works out what each adds. It needs no ledger: of
// many licences it is the longer part.
func (g *GrantPassport) Share() {
	slices.SortFunc(g.Intervals, func(x, y GrantShare) int { return cmp.Or(cmp.Compare(x.User, y.User), cmp.Compare(x.From, y.From)) })
	for b := range g.Buckets {
		g.share(b)
	}
}

// assignmentAt is the event that made the interval of a plan that holds an instant.
func (a *account) assignmentAt(user uint32, plan string, at Instant) Ref {
	history := &a.licences[user]
	for _, held := range a.licencesOf(user)[a.familyOf(plan)] {
		if held.plan == plan && held.from <= at && at < held.to {
			e := &history.events[held.by]
			return Ref{e.source, e.id}
		}
	}
	return Ref{}
}

// share fills in what each interval adds to bucket b.
func (g *GrantPassport) share(b int) {
	whole := func(s *GrantShare) *big.Rat { return big.NewRat(60*s.Minutes[b], 1) }
	switch g.Rule {
	case GrantProrated:
		for i := range g.Intervals {
			s := &g.Intervals[i]
			s.Seconds = append(s.Seconds, new(big.Rat).Mul(whole(s), big.NewRat(int64(s.To-s.From), int64(g.To-g.From))))
		}
	case GrantAny: // each user once, by the largest
		for i := 0; i < len(g.Intervals); {
			most, next := i, i
			for ; next < len(g.Intervals) && g.Intervals[next].User == g.Intervals[i].User; next++ {
				if g.Intervals[next].Minutes[b] > g.Intervals[most].Minutes[b] {
					most = next
				}
			}
			for ; i < next; i++ {
				s := &g.Intervals[i]
				if i == most {
					s.Seconds = append(s.Seconds, whole(s))
				} else {
					s.Seconds = append(s.Seconds, new(big.Rat))
				}
			}
		}
	default: // those held at one instant
		at := g.From
		if g.Rule == GrantPeak {
			at = g.peak(b)
		}
		g.Buckets[b].At = at
		for i := range g.Intervals {
			s := &g.Intervals[i]
			if s.From <= at && at < s.To {
				s.Seconds = append(s.Seconds, whole(s))
			} else {
				s.Seconds = append(s.Seconds, new(big.Rat))
			}
		}
	}
}

// peak is the first instant at which the licences held sum to the most minutes of
// bucket b. It is one at which a licence begins.
func (g *GrantPassport) peak(b int) Instant {
	type edge struct {
		at      Instant
		minutes int64
	}
	var edges []edge
	for i := range g.Intervals {
		s := &g.Intervals[i]
		edges = append(edges, edge{s.From, s.Minutes[b]}, edge{s.To, -s.Minutes[b]})
	}
	slices.SortFunc(edges, func(x, y edge) int { return cmp.Or(cmp.Compare(x.at, y.at), cmp.Compare(x.minutes, y.minutes)) })
	sum, most, at := int64(0), int64(-1), g.From
	for i, e := range edges {
		sum += e.minutes
		last := i+1 == len(edges) || edges[i+1].at != e.at
		if last && sum > most && e.at < g.To {
			most, at = sum, e.at
		}
	}
	return at
}
