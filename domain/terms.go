package domain

import (
	"maps"
	"slices"
)

// A Holding is a licence interval of R3: a user holds a plan in a country from an
// instant until another.
type Holding struct {
	User, Plan, Country string
	Family              Family
	From, To            Instant // half-open; To is [Forever] while nothing ends it
}

// LicenceUsers are the tenant's users about whose licences anything was said, sorted.
func (l *Ledger) LicenceUsers(tenant string) []string {
	var names []string
	if a := l.accounts[tenant]; a != nil {
		for i := range a.licences {
			if len(a.licences[i].events) > 0 {
				names = append(names, a.users.names[i])
			}
		}
	}
	slices.Sort(names)
	return names
}

// Holdings are a user's, by family and time.
func (l *Ledger) Holdings(tenant, user string) []Holding {
	a := l.accounts[tenant]
	if a == nil {
		return nil
	}
	i, known := a.users.index[user]
	if !known {
		return nil
	}
	var all []Holding
	for family, list := range a.licencesOf(i) {
		for _, held := range list {
			all = append(all, Holding{user, held.plan, held.country, Family(family), held.from, held.to})
		}
	}
	return all
}

// LicenceInstants are those at which something was said of a user's licences to
// take effect, in order. It may have done nothing.
func (l *Ledger) LicenceInstants(tenant, user string) []Instant {
	a := l.accounts[tenant]
	if a == nil {
		return nil
	}
	i, known := a.users.index[user]
	if !known {
		return nil
	}
	var all []Instant
	for _, e := range a.licences[i].events { // they are in order
		all = append(all, Instant(e.effective))
	}
	return slices.Compact(all)
}

// PlanNames are the plans the tenant can hold, sorted.
func (l *Ledger) PlanNames(tenant string) []string {
	names := map[string]bool{}
	for name := range l.catalog.plans {
		names[name] = true
	}
	if a := l.accounts[tenant]; a != nil {
		for name := range a.own.plans {
			names[name] = true
		}
	}
	return slices.Sorted(maps.Keys(names))
}

// PlanInForce is the version of a plan that a tenant's month uses (R1), and who
// published it: the tenant or the catalogue. nil: there is none. The caller must
// not change it.
func (l *Ledger) PlanInForce(tenant, name string, id Month) (plan *Plan, owner string) {
	versions, owner := l.catalog.plans[name], CatalogTenant
	if a := l.accounts[tenant]; a != nil && a.own.plans[name] != nil {
		versions, owner = a.own.plans[name], tenant
	}
	plan, _ = versions.on(id.FirstDay())
	return plan, owner
}

// FamilyOf is the family of a tenant's plan, which never changes (R3).
func (l *Ledger) FamilyOf(tenant, plan string) Family {
	a := l.accounts[tenant]
	if a == nil {
		a = newAccount(l, tenant)
	}
	return a.familyOf(plan)
}

// ConfigInForce is the configuration that a tenant's month uses (R1), the default
// where there is none. The caller must not change its maps.
func (l *Ledger) ConfigInForce(tenant string, id Month) TenantConfig {
	if a := l.accounts[tenant]; a != nil {
		return *a.config(id)
	}
	return defaultConfig
}

// GrantsIn reports whether a licence of country makes minutes: else it is
// ungranted (R10), and its user's calls are unlicensed.
func (p *Plan) GrantsIn(country string) bool { return p.grants(country) }

// A Usage is what a user's calls of a month and a family come to: those that a
// licence is asked for (R6.2), which are answered, outbound and no short numbers.
type Usage struct {
	Calls, Seconds                     int64 // under a licence; billed seconds, of free destinations none
	UnlicensedCalls, UnlicensedSeconds int64
}

// Usage is that of a tenant's month by user. It looks at every call of the month.
func (l *Ledger) Usage(tenant string, id Month) (used [families]map[string]Usage) {
	for family := range used {
		used[family] = map[string]Usage{}
	}
	a := l.accounts[tenant]
	if a == nil {
		return used
	}
	a.resolve()
	m := a.months[id]
	if m == nil {
		return used
	}
	m.refresh()
	var byUser [families][]Usage
	for family := range byUser {
		byUser[family] = make([]Usage, len(a.users.names))
	}
	for i := range m.calls.n {
		c := m.calls.at(i)
		if c.class() == gone || !c.has(flagCosts) || c.called().Short() {
			continue
		}
		u := &byUser[a.family(c.kind)][m.calls.user(i)]
		switch c.class() {
		case unlicensed:
			u.UnlicensedCalls, u.UnlicensedSeconds = u.UnlicensedCalls+1, u.UnlicensedSeconds+c.billed()
		default:
			u.Calls, u.Seconds = u.Calls+1, u.Seconds+c.billed()
		}
	}
	for family := range byUser {
		for user, u := range byUser[family] {
			if u != (Usage{}) {
				used[family][a.users.names[user]] = u
			}
		}
	}
	return used
}
