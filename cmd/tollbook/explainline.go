package main

import (
	"context"
	"errors"
	"fmt"
	"math/big"

	"tollbook/api"
	"tollbook/projections"
)

// explainPages is how much of what makes a sum is listed.
type explainPages struct {
	Limit *int `xor:"pages" placeholder:"50" help:"List so many at most; without it, 50."`
	All   bool `xor:"pages" help:"List all, and check that they add up."`
}

func (p explainPages) check() error {
	if p.Limit != nil && (*p.Limit < 1 || *p.Limit > projections.MaxPage) {
		return fmt.Errorf("--limit %d: must be 1 to %d; --all has no limit", *p.Limit, projections.MaxPage)
	}
	return nil
}

func (p explainPages) size() int {
	switch {
	case p.All:
		return projections.MaxPage
	case p.Limit != nil:
		return *p.Limit
	}
	return 50
}

// explainer asks an engine, or the book of a directory.
func (m *monthOf) explainer(std Streams) (line func(context.Context, api.ExplainLineRequest) (projections.LineDocument, error), pool func(context.Context, api.ExplainPoolRequest) (projections.GrantDocument, error), done func(), err error) {
	if m.Data != "" {
		x := explainerOf(std, m.Data, 0)
		return x.Line, x.Pool, func() {}, nil
	}
	client, done, err := m.connect()
	if err != nil {
		return nil, nil, nil, err
	}
	return within(client.ExplainLine), within(client.ExplainPool), done, nil
}

// within gives an engine [askTimeout] for each answer.
func within[Q, D any](ask func(context.Context, Q) (D, error)) func(context.Context, Q) (D, error) {
	return func(ctx context.Context, q Q) (D, error) {
		ctx, cancel := context.WithTimeout(ctx, askTimeout)
		defer cancel()
		return ask(ctx, q)
	}
}

// eachPage asks for pages until there are no more, each of the same state of the
// book: where a month has moved on meanwhile, as of where the first page was.
// ask asks for the next page and returns its position; keep takes it and reports
// whether another one is wanted.
func eachPage(asOf *api.AsOf, ask func() (projections.AsOf, error), keep func() bool) error {
	var first *projections.AsOf
	for {
		at, err := ask()
		if err != nil {
			return checkFailed(err)
		}
		if first == nil {
			first = &at
		}
		if at.Position != first.Position {
			*asOf = api.AsOf{At: first.Position}
			continue
		}
		if !keep() {
			return nil
		}
	}
}

// explainLineCmd says how the calls of an invoice line make its amount.
type explainLineCmd struct {
	monthOf
	asOfFlag
	Country            string `placeholder:"IT" help:"Country of the pool."`
	Plan               string `help:"Its plan."`
	Currency           string `placeholder:"EUR" help:"Currency of the invoice."`
	DestinationCountry string `placeholder:"US" help:"Country that was called."`
	Destination        string `help:"Name of the destination."`
	Type               string `placeholder:"mobile" help:"Type of the row."`
	Price              string `placeholder:"0.1" help:"Price a minute, as the line has it."`
	ConnectFee         string `placeholder:"0" help:"Connect fee, as the line has it."`
	Deck               string `help:"Rate deck."`
	DeckVersion        string `help:"Its version."`
	explainPages
}

// Validate is called by kong, before anything is done.
func (c *explainLineCmd) Validate() error {
	_, err := c.asOf()
	return errors.Join(validMonth(c.Tenant, c.Month), err, c.check())
}

// A lineExplained is what `tollbook explain line` prints.
type lineExplained struct {
	projections.LineDocument
	Sum string `json:"sum,omitzero"` // of all calls, if all are listed: the line's exact amount
}

func (c *explainLineCmd) Run(ctx context.Context, std Streams) error {
	line, _, done, err := c.explainer(std)
	if err != nil {
		return err
	}
	defer done()
	q := api.ExplainLineRequest{
		Tenant: c.Tenant, Month: c.Month, Limit: c.size(),
		LineQuery: projections.LineQuery{
			Country: c.Country, Plan: c.Plan, Currency: c.Currency, DestinationCountry: c.DestinationCountry, Destination: c.Destination,
			Type: c.Type, Price: c.Price, ConnectFee: c.ConnectFee, Deck: c.Deck, DeckVersion: c.DeckVersion,
		},
	}
	if q.AsOf, err = c.asOf(); err != nil {
		return err
	}
	// The pages of a long line are printed as they come; JSON is one document.
	text, p := c.Format == "text", newPaint(std.Out)
	var page projections.LineDocument
	var doc lineExplained
	sum, listed := new(big.Rat), 0
	err = eachPage(&q.AsOf,
		func() (projections.AsOf, error) {
			page, err = line(ctx, q)
			return page.AsOf, err
		},
		func() bool {
			if listed == 0 {
				doc.LineDocument, doc.Calls = page, []projections.LineCall{}
				if text {
					printLineHead(std.Out, &page, p)
				}
			}
			if text {
				printLineCalls(std.Out, page.Calls, p)
			} else {
				doc.Calls = append(doc.Calls, page.Calls...)
			}
			for i := range page.Calls {
				if exact, ok := new(big.Rat).SetString(page.Calls[i].Exact); ok {
					sum.Add(sum, exact)
				}
			}
			listed += len(page.Calls)
			doc.Next, q.After = page.Next, page.Next
			return c.All && page.Next != nil
		})
	if err != nil {
		return err
	}
	whole := doc.Next == nil
	if whole {
		doc.Sum = sum.RatString()
	}
	err = c.print(std, doc, func(w writer) {
		if !whole {
			fmt.Fprintf(w, "\n%s of %s; the rest with --all\n", counted(int64(listed), "call"), grouped(doc.Line.Calls))
			return
		}
		fmt.Fprintf(w, "\nsum of %s: %s\n", counted(int64(listed), "call"), exactly(doc.Sum, doc.Line.Currency))
	})
	if err == nil && whole && (doc.Sum != doc.Line.Exact || int64(listed) != doc.Line.Calls) {
		err = fmt.Errorf("%w: %s come to %s, but the line has %s and %s", errCheck, counted(int64(listed), "call"), doc.Sum, grouped(doc.Line.Calls), doc.Line.Exact)
	}
	return err
}

// asOfText says which state of a month is explained.
func asOfText(d *projections.AsOf) string {
	if d.Number != nil {
		return fmt.Sprintf("issued as %s, position %d", *d.Number, d.Position)
	}
	return fmt.Sprintf("%s, position %d", d.Status, d.Position)
}

func printLineHead(w writer, d *projections.LineDocument, p paint) {
	fmt.Fprintf(w, "%s  %s\n", p.bold("A line of "+d.Tenant+", "+d.Month), asOfText(&d.AsOf))
	fmt.Fprintf(w, "%s\n%s\n", lineText(&d.Line), roundingText(&d.Line))
}

func printLineCalls(w writer, calls []projections.LineCall, p paint) {
	fmt.Fprintln(w)
	t := newTable("time", "source", "id", "user", "called", ">billed m:ss", ">over", ">exact")
	for i := range calls {
		c := &calls[i]
		over := minutes(c.Overage)
		if c.Outside {
			over = "outside"
		}
		t.row(nil, c.At, c.Source, c.ID, c.User, c.Called, minutes(c.Billed), over, c.Exact)
	}
	t.print(w, p)
}

// explainPoolCmd says how the licences of a pool make its minutes.
type explainPoolCmd struct {
	monthOf
	asOfFlag
	Plan    string `required:"" help:"Plan of the pool."`
	Country string `placeholder:"IT" help:"Its country; none where the plan's pools have none."`
	User    string `help:"Its user, of plans with a pool a user."`
	explainPages
}

// Validate is called by kong, before anything is done.
func (c *explainPoolCmd) Validate() error {
	_, err := c.asOf()
	return errors.Join(validMonth(c.Tenant, c.Month), err, c.check())
}

func (c *explainPoolCmd) Run(ctx context.Context, std Streams) error {
	_, pool, done, err := c.explainer(std)
	if err != nil {
		return err
	}
	defer done()
	q := api.ExplainPoolRequest{Tenant: c.Tenant, Month: c.Month, Plan: c.Plan, Country: c.Country, User: c.User, Limit: c.size()}
	if q.AsOf, err = c.asOf(); err != nil {
		return err
	}
	var page, doc projections.GrantDocument
	first := true
	err = eachPage(&q.AsOf,
		func() (projections.AsOf, error) {
			page, err = pool(ctx, q)
			return page.AsOf, err
		},
		func() bool {
			if first {
				doc, first = page, false
			} else {
				doc.Intervals = append(doc.Intervals, page.Intervals...)
			}
			doc.Next, q.From = page.Next, page.Next
			return c.All && page.Next != 0
		})
	if err != nil {
		return err
	}
	err = c.print(std, doc, func(w writer) { printGrant(w, &doc, newPaint(std.Out)) })
	if err == nil && doc.Next == 0 {
		err = grantAddsUp(&doc)
	}
	return err
}

// grantAddsUp checks that the licences of a whole pool make its minutes (R5).
func grantAddsUp(d *projections.GrantDocument) error {
	for b := range d.Buckets {
		sum := new(big.Rat)
		for i := range d.Intervals {
			if seconds, ok := new(big.Rat).SetString(d.Intervals[i].Seconds[b]); ok {
				sum.Add(sum, seconds)
			}
		}
		whole := new(big.Int).Quo(sum.Num(), sum.Denom())
		if !whole.IsInt64() || whole.Int64() != d.Buckets[b].Granted {
			return fmt.Errorf("%w: the licences add %s s to bucket %s, but it is granted %s s", errCheck, sum.RatString(), d.Buckets[b].Name, grouped(d.Buckets[b].Granted))
		}
	}
	return nil
}

// grantRules says what each rule of R5 counts.
var grantRules = map[string]string{
	"peak":     "the licences held at the same time, at their most",
	"any":      "every user who held one in the month, once",
	"start":    "the licences held when the month begins",
	"prorated": "every licence, by the part of the month that it was held; the sum rounded down to a second",
}

func printGrant(w writer, d *projections.GrantDocument, p paint) {
	fmt.Fprintf(w, "%s  %s\n", p.bold("Pool "+poolText(d.Country, d.Plan, d.User)+" of "+d.Tenant+", "+d.Month), asOfText(&d.AsOf))
	fmt.Fprintf(w, "grant %s: %s\nmonth from %s to %s\n\n", d.Grant, grantRules[d.Grant], d.From, d.To)
	titles := []string{"user", "country", "from", "to", "by"}
	for _, b := range d.Buckets {
		titles = append(titles, ">"+b.Name+" min", ">adds s")
	}
	t := newTable(titles...)
	for i := range d.Intervals {
		one := &d.Intervals[i]
		row := []string{one.User, one.Country, one.From, one.To, refText(one.By)}
		for b := range d.Buckets {
			row = append(row, grouped(one.Minutes[b]), one.Seconds[b])
		}
		t.row(nil, row...)
	}
	t.print(w, p)
	fmt.Fprintln(w)
	if d.Next != 0 {
		fmt.Fprintf(w, "the first %s; the rest with --all\n", counted(int64(len(d.Intervals)), "licence"))
	}
	for _, b := range d.Buckets {
		at := ""
		if b.At != nil {
			at = ", of the licences held at " + *b.At
		}
		fmt.Fprintf(w, "bucket %s: %s granted (%s s)%s\n", b.Name, minutes(b.Granted), grouped(b.Granted), at)
	}
}
