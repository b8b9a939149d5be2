package main

import (
	"context"
	"fmt"

	"tollbook/api"
	"tollbook/consumers"
	"tollbook/domain"
	"tollbook/eventstore"
	"tollbook/eventstore/block"
	"tollbook/projections"
)

// gapsCmd is about records that never came.
type gapsCmd struct {
	List  gapsListCmd  `cmd:"" default:"withargs" help:"Which numbers of a source's sequence came, are missing, or came twice."`
	Waive gapsWaiveCmd `cmd:"" help:"Give missing numbers up, with a reason, so that their month can close."`
}

type gapsListCmd struct {
	Tenant string `help:"Only of this tenant."`
	Source string `help:"Only of this source, such as switch/mil-1, with what closed its gaps."`
	All    bool   `help:"Complete sources too, and what closed their gaps."`
	Data   string `type:"existingdir" placeholder:"DIR" help:"Read this data directory instead of asking an engine."`
	engineAddress
	format
}

// Validate is called by kong, before anything is done.
func (c *gapsListCmd) Validate() error {
	if c.Tenant != "" && !consumers.ValidTenant(c.Tenant) {
		return fmt.Errorf("--tenant %q: must be 1 to 63 of a-z, 0-9 and -", c.Tenant)
	}
	return nil
}

// gapsReport is what gaps prints without --tenant.
type gapsReport struct {
	Tenants []projections.GapsDocument `json:"tenants"` // those with sequences
}

func (c *gapsListCmd) Run(ctx context.Context, std Streams) error {
	report, err := c.ask(ctx, std)
	if err != nil {
		return err
	}
	if c.Tenant != "" {
		d := report.Tenants[0]
		return c.print(std, d, func(w writer) { c.text(w, d, newPaint(std.Out)) })
	}
	return c.print(std, report, func(w writer) {
		if len(report.Tenants) == 0 {
			fmt.Fprintln(w, "No event with a sequence is in the book.")
		}
		for i, d := range report.Tenants {
			if i > 0 {
				fmt.Fprintln(w)
			}
			c.text(w, d, newPaint(std.Out))
		}
	})
}

// ask gets the tenant's document, or one for each tenant that has sequences: from
// the directory's book where one is given, else from the engine.
func (c *gapsListCmd) ask(ctx context.Context, std Streams) (report gapsReport, err error) {
	report.Tenants = []projections.GapsDocument{}
	tenants := []string{c.Tenant}
	var one func(context.Context, api.GapsRequest) (projections.GapsDocument, error)
	if c.Data != "" {
		gaps, err := gapsOf(ctx, std, c.Data)
		if err != nil {
			return report, checkFailed(err)
		}
		if c.Tenant == "" {
			tenants = gaps.Tenants()
		}
		one = func(_ context.Context, q api.GapsRequest) (projections.GapsDocument, error) {
			return gaps.Document(q.Tenant, q.Source), nil
		}
	} else {
		client, done, err := c.connect()
		if err != nil {
			return report, err
		}
		defer done()
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, askTimeout)
		defer cancel()
		if c.Tenant == "" {
			status, err := client.Status(ctx)
			if err != nil {
				return report, err
			}
			tenants = tenants[:0]
			for _, t := range status.Tenants {
				if t.Tenant != domain.NoTenant {
					tenants = append(tenants, t.Tenant)
				}
			}
		}
		one = client.Gaps
	}
	for _, tenant := range tenants {
		d, err := one(ctx, api.GapsRequest{Tenant: tenant, Source: c.Source})
		if err != nil {
			return report, err
		}
		if d.Count > 0 || c.Tenant != "" {
			report.Tenants = append(report.Tenants, d)
		}
	}
	return report, nil
}

// gapsOf makes the gaps from a directory's book.
func gapsOf(ctx context.Context, std Streams, dir string) (*projections.Gaps, error) {
	walk, closeLog, err := openBook(ctx, dir, "")
	if err != nil {
		return nil, err
	}
	defer closeLog()
	gaps := projections.NewGaps()
	bar := newProgress(std, "reading the book", int64(walk.Anchor.Events), "events")
	defer bar.finish()
	_, err = walk.Run(ctx, func(b *block.Block, head eventstore.Head, _ int) error {
		gaps.Follow(eventstore.Update{Head: head, First: b.First, Events: b.Events})
		bar.set(head.Events)
		return nil
	})
	return gaps, err
}

type gapsWaiveCmd struct {
	Tenant string `required:"" help:"Tenant."`
	Source string `required:"" help:"Source of the sequence, such as switch/mil-1."`
	From   uint64 `required:"" placeholder:"N" help:"First number."`
	To     uint64 `required:"" placeholder:"M" help:"Last number; every one between must be missing."`
	Why    string `required:"" placeholder:"TEXT" help:"Why, kept in the book."`
	By     string `placeholder:"NAME" help:"Who decides; without it, the NATS user, or you on this machine."`
	engineAddress
	format
}

// Validate is called by kong, before anything is done.
func (c *gapsWaiveCmd) Validate() error {
	if !consumers.ValidTenant(c.Tenant) {
		return fmt.Errorf("--tenant %q: must be 1 to 63 of a-z, 0-9 and -", c.Tenant)
	}
	return nil
}

func (c *gapsWaiveCmd) Run(ctx context.Context, std Streams) error {
	client, done, err := c.connect()
	if err != nil {
		return err
	}
	defer done()
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	d, err := client.WaiveGap(ctx, c.who(c.By), api.WaiveRequest{
		Tenant: c.Tenant, Source: c.Source, From: projections.Number(c.From), To: projections.Number(c.To), Why: c.Why,
	})
	if err != nil {
		return err
	}
	return c.print(std, d, func(w writer) {
		fmt.Fprintf(w, "waived: %s of %s for %s, by %s, at position %d\n", numbersOf(d.From, d.To), d.Source, d.Tenant, d.By, d.Position)
	})
}

// How many lines of a source are printed for people; JSON has more.
const (
	rangesShown  = 20
	repeatsShown = 10
)

func numbersOf(from, to projections.Number) string {
	if from == to {
		return fmt.Sprint(from)
	}
	return fmt.Sprintf("%d to %d", from, to)
}

func (c *gapsListCmd) text(w writer, d projections.GapsDocument, p paint) {
	fmt.Fprintf(w, "%s  position %d\n\n", p.bold("Gaps of "+d.Tenant), d.Position)
	if d.Count == 0 {
		whose := d.Tenant
		if c.Source != "" {
			whose = "source " + c.Source
		}
		fmt.Fprintf(w, "No event of %s with a sequence is in the book.\n", whose)
		return
	}
	everything := c.All || c.Source != ""
	sources := newTable("source", ">events", ">first", ">last", ">missing", ">waived", ">repeated", ">in suspense")
	missing := newTable("source", "missing", ">count", "after", "before", ">found at", "waived")
	repeated := newTable("source", ">repeated", "by the event", ">position")
	closed := newTable("source", "closed", "how", ">position")
	for _, s := range d.Sources {
		open := s.MissingCount > s.WaivedCount
		if !open && s.RepeatedCount == 0 && !everything {
			continue
		}
		var note func(string) string
		if open {
			note = p.bad
		}
		sources.row(note, s.Source, fmt.Sprint(s.Events), fmt.Sprint(s.First), fmt.Sprint(s.Last), fmt.Sprint(s.MissingCount-s.WaivedCount),
			fmt.Sprint(s.WaivedCount), fmt.Sprint(s.RepeatedCount), fmt.Sprint(s.Suspended))
		for i, m := range s.Missing {
			if i == rangesShown {
				missing.row(nil, s.Source, "…", "", "", "", "", "more with --format json")
				break
			}
			after := m.Since
			if m.BeforeFirst {
				after = "(the first)"
			}
			waived := "–"
			if m.Waived != nil {
				waived = fmt.Sprintf("by %s, position %d: %s", m.Waived.By, m.Waived.Position, m.Waived.Reason)
			}
			missing.row(nil, s.Source, numbersOf(m.From, m.To), fmt.Sprint(m.Count), after, m.Until, fmt.Sprint(m.FoundAt), waived)
		}
		for i, r := range s.Repeated {
			if i == repeatsShown {
				repeated.row(nil, s.Source, "…", "", "")
				break
			}
			repeated.row(nil, s.Source, fmt.Sprint(r.Number), r.ID, fmt.Sprint(r.Position))
		}
		if everything {
			for _, one := range s.Closed[max(0, len(s.Closed)-rangesShown):] {
				closed.row(nil, s.Source, numbersOf(one.From, one.To), one.How, fmt.Sprint(one.ClosedBy))
			}
		}
	}
	for _, t := range []*table{sources, missing, repeated, closed} {
		if len(t.rows) > 0 {
			t.print(w, p)
			fmt.Fprintln(w)
		}
	}
	fmt.Fprintf(w, "%s with sequences: %s complete, %s with gaps that nobody has waived\n",
		counted(int64(d.Count), "source"), grouped(int64(d.Count-d.Incomplete)), grouped(int64(d.Incomplete)))
	if d.Truncated {
		fmt.Fprintln(w, "Not all of it is shown: ask for one --source.")
	}
}
