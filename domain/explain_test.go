package domain_test

import (
	"cmp"
	"fmt"
	"maps"
	"math/big"
	"slices"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"

	"tollbook/domain"
)

// passports are those of all calls of a tenant that events report, by identity.
func passports(t *rapid.T, l *domain.Ledger, events []domain.Event, tenant string) map[domain.Ref]domain.Passport {
	all := map[domain.Ref]domain.Passport{}
	for i := range events {
		e := &events[i]
		data, ok := e.Data.(*domain.Call)
		if !ok || e.Tenant != tenant {
			continue
		}
		ref := domain.Ref{Source: e.Source, ID: e.ID}
		p, ok := l.Explain(tenant, ref, e.Time, data)
		if !ok {
			t.Fatalf("%s %v can't be explained\n%s", tenant, ref, describe(events))
		}
		all[ref] = p
	}
	return all
}

type poolOf struct{ country, plan, user, bucket string }

// TestExplained asks of every call of random histories where its money comes
// from. What is said call by call adds up to the months: classes to the counts,
// draws to the pools, exact amounts to the lines; and every licence to the grant.
func TestExplained(t *testing.T) {
	calls, lines, grants := 0, 0, 0
	rapid.Check(t, func(t *rapid.T) {
		events := rapid.Permutation(histories.Draw(t, "history")).Draw(t, "order")
		l := domain.NewLedger()
		for i := range events {
			l.Add(&events[i])
		}
		for _, tenant := range tenantsOf(events) {
			all := passports(t, l, events, tenant)
			calls += len(all)
			for month := ratedMonths[0] - 1; month <= ratedMonths[len(ratedMonths)-1]+1; month++ {
				r := l.Rating(tenant, month)
				explainsCounts(t, r, all)
				explainsPools(t, r, all)
				lines += explainsLines(t, l, r, all)
				grants += explainsGrants(t, l, r)
			}
		}
	})
	t.Logf("%d calls, %d lines, %d grants explained", calls, lines, grants)
	if calls == 0 || lines == 0 || grants == 0 {
		t.Error("nothing was explained")
	}
}

func explainsCounts(t *rapid.T, r domain.Rating, all map[domain.Ref]domain.Passport) {
	by := map[domain.Class]int64{}
	for _, p := range all {
		if p.Month == r.Month {
			by[p.Class]++
		}
	}
	exceptions := map[string]int64{}
	for _, e := range r.Exceptions {
		exceptions[e.Reason] = e.Count
	}
	got := domain.Counts{Free: by[domain.ClassFree], InPool: by[domain.ClassInPool], Overage: by[domain.ClassOverage], Outside: by[domain.ClassOutside]}
	got.Calls = got.Free + got.InPool + got.Overage + got.Outside + by[domain.ClassUnlicensed] + by[domain.ClassUnrated]
	if got != r.Counts || by[domain.ClassUnlicensed] != exceptions[domain.Unlicensed] || by[domain.ClassUnrated] != exceptions[domain.Unrated] {
		t.Fatalf("%s %v: calls say %v, the month %+v and %v", r.Tenant, r.Month, by, r.Counts, exceptions)
	}
}

// explainsPools puts the calls of each bucket into their order: each begins with
// what the one before it left.
func explainsPools(t *rapid.T, r domain.Rating, all map[domain.Ref]domain.Passport) {
	drawn, over := map[poolOf]int64{}, map[poolOf]int64{}
	inOrder := slices.SortedFunc(maps.Values(all), func(a, b domain.Passport) int {
		return cmp.Or(cmp.Compare(a.At, b.At), cmp.Compare(a.Ref.Source, b.Ref.Source), cmp.Compare(a.Ref.ID, b.Ref.ID))
	})
	for _, p := range inOrder {
		if p.Month != r.Month || p.Pool == nil {
			continue
		}
		key := poolOf{p.Pool.Country, p.Pool.Plan, p.Pool.User, p.Pool.Bucket}
		if p.Pool.Before != drawn[key] || p.Pool.After != p.Pool.Before+p.Pool.Drawn || p.Pool.Drawn+p.Pool.Over != p.Billed {
			t.Fatalf("%v of %v begins at %d: %+v", p.Ref, key, drawn[key], p.Pool)
		}
		if ended := p.Pool.Ended != nil || p.Pool.EmptyFromStart; ended != (p.Pool.Drawn == 0 && p.Billed > 0) {
			t.Fatalf("%v of %v: %+v", p.Ref, key, p.Pool)
		}
		drawn[key], over[key] = p.Pool.After, over[key]+p.Pool.Over
	}
	for _, pool := range r.Pools {
		for _, b := range pool.Buckets {
			key := poolOf{pool.Country, pool.Plan, pool.User, b.Name}
			if drawn[key] != b.Used || over[key] != b.Overage {
				t.Fatalf("%s %v: calls of %v drew %d and have %d over, the pool says %+v", r.Tenant, r.Month, key, drawn[key], over[key], b)
			}
		}
	}
}

// explainsLines pages through each line, and compares each of its calls with its passport.
func explainsLines(t *rapid.T, l *domain.Ledger, r domain.Rating, all map[domain.Ref]domain.Passport) (lines int) {
	costs := 0
	for _, p := range all {
		if p.Month == r.Month && p.Cost != nil {
			costs++
		}
	}
	for _, invoice := range r.Invoices {
		for _, line := range invoice.Lines {
			lines++
			var after *domain.Share
			var n, seconds int64
			sum := new(big.Rat)
			for {
				shares, more := l.LineCalls(r.Tenant, r.Month, invoice.Country, invoice.Plan, line.Line, after, rapid.IntRange(1, 4).Draw(t, "page"))
				for i := range shares {
					s := &shares[i]
					p := all[s.Ref]
					if p.Cost == nil || p.Cost.Exact.Cmp(s.Exact) != 0 || p.Cost.Seconds != s.Over || p.Cost.Line.Line != line.Line ||
						p.Cost.Line.Amount.String() != line.Amount.String() || p.Cost.Country != invoice.Country || p.Cost.Plan != invoice.Plan {
						t.Fatalf("%+v is a call of line %+v, its passport says %+v", s, line, p.Cost)
					}
					n, seconds = n+1, seconds+s.Over
					sum.Add(sum, s.Exact)
					after = s
				}
				if !more {
					break
				}
			}
			costs -= int(n)
			exact := domain.ExactCharge(line.Price, line.Fee, line.Calls, line.Seconds)
			if n != line.Calls || seconds != line.Seconds || sum.Cmp(exact) != 0 {
				t.Fatalf("%s %v %+v: its calls are %d of %d s, exactly %s; the line is exactly %s", r.Tenant, r.Month, line, n, seconds, sum, exact)
			}
		}
	}
	if costs != 0 {
		t.Fatalf("%s %v: %d calls cost something and stand on no line", r.Tenant, r.Month, costs)
	}
	return lines
}

func explainsGrants(t *rapid.T, l *domain.Ledger, r domain.Rating) int {
	for _, pool := range r.Pools {
		g, ok := l.ExplainGrant(r.Tenant, r.Month, pool.Country, pool.Plan, pool.User)
		if !ok || g.Licences != pool.Licences || len(g.Buckets) != len(pool.Buckets) {
			t.Fatalf("%s %v %+v: %+v", r.Tenant, r.Month, pool, g)
		}
		g.Share()
		for b, bucket := range pool.Buckets {
			sum := new(big.Rat)
			for _, s := range g.Intervals {
				if s.By == (domain.Ref{}) {
					t.Fatalf("nothing made %+v", s)
				}
				sum.Add(sum, s.Seconds[b])
			}
			whole := new(big.Int).Quo(sum.Num(), sum.Denom()).Int64()
			if whole != bucket.Granted || g.Buckets[b].Seconds != bucket.Granted {
				t.Fatalf("%s %v %s %s: %v of %s make %s s of %d: %+v", r.Tenant, r.Month, pool.Country, pool.Plan, g.Rule, bucket.Name, sum.RatString(), bucket.Granted, g.Intervals)
			}
		}
	}
	return len(r.Pools)
}

// TestChangesSince compares what a ledger says has changed since a snapshot with
// the passports of all calls before and after.
func TestChangesSince(t *testing.T) {
	seen := map[string]int{}
	rapid.Check(t, func(t *rapid.T) {
		events := rapid.Permutation(histories.Draw(t, "history")).Draw(t, "order")
		tenant := rapid.SampledFrom(tenantsOf(events)).Draw(t, "tenant")
		month := rapid.SampledFrom(ratedMonths).Draw(t, "month")
		until := rapid.IntRange(0, len(events)).Draw(t, "until")
		l := domain.NewLedger()
		for i := range events[:until] {
			l.Add(&events[i])
		}
		before := passports(t, l, events[:until], tenant)
		snapshot := l.Snapshot(tenant, month)
		for i := until; i < len(events); i++ {
			l.Add(&events[i])
		}
		after := passports(t, l, events, tenant)
		want := map[domain.Ref][2]string{}
		moves, asked, wantAsked := map[domain.Move]int64{}, map[domain.Ref]bool{}, map[domain.Ref]bool{}
		for _, ref := range slices.SortedFunc(maps.Keys(after), func(a, b domain.Ref) int {
			return cmp.Or(cmp.Compare(a.Source, b.Source), cmp.Compare(a.ID, b.ID))
		}) {
			was, is := shown(before, ref, month), shown(after, ref, month)
			if was != is {
				want[ref] = [2]string{was, is}
				moves[domain.Move{Before: classIn(before, ref, month), After: classIn(after, ref, month)}]++
			}
			if rapid.Bool().Draw(t, "asked") {
				asked[ref], wantAsked[ref] = false, was != is
			}
		}
		changes := l.Since(snapshot, len(events), asked)
		got := map[domain.Ref][2]string{}
		for _, c := range changes.First {
			got[c.Ref] = [2]string{split(c.Before), split(c.After)}
			seen[fmt.Sprint(c.Before != nil, c.After != nil)]++
		}
		if diff := gocmp.Diff(want, got, cmpopts.EquateEmpty()); diff != "" {
			t.Fatalf("%s %v since %d of %d events (-passports +changes):\n%s\n%s", tenant, month, until, len(events), diff, describe(events))
		}
		if changes.All != int64(len(want)) || !maps.Equal(moves, changes.Moves) || !maps.Equal(wantAsked, asked) {
			t.Fatalf("%d changed: %d, %v; want %v; asked %v, want %v", len(want), changes.All, changes.Moves, moves, asked, wantAsked)
		}
		if !slices.IsSortedFunc(changes.First, func(a, b domain.Change) int {
			return cmp.Or(cmp.Compare(atOf(a), atOf(b)), cmp.Compare(a.Ref.Source, b.Ref.Source), cmp.Compare(a.Ref.ID, b.Ref.ID))
		}) {
			t.Fatalf("not by R7's order: %+v", changes.First)
		}
		limit := rapid.IntRange(0, len(changes.First)).Draw(t, "limit")
		few := l.Since(snapshot, limit, nil)
		changes.First = changes.First[:limit]
		if diff := gocmp.Diff(changes, few, cmpopts.EquateEmpty()); diff != "" {
			t.Fatalf("the first %d (-of all +of few):\n%s", limit, diff)
		}
	})
	t.Logf("(before, after): %v", seen)
	if len(seen) < 3 {
		t.Error("there were not calls that came, went and changed")
	}
}

func atOf(c domain.Change) domain.Instant {
	if c.After != nil {
		return c.After.At
	}
	return c.Before.At
}

// classIn is the class of a call in a month; "": the month has it not.
func classIn(all map[domain.Ref]domain.Passport, ref domain.Ref, month domain.Month) domain.Class {
	if p, ok := all[ref]; ok && p.Month == month && p.Class != domain.ClassVoided {
		return p.Class
	}
	return ""
}

// shown is what a passport says of a call in a month; "": the month has it not.
func shown(all map[domain.Ref]domain.Passport, ref domain.Ref, month domain.Month) string {
	p, ok := all[ref]
	if !ok || p.Month != month || p.Class == domain.ClassVoided {
		return ""
	}
	s := domain.Split{At: p.At, User: p.Call.User, Called: p.Call.Called, Class: p.Class}
	if p.Class != domain.ClassFree {
		s.Billed = p.Billed
	}
	if p.Pool != nil {
		s.Country, s.Plan, s.Pool, s.Bucket = p.Pool.Country, p.Pool.Plan, p.Pool.User, p.Pool.Bucket
	}
	if p.Cost != nil {
		s.Country, s.Plan, s.Line, s.Over = p.Cost.Country, p.Cost.Plan, &p.Cost.Line.Line, p.Cost.Seconds
	}
	if p.Class == domain.ClassOutside && p.Plan.Scope == domain.ScopeUser {
		s.Pool = p.Call.User
	}
	return split(&s)
}

func split(s *domain.Split) string {
	if s == nil {
		return ""
	}
	line := "-"
	if s.Line != nil {
		line = fmt.Sprintf("%+v", *s.Line)
	}
	return fmt.Sprintf("%v %s %v %s %s/%s/%s/%s %d %d %s", s.At, s.User, s.Called, s.Class, s.Country, s.Plan, s.Pool, s.Bucket, s.Billed, s.Over, line)
}
