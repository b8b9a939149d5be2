package domain_test

import (
	"cmp"
	"slices"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"tollbook/domain"
)

// readMonth reads a month in pages of any size.
func readMonth(t *rapid.T, r *domain.MonthCalls) (all []domain.MonthCall) {
	for !r.File(uint32(rapid.IntRange(1, 40).Draw(t, "filed"))) {
	}
	limit := rapid.IntRange(1, 30).Draw(t, "page")
	var after *domain.MonthCall
	for {
		page, more := r.After(after, limit)
		all = append(all, page...)
		if more != (len(page) == limit) && more {
			t.Fatalf("a page of %d, not %d, says that there are more", len(page), limit)
		}
		if !more {
			return all
		}
		after = &domain.MonthCall{At: page[limit-1].At, Ref: page[limit-1].Ref}
	}
}

// TestMonthCalls reads the months of random histories page by page: each call stands
// in them once, by R7's order, as its passport has it.
func TestMonthCalls(t *testing.T) {
	calls := 0
	rapid.Check(t, func(t *rapid.T) {
		events := rapid.Permutation(histories.Draw(t, "history")).Draw(t, "order")
		l := domain.NewLedger()
		for i := range events {
			l.Add(&events[i])
		}
		for _, tenant := range tenantsOf(events) {
			all := passports(t, l, events, tenant)
			for month := ratedMonths[0] - 1; month <= ratedMonths[len(ratedMonths)-1]+1; month++ {
				want := []domain.MonthCall{}
				for _, p := range all {
					if p.Month == month && p.Class != domain.ClassVoided {
						want = append(want, monthCall(&p))
					}
				}
				slices.SortFunc(want, func(a, b domain.MonthCall) int {
					return cmp.Or(cmp.Compare(a.At, b.At), cmp.Compare(a.Source, b.Source), cmp.Compare(a.ID, b.ID))
				})
				r := l.MonthCalls(tenant, month)
				got := append([]domain.MonthCall{}, readMonth(t, r)...)
				if diff := gocmp.Diff(want, got); diff != "" || !r.Holds(l) {
					t.Fatalf("%s %v (-passports +month):\n%s\n%s", tenant, month, diff, describe(events))
				}
				calls += len(got)
			}
		}
	})
	if t.Logf("%d calls read", calls); calls == 0 {
		t.Error("nothing was read")
	}
}

// monthCall is what a month must say of a call.
func monthCall(p *domain.Passport) domain.MonthCall {
	c := domain.MonthCall{
		At: p.At, Ref: p.Ref, User: p.Call.User, Kind: p.Call.Kind, Called: p.Call.Called, BillableMS: p.Call.BillableMS,
		Amended: p.Amended != nil, Class: p.Class, Billed: p.Billed,
	}
	if p.Pool != nil {
		c.Country, c.Plan, c.Pool, c.Bucket, c.Over = p.Pool.Country, p.Pool.Plan, p.Pool.User, p.Pool.Bucket, p.Pool.Over
		c.Line = &p.Rows[0].Line
	}
	if p.Class == domain.ClassOutside {
		c.Country, c.Plan, c.Over, c.Line = p.Cost.Country, p.Cost.Plan, p.Cost.Seconds, &p.Rows[0].Line
		if p.Plan.Scope == domain.ScopeUser {
			c.Pool = p.Call.User
		}
	}
	return c
}

// TestMonthCallsHold reads a month while events come: it holds exactly as long as it
// is what it was.
func TestMonthCallsHold(t *testing.T) {
	moved := 0
	rapid.Check(t, func(t *rapid.T) {
		events := rapid.Permutation(histories.Draw(t, "history")).Draw(t, "order")
		l := domain.NewLedger()
		n := rapid.IntRange(0, len(events)).Draw(t, "first")
		for i := range events[:n] {
			l.Add(&events[i])
		}
		tenant, month := rapid.SampledFrom(tenantsOf(events)).Draw(t, "tenant"), rapid.SampledFrom(ratedMonths).Draw(t, "month")
		r := l.MonthCalls(tenant, month)
		before := readMonth(t, r)
		for i := range events[n:] {
			l.Add(&events[n+i])
			if !r.Holds(l) {
				moved++
				return
			}
			if diff := gocmp.Diff(before, readMonth(t, l.MonthCalls(tenant, month))); diff != "" {
				t.Fatalf("%s %v holds, but is (-before +now):\n%s\n%s", tenant, month, diff, describe(events))
			}
		}
	})
	if t.Logf("%d months moved on", moved); moved == 0 {
		t.Error("no month moved on")
	}
}
