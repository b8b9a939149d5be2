// Package deckcsv reads a rate deck from a CSV file and gives it as
// tollbook.deck.published.v1 events.
//
// The first line names the columns, in any order and in any of their usual
// spellings (see [Columns]); columns that are not listed there are ignored.
//
//	prefix,destination,country,type,rate_per_min,connect_fee,increment,currency
//	39,Italy,IT,landline,0.0160,0,60/60,EUR
//	393,Italy - Mobile,IT,mobile,0.1250,0,60/60,EUR
//	=4242,Directory,IT,special,0.90,0.15,60/60,EUR
//
// Cells are separated by comma, semicolon or tab, whichever the header uses.
// The file is UTF-8, with or without a byte order mark. Prices have a decimal
// point and at most six decimals.
//
// The file is taken whole or not at all: the first cell that breaks a rule is
// an error of one line with the line's number, the column, the value and the
// rule. What is taken becomes parts small enough for one NATS message each,
// and depends on the rows only, not on their order in the file: the same deck
// imported again is the same events under the same ids, so all duplicates.
// TestSameRowsSameEvents shows it.
package deckcsv

import (
	"bufio"
	"bytes"
	"cmp"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"tollbook/domain"
	"tollbook/domain/cloudevents"
)

// MaxRows is the longest deck taken. The longest in trade, with every ported
// range of every country, stay below a million.
const MaxRows = 2_000_000

// MaxFileBytes is the largest file taken: 256 bytes for each of MaxRows rows.
const MaxFileBytes = 512 << 20

// DefaultSource is the source of the events where Options names none.
const DefaultSource = "tollbook/import-deck"

// Options are what a deck's file does not say.
type Options struct {
	Tenant        string          // who is billed by it; required
	Deck          string          // the deck's name, such as standard; required
	Version       string          // such as 2026-10; required
	EffectiveFrom domain.Instant  // in force from; required
	Currency      domain.Currency // stands above a currency column; required where there is none
	Source        string          // DefaultSource when empty
	Time          domain.Instant  // when it is published: the events' time; required
}

// check refuses what would make every event of the deck refused, before the
// file is read: it makes one and has it decoded.
func (o Options) check() error {
	o.Currency = cmp.Or(o.Currency, domain.NoCurrency)
	e := o.event(domain.MaxDeckParts, domain.MaxDeckParts, []domain.Row{
		{Prefix: "39", Country: "IT", Name: "Italy", RowType: "landline", Increment: domain.DefaultIncrement},
	})
	if over := len(e.ID) - domain.MaxIDBytes; over > 0 {
		return fmt.Errorf("deck %.150q, version %.150q: shorten them by %d bytes; both are part of the events' ids, and an id has at most %d",
			o.Deck, o.Version, over, domain.MaxIDBytes)
	}
	if _, err := cloudevents.Decode(cloudevents.Append(nil, &e), ""); err != nil {
		return fmt.Errorf("the deck's events would be refused: %w", err)
	}
	return nil
}

// A line is a row and where it stood.
type line struct {
	domain.Row
	number int
}

// Read reads a whole deck and gives the events that publish it, parts 1 to n in
// order. It holds the deck in memory, up to some 300 bytes a row while it reads.
func Read(r io.Reader, opts Options) ([]domain.Event, error) {
	opts.Source = cmp.Or(opts.Source, DefaultSource)
	if err := opts.check(); err != nil {
		return nil, err
	}
	in := bufio.NewReaderSize(&limited{r: r, left: MaxFileBytes}, headerBytes)
	separator, err := detect(in)
	if err != nil {
		return nil, err
	}
	f := file{csv: csv.NewReader(in), max: MaxRows, currency: opts.Currency, forced: opts.Currency != "", seen: map[string]string{}}
	f.csv.Comma = separator
	f.csv.ReuseRecord = true
	lines, err := f.lines()
	if err != nil {
		return nil, err
	}
	opts.Currency = f.currency
	slices.SortFunc(lines, func(a, b line) int {
		return cmp.Or(strings.Compare(a.Prefix, b.Prefix), cmp.Compare(a.number, b.number))
	})
	rows := make([]domain.Row, len(lines))
	for i, l := range lines {
		if i > 0 && l.Prefix == lines[i-1].Prefix {
			return nil, fmt.Errorf("line %d: prefix %q: already on line %d; a deck has one row for each prefix",
				l.number, l.Prefix, lines[i-1].number)
		}
		rows[i] = l.Row
	}
	return split(rows, opts)
}

// A file is one being read.
type file struct {
	csv      *csv.Reader
	max      int // rows
	columns  columns
	currency domain.Currency   // of the options, else of the first row
	forced   bool              // the options gave the currency
	seen     map[string]string // texts that rows share, so that each is held once
}

func (f *file) lines() ([]line, error) {
	header, err := f.csv.Read()
	if err != nil {
		return nil, f.syntax(err)
	}
	if f.columns, err = readHeader(header, !f.forced); err != nil {
		number, _ := f.csv.FieldPos(0)
		return nil, fmt.Errorf("line %d: %w", number, err)
	}
	var lines []line
	for {
		record, err := f.csv.Read()
		if err == io.EOF {
			break
		}
		if err != nil {
			return nil, f.syntax(err)
		}
		number, _ := f.csv.FieldPos(0)
		if len(lines) == f.max {
			return nil, fmt.Errorf("line %d: the deck has more than %d rows; split it into decks of fewer", number, f.max)
		}
		row, err := f.row(record)
		if err != nil {
			return nil, fmt.Errorf("line %d: %w", number, err)
		}
		lines = append(lines, line{row, number})
	}
	if len(lines) == 0 {
		return nil, errors.New("the file has a header and no rows")
	}
	return lines, nil
}

// syntax says what is wrong with the file as CSV.
func (f *file) syntax(err error) error {
	var bad *csv.ParseError
	switch {
	case errors.Is(err, io.EOF):
		return errors.New("the file is empty; its first line names the columns")
	case errors.As(err, &bad) && errors.Is(bad.Err, csv.ErrFieldCount):
		return fmt.Errorf("line %d: has more or fewer cells than the header", bad.Line)
	case errors.As(err, &bad) && bad.StartLine != bad.Line:
		return fmt.Errorf("line %d: %w (in the row that begins on line %d)", bad.Line, bad.Err, bad.StartLine)
	case errors.As(err, &bad):
		return fmt.Errorf("line %d: %w", bad.Line, bad.Err)
	}
	return err
}

func (f *file) row(record []string) (row domain.Row, err error) {
	read := func(c Column, into func(string) error) {
		if err != nil {
			return
		}
		value, ok := f.columns.cell(record, c)
		if !ok {
			return
		}
		if e := into(value); e != nil {
			err = fmt.Errorf("%s %.150q: %w", f.columns.names[c], value, e)
		}
	}
	row.Increment = domain.DefaultIncrement
	read(Prefix, func(s string) (e error) { row.Prefix, e = parsePrefix(s); return })
	read(Destination, func(s string) (e error) { row.Name, e = f.text(s); return })
	read(Country, func(s string) (e error) { row.Country, e = f.country(s); return })
	read(Type, func(s string) (e error) { row.RowType, e = f.text(s); return })
	read(Rate, func(s string) (e error) { row.Price, e = parsePrice(s); return })
	read(ConnectFee, func(s string) (e error) {
		if s != "" {
			row.ConnectFee, e = parsePrice(s)
		}
		return
	})
	read(Increment, func(s string) (e error) {
		if s != "" {
			row.Increment, e = domain.ParseIncrement(s)
		}
		return
	})
	read(Currency, f.sameCurrency)
	return row, err
}

func (f *file) sameCurrency(s string) error {
	if f.forced {
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
	if err := checkText(s); err != nil {
		return "", err
	}
	s = strings.Clone(s)
	f.seen[s] = s
	return s, nil
}

func (f *file) country(s string) (string, error) {
	s = strings.ToUpper(s)
	if len(s) != 2 || s[0] < 'A' || s[0] > 'Z' || s[1] < 'A' || s[1] > 'Z' {
		return "", errors.New("must be two letters of ISO 3166-1, such as IT")
	}
	return f.text(s)
}

func checkText(s string) error {
	switch {
	case len(s) > domain.MaxNameBytes:
		return fmt.Errorf("must be at most %d bytes", domain.MaxNameBytes)
	case !utf8.ValidString(s):
		return errors.New("must be UTF-8")
	case strings.ContainsFunc(s, unicode.IsControl):
		return errors.New("must not contain control characters")
	}
	return nil
}

// Limits of a prefix, in digits. No country code of E.164 begins with 0.
const (
	maxPrefixDigits = domain.MaxDigits
	minShortDigits  = 2
	maxShortDigits  = 6
)

var errPrefix = errors.New("must be 1 to 15 leading digits of an E.164 number (no country code begins with 0), or = and the 2 to 6 digits of a short number")

// parsePrefix reads 39, +39 or =4242.
func parsePrefix(s string) (string, error) {
	digits, short := strings.CutPrefix(s, "=")
	least, most := minShortDigits, maxShortDigits
	if !short {
		digits = strings.TrimPrefix(s, "+")
		least, most = 1, maxPrefixDigits
	}
	if len(digits) < least || len(digits) > most || strings.Trim(digits, "0123456789") != "" || !short && digits[0] == '0' {
		return "", errPrefix
	}
	return strings.Clone(strings.TrimPrefix(s, "+")), nil
}

var errPrice = errors.New("must be a decimal from 0 to 1000000 with a point and at most six decimals, such as 0.0160")

func parsePrice(s string) (domain.Micros, error) {
	m, err := domain.ParseMicros(s)
	if err != nil {
		return 0, errPrice
	}
	return m, nil
}

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

// headerBytes is how much of the file the header is looked for in.
const headerBytes = 64 << 10

// detect skips a byte order mark and tells the separator by which the header
// has most of; a header of one column has none, and is refused for the columns
// it misses.
func detect(in *bufio.Reader) (rune, error) {
	start, err := in.Peek(headerBytes)
	if err != nil && err != io.EOF {
		return 0, err
	}
	switch {
	case bytes.HasPrefix(start, []byte("\xef\xbb\xbf")):
		start = start[3:]
		if _, err := in.Discard(3); err != nil {
			return 0, err
		}
	case bytes.HasPrefix(start, []byte("\xff\xfe")), bytes.HasPrefix(start, []byte("\xfe\xff")):
		return 0, errors.New("the file is UTF-16; save it as UTF-8")
	}
	header, _, _ := bytes.Cut(bytes.TrimLeft(start, "\r\n"), []byte("\n"))
	best := ','
	for _, c := range ";\t" {
		if bytes.Count(header, []byte(string(c))) > bytes.Count(header, []byte(string(best))) {
			best = c
		}
	}
	return best, nil
}
