package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"tollbook/api"
	"tollbook/domain"
	"tollbook/domain/cloudevents"
	"tollbook/eventstore"
	"tollbook/eventstore/block"
	"tollbook/projections"
	"tollbook/projections/ubl"
)

// ublCmd writes what was issued for a month as UBL, a file for each invoice and
// credit note. The same month and parties always make the same files, so it may be
// run again; a file with other content is never replaced.
type ublCmd struct {
	monthOf
	Parties string `type:"existingfile" placeholder:"FILE" help:"JSON of supplier and customers: names, addresses, VAT. Without it the customer has the tenant's name only, and accounting software may want more."`
	Out     string `name:"out" short:"o" required:"" type:"path" placeholder:"DIR" help:"Directory for the files; made if missing."`
}

// A ublReport is what ubl prints.
type ublReport struct {
	Tenant    string      `json:"tenant"`
	Month     string      `json:"month"`
	Number    string      `json:"number"`
	IssuedAt  string      `json:"issued_at"`
	Documents []ublFile   `json:"documents"`
	Empty     []ubl.Empty `json:"nothing_to_bill"` // these have no file
}

type ublFile struct {
	File     string `json:"file"`
	ID       string `json:"id"`
	Type     string `json:"type"` // Invoice or CreditNote
	Country  string `json:"country"`
	Plan     string `json:"plan"`
	Currency string `json:"currency"`
	Total    string `json:"total"`    // by the document: negative of a credit note
	Payable  string `json:"payable"`  // with VAT; of a credit note, what the customer gets
	EN16931  bool   `json:"en_16931"` // it is an invoice by EN 16931
}

func (c *ublCmd) Run(ctx context.Context, std Streams) error {
	parties, err := c.parties()
	if err != nil {
		return err
	}
	closed, at, err := c.closed(ctx, std)
	if err != nil {
		return checkFailed(err)
	}
	documents, empty, err := ubl.Documents(closed.Document, at, parties)
	if err != nil {
		return err
	}
	if err := c.write(documents); err != nil {
		return fmt.Errorf("--out: %w", err)
	}
	report := ublReport{c.Tenant, c.Month, closed.Number, at.String(), []ublFile{}, append([]ubl.Empty{}, empty...)}
	for _, d := range documents {
		report.Documents = append(report.Documents, ublFile{filepath.Join(c.Out, d.File), d.ID, d.Type, d.Country, d.Plan, d.Currency, d.Total, d.Payable, d.EN16931})
	}
	return c.print(std, report, func(w writer) { printUBL(w, report, parties != nil, newPaint(std.Out)) })
}

func (c *ublCmd) parties() (*ubl.Parties, error) {
	if c.Parties == "" {
		return nil, nil
	}
	file, err := os.Open(c.Parties)
	if err != nil {
		return nil, fmt.Errorf("--parties: %w", err)
	}
	defer func() { _ = file.Close() }()
	parties, err := ubl.ReadParties(file)
	if err != nil {
		return nil, fmt.Errorf("--parties %s: %w", c.Parties, err)
	}
	if _, known := parties.Customers[c.Tenant]; !known {
		return nil, fmt.Errorf("--parties %s: customers has no %s: add the tenant", c.Parties, c.Tenant)
	}
	return parties, nil
}

// closed is what closing the month booked, and when.
func (c *ublCmd) closed(ctx context.Context, std Streams) (*domain.MonthClosed, domain.Instant, error) {
	find := c.ask
	if c.Data != "" {
		find = func(ctx context.Context) (*domain.Event, error) { return c.read(ctx, std) }
	}
	e, err := find(ctx)
	if err != nil {
		return nil, 0, err
	}
	if e == nil {
		return nil, 0, fmt.Errorf("%s of %s is not closed: only what was issued is an invoice; tollbook close --tenant %s --month %s", c.Month, c.Tenant, c.Tenant, c.Month)
	}
	closed, ok := e.Data.(*domain.MonthClosed)
	if !ok || projections.Digest(closed.Document) != closed.Digest {
		return nil, 0, fmt.Errorf("%w: the document of %s is not the one whose digest was booked; see tollbook replay --check", eventstore.ErrCorrupt, c.Month)
	}
	return closed, e.Time, nil
}

// read finds the month.closed in the directory's book; nil: there is none.
func (c *ublCmd) read(ctx context.Context, std Streams) (found *domain.Event, err error) {
	walk, closeLog, err := openBook(ctx, c.Data, "")
	if err != nil {
		return nil, err
	}
	defer closeLog()
	bar := newProgress(std, "reading the book", int64(walk.Anchor.Events), "events")
	defer bar.finish()
	_, err = walk.Run(ctx, func(b *block.Block, head eventstore.Head, _ int) error {
		for i := range b.Events {
			e := &b.Events[i]
			if data, ok := e.Data.(*domain.MonthClosed); ok && e.Tenant == c.Tenant && data.Month.String() == c.Month && found == nil {
				found = e
			}
		}
		bar.set(head.Events)
		return nil
	})
	return found, eventstore.Damaged(c.Data, err)
}

// ask gets the month.closed from the engine; nil: there is none.
func (c *ublCmd) ask(ctx context.Context) (*domain.Event, error) {
	client, done, err := c.connect()
	if err != nil {
		return nil, err
	}
	defer done()
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	issued, err := client.Documents(ctx, c.Tenant)
	if err != nil {
		return nil, err
	}
	i := slices.IndexFunc(issued.Documents, func(d api.IssuedDocument) bool { return d.Month == c.Month })
	if i < 0 {
		return nil, nil
	}
	if problem := issued.Documents[i].Problem; problem != "" {
		return nil, fmt.Errorf("%w: %s; see tollbook replay --check", eventstore.ErrCorrupt, problem)
	}
	doc, err := client.Explain(ctx, api.ExplainRequest{Tenant: c.Tenant, Source: eventstore.MonthsSource, ID: "closed/" + c.Month})
	if err != nil {
		return nil, err
	}
	e, err := cloudevents.Decode(doc.Event, c.Tenant)
	if err != nil {
		return nil, fmt.Errorf("the engine's answer can't be read: %w", err)
	}
	return &e, nil
}

// write makes the files that are missing, or none where one of that name has
// other content.
func (c *ublCmd) write(documents []ubl.Document) error {
	if err := os.MkdirAll(c.Out, 0o750); err != nil {
		return err
	}
	var missing []ubl.Document
	for _, d := range documents {
		path := filepath.Join(c.Out, d.File)
		switch was, err := os.ReadFile(path); {
		case errors.Is(err, fs.ErrNotExist):
			missing = append(missing, d)
		case err != nil:
			return err
		case !bytes.Equal(was, d.XML):
			return fmt.Errorf("%s is there with other content, as of other parties: nothing was written; move it away, or choose another directory", path)
		}
	}
	for _, d := range missing {
		if err := writeDurably(filepath.Join(c.Out, d.File), bytes.NewReader(d.XML)); err != nil {
			return err
		}
	}
	return nil
}

func printUBL(w writer, r ublReport, named bool, p paint) {
	fmt.Fprintf(w, "%s  document %s, issued %s\n", p.bold("UBL of "+r.Tenant+", "+r.Month), r.Number, r.IssuedAt)
	if len(r.Documents) > 0 {
		fmt.Fprintln(w)
		t := newTable("country", "plan", "currency", ">total", ">payable", "type", "file")
		for _, d := range r.Documents {
			var note func(string) string
			if d.Type == ubl.TypeCreditNote {
				note = p.warn
			}
			t.row(note, orDash(d.Country), d.Plan, d.Currency, d.Total, d.Payable, d.Type, d.File)
		}
		t.print(w, p)
	}
	for _, e := range r.Empty {
		fmt.Fprintf(w, "%s %s: nothing to bill, no file\n", orDash(e.Country), e.Plan)
	}
	if !named {
		fmt.Fprintln(w, p.warn("No --parties: supplier, address and VAT are missing, so these are UBL but no invoices by EN 16931."))
		return
	}
	for _, d := range r.Documents {
		if !d.EN16931 {
			fmt.Fprintln(w, p.warn(fmt.Sprintf("%s: EN 16931 allows two decimals, and %s has more: UBL, but no invoice by EN 16931.", d.ID, d.Currency)))
		}
	}
}
