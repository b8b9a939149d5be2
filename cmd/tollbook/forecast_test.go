package main

import (
	"fmt"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"tollbook/cmd/tollbook/traffic"
	"tollbook/domain"
	"tollbook/projections/forecast"
)

// TestForecast asks the engine, and its book, how a month will end: both say the
// same, then something else once calls have come, and nothing of a closed month.
func TestForecast(t *testing.T) {
	const now = "2026-10-12T08:00:00Z"
	r, _ := newRigAt(t, now)
	r.book(licensed("contoso")...)
	for n := range 9 { // of 120 minutes in the pool
		r.book(callAt("contoso", fmt.Sprint("call", n), fmt.Sprintf("2026-10-%02dT09:00:00Z", 1+n), 600))
	}
	month := []string{"forecast", "--tenant", "contoso", "--month", "2026-10"}
	ask := func() forecast.Document {
		t.Helper()
		online := done(t, append(month, "--nats", r.NATSAddress, "--format", "json")...)
		offline := done(t, append(month, "--data", r.dir, "--now", now, "--format", "json")...)
		// The engine's clock goes on between questions, and its forecast is of the first.
		d := decoded[forecast.Document](t, online)
		if diff := cmp.Diff(d, decoded[forecast.Document](t, offline)); diff != "" {
			t.Errorf("-online +offline:\n%s", diff)
		}
		return d
	}
	d := ask()
	if len(d.Pools) != 1 || d.Interval != forecast.Interval || d.Now != now {
		t.Fatalf("%+v", d)
	}
	b := d.Pools[0].Buckets[0]
	if b.Granted != 7200 || b.Used != 5400 || b.Ended || b.Ends == nil || b.OverageExpected == 0 || len(b.Amounts) != 1 {
		t.Errorf("%+v", b)
	}
	r.book(callAt("contoso", "long", "2026-10-12T07:00:00Z", 3000))
	if b = ask().Pools[0].Buckets[0]; !b.Ended || *b.Ends != "2026-10-12T07:00:00Z" || b.Overage != 1200 {
		t.Errorf("ended: %+v", b)
	}
	text := done(t, append(month, "--nats", r.NATSAddress)...)
	for line := range strings.Lines(text) {
		if n := utf8.RuneCountInString(strings.TrimSuffix(line, "\n")); n > 100 {
			t.Errorf("%d columns: %s", n, line)
		}
	}
	if !strings.Contains(text, "10-12 07:00") {
		t.Errorf("%s", text)
	}
}

func TestForecastOfClosed(t *testing.T) {
	r, _ := newRigAt(t, "2026-11-04T08:00:00Z")
	r.book(licensed("contoso")...)
	r.book(callAt("contoso", "1", "2026-10-05T09:00:00Z", 130*60))
	month := []string{"forecast", "--tenant", "contoso", "--month", "2026-10"}
	over := decoded[forecast.Document](t, done(t, append(month, "--nats", r.NATSAddress, "--format", "json")...))
	if b := over.Pools[0].Buckets[0]; b.ExpectedLow != 7800 || b.ExpectedHigh != 7800 || over.Totals[0].Charged != over.Totals[0].High {
		t.Errorf("the month is over: %+v, %+v", b, over.Totals)
	}
	r.close("contoso", "2026-10")
	refused(t, exitFailed, "2026-10 of contoso is closed", append(month, "--nats", r.NATSAddress)...)
	refused(t, exitFailed, "2026-10 of contoso is closed", append(month, "--data", r.dir)...)
	refused(t, exitUsage, "--now need --data", append(month, "--now", "2026-10-05T09:00:00Z")...)
	refused(t, exitUsage, "--now \"noon\"", append(month, "--data", r.dir, "--now", "noon")...)
}

// TestForecastBeatsLine: on months made up for it, forecasts are nearer to how
// buckets end than a straight line, and their interval holds about as often as it
// says. Late in a month of few calls either may be the luckier.
func TestForecastBeatsLine(t *testing.T) {
	c := backtestCmd{Users: 150, Calls: 8000, Seed: 1}
	off := make([]deviations, len(askedOn))
	for seed := range uint64(3) {
		c.month(worlds[0], c.Seed+seed, off)
	}
	in, all, ours, line := 0, 0, 0.0, 0.0
	for i, day := range askedOn {
		row := off[i].row(worlds[0].name, day)
		t.Logf("seeds 1 to 3, day %d: %.1f %% off, a straight line %.1f %%", day, row.Median, row.Line)
		in, all = in+off[i].in, all+len(off[i].seconds)
		ours, line = ours+row.Median, line+row.Line
		if day <= 10 && row.Median > row.Line {
			t.Errorf("on day %d a straight line is nearer", day)
		}
	}
	if ours > line/2 {
		t.Errorf("%.1f %% off together, a straight line %.1f %%", ours, line)
	}
	if share := shareOf(in, all); share < 70 {
		t.Errorf("%.0f %% ended in the interval of %d %%", share, forecast.Interval)
	}
}

// TestTrafficMade: what is not made leaves the shape of the rest as it was.
func TestTrafficMade(t *testing.T) {
	s := traffic.Month(1, 100, 2000)
	s.Made = func(country string, _ time.Time) float64 { return map[string]float64{"IT": 1, "DE": .5}[country] }
	by := map[string]int{}
	for e := range s.Events() {
		var user int
		if _, err := fmt.Sscanf(e.Data.(*domain.Call).User, "user.%d@", &user); err != nil {
			t.Fatal(err)
		}
		by[traffic.Countries[user%len(traffic.Countries)]]++
	}
	if by["IT"] == 0 || by["DE"] == 0 || by["DE"] > by["IT"]*3/4 || len(by) != 2 {
		t.Errorf("made: %v", by)
	}
}
