// Package traffic makes up months of calls from a seed, with the shape of real
// ones: busy hours, a quiet weekend, few users who make most calls, lengths
// distributed log-normally, records that come late and records that come twice.
// The same seed and shape are the same events in the same order, on every machine.
package traffic

import (
	"cmp"
	"encoding/hex"
	"fmt"
	"iter"
	"math"
	"math/rand/v2"
	"slices"
	"strconv"
	"time"

	"tollbook/domain"
)

// A Shape is what a month looks like.
type Shape struct {
	Seed     uint64
	Tenant   string
	Month    domain.Month
	Users    int
	Calls    int // of them some are late; repeats come on top
	Switches int

	LatePerMille     int // of the calls come hours to days after they ended
	RepeatedPerMille int // of the calls come twice

	// Made is the share of an hour's calls that are made in a country, drawn for each;
	// nil: all are.
	Made func(country string, hour time.Time) float64
}

// Month is a shape with 1 % late and 0.5 % repeated calls of four switches.
func Month(seed uint64, users, calls int) Shape {
	return Shape{
		Seed: seed, Tenant: "contoso", Month: 2026*12 + 9, Users: users, Calls: calls, Switches: 4, LatePerMille: 10, RepeatedPerMille: 5,
	}
}

// Countries and Plans are where users are and what they hold: 15 pools.
var (
	Countries = [...]string{"IT", "DE", "FR", "GB", "US"}
	Plans     = [...]string{"DOMESTIC_120", "DOMESTIC_240", "DOMESTIC_INTERNATIONAL"}
)

// national are first digits of numbers by country, as most calls are domestic; abroad are those of others.
var national = [...][]string{
	{"3906", "3902", "3934", "3932"}, {"4930", "4989", "4915", "4917"}, {"331", "334", "336", "337"},
	{"4420", "44121", "4477", "4479"}, {"1212", "1415", "1305", "1702"},
}

var abroad = [...]string{"4179", "34911", "351211", "48228", "3222", "31205", "4310", "9723", "8120", "5511"}

// hours is how busy each hour is, days each weekday from Sunday on.
var (
	hours = [24]float64{.2, .1, .1, .1, .1, .3, 1, 3, 7, 10, 11, 10, 8, 9, 10, 10, 9, 7, 4, 2.5, 1.5, 1, .6, .4}
	days  = [7]float64{.15, 1, 1.05, 1.05, 1, .9, .25}
)

// Busy is how many calls a month has against others, by its weekdays.
func Busy(month domain.Month) (sum float64) {
	for day := month.Start(time.UTC).Time(); domain.MonthOf(day) == month; day = day.AddDate(0, 0, 1) {
		sum += days[day.Weekday()]
	}
	return sum
}

func (s Shape) start() time.Time { return s.Month.Start(time.UTC).Time() }

func (s Shape) user(i int) string { return fmt.Sprintf("user.%05d@%s.example", i, s.Tenant) }

// Terms are the tenant's configuration and a licence for each user. Plans and
// deck are the built-in catalogue's.
func (s Shape) Terms() []domain.Event {
	said := domain.InstantOf(s.start().AddDate(0, 0, -3))
	events := []domain.Event{{Tenant: s.Tenant, Source: "licence-desk", ID: "config", Time: said, Data: &domain.TenantConfig{
		TimeZone: "UTC", Zone: time.UTC, Currency: "USD", EffectiveFrom: s.Month.FirstDay(),
	}}}
	for i := range s.Users {
		events = append(events, domain.Event{
			Tenant: s.Tenant, Source: "licence-desk", ID: "licence-" + strconv.Itoa(i), Time: said,
			Data: &domain.Assignment{
				User: s.user(i), Plan: Plans[i/len(Countries)%len(Plans)], Country: Countries[i%len(Countries)],
				EffectiveAt: domain.InstantOf(s.start()),
			},
		})
	}
	return events
}

// Events are the calls in the order in which they arrive. Each event is new, and
// the caller may keep it.
func (s Shape) Events() iter.Seq[domain.Event] {
	return func(yield func(domain.Event) bool) {
		g := generator{Shape: s, r: rand.New(rand.NewPCG(s.Seed, 0x70_11_b0_0c)), sequences: make([]uint64, s.Switches)}
		g.run(yield)
	}
}

type generator struct {
	Shape
	r         *rand.Rand
	sequences []uint64       // by switch
	going     []domain.Event // have not ended
	late      []domain.Event
}

func (g *generator) run(yield func(domain.Event) bool) {
	start := g.start()
	slots := int(start.AddDate(0, 1, 0).Sub(start) / time.Hour)
	weights, total := make([]float64, slots), 0.0
	for i := range slots {
		at := start.Add(time.Duration(i) * time.Hour)
		weights[i] = hours[at.Hour()] * days[at.Weekday()]
		total += weights[i]
	}
	made, sum := 0, 0.0
	for i := range slots {
		sum += weights[i]
		n := int(sum/total*float64(g.Calls)+.5) - made
		if i == slots-1 {
			n = g.Calls - made
		}
		made += n
		if !g.hour(start.Add(time.Duration(i)*time.Hour), n, yield) {
			return
		}
	}
	if !g.ended(domain.MaxInstant, yield) {
		return
	}
	slices.SortStableFunc(g.late, byTime)
	for _, e := range g.late {
		if !yield(e) {
			return
		}
	}
}

func byTime(a, b domain.Event) int { return cmp.Compare(a.Time, b.Time) }

// hour begins the calls of an hour, and yields those that have ended by its end and
// those that are late and due by then.
func (g *generator) hour(start time.Time, n int, yield func(domain.Event) bool) bool {
	for range n {
		e, country := g.call(start)
		if g.Made == nil || g.r.Float64() < g.Made(country, start) {
			g.going = append(g.going, e)
		}
	}
	if !g.ended(domain.InstantOf(start.Add(time.Hour)), yield) {
		return false
	}
	// A tenth of what waits comes each hour.
	if len(g.late) > 100 {
		due := g.late[:len(g.late)/10]
		for _, e := range due {
			if !yield(e) {
				return false
			}
		}
		g.late = append([]domain.Event(nil), g.late[len(due):]...)
	}
	return true
}

// ended yields the calls that have ended before an instant, in that order, in which
// their switches number them.
func (g *generator) ended(before domain.Instant, yield func(domain.Event) bool) bool {
	slices.SortStableFunc(g.going, byTime)
	n := 0
	for ; n < len(g.going) && g.going[n].Time < before; n++ {
		e := g.going[n]
		sw := g.r.IntN(g.Switches)
		g.sequences[sw]++
		e.Source, e.Sequence = "switch/"+strconv.Itoa(sw+1)+"/1", domain.Sequence{N: g.sequences[sw], Has: true}
		if g.r.IntN(1000) < g.LatePerMille {
			g.late = append(g.late, e)
			continue
		}
		if !yield(e) || g.r.IntN(1000) < g.RepeatedPerMille && !yield(e) {
			return false
		}
	}
	g.going = slices.Delete(g.going, 0, n)
	return true
}

func (g *generator) call(hour time.Time) (e domain.Event, in string) {
	// A few users make most of the calls.
	user := int(float64(g.Users) * math.Pow(g.r.Float64(), 2.2))
	country := user % len(Countries)
	answered := domain.InstantOf(hour) + domain.Instant(g.r.Int64N(int64(time.Hour)/int64(time.Millisecond)))*domain.Instant(time.Millisecond)
	c := &domain.Call{
		User: g.user(user), Kind: domain.KindUser, Disposition: domain.Answered, AnsweredAt: answered,
		Calling:    number(national[country][0], 6, uint64(user)),
		BillableMS: min(int64(math.Exp(g.r.NormFloat64()*1.1+4.4)*1000), 8*3600*1000), // median 81 s
	}
	if g.r.IntN(10) == 0 {
		c.Called = number(abroad[g.r.IntN(len(abroad))], 6, g.r.Uint64N(1_000_000))
	} else {
		c.Called = number(national[country][g.r.IntN(len(national[country]))], 6, g.r.Uint64N(1_000_000))
	}
	ended := answered + domain.Instant(c.BillableMS)*domain.Instant(time.Millisecond)
	c.StartedAt, c.EndedAt = answered-domain.Instant(2000+g.r.Int64N(12_000))*domain.Instant(time.Millisecond), ended
	switch n := g.r.IntN(100); {
	case n < 8:
		c.Disposition, c.AnsweredAt, c.BillableMS = domain.NoAnswer, 0, 0
		c.StartedAt, c.EndedAt = answered, answered+domain.Instant(25*time.Second)
		ended, c.SIPStatus = c.EndedAt, 480
	case n < 20:
		c.Direction = domain.Inbound
		c.Calling, c.Called = c.Called, c.Calling
	default:
		c.SIPStatus = 200
	}
	var id [16]byte
	for i := range 2 {
		v := g.r.Uint64()
		for b := range 8 {
			id[i*8+b] = byte(v >> (8 * b))
		}
	}
	e = domain.Event{Tenant: g.Tenant, ID: uuid(id), Time: ended, Data: c}
	c.Correlation = e.ID
	return e, Countries[country]
}

// uuid is the random UUID of these bytes, as text.
func uuid(b [16]byte) string {
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	var text [36]byte
	hex.Encode(text[0:8], b[0:4])
	hex.Encode(text[9:13], b[4:6])
	hex.Encode(text[14:18], b[6:8])
	hex.Encode(text[19:23], b[8:10])
	hex.Encode(text[24:36], b[10:16])
	text[8], text[13], text[18], text[23] = '-', '-', '-', '-'
	return string(text[:])
}

// number is +prefix and a number of so many digits.
func number(prefix string, digits int, n uint64) domain.Number {
	v, length := uint64(0), len(prefix)+digits
	for _, c := range []byte(prefix) {
		v = v*10 + uint64(c-'0')
	}
	for range digits {
		v *= 10
	}
	return domain.Number{Digits: v + n, Len: uint8(length), Plus: true}
}
