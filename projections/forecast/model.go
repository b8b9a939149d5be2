package forecast

import (
	"maps"
	"math"
	"slices"

	"tollbook/domain"
)

// What is believed before anything is seen, and how strongly.
const (
	firstGrain = 600.0 // seconds that come at once, as of days of a few calls of some minutes
	grainDays  = 10.0  // so many days' worth of belief in the grain of other pools
	firstUse   = 0.5   // of what is granted
	levelCalls = 0.5   // how many calls that, or the level of other pools, is worth
	older      = 0.5   // what a month counts for against the one after it
	monthTo    = 0.2   // a month's level is off the one before by this share
	monthCount = 4.0   // so many months' worth of belief in that
	drift      = 0.06  // the level of what is left of a month is off that so far by this share
)

// Interval is how often, in percent, what happens is meant to be from low to high.
const Interval = 80

// deviations that are exceeded on each side of the interval one time in ten.
const deviations = 1.2815515655446004

// A model is what all pools of a tenant have in common.
type model struct {
	*Inputs
	months    []*sums           // this, then past
	countries map[string]*shape // by country
	grains    map[lane]float64  // by plan, and bucket as first
	uses      map[lane]use
	where     [][]int32 // by month and pool of rated: which of the month's; -1: none
}

// use is what the pools of a plan drew of a bucket on whole days, whatever their country.
type use struct{ seconds, weight float64 } // for one licence

func newModel(in *Inputs) *model {
	m := &model{Inputs: in, months: append([]*sums{in.this}, in.past...), countries: map[string]*shape{}, grains: map[lane]float64{}, uses: map[lane]use{}}
	for i := range in.rated.Pools {
		in.this.of(in.rated.Pools[i].Country) // which others may ask for at the same time from now on
	}
	for _, s := range m.months {
		where := make([]int32, len(in.rated.Pools))
		for i := range where {
			where[i] = -1
			if n, ok := s.index[keyOf(&in.rated.Pools[i])]; ok {
				where[i] = n
			}
		}
		m.where = append(m.where, where)
	}
	m.learnShapes()
	m.learnGrains()
	return m
}

// learnShapes learns the shapes of the tenant and its countries, from pools that
// were there all month.
func (m *model) learnShapes() {
	// Sums are of whole numbers, so the order of pools does not matter.
	windows := map[string][]window{}
	seen := map[string]*[2][24]int64{}
	var allSeen [2][24]int64
	for number, s := range m.months {
		for i := range s.pools {
			p := &s.pools[i]
			if seen[p.Country] == nil {
				seen[p.Country], windows[p.Country] = &[2][24]int64{}, make([]window, len(m.months))
			}
			if p.hours >= 0 {
				for f := range allSeen {
					for h, n := range s.hours[p.hours][f] {
						seen[p.Country][f][h] += n
						allSeen[f][h] += n
					}
				}
			}
			if s.always(p) {
				w, one := &windows[p.Country][number], s.window(p, s.of(p.Country).kinds)
				for k := range kindCount {
					w.seconds[k] += one.seconds[k]
				}
				w.days = one.days
			}
		}
	}
	countries := slices.Sorted(maps.Keys(seen))
	var all []window
	for _, country := range countries {
		all = append(all, windows[country]...)
	}
	tenant := anyShape().learnDays(all, tenantVariance, firstGrain)
	tenant.hours = tenant.hours.learn(&allSeen, tenantCalls, firstGrain)
	for _, country := range countries {
		s := tenant.learnDays(windows[country], countryVariance, firstGrain)
		s.hours = s.hours.learn(seen[country], poolCalls, firstGrain)
		m.countries[country] = s
	}
	m.countries[anywhere] = tenant
}

// anywhere is the shape of a country of which nothing was seen.
const anywhere = "*"

func (m *model) shapeOf(country string) *shape {
	if s := m.countries[country]; s != nil {
		return s
	}
	return m.countries[anywhere]
}

// seenPool is a pool in one of the months.
type seenPool struct {
	s *sums
	*poolSums
	kinds  []uint8
	days   [kindCount]float64 // whole ones
	weight float64            // of a past month
}

// seen are the months that have a pool of rated, this one first.
func (m *model) seen(pool int, list []seenPool) []seenPool {
	for i, s := range m.months {
		if n := m.where[i][pool]; n >= 0 {
			p := &s.pools[n]
			kinds := s.of(p.Country).kinds
			list = append(list, seenPool{s: s, poolSums: p, kinds: kinds, days: s.daysOf(p, kinds)})
		}
	}
	return list
}

// tally is a bucket's, nil if the plan had it not.
func (p *seenPool) tally(bucket int) *tally {
	if bucket >= int(p.buckets) {
		return nil
	}
	return &p.s.tallies[int(p.tallies)+bucket]
}

// grain is how unevenly a bucket's days came: the variance of a day against its
// mean, which is as if seconds came so many at once. freedom is by how many days
// that is known.
func grain(seen []seenPool, bucket int, shape *shape) (grain, freedom float64) {
	var squares, seconds, days float64
	for i := range seen {
		t := seen[i].tally(bucket)
		if t == nil {
			continue
		}
		var w window
		w.days = seen[i].days
		total, n, cross, weights := 0.0, 0.0, 0.0, 0.0
		for k := range kindCount {
			w.seconds[k] = float64(t.days[k])
			total += w.seconds[k]
			n += w.days[k]
			cross += float64(w.seconds[k] * shape.day[k])
			weights += float64(w.days[k] * shape.day[k] * shape.day[k])
		}
		if total == 0 || n < 2 {
			continue
		}
		level := shape.level(&w)
		squares += max(0, t.squares-float64(2*level*cross)+float64(level*level*weights))
		seconds += total
		days += n
		freedom += n - 1
	}
	if freedom == 0 {
		return 0, 0
	}
	return squares / seconds * days / freedom, freedom
}

// learnGrains learns what the pools of a plan have in common.
func (m *model) learnGrains() {
	type sum struct{ grains, freedom float64 }
	all := map[lane]*sum{}
	var seen []seenPool
	for i := range m.rated.Pools {
		r := &m.rated.Pools[i]
		seen = m.seen(i, seen[:0])
		for b := range r.Buckets {
			key := lane{"", r.Plan, b}
			s := all[key]
			if s == nil {
				s = &sum{firstGrain * grainDays, grainDays}
				all[key] = s
			}
			g, freedom := grain(seen, b, m.shapeOf(r.Country))
			s.grains += float64(g * freedom)
			s.freedom += freedom
			u := m.uses[key]
			for j := range seen {
				p := &seen[j]
				if t := p.tally(b); t != nil {
					for k := range kindCount {
						u.seconds += float64(t.days[k])
						u.weight += float64(p.days[k] * m.shapeOf(r.Country).day[k] * float64(p.licences))
					}
				}
			}
			m.uses[key] = u
		}
	}
	for key, s := range all {
		m.grains[key] = s.grains / s.freedom
	}
}

func keyOf(r *domain.PoolRating) domain.PoolKey {
	return domain.PoolKey{Country: r.Country, Plan: r.Plan, User: r.User}
}

// A stream is what is expected to come of a bucket, or outside all of them: a
// level by the pace's weights, of which the shares a and b say how far off it may
// be. What comes of a weight w is level×w on average, with a relative variance of
// a + b/w.
type stream struct {
	billed      int64 // so far
	level, a, b float64
}

// coming is the mean of what comes of a weight, and its relative variance.
func (s *stream) coming(weight float64) (mean, variance float64) {
	if weight <= 0 || s.level <= 0 {
		return 0, 0
	}
	return s.level * weight, s.a + s.b/weight
}

// at is what comes of a weight so many deviations from the middle; 0: the mean. It
// is distributed log-normally: never below nothing, and further above than below.
func (s *stream) at(weight, deviations float64) float64 {
	mean, variance := s.coming(weight)
	if mean == 0 || deviations == 0 {
		return mean
	}
	spread := math.Log1p(variance)
	x := mean * math.Exp(float64(deviations*math.Sqrt(spread))-spread/2)
	if deviations > 0 {
		return max(x, mean)
	}
	return min(x, mean)
}

// until is the weight until which so much comes; beyond most: never.
func (s *stream) until(seconds, most, deviations float64) (weight float64, ever bool) {
	if s.at(most, deviations) < seconds {
		return 0, false
	}
	if deviations == 0 {
		return min(seconds/s.level, most), true
	}
	low, high := 0.0, most
	for range 30 { // to seconds of a month
		if middle := (low + high) / 2; s.at(middle, deviations) < seconds {
			low = middle
		} else {
			high = middle
		}
	}
	return high, true
}

// over is the mean of what comes beyond so many seconds, and its variance.
func (s *stream) over(weight, seconds float64) (mean, variance float64) {
	m, rel := s.coming(weight)
	if m == 0 {
		return 0, 0
	}
	if seconds <= 0 {
		return m - seconds, m * m * rel
	}
	spread := math.Log1p(rel)
	sigma := math.Sqrt(spread)
	d := (math.Log(m/seconds) + spread/2) / sigma
	mean = max(0, float64(m*normal(d))-float64(seconds*normal(d-sigma)))
	square := float64(m*m*(1+rel)*normal(d+sigma)) - float64(2*seconds*m*normal(d)) + float64(seconds*seconds*normal(d-sigma))
	return mean, max(0, square-mean*mean)
}

// normal is the share of a normal distribution below x.
func normal(x float64) float64 { return math.Erfc(-x/math.Sqrt2) / 2 }

// A poolModel is a pool with what is expected of it.
type poolModel struct {
	pace
	from, now, to instant // calls may come from from to to; now is between
	came, rest    float64 // the weights of what is over, and left
	streams       []stream
	outside       stream
}

// pool is the model of a pool of rated. seen and till are room to work in.
func (m *model) pool(number int, seen *[]seenPool, till *[]float64) poolModel {
	r := &m.rated.Pools[number]
	*seen = m.seen(number, (*seen)[:0])
	list := *seen
	country := m.shapeOf(r.Country)

	// The grain needs the shape, and the shape the grain.
	grains := make([]float64, len(r.Buckets))
	shrink := func(s *shape) (mean float64) {
		for b := range r.Buckets {
			g, freedom := grain(list, b, s)
			grains[b] = (float64(m.grains[lane{"", r.Plan, b}]*grainDays) + float64(g*freedom)) / (grainDays + freedom)
			mean += grains[b] / float64(len(r.Buckets))
		}
		return max(mean, 1)
	}
	mean := firstGrain
	s := country
	if len(r.Buckets) > 0 && len(list) > 0 {
		mean = shrink(country)
		if r.Scope != domain.ScopeUser { // one user is too few to know days by
			s = country.learnPool(list, mean)
			mean = shrink(s)
		}
	} else {
		for b := range grains {
			grains[b] = firstGrain
		}
	}

	p := poolModel{pace: newPace(m.this.calendar, m.this.of(r.Country), s, *till), from: m.this.from(), to: m.this.to()}
	*till = p.pace.till
	for i := range list {
		if one := &list[i]; one.s == m.this {
			p.from, p.to = one.from, one.to
		} else {
			one.weight = one.s.weight(one.from, one.to, one.kinds, s)
		}
	}
	p.now = min(max(m.now, p.from), p.to)
	p.came, p.rest = p.at(p.now)-p.at(p.from), p.at(p.to)-p.at(p.now)
	whole := p.pace.till[len(p.kinds)]
	doubt := p.doubt(p.from, p.now, p.to) + drift*drift*p.rest/whole
	licences := float64(r.Licences)
	for b := range r.Buckets {
		// What other pools of the plan use, which begins as a share of what is granted.
		base, use := 0.0, m.uses[lane{"", r.Plan, b}]
		if granted := float64(r.Buckets[b].Granted); granted > 0 && licences > 0 {
			one := firstUse * granted / licences / whole
			base = licences * (grains[b] + use.seconds) / (grains[b]/one + use.weight)
		} else if use.weight > 0 {
			base = licences * use.seconds / use.weight
		}
		p.streams = append(p.streams, m.stream(p.came, list, licences, grains[b], base, func(s *seenPool) (int64, bool) {
			if t := s.tally(b); t != nil {
				return t.billed, true
			}
			return 0, false
		}))
		p.streams[b].a += doubt
	}
	p.outside = m.stream(p.came, list, licences, mean, 0, func(s *seenPool) (int64, bool) { return s.poolSums.outside, true })
	p.outside.a += doubt
	return p
}

// learnPool is the shape of a pool of a country, by its own days and hours.
func (s *shape) learnPool(list []seenPool, grain float64) *shape {
	windows := make([]window, 0, 1+pastMonths)
	var hours [2][24]int64
	for i := range list {
		p := &list[i]
		windows = append(windows, p.s.window(p.poolSums, p.kinds))
		if p.hours < 0 {
			continue
		}
		for f := range hours {
			for h, n := range p.s.hours[p.hours][f] {
				hours[f][h] += n
			}
		}
	}
	own := s.learnDays(windows, poolVariance, grain)
	own.hours = own.hours.learn(&hours, poolCalls, grain)
	return own
}

// stream learns a level: from that of other pools, base, then from the months
// before, then from what came in this one. Each step is a gamma distribution that
// has seen as many calls as the seconds are worth, by their grain.
func (m *model) stream(came float64, seen []seenPool, licences, grain, base float64, billed func(*seenPool) (int64, bool)) (st stream) {
	grain = max(grain, 1)
	var levels [pastMonths]float64
	n, mean, seconds, weight, worth := 0, 0.0, 0.0, 0.0, 1.0
	for i := range seen {
		s := &seen[i]
		total, ok := billed(s)
		if s.s == m.this {
			st.billed = total
			continue
		}
		if !ok || s.weight <= 0 {
			continue
		}
		x := float64(total)
		if licences > 0 && s.licences > 0 {
			x *= licences / float64(s.licences)
		}
		levels[n] = x / s.weight
		n++
		mean += s.weight
		seconds += float64(worth * x)
		weight += float64(worth * s.weight)
		worth *= older
	}
	// calls over per is the mean of the level, calls how well it is known.
	calls, per := 0.0, 0.0
	if base > 0 {
		calls, per = levelCalls, levelCalls/base
	}
	if n > 0 {
		calls, per = calls+seconds/grain, per+weight/grain
		if calls > 0 { // no more sure than a month is of the next one
			sure := 1 / (1 + float64(calls*between(levels[:n], grain, mean/float64(n))))
			calls, per = calls*sure, per*sure
		}
	}
	calls, per = calls+float64(st.billed)/grain, per+came/grain
	if calls > 0 && per > 0 {
		st.level = calls / per
		st.a, st.b = 1/calls, grain/st.level
	}
	return st
}

// between is the relative variance from month to month, without what days alone
// make of it.
func between(levels []float64, grain, weight float64) float64 {
	believed := monthTo * monthTo * monthCount
	k := float64(len(levels) - 1)
	mean := 0.0
	for _, l := range levels {
		mean += l / float64(len(levels))
	}
	if k == 0 || mean == 0 {
		return believed / monthCount
	}
	squares := 0.0
	for _, l := range levels {
		squares += (l - mean) * (l - mean)
	}
	seen := max(0, squares/k-float64(grain*mean/weight)) / (mean * mean)
	return (believed + float64(k*seen)) / (monthCount + k)
}
