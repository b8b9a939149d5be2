package export

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/xuri/excelize/v2"

	"tollbook/domain"
	"tollbook/projections"
)

// sheetRows is how many rows a sheet takes: of the 1,048,576 there are one is the header
// and one may have to say that the table continues.
var sheetRows = excelize.TotalRows - 2 // tests have smaller ones

// maxCallSheets bounds a workbook: Excel hardly opens larger ones.
const maxCallSheets = 4

// xlsx writes a workbook with a sheet for each level. Numbers are numbers, which
// Excel keeps to 15 digits: longer ones are text, so that they stay exact.
func (e *Export) xlsx(ctx context.Context, w *writer) (err error) {
	b := &book{File: excelize.NewFile(), export: e, w: w}
	defer func() { _ = b.Close() }() // removes its temporary files; nothing of the result is in them
	if err := b.begin(); err != nil {
		return err
	}
	invoices, pools := e.invoices(), e.pools()
	lines, adjustments := e.lineTable("lines", true, false), e.lineTable("adjustments", false, true)
	tables := map[string][]table{
		Invoice: {invoices, pools, lines, adjustments, e.exceptions()},
		Pools:   {pools},
		Lines:   {lines, adjustments},
		Calls:   {invoices, pools, lines, adjustments, e.exceptions(), e.calls()},
	}
	for _, t := range tables[e.query.What] {
		if err := b.table(ctx, t); err != nil {
			return fmt.Errorf("xlsx, %s: %w", t.name, err)
		}
	}
	if err := b.manifest(); err != nil {
		return fmt.Errorf("xlsx, manifest: %w", err)
	}
	return b.finish()
}

// A book is a workbook that is being written.
type book struct {
	*excelize.File
	export *Export
	w      *writer
	sheets int
	styles map[string]int

	stream *excelize.StreamWriter
	row    int // the last one written
	cells  []any
}

// Styles: number formats, of which those of money have the currency's digits added,
// and the header's.
const (
	formatMoment = "yyyy-mm-dd hh:mm:ss.000"
	formatAmount = "#,##0"
	styleHeader  = "header"
)

func (b *book) begin() error {
	b.styles = map[string]int{}
	header, err := b.NewStyle(&excelize.Style{
		Font: &excelize.Font{Bold: true, Color: "FFFFFF"}, Fill: excelize.Fill{Type: "pattern", Pattern: 1, Color: []string{"1F3A4D"}},
	})
	b.styles[styleHeader] = header
	return err
}

func (b *book) style(format string) (int, error) {
	if id, ok := b.styles[format]; ok {
		return id, nil
	}
	id, err := b.NewStyle(&excelize.Style{CustomNumFmt: &format})
	b.styles[format] = id
	return id, err
}

// sheet begins one.
func (b *book) sheet(name string, columns []column) (err error) {
	if b.sheets++; b.sheets == 1 {
		err = b.SetSheetName("Sheet1", name)
	} else {
		_, err = b.NewSheet(name)
	}
	if err != nil {
		return err
	}
	if b.stream, err = b.NewStreamWriter(name); err != nil {
		return err
	}
	for i, c := range columns {
		if err := b.stream.SetColWidth(i+1, i+1, widthOf(c)); err != nil {
			return err
		}
	}
	if err := b.stream.SetPanes(&excelize.Panes{Freeze: true, YSplit: 1, TopLeftCell: "A2", ActivePane: "bottomLeft"}); err != nil {
		return err
	}
	header := make([]any, len(columns))
	for i, c := range columns {
		header[i] = excelize.Cell{StyleID: b.styles[styleHeader], Value: c.name}
	}
	b.row = 1
	return b.stream.SetRow("A1", header)
}

func widthOf(c column) float64 {
	switch c.kind {
	case moment:
		return 25
	case number, amount, yes:
		return 14
	}
	return 20
}

func (b *book) put(cells []any) error {
	b.row++
	return b.stream.SetRow("A"+strconv.Itoa(b.row), cells)
}

// table writes a table, on as many sheets as it needs. A moment has two columns: a
// date of the spreadsheet, to the millisecond, and the exact text.
func (b *book) table(ctx context.Context, t table) error {
	var columns []column
	currency := -1
	for i, c := range t.columns {
		if c.kind == moment {
			columns = append(columns, column{c.name + "_utc", moment})
			c.kind = text
		}
		if c.name == "currency" {
			currency = i
		}
		columns = append(columns, c)
	}
	sheets, rows := 1, int64(0)
	name := strings.ToUpper(t.name[:1]) + t.name[1:]
	if err := b.sheet(name, columns); err != nil {
		return err
	}
	err := t.each(ctx, func(cells []string) error {
		if b.row > sheetRows {
			if err := b.put([]any{fmt.Sprintf("continues on sheet %s %d", name, sheets+1)}); err != nil {
				return err
			}
			if err := b.stream.Flush(); err != nil {
				return err
			}
			sheets++
			if err := b.sheet(fmt.Sprintf("%s %d", name, sheets), columns); err != nil {
				return err
			}
		}
		rows++
		b.cells = b.cells[:0]
		for i, c := range t.columns {
			of := ""
			if c.kind == amount {
				of = cells[currency]
			}
			if err := b.cell(c.kind, cells[i], of); err != nil {
				return err
			}
		}
		return b.put(b.cells)
	})
	if err != nil {
		return err
	}
	b.w.wrote(t.name, rows)
	return b.stream.Flush()
}

// exactDigits is how many digits of a number a spreadsheet keeps.
const exactDigits = 15

// cell adds a cell, or two of a moment.
func (b *book) cell(k kind, cell, currency string) error {
	switch {
	case cell == "" && k != moment:
		b.cells = append(b.cells, nil)
	case k == text:
		b.cells = append(b.cells, cell)
	case k == yes:
		b.cells = append(b.cells, cell == "true")
	case k == moment:
		if cell == "" {
			b.cells = append(b.cells, nil, nil)
			return nil
		}
		at, err := time.Parse(time.RFC3339Nano, cell)
		if err != nil {
			return err
		}
		style, err := b.style(formatMoment)
		b.cells = append(b.cells, excelize.Cell{StyleID: style, Value: serial(at)}, cell)
		return err
	case len(strings.Trim(cell, "-0.")) > exactDigits: // in doubt text
		b.cells = append(b.cells, cell)
	default:
		v, err := strconv.ParseFloat(cell, 64)
		if err != nil {
			return err
		}
		if k != amount {
			b.cells = append(b.cells, v)
			return nil
		}
		format := formatAmount
		if digits := domain.Currency(currency).Digits(); digits > 0 {
			format += "." + strings.Repeat("0", digits)
		}
		style, err := b.style(format)
		b.cells = append(b.cells, excelize.Cell{StyleID: style, Value: v})
		return err
	}
	return nil
}

// serial is a moment as spreadsheets count: days since 1899-12-30, here in UTC.
func serial(at time.Time) float64 {
	const day, epoch = 86_400_000, 25_569 // ms; days to 1970
	return float64(at.Round(time.Millisecond).UnixMilli()+epoch*day) / day
}

// manifest writes what a [Manifest] says, as far as it can be in the file itself.
func (b *book) manifest() error {
	m := b.export.manifest(b.w.rows)
	if err := b.sheet("Manifest", columns(text, "what", "of", "value")); err != nil {
		return err
	}
	number := ""
	if m.Number != nil {
		number = *m.Number
	}
	rows := [][]any{
		{"version", "", m.Version}, {"tenant", "", m.Tenant}, {"month", "", m.Month}, {"status", "", m.Status}, {"number", "", number},
		{"position", "", m.Position}, {"head", "", m.Head}, {"document", "", m.Document}, {"times", "", "UTC"},
	}
	for _, r := range m.Rows {
		rows = append(rows, []any{"rows", r.Table, r.Rows})
	}
	for _, s := range m.Sums {
		rows = append(rows, []any{"invoices", s.Currency, s.Invoices}, []any{"lines, exact", s.Currency, s.Exact}, []any{"rounding", s.Currency, s.Rounding},
			[]any{"lines", s.Currency, s.Lines}, []any{"adjustments", s.Currency, s.Adjustments}, []any{"total", s.Currency, s.Total})
	}
	for _, c := range countsOf(m.Counts) {
		rows = append(rows, []any{"calls", c.name, c.n})
	}
	for _, r := range rows {
		if err := b.put(r); err != nil {
			return err
		}
	}
	return b.stream.Flush()
}

type namedCount struct {
	name string
	n    int64
}

func countsOf(c projections.Counts) []namedCount {
	return []namedCount{{"all", c.Calls}, {"free", c.Free}, {"in_pool", c.InPool}, {"overage", c.Overage}, {"outside", c.Outside}}
}

func (b *book) finish() error {
	if err := b.SetDocProps(&excelize.DocProperties{Title: b.export.title(), Creator: "tollbook", LastModifiedBy: "tollbook"}); err != nil {
		return err
	}
	parts, err := newParts(b.w)
	if err != nil {
		return err
	}
	b.SetZipWriter(parts.instead)
	_, err = b.WriteToBuffer() // which stays empty
	return err
}

// title says what the export is of.
func (e *Export) title() string {
	s := &e.statement
	if s.Number != nil {
		return fmt.Sprintf("%s, %s, %s", s.Tenant, s.Month, *s.Number)
	}
	return fmt.Sprintf("%s, %s, draft at position %d", s.Tenant, s.Month, s.Position)
}
