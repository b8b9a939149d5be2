package deckcsv_test

import (
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"tollbook/cmd/tollbook/catalog"
	"tollbook/domain"
	"tollbook/projections/decks"
)

// What is found of the built-in deck, all of it as it was published:
//
//   - The ranges +7 3xx as Kazakhstan's are older than its move to 7 7xx, and 7 840
//     and 7 940 Abkhazia's; numbering plans have them as Russia's.
//   - Ranges of British mobile numbers that are Jersey's, Guernsey's and Man's have
//     the United Kingdom's price, and +33 696 Martinique's.
//   - +1 879 has the United States' price and is Canada's.
//   - +39 30 is no mobile code any more; nothing was lost, though +39 030 is Brescia.
//   - +379 is reserved for the Vatican and not in use.
//   - There is no row 1, nor 7, as countries share them; 33, 244, 255, 262 and 382
//     have longer ones only. Calls to what is between them would be unrated.
//   - Many ranges are no longer, or not yet, in numbering plans.
//
// testdata/builtin.txt lists it, the notes by number.
func TestBuiltinDeck(t *testing.T) {
	ledger := domain.NewLedger()
	for _, e := range catalog.Deck(domain.InstantOf(time.Date(2026, 9, 1, 0, 0, 0, 0, time.UTC))) {
		ledger.Add(&e)
	}
	v, ok := ledger.DeckAt(domain.CatalogTenant, catalog.DeckName, domain.InstantOf(time.Date(2026, 9, 1, 0, 0, 0, 0, time.UTC)))
	if !ok {
		t.Fatal("the built-in deck is not in force")
	}
	report := decks.Lint(decks.SheetOf(domain.CatalogTenant, &v), decks.Terms{Listed: decks.MaxListed})
	var b strings.Builder
	for _, c := range report.Counts {
		fmt.Fprintf(&b, "%d of %s, %s\n", c.Count, c.Code, c.Severity)
	}
	for _, f := range report.Findings {
		if f.Severity != decks.SevereNote {
			fmt.Fprintf(&b, "%s %s: %s\n", f.Code, f.Prefix, f.Text)
		}
	}
	const path = "testdata/builtin.txt"
	if flag.Lookup("update").Value.String() == "true" {
		if err := os.WriteFile(path, []byte(b.String()), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), b.String()); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}
