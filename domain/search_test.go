package domain_test

import (
	"cmp"
	"slices"
	"strings"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"

	"tollbook/domain"
)

// TestCallSearch compares searches with a filter over all calls, page by page, while
// a random history comes, also between the search and its answer.
func TestCallSearch(t *testing.T) {
	found, again := 0, 0
	rapid.Check(t, func(t *rapid.T) {
		events := rapid.Permutation(histories.Draw(t, "history")).Draw(t, "order")
		tenant := rapid.SampledFrom(tenantsOf(events)).Draw(t, "tenant")
		month := rapid.SampledFrom(ratedMonths).Draw(t, "month")
		starts := []string{"+", "+39", "+3906", "39", "11", "+1", "0", "112"}
		for _, e := range events {
			if c, is := e.Data.(*domain.Call); is {
				starts = append(starts, strings.TrimRight(c.Called.String(), "*"))
			}
		}
		l := domain.NewLedger()
		next := 0
		add := func() {
			for range rapid.IntRange(0, 40).Draw(t, "more") {
				if next < len(events) {
					l.Add(&events[next])
					next++
				}
			}
		}
		add()
		for range rapid.IntRange(1, 5).Draw(t, "searches") {
			wanted := domain.Wanted{Calls: rapid.IntRange(1, 5).Draw(t, "limit"), First: rapid.Bool().Draw(t, "first"), Any: rapid.IntRange(0, 3).Draw(t, "any") == 0}
			start := rapid.SampledFrom(starts).Draw(t, "start")
			number, ok := domain.ParseNumberStart(start)
			if digits := strings.TrimPrefix(start, "+"); ok != (digits != "" && strings.Trim(digits, "0123456789") == "") {
				t.Fatalf("%q is a start: %v", start, ok)
			}
			part := rapid.SampledFrom([]string{"-", "user1", "user", "5@"}).Draw(t, "user")
			wanted.Number, wanted.User = number, func(name string) bool { return strings.Contains(name, part) }
			for more := true; more; {
				var calls []domain.MonthCall
				for ok = false; !ok; {
					f := l.CallSearch(tenant, month).Find(wanted)
					add()
					if calls, more, ok = f.Calls(l); !ok {
						again++
					}
				}
				var want []domain.MonthCall
				for _, c := range readMonth(t, l.MonthCalls(tenant, month)) {
					b := wanted.Before
					before := b == nil || cmp.Or(cmp.Compare(c.At, b.At), cmp.Compare(c.Source, b.Source), cmp.Compare(c.ID, b.ID)) < 0
					text := strings.TrimRight(c.Called.String(), "*")
					is := number != domain.NumberStart{} && !c.Called.Anonymous() && strings.HasPrefix(strings.TrimPrefix(text, "+"), strings.TrimPrefix(start, "+")) &&
						(strings.HasPrefix(text, "+") || !strings.HasPrefix(start, "+"))
					if before && (wanted.Any || wanted.User(c.User) || is) {
						want = append(want, c)
					}
				}
				if !wanted.First {
					slices.Reverse(want)
				}
				if more != (len(want) > wanted.Calls) {
					t.Fatalf("more: %v; there are %d calls, the limit is %d", more, len(want), wanted.Calls)
				}
				want = want[:min(len(want), wanted.Calls)]
				if diff := gocmp.Diff(want, calls, cmpopts.EquateEmpty()); diff != "" {
					t.Fatalf("%s %v %q %q after %+v (-filter +search):\n%s", tenant, month, start, part, wanted.Before, diff)
				}
				found += len(calls)
				if more = more && !wanted.First; more {
					last := calls[len(calls)-1]
					wanted.Before = &domain.Share{At: last.At, Ref: last.Ref}
				}
			}
		}
	})
	t.Logf("%d calls found, %d searches begun again", found, again)
	if found == 0 || again == 0 {
		t.Error("nothing was found, or nothing came in between")
	}
}
