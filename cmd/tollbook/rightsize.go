package main

import (
	"context"
	"fmt"
	"strings"

	"tollbook/eventstore"
	"tollbook/projections/whatif"
)

// rightSizeCmd says which licences would have been the cheapest for the calls that
// were made. It changes nothing: the book is only read.
type rightSizeCmd struct {
	Data   string   `required:"" type:"existingdir" placeholder:"DIR" help:"Data directory."`
	Tenant string   `required:"" help:"Tenant."`
	Month  []string `required:"" placeholder:"2026-10" help:"Calendar months, each with an option of its own or separated by commas."`
	At     uint64   `placeholder:"POSITION" help:"As of a position of the book; without it, its end, also for closed months."`
	By     string   `enum:"licences,users" default:"licences" help:"licences: how many of each plan and country. users: which plan for each user."`
	Plan   []string `placeholder:"PLAN" help:"Plans that may be proposed; without it, all that have a price."`
	Prices string   `type:"existingfile" placeholder:"FILE" help:"CSV of license prices for a month, instead of the catalogue's: plan,country,price,currency."`
	Trials int      `default:"2000" help:"Rate the months so many times at most."`
	format
}

// Validate is called by kong, before anything is done.
func (c *rightSizeCmd) Validate() error {
	for _, month := range c.Month {
		if err := validMonth(c.Tenant, month); err != nil {
			return err
		}
	}
	if c.Trials < 1 || c.Trials > whatif.MaxTrials {
		return fmt.Errorf("--trials %d: must be 1 to %d", c.Trials, whatif.MaxTrials)
	}
	return nil
}

func (c *rightSizeCmd) Run(ctx context.Context, std Streams) error {
	sizing := whatif.Sizing{Tenant: c.Tenant, Months: c.Month, At: c.At, By: c.By, Plans: c.Plan, Trials: c.Trials}
	if c.Prices != "" {
		var err error
		if sizing.Prices, err = readPrices(c.Prices); err != nil {
			return err
		}
	}
	doc, err := c.size(ctx, std, sizing)
	if err != nil {
		return checkFailed(eventstore.Damaged(c.Data, err))
	}
	return c.print(std, doc, func(w writer) { printSizing(w, doc, newPaint(std.Out)) })
}

func (c *rightSizeCmd) size(ctx context.Context, std Streams, sizing whatif.Sizing) (whatif.SizingDocument, error) {
	walk, closeLog, err := openCopy(c.Data, "")
	if err != nil {
		return whatif.SizingDocument{}, err
	}
	defer closeLog()
	reading := newProgress(std, "replaying", int64(endOr(c.At, walk.Anchor.Events)), "events")
	defer reading.finish()
	var trying *progress
	doc, err := whatif.RightSize(ctx, walk, sizing, func(events uint64, trials int) {
		if trials == 0 {
			reading.set(events)
			return
		}
		if trying == nil {
			reading.finish()
			trying = newProgress(std, "trying", int64(c.Trials), "ratings")
		}
		trying.set(uint64(trials))
	})
	if trying != nil {
		trying.finish()
	}
	return doc, err
}

func printSizing(w writer, d whatif.SizingDocument, p paint) {
	fmt.Fprintf(w, "%s  position %d\n", p.bold("Right size of "+d.Tenant+", "+strings.Join(d.Months, " ")), d.Position)
	printTotals(w, d.Totals, p)

	t := newTable("plan", "country", ">licences", ">saving", "how")
	for _, l := range d.Licences {
		how := "more, which nobody uses"
		if l.Change < 0 {
			how = "of users without calls: " + strings.Join(l.Remove[:min(3, len(l.Remove))], ", ")
			if len(l.Remove) > 3 {
				how += ", …"
			}
		}
		t.row(nil, l.Plan, l.Country, signed(int64(l.Change)), l.Saving+" "+l.Currency, how)
	}
	section(w, p, "Licences", t)

	t = newTable("user", "country", "plan")
	for _, u := range d.Users {
		t.row(nil, u.User, u.Country, arrow(u.From, u.To))
	}
	section(w, p, "Users", t)

	fmt.Fprintln(w)
	if len(d.Licences)+len(d.Users) == 0 {
		fmt.Fprintln(w, "Nothing cheaper was found.")
	}
	sure := "It is not certain that nothing else is cheaper."
	if d.Exact {
		sure = "Nothing that may be proposed so is cheaper."
	}
	method := strings.TrimSpace(d.Method)
	if method != "" {
		method += " "
	}
	fmt.Fprintf(w, "%s%s %s.\n", method, sure, counted(int64(d.Trials), "rating"))
	for _, note := range d.Notes {
		fmt.Fprintf(w, "  %s\n", p.warn(note))
	}
}
