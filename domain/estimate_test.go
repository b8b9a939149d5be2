package domain_test

import (
	"fmt"
	"testing"

	"pgregory.net/rapid"

	"tollbook/domain"
)

// aDeck is a deck of one version that is in force from 2026 on.
func aDeck(name string, currency domain.Currency, rows ...domain.Row) *domain.Deck {
	for i := range rows {
		if rows[i].Increment == (domain.Increment{}) {
			rows[i].Increment = domain.DefaultIncrement
		}
	}
	return &domain.Deck{Deck: name, Version: "1", EffectiveFrom: at("2026-01-01T00:00:00Z"), Currency: currency, Part: 1, Parts: 1, Rows: rows}
}

func italy(price, fee domain.Micros) domain.Row {
	return domain.Row{Prefix: "39", Country: "IT", Name: "Italy", RowType: "landline", Price: price, ConnectFee: fee}
}

func aPlan(name, deck string) *domain.Plan {
	return &domain.Plan{
		Plan: name, Name: name, EffectiveFrom: 20260101, Kinds: []string{domain.KindUser}, Increment: domain.DefaultIncrement, Deck: deck,
		Buckets: []domain.Bucket{{Name: "none", Zone: domain.ZoneAll, Minutes: map[string]int64{domain.AnyCountry: 0}}},
	}
}

// TestEstimate: calls of 90 s, which is two minutes, on 5 October 2026.
func TestEstimate(t *testing.T) {
	ada := func(plan, country string, from string) *domain.Assignment {
		return &domain.Assignment{User: "ada", Plan: plan, Country: country, EffectiveAt: at(from)}
	}
	decks := func(byCountry map[string]string) *domain.TenantConfig {
		return &domain.TenantConfig{TimeZone: "UTC", Zone: at("2026-01-01T00:00:00Z").Time().Location(), Currency: "EUR", EffectiveFrom: 20260101, Decks: byCountry}
	}
	cheap, dear := aDeck("cheap", "EUR", italy(10_000, 0)), aDeck("dear", "EUR", italy(30_000, 500_000))
	dollars := aDeck("dollars", "USD", italy(900_000, 0))
	for name, c := range map[string]struct {
		own, catalog []domain.Data
		user, called string
		want         string
	}{
		"no deck":                {want: "none"},
		"a deck nobody names":    {own: []domain.Data{dear}, want: "none"},
		"of the licence's plan":  {own: []domain.Data{cheap, dear, aPlan("P", "cheap"), aPlan("Q", "dear"), ada("P", "IT", "2026-01-01T00:00:00Z")}, want: "0.02 EUR"},
		"of the user's country":  {own: []domain.Data{cheap, dear, aPlan("P", "cheap"), decks(map[string]string{"IT": "dear"}), ada("P", "IT", "2026-01-01T00:00:00Z")}, want: "0.56 EUR"},
		"licensed later":         {own: []domain.Data{cheap, dear, aPlan("P", "cheap"), aPlan("Q", "dear"), ada("P", "IT", "2026-10-06T00:00:00Z")}, want: "0.56 EUR"},
		"a licence without plan": {own: []domain.Data{cheap, dear, aPlan("Q", "dear"), ada("GONE", "IT", "2026-01-01T00:00:00Z")}, want: "0.56 EUR"},
		"a licence whose deck does not go there": {
			own: []domain.Data{aDeck("cheap", "EUR", domain.Row{Prefix: "33", Country: "FR", Name: "France", RowType: "landline", Price: 1}), dear, aPlan("P", "cheap"), aPlan("Q", "dear"), ada("P", "IT", "2026-01-01T00:00:00Z")}, want: "none",
		},
		"the dearest of plans":                   {own: []domain.Data{cheap, dear, aPlan("P", "cheap"), aPlan("Q", "dear")}, user: "bob", want: "0.56 EUR"},
		"the dearest of the configuration":       {own: []domain.Data{cheap, dear, decks(map[string]string{"IT": "cheap", "FR": "dear"})}, user: "bob", want: "0.56 EUR"},
		"the first currency only":                {own: []domain.Data{cheap, dollars, aPlan("P", "cheap"), aPlan("Q", "dollars")}, user: "bob", want: "0.02 EUR"},
		"a currency that does not go there":      {own: []domain.Data{aDeck("cheap", "EUR", domain.Row{Prefix: "33", Country: "FR", Name: "France", RowType: "landline", Price: 1}), dollars, aPlan("P", "cheap"), aPlan("Q", "dollars")}, user: "bob", want: "1.80 USD"},
		"the catalogue's":                        {catalog: []domain.Data{cheap, aPlan("P", "cheap")}, want: "0.02 EUR"},
		"the tenant's deck over the catalogue's": {catalog: []domain.Data{cheap, aPlan("P", "cheap")}, own: []domain.Data{aDeck("cheap", "EUR", italy(20_000, 0))}, want: "0.04 EUR"},
		"the tenant's plan over the catalogue's": {catalog: []domain.Data{cheap, dear, aPlan("P", "dear")}, own: []domain.Data{aPlan("P", "cheap")}, want: "0.02 EUR"},
		"a plan that is not in force":            {own: []domain.Data{dear, &domain.Plan{Plan: "P", Name: "P", EffectiveFrom: 20261101, Increment: domain.DefaultIncrement, Deck: "dear"}}, want: "none"},
		"a deck that is not in force":            {own: []domain.Data{&domain.Deck{Deck: "later", Version: "1", EffectiveFrom: at("2026-11-01T00:00:00Z"), Currency: "EUR", Part: 1, Parts: 1, Rows: dear.Rows}, aPlan("P", "later")}, want: "none"},
		"free":                                   {own: []domain.Data{aDeck("d", "EUR", domain.Row{Prefix: "39", Country: "IT", Name: "Free", RowType: domain.RowTollFree, Price: 990_000}), aPlan("P", "d")}, want: "0.00 EUR"},
		"free in yen":                            {own: []domain.Data{aDeck("d", "JPY", domain.Row{Prefix: "39", Country: "IT", Name: "Free", RowType: domain.RowTollFree, Price: 990_000}), aPlan("P", "d")}, want: "0 JPY"},
		"three digits":                           {own: []domain.Data{aDeck("d", "KWD", italy(10_000, 0)), aPlan("P", "d")}, want: "0.020 KWD"},
		"a short number":                         {own: []domain.Data{aDeck("d", "EUR", italy(10_000, 0), domain.Row{Prefix: "=4242", Country: "IT", Name: "Service", RowType: "service", Price: 250_000}), aPlan("P", "d")}, called: "4242", want: "0.50 EUR"},
		"a number without a row":                 {own: []domain.Data{dear, aPlan("P", "dear")}, called: "+881612345", want: "none"},
		"masked digits":                          {own: []domain.Data{dear, aPlan("P", "dear")}, called: "+39061****", want: "0.56 EUR"},
	} {
		t.Run(name, func(t *testing.T) {
			l := domain.NewLedger()
			id := 0
			add := func(tenant string, list []domain.Data) {
				for _, data := range list {
					id++
					l.Add(&domain.Event{Tenant: tenant, Source: "admin", ID: fmt.Sprint(id), Time: at("2026-01-01T00:00:00Z"), Data: data})
				}
			}
			add(domain.CatalogTenant, c.catalog)
			add("contoso", c.own)
			if c.user == "" {
				c.user = "ada"
			}
			if c.called == "" {
				c.called = "+390612345678"
			}
			got := "none"
			if amount, currency, ok := l.Estimate("contoso", c.user, number(c.called), at("2026-10-05T10:00:00Z"), 90_000); ok {
				got = amount.String() + " " + string(currency)
			}
			if got != c.want {
				t.Errorf("%s, want %s", got, c.want)
			}
			if months := l.Months("contoso"); len(months) != 0 {
				t.Errorf("the question made months: %v", months)
			}
		})
	}
}

// TestEstimateIsTheCharge: a call that is wholly overage costs on the invoice what
// was estimated while it was in suspense.
func TestEstimateIsTheCharge(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		currency := rapid.SampledFrom([]domain.Currency{"EUR", "JPY", "KWD"}).Draw(t, "currency")
		row := italy(domain.Micros(rapid.Int64Range(0, int64(domain.MaxMicros)).Draw(t, "price")), domain.Micros(rapid.Int64Range(0, 10_000_000).Draw(t, "fee")))
		ms := rapid.Int64Range(1, domain.MaxBillableMS).Draw(t, "billable_ms")
		l := domain.NewLedger()
		answered := at("2026-10-05T10:00:00Z")
		for i, data := range []domain.Data{
			aDeck("d", currency, row), aPlan("P", "d"), &domain.Assignment{User: "ada", Plan: "P", Country: "IT", EffectiveAt: at("2026-01-01T00:00:00Z")},
		} {
			l.Add(&domain.Event{Tenant: "contoso", Source: "admin", ID: fmt.Sprint(i), Time: answered, Data: data})
		}
		amount, in, ok := l.Estimate("contoso", "ada", number("+390612345678"), answered, ms)
		l.Add(&domain.Event{Tenant: "contoso", Source: "switch/mil-1", ID: "a", Time: answered, Data: &domain.Call{
			User: "ada", Kind: domain.KindUser, Calling: number("+390281234567"), Called: number("+390612345678"), AnsweredAt: answered, BillableMS: ms,
		}})
		invoices := l.Rating("contoso", domain.MonthOf(answered.Time())).Invoices
		if len(invoices) != 1 {
			t.Fatalf("%d invoices", len(invoices))
		}
		want := invoices[0].Total
		if !ok || amount.String() != want.String() || in != invoices[0].Currency {
			t.Fatalf("estimated %s %s, charged %s %s", amount, in, want, invoices[0].Currency)
		}
		charge := domain.Charge(row.Price, row.ConnectFee, 1, domain.DefaultIncrement.Seconds(ms), currency.Digits())
		if amount.String() != charge.String() {
			t.Fatalf("estimated %s, Charge says %s", amount, charge)
		}
	})
}
