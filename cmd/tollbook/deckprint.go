package main

import (
	"fmt"
	"math/big"
	"slices"
	"strings"

	"tollbook/api"
	"tollbook/api/finance"
	"tollbook/domain"
	"tollbook/projections/decks"
)

func printReport(w writer, r *decks.Report, p paint) {
	fmt.Fprintf(w, "%s  %s rows in %s, from %s\n", p.bold(fmt.Sprintf("Deck %s of %s, version %s", r.Deck, r.Tenant, r.Version)), grouped(int64(r.Rows)), r.Currency, r.EffectiveFrom)
	if r.Form != nil {
		fmt.Fprintf(w, "The file is %s, its cells parted by %s, its decimal mark: %s.\n", r.Form.Encoding, r.Form.Separator, r.Form.Decimal)
	}
	switch {
	case r.Identical:
		fmt.Fprintln(w, "This version is published already, and the same.")
	case r.InForce != "":
		fmt.Fprintf(w, "Compared with version %s, in force at that time.\n", r.InForce)
	case r.Compared:
		fmt.Fprintln(w, "No version of the deck is in force at that time.")
	default:
		fmt.Fprintln(w, "Only the file was looked at; --data DIR compares it with the version in force.")
	}
	for _, n := range r.Normalised {
		fmt.Fprintf(w, "Read otherwise: %s\n", normalisedText(n))
	}
	if len(r.Counts) == 0 {
		fmt.Fprintln(w, "\nNothing odd was found.")
		return
	}
	fmt.Fprintf(w, "\n%s\n", p.bold(countsText(r)))
	t := newTable("severity", "finding", ">line", "prefix", "what")
	listed := map[string]int{}
	for _, f := range r.Findings {
		var note func(string) string
		switch f.Severity {
		case decks.SevereError:
			note = p.bad
		case decks.SevereWarning:
			note = p.warn
		}
		line := "–"
		if f.Line > 0 {
			line = fmt.Sprint(f.Line)
		}
		t.row(note, string(f.Severity), f.Code, line, orDash(f.Prefix), f.Text)
		listed[f.Code]++
	}
	t.print(w, p)
	for _, c := range r.Counts {
		if more := c.Count - listed[c.Code]; more > 0 {
			fmt.Fprintf(w, "%s more of %s; --each lists them\n", grouped(int64(more)), c.Code)
		}
	}
}

func printDeckDiff(w writer, d decks.Diff, p paint) {
	fmt.Fprintf(w, "%s  %s rows → %s rows\n", p.bold(fmt.Sprintf("Deck %s, version %s against %s", d.Deck, d.After, orDash(d.Before))), grouped(int64(d.RowsWas)), grouped(int64(d.Rows)))
	fmt.Fprintf(w, "%s added, %s removed, %s unchanged; %s dearer, %s cheaper, %s with another increment, %s with other names, %s without a price\n",
		grouped(d.Added), grouped(d.Removed), grouped(d.Unchanged), grouped(d.Dearer), grouped(d.Cheaper), grouped(d.Increment), grouped(d.Named), grouped(d.Unrated))
	if d.Was != "" {
		fmt.Fprintln(w, p.bad(fmt.Sprintf("The currency was %s and is %s.", d.Was, d.Currency)))
	}
	if len(d.Changes) == 0 {
		return
	}
	fmt.Fprintln(w)
	t := newTable("prefix", "change", "destination", ">price/min", ">fee", ">increment", "priced by")
	for _, c := range d.Changes {
		var note func(string) string
		if slices.Contains(c.Differs, decks.DiffersDearer) || slices.Contains(c.Differs, decks.DiffersUnrated) {
			note = p.warn
		}
		var was, is decks.RowState
		if c.Before != nil {
			was = *c.Before
		}
		if c.After != nil {
			is = *c.After
		}
		cell := func(was, is string) string { return arrow(orDash(was), orDash(is)) }
		t.row(note, c.Prefix, c.Kind, cell(rowName(c.Before), rowName(c.After)), cell(was.Price, is.Price), cell(was.ConnectFee, is.ConnectFee),
			cell(was.Increment, is.Increment), cell(was.Prefix, is.Prefix))
	}
	t.print(w, p)
	if d.Next != "" {
		fmt.Fprintf(w, "There are more: --after %s\n", api.Quoted(d.Next))
	}
}

func rowName(r *decks.RowState) string {
	if r == nil {
		return ""
	}
	return fmt.Sprintf("%s %s, %s", r.Country, r.Destination, r.Type)
}

func printImpact(w writer, d *decks.Impact, p paint) {
	fmt.Fprintf(w, "%s  position %d, in force: %s\n\n", p.bold(fmt.Sprintf("%s, %s, with deck %s, version %s", d.Tenant, d.Month, d.Deck, d.Version)), d.Position, orDash(strings.Join(d.InForce, ", ")))
	row := func(t *table, cells ...string) {
		var note func(string) string
		if last := cells[len(cells)-1]; strings.HasPrefix(last, "+") {
			note = p.warn
		}
		t.row(note, cells...)
	}
	t := newTable("country", "plan", "currency", ">before", ">after", ">difference")
	for _, v := range d.Totals {
		row(t, orDash(v.Country), v.Plan, v.Currency, v.Before, v.After, difference(v.Before, v.After))
	}
	t.print(w, p)
	if len(d.Lines) == 0 && len(d.Prefixes) == 0 && len(d.Exceptions) == 0 {
		fmt.Fprintln(w, "\nNothing of the month would be different.")
		return
	}
	if len(d.Lines) > 0 {
		fmt.Fprintf(w, "\n%s\n", p.bold("Lines"))
		t = newTable("country", "plan", "destination", "type", ">m:ss", ">before", ">after", ">difference")
		for _, l := range d.Lines {
			row(t, orDash(l.Country), l.Plan, l.DestinationCountry+" "+l.Destination, l.Type, arrow(minutes(l.SecondsBefore), minutes(l.SecondsAfter)),
				l.Before, l.After, difference(l.Before, l.After)+" "+l.Currency)
		}
		t.print(w, p)
	}
	if len(d.Prefixes) > 0 {
		fmt.Fprintf(w, "\n%s\n", p.bold("Prefixes"+shownOf(int64(len(d.Prefixes)), int64(d.PrefixesFound))))
		t = newTable("prefix", "destination", ">price/min", ">calls", ">m:ss", ">difference, before rounding")
		for _, x := range d.Prefixes {
			var was, is decks.RowState
			if x.RowBefore != nil {
				was = *x.RowBefore
			}
			if x.RowAfter != nil {
				is = *x.RowAfter
			}
			row(t, x.Prefix, arrow(orDash(rowName(x.RowBefore)), orDash(rowName(x.RowAfter))), arrow(orDash(was.Price), orDash(is.Price)),
				grouped(x.Calls), minutes(x.Seconds), approximately(x.Difference)+" "+d.Currency)
		}
		t.print(w, p)
		if d.PrefixesFound > len(d.Prefixes) {
			fmt.Fprintf(w, "All others together: %s %s\n", approximately(d.Others), d.Currency)
		}
	}
	if len(d.Exceptions) > 0 {
		fmt.Fprintln(w)
		t = newTable("exception", ">calls")
		for _, e := range d.Exceptions {
			t.row(p.warn, e.Reason, arrow(grouped(e.Before), grouped(e.After)))
		}
		t.print(w, p)
	}
}

// approximately is an exact fraction with four decimals, for people.
func approximately(fraction string) string {
	r, ok := new(big.Rat).SetString(fraction)
	if !ok {
		return fraction
	}
	if r.Sign() > 0 {
		return "+" + r.FloatString(4)
	}
	return r.FloatString(4)
}

func printDecks(w writer, d finance.DecksDocument, p paint) {
	fmt.Fprintf(w, "%s  position %d\n\n", p.bold("Decks of "+d.Tenant), d.Position)
	t := newTable("deck", "version", "of", "from (UTC)", "currency", ">rows", "state")
	for _, v := range d.Versions {
		owner, state, note := "everybody", v.State, p.warn
		if v.Own {
			owner = d.Tenant
		}
		if v.State == string(domain.DeckValid) {
			state, note = "", nil
		}
		if v.InForce {
			state, note = "in force", p.bold
		}
		t.row(note, v.Deck, v.Version, owner, v.EffectiveFrom, v.Currency, grouped(int64(v.Rows)), state)
	}
	t.print(w, p)
	if len(d.Stages) == 0 {
		return
	}
	fmt.Fprintf(w, "\n%s\n", p.bold("Staged"))
	t = newTable("id", "deck", "version", "from", ">rows", "found", "staged (UTC)", "by", "activated")
	for _, s := range d.Stages {
		activated := "–"
		if s.Activated != nil {
			activated = toSecond(s.Activated.At) + " by " + s.Activated.By
		}
		t.row(nil, s.ID[:12], s.Deck, s.Version, s.EffectiveFrom, grouped(int64(s.Report.Rows)), orDash(countsText(s.Report)), toSecond(s.At), s.By, activated)
	}
	t.print(w, p)
}

// printSummary says how a file was read and what was found.
func printSummary(w writer, r *decks.Report, more string) {
	for _, n := range r.Normalised {
		fmt.Fprintf(w, "read otherwise: %s\n", normalisedText(n))
	}
	if counts := countsText(r); counts != "" {
		fmt.Fprintf(w, "found: %s; to see them: %s\n", counts, more)
	}
}

func countsText(r *decks.Report) string {
	var texts []string
	for _, severity := range []decks.Severity{decks.SevereError, decks.SevereWarning, decks.SevereNote} {
		n := 0
		for _, c := range r.Counts {
			if c.Severity == severity {
				n += c.Count
			}
		}
		if n > 0 {
			texts = append(texts, counted(int64(n), string(severity)))
		}
	}
	return strings.Join(texts, ", ")
}

func normalisedText(n decks.Normalised) string {
	text := fmt.Sprintf("%s, %s", n.What, counted(int64(n.Count), "time"))
	for i, e := range n.Examples {
		sep := "; "
		if i == 0 {
			sep = ": "
		}
		text += fmt.Sprintf("%sline %d", sep, e.Line)
		if e.Column != "" {
			text += " " + e.Column
		}
		text += fmt.Sprintf(" %.60q", e.From)
		if e.To != "" {
			text += " as " + e.To
		}
	}
	return text
}
