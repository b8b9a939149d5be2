package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"tollbook/api"
	"tollbook/consumers"
	"tollbook/domain"
	"tollbook/eventstore"
	"tollbook/projections"
)

// closeCmd closes a month and issues its document.
type closeCmd struct {
	Tenant string `required:"" help:"Tenant."`
	Month  string `required:"" placeholder:"2026-10" help:"Calendar month."`
	DryRun bool   `help:"Only say what keeps it open, or what would be issued."`
	By     string `placeholder:"NAME" help:"Who closes; without it, the NATS user, or you on this machine."`
	engineAddress
	format
}

// Validate is called by kong, before anything is done.
func (c *closeCmd) Validate() error { return validMonth(c.Tenant, c.Month) }

func (c *closeCmd) Run(ctx context.Context, std Streams) error {
	client, done, err := c.connect()
	if err != nil {
		return err
	}
	defer done()
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	doc, err := client.Close(ctx, c.who(c.By), api.CloseRequest{Tenant: c.Tenant, Month: c.Month, DryRun: c.DryRun})
	if err != nil {
		return err
	}
	if err := c.print(std, doc, func(w writer) { printClose(w, doc, newPaint(std.Out)) }); err != nil {
		return err
	}
	if len(doc.Blockers) > 0 {
		return fmt.Errorf("nothing was closed: %s to see to", counted(int64(len(doc.Blockers)), "thing"))
	}
	return nil
}

func printClose(w writer, doc api.CloseDocument, p paint) {
	for _, b := range doc.Blockers {
		fmt.Fprintf(w, "%s: %s\n    %s\n", p.warn(b.What), b.Detail, b.Do)
	}
	if len(doc.Blockers) > 0 {
		return
	}
	did := "Closed"
	if !doc.Closed {
		did = "Would be closed"
	}
	fmt.Fprintf(w, "%s: %s of %s, document %s as of position %d\n", did, doc.Month, doc.Tenant, p.bold(doc.Number), doc.Position)
	for _, t := range doc.Totals {
		note := ""
		if strings.HasPrefix(t.Total, "-") {
			note = "  (credit note)"
		}
		fmt.Fprintf(w, "  %-2s  %s  %s %s%s\n", t.Country, t.Plan, t.Total, t.Currency, note)
	}
	fmt.Fprintln(w, doc.Digest)
}

// exceptionsCmd is what of a month needs somebody's attention.
type exceptionsCmd struct {
	Waive exceptionsWaiveCmd `cmd:"" help:"Let a month's exceptions of one kind be, as many as there are now."`
}

type exceptionsWaiveCmd struct {
	Tenant    string `required:"" help:"Tenant."`
	Month     string `required:"" placeholder:"2026-10" help:"Calendar month."`
	Exception string `required:"" enum:"unlicensed,unrated,ungranted,dangling" help:"Which: unlicensed, unrated, ungranted or dangling."`
	Why       string `required:"" help:"Why, kept in the book."`
	By        string `placeholder:"NAME" help:"Who decides; without it, the NATS user, or you on this machine."`
	engineAddress
	format
}

// Validate is called by kong, before anything is done.
func (c *exceptionsWaiveCmd) Validate() error { return validMonth(c.Tenant, c.Month) }

func (c *exceptionsWaiveCmd) Run(ctx context.Context, std Streams) error {
	client, done, err := c.connect()
	if err != nil {
		return err
	}
	defer done()
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	doc, err := client.WaiveExceptions(ctx, c.who(c.By), api.ExceptionRequest{Tenant: c.Tenant, Month: c.Month, Exception: c.Exception, Why: c.Why})
	if err != nil {
		return err
	}
	return c.print(std, doc, func(w writer) {
		fmt.Fprintf(w, "%d %s of %s no longer keep it open; should another come, it does again\n", doc.Count, doc.Exception, doc.Month)
	})
}

// documentsCmd lists what was issued.
type documentsCmd struct {
	Tenant string `required:"" help:"Tenant."`
	engineAddress
	format
}

// Validate is called by kong, before anything is done.
func (c *documentsCmd) Validate() error {
	if !consumers.ValidTenant(c.Tenant) {
		return fmt.Errorf("--tenant %q: must be 1 to 63 of a-z, 0-9 and -", c.Tenant)
	}
	return nil
}

func (c *documentsCmd) Run(ctx context.Context, std Streams) error {
	client, done, err := c.connect()
	if err != nil {
		return err
	}
	defer done()
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	doc, err := client.Documents(ctx, c.Tenant)
	if err != nil {
		return err
	}
	return c.print(std, doc, func(w writer) {
		if len(doc.Documents) == 0 {
			fmt.Fprintf(w, "No month of %s is closed yet.\n", doc.Tenant)
			return
		}
		t := newTable("number", "month", ">position", "digest")
		for _, d := range doc.Documents {
			note := func(s string) string { return s }
			if d.Problem != "" {
				note = newPaint(std.Out).bad
			}
			t.row(note, d.Number, d.Month, fmt.Sprint(d.Position), d.Digest)
		}
		t.print(w, newPaint(std.Out))
		for _, d := range doc.Documents {
			if d.Problem != "" {
				fmt.Fprintln(w, newPaint(std.Out).bad(d.Problem))
			}
		}
	})
}

// A checkDocument is what replay --check prints.
type checkDocument struct {
	Tenant      string                   `json:"tenant"`
	Month       string                   `json:"month"`
	Number      string                   `json:"number"`
	Position    uint64                   `json:"position"`
	BookedAt    uint64                   `json:"booked_at,omitzero"` // the position of the event that has the document
	Digest      string                   `json:"digest"`
	Holds       bool                     `json:"holds"`
	Differences []projections.Difference `json:"differences"`
}

func (c *replayCmd) check(ctx context.Context, std Streams) error {
	issue, err := checkMonth(ctx, std, c.Data, c.Tenant, c.Month)
	if err != nil {
		return checkFailed(err)
	}
	problem := issue.Check()
	doc := checkDocument{
		Tenant: c.Tenant, Month: c.Month, Number: issue.Number, Position: issue.Position, BookedAt: issue.BookedAt, Digest: issue.Digest,
		Holds: problem == nil, Differences: issue.Differences(),
	}
	err = c.print(std, doc, func(w writer) {
		if problem == nil {
			fmt.Fprintf(w, "Document %s of %s, %s: what the events up to position %d make is what was issued, byte for byte.\n%s\n",
				doc.Number, doc.Tenant, doc.Month, doc.Position, doc.Digest)
			return
		}
		printDifferences(w, doc.Differences, newPaint(std.Out))
		fmt.Fprintf(w, "\nThe events up to position %d make what is replayed; the document in the book, at position %d, says what is issued. Both can be shown to anybody.\n",
			issue.Replayed.Position, issue.BookedAt)
		if issue.Head != issue.Replayed.Head {
			fmt.Fprintln(w, "The document names another block than holds that position: it was issued for other events, or was changed.")
		}
		fmt.Fprintln(w, "Whether events or document were written anew, an anchor that was kept elsewhere tells: tollbook verify --data DIR --anchor FILE\n"+
			"If neither was, the program that issued it computed otherwise than this one.")
	})
	if err == nil && problem != nil {
		err = fmt.Errorf("%w: %w", errCheck, problem)
	}
	return err
}

// printDifferences prints where a document does not hold, and what makes its lines.
func printDifferences(w writer, differences []projections.Difference, p paint) {
	for _, d := range differences {
		fmt.Fprintf(w, "%s\n    issued   %s\n    replayed %s\n", p.bad(harmless(d.Where)), orNone(harmless(d.Issued)), orNone(harmless(d.Replayed)))
		if d.See != "" {
			fmt.Fprintf(w, "    made by  %s\n", d.See)
		}
		if d.Calls == 0 {
			continue
		}
		fmt.Fprintf(w, "    made by  %s%s\n", counted(d.Calls, "call"), shownOf(int64(len(d.First)), d.Calls))
		t := newTable("            position", "call", "answered (UTC)", "user", "called", ">billed m:ss", ">charged", ">exactly")
		for _, c := range d.First {
			t.row(nil, "            "+positions(c.Positions), c.Source+" "+c.ID, c.At, c.User, c.Called, minutes(c.Billed), minutes(c.Overage), c.Exact)
		}
		t.print(w, p)
	}
}

// closeEvery is how often the months that close by themselves are looked at.
const closeEvery = time.Minute

// closeDue closes the months whose close_after_days are over. What keeps one
// open, a failure too, is told of once a day; the engine goes on with the others.
func (e *Engine) closeDue(ctx context.Context, closer *api.Closer) {
	ticker := time.NewTicker(closeEvery)
	defer ticker.Stop()
	told := map[string]stays{}
	for {
		for _, tenant := range e.Months.Tenants() {
			for e.closeNext(ctx, closer, tenant, told) {
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
	}
}

// stays is which month of a tenant stays open, and when that was told.
type stays struct {
	month domain.Month
	told  domain.Instant
}

// closeNext closes the tenant's next month, if it is due; false: it is not, or
// stays open.
func (e *Engine) closeNext(ctx context.Context, closer *api.Closer, tenant string, told map[string]stays) bool {
	now := e.config.Clock()
	month, due := e.Months.Due(tenant, now)
	if !due {
		return false
	}
	doc, err := closer.Close(ctx, api.CloseRequest{Tenant: tenant, Month: month.String()}, "tollbook")
	switch last, known := told[tenant]; {
	case ctx.Err() != nil || errors.Is(err, eventstore.ErrClosed):
		return false
	case doc.Closed:
		e.config.Log.Info("month closed", "tenant", tenant, "month", doc.Month, "document", doc.Number, "position", doc.Position)
		return true
	case known && last.month == month && now-last.told < domain.Instant(24*time.Hour):
		return false
	}
	told[tenant] = stays{month, now}
	if err != nil {
		e.config.Log.Error("month not closed", "tenant", tenant, "month", month.String(), "error", err)
		return false
	}
	e.config.Log.Warn("month stays open", "tenant", tenant, "month", doc.Month, "blockers", len(doc.Blockers),
		"see", fmt.Sprintf("tollbook close --dry-run --tenant %s --month %s", tenant, doc.Month))
	return false
}
