// Package deckcsv reads a rate deck from a CSV file.
//
// One of the first lines names the columns, in any order and in any of their
// usual spellings, English, Italian or German (see [Columns]); columns that are
// not listed there are ignored.
//
//	prefix,destination,country,type,rate_per_min,connect_fee,increment,currency
//	39,Italy,IT,landline,0.0160,0,60/60,EUR
//	393,Italy - Mobile,IT,mobile,0.1250,0,60/60,EUR
//	=4242,Directory,IT,special,0.90,0.15,60/60,EUR
//
// Decks come from many spreadsheets. Cells are separated by comma, semicolon, tab
// or pipe; the file is UTF-8, UTF-16 or Windows-1252; prices have a decimal point
// or a decimal comma; a cell may list prefixes (39,390,391), or a range of them
// (390-395), or only what follows a column of calling codes. testdata/dialects.txt
// has one of each kind. What is not taken as it stands is listed with the sheet,
// and what may mean two things, or has lost digits in Excel, is refused.
//
// The file is taken whole or not at all: the first cell that breaks a rule is
// an error of one line with the line's number, the column, the value and the
// rule. The sheet depends on the rows only, not on their order in the file or on
// how they are written: the same deck imported again is the same events under the
// same ids, so all duplicates. TestSameRowsSameEvents shows it.
package deckcsv

import (
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"unicode"

	"tollbook/domain"
	"tollbook/projections/decks"
)

// MaxRows is the longest deck taken. The longest in trade, with every ported
// range of every country, stay below a million.
const MaxRows = 2_000_000

// MaxFileBytes is the largest file taken: 256 bytes for each of MaxRows rows.
const MaxFileBytes = 512 << 20

// Options are what a deck's file does not say.
type Options = decks.Options

// Read reads a whole deck and gives the events that publish it, parts 1 to n in
// order.
func Read(r io.Reader, opts Options) ([]domain.Event, error) {
	sheet, err := Parse(r, opts)
	if err != nil {
		return nil, err
	}
	return sheet.Events()
}

// Parse reads a whole deck; it is a [decks.Reader]. It holds the deck in memory, up
// to some 300 bytes a row while it reads.
func Parse(r io.Reader, opts Options) (*decks.Sheet, error) {
	if err := opts.Check(); err != nil {
		return nil, err
	}
	in, encoding, err := open(&limited{r: r, left: MaxFileBytes})
	if err != nil {
		return nil, err
	}
	separator, before, err := findHeader(in)
	if err != nil {
		return nil, err
	}
	f := file{csv: csv.NewReader(in), max: MaxRows, charset: encoding, currency: opts.Currency, forced: opts.Currency != "", seen: map[string]string{}}
	f.csv.Comma = separator
	f.csv.ReuseRecord = true
	f.csv.FieldsPerRecord = -1
	if err := f.read(before); err != nil {
		return nil, err
	}
	opts.Currency = f.currency
	sheet := &decks.Sheet{Options: opts, Form: decks.Form{Encoding: encoding.name, Separator: separators[separator], Decimal: markNames[f.decimal]}}
	sheet.Sort(f.rows, f.lines)
	if err := f.unique(sheet); err != nil {
		return nil, err
	}
	sheet.Normalised = f.normalised()
	return sheet, nil
}

// unique drops rows that say again what another said, and refuses those that say
// something else.
func (f *file) unique(s *decks.Sheet) error {
	n := 0
	for i := range s.Rows {
		if n > 0 && s.Rows[n-1].Prefix == s.Rows[i].Prefix {
			if s.Rows[n-1] != s.Rows[i] {
				return fmt.Errorf("line %d: prefix %q: already on line %d, with other terms; a deck has one row for each prefix",
					s.Lines[i], s.Rows[i].Prefix, s.Lines[n-1])
			}
			f.note(notedRepeat, int(s.Lines[i]), Prefix.String(), s.Rows[i].Prefix, fmt.Sprintf("as on line %d", s.Lines[n-1]))
			continue
		}
		s.Rows[n], s.Lines[n] = s.Rows[i], s.Lines[i]
		n++
	}
	s.Rows, s.Lines = s.Rows[:n], s.Lines[:n]
	return nil
}

// A file is one being read.
type file struct {
	csv      *csv.Reader
	max      int // rows
	charset  *charset
	columns  columns
	national bool              // prefixes follow a calling code
	inside   int               // rows whose code begins with its calling code
	coded    int               // rows with a code
	currency domain.Currency   // of the options, else of the first row
	forced   bool              // the options gave the currency
	seen     map[string]string // texts that rows share, so that each is held once

	decimal   byte // the mark of the prices; 0: none has decimals
	decimalAt int  // the line that showed it

	number int    // the line that is read
	column string // the cell's
	list   []string
	rows   []domain.Row
	lines  []int32
	notes  [notedCount]decks.Normalised
}

// noted is a way in which a cell was not taken as it stands.
type noted int

const (
	notedBefore noted = iota
	notedEmpty
	notedCountryCode
	notedEncoding
	notedSign
	notedExcel
	notedList
	notedRange
	notedCode
	notedDecimal
	notedSigned
	notedIncrement
	notedRepeat
	notedCount
)

var notedAs = [notedCount]string{
	notedBefore:      "lines before the header left out",
	notedEmpty:       "rows without anything left out",
	notedCountryCode: "what the column of country codes holds",
	notedEncoding:    "text read as Windows-1252",
	notedSign:        "+ or 00 before a prefix left out",
	notedExcel:       "a prefix as Excel writes it",
	notedList:        "prefixes listed in one cell",
	notedRange:       "ranges of prefixes",
	notedCode:        "calling codes put before codes",
	notedDecimal:     "spelling of numbers",
	notedSigned:      "currency signs left out",
	notedIncrement:   "spelling of increments",
	notedRepeat:      "repeated rows left out",
}

func (f *file) note(what noted, line int, column, from, to string) {
	n := &f.notes[what]
	if n.Count++; n.Count <= decks.MaxExamples {
		n.Examples = append(n.Examples, decks.Example{Line: line, Column: column, From: strings.Clone(from), To: strings.Clone(to)})
	}
}

func (f *file) noteCell(what noted, from, to string) { f.note(what, f.number, f.column, from, to) }

func (f *file) normalised() []decks.Normalised {
	var list []decks.Normalised
	for i := range f.notes {
		if f.notes[i].Count > 0 {
			f.notes[i].What = notedAs[i]
			list = append(list, f.notes[i])
		}
	}
	return list
}

// read reads all records; before is how many there are before the header.
func (f *file) read(before int) error {
	for range before {
		record, err := f.csv.Read()
		if err != nil {
			return f.syntax(err)
		}
		f.number, _ = f.csv.FieldPos(0)
		text, _ := f.charset.text(strings.Join(record, " "), f.number)
		f.note(notedBefore, f.number, "", strings.TrimSpace(text), "")
	}
	if err := f.header(); err != nil {
		return err
	}
	for first := true; ; {
		record, err := f.csv.Read()
		if err == io.EOF {
			break
		}
		if err != nil {
			return f.syntax(err)
		}
		f.number, _ = f.csv.FieldPos(0)
		if empty(record) {
			f.note(notedEmpty, f.number, "", "", "")
			continue
		}
		if first {
			first = false
			err = f.settle(record)
		}
		if err == nil {
			err = f.record(record)
		}
		if err != nil {
			return fmt.Errorf("line %d: %w", f.number, err)
		}
	}
	if len(f.rows) == 0 {
		return errors.New("the file has a header and no rows")
	}
	if f.national && f.inside == f.coded && f.coded > 0 {
		return fmt.Errorf("every %s begins with its %s: they may be whole prefixes; if so, rename the column %q to prefix, else write whole prefixes",
			f.columns.names[Prefix], f.columns.names[CallingCode], f.columns.names[Prefix])
	}
	return nil
}

func empty(record []string) bool {
	for _, cell := range record {
		if strings.TrimSpace(cell) != "" {
			return false
		}
	}
	return true
}

func (f *file) header() error {
	header, err := f.csv.Read()
	if err != nil {
		return f.syntax(err)
	}
	f.number, _ = f.csv.FieldPos(0)
	header = slices.Clone(header)
	for i := range header {
		if header[i], err = f.charset.text(header[i], f.number); err != nil {
			return fmt.Errorf("line %d: the header's %.150q: %w", f.number, header[i], err)
		}
	}
	if f.columns, err = readHeader(header); err == nil {
		err = f.columns.complete(header, !f.forced)
	}
	if err != nil {
		return fmt.Errorf("line %d: %w", f.number, err)
	}
	return nil
}

// settle says by the first row what a column of country codes has, and with that
// what the prefixes are.
func (f *file) settle(record []string) error {
	cols := &f.columns
	if at := cols.at[eitherCode]; at >= 0 && at < len(record) {
		cell, c := strings.TrimSpace(record[at]), Country
		if cell != "" && strings.Trim(cell, "+0123456789.") == "" {
			c = CallingCode
		}
		if err := cols.set(c, at, cols.names[eitherCode]); err != nil {
			return err
		}
		if cols.at[Country] < 0 {
			return fmt.Errorf("%s %.150q: is a calling code, and the header has no column %s", cols.names[eitherCode], cell, Country)
		}
		f.note(notedCountryCode, f.number, cols.names[eitherCode], cell, c.String())
	}
	f.national = cols.national()
	return nil
}

// syntax says what is wrong with the file as CSV.
func (f *file) syntax(err error) error {
	var bad *csv.ParseError
	switch {
	case errors.Is(err, io.EOF):
		return errors.New("the file is empty; its first line names the columns")
	case errors.As(err, &bad) && bad.StartLine != bad.Line:
		return fmt.Errorf("line %d: %w (in the row that begins on line %d)", bad.Line, bad.Err, bad.StartLine)
	case errors.As(err, &bad):
		return fmt.Errorf("line %d: %w", bad.Line, bad.Err)
	}
	return err
}

// record takes one record in: a row for each of its prefixes.
func (f *file) record(record []string) error {
	if len(record) < f.columns.width || len(record) > f.columns.width && !empty(record[f.columns.width:]) {
		return fmt.Errorf("has %d cells and the header %d; a cell with the separator in it, such as a decimal comma, must be quoted", len(record), f.columns.width)
	}
	row, err := f.row(record)
	if err != nil {
		return err
	}
	if err := f.room(0); err != nil {
		return err
	}
	for _, prefix := range f.list {
		row.Prefix = prefix
		f.rows = append(f.rows, row)
		f.lines = append(f.lines, int32(f.number))
	}
	return nil
}

// row reads all cells but the prefixes, which go into f.list.
func (f *file) row(record []string) (row domain.Row, err error) {
	read := func(c Column, into func(string) error) {
		at := f.columns.at[c]
		if err != nil || at < 0 {
			return
		}
		f.column = f.columns.names[c]
		value := record[at]
		text, e := f.charset.text(value, f.number)
		if e == nil {
			if len(text) != len(value) && f.charset.name == windows1252 {
				quoted := strconv.Quote(value) // its bytes are no text
				f.noteCell(notedEncoding, quoted[1:len(quoted)-1], text)
			}
			value = strings.TrimSpace(text)
			e = into(value)
		}
		if e != nil {
			err = fmt.Errorf("%s %.150q: %w", f.column, value, e)
		}
	}
	code := ""
	read(CallingCode, func(s string) (e error) { code, e = callingCode(s); return })
	read(Prefix, func(s string) error { return f.prefixCell(s, code) })
	read(Destination, func(s string) (e error) { row.Name, e = f.text(s); return })
	read(Country, func(s string) (e error) { row.Country, e = f.country(s); return })
	read(Type, func(s string) (e error) { row.RowType, e = f.text(s); return })
	read(Currency, f.sameCurrency) // before prices, whose signs are compared with it
	read(Rate, func(s string) (e error) { row.Price, e = f.price(s); return })
	read(ConnectFee, func(s string) (e error) {
		if s != "" {
			row.ConnectFee, e = f.price(s)
		}
		return
	})
	row.Increment = domain.DefaultIncrement
	read(Increment, func(s string) (e error) {
		if s != "" {
			row.Increment, e = f.increment(s)
		}
		return
	})
	read(First, func(s string) error { return f.seconds(s, &row.Increment.First) })
	read(Step, func(s string) error { return f.seconds(s, &row.Increment.Step) })
	return row, err
}

// prefixCell reads the cell of the prefixes, beside the calling code of its row if
// there is one.
func (f *file) prefixCell(cell, code string) error {
	if code == "" || !f.national {
		if err := f.prefixes(cell, ""); err != nil {
			return err
		}
		for _, p := range f.list {
			if code != "" && !strings.HasPrefix(p, code) {
				return fmt.Errorf("does not begin with the row's calling code %s; rename the column to code if it has only what follows", code)
			}
		}
		return nil
	}
	if cell == "" {
		f.list = append(f.list[:0], code)
		return nil
	}
	if f.coded++; strings.HasPrefix(cell, code) {
		f.inside++
	}
	return f.prefixes(cell, code)
}

// seconds reads one of two columns of increments.
func (f *file) seconds(s string, into *int32) error {
	if s == "" {
		return nil
	}
	i, err := domain.ParseIncrement(s + "/" + s)
	if err != nil {
		return errors.New("must be seconds from 1 to 86400, such as 60")
	}
	*into = i.First
	return nil
}

func (f *file) sameCurrency(s string) error {
	if f.forced {
		return nil
	}
	if s == string(f.currency) && s != "" {
		return nil
	}
	c, err := domain.ParseCurrency(strings.ToUpper(s))
	if err != nil {
		return err
	}
	if f.currency == "" {
		f.currency = domain.Currency(strings.Clone(string(c)))
	}
	if c != f.currency {
		return fmt.Errorf("the rows above are in %s; a deck has one currency", f.currency)
	}
	return nil
}

// text is a checked text, shared with the rows that had it before. What the csv
// reader returns is a slice of its whole record and would keep that alive.
func (f *file) text(s string) (string, error) {
	if held, ok := f.seen[s]; ok {
		return held, nil
	}
	if s == "" {
		return "", errors.New("must not be empty")
	}
	if len(s) > domain.MaxNameBytes {
		return "", fmt.Errorf("must be at most %d bytes", domain.MaxNameBytes)
	}
	if strings.ContainsFunc(s, unicode.IsControl) {
		return "", errors.New("must not contain control characters")
	}
	s = strings.Clone(s)
	f.seen[s] = s
	return s, nil
}

func (f *file) country(s string) (string, error) {
	if held, ok := f.seen[s]; ok && len(s) == 2 && isUpper(s) {
		return held, nil
	}
	s = strings.ToUpper(s)
	if len(s) != 2 || !isUpper(s) {
		return "", errors.New("must be two letters of ISO 3166-1, such as IT")
	}
	return f.text(s)
}

func isUpper(s string) bool { return strings.Trim(s, "ABCDEFGHIJKLMNOPQRSTUVWXYZ") == "" }

// limited refuses what is longer than MaxFileBytes, where an io.LimitReader
// would cut it short in silence.
type limited struct {
	r    io.Reader
	left int64
}

func (l *limited) Read(p []byte) (int, error) {
	if l.left <= 0 {
		return 0, fmt.Errorf("the file has more than %d bytes", int64(MaxFileBytes))
	}
	n, err := l.r.Read(p[:min(int64(len(p)), l.left)])
	l.left -= int64(n)
	return n, err
}
