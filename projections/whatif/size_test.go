package whatif

import (
	"context"
	"errors"
	"fmt"
	"math/big"
	"slices"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"tollbook/eventstore"
)

// costs is what the months come to by currency, as what-ifs of them say, and what
// needs attention in them.
func costs(t *rapid.T, walk eventstore.Walk, scenarios []Scenario) (before, after map[string]*big.Int, more []string) {
	before, after = map[string]*big.Int{}, map[string]*big.Int{}
	add := func(to map[string]*big.Int, currency, amount string) {
		r, ok := new(big.Rat).SetString(amount)
		if !ok {
			t.Fatalf("%q is no amount", amount)
		}
		r.Mul(r, big.NewRat(10_000, 1))
		if to[currency] == nil {
			to[currency] = new(big.Int)
		}
		to[currency].Add(to[currency], r.Num())
	}
	for _, s := range scenarios {
		d, err := Evaluate(context.Background(), walk, s, nil)
		if err != nil {
			t.Fatalf("%+v: %v", s, err)
		}
		for _, total := range d.Totals {
			add(before, total.Currency, total.Sum.Before)
			add(after, total.Currency, total.Sum.After)
		}
		for _, e := range d.Exceptions {
			if e.After != nil && (e.Before == nil || e.After.Count > e.Before.Count) {
				more = append(more, fmt.Sprintf("%s %s", s.Month, e.Reason))
			}
		}
	}
	return before, after, more
}

// sized is a sizing of a random history.
func sized(t *rapid.T, by string) (eventstore.Walk, SizingDocument) {
	events := histories.Draw(t, "history")
	cut := rapid.IntRange(0, len(events)).Draw(t, "late")
	walk := bookOf(t, events[:cut], rapid.IntRange(0, 3).Draw(t, "closed"), events[cut:])
	q := Sizing{Tenant: tenant, By: by, Trials: rapid.SampledFrom([]int{0, 3, 40, 300}).Draw(t, "trials")}
	for _, m := range months {
		if len(q.Months) == 0 || rapid.Bool().Draw(t, "and the next") {
			q.Months = append(q.Months, m.String())
		}
	}
	d, err := RightSize(context.Background(), walk, q, nil)
	if err != nil {
		t.Fatal(err)
	}
	if q.Trials > 0 && d.Trials > q.Trials {
		t.Fatalf("%d trials, %d were allowed", d.Trials, q.Trials)
	}
	return walk, d
}

// TestNeverDearer: what is proposed, evaluated as what-ifs of the months, is dearer
// in no currency, leaves no more calls without a licence or a price, and saves
// exactly what is stated.
func TestNeverDearer(t *testing.T) {
	for _, by := range []string{ByLicences, ByUsers} {
		t.Run(by, func(t *testing.T) {
			saving, exact := 0, 0
			rapid.Check(t, func(t *rapid.T) {
				walk, d := sized(t, by)
				before, after, more := costs(t, walk, d.Scenarios)
				if len(more) > 0 {
					t.Fatalf("%v need attention that did not: %+v", more, d)
				}
				for _, total := range d.Totals {
					stated, _ := new(big.Rat).SetString(total.Sum.Difference)
					stated.Mul(stated, big.NewRat(10_000, 1))
					was, is := before[total.Currency], after[total.Currency]
					if is.Cmp(was) > 0 {
						t.Fatalf("%s: %s is dearer than %s: %+v", total.Currency, is, was, d)
					}
					if diff := new(big.Int).Sub(is, was); !stated.IsInt() || stated.Num().Cmp(diff) != 0 {
						t.Fatalf("%s: the what-ifs save %s/10000, %s is stated: %+v", total.Currency, diff, total.Sum.Difference, d)
					}
					if is.Cmp(was) < 0 {
						saving++
					}
				}
				if proposed := len(d.Licences) + len(d.Users); proposed > 0 && !slices.ContainsFunc(d.Totals, func(t Total) bool { return t.Sum.Before != t.Sum.After }) {
					t.Fatalf("proposes what saves nothing: %+v", d)
				}
				if d.Exact {
					exact++
				}
			})
			if saving == 0 || exact == 0 {
				t.Errorf("%d proposals save, %d are exact", saving, exact)
			}
		})
	}
}

// TestNothingCheaper: where a sizing says that it is exact, nothing that it may
// propose is cheaper: other numbers of licences, other plans for users.
func TestNothingCheaper(t *testing.T) {
	for _, by := range []string{ByLicences, ByUsers} {
		t.Run(by, func(t *testing.T) {
			compared := 0
			rapid.Check(t, func(t *rapid.T) {
				walk, d := sized(t, by)
				if !d.Exact {
					return
				}
				other := slices.Clone(d.Scenarios)
				for i := range other {
					other[i] = Scenario{Tenant: tenant, Month: other[i].Month, At: d.Position}
				}
				switch by {
				case ByLicences:
					// Only of what is held already, and has a price in all months, another number is proposed.
					var held []Licences
					for i := range other {
						d, err := Evaluate(context.Background(), walk, other[i], nil)
						if err != nil {
							t.Fatal(err)
						}
						held = append(held, d.Licences...)
					}
					if len(held) == 0 {
						return
					}
					l := rapid.SampledFrom(held).Draw(t, "held")
					n := rapid.IntRange(1, 9).Draw(t, "licences")
					for i := range other {
						other[i].Add = []Addition{{Plan: l.Plan, Country: l.Country, Licences: n}}
						d, err := Evaluate(context.Background(), walk, other[i], nil)
						if refusal := (*Refusal)(nil); errors.As(err, &refusal) {
							return
						}
						if slices.ContainsFunc(d.Licences, func(one Licences) bool {
							return one.Plan == l.Plan && one.Country == l.Country && (one.Price == nil || *one.Currency != "EUR")
						}) {
							return
						}
					}
				case ByUsers:
					users := rapid.Permutation(slices.Clone(someUsers)).Draw(t, "users")[:rapid.IntRange(1, 4).Draw(t, "how many")]
					for _, user := range users {
						plan := rapid.SampledFrom(somePlans).Draw(t, "plan")
						for i := range other {
							with := other[i]
							with.Plans = append(slices.Clone(with.Plans), PlanChange{Users: []string{user}, To: plan})
							evaluated, err := Evaluate(context.Background(), walk, with, nil)
							if refusal := (*Refusal)(nil); errors.As(err, &refusal) {
								if len(other) > 1 {
									return // in all months or in none
								}
								continue
							}
							if err != nil {
								t.Fatal(err)
							}
							// A plan without a price is no proposal, nor is one for a user of whose licence nobody said it.
							for _, l := range evaluated.Licences {
								if l.Price == nil || *l.Currency != "EUR" {
									return
								}
							}
							other[i] = with
						}
					}
				}
				_, best, _ := costs(t, walk, d.Scenarios)
				before, theirs, more := costs(t, walk, other)
				for currency, amount := range theirs {
					if currency != "EUR" && amount.Cmp(before[currency]) > 0 || len(more) > 0 {
						return // it may not be proposed
					}
				}
				compared++
				if theirs["EUR"] != nil && theirs["EUR"].Cmp(best["EUR"]) < 0 {
					t.Fatalf("%+v costs %s, the proposal %s:\n%s", other, theirs["EUR"], best["EUR"], gocmp.Diff(nil, d))
				}
			})
			if compared == 0 {
				t.Error("nothing was compared")
			}
		})
	}
}
