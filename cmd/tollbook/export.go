package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"tollbook/api"
	"tollbook/api/export"
	"tollbook/projections"
)

// exportCmd writes a month as a file for other programs, and beside it
// FILE.manifest.json, which says what is in it. The same month at the same position
// always makes the same bytes. A file of that name is replaced, once the new one is
// whole.
type exportCmd struct {
	Tenant string  `required:"" help:"Tenant."`
	Month  string  `required:"" placeholder:"2026-10" help:"Calendar month."`
	Format string  `required:"" enum:"csv,xlsx,pdf,parquet,json" help:"csv, xlsx, pdf, parquet or json."`
	What   string  `enum:",invoice,pools,lines,calls" default:"" placeholder:"invoice" help:"invoice, pools, lines or calls; pdf has invoice, parquet calls."`
	At     *uint64 `placeholder:"POSITION" help:"As of this position of the book; without it, an open month as it is now, a closed one as it was issued."`
	Lang   string  `enum:"en,it" default:"en" help:"Language of a pdf: en or it."`
	BOM    bool    `name:"bom" help:"Begin csv with a byte order mark, by which Excel knows that it is UTF-8."`
	Out    string  `name:"out" short:"o" required:"" type:"path" placeholder:"FILE" help:"File to write."`
	Data   string  `type:"existingdir" placeholder:"DIR" help:"Read this data directory instead of asking an engine."`
	engineAddress
}

// Validate is called by kong, before anything is done.
func (c *exportCmd) Validate() error {
	if c.At != nil && *c.At == 0 {
		return errPositionZero
	}
	q := c.query()
	return errors.Join(validMonth(c.Tenant, c.Month), q.Check())
}

func (c *exportCmd) query() export.Query {
	q := export.Query{Tenant: c.Tenant, Month: c.Month, Format: c.Format, What: c.What, Lang: c.Lang, BOM: c.BOM, Program: version()}
	if c.At != nil {
		q.At = *c.At
	}
	return q
}

func (c *exportCmd) Run(ctx context.Context, std Streams) error {
	book, done, err := c.book(std)
	if err != nil {
		return err
	}
	defer done()
	e, err := export.Begin(ctx, book, c.query())
	if err != nil {
		return checkFailed(err)
	}
	var m export.Manifest
	err = replaceFile(c.Out, func(w io.Writer) (err error) {
		m, err = e.Write(ctx, w)
		return checkFailed(err)
	})
	if err != nil {
		return err
	}
	m.File = filepath.Base(c.Out)
	manifest, err := json.Marshal(m, jsontext.Multiline(true))
	if err != nil {
		return err
	}
	if err := replaceFile(c.Out+".manifest.json", func(w io.Writer) error {
		_, err := fmt.Fprintf(w, "%s\n", manifest)
		return err
	}); err != nil {
		return err
	}
	printExported(std.Out, c.Out, &m, newPaint(std.Out))
	return nil
}

// book is the engine's, or that of the directory.
func (c *exportCmd) book(std Streams) (export.Book, func(), error) {
	if c.Data != "" {
		return explainerOf(std, c.Data, 0), func() {}, nil
	}
	client, done, err := c.connect()
	return askedBook{client}, done, err
}

// askedBook is an engine that has [askTimeout] for each answer.
type askedBook struct{ client *api.Client }

func (b askedBook) Statement(ctx context.Context, q api.StatementRequest) (projections.Statement, error) {
	return within(b.client.Statement)(ctx, q)
}

func (b askedBook) Calls(ctx context.Context, q api.CallsRequest) (projections.CallsDocument, error) {
	return within(b.client.Calls)(ctx, q)
}

// replaceFile writes a file whole or not at all.
func replaceFile(path string, write func(io.Writer) error) error {
	file, err := os.Create(path + ".new")
	if err != nil {
		return err
	}
	err = write(file)
	if err := errors.Join(err, file.Sync(), file.Close()); err != nil {
		return errors.Join(err, os.Remove(path+".new"))
	}
	return errors.Join(os.Rename(path+".new", path), syncDir(filepath.Dir(path)))
}

func printExported(w writer, path string, m *export.Manifest, p paint) {
	fmt.Fprintf(w, "%s  %s\n", p.bold(path), asOfText(&m.AsOf))
	var rows []string
	for _, r := range m.Rows {
		rows = append(rows, r.Table+" "+grouped(r.Rows))
	}
	fmt.Fprintf(w, "%s; %s bytes, %s\n", strings.Join(rows, ", "), grouped(m.Bytes), m.Digest)
	for _, s := range m.Sums {
		fmt.Fprintf(w, "%s %s: lines %s, adjustments %s; rounding %s\n", s.Currency, s.Total, s.Lines, s.Adjustments, exactly(s.Rounding, s.Currency))
	}
}
