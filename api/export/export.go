package export

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"tollbook/api"
	"tollbook/projections"
)

// Formats.
const (
	CSV     = "csv"
	XLSX    = "xlsx"
	PDF     = "pdf"
	Parquet = "parquet"
	JSON    = "json"
)

// What is exported.
const (
	Invoice = "invoice" // the invoices of a month; of XLSX and PDF all that is on them
	Pools   = "pools"
	Lines   = "lines" // with the adjustments
	Calls   = "calls" // each as it stands, its split and its share; of XLSX beside all else
)

// A Query says what to export, and how.
type Query struct {
	Tenant string
	Month  string
	Format string
	What   string // "": the document, of Parquet the calls
	At     uint64 // as of this position; 0: an open month as it is now, a closed one as it was issued
	Lang   string // of a PDF: en or it; "": en
	BOM    bool   // of CSV: begin with a byte order mark, by which Excel knows UTF-8

	Program string // the version of whoever asks, for the manifest
}

// formats are what each format takes, and the content type of its files.
var formats = map[string]struct {
	what  []string
	media string
}{
	CSV:     {[]string{Invoice, Pools, Lines, Calls}, "text/csv; charset=utf-8; header=present"},
	XLSX:    {[]string{Invoice, Pools, Lines, Calls}, "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"},
	PDF:     {[]string{Invoice}, "application/pdf"},
	Parquet: {[]string{Calls}, "application/vnd.apache.parquet"},
	JSON:    {[]string{Invoice, Pools, Lines, Calls}, "application/json"},
}

// A Mistake is an error of the query, which nothing but another query can help.
type Mistake struct{ Detail string }

func (m *Mistake) Error() string { return m.Detail }

func mistake(text string, args ...any) error { return &Mistake{fmt.Sprintf(text, args...)} }

// Check puts what a format is for where nothing is said, and reports what is wrong
// with a query, but for its tenant and month.
func (q *Query) Check() error {
	f, known := formats[q.Format]
	if q.What == "" && known {
		q.What = f.what[0]
	}
	switch {
	case !known:
		return mistake("format %.20q: must be csv, xlsx, pdf, parquet or json", q.Format)
	case !slices.Contains([]string{Invoice, Pools, Lines, Calls}, q.What):
		return mistake("what %.20q: must be invoice, pools, lines or calls", q.What)
	case !slices.Contains(f.what, q.What):
		return mistake("%s has %s only: ask for that, or another format", q.Format, strings.Join(f.what, ", "))
	case q.Lang != "" && q.Lang != "en" && q.Lang != "it":
		return mistake("lang %.20q: must be en or it", q.Lang)
	}
	return nil
}

// A Book answers what is exported: the Explainer of a book, or the Client of a
// running engine.
type Book interface {
	Statement(context.Context, api.StatementRequest) (projections.Statement, error)
	Calls(context.Context, api.CallsRequest) (projections.CallsDocument, error)
}

// An Export is one state of a month, to be written.
type Export struct {
	query     Query
	book      Book
	statement projections.Statement
	sums      []Sum
	lines     []LineSum
}

// Begin finds the state to export.
func Begin(ctx context.Context, book Book, q Query) (*Export, error) {
	if err := q.Check(); err != nil {
		return nil, err
	}
	e := &Export{query: q, book: book}
	var err error
	e.statement, err = book.Statement(ctx, api.StatementRequest{Tenant: q.Tenant, Month: q.Month, At: q.At})
	if err != nil {
		return nil, err
	}
	if e.sums, e.lines, err = account(&e.statement); err != nil {
		return nil, err
	}
	return e, e.fits()
}

// fits refuses what a format has no room for, before anything is written.
func (e *Export) fits() error {
	s := &e.statement
	rows := 0
	for i := range s.Invoices {
		rows += len(s.Invoices[i].Lines) + len(s.Invoices[i].Adjustments)
	}
	switch calls := e.statement.Counts.Calls; {
	case e.query.Format == PDF && rows > maxPDFRows:
		return mistake("the document has %d lines, more than the %d of a PDF: take xlsx, csv or json", rows, maxPDFRows)
	case e.query.Format == XLSX && max(rows, bucketsOf(s)) > sheetRows:
		return mistake("the month has %d rows of a kind, more than the %d of a sheet: take csv or json", max(rows, bucketsOf(s)), sheetRows)
	case e.query.Format == XLSX && e.query.What == Calls && calls > int64(maxCallSheets*sheetRows):
		return mistake("the month has %d calls, more than the %d of %d sheets: take parquet or csv", calls, int64(maxCallSheets*sheetRows), maxCallSheets)
	}
	return nil
}

func bucketsOf(s *projections.Statement) (n int) {
	for i := range s.Pools {
		n += max(len(s.Pools[i].Buckets), 1)
	}
	return n
}

// FileName is a name for the file: contoso-2026-10-draft-18231-calls.csv, or once
// the month is closed contoso-2026-0001-calls.csv.
func (e *Export) FileName() string {
	s, q := &e.statement, &e.query
	name := fmt.Sprintf("%s-%s-draft-%d", s.Tenant, s.Month, s.Position)
	if s.Number != nil {
		name = s.Tenant + "-" + *s.Number
	}
	if q.Format == PDF && q.Lang == "it" {
		name += "-it"
	}
	return name + "-" + q.What + "." + q.Format
}

// Media is the content type.
func (e *Export) Media() string { return formats[e.query.Format].media }

// A writer writes one format and counts the rows of each of its tables.
type writer struct {
	*bufio.Writer
	rows []Rows
}

func (w *writer) wrote(table string, rows int64) { w.rows = append(w.rows, Rows{table, rows}) }

// Write writes the file. On an error what was written is of no use.
func (e *Export) Write(ctx context.Context, to io.Writer) (Manifest, error) {
	digest := sha256.New()
	size := &counter{}
	w := &writer{Writer: bufio.NewWriterSize(io.MultiWriter(to, digest, size), 256<<10)}
	write := map[string]func(context.Context, *writer) error{CSV: e.csv, XLSX: e.xlsx, PDF: e.pdf, Parquet: e.parquet, JSON: e.json}[e.query.Format]
	err := write(ctx, w)
	if err == nil {
		err = w.Flush()
	}
	if err != nil {
		return Manifest{}, err
	}
	m := e.manifest(w.rows)
	m.Bytes, m.Digest, m.Program = size.n, "sha256:"+hex.EncodeToString(digest.Sum(nil)), e.query.Program
	return m, nil
}

type counter struct{ n int64 }

func (c *counter) Write(p []byte) (int, error) {
	c.n += int64(len(p))
	return len(p), nil
}

// each calls do with every call of the month, by R7's order, and then makes sure
// that they were what the statement is about.
func (e *Export) each(ctx context.Context, do func(*projections.MonthCall) error) (n int64, err error) {
	t := newTally(&e.statement)
	q := api.CallsRequest{Tenant: e.statement.Tenant, Month: e.statement.Month, At: e.statement.Position, Limit: projections.MaxPage}
	for {
		page, err := e.book.Calls(ctx, q)
		if err != nil {
			return n, err
		}
		if page.Position != q.At {
			return n, fmt.Errorf("the calls are as of position %d, but the statement as of %d", page.Position, q.At)
		}
		for i := range page.Calls {
			n++
			t.take(&page.Calls[i])
			if err := do(&page.Calls[i]); err != nil {
				return n, err
			}
		}
		if q.After = page.Next; q.After == nil {
			return n, t.check()
		}
		if len(page.Calls) == 0 {
			return n, errors.New("a page without calls says that there are more")
		}
	}
}
