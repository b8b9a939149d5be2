package web

import (
	"fmt"
	"strings"
	"time"

	"tollbook/domain"
	"tollbook/projections"
)

// A chart is geometry: a field of 1000 by 1000 that is stretched, and words at
// shares of the whole, which are not.
type chart struct {
	Says    string // in place of the picture
	Height  int
	Field   string // the field's share of the height, in percent
	Rows    []tick
	Columns []tick
	Paths   []stroke
	Marks   []mark
}

type tick struct{ At, Text string }
type stroke struct{ Class, D string }
type mark struct {
	Class string
	X     int64
}

// field is how much of a chart's height, in thousandths, the field has; dates
// stand below it.
const field = 900

// permille as percent.
func permille(n int64) string { return fmt.Sprintf("%d.%d", n/10, n%10) }

// A span is from a month's first instant to the next one's.
type span struct{ From, To domain.Instant }

// x is where an instant is in a span, 0 to 1000.
func (s span) x(at domain.Instant) int64 {
	if s.To <= s.From {
		return 0
	}
	at = min(max(at, s.From), s.To)
	return int64((at - s.From) / ((s.To - s.From + 999) / 1000))
}

// days are dates along the foot of a chart, as many as there is room for.
func (s span) days(l *locale, zone *time.Location, every int) (ticks []tick) {
	first := s.From.Time().In(zone)
	for n := 0; ; n += every {
		day := first.AddDate(0, 0, n)
		at := domain.InstantOf(day)
		if at >= s.To {
			return ticks
		}
		if x := s.x(at); x <= 900 { // beyond, its words would stand out
			ticks = append(ticks, tick{At: permille(x), Text: l.day(zone, day)})
		}
	}
}

// heldChart draws how many licences were held over the month.
func heldChart(l *locale, zone *time.Location, s span, steps []projections.HeldLicences) chart {
	most, least := int64(0), int64(-1)
	for _, one := range steps {
		most = max(most, one.Licences)
		if least < 0 || one.Licences < least {
			least = one.Licences
		}
	}
	c := chart{
		Height: 110, Field: permille(field - 100), Columns: s.days(l, zone, 5),
		Says: l.t("Licences held, between %s and %s; the table has the times.", l.num(least), l.num(most)),
		Rows: []tick{{At: "0", Text: l.num(most)}},
	}
	y := func(n int64) int64 { return 1000 - n*1000/max(most, 1) }
	var line strings.Builder
	fmt.Fprintf(&line, "M0 %d", y(steps[0].Licences))
	for _, one := range steps[1:] {
		fmt.Fprintf(&line, "H%dV%d", s.x(domain.InstantOf(instant(one.From))), y(one.Licences))
	}
	line.WriteString("H1000")
	c.Paths = []stroke{{"under", line.String() + "V1000H0Z"}, {"left", line.String()}}
	return c
}

// A balance is what was left of a pool at an instant, in seconds; below 0 is overage.
type balance struct {
	At   domain.Instant
	Left int64
}

// burnDown draws what is left of a bucket over the month, against the pace at which
// it would last exactly so long.
func (q *request) burnDown(r *poolRow, s span, now domain.Instant, course []balance, small bool) chart {
	l, zone, granted := q.l, q.view.Zone, r.Granted
	c := chart{Height: 260, Field: permille(field), Says: l.t("What is left of %s %s over the month: %s", r.Country, r.Plan, q.says(r))}
	every := 5
	if small {
		c.Height, every = 110, 10
	}
	c.Columns = s.days(l, zone, every)
	top, bottom := max(granted, 1), min(r.lowest(), 0)
	for _, b := range course {
		bottom = min(bottom, b.Left)
	}
	height := max(top-bottom, 1)
	y := func(left int64) int64 { return int64(float64(top-min(left, top)) / float64(height) * 1000) }
	row := func(left int64) {
		c.Rows = append(c.Rows, tick{At: permille(y(left) * field / 1000), Text: l.num(left/60) + "\u00a0min"})
	}
	row(top)
	if !small && granted > 0 && y(granted/2) > 100 {
		row(granted / 2)
	}
	if y(0) > 80 && y(0) < 1000 {
		row(0)
	}
	line := func(class string, points []balance) {
		if len(points) == 0 {
			return
		}
		var d strings.Builder
		for i, b := range points {
			fmt.Fprintf(&d, "%s%d %d", []string{"M", "L"}[min(i, 1)], s.x(b.At), y(b.Left))
		}
		c.Paths = append(c.Paths, stroke{class, d.String()})
	}
	c.drawForeseen(r, s, y)
	if granted > 0 {
		line("pace", []balance{{s.From, granted}, {s.To, 0}})
	}
	var under, over []balance
	for _, b := range course {
		switch {
		case b.Left >= 0 && len(over) == 0:
			under = append(under, b)
		case len(over) == 0 && len(under) > 0:
			over = append(over, under[len(under)-1], b)
		default:
			over = append(over, b)
		}
	}
	if n := len(under); n > 1 {
		var d strings.Builder
		fmt.Fprintf(&d, "M%d %d", s.x(under[0].At), y(0))
		for _, b := range under {
			fmt.Fprintf(&d, "L%d %d", s.x(b.At), y(b.Left))
		}
		fmt.Fprintf(&d, "L%d %dZ", s.x(under[n-1].At), y(0))
		c.Paths = append(c.Paths, stroke{"under", d.String()})
	}
	line("left", under)
	line("over", over)
	if now > s.From && now < s.To {
		c.Marks = append(c.Marks, mark{"now", s.x(now)})
	}
	return c
}
