package main

import (
	"context"
	"fmt"
	"os"
	"time"

	"golang.org/x/sync/errgroup"

	"tollbook/api"
	"tollbook/cmd/tollbook/catalog"
	"tollbook/cmd/tollbook/deckcsv"
	"tollbook/consumers"
	"tollbook/domain"
	"tollbook/domain/cloudevents"
)

// importDeckCmd publishes a rate deck. The events' time is the file's, so that
// importing the same file again is all duplicates.
type importDeckCmd struct {
	File          string `arg:"" type:"existingfile" help:"CSV with a header: prefix, destination, country, type, rate_per_min, and optionally connect_fee, increment, currency."`
	Tenant        string `default:"catalog" help:"Whose deck it is; catalog: everybody's who has none of that name."`
	Deck          string `default:"standard" help:"The deck's name, as plans have it."`
	Version       string `required:"" placeholder:"2026-10" help:"The version's name."`
	EffectiveFrom string `required:"" placeholder:"2026-10-01T00:00:00Z" help:"In force from this instant on."`
	Currency      string `placeholder:"EUR" help:"Currency, where the file has no such column."`
	engineAddress
	format
}

// Validate is called by kong, before anything is done.
func (c *importDeckCmd) Validate() error {
	if _, err := time.Parse(time.RFC3339, c.EffectiveFrom); err != nil {
		return fmt.Errorf("--effective-from %q: must be a time with its offset, such as 2026-10-01T00:00:00Z", c.EffectiveFrom)
	}
	return nil
}

func (c *importDeckCmd) Run(ctx context.Context, std Streams) error {
	from, err := time.Parse(time.RFC3339, c.EffectiveFrom)
	if err != nil {
		return err // Validate has seen to it
	}
	file, changed, err := openDated(c.File)
	if err != nil {
		return err
	}
	defer func() { _ = file.Close() }()
	events, err := deckcsv.Read(file, deckcsv.Options{
		Tenant: c.Tenant, Deck: c.Deck, Version: c.Version, EffectiveFrom: domain.InstantOf(from),
		Currency: domain.Currency(c.Currency), Time: changed,
	})
	if err != nil {
		return fmt.Errorf("%s: %w", c.File, err)
	}
	rows := 0
	for i := range events {
		rows += len(events[i].Data.(*domain.Deck).Rows)
	}
	return c.publish(ctx, std, c.format, events, fmt.Sprintf("deck %s, version %s: %s prefixes in %d parts", c.Deck, c.Version, grouped(int64(rows)), len(events)))
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
	client, done, err := a.connect()
	if err != nil {
		return err
	}
	defer done()
	total, err := publishEvents(ctx, client, events)
	if err != nil {
		return err
	}
	for _, refusal := range total.refusals {
		fmt.Fprintln(std.Err, "suspended:", refusal)
	}
	return f.print(std, total, func(w writer) {
		fmt.Fprintf(w, "%s: %d booked, %d duplicate, %d suspended; the book is at position %d\n",
			what, total.Booked, total.Duplicate, total.Suspended, total.Position)
	})
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
