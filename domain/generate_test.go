package domain_test

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"pgregory.net/rapid"

	"tollbook/domain"
)

// history is a book being made up: small, and dense in the cases where rating
// decides something. Its instants, countries and numbers come from short lists,
// so that events meet.
type history struct {
	t        *rapid.T
	events   []domain.Event
	perOwner map[[2]string]int // events by (tenant, source): ids repeat across both
	hot      []domain.Instant  // where things happen together
	plans    []string
	decks    []string
	users    []string
	tenants  []string
	scopes   map[string]domain.Scope
	currency map[string]domain.Currency // of decks, where nothing is wrong
}

// genHistory draws the booked events of one to two tenants and the catalog, at
// most some 60 calls among them, around October 2026.
func genHistory(t *rapid.T) []domain.Event {
	h := &history{
		t:        t,
		perOwner: map[[2]string]int{},
		plans:    []string{"NATIONAL", "WORLD", "MEETING", "PAYG"},
		decks:    []string{"standard", "premium"},
		tenants:  []string{"contoso"},
	}
	if h.chance(4) {
		h.tenants = append(h.tenants, "acme")
	}
	if h.chance(1) {
		h.tenants = append(h.tenants, domain.CatalogTenant)
	}
	for i := range h.number(1, 6) {
		h.users = append(h.users, fmt.Sprintf("user%d@example.org", i))
	}
	for range h.number(4, 8) {
		h.hot = append(h.hot, h.moment())
	}
	for _, tenant := range h.tenants {
		h.configs(tenant)
	}
	h.catalogue()
	for _, tenant := range h.tenants {
		h.licences(tenant)
		h.calls(tenant)
		h.amendments(tenant)
		h.noise(tenant)
	}
	return h.events
}

// ratedMonths are all the months that a drawn history has events in.
var ratedMonths = []domain.Month{2026*12 + 7, 2026*12 + 8, 2026*12 + 9, 2026*12 + 10, 2026*12 + 11}

var histories = rapid.Custom(genHistory)

func tenantsOf(events []domain.Event) []string {
	seen := map[string]bool{"contoso": true}
	tenants := []string{"contoso"}
	for _, e := range events {
		if !seen[e.Tenant] {
			seen[e.Tenant] = true
			tenants = append(tenants, e.Tenant)
		}
	}
	return tenants
}

// --- small draws

// chance is true in n of 16 draws.
func (h *history) chance(n int) bool {
	v := 0
	for range 4 {
		v <<= 1
		if rapid.Bool().Draw(h.t, "chance") {
			v++
		}
	}
	return v >= 16-n
}

func (h *history) number(low, high int) int {
	return rapid.IntRange(low, high).Draw(h.t, "number")
}

// one draws a choice; early ones come a little more often.
func one[E any](h *history, choices ...E) E {
	return rapid.SampledFrom(choices).Draw(h.t, "choice")
}

func some[E any](h *history, n int, choices ...E) []E {
	var drawn []E
	for _, c := range choices {
		if h.chance(n) {
			drawn = append(drawn, c)
		}
	}
	return drawn
}

var zones = func() (zones []*time.Location) {
	// Rome, New York, Auckland and Santiago change their clocks in these months;
	// Havana does so on 1 November, and has two midnights that day.
	for _, name := range []string{"UTC", "Europe/Rome", "America/New_York", "America/Havana", "Pacific/Auckland", "Pacific/Kiritimati", "Asia/Kathmandu", "America/Santiago"} {
		zone, err := time.LoadLocation(name)
		if err != nil {
			panic(err)
		}
		zones = append(zones, zone)
	}
	return zones
}()

var countries = []string{"IT", "FR", "GB", "US"}

func day(s string) domain.Date {
	d, err := domain.ParseDate(s)
	if err != nil {
		panic(err)
	}
	return d
}

func at(s string) domain.Instant {
	t, err := time.Parse(time.RFC3339Nano, s)
	if err != nil {
		panic(err)
	}
	return domain.InstantOf(t)
}

func number(s string) domain.Number {
	n, err := domain.ParseNumber(s)
	if err != nil {
		panic(err)
	}
	return n
}

const (
	second = domain.Instant(time.Second)
	hour   = domain.Instant(time.Hour)
)

// moment is anywhere in the months, often at or beside the end of one, on
// whole hours so that moments tie.
func (h *history) moment() domain.Instant {
	if h.chance(7) {
		m := domain.MonthOf(time.Date(2026, 9, 1, 0, 0, 0, 0, time.UTC)) + domain.Month(one(h, 1, 2, 0, 3))
		return m.Start(one(h, zones...)) + one(h, 0, -1, 1, -second/1000, second, -60*second, 30*60*second)
	}
	start := at("2026-10-01T00:00:00Z")
	if h.chance(5) {
		start = at(one(h, "2026-09-01T00:00:00Z", "2026-11-01T00:00:00Z"))
	}
	return start + domain.Instant(h.number(0, 29))*24*hour + domain.Instant(h.number(0, 23))*hour
}

// near is one of the history's hot moments, or beside one, or elsewhere.
func (h *history) near() domain.Instant {
	if h.chance(4) {
		return h.moment()
	}
	t := one(h, h.hot...)
	if h.chance(8) {
		t += one(h, 1, -1, second/1000, -second, 90*second, 59*60*second, hour, -hour, 24*hour)
	}
	return t
}

func (h *history) add(tenant, source string, said domain.Instant, data domain.Data) {
	key := [2]string{tenant, source}
	h.perOwner[key]++
	// The letters keep the order of ids apart from the order of events.
	id := fmt.Sprintf("%s%d", one(h, "m", "a", "Z", "9"), h.perOwner[key])
	h.events = append(h.events, domain.Event{Tenant: tenant, Source: source, ID: id, Time: said, Data: data})
}

// admin adds an event of those that tie on time and are told apart by source and id.
func (h *history) admin(tenant string, data domain.Data) {
	h.add(tenant, one(h, "admin", "Admin", "crm"), one(h, at("2026-08-20T12:00:00Z"), at("2026-10-05T12:00:00Z"), h.hot[0]), data)
}

// --- configuration, plans and decks

func (h *history) configs(tenant string) {
	for range h.number(0, 4) {
		zone := one(h, zones...)
		c := &domain.TenantConfig{
			TimeZone: zone.String(), Zone: zone,
			Currency:      one(h, domain.Currency("EUR"), "USD", "JPY", domain.NoCurrency),
			EffectiveFrom: h.day(),
			Decks:         map[string]string{},
		}
		for _, country := range some(h, 8, countries...) {
			c.Decks[country] = one(h, h.decks...)
			if h.chance(1) {
				c.Decks[country] = "nowhere"
			}
		}
		h.admin(tenant, c)
	}
}

func (h *history) day() domain.Date {
	return day(one(h, "2026-01-01", "2026-10-01", "2026-11-01", "2026-10-02", "2026-09-01", "2026-11-30", "2027-01-01"))
}

// catalogue publishes every plan and deck by the catalog, by tenants, by both or by nobody.
func (h *history) catalogue() {
	h.scopes = map[string]domain.Scope{}
	for _, name := range h.plans {
		h.scopes[name] = one(h, domain.ScopeCountry, domain.ScopeTenant, domain.ScopeUser)
	}
	h.currency = map[string]domain.Currency{
		"standard": one(h, domain.Currency("USD"), "JPY", "KWD"),
		"premium":  one(h, domain.Currency("EUR"), "USD"),
	}
	owners := append([]string{domain.CatalogTenant}, h.tenants...)
	for _, owner := range owners {
		published := 15
		if owner != domain.CatalogTenant {
			published = 3
		}
		for _, name := range some(h, published, h.plans...) {
			first := day("2026-01-01")
			if h.chance(1) {
				first = h.day()
			}
			h.plan(owner, name, first)
			for range h.number(0, 2) {
				h.plan(owner, name, h.day())
			}
		}
		for _, name := range some(h, published, h.decks...) {
			h.deck(owner, name, "v1", at("2026-01-01T00:00:00Z"), 1)
			for range h.number(0, 3) {
				version := one(h, "v2", "v10", "v0")
				from := one(h, one(h, h.hot...), h.near(), at("2026-10-01T00:00:00Z"), at("2026-01-01T00:00:00Z"))
				if h.chance(1) {
					version = "v1" // again, which makes it invalid
				}
				h.deck(owner, name, version, from, 4)
			}
		}
	}
}

func (h *history) plan(owner, name string, from domain.Date) {
	p := &domain.Plan{
		Plan: name, Name: name, EffectiveFrom: from,
		Scope:       h.scopes[name],
		Kinds:       []string{domain.KindForward, domain.KindTransfer, domain.KindUser},
		Linked:      h.chance(8),
		Increment:   one(h, domain.DefaultIncrement, domain.Increment{First: 1, Step: 1}, domain.Increment{First: 30, Step: 6}, domain.Increment{First: 6, Step: 30}),
		Grant:       domain.Grant(h.number(0, len(domain.Grants)-1)),
		Deck:        one(h, h.decks...),
		Domestic:    map[string][]string{},
		SharedPools: map[string]string{},
	}
	if h.chance(1) {
		p.Deck = "" // the tenant's decks decide, or nothing does
	}
	if name == "MEETING" {
		p.Family, p.Kinds = domain.Conferencing, []string{domain.KindConference}
	}
	if h.chance(1) { // a family must not change, and when it does the first stands
		p.Family = domain.Conferencing - p.Family
	}
	if h.chance(2) {
		p.Scope = one(h, domain.ScopeCountry, domain.ScopeTenant, domain.ScopeUser)
	}
	if h.chance(2) {
		p.Kinds = one(h, []string{domain.KindUser}, []string{domain.KindConference, domain.KindUser}, []string{"fax"})
	}
	for _, country := range some(h, 3, countries...) {
		p.Domestic[country] = one(h, []string{"FR", "IT"}, []string{"US"}, []string{"GB", "IT", "US"})
	}
	for _, country := range some(h, 5, countries...) {
		p.SharedPools[country] = one(h, "IT", "FR", "US")
	}
	if name != "PAYG" {
		for i := range h.number(1, 3) {
			p.Buckets = append(p.Buckets, h.bucket(i))
		}
	}
	h.admin(owner, p)
}

func (h *history) bucket(i int) domain.Bucket {
	b := domain.Bucket{
		Name: fmt.Sprintf("bucket%d", i),
		Zone: one(h, domain.ZoneAll, domain.ZoneDomestic, domain.ZoneListed),
		// A country without minutes grants nothing at all (R10), so "*" is there mostly.
		Minutes: map[string]int64{},
	}
	if h.chance(15) {
		b.Minutes[domain.AnyCountry] = h.minutes()
	}
	for _, country := range some(h, 5, countries...) {
		b.Minutes[country] = h.minutes()
	}
	if b.Zone == domain.ZoneListed {
		b.Destinations = some(h, 10, slices.Sorted(slices.Values(countries))...)
	}
	return b
}

func (h *history) minutes() int64 {
	if h.chance(1) {
		return 0
	}
	return one[int64](h, 20, 45, 7, 12, 90, 1, domain.MaxMinutes)
}

// rows is drawn from for decks. With billing by the minute, prices of half a
// cent per minute leave lines that end in exactly half a cent.
var rows = []domain.Row{
	{Prefix: "39", Country: "IT", Name: "Italy", RowType: "landline", Price: 5_000},
	{Prefix: "393", Country: "IT", Name: "Italy", RowType: "mobile", Price: 125_000, ConnectFee: 50_000},
	{Prefix: "3933", Country: "IT", Name: "Italy", RowType: "mobile", Price: 20_000, ConnectFee: 5_000},
	{Prefix: "39340", Country: "IT", Name: "Italy", RowType: "mobile", Price: 125_000, ConnectFee: 50_000}, // on the line of 393
	{Prefix: "39800", Country: "IT", Name: "Italy", RowType: domain.RowTollFree},
	{Prefix: "33", Country: "FR", Name: "France", RowType: "landline", Price: 16_000},
	{Prefix: "44", Country: "GB", Name: "United Kingdom", RowType: "landline", Price: 17_000, ConnectFee: 1},
	{Prefix: "447", Country: "GB", Name: "United Kingdom", RowType: "mobile", Price: 333_333},
	{Prefix: "4412", Country: "GB", Name: "United Kingdom", RowType: domain.RowOnNet, Price: 10_000},
	{Prefix: "1", Country: "US", Name: "United States", RowType: "landline", Price: 15_000},
	{Prefix: "1809", Country: "DO", Name: "Dominican Republic", RowType: "mobile", Price: 90_000},
	{Prefix: "=112", Country: "IT", Name: "Emergency", RowType: domain.RowEmergency, Price: 1_000},
	{Prefix: "=4242", Country: "IT", Name: "Service", RowType: "service", Price: 250_000, ConnectFee: 100_000},
}

// deck publishes a version, in parts; in wrong of 16 draws, one thing is wrong with it.
func (h *history) deck(owner, name, version string, from domain.Instant, wrong int) {
	currency := h.currency[name]
	if h.chance(1) {
		currency = one(h, domain.Currency("EUR"), "KWD", "USD")
	}
	var all []domain.Row
	for _, row := range some(h, 15, rows...) {
		row.Increment = one(h, domain.DefaultIncrement, domain.Increment{First: 1, Step: 1}, domain.Increment{First: 30, Step: 6})
		if h.chance(5) { // lines are sorted by price as a number, before the deck
			row.Price = one(h, domain.Micros(5_000), 10_000, 9_000_000, 10_000_000, 16_000, 0, domain.MaxMicros)
		}
		all = append(all, row)
	}
	parts := h.number(1, 3)
	split := make([]*domain.Deck, parts)
	for i := range split {
		split[i] = &domain.Deck{Deck: name, Version: version, EffectiveFrom: from, Currency: currency, Part: i + 1, Parts: parts}
	}
	for i, row := range all {
		split[i%parts].Rows = append(split[i%parts].Rows, row)
	}
	last := split[parts-1]
	if h.chance(wrong) {
		switch h.number(0, 5) {
		case 0:
			split = split[:parts-1]
		case 1:
			last.Rows = append(last.Rows, domain.Row{Prefix: "39", Country: "FR", Name: "Twice", RowType: "landline", Price: 1, Increment: domain.DefaultIncrement})
		case 2:
			last.Currency = "GBP"
		case 3:
			last.EffectiveFrom += hour
		case 4:
			last.Parts++
		case 5:
			again := *last
			again.Rows = nil
			split = append(split, &again)
		}
	}
	for _, part := range split {
		h.admin(owner, part)
	}
}

// --- licences and calls

func (h *history) licences(tenant string) {
	early := one(h, at("2026-08-15T00:00:00Z"), domain.MinInstant)
	assign := func(user string, from domain.Instant, plans ...string) *domain.Assignment {
		a := &domain.Assignment{User: user, Plan: one(h, plans...), Country: one(h, "IT", "FR", "IT", "GB", "US", "IT"), EffectiveAt: from}
		if h.chance(1) {
			a.Plan = one(h, "GHOST", "MEETING")
		}
		if h.chance(1) {
			a.Country = "ZZ"
		}
		h.admin(tenant, a)
		return a
	}
	for _, user := range h.users {
		held := assign(user, early, "NATIONAL", "WORLD", "NATIONAL")
		if h.chance(6) {
			h.admin(tenant, &domain.Assignment{User: user, Plan: "MEETING", Country: held.Country, EffectiveAt: one(h, early, h.near())})
		}
		for range h.number(0, 3) {
			when := h.near()
			switch h.number(0, 5) {
			case 0, 1:
				held = assign(user, when, "NATIONAL", "PAYG", "WORLD")
			case 2: // passed on at one instant
				h.admin(tenant, &domain.Removal{User: user, Plan: held.Plan, EffectiveAt: when})
				h.admin(tenant, &domain.Assignment{User: one(h, h.users...), Plan: held.Plan, Country: held.Country, EffectiveAt: when})
			case 3: // two at the same instant: one interval is empty
				assign(user, when, h.plans...)
				held = assign(user, when, "NATIONAL", "WORLD")
			case 4: // perhaps of a plan that is not held
				h.admin(tenant, &domain.Removal{User: user, Plan: one(h, h.plans...), EffectiveAt: when})
			case 5:
				h.admin(tenant, &domain.Removal{User: user, Plan: held.Plan, EffectiveAt: when})
			}
		}
	}
}

var called = []string{
	"+390612345", "+39333123", "+393401234", "+33145678", "+442071234", "+447911123", "+12125551", "+18095551",
	"+39800123", "+441234567", "112", "4242", "999", "+74951234", "+3933***", "+39333**", "+3934****", "+39********", "+********", "+42429", "+1121234",
}

var switches = []string{"switch/mil-1", "switch/rom-1", "Switch/mil-1"}

func (h *history) call() domain.Call {
	c := domain.Call{
		User:       one(h, h.users...),
		Kind:       domain.KindUser,
		Calling:    number("+390281234567"),
		Called:     number(one(h, called[:8]...)),
		AnsweredAt: h.near(),
		BillableMS: one[int64](h, 600_000, 1_800_000, 60_000, 3_599_999, 61_000, 30_001, 1, 1_000, 36_001, 12_000_000, domain.MaxBillableMS),
	}
	if h.chance(4) {
		c.Called = number(one(h, called...))
	}
	if h.chance(3) {
		c.Kind = one(h, domain.KindConference, domain.KindForward, domain.KindTransfer, "fax")
	}
	if h.chance(1) {
		c.User = "stranger@example.org"
	}
	if h.chance(1) {
		c.Direction = domain.Inbound
	}
	if h.chance(1) {
		c.BillableMS = 0
	}
	if h.chance(1) {
		c.Disposition = one(h, domain.NoAnswer, domain.Busy, domain.Failed, domain.Cancelled)
		switch h.number(0, 2) { // a switch may report when it gave up as answered_at
		case 0:
			c.StartedAt, c.AnsweredAt = c.AnsweredAt, 0
		case 1:
			c.AnsweredAt = 0
		}
	}
	return c
}

func (h *history) calls(tenant string) {
	least, most := 25, 60
	if tenant != h.tenants[0] {
		least, most = 0, 10
	}
	for range h.number(least, most) {
		c := h.call()
		said := h.near()
		if c.AnsweredAt != 0 && h.chance(8) {
			said = c.AnsweredAt + domain.Instant(c.BillableMS)*second/1000
		}
		h.add(tenant, one(h, switches...), said, &c)
	}
}

// amendments corrects and voids calls, each other, and what is not a call.
func (h *history) amendments(tenant string) {
	var calls, others []domain.Event
	for _, e := range h.events {
		_, isCall := e.Data.(*domain.Call)
		switch {
		case e.Tenant == tenant && isCall:
			calls = append(calls, e)
		default:
			others = append(others, e) // of other tenants too: their ids may be this tenant's
		}
	}
	for range h.number(0, 8) {
		e := one(h, others...) // never empty: somebody holds a licence
		if len(calls) > 0 && !h.chance(4) {
			e = one(h, calls...)
		}
		ref := domain.Ref{Source: e.Source, ID: e.ID}
		if h.chance(2) {
			ref.ID = "never-sent"
		}
		source := one(h, switches[0], "mediation", "Mediation")
		for range h.number(1, 2) {
			said := one(h, e.Time, e.Time+hour, e.Time-hour, h.near())
			if h.chance(4) {
				h.add(tenant, source, said, &domain.Void{Ref: ref, Reason: "test call"})
				continue
			}
			h.add(tenant, source, said, &domain.Correction{Ref: ref, Call: h.corrected(e), Reason: "wrong trunk"})
		}
	}
}

func (h *history) corrected(e domain.Event) domain.Call {
	before, ok := e.Data.(*domain.Call)
	if !ok || h.chance(2) {
		return h.call()
	}
	c := *before
	switch h.number(0, 4) {
	case 4: // nothing says when but the event of the call itself
		c.AnsweredAt, c.StartedAt, c.Disposition = 0, 0, domain.Failed
	case 0:
		c.AnsweredAt, c.Disposition = h.near(), domain.Answered
	case 1:
		c.Called = number(one(h, called...))
	case 2:
		c.BillableMS = one[int64](h, 0, 120_000, 3_600_000)
	case 3:
		c.User = one(h, h.users...)
	}
	return c
}

// noise is what rating has to pass over.
func (h *history) noise(tenant string) {
	if h.chance(4) {
		h.add(tenant, "engine", h.near(), &domain.Suspended{Reason: "syntax", Detail: "not JSON", Raw: []byte("{")})
		h.add(domain.NoTenant, "engine", h.near(), &domain.Suspended{Reason: "tenant", Detail: "no tenant", Raw: []byte("{}")})
		h.add(tenant, "engine", h.near(), &domain.SwitchConfig{Switch: "mil-1", Format: "kamailio", Country: "IT", TimeZone: "UTC"})
	}
}

// --- for failing tests

// describe prints events one a line, as they were drawn.
func describe(events []domain.Event) string {
	var b strings.Builder
	for _, e := range events {
		fmt.Fprintf(&b, "%s %s/%s %v %T %+v\n", e.Tenant, e.Source, e.ID, e.Time, e.Data, e.Data)
	}
	return b.String()
}
