package domain_test

import (
	"cmp"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

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

// TestCallSearchOfManyCalls is TestCallSearch over several chunks of calls, which are
// searched by their numbers' first digits, while more calls come.
func TestCallSearchOfManyCalls(t *testing.T) {
	l := domain.NewLedger()
	month, start := domain.MonthOf(time.Date(2026, 10, 1, 0, 0, 0, 0, time.UTC)), at("2026-10-01T00:00:00Z")
	var numbers, users, ids []string // by call, the next of which is answered a second later
	add := func(n int, random *rand.Rand) {
		for range n {
			text := "+" + []string{"", "39", "390612345", "0", "00"}[random.IntN(5)] + fmt.Sprintf("%015d", random.Int64N(1e15))
			switch text = text[:3+random.IntN(14)]; random.IntN(8) {
			case 0:
				text = text[1:min(len(text), 7)]
			case 1:
				text = text[:len(text)-1] + "*"
			case 2:
				text = "anonymous"
			}
			called, err := domain.ParseNumber(text)
			if err != nil {
				t.Fatalf("%s: %v", text, err)
			}
			user, id := fmt.Sprintf("user%d", random.IntN(5000)), fmt.Sprint(len(ids))
			answered := start + domain.Instant(len(ids))*domain.Instant(time.Second)
			l.Add(&domain.Event{Tenant: "acme", Source: "switch/1", ID: id, Time: answered, Data: &domain.Call{
				User: user, Direction: domain.Outbound, Called: called, AnsweredAt: answered, BillableMS: 60_000, Disposition: domain.Answered,
			}})
			numbers, users, ids = append(numbers, strings.TrimRight(text, "*")), append(users, user), append(ids, id)
		}
	}
	add(40_000, rand.New(rand.NewPCG(1, 1)))
	found := 0
	rapid.Check(t, func(t *rapid.T) {
		random := rand.New(rand.NewPCG(2, rapid.Uint64().Draw(t, "seed")))
		like := numbers[random.IntN(len(numbers))]
		text := like[:min(len(like), 1+random.IntN(16))]
		number, _ := domain.ParseNumberStart(text)
		user := fmt.Sprintf("user%d", random.IntN(10_000))
		wanted := domain.Wanted{Number: number, User: func(name string) bool { return name == user }, Calls: 1 + random.IntN(500), First: random.IntN(2) == 0}
		f := l.CallSearch("acme", month).Find(wanted)
		add(random.IntN(200), random)
		calls, more, ok := f.Calls(l)
		if !ok {
			t.Fatal("nothing has gone, and yet it is to be searched again")
		}
		var want, got []string
		for n, called := range numbers {
			is := number != domain.NumberStart{} && called != "anonymous" && (strings.HasPrefix(called, text) || strings.HasPrefix(called, "+"+text))
			if is || users[n] == user {
				want = append(want, ids[n])
			}
		}
		if !wanted.First {
			slices.Reverse(want)
		}
		if more != (len(want) > wanted.Calls) {
			t.Fatalf("%q, %s: more: %v; there are %d calls, the limit is %d", text, user, more, len(want), wanted.Calls)
		}
		for _, c := range calls {
			got = append(got, c.ID)
		}
		if diff := gocmp.Diff(want[:min(len(want), wanted.Calls)], got, cmpopts.EquateEmpty()); diff != "" {
			t.Fatalf("%q, %s (-filter +search):\n%s", text, user, diff)
		}
		found += len(calls)
	})
	t.Logf("%d calls found", found)
}

// BenchmarkCallSearch looks for a user and for a number among a million calls; scan is
// the reference, the sum of as many numbers of 64 bits.
func BenchmarkCallSearch(b *testing.B) {
	const calls, users = 1_000_000, 50_000
	l := domain.NewLedger()
	start, month := at("2026-10-01T00:00:00Z"), domain.MonthOf(time.Date(2026, 10, 1, 0, 0, 0, 0, time.UTC))
	for n := range calls {
		answered := start + domain.Instant(n)*domain.Instant(time.Second)
		l.Add(&domain.Event{Tenant: "acme", Source: "switch/1", ID: fmt.Sprint(n), Time: answered, Data: &domain.Call{
			User: fmt.Sprintf("user%d", n%users), Called: domain.Number{Digits: 39_000_000_000 + uint64(n)*7919%1e9, Len: 11, Plus: true},
			AnsweredAt: answered, BillableMS: 60_000, Disposition: domain.Answered,
		}})
	}
	number, _ := domain.ParseNumberStart("+39000007919")
	for name, wanted := range map[string]domain.Wanted{
		"user": {User: func(name string) bool { return name == "user4711" }}, "number": {Number: number},
	} {
		wanted.Calls = 50
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				f := l.CallSearch("acme", month).Find(wanted)
				if found, _, ok := f.Calls(l); !ok || len(found) == 0 {
					b.Fatal("nothing found")
				}
			}
			b.ReportMetric(calls*float64(b.N)/b.Elapsed().Seconds(), "calls/s")
		})
	}
	list := make([]uint64, calls)
	b.Run("scan", func(b *testing.B) {
		sum := uint64(0)
		for b.Loop() {
			for _, n := range list {
				sum += n
			}
		}
		b.ReportMetric(calls*float64(b.N)/b.Elapsed().Seconds()+float64(sum), "calls/s")
	})
}
