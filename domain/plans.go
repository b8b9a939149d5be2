package domain

import (
	"cmp"
	"slices"
)

// stamp orders what was said about one thing by when it takes effect, then by
// (time, source, id): the order of R3 and of versions of plans and tenants.
type stamp struct {
	effective  int64 // an Instant or a Date
	time       Instant
	source, id string
}

func (a stamp) compare(b stamp) int {
	return cmp.Or(cmp.Compare(a.effective, b.effective), cmp.Compare(a.time, b.time),
		cmp.Compare(a.source, b.source), cmp.Compare(a.id, b.id))
}

// versions is everything ever published under one name, in the order of stamp.
type versions[T any] struct {
	stamps []stamp
	values []T
}

func (v *versions[T]) add(s stamp, value T) {
	i, _ := slices.BinarySearchFunc(v.stamps, s, stamp.compare)
	v.stamps = slices.Insert(v.stamps, i, s)
	v.values = slices.Insert(v.values, i, value)
}

// on is the version in force on a day: the greatest whose date is not after it.
func (v *versions[T]) on(day Date) (value T, ok bool) {
	if v == nil {
		return value, false
	}
	i, _ := slices.BinarySearchFunc(v.stamps, int64(day)+1, func(s stamp, day int64) int { return cmp.Compare(s.effective, day) })
	if i == 0 {
		return value, false
	}
	return v.values[i-1], true
}

// publications are the plans and decks of one tenant.
type publications struct {
	plans map[string]*versions[*Plan]
	decks map[string]*deckHistory
}

func newPublications() publications {
	return publications{plans: map[string]*versions[*Plan]{}, decks: map[string]*deckHistory{}}
}

func (p *publications) addPlan(e *Event, plan *Plan) {
	v := p.plans[plan.Plan]
	if v == nil {
		v = &versions[*Plan]{}
		p.plans[plan.Plan] = v
	}
	v.add(stamp{int64(plan.EffectiveFrom), e.Time, e.Source, e.ID}, plan)
}

func (p *publications) addDeck(deck *Deck) {
	h := p.decks[deck.Deck]
	if h == nil {
		h = &deckHistory{}
		p.decks[deck.Deck] = h
	}
	h.add(deck)
}

// minutes is what a licence of country adds to the bucket; false where the
// bucket names neither the country nor AnyCountry.
func (b *Bucket) minutes(country string) (int64, bool) {
	m, ok := b.Minutes[country]
	if !ok {
		m, ok = b.Minutes[AnyCountry]
	}
	return m, ok
}

// grants reports whether a licence of country makes minutes at all (R10 ungranted).
func (p *Plan) grants(country string) bool {
	for i := range p.Buckets {
		if _, ok := p.Buckets[i].minutes(country); !ok {
			return false
		}
	}
	return true
}

// poolCountry is the country whose pool a licence of country draws on (R4).
func (p *Plan) poolCountry(country string) string {
	if p.Scope == ScopeTenant {
		return ""
	}
	if shared, ok := p.SharedPools[country]; ok {
		return shared
	}
	return country
}

// domestic reports whether a destination is domestic for a licence of country.
func (p *Plan) domestic(country, destination string) bool {
	if list, ok := p.Domestic[country]; ok {
		_, found := slices.BinarySearch(list, destination)
		return found
	}
	return destination == country
}

// bucketFor is the first bucket whose zone holds the destination, or -1 (R6.5).
func (p *Plan) bucketFor(kind, country, destination string) int {
	if _, ok := slices.BinarySearch(p.Kinds, kind); !ok {
		return -1
	}
	for i := range p.Buckets {
		b := &p.Buckets[i]
		switch b.Zone {
		case ZoneAll:
			return i
		case ZoneDomestic:
			if p.domestic(country, destination) {
				return i
			}
		case ZoneListed:
			if _, ok := slices.BinarySearch(b.Destinations, destination); ok && !p.domestic(country, destination) {
				return i
			}
		}
	}
	return -1
}
