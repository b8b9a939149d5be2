package decks

import (
	"bytes"
	"fmt"
	"math/big"
	"testing"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	"pgregory.net/rapid"

	"tollbook/domain"
	"tollbook/projections"
)

const october = domain.Month(2026*12 + 9)

// A billed is a ledger with a tenant's licences and calls of a month.
type billed struct {
	ledger *domain.Ledger
	n      int
}

// newBilled has contoso with one pay-as-you-go user and one that has minutes at
// home, on the deck named standard.
func newBilled(minutes int64) *billed {
	b := &billed{ledger: domain.NewLedger()}
	from := on(2026, 9, 1)
	plan := func(name string, buckets []domain.Bucket) {
		b.add("catalog", from, &domain.Plan{
			Plan: name, Name: name, EffectiveFrom: 20260101, Kinds: []string{domain.KindUser}, Buckets: buckets, Increment: domain.DefaultIncrement, Deck: "standard",
		})
	}
	plan("PAYG", nil)
	plan("HOME", []domain.Bucket{{Name: "home", Zone: domain.ZoneDomestic, Minutes: map[string]int64{domain.AnyCountry: minutes}}})
	b.add("contoso", from, &domain.Assignment{User: "ada", Plan: "PAYG", Country: "IT", EffectiveAt: from})
	b.add("contoso", from, &domain.Assignment{User: "bob", Plan: "HOME", Country: "IT", EffectiveAt: from})
	return b
}

func (b *billed) add(tenant string, at domain.Instant, data domain.Data) {
	b.n++
	b.ledger.Add(&domain.Event{Tenant: tenant, Source: "test", ID: fmt.Sprintf("e-%04d", b.n), Time: at, Data: data})
}

func (b *billed) deck(tenant, version string, from domain.Instant, rows []domain.Row) {
	b.add(tenant, from, &domain.Deck{Deck: "standard", Version: version, EffectiveFrom: from, Currency: "EUR", Part: 1, Parts: 1, Rows: rows})
}

func (b *billed) call(user, called string, day int, seconds int64) error {
	number, err := domain.ParseNumber(called)
	if err != nil {
		return err
	}
	at := on(2026, 10, day)
	b.add("contoso", at, &domain.Call{User: user, Kind: domain.KindUser, Called: number, AnsweredAt: at, BillableMS: seconds * 1000})
	return nil
}

func (b *billed) view() *projections.View { return &projections.View{Ledger: b.ledger} }

// A month with another deck: dearer, cheaper, dropped and new rows, a destination
// that moves abroad, and a version that took over within the month.
func TestImpact(t *testing.T) {
	b := newBilled(1)
	b.deck("catalog", "2026-09", on(2026, 9, 1), rowsOf(t, `39 IT Italy landline 0.016
		393 IT Italy-Mobile mobile 0.1 0.05
		3934 IT Italy-Mobile-Four mobile 0.3
		41 CH Switzerland landline 0.02
		378 SM SanMarino landline 0.2`))
	b.deck("catalog", "2026-10", on(2026, 10, 20), rowsOf(t, `39 IT Italy landline 0.018
		393 IT Italy-Mobile mobile 0.1 0.05
		41 CH Switzerland landline 0.02
		378 SM SanMarino landline 0.2`))
	for i, called := range []string{"+390612345678", "+393331234567", "+393401234567", "+41441234567", "+378054912345"} {
		for _, user := range []string{"ada", "bob"} {
			if err := b.call(user, called, 2+i, 150); err != nil {
				t.Fatal(err)
			}
			if err := b.call(user, called, 21+i, 61); err != nil {
				t.Fatal(err)
			}
		}
	}
	next := sheetOf("2026-11", on(2026, 11, 1), "EUR", rowsOf(t, `39 IT Italy landline 0.018
		393 IT Italy-Mobile mobile 0.12 0.05
		3906 CH Lugano landline 0.01
		378 SM SanMarino landline 0.2`))
	next.Tenant = domain.CatalogTenant
	d, err := ImpactOf(b.view(), next, "contoso", october, 3)
	if err != nil {
		t.Fatal(err)
	}
	text, err := json.Marshal(d, jsontext.WithIndent("  "))
	if err != nil {
		t.Fatal(err)
	}
	golden(t, "testdata/impact.json", append(text, '\n'))
}

// drawnCalls are of both users, to numbers that drawn sheets price.
func drawnCalls(t *rapid.T, b *billed) {
	for range rapid.IntRange(0, 30).Draw(t, "calls") {
		user := rapid.SampledFrom([]string{"ada", "bob"}).Draw(t, "user")
		called := rapid.StringMatching(`\+[1-3][0-3]{3,6}|[0-3]{2,3}`).Draw(t, "called")
		if err := b.call(user, called, rapid.IntRange(1, 30).Draw(t, "day"), rapid.Int64Range(1, 400).Draw(t, "seconds")); err != nil {
			t.Fatal(err)
		}
	}
}

// The deck that is in force all month, under whatever name and from whatever time,
// changes nothing.
func TestImpactOfTheSameDeckIsNothing(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		b := newBilled(rapid.Int64Range(0, 5).Draw(t, "minutes"))
		tenant := rapid.SampledFrom([]string{"catalog", "contoso"}).Draw(t, "tenant")
		s := drawnSheet(t, rapid.SampledFrom([]string{"2026-09", "2026-10"}).Draw(t, "version"))
		b.deck(tenant, "2026-09", on(2026, 9, 1), s.Rows)
		drawnCalls(t, b)
		s.Tenant = rapid.SampledFrom([]string{tenant, "contoso"}).Draw(t, "tenant of the sheet")
		d, err := ImpactOf(b.view(), s, "contoso", october, 5)
		if err != nil {
			t.Fatal(err)
		}
		if len(d.Lines)+len(d.Prefixes)+len(d.Exceptions) > 0 || d.Others != "0" {
			t.Errorf("lines %v, prefixes %v, exceptions %v, others %s", d.Lines, d.Prefixes, d.Exceptions, d.Others)
		}
		for _, total := range d.Totals {
			if total.Before != total.After {
				t.Errorf("%v", total)
			}
		}
	})
}

// What the prefixes differ by, all together, is the difference of the two months
// before any rounding.
func TestImpactIsTheDifferenceOfTwoMonths(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		minutes := rapid.Int64Range(0, 5).Draw(t, "minutes")
		before, after := drawnSheet(t, "2026-09"), drawnSheet(t, "2026-10")
		b := newBilled(minutes)
		b.deck("catalog", "2026-09", on(2026, 9, 1), before.Rows)
		drawnCalls(t, b)
		was := exactly(b.ledger)
		after.Tenant = domain.CatalogTenant
		top := rapid.IntRange(1, 30).Draw(t, "top")
		d, err := ImpactOf(b.view(), after, "contoso", october, top)
		if err != nil {
			t.Fatal(err)
		}
		sum, _ := new(big.Rat).SetString(d.Others)
		for _, p := range d.Prefixes {
			one, _ := new(big.Rat).SetString(p.Difference)
			sum.Add(sum, one)
		}
		is := exactly(b.ledger) // the view's ledger has the deck now
		if want := new(big.Rat).Sub(is, was); sum.Cmp(want) != 0 {
			t.Errorf("prefixes differ by %s, months by %s", sum.RatString(), want.RatString())
		}
		if len(d.Prefixes) > top {
			t.Errorf("%d prefixes, asked for %d", len(d.Prefixes), top)
		}
	})
}

// exactly is what the month comes to before any rounding.
func exactly(l *domain.Ledger) *big.Rat {
	sum := new(big.Rat)
	r := l.Rating("contoso", october)
	for i := range r.Invoices {
		for _, line := range r.Invoices[i].Lines {
			sum.Add(sum, domain.ExactCharge(line.Price, line.Fee, line.Calls, line.Seconds))
		}
	}
	return sum
}

// A deck in another currency would never be in force.
func TestImpactOfAnotherCurrency(t *testing.T) {
	b := newBilled(1)
	b.deck("catalog", "2026-09", on(2026, 9, 1), rowsOf(t, "39 IT Italy landline 0.016"))
	s := sheetOf("2026-10", on(2026, 10, 1), "USD", rowsOf(t, "39 IT Italy landline 0.016"))
	s.Tenant = domain.CatalogTenant
	const want = "deck standard is in EUR, and this version in USD would never be in force: publish it as another deck"
	if _, err := ImpactOf(b.view(), s, "contoso", october, 1); err == nil || err.Error() != want {
		t.Errorf("%v, want %s", err, want)
	}
}

// What is withdrawn or added for a question leaves the ledger of a version alone
// that nobody asked about.
func TestDecksOfLedger(t *testing.T) {
	b := newBilled(1)
	rows := rowsOf(t, "39 IT Italy landline 0.016")
	b.deck("catalog", "2026-09", on(2026, 9, 1), rows)
	b.deck("catalog", "2026-10", on(2026, 10, 1), rows)
	b.add("catalog", on(2026, 10, 1), &domain.Deck{Deck: "standard", Version: "half", EffectiveFrom: on(2026, 12, 1), Currency: "EUR", Part: 2, Parts: 3, Rows: rows})
	b.add("catalog", on(2026, 10, 1), &domain.Deck{Deck: "standard", Version: "usd", EffectiveFrom: on(2026, 12, 1), Currency: "USD", Part: 1, Parts: 1, Rows: rows})
	b.deck("catalog", "twice", on(2026, 12, 2), append(rows, rows...))
	b.deck("contoso", "own", on(2026, 10, 5), rows)
	var out bytes.Buffer
	list := func(title, tenant string) {
		fmt.Fprintln(&out, title)
		for _, v := range b.ledger.Decks(tenant) {
			fmt.Fprintf(&out, "  %s %s from %s in %s: %d rows in %d parts, own %t, %s\n", v.Deck, v.Version, v.EffectiveFrom, v.Currency, v.Rows, len(v.Parts), v.Own, v.State)
		}
	}
	list("of the catalogue", "catalog")
	list("of one that has its own", "contoso")
	list("of one that has none", "fabrikam")
	b.ledger.WithdrawDecks("catalog", "standard", on(2026, 10, 1), on(2026, 11, 1))
	b.ledger.WithdrawDecks("contoso", "standard", on(2026, 10, 1), on(2026, 11, 1))
	list("of both, without those of October", "contoso")
	golden(t, "testdata/decks.txt", out.Bytes())
}
