package main

import (
	"context"
	"fmt"
	"os"
	"time"

	"golang.org/x/sync/errgroup"

	"tollbook/api"
	"tollbook/cmd/tollbook/catalog"
	"tollbook/consumers"
	"tollbook/domain"
	"tollbook/domain/cloudevents"
	"tollbook/projections/decks"
)

// importDeckCmd publishes a rate deck, once it was looked at. The events' time is
// the file's, so that importing the same file again is all duplicates.
type importDeckCmd struct {
	deckFile
	Version       string `required:"" placeholder:"2026-10" help:"The version's name."`
	EffectiveFrom string `required:"" placeholder:"2026-10-01T00:00:00Z" help:"In force from this instant on."`
	Data          string `type:"existingdir" placeholder:"DIR" help:"Compare with the version in force in this data directory's book."`
	Force         bool   `help:"Publish it in spite of errors."`
	engineAddress
	format
}

// Validate is called by kong, before anything is done.
func (c *importDeckCmd) Validate() error { return validEffective(c.EffectiveFrom) }

func (c *importDeckCmd) Run(ctx context.Context, std Streams) error {
	sheet, err := c.sheet(c.Version, c.EffectiveFrom)
	if err != nil {
		return err
	}
	j, err := lintAgainst(ctx, std, sheet, c.Data, decks.Terms{Now: clock()})
	if err != nil {
		return err
	}
	more := fmt.Sprintf("tollbook deck lint %s --version=%s --effective-from=%s", c.again(), api.Quoted(c.Version), c.EffectiveFrom)
	if c.Data != "" {
		more += " --data=" + api.Quoted(c.Data)
	}
	if c.Format != "json" {
		printSummary(std.Out, j.report, more)
	}
	if err := refuseErrors(j.report, c.Force); err != nil {
		return err
	}
	events, err := sheet.Events()
	if err != nil {
		return fmt.Errorf("%s: %w", c.File, err)
	}
	total, err := c.publishMissing(ctx, std, j, events)
	if err != nil {
		return err
	}
	return c.print(std, importReport{total, j.report}, func(w writer) { printTotal(w, total, published(sheet, len(events))) })
}

// importReport is what became of a deck's events, and what was found of it before.
type importReport struct {
	publishReport
	Report *decks.Report `json:"report"`
}

// published names what was, or will be.
func published(s *decks.Sheet, parts int) string {
	return fmt.Sprintf("deck %s, version %s: %s prefixes in %d parts", s.Deck, s.Version, grouped(int64(len(s.Rows))), parts)
}

func openDated(name string) (*os.File, domain.Instant, error) {
	file, err := os.Open(name)
	if err != nil {
		return nil, 0, err
	}
	info, err := file.Stat()
	if err != nil {
		_ = file.Close()
		return nil, 0, err
	}
	return file, domain.InstantOf(info.ModTime()), nil
}

// importCatalogCmd publishes plans: without a file, the built-in catalogue of
// Microsoft's calling plans and the rate deck of October 2025.
type importCatalogCmd struct {
	File   string `arg:"" optional:"" type:"existingfile" help:"JSON array or NDJSON of plans (the data of tollbook.plan.published.v1) or of whole events; without it the built-in catalogue with its deck."`
	Tenant string `default:"catalog" help:"Whose plans they are; catalog: everybody's who has none of that name."`
	engineAddress
	format
}

func (c *importCatalogCmd) Run(ctx context.Context, std Streams) error {
	if c.File == "" {
		if c.Tenant != domain.CatalogTenant {
			return fmt.Errorf("--tenant goes with a file: the built-in catalogue is everybody's")
		}
		events := builtinCatalog()
		return c.publish(ctx, std, c.format, events, fmt.Sprintf("built-in catalogue: %d plan versions and deck parts", len(events)))
	}
	file, changed, err := openDated(c.File)
	if err != nil {
		return err
	}
	defer func() { _ = file.Close() }()
	events, err := catalog.ReadPlans(file, c.Tenant, "tollbook/import-catalog", changed)
	if err != nil {
		return fmt.Errorf("%s: %w", c.File, err)
	}
	return c.publish(ctx, std, c.format, events, fmt.Sprintf("%d plans", len(events)))
}

// catalogReleased is when the built-in catalogue was last changed: the same in
// every process, so that publishing it again is all duplicates.
var catalogReleased = domain.InstantOf(time.Date(2026, 11, 22, 0, 0, 0, 0, time.UTC))

func builtinCatalog() []domain.Event {
	return append(catalog.Plans(catalogReleased), catalog.Deck(catalogReleased)...)
}

// publish books events of one kind and says what became of them.
func (a engineAddress) publish(ctx context.Context, std Streams, f format, events []domain.Event, what string) error {
	total, err := a.publishAll(ctx, std, events)
	if err != nil {
		return err
	}
	return f.print(std, total, func(w writer) { printTotal(w, total, what) })
}

func printTotal(w writer, total publishReport, what string) {
	fmt.Fprintf(w, "%s: %d booked, %d duplicate, %d suspended; the book is at position %d\n",
		what, total.Booked, total.Duplicate, total.Suspended, total.Position)
}

// publishAll books events, and tells of those that were refused.
func (a engineAddress) publishAll(ctx context.Context, std Streams, events []domain.Event) (total publishReport, err error) {
	client, done, err := a.connect()
	if err != nil {
		return total, err
	}
	defer done()
	total, err = publishEvents(ctx, client, events)
	for _, refusal := range total.refusals {
		fmt.Fprintln(std.Err, "suspended:", refusal)
	}
	return total, err
}

func publishEvents(ctx context.Context, client *api.Client, events []domain.Event) (total publishReport, err error) {
	receipts := make([]api.Receipt, len(events))
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(requestsAtOnce)
	for i := range events {
		group.Go(func() (err error) {
			e := &events[i]
			receipts[i], err = publishOnce(ctx, client, consumers.SubjectPrefix+e.Tenant+".events", cloudevents.Append(nil, e))
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return total, err
	}
	for _, r := range receipts {
		total.add(r)
	}
	return total, nil
}
