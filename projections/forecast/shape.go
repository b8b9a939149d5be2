package forecast

import "math"

// A shape is how busy hours are, against one another.
type shape struct {
	day  [kindCount]float64 // by kind of day; over a week of days they are 7
	vary [kindCount]float64 // the relative variance of each: how well it is known
	*hours
}

// hours are how busy those of a day are, of days of work and of free ones.
type hours struct {
	hour [2][24]float64 // 1 together
	till [2][25]float64 // hour, added up
}

// anyShape is where learning begins: offices that work from Monday to Friday. How
// far a tenant may be from it is in tenantVariance, which is wide.
func anyShape() *shape {
	s := &shape{day: [kindCount]float64{.3, 1.26, 1.26, 1.26, 1.26, 1.26, .4, .3}, hours: &hours{}}
	for h := range 24 {
		s.hour[0][h], s.hour[1][h] = .01, .02
		if h >= 8 && h < 18 {
			s.hour[0][h] = .086
		}
		if h >= 9 && h < 22 {
			s.hour[1][h] = .06
		}
	}
	s.addUp()
	return s
}

// How far days may be from those of the shape that is learned from, as relative
// variances: a tenant's from anybody's, a country's from its tenant's, a pool's from
// its country's. And by how many calls hours are known before any is seen.
const (
	tenantVariance  = .25
	countryVariance = .02
	poolVariance    = .02
	tenantCalls     = 20
	poolCalls       = 200
)

func (s *hours) addUp() {
	for free := range s.hour {
		sum := 0.0
		for _, v := range s.hour[free] {
			sum += v
		}
		for h := range 24 {
			s.hour[free][h] /= sum
			s.till[free][h+1] = s.till[free][h] + s.hour[free][h]
		}
	}
}

// A window is seconds billed on whole days, by kind of day, and how many such days
// there were.
type window struct {
	seconds [kindCount]float64
	days    [kindCount]float64
}

// level is the seconds of a day of weight 1.
func (s *shape) level(w *window) float64 {
	seconds, weight := 0.0, 0.0
	for k := range kindCount {
		seconds += w.seconds[k]
		weight += float64(w.days[k] * s.day[k])
	}
	if weight == 0 {
		return 0
	}
	return seconds / weight
}

// learnDays is the shape of those whose days are like those of s but for a variance,
// from what was seen of them: by windows, each at a level of its own. grain is
// the seconds that come at once, so that seconds/grain are as good as so many
// independent calls: each weight is the mean of a gamma distribution that begins at
// that of s and has seen those calls.
func (s *shape) learnDays(windows []window, variance, grain float64) *shape {
	l := *s
	for range 3 { // weights need levels, and levels weights
		var seen, due [kindCount]float64
		for i := range windows {
			level := l.level(&windows[i])
			for k := range kindCount {
				seen[k] += windows[i].seconds[k]
				due[k] += float64(level * windows[i].days[k] * s.day[k])
			}
		}
		week := 0.0
		for k := range kindCount {
			known := 1 / (s.vary[k] + variance)
			l.day[k] = s.day[k] * (known + seen[k]/grain) / (known + due[k]/grain)
			l.vary[k] = 1 / (known + due[k]/grain)
			if k != holiday {
				week += l.day[k]
			}
		}
		for k := range kindCount {
			l.day[k] *= 7 / week
		}
	}
	return &l
}

// learn takes in the seconds seen by hour, as a shape does those by day: to h they
// are worth so many calls.
func (h *hours) learn(seen *[2][24]int64, calls, grain float64) *hours {
	l := *h
	for free := range l.hour {
		for n := range 24 {
			l.hour[free][n] = float64(l.hour[free][n]*calls) + float64(seen[free][n])/grain
		}
	}
	l.addUp()
	return &l
}

// A pace is a shape laid over the days of a month.
type pace struct {
	cal   *calendar
	kinds []uint8
	shape *shape
	till  []float64 // the weight of the days before each
}

func newPace(c *calendar, d *countryDays, s *shape, till []float64) pace {
	p := pace{c, d.kinds, s, append(till[:0], 0)}
	for n, kind := range d.kinds {
		p.till = append(p.till, p.till[n]+s.day[kind])
	}
	return p
}

// at is the weight of the month until an instant.
func (p *pace) at(t instant) float64 {
	switch {
	case t <= p.cal.from():
		return 0
	case t >= p.cal.to():
		return p.till[len(p.kinds)]
	}
	n := p.cal.day(t)
	hours := float64(t-p.cal.starts[n]) / float64(p.cal.starts[n+1]-p.cal.starts[n]) * 24
	h := min(int(hours), 23)
	till := &p.shape.till[free(p.kinds[n])]
	return p.till[n] + float64(p.shape.day[p.kinds[n]]*(till[h]+float64((till[h+1]-till[h])*(hours-float64(h)))))
}

// when is the instant until which the month has a weight.
func (p *pace) when(weight float64) instant {
	n := 0
	for n < len(p.kinds)-1 && p.till[n+1] < weight {
		n++
	}
	rest := (weight - p.till[n]) / p.shape.day[p.kinds[n]]
	till := &p.shape.till[free(p.kinds[n])]
	h := 0
	for h < 23 && till[h+1] < rest {
		h++
	}
	hours := float64(h)
	if till[h+1] > till[h] {
		hours += min(max((rest-till[h])/(till[h+1]-till[h]), 0), 1)
	}
	length := float64(p.cal.starts[n+1] - p.cal.starts[n])
	return p.cal.starts[n] + instant(math.Floor(hours/24*length))
}

// doubt is the relative variance of what is still to come against what came, for
// want of knowing the shape: nothing if both have the same kinds of days.
func (p *pace) doubt(from, now, to instant) float64 {
	came, coming := p.at(now)-p.at(from), p.at(to)-p.at(now)
	if coming <= 0 {
		return 0
	}
	var by [kindCount]float64
	for n, kind := range p.kinds {
		a, b := p.cal.starts[n], p.cal.starts[n+1]
		past := overlap(a, b, from, now)
		rest := overlap(a, b, now, to)
		by[kind] += float64(rest * p.shape.day[kind] / coming)
		if came > 0 {
			by[kind] -= float64(past * p.shape.day[kind] / came)
		}
	}
	sum := 0.0
	for k := range kindCount {
		sum += float64(by[k] * by[k] * p.shape.vary[k])
	}
	return sum
}

// overlap is the share of a day, [a, b), that is within [from, to).
func overlap(a, b, from, to instant) float64 {
	if from = max(a, from); from >= min(b, to) {
		return 0
	}
	return float64(min(b, to)-from) / float64(b-a)
}
