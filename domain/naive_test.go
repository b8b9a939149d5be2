package domain_test

import (
	"cmp"
	"math/big"
	"slices"
	"strings"
	"time"

	"tollbook/domain"
)

// naiveRating is spec/rating.md said a second time: a function of the set of
// booked events of all tenants that recomputes a month from nothing, with
// lists, sorting and exact rationals only. It shares the plain types with the
// package and none of its rating.
func naiveRating(events []domain.Event, tenant string, month domain.Month) domain.Rating {
	return rateNaively(events, tenant, month).rating()
}

// naive is a month of a tenant laid open, so that tests can ask how it came about.
type naive struct {
	tenant  string
	month   domain.Month
	own     []domain.Event // of the tenant
	catalog []domain.Event
	starts  map[domain.Month]domain.Instant

	licences []*naiveLicence // every interval, of any month
	calls    []*naiveCall    // of the month
	pools    []*naivePool    // of the month
	// exceptions without a call: R10 dangling and ungranted
	dangling  []domain.Event
	ungranted []*naiveLicence
}

// naiveLicence is an interval of R3.
type naiveLicence struct {
	user, plan, country string
	family              domain.Family
	from, to            domain.Instant // half-open
}

func (l *naiveLicence) holds(t domain.Instant) bool { return l.from <= t && t < l.to }

// naivePool is a pool of R4 with its grant (R5) and its calls in the order of R7.
type naivePool struct {
	country, user string
	plan          *domain.Plan
	licences      []*naiveLicence
	count         int64 // of the licences that make the grant
	granted       []int64
	used, overage []int64
	calls         []*naiveCall
	exhaustedAt   domain.Instant
}

type naiveClass string

const (
	naiveFree       naiveClass = "free"
	naiveUnlicensed naiveClass = "unlicensed"
	naiveUnrated    naiveClass = "unrated"
	naiveOutside    naiveClass = "outside"
	naiveInBucket   naiveClass = "in a bucket"
)

// naiveCall is a call as it stands after corrections, and what became of it.
type naiveCall struct {
	source, id string
	call       domain.Call
	at         domain.Instant

	class   naiveClass
	rule    string // the step of R6 that decided
	licence *naiveLicence
	pool    *naivePool
	deck    *naiveDeck
	row     *domain.Row
	bucket  int
	billed  int64
	over    int64
}

// naiveDeck is a complete, valid version of a deck.
type naiveDeck struct {
	name, version string
	from          domain.Instant
	currency      domain.Currency
	rows          []domain.Row
}

func rateNaively(events []domain.Event, tenant string, month domain.Month) *naive {
	n := &naive{tenant: tenant, month: month, starts: map[domain.Month]domain.Instant{}}
	for _, e := range events {
		if e.Tenant == tenant {
			n.own = append(n.own, e)
		}
		if e.Tenant == domain.CatalogTenant {
			n.catalog = append(n.catalog, e)
		}
	}
	n.hold()
	n.open()
	n.collect()
	for _, c := range n.calls {
		n.classify(c)
	}
	for _, p := range n.pools {
		n.draw(p)
	}
	return n
}

// later orders events by (time, source, id).
func later(a, b domain.Event) int {
	return cmp.Or(cmp.Compare(a.Time, b.Time), strings.Compare(a.Source, b.Source), strings.Compare(a.ID, b.ID))
}

// --- R1: months, and what is in force for one

// config is the tenant's configuration in force for month m, or nil.
func (n *naive) config(m domain.Month) *domain.TenantConfig {
	var best *domain.TenantConfig
	var said domain.Event
	for _, e := range n.own {
		c, ok := e.Data.(*domain.TenantConfig)
		if !ok || c.EffectiveFrom > m.FirstDay() {
			continue
		}
		if best == nil || cmp.Or(cmp.Compare(c.EffectiveFrom, best.EffectiveFrom), later(e, said)) > 0 {
			best, said = c, e
		}
	}
	return best
}

// start is the first instant that shows the first day of m in the month's zone.
// Every zone's clock is changed in whole quarters of an hour, so a walk by
// quarters from before the day begins anywhere cannot miss it.
func (n *naive) start(m domain.Month) domain.Instant {
	if t, ok := n.starts[m]; ok {
		return t
	}
	zone := time.UTC
	if c := n.config(m); c != nil {
		zone = c.Zone
	}
	year, month := int(m/12), time.Month(m%12+1)
	first := time.Date(year, month, 1, 0, 0, 0, 0, time.UTC)
	t := first.Add(-30 * time.Hour)
	for t.In(zone).Format(time.DateOnly) < first.Format(time.DateOnly) {
		t = t.Add(15 * time.Minute)
	}
	n.starts[m] = domain.InstantOf(t)
	return n.starts[m]
}

// monthOf is the greatest month that has started at t.
func (n *naive) monthOf(t domain.Instant) domain.Month {
	m := domain.MonthOf(t.Time()) + 2
	for n.start(m) > t {
		m--
	}
	return m
}

// published gives the events of the tenant, or the catalog's where the tenant
// has none, for which is returns true.
func (n *naive) published(is func(domain.Data) bool) []domain.Event {
	var found []domain.Event
	for _, from := range [][]domain.Event{n.own, n.catalog} {
		for _, e := range from {
			if is(e.Data) {
				found = append(found, e)
			}
		}
		if len(found) > 0 {
			break
		}
	}
	return found
}

func (n *naive) planEvents(name string) []domain.Event {
	events := n.published(func(d domain.Data) bool {
		p, ok := d.(*domain.Plan)
		return ok && p.Plan == name
	})
	slices.SortFunc(events, func(a, b domain.Event) int {
		return cmp.Or(cmp.Compare(a.Data.(*domain.Plan).EffectiveFrom, b.Data.(*domain.Plan).EffectiveFrom), later(a, b))
	})
	return events
}

// plan is the version in force on the month's first day, or nil.
func (n *naive) plan(name string) *domain.Plan {
	var inForce *domain.Plan
	for _, e := range n.planEvents(name) {
		if p := e.Data.(*domain.Plan); p.EffectiveFrom <= n.month.FirstDay() {
			inForce = p
		}
	}
	return inForce
}

func (n *naive) family(plan string) domain.Family {
	if events := n.planEvents(plan); len(events) > 0 {
		return events[0].Data.(*domain.Plan).Family
	}
	return domain.Calling
}

// decks are the valid complete versions of a deck by (effective_from, version).
func (n *naive) decks(name string) []*naiveDeck {
	parts := map[string][]*domain.Deck{}
	for _, e := range n.published(func(d domain.Data) bool {
		deck, ok := d.(*domain.Deck)
		return ok && deck.Deck == name
	}) {
		deck := e.Data.(*domain.Deck)
		parts[deck.Version] = append(parts[deck.Version], deck)
	}
	var whole []*naiveDeck
	for _, version := range parts {
		if d := assemble(version); d != nil {
			whole = append(whole, d)
		}
	}
	slices.SortFunc(whole, func(a, b *naiveDeck) int {
		return cmp.Or(cmp.Compare(a.from, b.from), strings.Compare(a.version, b.version))
	})
	return slices.DeleteFunc(slices.Clone(whole), func(d *naiveDeck) bool { return d.currency != whole[0].currency })
}

// assemble puts the parts of one deck version together, or gives nil where
// one is missing or they contradict one another.
func assemble(parts []*domain.Deck) *naiveDeck {
	first := parts[0]
	seenPart, seenPrefix := map[int]bool{}, map[string]bool{}
	d := &naiveDeck{name: first.Deck, version: first.Version, from: first.EffectiveFrom, currency: first.Currency}
	for _, p := range parts {
		if p.Currency != first.Currency || p.EffectiveFrom != first.EffectiveFrom || p.Parts != first.Parts || seenPart[p.Part] {
			return nil
		}
		seenPart[p.Part] = true
		for _, row := range p.Rows {
			if seenPrefix[row.Prefix] {
				return nil
			}
			seenPrefix[row.Prefix] = true
			d.rows = append(d.rows, row)
		}
	}
	for part := 1; part <= first.Parts; part++ {
		if !seenPart[part] {
			return nil
		}
	}
	return d
}

// deckName is the deck of a licence (R6.3): the tenant's for its country, else the plan's.
func (n *naive) deckName(country string, plan *domain.Plan) string {
	if c := n.config(n.month); c != nil {
		if name, ok := c.Decks[country]; ok {
			return name
		}
	}
	return plan.Deck
}

// --- R2 seconds, R6 class

// billedSeconds is R2.
func billedSeconds(c *domain.Call, increment domain.Increment) int64 {
	if c.Disposition != domain.Answered {
		return 0
	}
	first, step := int64(increment.First), int64(increment.Step)
	s := ceiling(c.BillableMS, 1000)
	switch {
	case s == 0:
		return 0
	case s <= first:
		return first
	}
	return first + ceiling(s-first, step)*step
}

func ceiling(a, b int64) int64 {
	q, r := new(big.Int).DivMod(big.NewInt(a), big.NewInt(b), new(big.Int))
	return q.Int64() + int64(r.Sign())
}

// collect finds the calls of the month as they stand, and what dangles.
func (n *naive) collect() {
	isCall := map[domain.Ref]bool{}
	for _, e := range n.own {
		if _, ok := e.Data.(*domain.Call); ok {
			isCall[domain.Ref{Source: e.Source, ID: e.ID}] = true
		}
	}
	standing := map[domain.Ref]domain.Event{}
	for _, e := range n.own {
		var ref domain.Ref
		switch d := e.Data.(type) {
		case *domain.Correction:
			ref = d.Ref
		case *domain.Void:
			ref = d.Ref
		default:
			continue
		}
		if !isCall[ref] && n.monthOf(e.Time) == n.month {
			n.dangling = append(n.dangling, e)
		}
		if before, ok := standing[ref]; !ok || later(e, before) > 0 {
			standing[ref] = e
		}
	}
	for _, e := range n.own {
		call, ok := e.Data.(*domain.Call)
		if !ok {
			continue
		}
		c := &naiveCall{source: e.Source, id: e.ID, call: *call}
		if amended, ok := standing[domain.Ref{Source: e.Source, ID: e.ID}]; ok {
			correction, ok := amended.Data.(*domain.Correction)
			if !ok {
				continue // voided
			}
			c.call = correction.Call
		}
		// What nothing dates but its event keeps the date of the call, not of the correction.
		c.at = c.call.At(e.Time)
		if n.monthOf(c.at) == n.month {
			n.calls = append(n.calls, c)
		}
	}
	slices.SortFunc(n.calls, func(a, b *naiveCall) int { // R7
		return cmp.Or(cmp.Compare(a.at, b.at), strings.Compare(a.source, b.source), strings.Compare(a.id, b.id))
	})
}

// classify is R6, step by step.
func (n *naive) classify(c *naiveCall) {
	decide := func(rule string, class naiveClass) { c.rule, c.class = rule, class }
	c.billed = billedSeconds(&c.call, domain.Increment{First: 60, Step: 60})
	if c.call.Direction == domain.Inbound || c.billed == 0 {
		decide("R6.1", naiveFree)
		return
	}
	unless := func(exception naiveClass) naiveClass {
		if c.call.Called.Short() {
			return naiveFree
		}
		return exception
	}

	family := domain.Calling
	if c.call.Kind == domain.KindConference {
		family = domain.Conferencing
	}
	for _, l := range n.licences {
		if l.user == c.call.User && l.family == family && l.holds(c.at) && !slices.Contains(n.ungranted, l) {
			c.licence = l
		}
	}
	if c.licence == nil {
		decide("R6.2", unless(naiveUnlicensed))
		return
	}
	c.pool = n.poolOf(c.licence)
	plan := c.pool.plan
	c.billed = billedSeconds(&c.call, plan.Increment)

	for _, d := range n.decks(n.deckName(c.licence.country, plan)) {
		if d.from <= c.at {
			c.deck = d
		}
	}
	if c.deck != nil {
		c.row = longest(c.deck.rows, c.call.Called)
	}
	if c.row == nil {
		decide("R6.3", unless(naiveUnrated))
		return
	}

	switch c.row.RowType {
	case "toll_free", "emergency", "onnet":
		decide("R6.4", naiveFree)
		return
	}

	decide("R6.5", naiveOutside)
	if slices.Contains(plan.Kinds, c.call.Kind) {
		for i := len(plan.Buckets) - 1; i >= 0; i-- {
			if reaches(plan, &plan.Buckets[i], c.licence.country, c.row.Country) {
				decide("R6.5", naiveInBucket)
				c.bucket = i
			}
		}
	}
	if c.class == naiveOutside {
		c.billed = billedSeconds(&c.call, c.row.Increment) // R8
		c.over = c.billed
		return
	}
	c.pool.calls = append(c.pool.calls, c)
}

// longest finds the row with the longest prefix of the digits that can be read;
// a short number has none but its own.
func longest(rows []domain.Row, called domain.Number) *domain.Row {
	var best *domain.Row
	digits := strings.TrimRight(strings.TrimPrefix(called.String(), "+"), "*")
	for i, row := range rows {
		if called.Short() {
			if row.Prefix == "="+called.String() {
				return &rows[i]
			}
			continue
		}
		if strings.HasPrefix(digits, row.Prefix) && (best == nil || len(row.Prefix) > len(best.Prefix)) {
			best = &rows[i]
		}
	}
	return best
}

// reaches tells whether the zone of bucket b holds the destination (R6.5).
func reaches(p *domain.Plan, b *domain.Bucket, home, destination string) bool {
	domestic, ok := p.Domestic[home]
	if !ok {
		domestic = []string{home}
	}
	switch b.Zone {
	case domain.ZoneDomestic:
		return slices.Contains(domestic, destination)
	case domain.ZoneListed:
		return slices.Contains(b.Destinations, destination) && !slices.Contains(domestic, destination)
	}
	return true
}

// --- R7 draw

func (n *naive) draw(p *naivePool) {
	ended := func() bool {
		for i := range p.granted {
			if p.used[i] >= p.granted[i] {
				return true
			}
		}
		return false
	}
	for _, c := range p.calls {
		left := p.granted[c.bucket] - p.used[c.bucket]
		if p.plan.Linked && ended() {
			left = 0
		}
		drawn := min(c.billed, left)
		c.over = c.billed - drawn
		p.used[c.bucket] += drawn
		p.overage[c.bucket] += c.over
		if c.over > 0 && p.exhaustedAt == 0 {
			p.exhaustedAt = c.at
		}
	}
}
