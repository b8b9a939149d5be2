package domain_test

import (
	"testing"

	gocmp "github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"tollbook/domain"
)

// TestCourse: the course of every pool of random histories has the calls that draw
// on it, each in the slot that holds it, and comes to what the pool's buckets do.
func TestCourse(t *testing.T) {
	slots := 0
	rapid.Check(t, func(t *rapid.T) {
		events := rapid.Permutation(histories.Draw(t, "history")).Draw(t, "order")
		l := domain.NewLedger()
		for i := range events {
			l.Add(&events[i])
		}
		for _, tenant := range tenantsOf(events) {
			for _, month := range ratedMonths {
				type drawn struct {
					country, plan, user string
					at                  domain.Instant
					bucket              string
					billed              int64
				}
				var calls []drawn
				for _, c := range readMonth(t, l.MonthCalls(tenant, month)) {
					if c.Bucket != "" {
						calls = append(calls, drawn{c.Country, c.Plan, c.Pool, c.At, c.Bucket, c.Billed})
					}
				}
				for p := range l.Pools(tenant, month) {
					course := l.Course(tenant, month, p.Country, p.Plan, p.User)
					slots += len(course)
					for i, slot := range course {
						if slot.From >= slot.To || i > 0 && course[i-1].To > slot.From {
							t.Fatalf("slot %d: %+v", i, course)
						}
						want := make([]int64, len(p.Buckets))
						for _, c := range calls {
							for b := range p.Buckets {
								if c.country == p.Country && c.plan == p.Plan && c.user == p.User && c.bucket == p.Buckets[b].Name && slot.From <= c.at && c.at < slot.To {
									want[b] += c.billed
								}
							}
						}
						if diff := gocmp.Diff(want, slot.Billed); diff != "" {
							t.Fatalf("%s %v %s %s %s (-calls +slot):\n%s\n%s", tenant, month, p.Country, p.Plan, slot.From, diff, describe(events))
						}
					}
					for b, bucket := range p.Buckets {
						sum := int64(0)
						for _, slot := range course {
							sum += slot.Billed[b]
						}
						if sum != bucket.Used+bucket.Overage {
							t.Fatalf("%s %v %+v comes to %d s\n%s", tenant, month, p, sum, describe(events))
						}
					}
				}
			}
		}
	})
	if slots == 0 {
		t.Error("no pool has a course: the test shows nothing")
	}
}
