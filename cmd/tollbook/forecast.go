package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"tollbook/api"
	"tollbook/domain"
	"tollbook/eventstore"
	"tollbook/projections"
	"tollbook/projections/forecast"
)

// forecastCmd says how a month will probably end: when its pools are used up, and
// what overage will come to. It is an estimate; no invoice depends on it.
type forecastCmd struct {
	monthOf
	At  uint64 `placeholder:"POSITION" help:"With --data: as of a position of the book; without it, its end."`
	Now string `placeholder:"TIME" help:"With --data: as if it were 2026-10-12T09:00:00Z; without it, it is now."`
}

// Validate is called by kong, before anything is done.
func (c *forecastCmd) Validate() error {
	if c.Data == "" && (c.At != 0 || c.Now != "") {
		return errors.New("--at and --now need --data: an engine forecasts from all it has booked, and by its clock")
	}
	if c.Now != "" {
		if _, err := parseNow(c.Now); err != nil {
			return err
		}
	}
	return c.monthOf.Validate()
}

func parseNow(text string) (domain.Instant, error) {
	at, err := time.Parse(time.RFC3339, text)
	if err != nil || at.Before(domain.MinInstant.Time()) || !at.Before(domain.MaxInstant.Time()) {
		return 0, fmt.Errorf("--now %q: must be a time with its offset, such as 2026-10-12T09:00:00Z, from 2000 to 2200", text)
	}
	return domain.InstantOf(at), nil
}

func (c *forecastCmd) Run(ctx context.Context, std Streams) error {
	d, err := c.document(ctx, std)
	if err != nil {
		return err
	}
	return c.print(std, d, func(w writer) { printForecast(w, d, newPaint(std.Out)) })
}

func (c *forecastCmd) document(ctx context.Context, std Streams) (d forecast.Document, err error) {
	if c.Data != "" {
		d, err = c.offline(ctx, std)
		return d, checkFailed(eventstore.Damaged(c.Data, err))
	}
	client, done, err := c.connect()
	if err != nil {
		return d, err
	}
	defer done()
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	return client.Forecast(ctx, api.MonthRequest{Tenant: c.Tenant, Month: c.Month})
}

func (c *forecastCmd) offline(ctx context.Context, std Streams) (forecast.Document, error) {
	month, err := domain.ParseMonth(c.Month)
	if err != nil {
		return forecast.Document{}, err
	}
	now := clock()
	if c.Now != "" {
		if now, err = parseNow(c.Now); err != nil {
			return forecast.Document{}, err
		}
	}
	walk, closeLog, err := openCopy(c.Data, "")
	if err != nil {
		return forecast.Document{}, err
	}
	defer closeLog()
	bar := newProgress(std, "replaying", int64(endOr(c.At, walk.Anchor.Events)), "events")
	defer bar.finish()
	view, err := projections.Fold(ctx, walk, c.Tenant, c.At, func(events uint64) { bar.set(events) })
	if err != nil {
		return forecast.Document{}, err
	}
	if err := forecast.Open(view, c.Tenant, month); err != nil {
		return forecast.Document{}, err
	}
	return forecast.Read(view, c.Tenant, month, now).Forecast().Document, nil
}

// poolWidth leaves a table of forecasts 100 columns wide.
const poolWidth = 39

func printForecast(w writer, d forecast.Document, p paint) {
	fmt.Fprintf(w, "%s  position %d, as of %s\n\n", p.bold("Forecast of "+d.Tenant+", "+d.Month), d.Position, toSecond(d.Now))
	if len(d.Pools) == 0 {
		fmt.Fprintln(w, "No licence of the tenant touches the month.")
		return
	}
	type row struct {
		*forecast.Bucket
		name string
	}
	var rows []row
	unknown := map[string]bool{}
	for i := range d.Pools {
		pool := &d.Pools[i]
		if !pool.Known {
			unknown[orDash(pool.Country)] = true
		}
		for j := range pool.Buckets {
			words := strings.Fields(pool.Country + " " + pool.Plan + " " + pool.User)
			if b := &pool.Buckets[j]; len(pool.Buckets) > 1 {
				rows = append(rows, row{b, strings.Join(append(words, b.Name), " ")})
			} else {
				rows = append(rows, row{b, strings.Join(words, " ")})
			}
		}
	}
	slices.SortStableFunc(rows, func(a, b row) int { return a.Compare(b.Bucket) })
	t := newTable("pool", ">used %", ">expected %", ">from-to", "ends (UTC)", "days", ">over min")
	for _, b := range rows {
		var note func(string) string
		switch {
		case b.Ended:
			note = p.bad
		case b.Ends != nil:
			note = p.warn
		}
		name := []rune(b.name)
		t.row(note, string(name[:min(len(name), poolWidth)]), percentOf(b.Used+b.Overage, b.Granted), percentOf(b.Expected, b.Granted),
			percentOf(b.ExpectedLow, b.Granted)+"-"+percentOf(b.ExpectedHigh, b.Granted), endOf(b.Bucket), endsWithin(b.Bucket), grouped(b.OverageExpected/60))
	}
	t.print(w, p)
	if len(d.Totals) > 0 {
		fmt.Fprintln(w)
		t = newTable("invoices", ">so far", ">expected", ">low", ">high")
		for _, total := range d.Totals {
			t.row(nil, total.Currency, total.Charged, total.Expected, total.Low, total.High)
		}
		t.print(w, p)
	}
	fmt.Fprintf(w, "\nFrom low to high: where %d of 100 months are meant to end. An estimate, see docs/FORECAST.md.\n", d.Interval)
	if len(unknown) > 0 {
		fmt.Fprintf(w, "No holidays known: %s\n", strings.Join(slices.Sorted(maps.Keys(unknown)), ", "))
	}
}

func percentOf(part, whole int64) string {
	if whole == 0 {
		return "–"
	}
	return grouped(part * 100 / whole)
}

// endOf is when a bucket ends, to the minute.
func endOf(b *forecast.Bucket) string {
	switch {
	case b.Ends == nil && b.Granted == 0:
		return "no minutes"
	case b.Ends == nil:
		return "lasts"
	}
	at := (*b.Ends)[len("2026-"):len("2026-10-12T09:00")]
	return strings.Replace(at, "T", " ", 1)
}

// endsWithin is from which day to which a bucket may end; none: not in the month.
func endsWithin(b *forecast.Bucket) string {
	if b.Ended || b.EndsLow == nil {
		return ""
	}
	first := (*b.EndsLow)[len("2026-10-"):len("2026-10-12")]
	if b.EndsHigh == nil {
		return first + "-"
	}
	return first + "-" + (*b.EndsHigh)[len("2026-10-"):len("2026-10-12")]
}
