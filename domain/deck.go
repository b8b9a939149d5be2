package domain

import (
	"cmp"
	"fmt"
	"maps"
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
	name     string
	version  string
	from     Instant
	currency Currency
	rows     map[prefix]rate
	lengths  []uint8 // of the prefixes there are, longest first
}

// A prefix is leading digits of an E.164 number, or a whole short number.
type prefix struct {
	digits uint64
	len    uint8
	short  bool
}

// A rate is what a row says, with the row's invoice line shared by all rows
// that would stand on the same one.
type rate struct {
	line      *Line
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
	rows := 0
	for _, p := range parts {
		if p.Parts != first.Parts || p.Currency != first.Currency || p.EffectiveFrom != first.EffectiveFrom || seen[p.Part] {
			return nil
		}
		seen[p.Part] = true
		rows += len(p.Rows)
	}
	v := &deckVersion{name: first.Deck, version: first.Version, from: first.EffectiveFrom, currency: first.Currency, rows: make(map[prefix]rate, rows)}
	lines := map[Line]*Line{}
	lengths := map[uint8]bool{}
	for _, p := range parts {
		for i := range p.Rows {
			row := &p.Rows[i]
			key := rowPrefix(row.Prefix)
			if _, twice := v.rows[key]; twice {
				return nil
			}
			line := Line{first.Deck, first.Version, row.Country, row.Name, row.RowType, row.Price, row.ConnectFee, first.Currency}
			shared := lines[line]
			if shared == nil {
				shared = &line
				lines[line] = shared
			}
			free := row.RowType == RowTollFree || row.RowType == RowEmergency || row.RowType == RowOnNet
			v.rows[key] = rate{shared, row.Increment, free}
			if !key.short {
				lengths[key.len] = true
			}
		}
	}
	v.lengths = slices.SortedFunc(maps.Keys(lengths), func(a, b uint8) int { return cmp.Compare(b, a) })
	return v
}

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

// lookup is the row that prices n: the longest prefix of its readable digits,
// or for a short number exactly its own (R6.3).
func (v *deckVersion) lookup(n Number) (rate, bool) {
	if n.Short() {
		r, ok := v.rows[prefix{n.Digits, n.Len, true}]
		return r, ok
	}
	for _, l := range v.lengths {
		if l <= n.Len {
			if r, ok := v.rows[prefix{n.Digits / pow10[n.Len-l], l, false}]; ok {
				return r, true
			}
		}
	}
	return rate{}, false
}

// matches are the rows whose prefix n has, the longest first: the one that
// lookup finds, and those that lost to it.
func (v *deckVersion) matches(n Number) (rows []RowMatch) {
	if n.Short() {
		if r, ok := v.lookup(n); ok {
			rows = append(rows, match(prefix{n.Digits, n.Len, true}, r))
		}
		return rows
	}
	for _, l := range v.lengths {
		if l > n.Len {
			continue
		}
		key := prefix{n.Digits / pow10[n.Len-l], l, false}
		if r, ok := v.rows[key]; ok {
			rows = append(rows, match(key, r))
		}
	}
	return rows
}

func match(key prefix, r rate) RowMatch {
	return RowMatch{Prefix: key.String(), Line: *r.line, Increment: r.increment}
}

// String is the prefix as decks write it.
func (p prefix) String() string {
	text := fmt.Sprintf("%0*d", p.len, p.digits)
	if p.short {
		return "=" + text
	}
	return text
}
