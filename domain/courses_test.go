package domain_test

import (
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"tollbook/domain"
)

// TestCourses: the courses of random months are those of their pools, slot by slot,
// and what was over them is what their invoices charge.
func TestCourses(t *testing.T) {
	pools, over := 0, int64(0)
	rapid.Check(t, func(t *rapid.T) {
		events := histories.Draw(t, "history")
		l := domain.NewLedger()
		for i := range events {
			l.Add(&events[i])
		}
		tenant := rapid.SampledFrom(tenantsOf(events)).Draw(t, "tenant")
		for _, month := range ratedMonths {
			before := l.StateOf(tenant, month)
			rating := l.Rating(tenant, month)
			from, to := l.Bounds(tenant, month)
			byKey := map[domain.PoolKey]domain.PoolRating{}
			for _, r := range rating.Pools {
				byKey[domain.PoolKey{Country: r.Country, Plan: r.Plan, User: r.User}] = r
			}
			charged := map[domain.Line]int64{}
			visited := 0
			for c := range l.Courses(tenant, month) {
				visited++
				r, has := byKey[c.PoolKey]
				if !has || c.Licences != r.Licences {
					t.Fatalf("%+v, but the month's pools are %+v", c, rating.Pools)
				}
				if a, b := c.Held(); a < from || b > to || a >= b {
					t.Fatalf("held from %s to %s", a, b)
				}
				want := map[[2]int]int64{}
				for _, slot := range l.Course(tenant, month, c.Country, c.Plan, c.User) {
					for bucket, seconds := range slot.Billed {
						want[[2]int{int(time.Duration(slot.From-from) / c.Width), bucket}] = seconds
					}
				}
				got := map[[2]int]int64{}
				c.Slots(func(slot, bucket int, seconds int64) { got[[2]int{slot, bucket}] += seconds })
				for key, seconds := range want { // slots of one lane only, or empty
					if got[key] != seconds {
						t.Fatalf("slots %v, want %v", got, want)
					}
				}
				exhausted := domain.Instant(0)
				for n, buckets := range c.Lanes {
					sum := int64(0)
					c.Over(n, func(line *domain.Line, _, seconds int64) {
						sum += seconds
						charged[*line] += seconds
					})
					billed, latest := int64(0), int64(0)
					for _, b := range buckets {
						sum -= r.Buckets[b].Overage
						billed += r.Buckets[b].Used + r.Buckets[b].Overage
						over += r.Buckets[b].Overage
					}
					if sum != 0 {
						t.Fatalf("lane %d: %d seconds more are over it than its buckets have", n, sum)
					}
					c.Latest(n, 1<<30, func(_ *domain.Line, seconds int64) { latest += seconds })
					if latest != billed {
						t.Fatalf("lane %d: all calls have %d seconds, its buckets %d", n, latest, billed)
					}
					if at := c.EndedAt(n); at != 0 && r.Buckets[buckets[0]].Overage > 0 && (exhausted == 0 || at < exhausted) {
						exhausted = at
					}
				}
				if exhausted != 0 && exhausted < r.ExhaustedAt {
					t.Fatalf("ended at %s, but exhausted at %s", exhausted, r.ExhaustedAt)
				}
				c.Outside(func(line *domain.Line, _, seconds int64) { charged[*line] += seconds })
			}
			if visited != len(rating.Pools) && rating.Counts.Calls > 0 {
				t.Fatalf("%d pools of %d", visited, len(rating.Pools))
			}
			pools += visited
			invoiced := map[domain.Line]int64{}
			for _, i := range rating.Invoices {
				for _, line := range i.Lines {
					invoiced[line.Line] += line.Seconds
				}
			}
			if diff := gocmp.Diff(invoiced, charged); diff != "" {
				t.Fatalf("-invoiced +over and outside:\n%s", diff)
			}
			if l.StateOf(tenant, month) != before {
				t.Fatal("asking changes the month")
			}
		}
	})
	t.Logf("%d pools, %d seconds over them", pools, over)
	if pools == 0 || over == 0 {
		t.Error("nothing was looked at")
	}
}
