package main

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"time"

	"tollbook/cmd/tollbook/traffic"
	"tollbook/domain"
	"tollbook/eventstore"
	"tollbook/projections"
	"tollbook/projections/forecast"
)

// backtestCmd forecasts months that are made up, while they go on, and compares with
// how they end: the table of docs/FORECAST.md.
type backtestCmd struct {
	Months int    `default:"12" help:"Months of each kind, each with seeds of its own and three months before it."`
	Users  int    `default:"300" help:"Users, in 15 pools."`
	Calls  int    `default:"40000" help:"Calls of a month, about."`
	Seed   uint64 `default:"1" help:"Seed of the first month."`
	format
}

// Validate is called by kong, before anything is done.
func (c *backtestCmd) Validate() error {
	if c.Months < 1 || c.Months > 1000 || c.Users < 15 || c.Users > 1_000_000 || c.Calls < 1000 || c.Calls > 10_000_000 {
		return fmt.Errorf("--months must be 1 to 1,000, --users 15 to 1,000,000, --calls 1,000 to 10,000,000")
	}
	return nil
}

// A world is how calls come in months that are made up.
type world struct {
	name string
	past int     // months before
	grow float64 // from month to month
	jump float64 // in the month that is forecast
	flat bool    // every day is as busy as any other
}

var worlds = []world{
	{name: "steady", past: 3},
	{name: "growing 5 % a month", past: 3, grow: .05},
	{name: "30 % more this month", past: 3, jump: .3},
	{name: "open every day", past: 3, flat: true},
	{name: "nothing before", past: 0},
}

// How months that are made up vary beyond what chance makes of calls.
const (
	dayNoise     = .10 // of a day in a country, a standard deviation
	weekNoise    = .05 // of a week in a country
	onHolidays   = .15 // of a day's calls are made
	madeAtMost   = .4  // of the calls of a shape, so that there is room above
	flatWeekdays = .2  // what weekdays are thinned to
)

var askedOn = []int{1, 5, 10, 15, 20, 25}

// A backtestRow is how far off forecasts were that were made on a day of the month.
type backtestRow struct {
	World     string  `json:"world"`
	Day       int     `json:"day"`
	Buckets   int     `json:"buckets"`
	Median    float64 `json:"median_percent"` // of the month's seconds of a bucket, off by
	P90       float64 `json:"p90_percent"`
	Line      float64 `json:"straight_median_percent"`
	LineP90   float64 `json:"straight_p90_percent"`
	Within    float64 `json:"within_percent"` // of the buckets ended in the interval
	Ends      int     `json:"ends"`           // buckets that ended later in the month
	Days      float64 `json:"end_median_days"`
	LineDays  float64 `json:"straight_end_median_days"`
	EndIn     float64 `json:"end_within_percent"`
	False     float64 `json:"end_false_percent"` // of the buckets that were said to end lasted
	FalseLine float64 `json:"straight_end_false_percent"`
	Money     float64 `json:"money_median_percent"` // of the month's total
	MoneyIn   float64 `json:"money_within_percent"`
}

func (c *backtestCmd) Run(ctx context.Context, std Streams) error {
	var rows []backtestRow
	bar := newProgress(std, "forecasting", int64(len(worlds)*c.Months), "months")
	defer bar.finish()
	for _, w := range worlds {
		off := make([]deviations, len(askedOn))
		for n := range c.Months {
			if err := ctx.Err(); err != nil {
				return err
			}
			c.month(w, c.Seed+uint64(n), off)
			bar.set(uint64(len(rows)/len(askedOn)*c.Months + n + 1))
		}
		for i, day := range askedOn {
			rows = append(rows, off[i].row(w.name, day))
		}
	}
	bar.finish()
	return c.print(std, rows, func(w writer) { printBacktest(w, rows, newPaint(std.Out)) })
}

// noise is a factor around 1 that is always the same for a seed and words.
func noise(seed uint64, words string, deviation float64) float64 {
	for _, b := range []byte(words) {
		seed = (seed ^ uint64(b)) * 0x9e3779b97f4a7c15
	}
	return math.Exp(rand.New(rand.NewPCG(seed, 0xf0_0c_a5_70)).NormFloat64() * deviation)
}

// shapes are the months, the one to be forecast last.
func (c *backtestCmd) shapes(w world, seed uint64) []traffic.Shape {
	last := domain.Month(2026*12) + domain.Month(seed%12)
	var shapes []traffic.Shape
	for n := range w.past + 1 {
		s := traffic.Month(seed*100+uint64(n), c.Users, 0)
		s.Month = last - domain.Month(w.past-n)
		level := math.Pow(1+w.grow, float64(n-w.past))
		if n == w.past {
			level *= 1 + w.jump
		}
		s.Calls = int(float64(c.Calls) / madeAtMost * traffic.Busy(s.Month) / 22)
		if w.flat {
			s.Calls *= 4
		}
		s.Made = func(country string, hour time.Time) float64 {
			share := madeAtMost * level * noise(seed, country+hour.Format(time.DateOnly), dayNoise)
			year, week := hour.ISOWeek()
			share *= noise(seed, fmt.Sprint(country, year, week), weekNoise)
			switch weekday := hour.Weekday(); {
			case w.flat && weekday != time.Saturday && weekday != time.Sunday:
				share *= flatWeekdays
			case !w.flat:
				if is, _ := forecast.Holiday(country, hour); is {
					share *= onHolidays
				}
			}
			return min(share, 1)
		}
		shapes = append(shapes, s)
	}
	return shapes
}

// month forecasts one month on each day that is asked for.
func (c *backtestCmd) month(w world, seed uint64, off []deviations) {
	ledger := domain.NewLedger()
	add := func(events []domain.Event) {
		for i := range events {
			ledger.Add(&events[i])
		}
	}
	shapes := c.shapes(w, seed)
	add(builtinCatalog())
	add(shapes[0].Terms())
	seen := map[domain.Ref]bool{} // a ledger is given each event once
	once := func(e *domain.Event) {
		if ref := (domain.Ref{Source: e.Source, ID: e.ID}); !seen[ref] {
			seen[ref] = true
			ledger.Add(e)
		}
	}
	this := shapes[len(shapes)-1]
	for _, s := range shapes[:len(shapes)-1] {
		for e := range s.Events() {
			once(&e)
		}
	}
	ask := func(now domain.Instant) *forecast.Forecast {
		view := &projections.View{Ledger: ledger, Head: eventstore.Head{}}
		return forecast.Read(view, this.Tenant, this.Month, now).Forecast()
	}
	from, to := this.Month.Start(time.UTC), (this.Month + 1).Start(time.UTC)
	var made []*forecast.Forecast
	next := func() domain.Instant { // at noon
		return from + domain.Instant(time.Duration(24*askedOn[len(made)]-12)*time.Hour)
	}
	for e := range this.Events() {
		for len(made) < len(askedOn) && e.Time >= next() {
			made = append(made, ask(next()))
		}
		once(&e)
	}
	for len(made) < len(askedOn) {
		made = append(made, ask(next()))
	}
	end := ask(to)
	for i, f := range made {
		now := from + domain.Instant(time.Duration(24*askedOn[i]-12)*time.Hour)
		off[i].compare(f, end, from, now, to)
	}
}

// deviations are how far off forecasts were.
type deviations struct {
	seconds, line      []float64 // in percent
	days, lineDays     []float64
	money              []float64
	in, endIn, moneyIn int
	ends, lineEnds     share // said to end, and lasted
}

// A share is so many of how many.
type share struct{ n, of int }

func (s *share) add(is bool) {
	if s.of++; is {
		s.n++
	}
}

func (s share) percent() float64 { return shareOf(s.n, s.of) }

func (d *deviations) compare(f, end *forecast.Forecast, from, now, to domain.Instant) {
	elapsed := float64(now-from) / float64(to-from)
	for i := range f.Pools {
		for j := range f.Pools[i].Buckets {
			b, was := &f.Pools[i].Buckets[j], &end.Pools[i].Buckets[j]
			if was.Expected == 0 {
				continue
			}
			so := b.Used + b.Overage
			line := float64(so) / elapsed
			d.seconds = append(d.seconds, percentOff(float64(b.Expected), float64(was.Expected)))
			d.line = append(d.line, percentOff(line, float64(was.Expected)))
			if b.ExpectedLow <= was.Expected && was.Expected <= b.ExpectedHigh {
				d.in++
			}
			if b.Ended {
				continue
			}
			if b.Ends != nil {
				d.ends.add(was.Ends == nil)
			}
			if line > float64(b.Granted) {
				d.lineEnds.add(was.Ends == nil)
			}
			if was.Ends == nil {
				continue
			}
			// What is said to last is off by what is left of the month then.
			ended := instantOf(was.Ends, to)
			byLine := to
			if line > float64(b.Granted) {
				byLine = from + domain.Instant(float64(to-from)*float64(b.Granted)/line)
			}
			d.days = append(d.days, daysOff(instantOf(b.Ends, to), ended))
			d.lineDays = append(d.lineDays, daysOff(byLine, ended))
			if instantOf(b.EndsLow, to) <= ended && ended <= instantOf(b.EndsHigh, to) {
				d.endIn++
			}
		}
	}
	for i := range end.Totals {
		was := amountOf(end.Totals[i].Expected)
		if was == 0 || i >= len(f.Totals) {
			continue
		}
		d.money = append(d.money, percentOff(amountOf(f.Totals[i].Expected), was))
		if amountOf(f.Totals[i].Low) <= was && was <= amountOf(f.Totals[i].High) {
			d.moneyIn++
		}
	}
}

func percentOff(said, was float64) float64 { return math.Abs(said-was) / was * 100 }

func daysOff(said, was domain.Instant) float64 {
	return math.Abs(float64(said-was)) / float64(24*time.Hour)
}

// instantOf is a time of a document; null is the end of the month.
func instantOf(text *string, to domain.Instant) domain.Instant {
	if text == nil {
		return to
	}
	t, err := time.Parse(time.RFC3339Nano, *text)
	if err != nil {
		return to
	}
	return domain.InstantOf(t)
}

// amountOf is an amount near enough to compare.
func amountOf(text string) (amount float64) {
	_, _ = fmt.Sscan(text, &amount)
	return amount
}

func quantile(list []float64, percent int) float64 {
	if len(list) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(list))
	return math.Round(sorted[(len(sorted)-1)*percent/100]*10) / 10
}

func shareOf(n, of int) float64 { return math.Round(float64(n) / float64(max(of, 1)) * 100) }

func (d *deviations) row(world string, day int) backtestRow {
	return backtestRow{
		World: world, Day: day, Buckets: len(d.seconds), Median: quantile(d.seconds, 50), P90: quantile(d.seconds, 90),
		Line: quantile(d.line, 50), LineP90: quantile(d.line, 90), Within: shareOf(d.in, len(d.seconds)),
		Ends: len(d.days), Days: quantile(d.days, 50), LineDays: quantile(d.lineDays, 50), EndIn: shareOf(d.endIn, len(d.days)),
		False: d.ends.percent(), FalseLine: d.lineEnds.percent(),
		Money: quantile(d.money, 50), MoneyIn: shareOf(d.moneyIn, len(d.money)),
	}
}

func printBacktest(w writer, rows []backtestRow, p paint) {
	fmt.Fprintf(w, "%s\n", p.bold(fmt.Sprintf("How far off forecasts were, and a straight line; within: of the %d %% interval", forecast.Interval)))
	t := newTable("months", ">day", ">median %", ">line", ">90th %", ">line", ">within %", ">ends, days", ">line", ">within %", ">false %", ">line", ">money %", ">within %")
	last := ""
	for _, r := range rows {
		name := r.World
		if name == last {
			name = ""
		}
		last = r.World
		t.row(nil, name, fmt.Sprint(r.Day), fmt.Sprintf("%.1f", r.Median), fmt.Sprintf("%.1f", r.Line), fmt.Sprintf("%.1f", r.P90), fmt.Sprintf("%.1f", r.LineP90),
			fmt.Sprint(r.Within), fmt.Sprintf("%.1f", r.Days), fmt.Sprintf("%.1f", r.LineDays), fmt.Sprint(r.EndIn), fmt.Sprint(r.False), fmt.Sprint(r.FalseLine), fmt.Sprintf("%.1f", r.Money), fmt.Sprint(r.MoneyIn))
	}
	t.print(w, p)
}
