// Package catalog is the built-in catalogue: calling plans as they are sold, and
// a rate deck as it was published, in the form of events of the tenant catalog.
// README.md beside it names the sources and what they leave open.
//
// The data are embedded, so the events are the same on every machine; only the
// time they are published at is the caller's. Publishing them again is all
// duplicates. TestPlans and TestDeck show what is in them.
package catalog

import (
	"bytes"
	_ "embed"
	"fmt"
	"time"

	"tollbook/cmd/tollbook/deckcsv"
	"tollbook/domain"
)

// Source is the source of the built-in catalogue's events.
const Source = "tollbook/catalog"

// The built-in deck, which all built-in plans name, and the version there is.
const (
	DeckName    = "standard"
	DeckVersion = "2025-10"
)

//go:embed plans.json
var plans []byte

//go:embed deck-usd-2025-10.csv
var deck []byte

// Plans are the built-in plans, every version of each, published at an instant.
// It panics if that is not from [domain.MinInstant] to [domain.MaxInstant].
func Plans(published domain.Instant) []domain.Event {
	events, err := readPlans(bytes.NewReader(plans), domain.CatalogTenant, Source, published, dated)
	if err != nil {
		panic(fmt.Sprintf("built-in plans: %v", err))
	}
	return events
}

// Deck is the built-in deck in US dollars, in force from 1 October 2025 and
// published at an instant. It panics as [Plans] does.
func Deck(published domain.Instant) []domain.Event {
	events, err := deckcsv.Read(bytes.NewReader(deck), deckcsv.Options{
		Tenant:        domain.CatalogTenant,
		Deck:          DeckName,
		Version:       DeckVersion,
		EffectiveFrom: domain.InstantOf(time.Date(2025, time.October, 1, 0, 0, 0, 0, time.UTC)),
		Source:        Source,
		Time:          published,
	})
	if err != nil {
		panic(fmt.Sprintf("built-in deck: %v", err))
	}
	return events
}
