package domain

import (
	"cmp"
	"math/big"
	"slices"
)

// poolKey is R4's, within a tenant and month. user is set for ScopeUser only.
type poolKey struct{ country, plan, user string }

// A pool is shared minutes: the licences that make it and the calls that draw.
type pool struct {
	key     poolKey
	index   uint32 // among the pools of the month
	plan    *Plan
	holders map[uint32][]held // by user
	granted bool              // what licences make is as holders have it:
	count   int64             // licences that make the grant
	first   string            // alphabetically first licence country (R9)
	lanes   []*lane
	laneOf  []uint8 // by bucket of the plan
	posOf   []uint8 // the bucket's position in its lane
	outside map[uint32]cell
	beyond  []slot // the calls outside, by slot
	usage   *usage // nil: nobody has asked
}

// held is a licence within a month.
type held struct {
	from, to Instant // clipped to the month
	country  string
}

func newPool(key poolKey, plan *Plan, index uint32) *pool {
	p := &pool{key: key, index: index, plan: plan, holders: map[uint32][]held{}, outside: map[uint32]cell{}}
	var linked []int
	for b := range plan.Buckets {
		if plan.Linked {
			p.laneOf, p.posOf = append(p.laneOf, 0), append(p.posOf, uint8(b))
			linked = append(linked, b)
			continue
		}
		p.laneOf, p.posOf = append(p.laneOf, uint8(b)), append(p.posOf, 0)
		p.lanes = append(p.lanes, newLane([]int{b}))
	}
	if linked != nil {
		p.lanes = append(p.lanes, newLane(linked))
	}
	return p
}

// merge adds the calls of a part of the month.
func (p *pool) merge(m *month, part *pool) {
	for i, l := range p.lanes {
		for j := range part.lanes[i].slots {
			l.merge(m, &part.lanes[i].slots[j])
		}
	}
	for line, c := range part.outside {
		sum := p.outside[line]
		p.outside[line] = cell{sum.calls + c.calls, sum.seconds + c.seconds}
	}
	for i := range part.beyond {
		s := slotAt(&p.beyond, part.beyond[i].n)
		s.calls = append(s.calls, part.beyond[i].calls...)
	}
}

// countOutside counts a call outside every bucket, or with sign -1 no longer.
func (p *pool) countOutside(m *month, index uint32, sign int64) {
	c := m.calls.at(index)
	sum := p.outside[c.line]
	if sum.add(sign, c.billed()); sum.calls == 0 {
		delete(p.outside, c.line)
	} else {
		p.outside[c.line] = sum
	}
	if s := slotAt(&p.beyond, m.slot(p, c.at)); sign > 0 {
		s.calls = append(s.calls, index)
	} else {
		s.drop(index)
	}
}

// settled reports whether nothing has changed since settle.
func (p *pool) settled() bool {
	return p.granted && !slices.ContainsFunc(p.lanes, func(l *lane) bool { return !l.settled })
}

func (p *pool) settle(m *month) {
	if !p.granted {
		count, seconds := p.grant(m.start, m.end)
		p.count, p.first = count, p.firstCountry()
		for _, l := range p.lanes {
			granted := make([]int64, len(l.buckets))
			for i, b := range l.buckets {
				granted[i] = seconds[b]
			}
			l.grant(granted)
		}
		p.granted = true
	}
	for _, l := range p.lanes {
		l.settle(m)
	}
}

// grant is R5: how many licences make the grant, and each bucket's seconds.
func (p *pool) grant(start, end Instant) (count int64, seconds []int64) {
	switch p.plan.Grant {
	case GrantAny:
		return p.grantAny()
	case GrantStart:
		return p.grantStart(start)
	case GrantProrated:
		return p.grantProrated(int64(end - start))
	default:
		return p.grantPeak()
	}
}

// grantPeak sweeps over the instants at which a licence begins or ends. At one
// instant ends come first: intervals are half-open.
func (p *pool) grantPeak() (count int64, seconds []int64) {
	type edge struct {
		at      Instant
		sign    int64
		country string
	}
	edges := make([]edge, 0, 2*len(p.holders))
	for _, list := range p.holders {
		for _, h := range list {
			edges = append(edges, edge{h.from, 1, h.country}, edge{h.to, -1, h.country})
		}
	}
	slices.SortFunc(edges, func(a, b edge) int { return cmp.Or(cmp.Compare(a.at, b.at), cmp.Compare(a.sign, b.sign)) })
	seconds = make([]int64, len(p.plan.Buckets))
	now := make([]int64, len(seconds))
	licences := int64(0)
	for _, e := range edges {
		licences += e.sign
		count = max(count, licences)
		for b := range now {
			minutes, _ := p.plan.Buckets[b].minutes(e.country)
			now[b] += e.sign * 60 * minutes
			seconds[b] = max(seconds[b], now[b])
		}
	}
	return count, seconds
}

func (p *pool) grantAny() (count int64, seconds []int64) {
	seconds = make([]int64, len(p.plan.Buckets))
	for _, list := range p.holders {
		for b := range seconds {
			most := int64(0)
			for _, h := range list {
				minutes, _ := p.plan.Buckets[b].minutes(h.country)
				most = max(most, minutes)
			}
			seconds[b] += 60 * most
		}
	}
	return int64(len(p.holders)), seconds
}

func (p *pool) grantStart(start Instant) (count int64, seconds []int64) {
	seconds = make([]int64, len(p.plan.Buckets))
	for _, list := range p.holders {
		for _, h := range list {
			if h.from > start {
				continue
			}
			count++
			for b := range seconds {
				minutes, _ := p.plan.Buckets[b].minutes(h.country)
				seconds[b] += 60 * minutes
			}
		}
	}
	return count, seconds
}

// grantProrated sums minutes × 60 × overlap exactly and divides by the month's
// length once, rounding down.
func (p *pool) grantProrated(length int64) (count int64, seconds []int64) {
	seconds = make([]int64, len(p.plan.Buckets))
	for b := range seconds {
		sum := new(big.Int)
		for _, list := range p.holders {
			for _, h := range list {
				minutes, _ := p.plan.Buckets[b].minutes(h.country)
				sum.Add(sum, new(big.Int).Mul(big.NewInt(60*minutes), big.NewInt(int64(h.to-h.from))))
			}
		}
		seconds[b] = sum.Quo(sum, big.NewInt(length)).Int64()
	}
	return int64(len(p.holders)), seconds
}

// firstCountry is that of the licences.
func (p *pool) firstCountry() string {
	first := ""
	for _, list := range p.holders {
		for _, h := range list {
			if first == "" || h.country < first {
				first = h.country
			}
		}
	}
	return first
}

func (p *pool) rating(m *month) PoolRating {
	r := PoolRating{
		Country: p.key.country, Plan: p.key.plan, Scope: p.plan.Scope, User: p.key.user,
		Licences: p.count, Buckets: make([]BucketRating, len(p.plan.Buckets)),
	}
	for _, l := range p.lanes {
		for i, b := range l.buckets {
			r.Buckets[b] = BucketRating{p.plan.Buckets[b].Name, l.granted[i], l.ending.used[i], l.overBy[i] + l.ending.overBy[i]}
		}
		if t := l.ending.firstOver; t != 0 && (r.ExhaustedAt == 0 || t < r.ExhaustedAt) {
			r.ExhaustedAt = t
		}
	}
	return r
}
