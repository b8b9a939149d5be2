package domain

import (
	"maps"
	"slices"
)

// Estimate is what a call would cost if all of it were overage, in whole minutes:
// by the deck of the user's licence at that time or, where there is none, the
// dearest of the decks the tenant's configuration and plans name. It is what is
// at stake while the call is in suspense, never an amount of an invoice.
func (l *Ledger) Estimate(tenant, user string, called Number, at Instant, billableMS int64) (Amount, Currency, bool) {
	a := l.accounts[tenant]
	if a == nil {
		a = newAccount(l, tenant)
	}
	var amount Amount
	var currency Currency
	for _, h := range a.decksAt(user, at) {
		v := h.at(at)
		if v == nil || currency != "" && v.currency != currency {
			continue
		}
		row, ok := v.lookup(called)
		if !ok {
			continue
		}
		var one Amount
		one.Digits = v.currency.Digits()
		if !row.free && billableMS > 0 {
			line := &v.lines[row.line]
			one = Charge(line.Price, line.Fee, 1, DefaultIncrement.Seconds(billableMS), v.currency.Digits())
		}
		if currency == "" || one.Minor.Cmp(&amount.Minor) > 0 {
			amount, currency = one, v.currency
		}
	}
	return amount, currency, currency != ""
}

// decksAt are the decks that may price a user's call.
func (a *account) decksAt(user string, at Instant) []*deckHistory {
	id := a.monthOf(at)
	if i, ok := a.users.index[user]; ok {
		for _, list := range a.licencesOf(i) {
			for _, held := range list {
				if held.from <= at && at < held.to {
					if plan, ok := a.plan(held.plan).on(id.FirstDay()); ok {
						return []*deckHistory{a.deckFor(id, plan, held.country)}
					}
				}
			}
		}
	}
	names := map[string]bool{}
	for _, name := range a.config(id).Decks {
		names[name] = true
	}
	for _, published := range []publications{a.own, a.ledger.catalog} {
		for name := range published.plans {
			if plan, ok := a.plan(name).on(id.FirstDay()); ok && plan.Deck != "" {
				names[plan.Deck] = true
			}
		}
	}
	var decks []*deckHistory
	for _, name := range slices.Sorted(maps.Keys(names)) {
		decks = append(decks, a.deck(name))
	}
	return decks
}
