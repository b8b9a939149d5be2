package block

import (
	"fmt"
	"strings"

	"tollbook/domain"
)

// The tables of symbols. What identifies a person is in one of its own.
const (
	common   = iota // tenants, sources, kinds
	personal        // users, and the users' own numbers
	tables
)

// Limits say when a writer starts a new generation of symbols. They bound the
// memory of writer and reader, and how far back a reader of one block must
// begin; they are no part of the format.
type Limits struct {
	Symbols int // at most and by default 1<<20
	Bytes   int // of text; at most and by default 64 MiB
}

// DefaultLimits leave room for the symbols of one more block below MaxSymbols
// and MaxSymbolBytes.
var DefaultLimits = Limits{Symbols: 1 << 20, Bytes: 64 << 20}

func (l Limits) reached(symbols, bytes int) bool {
	d := DefaultLimits
	if l.Symbols > 0 {
		d.Symbols = min(d.Symbols, l.Symbols)
	}
	if l.Bytes > 0 {
		d.Bytes = min(d.Bytes, l.Bytes)
	}
	return symbols >= d.Symbols || bytes >= d.Bytes
}

// A symbol is a text, or one of a user's own numbers.
type symbol struct {
	text     string
	number   domain.Number
	isNumber bool
}

// Symbols are the strings of a book's generation of blocks by their ordinal. The
// zero value is new: what it encodes or decodes first must start a generation,
// which every first block of an encoder does.
//
// Symbols only grow, or begin anew with a generation. They are not safe for use
// by several goroutines at once: give each its own [Symbols.Clone].
type Symbols struct {
	// Limits are the writer's; zero fields mean DefaultLimits.
	Limits Limits

	from  uint64 // the block the generation starts at; 0: new
	next  uint64 // the block the symbols stand before
	table [tables][]symbol
	bytes int    // text of all symbols
	index *index // nil until Encode needs it
}

// index finds the ordinal of a symbol.
type index struct {
	common map[string]uint32
	user   map[string]uint32
	number map[domain.Number]uint32
}

func newIndex(size int) *index {
	return &index{
		common: make(map[string]uint32),
		user:   make(map[string]uint32, size),
		number: make(map[domain.Number]uint32, size),
	}
}

func (x *index) add(table int, s symbol, ordinal uint32) {
	switch {
	case table == common:
		x.common[s.text] = ordinal
	case s.isNumber:
		x.number[s.number] = ordinal
	default:
		x.user[s.text] = ordinal
	}
}

// From is the block the generation starts at, 0 when s is new.
func (s *Symbols) From() uint64 { return s.from }

// Next is the block s stands before, 0 when s is new.
func (s *Symbols) Next() uint64 { return s.next }

// Len is how many symbols there are.
func (s *Symbols) Len() int { return len(s.table[common]) + len(s.table[personal]) }

// Clone is a copy for another goroutine to read blocks with. It shares the text
// and costs nothing until either of the two grows.
func (s *Symbols) Clone() *Symbols {
	c := &Symbols{Limits: s.Limits, from: s.from, next: s.next, bytes: s.bytes}
	for t, list := range s.table {
		c.table[t] = list[:len(list):len(list)]
	}
	return c
}

// load is how s stands to a block.
type load int

const (
	loadNothing load = iota // the block's symbols are in s already
	loadNext                // s stands exactly before the block
	loadFirst               // the block starts a generation
)

// stands says what Decode has to do with the symbols of a block.
func (s *Symbols) stands(f *frame) (load, error) {
	after := s.from == f.symbolsFrom && s.next > f.Number
	switch {
	case after:
		for t := range s.table {
			if uint64(len(s.table[t])) < uint64(f.before[t])+uint64(f.added[t]) {
				return 0, fmt.Errorf("%w: block %d has more than there are: they are of another book", ErrSymbols, f.Number)
			}
		}
		return loadNothing, nil
	case f.symbolsFrom == f.Number && (s.next == 0 || s.next == f.Number):
		return loadFirst, nil
	case s.from != f.symbolsFrom || s.next != f.Number:
		return 0, fmt.Errorf("%w: block %d needs those of blocks %d to %d, and has those of %d to %d",
			ErrSymbols, f.Number, f.symbolsFrom, f.Number-1, s.from, max(s.next, 1)-1)
	}
	for t := range s.table {
		if len(s.table[t]) != int(f.before[t]) {
			return 0, fmt.Errorf("%w: block %d says %d symbols precede it, there are %d",
				ErrCorrupt, f.Number, f.before[t], len(s.table[t]))
		}
	}
	return loadNext, nil
}

// apply adds the symbols of a block, or starts a generation with them.
func (s *Symbols) apply(number, from uint64, added [tables][]symbol, bytes int) {
	if from == number {
		s.table, s.bytes = [tables][]symbol{}, 0
		if s.index != nil {
			s.index = newIndex(0)
		}
	}
	s.from, s.next = from, number+1
	s.bytes += bytes
	for t, list := range added {
		if s.index != nil {
			for i, sym := range list {
				s.index.add(t, sym, uint32(len(s.table[t])+i))
			}
		}
		s.table[t] = append(s.table[t], list...)
	}
}

// textBytes is what symbols count towards Limits.Bytes.
func textBytes(lists [tables][]symbol) (n int) {
	for _, list := range lists {
		for i := range list {
			n += len(list[i].text)
		}
	}
	return n
}

// Staged are the symbols of a block that was encoded and is not yet known to be
// in the log. Dropping it leaves the Symbols as they were, and the next Encode
// of the same number writes the same symbols again.
type Staged struct {
	of     *Symbols
	number uint64
	from   uint64
	base   [tables]int // symbols of the generation before the block
	added  [tables][]symbol
	bytes  int
	index  index // of added; maps made when first written
}

// stage begins a block: in the current generation, or, when that is full, in a
// new one.
func (s *Symbols) stage(number uint64) (*Staged, error) {
	if s.next != 0 && s.next != number {
		return nil, fmt.Errorf("%w: they stand before block %d, not %d", ErrSymbols, s.next, number)
	}
	st := &Staged{of: s, number: number, from: s.from}
	if s.next == 0 || s.Limits.reached(s.Len(), s.bytes) {
		st.from = number
		return st, nil
	}
	if s.index == nil {
		s.index = newIndex(len(s.table[personal]) / 2)
		for t, list := range s.table {
			for i, sym := range list {
				s.index.add(t, sym, uint32(i))
			}
		}
	}
	for t, list := range s.table {
		st.base[t] = len(list)
	}
	return st, nil
}

// Commit makes the block's symbols known to the blocks after it. Call it once
// the block is in the log. It panics when another block was committed or decoded
// meanwhile, which would break every block after it.
func (st *Staged) Commit() {
	if st.of.next != 0 && st.of.next != st.number {
		panic(fmt.Sprintf("block: symbols of block %d committed where those of %d are due", st.number, st.of.next))
	}
	st.of.apply(st.number, st.from, st.added, st.bytes)
}

// old is the index of the generation's earlier blocks, nil when there are none.
func (st *Staged) old() *index {
	if st.from == st.number {
		return nil
	}
	return st.of.index
}

func (st *Staged) add(table int, s symbol) uint32 {
	s.text = strings.Clone(s.text) // not the message it is cut from
	ordinal := uint32(st.base[table] + len(st.added[table]))
	st.added[table] = append(st.added[table], s)
	st.bytes += len(s.text)
	return ordinal
}

func (st *Staged) common(text string) int64 {
	if old := st.old(); old != nil {
		if n, ok := old.common[text]; ok {
			return int64(n)
		}
	}
	return int64(ordinal(&st.index.common, text, st, common, symbol{text: text}))
}

func (st *Staged) user(text string) int64 {
	if old := st.old(); old != nil {
		if n, ok := old.user[text]; ok {
			return int64(n)
		}
	}
	return int64(ordinal(&st.index.user, text, st, personal, symbol{text: text}))
}

func (st *Staged) own(n domain.Number) int64 {
	if old := st.old(); old != nil {
		if n, ok := old.number[n]; ok {
			return int64(n)
		}
	}
	return int64(ordinal(&st.index.number, n, st, personal, symbol{number: n, isNumber: true}))
}

// ordinal finds a symbol among those of the block, or adds it.
func ordinal[K comparable](m *map[K]uint32, key K, st *Staged, table int, s symbol) uint32 {
	if n, ok := (*m)[key]; ok {
		return n
	}
	if *m == nil {
		*m = make(map[K]uint32)
	}
	n := st.add(table, s)
	(*m)[key] = n
	return n
}
