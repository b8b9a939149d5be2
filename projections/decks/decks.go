// Package decks judges a version of a rate deck before it prices anything: what is
// odd in it ([Lint]), what it changes for every number ([Compare]), and what it
// would have made of a month ([ImpactOf]).
//
// A version is a [Sheet]: read from a file by a [Reader], or taken from the book.
// Sheets are sorted by prefix, so that all that is asked of them are walks over
// two lists; half a million rows take some hundred milliseconds. Nothing here
// reads a clock or changes what it is given. TestDiffIsWhatNumbersSee compares the
// walks with looking numbers up one by one.
package decks

import (
	"cmp"
	"io"
	"slices"
	"strings"

	"tollbook/domain"
)

// Options are what a deck's file does not say.
type Options struct {
	Tenant        string          // who is billed by it; required
	Deck          string          // the deck's name, such as standard; required
	Version       string          // such as 2026-10; required
	EffectiveFrom domain.Instant  // in force from; required
	Currency      domain.Currency // stands above a currency column; required where there is none
	Source        string          // of the events; DefaultSource when empty
	Time          domain.Instant  // when it is published: the events' time; required
}

// DefaultSource is the source of the events where Options names none.
const DefaultSource = "tollbook/import-deck"

// A Reader reads a whole deck from a file, or says in one line what is wrong with
// it: line, column, value and what to do.
type Reader func(io.Reader, Options) (*Sheet, error)

// A Sheet is a version of a deck with all its rows.
type Sheet struct {
	Options              // Currency is the deck's
	Rows    []domain.Row // sorted by prefix, each prefix once
	Lines   []int32      // of the file, by row; nil: the rows are from the book

	// Of a file: how it was written, and what was not taken as it stood there.
	Form       Form
	Normalised []Normalised
}

// A Form is how a file is written.
type Form struct {
	Encoding  string `json:"encoding"`  // UTF-8, UTF-16 or Windows-1252
	Separator string `json:"separator"` // comma, semicolon, tab or pipe
	Decimal   string `json:"decimal"`   // point, comma, or none where no price has decimals
}

// Normalised says in what way cells were not taken as they stand.
type Normalised struct {
	What     string    `json:"what"`
	Count    int       `json:"count"`
	Examples []Example `json:"examples"` // the first of them
}

// MaxExamples is how many examples a Normalised has.
const MaxExamples = 3

// An Example is one cell as it stands and as it was taken.
type Example struct {
	Line   int    `json:"line"`
	Column string `json:"column,omitzero"`
	From   string `json:"from"`
	To     string `json:"to"`
}

// SheetOf is a version from the book.
func SheetOf(tenant string, v *domain.DeckVersion) *Sheet {
	s := &Sheet{Options: Options{
		Tenant: tenant, Deck: v.Deck, Version: v.Version, EffectiveFrom: v.EffectiveFrom, Currency: v.Currency,
	}}
	rows := make([]domain.Row, 0, v.Rows)
	for _, part := range v.Parts {
		rows = append(rows, part.Rows...)
	}
	s.Sort(rows, nil)
	return s
}

// Sort takes rows in any order. Those of one prefix stay side by side in the order
// of their lines.
func (s *Sheet) Sort(rows []domain.Row, lines []int32) {
	type place struct {
		key uint64
		row int32
	}
	order := make([]place, len(rows))
	sorted := true
	for i := range rows {
		order[i] = place{key(rows[i].Prefix), int32(i)}
		sorted = sorted && (i == 0 || order[i-1].key <= order[i].key)
	}
	if sorted {
		s.Rows, s.Lines = rows, lines
		return
	}
	slices.SortFunc(order, func(a, b place) int { return cmp.Or(cmp.Compare(a.key, b.key), cmp.Compare(a.row, b.row)) })
	s.Rows = make([]domain.Row, len(rows))
	if lines != nil {
		s.Lines = make([]int32, len(rows))
	}
	for i, p := range order {
		s.Rows[i] = rows[p.row]
		if lines != nil {
			s.Lines[i] = lines[p.row]
		}
	}
}

// line is where a row stands in the file; 0: the rows are from the book.
func (s *Sheet) line(row int) int {
	if s == nil || s.Lines == nil {
		return 0
	}
	return int(s.Lines[row])
}

// short is the mark of a short number's key.
const short = 1 << 62

// key orders prefixes as their texts do: 3, 39, 391, 4, and short numbers behind
// all of them. Each digit is a place of base 11, in which 0 is the end.
func key(prefix string) uint64 {
	digits, isShort := strings.CutPrefix(prefix, "=")
	var k uint64
	for i := range domain.MaxDigits {
		k *= 11
		if i < len(digits) {
			k += uint64(digits[i]-'0') + 1
		}
	}
	if isShort {
		k |= short
	}
	return k
}

// holds reports whether every number of the prefix is one of the shorter, or equal, prefix.
func holds(shorter, prefix string) bool {
	return shorter == prefix || strings.HasPrefix(prefix, shorter) && shorter[0] != '='
}

// A stack is the rows whose prefixes hold the one a walk is at, the longest last.
type stack struct {
	sheet *Sheet
	rows  []int32
	next  int
}

// to moves the walk to a prefix, which is not before the one it was at, and
// returns the row that prices its numbers that no longer prefix has; -1: none.
func (s *stack) to(prefix string) int {
	if s.sheet == nil {
		return -1
	}
	s.leave(prefix)
	for s.next < len(s.sheet.Rows) && s.sheet.Rows[s.next].Prefix <= prefix {
		s.leave(s.sheet.Rows[s.next].Prefix)
		s.rows = append(s.rows, int32(s.next))
		s.next++
	}
	s.leave(prefix)
	if len(s.rows) == 0 {
		return -1
	}
	return int(s.rows[len(s.rows)-1])
}

func (s *stack) leave(prefix string) {
	for n := len(s.rows); n > 0 && !holds(s.sheet.Rows[s.rows[n-1]].Prefix, prefix); n-- {
		s.rows = s.rows[:n-1]
	}
}

// An index finds the row that prices a number.
type index struct {
	sheet *Sheet
	rows  map[string]int32
}

func newIndex(s *Sheet) *index {
	x := &index{sheet: s, rows: map[string]int32{}}
	if s == nil {
		return x
	}
	x.rows = make(map[string]int32, len(s.Rows))
	for i := range s.Rows {
		x.rows[s.Rows[i].Prefix] = int32(i)
	}
	return x
}

// find is the row that prices a number, given as its digits, or as = and those of
// a short one (R6.3); nil: none does.
func (x *index) find(number []byte) *domain.Row {
	least := 1
	if len(number) > 0 && number[0] == '=' {
		least = len(number)
	}
	for n := len(number); n >= least; n-- {
		if row, ok := x.rows[string(number[:n])]; ok {
			return &x.sheet.Rows[row]
		}
	}
	return nil
}
