package projections_test

import (
	"cmp"
	"flag"
	"fmt"
	"slices"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"

	"tollbook/domain"
	"tollbook/eventstore"
	"tollbook/projections"
)

// statedLevels are the levels by the statements, which say the same at length.
func statedLevels(m *projections.Months, tenant string, now domain.Instant, closed domain.Month) projections.Levels {
	l := projections.Levels{Exceptions: map[string]int64{}}
	l.Intake, _ = m.Intake(tenant)
	months := m.MonthsOf(tenant)
	for i, month := range months {
		if from, _ := m.MonthBounds(tenant, month); i == 0 || from <= now {
			l.Month = month
		}
		if month <= closed {
			continue
		}
		l.Open++
		for _, reason := range []string{domain.Dangling, domain.Ungranted, domain.Unlicensed, domain.Unrated} {
			count, waived := m.Exceptions(tenant, month, reason)
			l.Exceptions[reason] += max(0, count-waived)
		}
	}
	if len(months) == 0 {
		return l
	}
	for _, p := range m.Statement(tenant, l.Month).Pools {
		for _, b := range p.Buckets {
			i := slices.IndexFunc(l.Pools, func(o projections.PoolLevel) bool {
				return o.Country == p.Country && o.Plan == p.Plan && o.Bucket == b.Name
			})
			if i < 0 {
				i = len(l.Pools)
				l.Pools = append(l.Pools, projections.PoolLevel{Country: p.Country, Plan: p.Plan, Bucket: b.Name})
			}
			level := &l.Pools[i]
			level.Pools++
			level.Granted, level.Used, level.Overage = level.Granted+b.Granted, level.Used+b.Used, level.Overage+b.Overage
			if b.Used >= b.Granted {
				level.Ended++
			}
			if share := (projections.Share{Used: b.Used, Granted: b.Granted}); share.Ratio() > level.Fullest.Ratio() {
				level.Fullest = share
			}
		}
	}
	slices.SortFunc(l.Pools, func(a, b projections.PoolLevel) int {
		return cmp.Or(cmp.Compare(a.Country, b.Country), cmp.Compare(a.Plan, b.Plan), cmp.Compare(a.Bucket, b.Bucket))
	})
	return l
}

// TestLevels: levels say what statements say, whatever came in whatever order,
// before and after a month is closed and exceptions are waived.
func TestLevels(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		months := projections.NewMonths()
		var head eventstore.Head
		follow := func(events ...domain.Event) {
			first := head.Events + 1
			head.Block, head.Events = head.Block+1, head.Events+uint64(len(events))
			months.Follow(eventstore.Update{Head: head, First: first, Events: events})
		}
		closed := map[string]domain.Month{}
		compare := func() {
			t.Helper()
			now := rapid.SampledFrom(historyMonths).Draw(t, "now") // in any zone
			for _, tenant := range append([]string{"nobody"}, historyTenants...) {
				at := now.Start(time.UTC) + domain.Instant(rapid.IntRange(-24, 24).Draw(t, "hours"))*hour
				want, got := statedLevels(months, tenant, at, closed[tenant]), months.Levels(tenant, at)
				// Of equally full pools either is the fullest.
				same := gocmp.Comparer(func(a, b projections.Share) bool { return a.Ratio() == b.Ratio() })
				if diff := gocmp.Diff(want, got, cmpopts.EquateEmpty(), same); diff != "" {
					t.Fatalf("%s at %s (-statements +levels):\n%s", tenant, at, diff)
				}
			}
		}
		events := histories.Draw(t, "events")
		half := len(events) / 2
		follow(events[:half]...)
		compare()
		follow(events[half:]...)
		compare()
		for _, tenant := range historyTenants {
			all := months.MonthsOf(tenant)
			if len(all) == 0 {
				continue
			}
			own := func(id string, data domain.Data) domain.Event {
				return domain.Event{Tenant: tenant, Source: eventstore.MonthsSource, ID: id, Time: afterAll, Data: data}
			}
			follow(own("waived", &domain.ExceptionWaived{
				Month: all[len(all)-1], Exception: domain.Unlicensed, Count: rapid.Int64Range(0, 2).Draw(t, "waived"), By: "ada", Reason: "staff",
			}))
			if rapid.Bool().Draw(t, "close") {
				issue, err := months.Issue(tenant, all[0])
				if err != nil {
					t.Fatal(err)
				}
				follow(own("closed", &domain.MonthClosed{
					Month: all[0], Number: issue.Number, Position: issue.Position, Head: issue.Head, Digest: issue.Digest, Document: issue.Document, By: "ada",
				}))
				closed[tenant] = all[0]
			}
		}
		compare()
	})
}

// TestSuspenseLevels: they count what the desk lists.
func TestSuspenseLevels(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		desk := projections.NewSuspense(seen)
		position := uint64(0)
		for range rapid.IntRange(0, 40).Draw(t, "events") {
			position++
			e := suspendedEvent(rapid.SampledFrom(suspenseTenants).Draw(t, "tenant"), fmt.Sprint("id-", position), rapid.SampledFrom(suspenseReasons).Draw(t, "reason"), "")
			e.Time += domain.Instant(rapid.IntRange(0, 9).Draw(t, "time"))
			if rapid.IntRange(0, 2).Draw(t, "resolve") == 0 {
				e = resolvedEvent(e.Tenant, fmt.Sprint("id-", rapid.Uint64Range(1, position).Draw(t, "id")), true)
			}
			desk.Follow(eventstore.Update{First: position, Events: []domain.Event{e}})
		}
		var want []projections.SuspenseLevel
		for _, tenant := range suspenseTenants {
			for _, reason := range suspenseReasons {
				records := desk.Records(projections.SuspenseFilter{Tenant: tenant, Reason: reason}, 0, 0)
				if len(records) > 0 {
					oldest := slices.MinFunc(records, func(a, b projections.SuspendedRecord) int { return cmp.Compare(a.At, b.At) })
					want = append(want, projections.SuspenseLevel{Tenant: tenant, Reason: reason, Records: len(records), Oldest: oldest.At})
				}
			}
		}
		if diff := gocmp.Diff(want, desk.Levels()); diff != "" {
			t.Fatalf("(-listed +levels):\n%s", diff)
		}
	})
}

// TestGapLevels: they count what the documents have.
func TestGapLevels(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		f, naive, id := newFold(), newNaiveGaps(), 0
		for range rapid.IntRange(1, 10).Draw(t, "blocks") {
			events := genGapEvents(naive, t, &id)
			f.block(events...)
			naive.block(events)
		}
		var want []projections.GapLevel
		for _, tenant := range f.gaps.Tenants() {
			d := f.gaps.Document(tenant, "")
			l := projections.GapLevel{Tenant: tenant, Sources: d.Count, Incomplete: d.Incomplete}
			for _, s := range d.Sources {
				l.Missing += uint64(s.MissingCount - s.WaivedCount)
			}
			want = append(want, l)
		}
		if diff := gocmp.Diff(want, f.gaps.Levels()); diff != "" {
			t.Fatalf("(-documents +levels):\n%s", diff)
		}
	})
}

var levelCalls = flag.Int("level-calls", 100_000, "calls in the month of BenchmarkLevels")

// BenchmarkLevels reads the levels of a month after each block of calls that comes in.
func BenchmarkLevels(b *testing.B) {
	const users, each = 20_000, 1000
	for _, scope := range []domain.Scope{domain.ScopeCountry, domain.ScopeUser} {
		b.Run(scope.String(), func(b *testing.B) {
			months := projections.NewMonths()
			var head eventstore.Head
			first := instant("2026-10-01T00:00:00Z")
			add := func(events []domain.Event) {
				at := head.Events + 1
				head.Block, head.Events = head.Block+1, head.Events+uint64(len(events))
				months.Follow(eventstore.Update{Head: head, First: at, Events: events})
			}
			event := func(id int, data domain.Data) domain.Event {
				return domain.Event{Tenant: "contoso", Source: "switch/mil-1", ID: fmt.Sprint("e-", id), Time: first, Data: data}
			}
			terms := []domain.Event{
				event(0, &domain.Plan{
					Plan: "DOMESTIC_120", Name: "Domestic 120", EffectiveFrom: 20260101, Kinds: []string{domain.KindUser}, Deck: "standard", Scope: scope,
					Increment: domain.DefaultIncrement, Grant: domain.GrantPeak,
					Buckets: []domain.Bucket{{Name: "domestic", Zone: domain.ZoneDomestic, Minutes: map[string]int64{domain.AnyCountry: 120}}},
				}),
				event(0, &domain.Deck{Deck: "standard", Version: "1", EffectiveFrom: first, Currency: "EUR", Part: 1, Parts: 1, Rows: []domain.Row{
					{Prefix: "39", Country: "IT", Name: "Italy", RowType: "landline", Price: 16_000, Increment: domain.DefaultIncrement},
				}}),
			}
			for i := range users {
				terms = append(terms, event(i, &domain.Assignment{User: fmt.Sprint("user", i, "@contoso.example"), Plan: "DOMESTIC_120", Country: "IT", EffectiveAt: first}))
			}
			add(terms)
			n, apart := 0, domain.Instant(28*24*time.Hour)/domain.Instant(*levelCalls+1_000_000)
			calls := func(count int) {
				block := make([]domain.Event, count)
				for i := range block {
					n++
					block[i] = event(n, &domain.Call{
						User: fmt.Sprint("user", n*7919%users, "@contoso.example"), Kind: domain.KindUser, Calling: phone("+390281234567"), Called: phone("+390612345678"),
						AnsweredAt: first + domain.Instant(n)*apart, BillableMS: 60_000,
					})
				}
				add(block)
			}
			for n < *levelCalls {
				calls(10_000)
			}
			months.Levels("contoso", first)
			for b.Loop() {
				b.StopTimer()
				calls(each)
				b.StartTimer()
				if l := months.Levels("contoso", first); l.Intake.Booked == 0 {
					b.Fatal("nothing is booked")
				}
			}
		})
	}
}
