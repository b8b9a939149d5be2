package forecast

import (
	"math"
	"runtime"
	"time"

	"golang.org/x/sync/errgroup"

	"tollbook/domain"
)

// method is what a document says of itself.
const method = "level of the bucket in this month and the 3 before, by how busy weekdays, holidays and hours are for the tenant, the country and the pool; overage at the mean price of the calls over the bucket so far, where these are few with its latest; whole seconds, ends to the minute; docs/FORECAST.md"

// A Forecast is a month as it will probably end. It is not changed once it is made.
type Forecast struct {
	Document
	model *model
}

// Forecast makes the forecast. It takes as long as there are pools, not calls, and
// needs the months no more.
func (in *Inputs) Forecast() *Forecast {
	f := &Forecast{model: newModel(in), Document: Document{
		Tenant: in.tenant, Month: in.month.String(), Position: in.position, Now: in.now.String(), Method: method, Interval: Interval,
	}}
	pools := len(in.rated.Pools)
	f.Pools = make([]Pool, pools)
	works := make([]work, (pools+poolsOfWork-1)/poolsOfWork)
	var group errgroup.Group
	group.SetLimit(runtime.GOMAXPROCS(0))
	for i := range works {
		group.Go(func() error {
			w := &works[i]
			*w = work{model: f.model, sum: purse{}, known: map[lane][]price{}}
			for n := i * poolsOfWork; n < min((i+1)*poolsOfWork, pools); n++ {
				f.Pools[n] = w.pool(n)
			}
			return nil
		})
	}
	_ = group.Wait() // nothing fails
	sum := purse{}
	for i := range in.rated.Invoices {
		one := &in.rated.Invoices[i]
		charged := &sum.of(one.Currency).charged
		charged.Add(charged, &one.Total.Minor)
	}
	for i := range works {
		sum.add(works[i].sum)
	}
	f.Totals = sum.totals()
	return f
}

// poolsOfWork is how many pools are worked on by one goroutine: always as many, so
// that floats are added in the same order wherever that is.
const poolsOfWork = 4096

// work is room for one pool after the other.
type work struct {
	*model
	sum   purse
	known map[lane][]price

	seen []seenPool
	till []float64
}

func (w *work) prices(l lane) []price {
	p, has := w.known[l]
	if !has {
		p = w.model.prices(l)
		w.known[l] = p
	}
	return p
}

func (w *work) pool(number int) Pool {
	r := &w.rated.Pools[number]
	m := w.model.pool(number, &w.seen, &w.till)
	days := w.this.of(r.Country)
	p := Pool{Country: r.Country, Plan: r.Plan, User: r.User, Known: days.known, Holidays: days.holidays, Buckets: make([]Bucket, len(r.Buckets))}
	var charged charges
	var tallies []tally
	if n := w.where[0][number]; n >= 0 {
		s := &w.this.pools[n]
		charged = chargesOf(merged(w.this.over[s.over:s.overEnd]))
		tallies = w.this.talliesOf(s)
	}
	for _, lane := range lanesOf(w.plans[r.Plan], len(r.Buckets)) {
		w.lane(&p, r, &m, lane, charged, tallies)
	}
	p.Outside = w.outsideOf(r, &m, charged)
	return p
}

// lanesOf are the buckets that end together.
func lanesOf(plan *domain.Plan, buckets int) (lanes [][]int) {
	linked := plan != nil && plan.Linked
	for b := range buckets {
		if linked && b > 0 {
			lanes[0] = append(lanes[0], b)
		} else {
			lanes = append(lanes, []int{b})
		}
	}
	return lanes
}

const minute = instant(time.Minute)

// The three courses of a document, in deviations.
var courses = [3]float64{0, -deviations, deviations}

func (w *work) lane(p *Pool, r *domain.PoolRating, m *poolModel, buckets []int, charged charges, tallies []tally) {
	over, none := false, false // the lane has ended; it has a bucket without minutes
	for _, b := range buckets {
		one := &r.Buckets[b]
		none = none || one.Granted == 0
		over = over || one.Used >= one.Granted
	}
	// How much of what comes is over the lane, and from which weight on: by course.
	var share, until [3]float64
	var ends [3]bool
	dearest := 0.0 // the most that a second of weight takes of what a bucket has left
	for i, deviation := range courses {
		until[i] = math.Inf(1)
		for _, b := range buckets {
			left := float64(r.Buckets[b].Granted - r.Buckets[b].Used)
			s := &m.streams[b]
			switch x := s.at(m.rest, deviation); {
			case over:
				share[i], until[i], ends[i] = 1, 0, true
			case x > left:
				share[i] = max(share[i], (x-left)/x)
				if weight, ever := s.until(left, m.rest, deviation); ever {
					until[i], ends[i] = min(until[i], weight), true
				}
			}
			if i == 0 && left > 0 {
				dearest = max(dearest, s.level/left)
			}
		}
	}
	var when [3]*string
	for i := range when {
		switch {
		case over && !none: // by calls, so there are tallies
			at := min(tallies[buckets[0]].ended, m.now).String()
			when[i] = &at
		case !over && ends[i]:
			at := m.when(m.at(m.now)+until[i]) / minute * minute
			text := min(max(at, (m.now+minute-1)/minute*minute), m.to-minute).String()
			when[i] = &text
		}
	}
	lane := lane{r.Country, r.Plan, buckets[0]}
	laneOver := int64(0)
	for _, b := range buckets {
		laneOver += r.Buckets[b].Overage
	}
	for _, b := range buckets {
		one, s := &r.Buckets[b], &m.streams[b]
		billed := one.Used + one.Overage
		var total, overage [3]int64
		for i, deviation := range courses {
			x := s.at(m.rest, deviation)
			total[i] = billed + rounded(x)
			overage[i] = one.Overage + min(rounded(x*share[i]), total[i]-billed)
			if len(buckets) == 1 && !over {
				overage[i] = max(total[i]-one.Granted, 0)
			}
		}
		p.Buckets[b] = Bucket{
			Name: one.Name, Granted: one.Granted, Used: one.Used, Expected: total[0], ExpectedLow: total[1], ExpectedHigh: total[2],
			Ended: over && !none, Ends: when[0], EndsLow: when[2], EndsHigh: when[1],
			Overage: one.Overage, OverageExpected: overage[0], OverageLow: overage[1], OverageHigh: overage[2],
		}
		mean, variance := 0.0, 0.0
		switch {
		case over:
			mean, variance = s.over(m.rest, 0)
		case dearest > 0:
			mean, variance = s.over(m.rest, s.level/dearest)
		}
		so := 1.0 // the bucket's part of what the lane has cost
		if len(buckets) > 1 && laneOver > 0 {
			so = float64(one.Overage) / float64(laneOver)
		}
		p.Buckets[b].Amounts = w.amounts(lane, charged, so, one.Overage, overage, mean, variance)
	}
}

func (w *work) outsideOf(r *domain.PoolRating, m *poolModel, charged charges) Outside {
	var total [3]int64
	for i, deviation := range courses {
		total[i] = m.outside.billed + rounded(m.outside.at(m.rest, deviation))
	}
	mean, variance := m.outside.over(m.rest, 0)
	return Outside{
		Seconds: m.outside.billed, Expected: total[0], ExpectedLow: total[1], ExpectedHigh: total[2],
		Amounts: w.amounts(lane{r.Country, r.Plan, outside}, charged, 1, m.outside.billed, total, mean, variance),
	}
}

// amounts are what overage costs: what it did so far, and what comes at the lane's
// mean price. mean and variance are of the seconds to come, for the totals.
func (w *work) amounts(l lane, charged charges, so float64, billed int64, total [3]int64, mean, variance float64) []Amount {
	amounts := []Amount{}
	if mean == 0 && total == [3]int64{} {
		return amounts
	}
	prices := w.prices(l)
	for _, p := range prices {
		o := w.sum.of(p.currency)
		o.mean += float64(mean * p.second)
		o.variance += float64(variance * p.second * p.second)
		o.deviation += float64(math.Sqrt(variance) * p.second)
		if total[2] == 0 {
			continue
		}
		minor := charged.of(l.first, p.currency)
		if so != 1 {
			minor = rounded(float64(minor) * so)
		}
		var by [3]string
		for i := range by {
			by[i] = text(minor+rounded(float64(total[i]-billed)*p.second), p.currency)
		}
		amounts = append(amounts, Amount{string(p.currency), by[0], by[1], by[2]})
	}
	return amounts
}

// A Point is what a bucket will have billed by an instant, in the pool and over it.
type Point struct {
	At                  domain.Instant
	Expected, Low, High int64 // seconds
}

// Course is how each bucket of a pool will probably be drawn on: from now to the end
// of the month, by days. A pool that the month has not, and a month that is over,
// have none.
func (f *Forecast) Course(key domain.PoolKey) [][]Point {
	m := f.model
	if m.now >= m.this.to() {
		return nil
	}
	for i := range m.rated.Pools {
		r := &m.rated.Pools[i]
		if keyOf(r) != key {
			continue
		}
		var seen []seenPool
		var till []float64
		p := m.pool(i, &seen, &till)
		courses := make([][]Point, len(r.Buckets))
		for b := range courses {
			s := &p.streams[b]
			billed := r.Buckets[b].Used + r.Buckets[b].Overage
			point := func(at instant) {
				weight := p.at(min(max(at, p.now), p.to)) - p.at(p.now)
				courses[b] = append(courses[b], Point{at, billed + rounded(s.at(weight, 0)), billed + rounded(s.at(weight, -deviations)), billed + rounded(s.at(weight, deviations))})
			}
			now := max(m.now, m.this.from())
			point(now)
			for _, at := range m.this.starts {
				if at > now {
					point(at)
				}
			}
		}
		return courses
	}
	return nil
}
