package main

import (
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"tollbook/consumers"
	"tollbook/domain"
)

// TestAnyWayOfSending: in whatever order, how often, in which messages and over
// how many restarts events come, the months are those of the events booked once,
// one after the other.
func TestAnyWayOfSending(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		seed := rapid.Uint64Range(0, 1<<16).Draw(rt, "seed of the events")
		events := someMonths(seed)
		dir := func() string {
			dir, err := os.MkdirTemp(t.TempDir(), "")
			if err != nil {
				rt.Fatalf("%v", err)
			}
			return dir
		}
		once := startRig(rt, dir())
		defer once.stop()
		once.book(events...)

		r := startRig(rt, dir())
		defer r.stop()
		repeats := rapid.SliceOfN(rapid.SampledFrom(events), 0, 40).Draw(rt, "repeats")
		left := rapid.Permutation(append(slices.Clone(events), repeats...)).Draw(rt, "order")
		restarts := 0
		for len(left) > 0 {
			n := min(len(left), rapid.SampledFrom([]int{40, 1, 2, 7, 100}).Draw(rt, "events together"))
			mode := rapid.SampledFrom([]string{"one by one", "NDJSON", "array", "binary"}).Draw(rt, "mode")
			if mode == "one by one" || mode == "binary" {
				n = min(n, 20)
			}
			r.send(left[:n], mode, rapid.Bool().Draw(rt, "through the stream"))
			left = left[n:]
			// What JetStream has and the book does not is booked after the restart.
			if restarts < 2 && rapid.IntRange(0, 15).Draw(rt, "restart at 15") == 15 {
				restarts++
				r.restart()
			}
		}
		r.drained()

		for _, tenant := range []string{"contoso", "acme"} {
			in, repeated := r.intake(tenant), uint64(0)
			for _, e := range repeats {
				if e.Tenant == tenant {
					repeated++
				}
			}
			if want := once.intake(tenant).Booked; in.Booked != want || in.Suspended != 0 {
				rt.Errorf("of %d events of %s: %+v", want, tenant, in)
			}
			if in.Received != in.Booked+in.Duplicate+in.Suspended {
				rt.Errorf("received is not the sum: %+v", in)
			}
			// A restart forgets repeats since the last block, and gets again what was booked when
			// the server that was told so had gone.
			if restarts == 0 && in.Duplicate != repeated {
				rt.Errorf("%d repeats of %s were sent: %+v", repeated, tenant, in)
			}
			for _, month := range []string{"2026-09", "2026-10", "2026-11"} {
				args := []string{"--tenant", tenant, "--month", month, "--format", "json"}
				for document, without := range map[string][]string{"pools": {"position"}, "invoice": {"position", "head"}} {
					want := canonical(rt, once.ask(append([]string{document}, args...)...), without...)
					got := canonical(rt, r.ask(append([]string{document}, args...)...), without...)
					if got != want {
						rt.Errorf("%s of %s %s, seed %d:\n got %s\nwant %s", document, tenant, month, seed, got, want)
					}
				}
			}
		}
		r.stop()
		inBook := booked(rt, r.dir)
		if len(inBook) != len(events) {
			rt.Errorf("the book has %d events, want %d", len(inBook), len(events))
		}
		for _, e := range inBook {
			if data, ok := e.Data.(*domain.Suspended); ok {
				rt.Errorf("suspended: %s: %s %s", data.Subject, data.Detail, data.Raw)
			}
		}
	})
}

// send publishes events as messages of some mode.
func (r *rig) send(events []domain.Event, mode string, stream bool) {
	r.t.Helper()
	switch {
	case mode == "binary": // headers are for the stream
		r.streamBinary(events)
	case stream && mode == "one by one":
		r.streamSingly(events)
	case stream && mode == "array":
		r.streamTogether(events, array)
	case stream:
		r.streamTogether(events, ndjson)
	case mode == "one by one":
		for i := range events {
			r.request(subjectOf(&events[i]), ndjson(events[i:i+1]))
		}
	case mode == "array":
		r.request(consumers.SubjectPrefix+"-.events", array(events))
	default:
		r.request(consumers.SubjectPrefix+"-.events", ndjson(events))
	}
}

// someMonths are some 200 events of two tenants and the catalogue around October
// 2026: plans and decks in several versions, licences that change hands, calls,
// corrections and voids, in an order in which some come before what they need.
func someMonths(seed uint64) []domain.Event {
	m := &months{Rand: rand.New(rand.NewPCG(seed, 1)), perSource: map[string]int{}}
	for _, tenant := range []string{"contoso", "acme"} {
		m.config(tenant)
		m.licences(tenant)
		m.calls(tenant)
	}
	m.catalogue()
	m.Shuffle(len(m.events), func(i, j int) { m.events[i], m.events[j] = m.events[j], m.events[i] })
	return m.events
}

type months struct {
	*rand.Rand
	events    []domain.Event
	perSource map[string]int
}

func (m *months) add(tenant, source string, said domain.Instant, data domain.Data) domain.Ref {
	m.perSource[source]++
	e := domain.Event{Tenant: tenant, Source: source, ID: fmt.Sprintf("e%d", m.perSource[source]), Time: said, Data: data}
	if strings.HasPrefix(source, "switch/") {
		e.Sequence = domain.Sequence{N: uint64(m.perSource[source]), Has: true}
	}
	m.events = append(m.events, e)
	return domain.Ref{Source: e.Source, ID: e.ID}
}

func pick[E any](m *months, choices ...E) E { return choices[m.IntN(len(choices))] }

// moment is in one of 70 days from 1 September on, often at the turn of a month.
func (m *months) moment() domain.Instant {
	if m.IntN(4) == 0 {
		return instant(pick(m, "2026-09-30T22:00:00Z", "2026-10-01T00:00:00Z", "2026-10-31T23:00:00Z", "2026-11-01T00:00:00Z")) +
			pick[domain.Instant](m, -1, 0, 1, 1e9, -1e9)
	}
	return instant("2026-09-01T00:00:00Z") + domain.Instant(m.Int64N(int64(70*24*time.Hour/time.Millisecond)))*1e6
}

func (m *months) config(tenant string) {
	name := pick(m, "Europe/Rome", "UTC", "America/New_York")
	zone, err := time.LoadLocation(name)
	if err != nil {
		panic(err)
	}
	m.add(tenant, "admin", m.moment(), &domain.TenantConfig{TimeZone: name, Zone: zone, Currency: "EUR", Decks: map[string]string{"IT": "standard"}, EffectiveFrom: 20260901})
}

func (m *months) catalogue() {
	plan := func(name string, family domain.Family, linked bool, kinds []string, buckets ...domain.Bucket) {
		for _, from := range []domain.Date{20260101, pick[domain.Date](m, 20261001, 20261101)} {
			for i := range buckets {
				buckets[i].Minutes = map[string]int64{domain.AnyCountry: int64(20 + m.IntN(200)), "FR": int64(10 + m.IntN(50))}
			}
			m.add(domain.CatalogTenant, "plans", m.moment(), &domain.Plan{
				Plan: name, Name: name, Family: family, EffectiveFrom: from, Kinds: kinds, Buckets: slices.Clone(buckets), Linked: linked,
				Scope: domain.Scope(m.IntN(3)), Grant: domain.Grant(m.IntN(4)), Increment: pick(m, domain.DefaultIncrement, domain.Increment{First: 1, Step: 1}), Deck: "standard",
			})
		}
	}
	user := []string{domain.KindForward, domain.KindUser}
	plan("NATIONAL", domain.Calling, false, user, domain.Bucket{Name: "domestic"})
	plan("WORLD", domain.Calling, m.IntN(2) == 0, user, domain.Bucket{Name: "domestic"}, domain.Bucket{Name: "world", Zone: domain.ZoneAll})
	plan("MEETING", domain.Conferencing, false, []string{domain.KindConference}, domain.Bucket{Name: "dial-out", Zone: domain.ZoneAll})
	plan("PAYG", domain.Calling, false, user)

	rows := []domain.Row{
		{Prefix: "39", Country: "IT", Name: "Italy", RowType: "landline", Price: 16_000},
		{Prefix: "393", Country: "IT", Name: "Italy", RowType: "mobile", Price: 125_000, ConnectFee: 50_000},
		{Prefix: "39800", Country: "IT", Name: "Italy", RowType: domain.RowTollFree},
		{Prefix: "33", Country: "FR", Name: "France", RowType: "landline", Price: 5_000},
		{Prefix: "44", Country: "GB", Name: "United Kingdom", RowType: "landline", Price: 17_000},
	}
	for i, from := range []domain.Instant{instant("2026-01-01T00:00:00Z"), m.moment()} {
		parts := []*domain.Deck{{Rows: rows[:2]}, {Rows: rows[2:]}}
		for part, deck := range parts {
			deck.Deck, deck.Version, deck.EffectiveFrom, deck.Currency, deck.Part, deck.Parts = "standard", fmt.Sprint(i), from, "EUR", part+1, len(parts)
			deck.Rows = slices.Clone(deck.Rows)
			for r := range deck.Rows {
				deck.Rows[r].Increment = domain.DefaultIncrement
				deck.Rows[r].Price += domain.Micros(i * 1000)
			}
			m.add(domain.CatalogTenant, "decks", m.moment(), deck)
		}
	}
}

func (m *months) user() string { return fmt.Sprintf("user%d@example.org", m.IntN(6)) }

func (m *months) licences(tenant string) {
	for i := range 6 {
		m.add(tenant, "licence-desk", instant("2026-08-20T00:00:00Z"), &domain.Assignment{
			User: fmt.Sprintf("user%d@example.org", i), Plan: pick(m, "NATIONAL", "WORLD", "PAYG"), Country: pick(m, "IT", "IT", "FR"), EffectiveAt: instant("2026-08-25T00:00:00Z"),
		})
	}
	for range 8 {
		if m.IntN(4) == 0 {
			m.add(tenant, "licence-desk", m.moment(), &domain.Removal{User: m.user(), Plan: pick(m, "NATIONAL", "WORLD"), EffectiveAt: m.moment()})
			continue
		}
		m.add(tenant, "licence-desk", m.moment(), &domain.Assignment{User: m.user(), Plan: pick(m, "NATIONAL", "WORLD", "MEETING"), Country: pick(m, "IT", "FR"), EffectiveAt: m.moment()})
	}
}

func (m *months) call() *domain.Call {
	c := &domain.Call{
		User: m.user(), Kind: pick(m, domain.KindUser, domain.KindUser, domain.KindForward, domain.KindConference), Calling: mustNumber("+390281234567"),
		Called:     mustNumber(pick(m, "+390612345678", "+393401234567", "+33145678901", "+442079460000", "+39800123456", "+4179*******", "112")),
		AnsweredAt: m.moment(), BillableMS: pick[int64](m, 1, 1_000, 59_999, 60_000, 61_000, 600_000, 3_600_000, 7_200_000),
	}
	if m.IntN(8) == 0 {
		c.Direction = domain.Inbound
	}
	if m.IntN(8) == 0 {
		c.Disposition, c.BillableMS, c.StartedAt, c.AnsweredAt = domain.Busy, 0, c.AnsweredAt, 0
	}
	return c
}

func (m *months) calls(tenant string) {
	for range 60 {
		c := m.call()
		ref := m.add(tenant, pick(m, "switch/mil-1", "switch/rom-1"), max(c.AnsweredAt, c.StartedAt)+domain.Instant(c.BillableMS)*1e6, c)
		for range 2 {
			switch m.IntN(12) {
			case 0:
				m.add(tenant, "mediation", m.moment(), &domain.Correction{Ref: ref, Call: *m.call(), Reason: "wrong trunk"})
			case 1:
				m.add(tenant, "mediation", m.moment(), &domain.Void{Ref: ref, Reason: "test call"})
			}
		}
	}
	m.add(tenant, "mediation", m.moment(), &domain.Void{Ref: domain.Ref{Source: "switch/mil-1", ID: "never-sent"}, Reason: "test call"})
}
