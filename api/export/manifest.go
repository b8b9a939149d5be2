package export

import (
	"cmp"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"math/big"
	"slices"
	"strings"

	"tollbook/domain"
	"tollbook/projections"
)

// Version is that of the files: columns, sheets, fields and how they are written.
const Version = "tollbook-export/1"

// A Manifest says what a file has. Within a file that has room for one, it is without
// file, bytes, sha256 and program.
type Manifest struct {
	Version string `json:"version"`
	File    string `json:"file,omitzero"`
	Format  string `json:"format"`
	What    string `json:"what"`
	projections.AsOf
	Document   string                  `json:"document"` // digest of the month's invoice document, canonical
	Rows       []Rows                  `json:"rows"`
	Sums       []Sum                   `json:"sums"`  // by currency
	Lines      []LineSum               `json:"lines"` // of the document, in its order
	Counts     projections.Counts      `json:"counts"`
	Exceptions []projections.Exception `json:"exceptions"`
	Bytes      int64                   `json:"bytes,omitzero"`
	Digest     string                  `json:"sha256,omitzero"` // of the file
	Program    string                  `json:"program,omitzero"`
}

// Rows is how many a table has, its header not counted.
type Rows struct {
	Table string `json:"table"`
	Rows  int64  `json:"rows"`
}

// A Sum is what the document's invoices in one currency come to. Exact and Rounding
// are fractions of the currency's unit.
type Sum struct {
	Currency    string `json:"currency"`
	Invoices    int    `json:"invoices"`
	Exact       string `json:"exact"`    // the lines before they are rounded
	Rounding    string `json:"rounding"` // lines − exact
	Lines       string `json:"lines"`
	Adjustments string `json:"adjustments"`
	Total       string `json:"total"`
}

// A LineSum is a line with the one rounding it has (R9).
type LineSum = projections.LineOfMonth

// base64 is the digest as HTTP has it.
func (m *Manifest) base64() string {
	sum, err := hex.DecodeString(strings.TrimPrefix(m.Digest, "sha256:"))
	if err != nil {
		panic(err) // Write made it
	}
	return base64.StdEncoding.EncodeToString(sum)
}

// account says what the lines come to by currency, and makes sure that they come to
// what the invoices say.
func account(s *projections.Statement) ([]Sum, []LineSum, error) {
	type sums struct {
		invoices                         int
		exact, lines, adjustments, total big.Rat
	}
	by := map[string]*sums{}
	all := []LineSum{}
	for i := range s.Invoices {
		invoice := &s.Invoices[i]
		one := by[invoice.Currency]
		if one == nil {
			one = &sums{}
			by[invoice.Currency] = one
		}
		one.invoices++
		sum := new(big.Rat)
		for j := range invoice.Lines {
			l, exact, amount, err := lineSum(invoice, &invoice.Lines[j])
			if err != nil {
				return nil, nil, err
			}
			one.exact.Add(&one.exact, exact)
			one.lines.Add(&one.lines, amount)
			sum.Add(sum, amount)
			all = append(all, l)
		}
		for j := range invoice.Adjustments {
			amount, err := decimal(invoice.Adjustments[j].Amount)
			if err != nil {
				return nil, nil, err
			}
			one.adjustments.Add(&one.adjustments, amount)
			sum.Add(sum, amount)
		}
		total, err := decimal(invoice.Total)
		if err != nil {
			return nil, nil, err
		}
		if total.Cmp(sum) != 0 {
			return nil, nil, fmt.Errorf("invoice %s %s says %s %s, but its lines and adjustments come to %s: the document is damaged; see 'tollbook replay --check'",
				invoice.Country, invoice.Plan, invoice.Currency, invoice.Total, sum.RatString())
		}
		one.total.Add(&one.total, total)
	}
	out := []Sum{}
	for currency, one := range by {
		digits := domain.Currency(currency).Digits()
		out = append(out, Sum{
			Currency: currency, Invoices: one.invoices, Exact: one.exact.RatString(), Rounding: new(big.Rat).Sub(&one.lines, &one.exact).RatString(),
			Lines: one.lines.FloatString(digits), Adjustments: one.adjustments.FloatString(digits), Total: one.total.FloatString(digits),
		})
	}
	slices.SortFunc(out, func(a, b Sum) int { return cmp.Compare(a.Currency, b.Currency) })
	return out, all, nil
}

func lineSum(i *projections.Invoice, l *projections.Line) (sum LineSum, exact, amount *big.Rat, err error) {
	price, err1 := domain.ParseMicros(l.Price)
	fee, err2 := domain.ParseMicros(l.ConnectFee)
	amount, err3 := decimal(l.Amount)
	for _, err := range []error{err1, err2, err3} {
		if err != nil {
			return sum, nil, nil, fmt.Errorf("line %s %s of invoice %s %s: %w", l.DestinationCountry, l.Destination, i.Country, i.Plan, err)
		}
	}
	exact = domain.ExactCharge(price, fee, l.Calls, l.Seconds)
	return LineSum{
		Country: i.Country, Plan: i.Plan, Currency: i.Currency, Line: *l, Exact: exact.RatString(), Rounding: new(big.Rat).Sub(amount, exact).RatString(),
	}, exact, amount, nil
}

func decimal(text string) (*big.Rat, error) {
	if r, ok := new(big.Rat).SetString(text); ok {
		return r, nil
	}
	return nil, fmt.Errorf("amount %.40q can't be read", text)
}

// manifest is what can be said before the bytes are known.
func (e *Export) manifest(rows []Rows) Manifest {
	s := &e.statement
	m := Manifest{
		Version: Version, Format: e.query.Format, What: e.query.What,
		AsOf: asOf(s), Rows: rows, Sums: e.sums, Lines: e.lines, Counts: s.Counts, Exceptions: s.Exceptions,
	}
	// A document of known fields always is JSON.
	document, err := projections.Canonical(s.InvoiceDocument)
	if err != nil {
		panic(fmt.Sprintf("export: document of %s, %s: %v", s.Tenant, s.Month, err))
	}
	m.Document = projections.Digest(document)
	return m
}

func asOf(s *projections.Statement) projections.AsOf {
	return projections.AsOf{Tenant: s.Tenant, Month: s.Month, Status: s.Status, Number: s.Number, Position: s.Position, Head: s.Head}
}

// A tally adds up calls, to compare them with their statement.
type tally struct {
	statement *projections.Statement
	lines     map[tallyLine]*tallySum
	classes   map[string]int64
}

// A tallyLine is a line, without its sums, and of which invoice.
type tallyLine struct {
	country, plan, currency string
	line                    projections.Line
}

type tallySum struct{ calls, seconds int64 }

func newTally(s *projections.Statement) *tally {
	return &tally{statement: s, lines: map[tallyLine]*tallySum{}, classes: map[string]int64{}}
}

func (t *tally) take(c *projections.MonthCall) {
	t.classes[c.Class]++
	if c.Exact == "" {
		return
	}
	key := tallyLine{c.PoolCountry, c.PoolPlan, c.Currency, projections.Line{
		Deck: c.Deck, DeckVersion: c.DeckVersion, DestinationCountry: c.Country, Destination: c.Destination, Type: c.Type, Price: c.Price, ConnectFee: c.ConnectFee,
	}}
	sum := t.lines[key]
	if sum == nil {
		sum = &tallySum{}
		t.lines[key] = sum
	}
	sum.calls++
	sum.seconds += c.Overage
}

// check reports where the calls are not what the statement says.
func (t *tally) check() error {
	c := t.statement.Counts
	want := map[domain.Class]int64{domain.ClassFree: c.Free, domain.ClassInPool: c.InPool, domain.ClassOverage: c.Overage, domain.ClassOutside: c.Outside}
	for _, e := range t.statement.Exceptions {
		switch e.Reason {
		case domain.Unlicensed:
			want[domain.ClassUnlicensed] = e.Count
		case domain.Unrated:
			want[domain.ClassUnrated] = e.Count
		}
	}
	for _, class := range []domain.Class{domain.ClassFree, domain.ClassInPool, domain.ClassOverage, domain.ClassOutside, domain.ClassUnlicensed, domain.ClassUnrated} {
		if t.classes[string(class)] != want[class] {
			return fmt.Errorf("%d calls were read as %s, but the statement counts %d: the export is not to be used", t.classes[string(class)], class, want[class])
		}
	}
	lines := 0
	for i := range t.statement.Invoices {
		invoice := &t.statement.Invoices[i]
		for _, l := range invoice.Lines {
			lines++
			said := tallySum{l.Calls, l.Seconds}
			l.Calls, l.Seconds, l.Amount = 0, 0, ""
			if is := t.lines[tallyLine{invoice.Country, invoice.Plan, invoice.Currency, l}]; is == nil || *is != said {
				return fmt.Errorf("line %s %s %s of invoice %s %s has %d calls and %d s, but those read come to %v: the export is not to be used",
					l.DestinationCountry, l.Destination, l.Type, invoice.Country, invoice.Plan, said.calls, said.seconds, is)
			}
		}
	}
	if lines != len(t.lines) {
		return fmt.Errorf("calls of %d lines were read, but the statement has %d: the export is not to be used", len(t.lines), lines)
	}
	return nil
}
