package whatif

import (
	"fmt"
	"slices"

	"tollbook/domain"
)

// A world is a ledger to which events are added that nobody published.
type world struct {
	ledger *domain.Ledger
	tenant string
	said   int                         // events added; the latest about a thing stands
	held   map[string][]domain.Holding // by user, as the ledger has it now
}

func newWorld(ledger *domain.Ledger, tenant string) *world {
	w := &world{ledger: ledger, tenant: tenant, held: map[string][]domain.Holding{}}
	for _, user := range ledger.LicenceUsers(tenant) {
		w.held[user] = ledger.Holdings(tenant, user)
	}
	return w
}

// afterAll is later than any event can say it was said.
const afterAll = domain.MaxInstant + 1

func (w *world) publish(tenant string, data domain.Data) {
	w.said++
	w.ledger.Add(&domain.Event{Tenant: tenant, Source: "what-if", ID: fmt.Sprintf("%012d", w.said), Time: afterAll, Data: data})
}

// at is what is held at t; nil: nothing.
func at(list []domain.Holding, family domain.Family, t domain.Instant) *domain.Holding {
	for i := range list {
		if h := &list[i]; h.Family == family && h.From <= t && t < h.To {
			return h
		}
	}
	return nil
}

// hold has a user hold from an instant on exactly what want says, of a family.
// At each instant at which anything is or was to happen, what would be held is set
// right where it is not what is wanted.
func (w *world) hold(user string, family domain.Family, want []domain.Holding, from domain.Instant) {
	instants := append(w.ledger.LicenceInstants(w.tenant, user), from)
	for _, h := range want {
		instants = append(instants, h.From)
		if h.To != domain.Forever {
			instants = append(instants, h.To)
		}
	}
	slices.Sort(instants)
	for _, t := range slices.Compact(instants) {
		if t < from {
			continue
		}
		is, wanted := at(w.held[user], family, t), at(want, family, t)
		switch {
		case wanted != nil && (is == nil || is.Plan != wanted.Plan || is.Country != wanted.Country || wanted.From == t && is.From != t):
			w.publish(w.tenant, &domain.Assignment{User: user, Plan: wanted.Plan, Country: wanted.Country, EffectiveAt: t})
		case wanted == nil && is != nil:
			w.publish(w.tenant, &domain.Removal{User: user, Plan: is.Plan, EffectiveAt: t})
		default:
			continue
		}
		w.held[user] = w.ledger.Holdings(w.tenant, user)
	}
}

// A span is a month's time.
type span struct{ from, to domain.Instant }

// of is a user's holdings of a family within the span, clipped to it.
func (s span) of(list []domain.Holding, family domain.Family) []domain.Holding {
	var inside []domain.Holding
	for _, h := range list {
		h.From, h.To = max(h.From, s.from), min(h.To, s.to)
		if h.Family == family && h.From < h.To {
			inside = append(inside, h)
		}
	}
	return inside
}

// with are holdings of a family, those within the span exchanged for others.
func (s span) with(list []domain.Holding, family domain.Family, inside []domain.Holding) []domain.Holding {
	before := span{domain.MinInstant - 1, s.from}.of(list, family)
	after := span{s.to, domain.Forever}.of(list, family)
	var all []domain.Holding
	for _, part := range [][]domain.Holding{before, inside, after} {
		for i, h := range part {
			// What only the span's edge has cut is one again.
			if last := len(all) - 1; i == 0 && last >= 0 && all[last].To == h.From && all[last].Plan == h.Plan && all[last].Country == h.Country {
				all[last].To = h.To
				continue
			}
			all = append(all, h)
		}
	}
	return all
}

// gaps are when in the span nothing of a family is held.
func (s span) gaps(list []domain.Holding, family domain.Family) []span {
	var gaps []span
	from := s.from
	for _, h := range s.of(list, family) { // they are in order
		if from < h.From {
			gaps = append(gaps, span{from, h.From})
		}
		from = h.To
	}
	if from < s.to {
		gaps = append(gaps, span{from, s.to})
	}
	return gaps
}

// change has a user hold others within a span.
func (w *world) change(user string, family domain.Family, s span, inside []domain.Holding) {
	w.hold(user, family, s.with(w.held[user], family, inside), s.from)
}

// users are those of whom any licence is known, sorted.
func (w *world) users() []string {
	names := make([]string, 0, len(w.held))
	for user := range w.held {
		names = append(names, user)
	}
	slices.Sort(names)
	return names
}

// spare is a name that nobody has, for the nth licence that nobody uses.
func (w *world) spare(plan, country string, n int) string {
	return fmt.Sprintf("spare licence %06d of %s in %s", n, plan, country)
}

// grantsIn refuses a plan that makes no minutes in a country: its users' calls
// would be unlicensed, which is no way to save.
func (w *world) grantsIn(plan, country string, month domain.Month) error {
	p, _ := w.ledger.PlanInForce(w.tenant, plan, month)
	if p == nil {
		return refuse("plan %s: no version is in force in %s; tollbook import-catalog publishes plans", plan, month)
	}
	if !p.GrantsIn(country) {
		return refuse("plan %s: has no minutes for licences in %s", plan, country)
	}
	return nil
}
