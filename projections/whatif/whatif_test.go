package whatif

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"tollbook/domain"
	"tollbook/projections"
)

// TestUnchanged: nothing otherwise is the month as it is replayed, byte for byte:
// open or closed, with adjustments, as of any position.
func TestUnchanged(t *testing.T) {
	issued := 0
	rapid.Check(t, func(t *rapid.T) {
		events := histories.Draw(t, "history")
		cut := rapid.IntRange(0, len(events)).Draw(t, "late")
		walk := bookOf(t, events[:cut], rapid.IntRange(0, 3).Draw(t, "closed"), events[cut:])
		month := rapid.SampledFrom(months).Draw(t, "month")
		at := uint64(0)
		if len(events) > 0 && rapid.Bool().Draw(t, "as of") {
			at = uint64(rapid.IntRange(1, len(events)).Draw(t, "position"))
		}
		want, err := projections.Replay(context.Background(), walk, tenant, month, at, nil)
		if err != nil {
			t.Fatal(err)
		}
		d, before, after, err := evaluate(context.Background(), walk, Scenario{Tenant: tenant, Month: month.String(), At: at, Statement: true}, nil)
		if err != nil {
			t.Fatal(err)
		}
		for _, s := range []projections.Statement{before, after, *d.Statement} {
			if diff := gocmp.Diff(canonical(t, want), canonical(t, s)); diff != "" {
				t.Fatalf("-replayed +what-if:\n%s", diff)
			}
		}
		if !d.Unchanged || len(d.Invoices)+len(d.Lines)+len(d.Pools)+len(d.Exceptions)+len(d.Changes) > 0 {
			t.Fatalf("nothing was otherwise: %+v", d)
		}
		if want.Status == projections.StatusIssued {
			issued++
		}
	})
	if issued == 0 {
		t.Error("no closed month was drawn")
	}
}

// --- what was published instead

// intervals is R3 by the book: a user's licences of a family, of all events of a
// history.
func intervals(events []domain.Event, user string, familyOf func(string) domain.Family, family domain.Family) []domain.Holding {
	type said struct {
		domain.Event
		at      domain.Instant
		plan    string
		country string // "": removed
	}
	var all []said
	for _, e := range events {
		switch data := e.Data.(type) {
		case *domain.Assignment:
			if data.User == user && familyOf(data.Plan) == family {
				all = append(all, said{e, data.EffectiveAt, data.Plan, data.Country})
			}
		case *domain.Removal:
			if data.User == user && familyOf(data.Plan) == family {
				all = append(all, said{e, data.EffectiveAt, data.Plan, ""})
			}
		}
	}
	slices.SortFunc(all, func(a, b said) int {
		return cmp.Or(cmp.Compare(a.at, b.at), cmp.Compare(a.Time, b.Time), cmp.Compare(a.Source, b.Source), cmp.Compare(a.ID, b.ID))
	})
	var held []domain.Holding
	for _, e := range all {
		open := len(held) > 0 && held[len(held)-1].To == domain.Forever
		if e.country == "" && !(open && held[len(held)-1].Plan == e.plan) {
			continue
		}
		if open {
			held[len(held)-1].To = e.at
		}
		if e.country != "" {
			held = append(held, domain.Holding{User: user, Plan: e.plan, Country: e.country, Family: family, From: e.at, To: domain.Forever})
		}
	}
	return slices.DeleteFunc(held, func(h domain.Holding) bool { return h.From == h.To })
}

// relicensed is a history in which other licences were published: in a span, those
// that otherwise makes of a user's.
func relicensed(events []domain.Event, users []string, familyOf func(string) domain.Family, s span, otherwise func(user string, family domain.Family, inside []domain.Holding) []domain.Holding) []domain.Event {
	var out []domain.Event
	for _, e := range events {
		switch e.Data.(type) {
		case *domain.Assignment, *domain.Removal:
		default:
			out = append(out, e)
		}
	}
	say := func(data domain.Data) {
		out = append(out, domain.Event{Tenant: tenant, Source: "instead", ID: fmt.Sprintf("%06d", len(out)), Time: instant("2026-07-01T00:00:00Z"), Data: data})
	}
	for _, user := range users {
		for _, family := range []domain.Family{domain.Calling, domain.Conferencing} {
			var parts, inside []domain.Holding
			for _, h := range intervals(events, user, familyOf, family) {
				for _, piece := range []span{{h.From, min(h.To, s.from)}, {max(h.From, s.to), h.To}} {
					if piece.from < piece.to {
						one := h
						one.From, one.To = piece.from, piece.to
						parts = append(parts, one)
					}
				}
				if h.From, h.To = max(h.From, s.from), min(h.To, s.to); h.From < h.To {
					inside = append(inside, h)
				}
			}
			parts = append(parts, otherwise(user, family, inside)...)
			slices.SortFunc(parts, func(a, b domain.Holding) int { return cmp.Compare(a.From, b.From) })
			for _, h := range parts {
				say(&domain.Assignment{User: user, Plan: h.Plan, Country: h.Country, EffectiveAt: h.From})
				if h.To != domain.Forever {
					// At one instant the assignments of the next part stand, as they are later ids.
					say(&domain.Removal{User: user, Plan: h.Plan, EffectiveAt: h.To})
				}
			}
		}
	}
	return out
}

// republished is a history in which terms of a month were published otherwise.
func republished(events []domain.Event, ledger *domain.Ledger, month domain.Month, plan func(*domain.Plan) bool, config func(*domain.TenantConfig) bool) []domain.Event {
	out := slices.Clone(events)
	say := func(owner string, data domain.Data) {
		out = append(out, domain.Event{Tenant: owner, Source: "instead", ID: fmt.Sprint(len(out)), Time: instant("2026-12-01T00:00:00Z"), Data: data})
	}
	for _, name := range ledger.PlanNames(tenant) {
		if version, owner := ledger.PlanInForce(tenant, name, month); version != nil {
			p := *version
			if p.EffectiveFrom = month.FirstDay(); plan(&p) {
				say(owner, &p)
			}
		}
	}
	c := ledger.ConfigInForce(tenant, month)
	decks := map[string]string{}
	for country, deck := range c.Decks {
		decks[country] = deck
	}
	c.Decks, c.EffectiveFrom = decks, month.FirstDay()
	if config(&c) {
		say(tenant, &c)
	}
	return out
}

// TestPublished: each kind of scenario is what a book says in which it was so
// published.
func TestPublished(t *testing.T) {
	for _, kind := range []string{"grant", "deck", "version", "file", "remove", "plan", "add", "spare"} {
		t.Run(kind, func(t *testing.T) {
			changed := 0
			rapid.Check(t, func(t *rapid.T) {
				if published(t, kind) {
					changed++
				}
			})
			if changed == 0 {
				t.Error("no scenario changed anything")
			}
		})
	}
}

// published compares one scenario of a kind, and reports whether it changed anything.
func published(t *rapid.T, kind string) bool {
	events := histories.Draw(t, "history")
	month := rapid.SampledFrom(months).Draw(t, "month")
	ledger := domain.NewLedger()
	for i := range events {
		ledger.Add(&events[i])
	}
	from, to := ledger.Bounds(tenant, month)
	s := span{from, to}
	familyOf := func(plan string) domain.Family { return ledger.FamilyOf(tenant, plan) }
	plan := rapid.SampledFrom(somePlans).Draw(t, "plan")
	country := rapid.SampledFrom(someCountries).Draw(t, "country")
	user := rapid.SampledFrom(append([]string{"stranger"}, someUsers...)).Draw(t, "user")
	everybody := append([]string{"stranger"}, someUsers...)
	scenario := Scenario{Tenant: tenant, Month: month.String()}
	var instead []domain.Event
	never := func(*domain.TenantConfig) bool { return false }
	if held := ledger.Holdings(tenant, user); kind == "remove" && len(held) > 0 {
		plan = rapid.SampledFrom(held).Draw(t, "held").Plan
	}
	switch kind {
	case "grant":
		grant := rapid.IntRange(0, len(domain.Grants)-1).Draw(t, "grant")
		scenario.Grants = []GrantChange{{Plan: plan, Grant: domain.Grants[grant]}}
		instead = republished(events, ledger, month, func(p *domain.Plan) bool { p.Grant = domain.Grant(grant); return p.Plan == plan }, never)
	case "deck", "version", "file":
		change := DeckChange{Deck: "standard", Use: "carrier"}
		other, published := "carrier", events
		if kind != "deck" {
			var rows domain.Deck
			for _, e := range events {
				if deck, ok := e.Data.(*domain.Deck); ok && deck.Deck == "carrier" && deck.Version == "v1" {
					rows = *deck
				}
			}
			change.Version, other = "v1", "carrier@v1"
			if kind == "file" {
				rows.Version, rows.Currency = "2027", "JPY"
				other = "new.csv"
				change = DeckChange{Deck: "standard", File: "decks/new.csv", Parts: []*domain.Deck{&rows}}
			}
			named := rows
			named.Deck, named.EffectiveFrom = other, from
			published = append(slices.Clone(events), domain.Event{Tenant: tenant, Source: "instead", ID: "deck", Time: from, Data: &named})
		}
		scenario.Decks = []DeckChange{change}
		instead = republished(published, ledger, month, func(p *domain.Plan) bool {
			was := p.Deck
			p.Deck = other
			return was == "standard"
		}, func(c *domain.TenantConfig) (any bool) {
			for country, deck := range c.Decks {
				if deck == "standard" {
					c.Decks[country], any = other, true
				}
			}
			return any
		})
	case "remove":
		scenario.Remove = []Removal{{Plan: plan, Users: []string{user}}}
		instead = relicensed(events, everybody, familyOf, s, func(of string, _ domain.Family, inside []domain.Holding) []domain.Holding {
			return slices.DeleteFunc(inside, func(h domain.Holding) bool { return of == user && h.Plan == plan })
		})
	case "plan":
		scenario.Plans = []PlanChange{{Users: []string{user}, To: plan, Country: rapid.SampledFrom([]string{"", country}).Draw(t, "to")}}
		instead = relicensed(events, everybody, familyOf, s, func(of string, family domain.Family, inside []domain.Holding) []domain.Holding {
			for i := range inside {
				if of == user && family == familyOf(plan) {
					inside[i].Plan, inside[i].Country = plan, cmp.Or(scenario.Plans[0].Country, inside[i].Country)
				}
			}
			return inside
		})
	case "add":
		scenario.Add = []Addition{{Plan: plan, Country: country, Users: []string{user}}}
		instead = relicensed(events, everybody, familyOf, s, func(of string, family domain.Family, inside []domain.Holding) []domain.Holding {
			if of != user || family != familyOf(plan) {
				return inside
			}
			// Whatever begins before something that is held ends there.
			edges := []domain.Instant{from}
			for _, h := range inside {
				edges = append(edges, h.To)
			}
			for _, edge := range edges {
				next := to
				free := edge < to
				for _, h := range inside {
					free = free && !(h.From <= edge && edge < h.To)
					if h.From > edge {
						next = min(next, h.From)
					}
				}
				if free {
					inside = append(inside, domain.Holding{User: user, Plan: plan, Country: country, Family: family, From: edge, To: next})
				}
			}
			return inside
		})
	case "spare":
		n := rapid.IntRange(1, 4).Draw(t, "licences")
		scenario.Add = []Addition{{Plan: plan, Country: country, Licences: n}}
		instead = slices.Clone(events)
		for i := range n {
			instead = append(instead, domain.Event{Tenant: tenant, Source: "instead", ID: fmt.Sprint(i), Time: from, Data: &domain.Assignment{
				User: fmt.Sprint("nobody ", i), Plan: plan, Country: country, EffectiveAt: from,
			}})
		}
	}

	d, _, after, err := evaluate(context.Background(), bookOf(t, events, 0, nil), scenario, nil)
	if refusal := (*Refusal)(nil); errors.As(err, &refusal) {
		return false
	}
	if err != nil {
		t.Fatal(err)
	}
	want, err := projections.Replay(context.Background(), bookOf(t, instead, 0, nil), tenant, month, 0, nil)
	if err != nil {
		t.Fatal(err)
	}
	after.Position, after.Head = want.Position, want.Head
	// Spare licences of single users have pools with other names.
	for _, s := range []*projections.Statement{&want, &after} {
		for i := range s.Pools {
			if kind == "spare" && s.Pools[i].User != "" && !slices.Contains(someUsers, s.Pools[i].User) {
				s.Pools[i].User = "spare"
			}
		}
		slices.SortStableFunc(s.Pools, func(a, b projections.Pool) int {
			return cmp.Or(cmp.Compare(a.Country, b.Country), cmp.Compare(a.Plan, b.Plan), cmp.Compare(a.User, b.User))
		})
	}
	if diff := gocmp.Diff(want, after); diff != "" {
		t.Fatalf("%s: -published +what-if:\n%s", d.Changes, diff)
	}
	return !d.Unchanged
}
