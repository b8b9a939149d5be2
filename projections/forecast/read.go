package forecast

import (
	"time"

	"tollbook/domain"
	"tollbook/projections"
)

// pastMonths is how many months before the one that is asked for are looked at.
const pastMonths = 3

// Inputs are what a forecast is made from, read from the months while they are held.
type Inputs struct {
	tenant   string
	month    domain.Month
	position uint64
	now      instant
	rated    domain.Rating
	plans    map[string]*domain.Plan
	this     *sums
	past     []*sums // the last one first; none of months without calls
}

// Read collects what is needed of a month and those before it. It looks at slots of
// time and not at calls, but for some of the last ones.
func Read(v *projections.View, tenant string, month domain.Month, now instant) *Inputs {
	return read(v, tenant, month, now, func(id domain.Month, pools int) *sums { return sum(v.Ledger, tenant, id, domain.MaxInstant, pools) })
}

func read(v *projections.View, tenant string, month domain.Month, now instant, past func(id domain.Month, pools int) *sums) *Inputs {
	in := &Inputs{
		tenant: tenant, month: month, position: v.Head.Events, now: now, rated: v.Ledger.Draft(tenant, month),
		plans: map[string]*domain.Plan{},
	}
	pools := len(in.rated.Pools) // about as many as other months have
	in.this = sum(v.Ledger, tenant, month, now, pools)
	for i := range in.rated.Pools {
		if name := in.rated.Pools[i].Plan; in.plans[name] == nil {
			in.plans[name], _ = v.Ledger.PlanInForce(tenant, name, month)
		}
	}
	for n := range domain.Month(pastMonths) {
		if s := past(month-1-n, pools); len(s.pools) > 0 {
			in.past = append(in.past, s)
		}
	}
	return in
}

// sums are what a month comes to until an instant.
type sums struct {
	*calendar
	whole   int // days that are wholly over
	pools   []poolSums
	index   map[domain.PoolKey]int32
	tallies []tally
	hours   [][2][24]int64
	over    []lineSum
	rates   map[lane]map[rate]count
}

// poolSums are a pool's.
type poolSums struct {
	domain.PoolKey
	licences         int64
	from, to         instant // it has licences, and the tenant calls
	tallies, buckets int32   // where its own begin in sums, and how many
	hours            int32   // -1: its slots are days
	over, overEnd    int32
	outside          int64 // seconds outside its buckets
}

// A tally is of a bucket.
type tally struct {
	billed  int64 // all of it, be the day over or not
	days    [kindCount]int64
	squares float64 // of what each whole day had
	ended   instant
}

// A lane is the buckets of the pools of a country and a plan that end together, by
// the first of them: so far as prices go, pools of one user are one.
type lane struct {
	country, plan string
	first         int
}

// outside is the lane of what is in no bucket.
const outside = -1

// A lineSum is overage of a pool.
type lineSum struct {
	first int // of its lane
	line  *domain.Line
	count
}

type count struct{ calls, seconds int64 }

func (c count) plus(calls, seconds int64) count { return count{c.calls + calls, c.seconds + seconds} }

type rate struct {
	price, fee domain.Micros
	currency   domain.Currency
}

// pricedCalls is how many calls are enough to say what a second over a lane costs.
// Where less were over it, its last calls are asked what they would have cost.
const pricedCalls = 256

// sum reads a month of about so many pools.
func sum(l *domain.Ledger, tenant string, id domain.Month, now instant, pools int) *sums {
	from, to := l.Bounds(tenant, id)
	s := &sums{
		calendar: newCalendar(from, to, l.Zone(tenant, id)), rates: map[lane]map[rate]count{},
		index: make(map[domain.PoolKey]int32, pools), pools: make([]poolSums, 0, pools), tallies: make([]tally, 0, pools),
	}
	for s.whole < s.days() && s.starts[s.whole+1] <= now {
		s.whole++
	}
	byHour, byDay := s.slots(time.Hour), s.slots(24*time.Hour)
	begun := s.days()
	var prices lanePrices
	var drawn [][32]int64 // by bucket and day
	for c := range l.Courses(tenant, id) {
		p := poolSums{PoolKey: c.PoolKey, licences: c.Licences, tallies: int32(len(s.tallies)), hours: -1, over: int32(len(s.over))}
		p.from, p.to = c.Held()
		for _, buckets := range c.Lanes {
			p.buckets += int32(len(buckets))
		}
		s.tallies = append(s.tallies, make([]tally, p.buckets)...)
		tallies := s.tallies[p.tallies:]
		if len(drawn) < int(p.buckets) {
			drawn = make([][32]int64, p.buckets)
		}
		clear(drawn[:p.buckets])
		slots, kinds := byDay, s.of(c.Country).kinds
		var hours *[2][24]int64
		if c.Width == time.Hour {
			p.hours = int32(len(s.hours))
			s.hours = append(s.hours, [2][24]int64{})
			slots, hours = byHour, &s.hours[p.hours]
		}
		c.Slots(func(n, bucket int, seconds int64) {
			if seconds == 0 {
				return
			}
			at := slots[min(n, len(slots)-1)]
			drawn[bucket][at.day] += seconds
			tallies[bucket].billed += seconds
			begun = min(begun, int(at.day))
			if hours != nil && int(at.day) < s.whole { // a day's morning says nothing of its evening
				hours[free(kinds[at.day])][at.hour] += seconds
			}
		})
		first, last := s.wholeDays(&p)
		for b := range tallies {
			for day := first; day < last; day++ {
				if n := drawn[b][day]; n != 0 {
					tallies[b].days[kinds[day]] += n
					tallies[b].squares += float64(n) * float64(n)
				}
			}
		}
		s.price(&prices, &p, c, tallies)
		p.overEnd = int32(len(s.over))
		s.index[p.PoolKey] = int32(len(s.pools))
		s.pools = append(s.pools, p)
	}
	if months := l.Months(tenant); len(months) > 0 && months[0] == id && begun < s.days() {
		// Who begins within a month had no quiet days before.
		for i := range s.pools {
			s.pools[i].from = max(s.pools[i].from, s.starts[begun])
		}
	}
	return s
}

// price takes in what overage costs.
func (s *sums) price(prices *lanePrices, p *poolSums, c *domain.PoolCourse, tallies []tally) {
	for number, buckets := range c.Lanes {
		first := buckets[0]
		for _, b := range buckets {
			tallies[b].ended = c.EndedAt(number)
		}
		calls := int64(0)
		rates := prices.of(s, lane{c.Country, c.Plan, first})
		c.Over(number, func(line *domain.Line, n, seconds int64) {
			s.over = append(s.over, lineSum{first, line, count{n, seconds}})
			add(rates, line, n, seconds)
			calls += n
		})
		if calls < pricedCalls {
			// One slot of a pool of one user: others have more. Which slots are taken
			// must not depend on what came first.
			want := pricedCalls
			if c.Width > time.Hour {
				want = 1
			}
			c.Latest(number, want, func(line *domain.Line, seconds int64) { add(rates, line, 1, seconds) })
		}
	}
	c.Outside(func(line *domain.Line, calls, seconds int64) {
		rates := prices.of(s, lane{c.Country, c.Plan, outside})
		s.over = append(s.over, lineSum{outside, line, count{calls, seconds}})
		add(rates, line, calls, seconds)
		p.outside += seconds
	})
}

// lanePrices are those of the lane that was asked for last: thousands of pools of
// one user are of the same.
type lanePrices struct {
	lane
	rates map[rate]count
}

func (p *lanePrices) of(s *sums, l lane) map[rate]count {
	if p.rates == nil || p.lane != l {
		p.lane, p.rates = l, s.rates[l]
		if p.rates == nil {
			p.rates = map[rate]count{}
			s.rates[l] = p.rates
		}
	}
	return p.rates
}

func add(to map[rate]count, line *domain.Line, calls, seconds int64) {
	r := rate{line.Price, line.Fee, line.Currency}
	to[r] = to[r].plus(calls, seconds)
}

// place is where in a month a slot is, by its middle.
type place struct{ day, hour uint8 }

func (c *calendar) slots(width time.Duration) []place {
	places := make([]place, 0, int((c.to()-c.from())/instant(width))+1)
	for at := c.from(); at < c.to(); at += instant(width) {
		middle := min(at+instant(width)/2, c.to()-1)
		day := c.day(middle)
		length := c.starts[day+1] - c.starts[day]
		places = append(places, place{uint8(day), uint8((middle - c.starts[day]) / (length/24 + 1))})
	}
	return places
}

// window is what the whole days of a pool had, its buckets together.
func (s *sums) window(p *poolSums, kinds []uint8) (w window) {
	for _, t := range s.talliesOf(p) {
		for k, n := range t.days {
			w.seconds[k] += float64(n)
		}
	}
	w.days = s.daysOf(p, kinds)
	return w
}

func (s *sums) talliesOf(p *poolSums) []tally { return s.tallies[p.tallies : p.tallies+p.buckets] }

// wholeDays are those that are over and wholly within a pool's time, [first, last).
func (s *sums) wholeDays(p *poolSums) (first, last int) {
	if last = s.whole; s.always(p) {
		return 0, last
	}
	for first < last && s.starts[first] < p.from {
		first++
	}
	for last > first && s.starts[last] > p.to {
		last--
	}
	return first, last
}

// daysOf are the whole days on which a pool could be called from, by kind.
func (s *sums) daysOf(p *poolSums, kinds []uint8) (n [kindCount]float64) {
	first, last := s.wholeDays(p)
	for day := first; day < last; day++ {
		n[kinds[day]]++
	}
	return n
}

// weight is that of part of the month, by days.
func (s *sums) weight(from, to instant, kinds []uint8, shape *shape) (sum float64) {
	for day, kind := range kinds {
		sum += float64(shape.day[kind] * overlap(s.starts[day], s.starts[day+1], from, to))
	}
	return sum
}

// always reports whether a pool has licences all month.
func (s *sums) always(p *poolSums) bool { return p.from <= s.from() && p.to >= s.to() }
