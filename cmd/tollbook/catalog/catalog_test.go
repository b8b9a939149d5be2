package catalog

import (
	"cmp"
	"flag"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"

	"tollbook/domain"
)

var update = flag.Bool("update", false, "rewrite testdata")

var published = domain.InstantOf(time.Date(2026, 9, 1, 0, 0, 0, 0, time.UTC))

func golden(t *testing.T, path, got string) {
	t.Helper()
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := gocmp.Diff(string(want), got); diff != "" {
		t.Errorf("%s: -want +got:\n%s", path, diff)
	}
}

func TestPlans(t *testing.T) {
	var b strings.Builder
	for i, e := range Plans(published) {
		if e.Tenant != domain.CatalogTenant || e.Source != Source || e.Time != published {
			t.Errorf("%s: of %s, by %s, at %s", e.ID, e.Tenant, e.Source, e.Time)
		}
		if i > 0 {
			b.WriteByte('\n')
		}
		describe(&b, e)
	}
	golden(t, "testdata/plans.txt", b.String())
}

func describe(b *strings.Builder, e domain.Event) {
	p := e.Data.(*domain.Plan)
	fmt.Fprintf(b, "%s\n  %s from %s: %s\n", e.ID, p.Plan, p.EffectiveFrom, p.Name)
	fmt.Fprintf(b, "  %s, pools by %s, kinds %s, linked %t, increment %s, grant %s, deck %s\n",
		p.Family, p.Scope, strings.Join(p.Kinds, " "), p.Linked, p.Increment, p.Grant, p.Deck)
	for _, bucket := range p.Buckets {
		fmt.Fprintf(b, "  bucket %s: %s", bucket.Name, bucket.Zone)
		if len(bucket.Destinations) > 0 {
			fmt.Fprintf(b, ", %d destinations from %s to %s", len(bucket.Destinations), bucket.Destinations[0], bucket.Destinations[len(bucket.Destinations)-1])
		}
		b.WriteByte('\n')
		countries := map[int64][]string{}
		for _, country := range slices.Sorted(maps.Keys(bucket.Minutes)) {
			countries[bucket.Minutes[country]] = append(countries[bucket.Minutes[country]], country)
		}
		for _, minutes := range slices.Sorted(maps.Keys(countries)) {
			fmt.Fprintf(b, "    %d minutes: %s\n", minutes, strings.Join(countries[minutes], " "))
		}
	}
	domestic := map[string][]string{}
	for _, country := range slices.Sorted(maps.Keys(p.Domestic)) {
		list := strings.Join(p.Domestic[country], " ")
		domestic[list] = append(domestic[list], country)
	}
	for _, list := range slices.Sorted(maps.Keys(domestic)) {
		fmt.Fprintf(b, "  domestic in %s: %s\n", strings.Join(domestic[list], " "), cmp.Or(list, "nothing"))
	}
	for _, country := range slices.Sorted(maps.Keys(p.SharedPools)) {
		fmt.Fprintf(b, "  %s in the pool of %s\n", country, p.SharedPools[country])
	}
}

func TestDeck(t *testing.T) {
	var b strings.Builder
	var rows []domain.Row
	events := Deck(published)
	for _, e := range events {
		d := e.Data.(*domain.Deck)
		if e.Tenant != domain.CatalogTenant || e.Source != Source || e.Time != published {
			t.Errorf("%s: of %s, by %s, at %s", e.ID, e.Tenant, e.Source, e.Time)
		}
		fmt.Fprintf(&b, "%s\n  %s %s from %s in %s, part %d of %d, %d rows\n", e.ID, d.Deck, d.Version, d.EffectiveFrom, d.Currency, d.Part, d.Parts, len(d.Rows))
		rows = append(rows, d.Rows...)
	}
	count := func(of string, key func(domain.Row) string) {
		n := map[string]int{}
		for _, row := range rows {
			n[key(row)]++
		}
		fmt.Fprintf(&b, "\n%d %s\n", len(n), of)
		for _, k := range slices.Sorted(maps.Keys(n)) {
			fmt.Fprintf(&b, "  %-14s %d\n", k, n[k])
		}
	}
	count("types", func(r domain.Row) string { return r.RowType })
	count("increments", func(r domain.Row) string { return r.Increment.String() })
	count("connect fees", func(r domain.Row) string { return r.ConnectFee.String() })
	count("countries", func(r domain.Row) string { return r.Country })
	fmt.Fprintf(&b, "\nsome of the rows\n")
	for i := 0; i < len(rows); i += 500 {
		fmt.Fprintf(&b, "  %-12s %s %s, %s: %s\n", rows[i].Prefix, rows[i].Country, rows[i].Name, rows[i].RowType, rows[i].Price)
	}
	golden(t, "testdata/deck.txt", b.String())
}

// What is published twice must be the same, and what is published later differ
// in time alone: otherwise the second import would be conflicts.
func TestPublishedAgain(t *testing.T) {
	for _, events := range []func(domain.Instant) []domain.Event{Plans, Deck} {
		first, again := events(published), events(published+1)
		ids := map[string]bool{}
		for i := range again {
			if again[i].Time != published+1 {
				t.Errorf("%s: at %s", again[i].ID, again[i].Time)
			}
			again[i].Time = published
			ids[again[i].ID] = true
		}
		if diff := gocmp.Diff(first, again); diff != "" {
			t.Error(diff)
		}
		if len(ids) != len(first) {
			t.Errorf("%d ids of %d events", len(ids), len(first))
		}
	}
}

// Every country a plan grants minutes in can call itself at a price, and every
// code is one of ISO 3166-1 in form. A plan without either would make
// exceptions of all its calls.
func TestCountries(t *testing.T) {
	priced := map[string]bool{}
	for _, e := range Deck(published) {
		for _, row := range e.Data.(*domain.Deck).Rows {
			priced[row.Country] = true
		}
	}
	for _, e := range Plans(published) {
		p := e.Data.(*domain.Plan)
		codes := map[string]bool{}
		for _, b := range p.Buckets {
			for country := range b.Minutes {
				codes[country] = true
				if country != domain.AnyCountry && !priced[country] {
					t.Errorf("%s: %s has minutes and no price", e.ID, country)
				}
			}
			for _, country := range b.Destinations {
				codes[country] = true
			}
			if len(b.Minutes) != len(p.Buckets[0].Minutes) {
				t.Errorf("%s: bucket %s grants in %d countries, bucket %s in %d", e.ID,
					b.Name, len(b.Minutes), p.Buckets[0].Name, len(p.Buckets[0].Minutes))
			}
		}
		for country, list := range p.Domestic {
			codes[country] = true
			for _, c := range list {
				codes[c] = true
			}
		}
		for code := range codes {
			if code != domain.AnyCountry && (len(code) != 2 || strings.Trim(code, "ABCDEFGHIJKLMNOPQRSTUVWXYZ") != "") {
				t.Errorf("%s: country %q", e.ID, code)
			}
		}
		if p.Deck != DeckName {
			t.Errorf("%s: deck %s", e.ID, p.Deck)
		}
	}
}

// A month on the built-in catalogue, rated: what the plans' tables mean.
func TestRated(t *testing.T) {
	const month = "2026-10"
	at := func(day int) domain.Instant {
		return domain.InstantOf(time.Date(2026, 10, day, 12, 0, 0, 0, time.UTC))
	}
	ledger := domain.NewLedger()
	add := func(id string, data domain.Data) {
		ledger.Add(&domain.Event{Tenant: "contoso", Source: "test", ID: id, Time: at(1), Data: data})
	}
	for _, e := range append(Plans(published), Deck(published)...) {
		ledger.Add(&e)
	}
	users := []struct{ user, plan, country string }{
		{"ann", "DOMESTIC_120", "US"},
		{"bob", "DOMESTIC_120", "PR"},
		{"carla", "AUDIO_CONFERENCING", "IT"},
		{"dora", "DOMESTIC_120_USER", "IT"},
		{"emil", "DOMESTIC_INTERNATIONAL", "GB"},
		{"fay", "PAYG_ZONE2", "IT"},
		{"gil", "DOMESTIC_STANDARD", "HK"},
	}
	for _, u := range users {
		add("licence "+u.user, &domain.Assignment{User: u.user, Plan: u.plan, Country: u.country, EffectiveAt: at(1)})
	}
	calls := []struct{ user, kind, called string }{
		{"ann", domain.KindUser, "+12125550100"},          // US to US
		{"bob", domain.KindUser, "+14165550100"},          // PR to CA, from the pool of US
		{"carla", domain.KindConference, "+390612345678"}, // to its own country, in zone A
		{"carla", domain.KindConference, "+442071234567"}, // another of zone A
		{"carla", domain.KindConference, "+37612345"},     // Andorra, not of zone A: outside
		{"dora", domain.KindUser, "+390612345678"},        // IT to IT
		{"emil", domain.KindUser, "+390612345678"},        // GB to IT, international
		{"emil", domain.KindUser, "+442071234567"},        // GB to GB, domestic
		{"fay", domain.KindUser, "+390612345678"},         // no minutes: outside
		{"gil", domain.KindUser, "+85221234567"},          // ungranted
	}
	for i, c := range calls {
		called, err := domain.ParseNumber(c.called)
		if err != nil {
			t.Fatal(err)
		}
		add(fmt.Sprint("call ", i), &domain.Call{User: c.user, Kind: c.kind, Called: called, AnsweredAt: at(2 + i), BillableMS: 60_000})
	}
	id, err := domain.ParseMonth(month)
	if err != nil {
		t.Fatal(err)
	}
	r := ledger.Rating("contoso", id)
	var b strings.Builder
	for _, p := range r.Pools {
		fmt.Fprintf(&b, "%s %s %s%s: %d licences\n", p.Plan, p.Scope, p.Country, p.User, p.Licences)
		for _, bucket := range p.Buckets {
			fmt.Fprintf(&b, "  %s: %d of %d seconds, %d over\n", bucket.Name, bucket.Used, bucket.Granted, bucket.Overage)
		}
	}
	for _, i := range r.Invoices {
		for _, l := range i.Lines {
			fmt.Fprintf(&b, "%s %s: %s %s %d seconds at %s = %s\n", i.Plan, i.Country, l.Country, l.Name, l.Seconds, l.Price, l.Amount)
		}
	}
	for _, x := range r.Exceptions {
		fmt.Fprintf(&b, "%s: %d\n", x.Reason, x.Count)
	}
	fmt.Fprintf(&b, "%+v\n", r.Counts)
	golden(t, "testdata/rated.txt", b.String())
}
