package decks

import (
	"fmt"

	"tollbook/domain"
)

// TermsOf is what a book knows that a version is judged by. The version in force
// is given as it was published, so that a ledger that somebody else asks too is
// not held up: see [Judgement.Terms].
func TermsOf(l *domain.Ledger, o Options) Judgement {
	var j Judgement
	for _, v := range l.Decks(o.Tenant) {
		if v.Deck == o.Deck {
			j.Known = append(j.Known, v)
		}
	}
	if v, ok := l.DeckAt(o.Tenant, o.Deck, o.EffectiveFrom); ok {
		j.InForce = &v
	}
	billed := []string{o.Tenant}
	if o.Tenant == domain.CatalogTenant {
		billed = l.Tenants()
	}
	for _, tenant := range billed {
		if closed := l.Closings(tenant); len(closed) > 0 {
			if _, to := l.Bounds(tenant, closed[len(closed)-1].Month); to > j.Closed {
				j.Closed, j.Whose = to, tenant
			}
		}
	}
	return j
}

// A Judgement is what a book knows.
type Judgement struct {
	Known   []domain.DeckVersion // of the deck, or of the catalogue's that it would hide
	InForce *domain.DeckVersion  // at the effective date; nil: none
	Closed  domain.Instant       // up to which months are closed; 0: none is
	Whose   string               // of whom
}

// Terms are the judgement as [Lint] takes it.
func (j *Judgement) Terms(o Options, now domain.Instant) Terms {
	t := Terms{Now: now, Book: true, Known: j.Known, Closed: j.Closed, Whose: j.Whose}
	if j.InForce != nil {
		t.InForce = SheetOf(o.Tenant, j.InForce)
	}
	return t
}

// Unpublished are the events of a version that the book has not, where it has
// others of it: parts that are there would be refused with another time.
func (j *Judgement) Unpublished(events []domain.Event) []domain.Event {
	for i := range j.Known {
		v := &j.Known[i]
		if d := events[0].Data.(*domain.Deck); v.Own && v.Version == d.Version {
			return unpublished(events, v)
		}
	}
	return events
}

// Before is what a version is compared with: the named one, or the one in force
// when it takes effect, or where that is itself, the one before; nil: there is none.
func Before(l *domain.Ledger, s *Sheet, version string) (*domain.DeckVersion, error) {
	if version != "" {
		return Find(l, s.Tenant, s.Deck, version, 0)
	}
	var before *domain.DeckVersion
	for _, v := range l.Decks(s.Tenant) {
		if v.Deck == s.Deck && v.State == domain.DeckValid && v.Version != s.Version && v.EffectiveFrom <= s.EffectiveFrom {
			before = &v
		}
	}
	return before, nil
}

// LastFull is the tenant's last month with calls that is over.
func LastFull(l *domain.Ledger, tenant string, now domain.Instant) (domain.Month, error) {
	months := l.Months(tenant)
	for i := len(months) - 1; i >= 0; i-- {
		if _, to := l.Bounds(tenant, months[i]); to <= now {
			return months[i], nil
		}
	}
	return 0, fmt.Errorf("%s has no month with calls that is over; name one", tenant)
}

// Find is a version of a deck; "" is the one in force at an instant.
func Find(l *domain.Ledger, tenant, deck, version string, at domain.Instant) (*domain.DeckVersion, error) {
	if version == "" {
		if v, ok := l.DeckAt(tenant, deck, at); ok {
			return &v, nil
		}
		return nil, fmt.Errorf("no version of deck %q is in force at %s for %s; see 'tollbook deck list'", deck, at, tenant)
	}
	for _, v := range l.Decks(tenant) {
		if v.Deck == deck && v.Version == version {
			return &v, nil
		}
	}
	return nil, fmt.Errorf("%s has no version %q of deck %q; see 'tollbook deck list'", tenant, version, deck)
}
