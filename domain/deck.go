package domain

import (
	"cmp"
	"fmt"
	"slices"
)

// A deckHistory is every part ever published of the versions of one deck.
type deckHistory struct {
	parts  map[string][]*Deck // by version
	fresh  bool               // versions below is what parts makes
	valid  []*deckVersion     // by (effective_from, version)
	tables map[string]*deckVersion
}

func (h *deckHistory) add(part *Deck) {
	if h.parts == nil {
		h.parts, h.tables = map[string][]*Deck{}, map[string]*deckVersion{}
	}
	h.parts[part.Version] = append(h.parts[part.Version], part)
	delete(h.tables, part.Version)
	h.fresh = false
}

// versions are those that can be in force: all parts in, valid as a whole, and
// of the currency of the first of them.
func (h *deckHistory) versions() []*deckVersion {
	if h == nil || h.fresh {
		if h == nil {
			return nil
		}
		return h.valid
	}
	h.valid = h.valid[:0:0]
	for version, parts := range h.parts {
		table, built := h.tables[version]
		if !built {
			table = newDeckVersion(parts)
			h.tables[version] = table
		}
		if table != nil {
			h.valid = append(h.valid, table)
		}
	}
	slices.SortFunc(h.valid, func(a, b *deckVersion) int {
		return cmp.Or(cmp.Compare(a.from, b.from), cmp.Compare(a.version, b.version))
	})
	if len(h.valid) > 0 {
		currency := h.valid[0].currency
		h.valid = slices.DeleteFunc(h.valid, func(v *deckVersion) bool { return v.currency != currency })
	}
	h.fresh = true
	return h.valid
}

// currency is the deck's, which never changes; false while no version is valid.
func (h *deckHistory) currency() (Currency, bool) {
	if v := h.versions(); len(v) > 0 {
		return v[0].currency, true
	}
	return "", false
}

// at is the version in force at t, or nil.
func (h *deckHistory) at(t Instant) *deckVersion {
	v := h.versions()
	for i := len(v) - 1; i >= 0; i-- {
		if v[i].from <= t {
			return v[i]
		}
	}
	return nil
}

// A deckVersion answers which row prices a number.
type deckVersion struct {
	name      string
	version   string
	from      Instant
	currency  Currency
	rates     []rate
	lines     []Line   // of the rates, each once
	countries []string // of the lines, each once
	countryOf []uint32 // of each line: which of countries
	prefixes  *prefixes
	shorts    map[uint64]uint32 // of short numbers
}

// A prefix is leading digits of an E.164 number, or a whole short number.
type prefix struct {
	digits uint64
	len    uint8
	short  bool
}

// A rate is what rows say, with the invoice line of all that would stand on the
// same one.
type rate struct {
	line      uint32 // of the version's
	increment Increment
	free      bool
}

// newDeckVersion is the version made of all its parts, or nil while a part is
// missing or because it contradicts itself.
func newDeckVersion(parts []*Deck) *deckVersion {
	first := parts[0]
	if len(parts) != first.Parts {
		return nil
	}
	seen := make(map[int]bool, len(parts))
	total := 0
	for _, p := range parts {
		if p.Parts != first.Parts || p.Currency != first.Currency || p.EffectiveFrom != first.EffectiveFrom || seen[p.Part] {
			return nil
		}
		seen[p.Part] = true
		total += len(p.Rows)
	}
	v := &deckVersion{name: first.Deck, version: first.Version, from: first.EffectiveFrom, currency: first.Currency, shorts: map[uint64]uint32{}}
	rates, lines, countries := map[rate]uint32{}, map[Line]uint32{}, map[string]uint32{}
	long := make([]prefixRow, 0, total)
	for _, p := range parts {
		for i := range p.Rows {
			row := &p.Rows[i]
			line := number(lines, &v.lines, Line{first.Deck, first.Version, row.Country, row.Name, row.RowType, row.Price, row.ConnectFee, first.Currency})
			if int(line) == len(v.countryOf) {
				v.countryOf = append(v.countryOf, number(countries, &v.countries, row.Country))
			}
			free := row.RowType == RowTollFree || row.RowType == RowEmergency || row.RowType == RowOnNet
			r := number(rates, &v.rates, rate{line, row.Increment, free})
			key := rowPrefix(row.Prefix)
			if !key.short {
				long = append(long, prefixRow{key, r})
				continue
			}
			if _, twice := v.shorts[key.shortKey()]; twice {
				return nil
			}
			v.shorts[key.shortKey()] = r
		}
	}
	v.prefixes = newPrefixes(long)
	for i := 1; i < len(long); i++ { // they are sorted now
		if long[i].prefix == long[i-1].prefix {
			return nil
		}
	}
	return v
}

// number is the place of v in a list that has each value once.
func number[V comparable](places map[V]uint32, list *[]V, v V) uint32 {
	i, ok := places[v]
	if !ok {
		i = uint32(len(*list))
		*list = append(*list, v)
		places[v] = i
	}
	return i
}

// shortKey tells 012 from 12.
func (p prefix) shortKey() uint64 { return p.digits<<4 | uint64(p.len) }

func rowPrefix(s string) prefix {
	var p prefix
	if s[0] == '=' {
		p.short = true
		s = s[1:]
	}
	for _, c := range []byte(s) {
		p.digits = p.digits*10 + uint64(c-'0')
		p.len++
	}
	return p
}

// lookup is the rate of the row that prices n: that of the longest prefix of its
// readable digits, or for a short number exactly its own (R6.3).
func (v *deckVersion) lookup(n Number) (*rate, bool) {
	var row uint32
	var ok bool
	if n.Short() {
		row, ok = v.shorts[prefix{n.Digits, n.Len, true}.shortKey()]
	} else {
		row, ok = v.prefixes.longest(n)
	}
	if !ok {
		return nil, false
	}
	return &v.rates[row], true
}

// matches are the rows whose prefix n has, the longest first: the one that
// lookup finds, and those that lost to it.
func (v *deckVersion) matches(n Number) (rows []RowMatch) {
	for length := n.Len; length > 0; length-- {
		part := Number{Digits: n.Digits / pow10[n.Len-length], Len: length, Plus: n.Plus}
		r, ok := v.lookup(part)
		if !ok {
			break
		}
		key := prefix{part.Digits, length, n.Short()}
		if !n.Short() && !v.prefixes.has(key) {
			continue // the row found is of a shorter one
		}
		rows = append(rows, RowMatch{Prefix: key.String(), Line: v.lines[r.line], Increment: r.increment})
		if n.Short() {
			break
		}
	}
	return rows
}

// String is the prefix as decks write it.
func (p prefix) String() string {
	text := fmt.Sprintf("%0*d", p.len, p.digits)
	if p.short {
		return "=" + text
	}
	return text
}
