package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/go-json-experiment/json"

	"tollbook/cmd/tollbook/deckcsv"
	"tollbook/domain"
	"tollbook/eventstore"
	"tollbook/projections"
	"tollbook/projections/whatif"
)

// whatIfCmd says what a month would have been with other licences, plans, decks or
// grant rules. It changes nothing: the book is only read.
type whatIfCmd struct {
	Data     string   `required:"" type:"existingdir" placeholder:"DIR" help:"Data directory."`
	Tenant   string   `help:"Tenant."`
	Month    string   `placeholder:"2026-10" help:"Calendar month; a closed one is taken as it was issued."`
	At       uint64   `placeholder:"POSITION" help:"As of a position of the book."`
	Scenario string   `type:"existingfile" placeholder:"FILE" help:"The scenario as JSON; --tenant, --month and --at stand above what it says."`
	Add      []string `sep:"none" placeholder:"PLAN:IT=N" help:"So many licences more, which nobody uses; =unlicensed:N for those with most calls without a licence; =USER,USER for users."`
	Remove   []string `sep:"none" placeholder:"PLAN:IT=N" help:"So many licences fewer, of those who use them least; =USER,USER of users. Without :IT, in any country."`
	Plan     []string `sep:"none" placeholder:"PLAN=USER,USER" help:"Another plan for users; =from:PLAN or =from:PLAN:IT for all who hold that one."`
	Deck     []string `sep:"none" placeholder:"DECK=OTHER" help:"Another deck instead of one: of the book, OTHER/VERSION for one version of it, or a CSV file."`
	Currency string   `placeholder:"EUR" help:"Of a --deck file that has no such column."`
	Grant    []string `sep:"none" placeholder:"PLAN=any" help:"Another grant rule of a plan: peak, any, start or prorated."`
	Prices   string   `type:"existingfile" placeholder:"FILE" help:"CSV of license prices for a month, instead of the catalogue's: plan,country,price,currency."`
	format
}

// maxScenarioBytes is the longest scenario file taken: room for every user of a large tenant.
const maxScenarioBytes = 32 << 20

// read is the scenario as the command line and its files have it.
func (c *whatIfCmd) read() (s whatif.Scenario, err error) {
	if c.Scenario != "" {
		if s, err = readScenario(c.Scenario); err != nil {
			return s, err
		}
	}
	if c.Tenant != "" {
		s.Tenant = c.Tenant
	}
	if c.Month != "" {
		s.Month = c.Month
	}
	if c.At != 0 {
		s.At = c.At
	}
	if err := validMonth(s.Tenant, s.Month); err != nil {
		return s, err
	}
	for _, text := range c.Add {
		plan, country, value, err := planFlag("--add", text)
		if err != nil {
			return s, err
		}
		a := whatif.Addition{Plan: plan, Country: country}
		if n, most := strings.CutPrefix(value, "unlicensed:"); most {
			a.Unlicensed, value = true, n
		}
		a.Licences, a.Users = countOrUsers(value)
		s.Add = append(s.Add, a)
	}
	for _, text := range c.Remove {
		plan, country, value, err := planFlag("--remove", text)
		if err != nil {
			return s, err
		}
		r := whatif.Removal{Plan: plan, Country: country}
		r.Licences, r.Users = countOrUsers(value)
		s.Remove = append(s.Remove, r)
	}
	for _, text := range c.Plan {
		plan, country, value, err := planFlag("--plan", text)
		if err != nil {
			return s, err
		}
		p := whatif.PlanChange{To: plan, Country: country}
		if from, all := strings.CutPrefix(value, "from:"); all {
			p.From, p.In, _ = strings.Cut(from, ":")
		} else {
			p.Users = strings.Split(value, ",")
		}
		s.Plans = append(s.Plans, p)
	}
	for _, text := range c.Deck {
		deck, other, ok := strings.Cut(text, "=")
		if !ok || deck == "" || other == "" {
			return s, fmt.Errorf("--deck %q: must be DECK=OTHER, DECK=OTHER/VERSION or DECK=FILE.csv", text)
		}
		d := whatif.DeckChange{Deck: deck}
		if strings.HasSuffix(strings.ToLower(other), ".csv") {
			d.File = other
		} else {
			d.Use, d.Version, _ = strings.Cut(other, "/")
		}
		s.Decks = append(s.Decks, d)
	}
	for _, text := range c.Grant {
		plan, grant, ok := strings.Cut(text, "=")
		if !ok {
			return s, fmt.Errorf("--grant %q: must be PLAN=RULE, such as DOMESTIC_120=any", text)
		}
		s.Grants = append(s.Grants, whatif.GrantChange{Plan: plan, Grant: grant})
	}
	if c.Prices != "" {
		if s.Prices, err = readPrices(c.Prices); err != nil {
			return s, err
		}
	}
	for i := range s.Decks {
		if d := &s.Decks[i]; d.File != "" {
			if d.Parts, err = readParts(d.File, d.Deck, c.Currency); err != nil {
				return s, err
			}
		}
	}
	return s, nil
}

// planFlag reads PLAN:COUNTRY=VALUE.
func planFlag(flag, text string) (plan, country, value string, err error) {
	key, value, ok := strings.Cut(text, "=")
	plan, country, _ = strings.Cut(key, ":")
	if !ok || plan == "" || value == "" {
		return "", "", "", fmt.Errorf("%s %q: must be PLAN:COUNTRY=VALUE, such as DOMESTIC_120:IT=10", flag, text)
	}
	return plan, country, value, nil
}

// countOrUsers is how many, or else which users.
func countOrUsers(text string) (n int, users []string) {
	if n, err := strconv.Atoi(text); err == nil {
		return n, nil
	}
	return 0, strings.Split(text, ",")
}

// readScenario reads a scenario file. A deck's file is beside it.
func readScenario(name string) (s whatif.Scenario, err error) {
	data, err := readLimited(name, maxScenarioBytes)
	if err != nil {
		return s, err
	}
	if err := json.Unmarshal(data, &s, json.RejectUnknownMembers(true)); err != nil {
		return s, fmt.Errorf("%s: %w", name, err)
	}
	for i := range s.Decks {
		if file := s.Decks[i].File; file != "" && !filepath.IsAbs(file) {
			s.Decks[i].File = filepath.Join(filepath.Dir(name), file)
		}
	}
	return s, nil
}

func readLimited(name string, limit int64) ([]byte, error) {
	file, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer func() { _ = file.Close() }()
	data, err := io.ReadAll(io.LimitReader(file, limit+1))
	if err == nil && int64(len(data)) > limit {
		err = fmt.Errorf("%s: is longer than %d bytes", name, limit)
	}
	return data, err
}

func readPrices(name string) ([]whatif.Price, error) {
	file, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer func() { _ = file.Close() }()
	prices, err := whatif.ReadPrices(file)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return prices, nil
}

// readParts reads a deck of which nothing is published; its version is named as the file.
func readParts(name, deck, currency string) (parts []*domain.Deck, err error) {
	file, changed, err := openDated(name)
	if err != nil {
		return nil, err
	}
	defer func() { _ = file.Close() }()
	events, err := deckcsv.Read(file, deckcsv.Options{
		Tenant: domain.CatalogTenant, Deck: deck, Version: strings.TrimSuffix(filepath.Base(name), filepath.Ext(name)),
		EffectiveFrom: domain.MinInstant, Currency: domain.Currency(currency), Time: changed,
	})
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	for i := range events {
		parts = append(parts, events[i].Data.(*domain.Deck))
	}
	return parts, nil
}

func (c *whatIfCmd) Run(ctx context.Context, std Streams) error {
	scenario, err := c.read()
	if err != nil {
		return err
	}
	doc, err := c.evaluate(ctx, std, scenario)
	if err != nil {
		return checkFailed(eventstore.Damaged(c.Data, err))
	}
	return c.print(std, doc, func(w writer) { printWhatIf(w, doc, newPaint(std.Out)) })
}

func (c *whatIfCmd) evaluate(ctx context.Context, std Streams, s whatif.Scenario) (whatif.Document, error) {
	walk, closeLog, err := openCopy(c.Data, "")
	if err != nil {
		return whatif.Document{}, err
	}
	defer closeLog()
	bar := newProgress(std, "replaying", int64(endOr(s.At, walk.Anchor.Events)), "events")
	defer bar.finish()
	return whatif.Evaluate(ctx, walk, s, func(events, _ uint64) { bar.set(events) })
}

func printWhatIf(w writer, d whatif.Document, p paint) {
	title := fmt.Sprintf("What if, %s, %s", d.Tenant, d.Month)
	if d.Number != nil {
		title += ", issued as " + *d.Number
	}
	fmt.Fprintf(w, "%s  position %d\n", p.bold(title), d.Position)
	for _, change := range d.Changes {
		fmt.Fprintf(w, "  %s\n", change)
	}
	if d.Unchanged {
		fmt.Fprintf(w, "\nThe month would be what it is, byte for byte.\n")
	}
	printTotals(w, d.Totals, p)

	t := newTable("plan", "country", ">licences", ">price", ">before", ">after", ">difference")
	for _, l := range d.Licences {
		if l.Amounts == nil {
			t.row(nil, l.Plan, l.Country, arrow(grouped(l.Before), grouped(l.After)), "not said", "–", "–", "–")
		} else {
			t.row(nil, l.Plan, l.Country, arrow(grouped(l.Before), grouped(l.After)), *l.Price, l.Amounts.Before, l.Amounts.After,
				difference(l.Amounts.Before, l.Amounts.After)+" "+*l.Currency)
		}
	}
	section(w, p, "Licences to buy", t)

	t = newTable("country", "plan", "currency", ">total before", ">after", ">difference")
	for _, c := range d.Invoices {
		t.row(nil, orDash(c.Country), c.Plan, c.Currency, textOr(c.Before, "–"), textOr(c.After, "–"), difference(textOr(c.Before, "0"), textOr(c.After, "0")))
	}
	section(w, p, "Invoices", t)

	t = newTable("country", "plan", "line", ">price/min", ">calls", ">m:ss", ">before", ">after", ">difference")
	for _, c := range d.Lines {
		var before, after projections.LineState
		if c.Before != nil {
			before = *c.Before
		}
		if c.After != nil {
			after = *c.After
		}
		price := c.Price
		if c.ConnectFee != "0" {
			price += " + " + c.ConnectFee
		}
		t.row(nil, orDash(c.Country), c.Plan, fmt.Sprintf("%s %s %s, %s %s", c.DestinationCountry, c.Destination, c.Type, c.Deck, c.DeckVersion), price,
			arrow(grouped(before.Calls), grouped(after.Calls)), arrow(minutes(before.Seconds), minutes(after.Seconds)),
			orDash(before.Amount), orDash(after.Amount), difference(before.Amount, after.Amount)+" "+c.Currency)
	}
	section(w, p, "Lines", t)

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
	section(w, p, "Pools", t)

	t = newTable("exception", ">count", ">m:ss")
	more := false
	for _, c := range d.Exceptions {
		var before, after projections.ExceptionState
		if c.Before != nil {
			before = *c.Before
		}
		if c.After != nil {
			after = *c.After
		}
		more = more || after.Count > before.Count
		t.row(nil, c.Reason, arrow(grouped(before.Count), grouped(after.Count)), arrow(minutes(before.Seconds), minutes(after.Seconds)))
	}
	section(w, p, "Exceptions", t)
	if more {
		fmt.Fprintln(w, p.warn("What is an exception is not charged: part of the difference is only that."))
	}
}

// section prints a table that has rows.
func section(w writer, p paint, title string, t *table) {
	if len(t.rows) > 0 {
		fmt.Fprintf(w, "\n%s\n", p.bold(title))
		t.print(w, p)
	}
}

func printTotals(w writer, totals []whatif.Total, p paint) {
	t := newTable("currency", "", ">before", ">after", ">difference")
	for _, c := range totals {
		for i, row := range []struct {
			name string
			whatif.Effect
		}{{"invoices", c.Invoices}, {"licences", c.Licences}, {"together", c.Sum}} {
			var note func(string) string
			if i == 2 {
				note = p.bold
			}
			t.row(note, c.Currency, row.name, row.Before, row.After, difference(row.Before, row.After))
		}
	}
	section(w, p, "Money", t)
}

// Validate is called by kong, before anything is done.
func (c *whatIfCmd) Validate() error {
	if c.Scenario == "" || c.Tenant != "" && c.Month != "" {
		if err := validMonth(c.Tenant, c.Month); err != nil {
			return err
		}
	}
	if c.Currency != "" {
		if _, err := domain.ParseCurrency(c.Currency); err != nil {
			return fmt.Errorf("--currency %q: %w", c.Currency, err)
		}
	}
	if len(c.Add)+len(c.Remove)+len(c.Plan)+len(c.Deck)+len(c.Grant) > whatif.MaxChanges {
		return errors.New("too many changes for a command line: put them into a file, --scenario")
	}
	return nil
}
