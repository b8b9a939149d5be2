package main

import (
	"fmt"
	"io"
	"strconv"
	"strings"
	"unicode/utf8"

	"tollbook/api"
	"tollbook/projections"
)

// paint colours text on a terminal and leaves it alone elsewhere.
type paint struct{ on bool }

func newPaint(w io.Writer) paint { return paint{terminal(w)} }

func (p paint) with(code, s string) string {
	if !p.on {
		return s
	}
	return "\x1b[" + code + "m" + s + "\x1b[0m"
}

func (p paint) bold(s string) string { return p.with("1", s) }
func (p paint) warn(s string) string { return p.with("33", s) }
func (p paint) bad(s string) string  { return p.with("31", s) }

// A table aligns columns; those whose title begins with > are right-aligned.
type table struct {
	titles []string
	rows   [][]string
	notes  []func(string) string // by row: how the row is painted; nil: plainly
}

func newTable(titles ...string) *table { return &table{titles: titles} }

func (t *table) row(note func(string) string, cells ...string) {
	t.rows = append(t.rows, cells)
	t.notes = append(t.notes, note)
}

func (t *table) print(w io.Writer, p paint) {
	widths := make([]int, len(t.titles))
	for i, title := range t.titles {
		widths[i] = utf8.RuneCountInString(strings.TrimPrefix(title, ">"))
		for _, row := range t.rows {
			widths[i] = max(widths[i], utf8.RuneCountInString(row[i]))
		}
	}
	line := func(cells []string) string {
		var b strings.Builder
		for i, cell := range cells {
			space := strings.Repeat(" ", widths[i]-utf8.RuneCountInString(cell))
			if i > 0 {
				b.WriteString("  ")
			}
			if strings.HasPrefix(t.titles[i], ">") {
				b.WriteString(space + cell)
			} else {
				b.WriteString(cell + space)
			}
		}
		return strings.TrimRight(b.String(), " ")
	}
	titles := make([]string, len(t.titles))
	for i, title := range t.titles {
		titles[i] = strings.TrimPrefix(title, ">")
	}
	fmt.Fprintln(w, p.bold(line(titles)))
	for i, row := range t.rows {
		text := line(row)
		if t.notes[i] != nil {
			text = t.notes[i](text)
		}
		fmt.Fprintln(w, text)
	}
}

// minutes prints seconds as m:ss, with the minutes grouped by thousands.
func minutes(seconds int64) string {
	return fmt.Sprintf("%s:%02d", grouped(seconds/60), seconds%60)
}

// toSecond is a time, as JSON has it, without what is less than a second.
func toSecond(at string) string {
	whole, _, fraction := strings.Cut(at, ".")
	if !fraction {
		return at
	}
	return whole + "Z"
}

func grouped(n int64) string {
	if n < 0 {
		return "-" + grouped(-n)
	}
	s := strconv.FormatInt(n, 10)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

// counted is a number of things: 1 call, 6,000 calls.
func counted(n int64, thing string) string {
	if n != 1 {
		thing += "s"
	}
	return grouped(n) + " " + thing
}

func orDash(s string) string {
	if s == "" {
		return "–"
	}
	return s
}

func printPools(w io.Writer, d projections.PoolsDocument, p paint) {
	fmt.Fprintf(w, "%s  position %d\n\n", p.bold("Pools of "+d.Tenant+", "+d.Month), d.Position)
	if len(d.Pools) == 0 {
		fmt.Fprintln(w, "No licence of the tenant touches the month.")
		return
	}
	t := newTable("country", "plan", "user", ">licences", "bucket", ">granted m:ss", ">used", ">%", ">overage", "ended (UTC)")
	for _, pool := range d.Pools {
		ended := "–"
		if pool.ExhaustedAt != nil {
			ended = *pool.ExhaustedAt
		}
		for _, b := range pool.Buckets {
			percent := "–"
			var note func(string) string
			if b.Granted > 0 {
				percent = strconv.FormatInt(b.Used*100/b.Granted, 10)
				if b.Used*100 >= b.Granted*80 {
					note = p.warn
				}
			}
			if b.Overage > 0 {
				note = p.bad
			}
			t.row(note, orDash(pool.Country), pool.Plan, orDash(pool.User), grouped(pool.Licences), b.Name,
				minutes(b.Granted), minutes(b.Used), percent, minutes(b.Overage), ended)
		}
		if len(pool.Buckets) == 0 {
			t.row(nil, orDash(pool.Country), pool.Plan, orDash(pool.User), grouped(pool.Licences), "(none)", "–", "–", "–", "–", "–")
		}
	}
	t.print(w, p)
}

func printInvoice(w io.Writer, d projections.InvoiceDocument, p paint) {
	status := d.Status
	if d.Number != nil {
		status += " as " + *d.Number
	}
	fmt.Fprintf(w, "%s  %s, position %d\n", p.bold("Invoices of "+d.Tenant+", "+d.Month), status, d.Position)
	for _, i := range d.Invoices {
		note := ""
		if i.Credit() {
			note = "  " + p.warn("credit note")
		}
		fmt.Fprintf(w, "\n%s  %s %s%s\n", p.bold(strings.TrimSpace(i.Country+" "+i.Plan)), i.Currency, i.Total, note)
		if len(i.Lines) == 0 {
			fmt.Fprintln(w, "  nothing over the pool")
		}
		if len(i.Lines) == 0 && len(i.Adjustments) == 0 {
			continue
		}
		t := newTable("  destination", "type", "deck", ">price/min", ">fee", ">calls", ">m:ss", ">amount")
		row := func(month string, l projections.Line) {
			t.row(nil, "  "+month+l.DestinationCountry+" "+l.Destination, l.Type, l.Deck+" "+l.DeckVersion, l.Price, l.ConnectFee,
				grouped(l.Calls), signedMinutes(l.Seconds), l.Amount)
		}
		for _, l := range i.Lines {
			row("", l)
		}
		for _, a := range i.Adjustments {
			row("adjusts "+a.Month+": ", a.Line)
		}
		t.row(p.bold, "  total", "", "", "", "", "", "", i.Total)
		t.print(w, p)
	}
	c := d.Counts
	fmt.Fprintf(w, "\n%s: %s free, %s in the pool, %s over it, %s outside",
		counted(c.Calls, "call"), grouped(c.Free), grouped(c.InPool), grouped(c.Overage), grouped(c.Outside))
	rest := c.Calls - c.Free - c.InPool - c.Overage - c.Outside
	if rest > 0 {
		fmt.Fprintf(w, ", %s not charged yet (exceptions)", grouped(rest))
	}
	fmt.Fprintln(w)
	if len(d.Exceptions) > 0 {
		fmt.Fprintln(w)
		t := newTable("exception", ">count", ">m:ss", "what to do")
		for _, e := range d.Exceptions {
			t.row(p.warn, e.Reason, grouped(e.Count), minutes(e.Seconds), projections.Remedies[e.Reason])
		}
		t.print(w, p)
	}
}

// signedMinutes is minutes of what may have become less.
func signedMinutes(seconds int64) string {
	if seconds < 0 {
		return "-" + minutes(-seconds)
	}
	return minutes(seconds)
}

func printStatus(w io.Writer, s api.Status, p paint) {
	fmt.Fprintf(w, "position %d, block %d, %s\n", s.Position, s.Block, s.Head)
	printMirror(w, s.Mirror, p)
	fmt.Fprintln(w)
	t := newTable("tenant", ">received", ">booked", ">duplicate", ">suspended", "months with calls")
	for _, one := range s.Tenants {
		var note func(string) string
		if one.Suspended > one.WrittenOff {
			note = p.warn
		}
		t.row(note, one.Tenant, grouped(int64(one.Received)), grouped(int64(one.Booked)), grouped(int64(one.Duplicate)),
			grouped(int64(one.Suspended)), strings.Join(one.Months, " "))
	}
	t.print(w, p)
	for _, one := range s.Tenants {
		if one.WrittenOff > 0 {
			fmt.Fprintf(w, "%s: of the %s suspended, %s written off\n", one.Tenant, grouped(int64(one.Suspended)), grouped(int64(one.WrittenOff)))
		}
	}
}
