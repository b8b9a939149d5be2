package domain_test

import (
	"slices"
	"testing"

	"tollbook/domain"
)

// coveredHistories is how many histories TestHistoriesHaveEverything draws.
const coveredHistories = 300

// A feature is something rating decides, and how to see that it came up.
type feature struct {
	name string
	in   func(n *naive, r domain.Rating) bool
}

// TestHistoriesHaveEverything keeps genHistory honest: a rule that no drawn
// history exercises is a rule that TestAgreesWithNaiveRating does not test.
func TestHistoriesHaveEverything(t *testing.T) {
	found := map[string]int{}
	for seed := range coveredHistories {
		events := histories.Example(seed)
		in := map[string]bool{}
		for _, tenant := range tenantsOf(events) {
			for _, month := range ratedMonths {
				n := rateNaively(events, tenant, month)
				r := n.rating()
				if diff := unbalanced(r); diff != "" {
					t.Fatalf("seed %d, %s %v: %s\n%s", seed, tenant, month, diff, describe(events))
				}
				for _, f := range features {
					if f.in(n, r) {
						in[f.name] = true
					}
				}
			}
		}
		for name := range in {
			found[name]++
		}
	}
	for _, f := range features {
		t.Logf("%4d of %d: %s", found[f.name], coveredHistories, f.name)
		if found[f.name] == 0 {
			t.Errorf("no history has: %s", f.name)
		}
	}
}

var features = slices.Concat(callFeatures, poolFeatures, licenceFeatures, catalogueFeatures, moneyFeatures)

// anyCall is a feature of a single call.
func anyCall(name string, is func(n *naive, c *naiveCall) bool) feature {
	return feature{name, func(n *naive, _ domain.Rating) bool {
		return slices.ContainsFunc(n.calls, func(c *naiveCall) bool { return is(n, c) })
	}}
}

func anyPool(name string, is func(p *naivePool) bool) feature {
	return feature{name, func(n *naive, _ domain.Rating) bool { return slices.ContainsFunc(n.pools, is) }}
}

func decided(rule string, class naiveClass, short bool) feature {
	name := rule + " " + string(class)
	if short {
		name += ", short number"
	}
	return anyCall(name, func(_ *naive, c *naiveCall) bool {
		return c.rule == rule && c.class == class && c.call.Called.Short() == short
	})
}

func excepted(reason string) feature {
	return feature{"R10 " + reason, func(_ *naive, r domain.Rating) bool {
		return slices.ContainsFunc(r.Exceptions, func(e domain.Exception) bool { return e.Reason == reason })
	}}
}

var callFeatures = []feature{
	decided("R6.1", naiveFree, false),
	decided("R6.1", naiveFree, true),
	decided("R6.2", naiveUnlicensed, false),
	decided("R6.2", naiveFree, true),
	decided("R6.3", naiveUnrated, false),
	decided("R6.3", naiveFree, true),
	decided("R6.4", naiveFree, false),
	decided("R6.4", naiveFree, true),
	decided("R6.5", naiveOutside, false),
	decided("R6.5", naiveOutside, true),
	decided("R6.5", naiveInBucket, false),
	decided("R6.5", naiveInBucket, true),
	excepted(domain.Unlicensed), excepted(domain.Unrated), excepted(domain.Ungranted), excepted(domain.Dangling),
	{"R10 dangling with seconds", func(_ *naive, r domain.Rating) bool {
		return slices.ContainsFunc(r.Exceptions, func(e domain.Exception) bool { return e.Reason == domain.Dangling && e.Seconds > 0 })
	}},
	{"R10 dangling void", func(n *naive, _ domain.Rating) bool {
		return slices.ContainsFunc(n.dangling, func(e domain.Event) bool { return e.Data.Type() == domain.TypeVoid })
	}},
	{"R10 reference to what is no call", func(n *naive, _ domain.Rating) bool {
		return slices.ContainsFunc(n.dangling, func(e domain.Event) bool {
			c, ok := e.Data.(*domain.Correction)
			return ok && slices.ContainsFunc(n.own, func(o domain.Event) bool { return o.Source == c.Ref.Source && o.ID == c.Ref.ID })
		})
	}},
	anyCall("R1 unanswered, month of its start", func(_ *naive, c *naiveCall) bool { return c.call.AnsweredAt == 0 && c.call.StartedAt != 0 }),
	anyCall("R1 unanswered, month of its time", func(_ *naive, c *naiveCall) bool { return c.call.AnsweredAt == 0 && c.call.StartedAt == 0 }),
	anyCall("R1 first instant of the month", func(n *naive, c *naiveCall) bool { return c.at == n.start(n.month) }),
	anyCall("R1 last millisecond of the month", func(n *naive, c *naiveCall) bool { return c.at >= n.start(n.month+1)-second/1000 }),
	anyCall("R1 ends in the next month", func(n *naive, c *naiveCall) bool {
		return c.at+domain.Instant(c.call.BillableMS)*second/1000 > n.start(n.month+1)
	}),
	anyCall("R1 month of the zone, not of UTC", func(n *naive, c *naiveCall) bool { return domain.MonthOf(c.at.Time()) != n.month }),
	anyCall("R1 corrected into this month", func(n *naive, c *naiveCall) bool {
		return slices.ContainsFunc(n.own, func(e domain.Event) bool {
			was, ok := e.Data.(*domain.Call)
			return ok && e.Source == c.source && e.ID == c.id && n.monthOf(was.At(e.Time)) != n.month
		})
	}),
	anyCall("R3 conference call on a licence", func(_ *naive, c *naiveCall) bool {
		return c.call.Kind == domain.KindConference && c.licence != nil
	}),
	anyCall("R3 at the first instant of a licence", func(_ *naive, c *naiveCall) bool { return c.licence != nil && c.licence.from == c.at }),
	anyCall("R3 at the end of a licence", func(n *naive, c *naiveCall) bool {
		return slices.ContainsFunc(n.licences, func(l *naiveLicence) bool { return l.user == c.call.User && l.to == c.at })
	}),
	anyCall("R6.3 masked number with a row", func(_ *naive, c *naiveCall) bool { return c.call.Called.Masked > 0 && c.row != nil }),
	anyCall("R6.3 a shorter prefix lost", func(_ *naive, c *naiveCall) bool { return c.row != nil && c.row.Prefix == "393" }),
	anyCall("R6.5 second bucket", func(_ *naive, c *naiveCall) bool { return c.class == naiveInBucket && c.bucket > 0 }),
	anyCall("R6.5 kind not listed", func(_ *naive, c *naiveCall) bool {
		return c.class == naiveOutside && !slices.Contains(c.pool.plan.Kinds, c.call.Kind)
	}),
	anyCall("R6.5 pay as you go", func(_ *naive, c *naiveCall) bool { return c.class == naiveOutside && len(c.pool.plan.Buckets) == 0 }),
	anyCall("R6.5 domestic list names another country", func(_ *naive, c *naiveCall) bool {
		return c.class == naiveInBucket && c.pool.plan.Buckets[c.bucket].Zone == domain.ZoneDomestic && c.row.Country != c.licence.country
	}),
	anyCall("R7 same instant and source as another", func(n *naive, c *naiveCall) bool {
		return slices.ContainsFunc(n.calls, func(d *naiveCall) bool {
			return d != c && d.pool != nil && d.pool == c.pool && d.at == c.at && d.source == c.source && d.over != c.over
		})
	}),
	anyCall("R7 straddles the end", func(_ *naive, c *naiveCall) bool { return c.class == naiveInBucket && c.over > 0 && c.over < c.billed }),
	anyCall("R8 outside with the row's increment", func(_ *naive, c *naiveCall) bool {
		return c.class == naiveOutside && c.billed != billedSeconds(&c.call, c.pool.plan.Increment)
	}),
}

var poolFeatures = []feature{
	anyPool("R4 scope country", func(p *naivePool) bool { return p.plan.Scope == domain.ScopeCountry && len(p.calls) > 0 }),
	anyPool("R4 scope tenant", func(p *naivePool) bool { return p.plan.Scope == domain.ScopeTenant && len(p.calls) > 0 }),
	anyPool("R4 scope user", func(p *naivePool) bool { return p.plan.Scope == domain.ScopeUser && len(p.calls) > 0 }),
	anyPool("R4 pool shared by countries", func(p *naivePool) bool {
		return p.country != "" && slices.ContainsFunc(p.licences, func(l *naiveLicence) bool { return l.country != p.licences[0].country })
	}),
	grantedBy("R5 peak", domain.GrantPeak), grantedBy("R5 any", domain.GrantAny),
	grantedBy("R5 start", domain.GrantStart), grantedBy("R5 prorated", domain.GrantProrated),
	anyPool("R5 peak of fewer than were held", func(p *naivePool) bool {
		return p.plan.Grant == domain.GrantPeak && p.count > 1 && p.count < int64(len(p.licences))
	}),
	anyPool("R5 nothing held at the start", func(p *naivePool) bool { return p.plan.Grant == domain.GrantStart && p.count == 0 && len(p.calls) > 0 }),
	anyPool("R5 prorated, not a whole minute", func(p *naivePool) bool {
		return p.plan.Grant == domain.GrantProrated && slices.ContainsFunc(p.granted, func(s int64) bool { return s%60 != 0 })
	}),
	anyPool("R5 one user, several licences, any", func(p *naivePool) bool { return p.plan.Grant == domain.GrantAny && int(p.count) < len(p.licences) }),
	anyPool("R7 ends inside the month", func(p *naivePool) bool {
		return p.exhaustedAt != 0 && p.calls[0].over == 0 && p.calls[len(p.calls)-1].over > 0
	}),
	anyPool("R7 linked, ends inside the month", func(p *naivePool) bool { return p.plan.Linked && p.exhaustedAt != 0 && p.calls[0].over == 0 }),
	anyPool("R7 linked, another bucket has minutes left", func(p *naivePool) bool {
		for i := range p.granted {
			if p.plan.Linked && p.overage[i] > 0 && p.used[i] < p.granted[i] {
				return true
			}
		}
		return false
	}),
	anyPool("R7 unlinked, one bucket ends and one does not", func(p *naivePool) bool {
		return !p.plan.Linked && len(p.calls) > 0 && p.exhaustedAt != 0 &&
			slices.ContainsFunc(p.calls, func(c *naiveCall) bool { return c.at > p.exhaustedAt && c.over == 0 })
	}),
	anyPool("R7 bucket that grants nothing", func(p *naivePool) bool { return len(p.calls) > 0 && slices.Contains(p.granted, 0) }),
	anyPool("R7 linked, a bucket that grants nothing", func(p *naivePool) bool {
		return p.plan.Linked && len(p.calls) > 0 && slices.Contains(p.granted, 0) && slices.Max(p.granted) > 0
	}),
	anyPool("R7 drawn to the second, no overage", func(p *naivePool) bool {
		for i := range p.granted {
			if p.used[i] > 0 && p.used[i] == p.granted[i] && p.overage[i] == 0 {
				return true
			}
		}
		return false
	}),
}

func grantedBy(name string, g domain.Grant) feature {
	return anyPool(name, func(p *naivePool) bool { return p.plan.Grant == g && len(p.calls) > 0 })
}

func anyLicence(name string, is func(n *naive, l *naiveLicence) bool) feature {
	return feature{name, func(n *naive, _ domain.Rating) bool {
		return slices.ContainsFunc(n.licences, func(l *naiveLicence) bool { return is(n, l) })
	}}
}

var licenceFeatures = []feature{
	anyLicence("R3 passed on at one instant", func(n *naive, l *naiveLicence) bool {
		return slices.ContainsFunc(n.licences, func(m *naiveLicence) bool {
			return m.user != l.user && m.from == l.to && m.plan == l.plan && m.country == l.country
		})
	}),
	{"R3 empty interval", func(n *naive, _ domain.Rating) bool {
		assigned := 0
		for _, e := range n.own {
			if e.Data.Type() == domain.TypeAssignment {
				assigned++
			}
		}
		return assigned > len(n.licences)
	}},
	anyLicence("R3 removal of another plan does nothing", func(n *naive, l *naiveLicence) bool {
		return slices.ContainsFunc(n.own, func(e domain.Event) bool {
			r, ok := e.Data.(*domain.Removal)
			return ok && r.User == l.user && r.Plan != l.plan && n.family(r.Plan) == l.family && l.from < r.EffectiveAt && r.EffectiveAt < l.to
		})
	}),
	anyLicence("R3 both families held at once", func(n *naive, l *naiveLicence) bool {
		return l.family == domain.Conferencing && slices.ContainsFunc(n.licences, func(m *naiveLicence) bool {
			return m.user == l.user && m.family == domain.Calling && m.holds(l.from)
		})
	}),
	{"R10 ungranted for its country only", func(n *naive, _ domain.Rating) bool {
		return slices.ContainsFunc(n.ungranted, func(l *naiveLicence) bool { return n.plan(l.plan) != nil })
	}},
	{"R10 ungranted, plan not yet in force", func(n *naive, _ domain.Rating) bool {
		return slices.ContainsFunc(n.ungranted, func(l *naiveLicence) bool { return n.plan(l.plan) == nil && len(n.planEvents(l.plan)) > 0 })
	}},
}

var catalogueFeatures = []feature{
	{"own plan beside the catalog's", func(n *naive, _ domain.Rating) bool {
		return slices.ContainsFunc(n.pools, func(p *naivePool) bool {
			return n.tenant != domain.CatalogTenant && publishes(n.own, p.plan.Plan) && publishes(n.catalog, p.plan.Plan)
		})
	}},
	{"a later version of a plan in force", func(n *naive, _ domain.Rating) bool {
		return slices.ContainsFunc(n.pools, func(p *naivePool) bool { return n.planEvents(p.plan.Plan)[0].Data != p.plan })
	}},
	{"a plan's version changes between months", func(n *naive, _ domain.Rating) bool {
		return slices.ContainsFunc(n.pools, func(p *naivePool) bool {
			next := *n
			next.month++
			return next.plan(p.plan.Plan) != p.plan
		})
	}},
	{"a zone change between months", func(n *naive, _ domain.Rating) bool {
		a, b := n.config(n.month), n.config(n.month+1)
		return len(n.calls) > 0 && a != nil && b != nil && a.TimeZone != b.TimeZone
	}},
	{"a tenant's decks[country]", func(n *naive, _ domain.Rating) bool {
		return slices.ContainsFunc(n.calls, func(c *naiveCall) bool { return c.row != nil && c.deck.name != c.pool.plan.Deck })
	}},
	{"two deck versions in a month", func(n *naive, _ domain.Rating) bool {
		versions := map[[2]string]string{}
		for _, c := range n.calls {
			if c.deck != nil {
				versions[[2]string{c.deck.name, c.deck.version}] = c.deck.name
			}
		}
		names := map[string]int{}
		for _, name := range versions {
			names[name]++
		}
		return names["standard"] > 1 || names["premium"] > 1
	}},
	{"a deck version that is incomplete or invalid", func(n *naive, _ domain.Rating) bool {
		for _, e := range n.catalog {
			if d, ok := e.Data.(*domain.Deck); ok && !slices.ContainsFunc(n.decks(d.Deck), func(v *naiveDeck) bool { return v.version == d.Version }) {
				return true
			}
		}
		return false
	}},
	{"a deck of several parts in force", func(n *naive, _ domain.Rating) bool {
		for _, e := range slices.Concat(n.own, n.catalog) {
			if d, ok := e.Data.(*domain.Deck); ok && d.Parts > 1 && slices.ContainsFunc(n.calls, func(c *naiveCall) bool {
				return c.deck != nil && c.deck.name == d.Deck && c.deck.version == d.Version
			}) {
				return true
			}
		}
		return false
	}},
}

func publishes(events []domain.Event, plan string) bool {
	return slices.ContainsFunc(events, func(e domain.Event) bool {
		p, ok := e.Data.(*domain.Plan)
		return ok && p.Plan == plan
	})
}

func anyInvoice(name string, is func(inv domain.Invoice) bool) feature {
	return feature{name, func(_ *naive, r domain.Rating) bool { return slices.ContainsFunc(r.Invoices, is) }}
}

var moneyFeatures = []feature{
	anyInvoice("R9 invoice without lines", func(inv domain.Invoice) bool { return len(inv.Lines) == 0 }),
	anyInvoice("R9 several calls on a line", func(inv domain.Invoice) bool {
		return slices.ContainsFunc(inv.Lines, func(l domain.InvoiceLine) bool { return l.Calls > 1 })
	}),
	anyInvoice("R9 without minor digits", func(inv domain.Invoice) bool { return len(inv.Lines) > 0 && inv.Currency.Digits() == 0 }),
	anyInvoice("R9 three minor digits", func(inv domain.Invoice) bool { return len(inv.Lines) > 0 && inv.Currency.Digits() == 3 }),
	anyInvoice("R9 currency of nobody", func(inv domain.Invoice) bool { return inv.Currency == domain.NoCurrency }),
	anyInvoice("R9 a line is exactly half a minor unit", func(inv domain.Invoice) bool {
		return slices.ContainsFunc(inv.Lines, func(l domain.InvoiceLine) bool {
			half := l.Seconds*int64(l.Price) + 60*l.Calls*int64(l.Fee) // in 1/60 of a millionth
			unit := int64(60_000_000)
			for range inv.Currency.Digits() {
				unit /= 10
			}
			return half%unit*2 == unit
		})
	}),
	{"R9 two currencies for a plan and country", func(_ *naive, r domain.Rating) bool {
		for i := range r.Invoices[min(1, len(r.Invoices)):] {
			if a, b := r.Invoices[i], r.Invoices[i+1]; a.Country == b.Country && a.Plan == b.Plan {
				return true
			}
		}
		return false
	}},
}

// unbalanced names the first sum of r that does not come out.
func unbalanced(r domain.Rating) string {
	c := r.Counts
	sum := c.Free + c.InPool + c.Overage + c.Outside
	for _, e := range r.Exceptions {
		if e.Count <= 0 {
			return "an exception that counts nothing"
		}
		if e.Reason == domain.Unlicensed || e.Reason == domain.Unrated {
			sum += e.Count
		}
	}
	if sum != c.Calls {
		return "a call is in no class or in two"
	}
	var over, lined, charged int64
	for _, p := range r.Pools {
		for _, b := range p.Buckets {
			over += b.Overage
			if b.Used < 0 || b.Used > b.Granted || b.Overage < 0 {
				return "a bucket gives more than it has"
			}
		}
	}
	for _, inv := range r.Invoices {
		var total domain.Amount
		total.Digits = inv.Currency.Digits()
		for _, l := range inv.Lines {
			total.Add(l.Amount)
			lined += l.Seconds
			charged += l.Calls
		}
		if total.String() != inv.Total.String() {
			return "an invoice's lines do not make its total"
		}
	}
	if charged != c.Overage+c.Outside {
		return "a call with overage is on no line or on two"
	}
	if lined < over || c.Outside == 0 && lined != over {
		return "overage seconds are on no line"
	}
	return ""
}
