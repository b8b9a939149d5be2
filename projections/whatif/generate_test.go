package whatif

import (
	"context"
	"fmt"
	"os"
	"slices"
	"time"

	"pgregory.net/rapid"

	"tollbook/domain"
	"tollbook/eventstore"
	"tollbook/eventstore/memlog"
	"tollbook/projections"
)

const tenant = "contoso"

// months are those that a history has events in.
var months = []domain.Month{2026*12 + 8, 2026*12 + 9, 2026*12 + 10}

const (
	hour = domain.Instant(time.Hour)
	day  = 24 * hour
)

func instant(s string) domain.Instant {
	t, err := time.Parse(time.RFC3339, s)
	if err != nil {
		panic(err)
	}
	return domain.InstantOf(t)
}

func phone(s string) domain.Number {
	n, err := domain.ParseNumber(s)
	if err != nil {
		panic(err)
	}
	return n
}

// A history is the events of a tenant and the catalogue, made up from few
// instants, users and numbers, so that events meet.
type history struct {
	t      *rapid.T
	events []domain.Event
	hot    []domain.Instant
}

var (
	someUsers     = []string{"ada", "bob", "eve", "joe"}
	someCountries = []string{"IT", "FR", "US"}
	somePlans     = []string{"NATIONAL", "WORLD", "OWN", "PAYG", "MEETING"}
	someDecks     = []string{"standard", "carrier"}
)

func (h *history) number(low, high int) int { return rapid.IntRange(low, high).Draw(h.t, "number") }

func pick[E any](h *history, choices ...E) E { return rapid.SampledFrom(choices).Draw(h.t, "choice") }

func (h *history) add(owner string, data domain.Data) {
	h.events = append(h.events, domain.Event{
		Tenant: owner, Source: "admin", ID: fmt.Sprint("e", len(h.events)), Time: instant("2026-08-01T00:00:00Z") + domain.Instant(h.number(0, 3))*hour, Data: data,
	})
}

func (h *history) moment() domain.Instant {
	if h.number(0, 2) == 0 {
		return pick(h, h.hot...)
	}
	m := pick(h, months...)
	return m.Start(time.UTC) + pick(h, 0, -1, -2*hour, domain.Instant(h.number(0, 28))*day)
}

func zone(name string) *time.Location {
	z, err := time.LoadLocation(name)
	if err != nil {
		panic(err)
	}
	return z
}

func genHistory(t *rapid.T) []domain.Event {
	h := &history{t: t}
	for range 4 {
		m := pick(h, months...)
		h.hot = append(h.hot, m.Start(time.UTC)+domain.Instant(h.number(0, 28))*day)
	}
	for _, deck := range someDecks {
		h.deck(deck, "v1", instant("2026-01-01T00:00:00Z"), domain.CatalogTenant)
		for n := range h.number(0, 2) {
			h.deck(deck, fmt.Sprint("v", n+2), h.moment(), domain.CatalogTenant)
		}
	}
	if h.number(0, 3) == 0 {
		h.deck("standard", "own", instant("2026-01-01T00:00:00Z"), tenant)
	}
	for _, plan := range somePlans {
		h.plan(plan, 20260101, domain.CatalogTenant)
		if h.number(0, 2) == 0 {
			h.plan(plan, pick[domain.Date](h, 20260901, 20261001, 20261002), domain.CatalogTenant)
		}
		if h.number(0, 5) == 0 {
			h.plan(plan, 20260101, tenant)
		}
	}
	for range h.number(0, 2) {
		c := &domain.TenantConfig{
			TimeZone: pick(h, "UTC", "Europe/Rome", "America/New_York"), Currency: "EUR",
			EffectiveFrom: pick[domain.Date](h, 20260101, 20261001, 20261002), Decks: map[string]string{},
		}
		c.Zone = zone(c.TimeZone)
		if h.number(0, 1) == 0 {
			c.Decks[pick(h, someCountries...)] = pick(h, someDecks...)
		}
		h.add(tenant, c)
	}
	for _, user := range someUsers {
		for range h.number(0, 4) {
			plan := pick(h, append(somePlans, "UNKNOWN")...)
			if h.number(0, 3) == 0 {
				h.add(tenant, &domain.Removal{User: user, Plan: plan, EffectiveAt: h.moment()})
				continue
			}
			at := h.moment()
			if h.number(0, 2) == 0 {
				at = instant("2026-08-15T00:00:00Z")
			}
			h.add(tenant, &domain.Assignment{User: user, Plan: plan, Country: pick(h, someCountries...), EffectiveAt: at})
		}
	}
	for n := range h.number(0, 40) {
		h.events = append(h.events, domain.Event{Tenant: tenant, Source: "switch/mil-1", ID: fmt.Sprint("c", n), Time: h.moment(), Data: h.call()})
	}
	for range h.number(0, 3) {
		ref := domain.Ref{Source: "switch/mil-1", ID: fmt.Sprint("c", h.number(0, 20))}
		if h.number(0, 1) == 0 {
			h.add(tenant, &domain.Void{Ref: ref, Reason: "test"})
		} else {
			h.add(tenant, &domain.Correction{Ref: ref, Call: *h.call(), Reason: "test"})
		}
	}
	return h.events
}

func (h *history) call() *domain.Call {
	c := &domain.Call{
		User: pick(h, append(someUsers, "stranger")...), Kind: pick(h, domain.KindUser, domain.KindUser, domain.KindConference), Calling: phone("+390281234567"),
		Called:     phone(pick(h, "+390612345", "+39333123", "+33145678", "+12125550", "+74951234", "+39800123", "112")),
		AnsweredAt: h.moment(), BillableMS: pick[int64](h, 600_000, 1_800_000, 61_000, 30_001, 3_599_999),
	}
	if h.number(0, 9) == 0 {
		c.Direction = domain.Inbound
	}
	return c
}

func (h *history) plan(name string, from domain.Date, owner string) {
	p := &domain.Plan{
		Plan: name, EffectiveFrom: from, Kinds: []string{domain.KindUser}, Deck: pick(h, someDecks...), Increment: domain.DefaultIncrement,
		Grant: domain.Grant(h.number(0, len(domain.Grants)-1)), Linked: h.number(0, 1) == 0,
		Scope: map[string]domain.Scope{"WORLD": domain.ScopeTenant, "OWN": domain.ScopeUser}[name],
	}
	minutes := map[string]int64{domain.AnyCountry: int64(h.number(0, 4)) * 15}
	if h.number(0, 5) == 0 { // no minutes in other countries: ungranted there
		minutes = map[string]int64{"IT": 30, "FR": 20}
	}
	if name != "PAYG" {
		p.Buckets = []domain.Bucket{{Name: "domestic", Zone: domain.ZoneDomestic, Minutes: minutes}}
	}
	if name == "WORLD" {
		p.Buckets = append(p.Buckets, domain.Bucket{Name: "world", Zone: domain.ZoneAll, Minutes: minutes})
	}
	if name == "MEETING" {
		p.Family, p.Kinds = domain.Conferencing, []string{domain.KindConference}
	}
	if h.number(0, 3) == 0 {
		p.SharedPools = map[string]string{"FR": "IT"}
	}
	if h.number(0, 5) > 0 {
		p.LicencePrice = map[string]domain.LicencePrice{domain.AnyCountry: {Price: pick[domain.Micros](h, 1_000_000, 250_000, 0, 8_333_333), Currency: "EUR"}}
		if h.number(0, 3) == 0 {
			p.LicencePrice["US"] = domain.LicencePrice{Price: 500_000, Currency: pick(h, domain.Currency("USD"), "EUR")}
		}
	}
	h.add(owner, p)
}

func (h *history) deck(name, version string, from domain.Instant, owner string) {
	d := &domain.Deck{Deck: name, Version: version, EffectiveFrom: from, Currency: "EUR", Part: 1, Parts: 1}
	for _, row := range []domain.Row{
		{Prefix: "39", Country: "IT", Name: "Italy", RowType: "landline", Price: 5_000},
		{Prefix: "393", Country: "IT", Name: "Italy", RowType: "mobile", Price: 125_000, ConnectFee: 5_000},
		{Prefix: "39800", Country: "IT", Name: "Italy", RowType: domain.RowTollFree},
		{Prefix: "33", Country: "FR", Name: "France", RowType: "landline", Price: 16_000},
		{Prefix: "1", Country: "US", Name: "United States", RowType: "landline", Price: 90_000},
	} {
		row.Increment, row.Price = domain.DefaultIncrement, pick(h, row.Price, 1, 2*row.Price)
		d.Rows = append(d.Rows, row)
	}
	h.add(owner, d)
}

var histories = rapid.Custom(genHistory)

// bookOf books events in an order of its own, closes the months it is told to once
// all are in, and books what is late.
func bookOf(t *rapid.T, events []domain.Event, closed int, late []domain.Event) eventstore.Walk {
	log := memlog.New(t)
	dir, err := os.MkdirTemp("", "whatif")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = os.RemoveAll(dir) }()
	held := projections.NewMonths()
	now := instant("2026-08-01T00:00:00Z")
	book, err := eventstore.Open(context.Background(), dir, func(string) (eventstore.Log, error) { return log, nil }, eventstore.Options{
		Clock: func() domain.Instant { now += hour; return now }, Follow: []eventstore.Follower{held.Follow},
	})
	if err != nil {
		t.Fatal(err)
	}
	submit := func(events []domain.Event) {
		var batch []eventstore.Record
		for _, e := range events {
			batch = append(batch, eventstore.Record{Event: e})
		}
		if len(batch) == 0 {
			return
		}
		results, err := book.Submit(context.Background(), batch)
		if err != nil {
			t.Fatal(err)
		}
		for i, r := range results {
			if r.Status != eventstore.Booked {
				t.Fatalf("%+v: %+v", events[i], r)
			}
		}
	}
	submit(rapid.Permutation(slices.Clone(events)).Draw(t, "order"))
	ledger := domain.NewLedger()
	for i := range events {
		ledger.Add(&events[i])
	}
	for range closed {
		month, any := ledger.NextToClose(tenant)
		if !any {
			break
		}
		i, err := held.Issue(tenant, month)
		if err != nil {
			t.Fatal(err)
		}
		e := domain.Event{Tenant: tenant, Source: "tollbook", ID: "close-" + month.String(), Time: now, Data: &domain.MonthClosed{
			Month: month, Number: i.Number, Position: i.Position, Head: i.Head, Digest: i.Digest, Document: i.Document, By: "ada",
		}}
		submit([]domain.Event{e})
		ledger.Add(&e)
	}
	submit(late)
	if err := book.Close(); err != nil {
		t.Fatal(err)
	}
	return eventstore.Walk{Log: log.Reopen()}
}

func canonical(t *rapid.T, v any) string {
	data, err := projections.Canonical(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}
