package domain

import (
	"cmp"
	"iter"
	"maps"
	"slices"
)

// A DeckVersion is what was published of a version of a deck. The caller must not
// change it.
type DeckVersion struct {
	Deck, Version string
	Own           bool // the tenant's; else everybody's, of the catalogue
	EffectiveFrom Instant
	Currency      Currency
	Rows          int
	Parts         []*Deck // by part
	State         DeckState
}

// DeckState says whether a version can be in force.
type DeckState string

// Deck states.
const (
	DeckValid         DeckState = "valid"
	DeckIncomplete    DeckState = "incomplete"     // a part is missing
	DeckInvalid       DeckState = "invalid"        // it contradicts itself
	DeckOtherCurrency DeckState = "other_currency" // a deck keeps that of its first version
)

// Decks are the versions of the decks that can price a tenant's calls, by deck,
// then by when they take effect: its own, and those of the catalogue of which it
// has none of that name.
func (l *Ledger) Decks(tenant string) []DeckVersion {
	histories := maps.Clone(l.catalog.decks)
	own := map[string]bool{}
	if a := l.accounts[tenant]; a != nil && tenant != CatalogTenant {
		for name, h := range a.own.decks {
			histories[name], own[name] = h, true
		}
	}
	var all []DeckVersion
	for _, name := range slices.Sorted(maps.Keys(histories)) {
		for _, v := range histories[name].all() {
			v.Own = own[name] || tenant == CatalogTenant
			all = append(all, v)
		}
	}
	return all
}

// all are the versions published, whatever became of them.
func (h *deckHistory) all() []DeckVersion {
	valid := map[string]bool{}
	for _, v := range h.versions() {
		valid[v.version] = true
	}
	var list []DeckVersion
	for version, parts := range h.parts {
		first := parts[0]
		v := DeckVersion{
			Deck: first.Deck, Version: version, EffectiveFrom: first.EffectiveFrom, Currency: first.Currency,
			Parts: slices.SortedStableFunc(slices.Values(parts), func(a, b *Deck) int { return cmp.Compare(a.Part, b.Part) }),
		}
		for _, p := range parts {
			v.Rows += len(p.Rows)
		}
		switch {
		case valid[version]:
			v.State = DeckValid
		case h.tables[version] != nil:
			v.State = DeckOtherCurrency
		case len(parts) < first.Parts:
			v.State = DeckIncomplete
		default:
			v.State = DeckInvalid
		}
		list = append(list, v)
	}
	slices.SortFunc(list, func(a, b DeckVersion) int {
		return cmp.Or(cmp.Compare(a.EffectiveFrom, b.EffectiveFrom), cmp.Compare(a.Version, b.Version))
	})
	return list
}

// DeckAt is the version of a deck in force at t for a tenant; false: none is.
func (l *Ledger) DeckAt(tenant, deck string, t Instant) (DeckVersion, bool) {
	var found DeckVersion
	ok := false
	for _, v := range l.Decks(tenant) {
		if v.Deck == deck && v.State == DeckValid && v.EffectiveFrom <= t {
			found, ok = v, true
		}
	}
	return found, ok
}

// WithdrawDecks forgets the versions of a deck that take effect from an instant on
// and before another: of a ledger of one's own, to ask what another deck would
// have made of the time between.
func (l *Ledger) WithdrawDecks(tenant, deck string, from, to Instant) {
	withdraw := func(p *publications) {
		h := p.decks[deck]
		if h == nil {
			return
		}
		for version, parts := range h.parts {
			if at := parts[0].EffectiveFrom; from <= at && at < to {
				delete(h.parts, version)
				delete(h.tables, version)
				h.fresh = false
			}
		}
		if len(h.parts) == 0 {
			delete(p.decks, deck)
		}
	}
	if tenant == CatalogTenant {
		withdraw(&l.catalog)
		l.revision++
		return
	}
	a := l.account(tenant)
	withdraw(&a.own)
	a.revision++
}

// An Overage is a call that costs something.
type Overage struct {
	At            Instant
	Called        Number
	Country, Plan string // of the invoice
	Line          *Line
	Seconds       int64
}

// Overages are the calls of the month that stand on its invoices, in no order.
func (l *Ledger) Overages(tenant string, id Month) iter.Seq[Overage] {
	return func(yield func(Overage) bool) {
		a := l.accounts[tenant]
		if a == nil {
			return
		}
		a.resolve()
		m := a.months[id]
		if m == nil {
			return
		}
		m.refresh()
		splits := m.splits()
		for i := range splits {
			s := &splits[i]
			if s.over == 0 {
				continue
			}
			c := m.calls.at(uint32(i))
			if !yield(Overage{c.at, c.called(), s.pool.key.country, s.pool.key.plan, s.line, int64(s.over)}) {
				return
			}
		}
	}
}
