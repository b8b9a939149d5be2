package domain_test

import (
	"flag"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"

	"tollbook/domain"
)

// TestMain makes rapid try more than its 100 histories; -rapid.checks says otherwise.
func TestMain(m *testing.M) {
	_ = flag.Set("rapid.checks", "400")
	flag.Parse()
	m.Run()
}

// sameRating compares ratings by what they say: amounts by their text, and a
// month without pools is one however its slice was made.
var sameRating = cmp.Options{
	cmp.Comparer(func(a, b domain.Amount) bool { return a.String() == b.String() }),
	cmpopts.EquateEmpty(),
}

// TestAgreesWithNaiveRating adds a history in any order, asking for months in
// between so that what was computed early has to be put right later.
func TestAgreesWithNaiveRating(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		events := rapid.Permutation(histories.Draw(t, "history")).Draw(t, "order")
		b := domain.NewLedger()
		agree := func(known []domain.Event, tenant string, month domain.Month) {
			want := naiveRating(known, tenant, month)
			got := b.Rating(tenant, month)
			if diff := cmp.Diff(want, got, sameRating); diff != "" {
				t.Fatalf("%s %v after %d events (-naive +ledger):\n%s\n%s", tenant, month, len(known), diff, describe(known))
			}
		}
		tenants := tenantsOf(events)
		pause := rapid.SampledFrom([]int{10, 3, 40, 1000}).Draw(t, "pause")
		for i := range events {
			b.Add(&events[i])
			if (i+1)%pause == 0 {
				agree(events[:i+1], rapid.SampledFrom(tenants).Draw(t, "tenant"), rapid.SampledFrom(ratedMonths).Draw(t, "month"))
			}
		}
		for _, tenant := range tenants {
			for _, month := range ratedMonths {
				agree(events, tenant, month)
			}
		}
	})
}

// TestOrderNeverMatters gives one history to two ledgers in different orders.
// One of them rates months on the way, which must not show.
func TestOrderNeverMatters(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		events := histories.Draw(t, "history")
		shuffled := rapid.Permutation(events).Draw(t, "order")
		first, second := domain.NewLedger(), domain.NewLedger()
		for i := range events {
			first.Add(&events[i])
		}
		tenants := tenantsOf(events)
		for i := range shuffled {
			second.Add(&shuffled[i])
			if i%7 == 0 {
				second.Rating(tenants[i%len(tenants)], ratedMonths[i%len(ratedMonths)])
			}
		}
		for _, tenant := range tenants {
			for _, month := range ratedMonths {
				if diff := cmp.Diff(first.Rating(tenant, month), second.Rating(tenant, month), sameRating); diff != "" {
					t.Fatalf("%s %v depends on the order (-drawn +shuffled):\n%s\n%s", tenant, month, diff, describe(shuffled))
				}
			}
		}
	})
}

// TestConservation checks what holds for every rating, whoever computed it.
func TestConservation(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		events := histories.Draw(t, "history")
		b := domain.NewLedger()
		for i := range events {
			b.Add(&events[i])
		}
		for _, tenant := range tenantsOf(events) {
			var calls, voided int64
			for month := ratedMonths[0] - 1; month <= ratedMonths[len(ratedMonths)-1]+1; month++ {
				r := b.Rating(tenant, month)
				calls += r.Counts.Calls
				if diff := unbalanced(r); diff != "" {
					t.Fatalf("%s %v: %s\n%s", tenant, month, diff, describe(events))
				}
			}
			booked := int64(0)
			for ref, isCall := range callRefs(events, tenant) {
				if isCall {
					booked++
					if standsVoided(events, tenant, ref) {
						voided++
					}
				}
			}
			if calls != booked-voided {
				t.Fatalf("%s: %d calls booked, %d voided, %d in all months\n%s", tenant, booked, voided, calls, describe(events))
			}
		}
	})
}

// TestZoneChangeMovesCalls is what TestAgreesWithNaiveRating found once in some
// thousand histories: calls between the ends of a month in two zones, booked
// while another zone held than the one that holds in the end.
func TestZoneChangeMovesCalls(t *testing.T) {
	kathmandu, err := time.LoadLocation("Asia/Kathmandu")
	if err != nil {
		t.Fatal(err)
	}
	call := func(id, answered string) domain.Event {
		return domain.Event{Tenant: "contoso", Source: "switch/mil-1", ID: id, Time: at(answered), Data: &domain.Call{
			User: "ada@example.org", Kind: domain.KindUser, Called: number("+390612345"), AnsweredAt: at(answered), BillableMS: 60_000,
		}}
	}
	config := func(id string, zone *time.Location, from string) domain.Event {
		return domain.Event{Tenant: "contoso", Source: "admin", ID: id, Time: at("2026-09-01T00:00:00Z"), Data: &domain.TenantConfig{
			TimeZone: zone.String(), Zone: zone, Currency: "EUR", EffectiveFrom: day(from),
		}}
	}
	events := []domain.Event{
		call("c1", "2026-10-31T23:59:00Z"), // November in Kathmandu, October in UTC
		call("c2", "2026-11-01T03:00:00Z"),
		config("z1", kathmandu, "2026-01-01"),
		config("z2", time.UTC, "2026-09-01"),
	}
	var add func(booked, rest []domain.Event)
	add = func(booked, rest []domain.Event) {
		for i := range rest {
			add(append(slices.Clone(booked), rest[i]), slices.Delete(slices.Clone(rest), i, i+1))
		}
		if len(rest) > 0 {
			return
		}
		for askedAfter := range booked {
			l := domain.NewLedger()
			for i := range booked {
				l.Add(&booked[i])
				if i == askedAfter {
					l.Rating("contoso", 2026*12+10)
				}
			}
			for _, month := range ratedMonths {
				want, got := naiveRating(booked, "contoso", month), l.Rating("contoso", month)
				if diff := cmp.Diff(want, got, sameRating); diff != "" {
					t.Fatalf("%v, asked after %d of (-naive +ledger):\n%s\n%s", month, askedAfter+1, diff, describe(booked))
				}
			}
		}
	}
	add(nil, events)
}

func callRefs(events []domain.Event, tenant string) map[domain.Ref]bool {
	refs := map[domain.Ref]bool{}
	for _, e := range events {
		if e.Tenant == tenant {
			_, refs[domain.Ref{Source: e.Source, ID: e.ID}] = e.Data.(*domain.Call)
		}
	}
	return refs
}

func standsVoided(events []domain.Event, tenant string, ref domain.Ref) bool {
	var last domain.Event
	voided := false
	for _, e := range events {
		if e.Tenant != tenant {
			continue
		}
		switch d := e.Data.(type) {
		case *domain.Correction:
			if d.Ref == ref && (last.Data == nil || later(e, last) > 0) {
				last, voided = e, false
			}
		case *domain.Void:
			if d.Ref == ref && (last.Data == nil || later(e, last) > 0) {
				last, voided = e, true
			}
		}
	}
	return voided
}
