package main

import (
	"context"
	"errors"
	"fmt"
	"math/big"
	"strings"
	"time"

	"tollbook/domain"
	"tollbook/eventstore"
	"tollbook/projections"
)

// diffCmd says what of a month changed between two positions of the book.
type diffCmd struct {
	Data   string   `required:"" type:"existingdir" placeholder:"DIR" help:"Data directory."`
	Tenant string   `required:"" help:"Tenant."`
	Month  string   `required:"" placeholder:"2026-10" help:"Calendar month."`
	At     []uint64 `xor:"at" placeholder:"POSITION" help:"The two positions; with one, the other is the end of the book; with none, where the month was closed and the end."`
	AsOf   []string `xor:"at" placeholder:"TIME" help:"The same by when it was known: 2026-11-03T08:00:00Z, or a day, which is its start in UTC."`
	Limit  int      `default:"50" help:"List so many calls and so many events at most; all are counted."`
	format
}

// maxDiffed is the highest --limit.
const maxDiffed = 100_000

// Validate is called by kong, before anything is done.
func (c *diffCmd) Validate() error {
	switch {
	case len(c.At) > 2 || len(c.AsOf) > 2:
		return errors.New("--at, --as-of: at most two")
	case c.Limit < 0 || c.Limit > maxDiffed:
		return fmt.Errorf("--limit %d: must be 0 to %d", c.Limit, maxDiffed)
	}
	for _, at := range c.At {
		if at == 0 {
			return errPositionZero
		}
	}
	for _, text := range c.AsOf {
		if _, err := parseAsOf(text); err != nil {
			return err
		}
	}
	return validMonth(c.Tenant, c.Month)
}

var errPositionZero = errors.New("--at 0: positions begin at 1; leave it out for the end of the book")

// parseAsOf reads a time, or a day as its start in UTC.
func parseAsOf(text string) (domain.Instant, error) {
	at, err := time.Parse(time.RFC3339, text)
	if err != nil {
		at, err = time.Parse(time.DateOnly, text)
	}
	if err != nil || at.Before(domain.MinInstant.Time()) || !at.Before(domain.MaxInstant.Time()) {
		return 0, fmt.Errorf("--as-of %q: must be a time such as 2026-11-03T08:00:00Z, or a day such as 2026-11-03, from 2000 to 2200", text)
	}
	return domain.InstantOf(at), nil
}

// positionAsOf is the position up to which a book was known at a time.
func positionAsOf(ctx context.Context, walk eventstore.Walk, text string) (uint64, error) {
	at, err := parseAsOf(text)
	if err != nil {
		return 0, err
	}
	position, err := walk.PositionAt(ctx, at)
	if err == nil && position == 0 {
		err = fmt.Errorf("--as-of %s: the book had no events yet", text)
	}
	return position, err
}

func (c *diffCmd) Run(ctx context.Context, std Streams) error {
	doc, err := c.diff(ctx, std)
	if err != nil {
		return checkFailed(eventstore.Damaged(c.Data, err))
	}
	return c.print(std, doc, func(w writer) { printDiff(w, doc, newPaint(std.Out)) })
}

func (c *diffCmd) diff(ctx context.Context, std Streams) (doc projections.DiffDocument, err error) {
	month, err := domain.ParseMonth(c.Month)
	if err != nil {
		return doc, err
	}
	walk, closeLog, err := openCopy(c.Data, "")
	if err != nil {
		return doc, err
	}
	defer closeLog()
	at := c.At
	for _, text := range c.AsOf {
		position, err := positionAsOf(ctx, walk, text)
		if err != nil {
			return doc, err
		}
		at = append(at, position)
	}
	at = append(at, 0, 0) // the end
	bar := newProgress(std, "replaying", int64(endOr(at[1], walk.Anchor.Events)), "events")
	defer bar.finish()
	return projections.Diff(ctx, walk, c.Tenant, month, at[0], at[1], projections.DiffLimits{Calls: c.Limit, Events: c.Limit}, bar.set)
}

// endOr is how many events a walk to a position reads; 0 is the end.
func endOr(position, events uint64) uint64 {
	if position == 0 {
		return events
	}
	return min(position, events)
}

func printDiff(w writer, d projections.DiffDocument, p paint) {
	state := func(s projections.StateOf) string {
		text := fmt.Sprintf("position %d, %s", s.Position, s.Status)
		if s.Number != nil {
			text += " as " + *s.Number
		}
		return text
	}
	fmt.Fprintf(w, "%s  from %s to %s\n", p.bold("Changes of "+d.Tenant+", "+d.Month), state(d.Before), state(d.After))
	if len(d.Totals)+len(d.Lines)+len(d.Pools)+len(d.Exceptions) == 0 && d.CallsChanged == 0 {
		fmt.Fprintf(w, "\nNothing of the month has changed.\n")
	}
	section := func(title string, any bool, t *table) {
		if any {
			fmt.Fprintf(w, "\n%s\n", p.bold(title))
			t.print(w, p)
		}
	}

	t := newTable("country", "plan", "currency", ">total before", ">after", ">difference")
	for _, c := range d.Totals {
		t.row(nil, orDash(c.Country), c.Plan, c.Currency, textOr(c.Before, "–"), textOr(c.After, "–"), difference(textOr(c.Before, "0"), textOr(c.After, "0")))
	}
	section("Invoices", len(d.Totals) > 0, t)

	t = newTable("country", "plan", "line", ">price/min", ">calls", ">m:ss", ">amount before", ">after", ">difference")
	for _, c := range d.Lines {
		var before, after projections.LineState
		amounts := [2]string{"–", "–"}
		if c.Before != nil {
			before, amounts[0] = *c.Before, c.Before.Amount
		}
		if c.After != nil {
			after, amounts[1] = *c.After, c.After.Amount
		}
		name := fmt.Sprintf("%s %s %s, %s %s", c.DestinationCountry, c.Destination, c.Type, c.Deck, c.DeckVersion)
		if c.Adjusts != "" {
			name = "adjusts " + c.Adjusts + ": " + name
		}
		t.row(nil, orDash(c.Country), c.Plan, name, c.Price, signed(after.Calls-before.Calls), signedDuration(after.Seconds-before.Seconds),
			amounts[0], amounts[1], difference(before.Amount, after.Amount)+" "+c.Currency)
	}
	section("Lines", len(d.Lines) > 0, t)

	t = newTable("country", "plan", "user", "bucket", ">licences", ">granted m:ss", ">used", ">overage")
	for _, c := range d.Pools {
		var before, after projections.PoolState
		if c.Before != nil {
			before = *c.Before
		}
		if c.After != nil {
			after = *c.After
		}
		t.row(nil, orDash(c.Country), c.Plan, orDash(c.User), c.Bucket, arrow(grouped(before.Licences), grouped(after.Licences)),
			arrow(minutes(before.Granted), minutes(after.Granted)), arrow(minutes(before.Used), minutes(after.Used)), arrow(minutes(before.Overage), minutes(after.Overage)))
	}
	section("Pools", len(d.Pools) > 0, t)

	t = newTable("exception", ">count", ">m:ss")
	for _, c := range d.Exceptions {
		var before, after projections.ExceptionState
		if c.Before != nil {
			before = *c.Before
		}
		if c.After != nil {
			after = *c.After
		}
		t.row(nil, c.Reason, arrow(grouped(before.Count), grouped(after.Count)), arrow(minutes(before.Seconds), minutes(after.Seconds)))
	}
	section("Exceptions", len(d.Exceptions) > 0, t)

	t = newTable("answered (UTC)", "call", "user", "called", "class", ">over m:ss", ">exactly", "because of")
	for _, c := range d.Calls {
		var before, after projections.CallState
		was, is := "–", "–"
		if c.Before != nil {
			before, was = *c.Before, c.Before.Class
		}
		if c.After != nil {
			after, is = *c.After, c.After.Class
		}
		one := after
		if c.After == nil {
			one = before
		}
		by := "others of its pool"
		if c.By != nil {
			by = fmt.Sprintf("position %d", *c.By)
		}
		t.row(nil, one.At, c.Source+" "+c.ID, one.User, one.Called, arrow(was, is), arrow(minutes(before.Overage), minutes(after.Overage)),
			arrow(orZero(before.Exact), orZero(after.Exact)), by)
	}
	section(counted(d.CallsChanged, "call")+" changed"+shownOf(int64(len(d.Calls)), d.CallsChanged), len(d.Calls) > 0, t)

	t = newTable(">position", "known (UTC)", "type", "event", "about")
	for _, e := range d.Events {
		t.row(nil, fmt.Sprint(e.Position), e.SealedAt, strings.TrimSuffix(strings.TrimPrefix(string(e.Type), "tollbook."), ".v1"), e.Source+" "+e.ID, e.About)
	}
	section(counted(d.EventsFound, "event")+" between that can touch the month"+shownOf(int64(len(d.Events)), d.EventsFound), len(d.Events) > 0, t)
}

// shownOf says that a list is not whole.
func shownOf(shown, all int64) string {
	if shown == all {
		return ""
	}
	return fmt.Sprintf(", the first %s", grouped(shown))
}

// arrow is a value that may have changed.
func arrow(before, after string) string {
	if before == after {
		return after
	}
	return before + " → " + after
}

func orZero(s string) string {
	if s == "" {
		return "0"
	}
	return s
}

func textOr(s *string, none string) string {
	if s == nil {
		return none
	}
	return *s
}

func signed(n int64) string {
	if n > 0 {
		return "+" + grouped(n)
	}
	return grouped(n)
}

func signedDuration(seconds int64) string {
	if seconds > 0 {
		return "+" + minutes(seconds)
	}
	return signedMinutes(seconds)
}

// difference of two amounts with a sign, by the digits they have.
func difference(before, after string) string {
	digits := 0
	for _, s := range []string{before, after} {
		if _, frac, ok := strings.Cut(s, "."); ok {
			digits = max(digits, len(frac))
		}
	}
	a, _ := new(big.Rat).SetString(orZero(before))
	b, _ := new(big.Rat).SetString(orZero(after))
	d := new(big.Rat).Sub(b, a)
	if d.Sign() > 0 {
		return "+" + d.FloatString(digits)
	}
	return d.FloatString(digits)
}
