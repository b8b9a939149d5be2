package domain_test

import (
	"cmp"
	"slices"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"

	"tollbook/domain"
)

// TestPoolView looks at pools while a random history comes in any order: hours add
// up to buckets, users and destinations to what the calls' passports say, and the
// pages of the overflow are the calls with overage, in their order. So it is with
// the calls of lines.
func TestPoolView(t *testing.T) {
	curves, sums, pages := 0, 0, 0
	rapid.Check(t, func(t *rapid.T) {
		events := rapid.Permutation(histories.Draw(t, "history")).Draw(t, "order")
		if rapid.IntRange(0, 3).Draw(t, "terms in between") > 0 {
			// Plans, decks and configurations have all made anew. Without them what was
			// summed before must be put right.
			slices.SortStableFunc(events, func(a, b domain.Event) int { return isCall(a) - isCall(b) })
		}
		pause := rapid.SampledFrom([]int{5, 2, 20, 1000}).Draw(t, "pause")
		l := domain.NewLedger()
		tenant := rapid.SampledFrom(tenantsOf(events)).Draw(t, "tenant")
		look := func(known []domain.Event, month domain.Month) {
			r := l.Rating(tenant, month)
			all := passports(t, l, known, tenant)
			for _, pool := range r.Pools {
				curves += hoursAddUp(t, l, r, pool)
				sums += sumsAddUp(t, l, r, pool, all)
				pages += overflowIs(t, l, r, pool, all)
			}
			explainsLines(t, l, r, all)
		}
		for i := range events {
			l.Add(&events[i])
			if (i+1)%pause == 0 {
				for _, month := range ratedMonths {
					look(events[:i+1], month)
				}
			}
		}
		for _, month := range ratedMonths {
			look(events, month)
		}
	})
	t.Logf("%d curves with calls, %d users and destinations, %d calls with overage", curves, sums, pages)
	if curves == 0 || sums == 0 || pages == 0 {
		t.Error("nothing was looked at")
	}
}

// isCall is 1 of what keeps the terms as they are.
func isCall(e domain.Event) int {
	switch e.Data.(type) {
	case *domain.Plan, *domain.Deck, *domain.TenantConfig:
		return 0
	}
	return 1
}

func keyOf(p domain.PoolRating) domain.PoolKey {
	return domain.PoolKey{Country: p.Country, Plan: p.Plan, User: p.User}
}

// drew reports whether a call drew on a pool's buckets.
func drew(p *domain.Passport, month domain.Month, pool domain.PoolKey) bool {
	return p.Month == month && p.Pool != nil && (domain.PoolKey{Country: p.Pool.Country, Plan: p.Pool.Plan, User: p.Pool.User}) == pool
}

func hoursAddUp(t *rapid.T, l *domain.Ledger, r domain.Rating, pool domain.PoolRating) int {
	c, ok := l.PoolCurve(r.Tenant, r.Month, keyOf(pool))
	if !ok {
		t.Fatalf("%s %v has no pool %+v", r.Tenant, r.Month, pool)
	}
	if diff := gocmp.Diff(pool, c.PoolRating); diff != "" {
		t.Fatalf("the pool is another one:\n%s", diff)
	}
	type seconds struct{ Used, Over int64 }
	want, got := make([]seconds, len(pool.Buckets)), make([]seconds, len(pool.Buckets))
	for i, b := range pool.Buckets {
		want[i] = seconds{b.Used, b.Overage}
	}
	from := c.From
	for _, s := range c.Slots {
		if s.From < from || s.To <= s.From || s.To > c.To {
			t.Fatalf("slot %v to %v of %v to %v", s.From, s.To, c.From, c.To)
		}
		from = s.To
		for i := range got {
			if s.Over[i] < 0 || s.Over[i] > s.Billed[i] {
				t.Fatalf("%d s over of %d", s.Over[i], s.Billed[i])
			}
			got[i].Used += s.Billed[i] - s.Over[i]
			got[i].Over += s.Over[i]
		}
	}
	if diff := gocmp.Diff(want, got); diff != "" {
		t.Fatalf("%s %v %+v: the slots don't add up (-pool +slots):\n%s", r.Tenant, r.Month, pool, diff)
	}
	return min(len(c.Slots), 1)
}

func sumsAddUp(t *rapid.T, l *domain.Ledger, r domain.Rating, pool domain.PoolRating, all map[domain.Ref]domain.Passport) int {
	users, destinations := map[string]domain.UsageSum{}, map[domain.Destination]domain.UsageSum{}
	for _, p := range all {
		if drew(&p, r.Month, keyOf(pool)) {
			s := users[p.Call.User]
			users[p.Call.User] = domain.UsageSum{Calls: s.Calls + 1, Seconds: s.Seconds + p.Billed, Over: s.Over + p.Pool.Over}
			line := p.Rows[0].Line
			d := domain.Destination{Country: line.Country, Name: line.Name, RowType: line.RowType}
			s = destinations[d]
			destinations[d] = domain.UsageSum{Calls: s.Calls + 1, Seconds: s.Seconds + p.Billed, Over: s.Over + p.Pool.Over}
		}
	}
	top := rapid.IntRange(1, 3).Draw(t, "top")
	var few domain.PoolUsage
	ready := false
	for parts := 0; !ready; parts++ {
		if few, ready = l.PoolUsage(r.Tenant, r.Month, keyOf(pool), top, rapid.IntRange(1, 10).Draw(t, "at once")); parts == 1000 {
			t.Fatal("a pool is not read in 1,000 parts")
		}
		if parts < 2 && rapid.Bool().Draw(t, "leave") {
			return 0 // the rest is read when more has come
		}
	}
	got, ready := l.PoolUsage(r.Tenant, r.Month, keyOf(pool), 1<<20, 1)
	if !ready || got.AllUsers != len(users) || got.AllDestinations != len(destinations) {
		t.Fatalf("%d users and %d destinations, want %d and %d; ready: %v", got.AllUsers, got.AllDestinations, len(users), len(destinations), ready)
	}
	gotUsers, gotDestinations := map[string]domain.UsageSum{}, map[domain.Destination]domain.UsageSum{}
	for _, u := range got.Users {
		gotUsers[u.User] = u.UsageSum
	}
	for _, d := range got.Destinations {
		gotDestinations[d.Destination] = d.UsageSum
	}
	if diff := gocmp.Diff(users, gotUsers); diff != "" {
		t.Fatalf("%s %v %+v: users (-passports +read):\n%s", r.Tenant, r.Month, pool, diff)
	}
	if diff := gocmp.Diff(destinations, gotDestinations); diff != "" {
		t.Fatalf("%s %v %+v: destinations (-passports +read):\n%s", r.Tenant, r.Month, pool, diff)
	}
	if !slices.IsSortedFunc(got.Users, func(a, b domain.UserUsage) int { return cmp.Compare(b.Seconds, a.Seconds) }) {
		t.Fatalf("not in order: %+v", got.Users)
	}
	first := domain.PoolUsage{
		Users: got.Users[:min(top, len(users))], AllUsers: len(users),
		Destinations: got.Destinations[:min(top, len(destinations))], AllDestinations: len(destinations),
	}
	if diff := gocmp.Diff(first, few, cmpopts.EquateEmpty()); diff != "" {
		t.Fatalf("the first %d (-of all +alone):\n%s", top, diff)
	}
	return len(users) + len(destinations)
}

// overflowIs compares the pages of a pool's overflow with its calls' passports.
func overflowIs(t *rapid.T, l *domain.Ledger, r domain.Rating, pool domain.PoolRating, all map[domain.Ref]domain.Passport) int {
	type callOf struct {
		domain.Ref
		At           domain.Instant
		Bucket       string
		Billed, Over int64
		Line         domain.Line
	}
	var want, got []callOf
	for _, p := range all {
		if drew(&p, r.Month, keyOf(pool)) && p.Pool.Over > 0 {
			want = append(want, callOf{p.Ref, p.At, p.Pool.Bucket, p.Billed, p.Pool.Over, p.Rows[0].Line})
		}
	}
	slices.SortFunc(want, func(a, b callOf) int {
		return cmp.Or(cmp.Compare(a.At, b.At), cmp.Compare(a.Source, b.Source), cmp.Compare(a.ID, b.ID))
	})
	var after *domain.Share
	for more := true; more; {
		limit := rapid.IntRange(1, 4).Draw(t, "page")
		var calls []domain.MonthCall
		calls, more = l.Overflow(r.Tenant, r.Month, keyOf(pool), after, limit)
		if len(calls) > limit || more && len(calls) < limit {
			t.Fatalf("a page of %d calls, want %d; more: %v", len(calls), limit, more)
		}
		for i := range calls {
			c := &calls[i]
			if c.Class != domain.ClassOverage || c.Country != pool.Country || c.Plan != pool.Plan || c.Pool != pool.User {
				t.Fatalf("%+v is not over %+v", c, pool)
			}
			got = append(got, callOf{c.Ref, c.At, c.Bucket, c.Billed, c.Over, *c.Line})
			after = &domain.Share{At: c.At, Ref: c.Ref}
		}
	}
	if diff := gocmp.Diff(want, got, cmpopts.EquateEmpty()); diff != "" {
		t.Fatalf("%s %v %+v: overflow (-passports +pages):\n%s", r.Tenant, r.Month, pool, diff)
	}
	if len(want) > 0 && pool.ExhaustedAt != want[0].At {
		t.Fatalf("the first call with overage is of %v, the pool is exhausted at %v", want[0].At, pool.ExhaustedAt)
	}
	return len(want)
}
