package domain

import (
	"iter"
	"maps"
	"slices"
)

// A Ledger is the accounts of all tenants: a fold of booked events that does
// not care about their order. Each event is added once; the book sees to that.
// A Ledger is not safe for concurrent use.
type Ledger struct {
	catalog  publications
	revision uint64 // of the catalogue
	accounts map[string]*account
	terms    []Event // all that was added but calls, for an image

	// Run, if not nil, runs tasks, which do not touch one another, and returns when
	// all are done: how somebody with several cores has months placed faster.
	Run func(tasks []func())
}

func (l *Ledger) run(tasks []func()) {
	if l.Run != nil {
		l.Run(tasks)
		return
	}
	for _, task := range tasks {
		task()
	}
}

// NewLedger returns one to which no event was added.
func NewLedger() *Ledger {
	return &Ledger{catalog: newPublications(), accounts: map[string]*account{}}
}

// Add takes an event in. It keeps parts of e.Data; the caller must not change
// them. Events that decide nothing about a bill change nothing.
func (l *Ledger) Add(e *Event) {
	if e.Tenant == CatalogTenant {
		switch data := e.Data.(type) {
		case *Plan:
			l.catalog.addPlan(e, data)
			l.revision++
		case *Deck:
			l.catalog.addDeck(data)
			l.revision++
		}
	}
	switch e.Data.(type) {
	case *Suspended, *Recycled, *WrittenOff, *GapWaived, *SwitchConfig:
		return
	case *Call:
	default:
		l.terms = append(l.terms, *e)
	}
	l.account(e.Tenant).add(e)
}

func (l *Ledger) account(tenant string) *account {
	a := l.accounts[tenant]
	if a == nil {
		a = newAccount(l, tenant)
		l.accounts[tenant] = a
	}
	return a
}

// Rating is the month as of the events added so far.
func (l *Ledger) Rating(tenant string, id Month) Rating {
	a := l.accounts[tenant]
	if a == nil {
		a = newAccount(l, tenant)
	}
	return a.rating(id)
}

// Tenants are those of whom there is any event, sorted.
func (l *Ledger) Tenants() []string { return slices.Sorted(maps.Keys(l.accounts)) }

// Months are those in which the tenant has calls, in order.
func (l *Ledger) Months(tenant string) []Month {
	a := l.accounts[tenant]
	if a == nil {
		return nil
	}
	a.resolve()
	var ids []Month
	for id, m := range a.months {
		if m.calls.n > 0 {
			ids = append(ids, id)
		}
	}
	slices.Sort(ids)
	return ids
}

// MonthAt is the tenant's month that holds t (R1).
func (l *Ledger) MonthAt(tenant string, t Instant) Month {
	a := l.accounts[tenant]
	if a == nil {
		a = newAccount(l, tenant)
	}
	return a.monthOf(t)
}

// Pools visits the pools of a month without making the invoices: what watches
// thresholds while calls pour in. Pools come in no order.
func (l *Ledger) Pools(tenant string, id Month) iter.Seq[PoolRating] {
	return func(yield func(PoolRating) bool) {
		a := l.accounts[tenant]
		if a == nil {
			return
		}
		a.resolve()
		m := a.months[id]
		if m == nil {
			return
		}
		m.refresh()
		for _, p := range m.pools {
			if !yield(p.rating(m)) {
				return
			}
		}
	}
}
