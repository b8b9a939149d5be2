package domain

// Exceptions are those of a month's rating (R10) without the rating: what watches
// them while calls pour in. A reason of which there is none is there with 0.
func (l *Ledger) Exceptions(tenant string, id Month) []Exception {
	a := l.accounts[tenant]
	if a == nil {
		a = newAccount(l, tenant)
	}
	a.resolve()
	m := a.months[id]
	if m == nil {
		m = a.newMonth(id)
	}
	m.refresh()
	dangling := a.dangling(m)
	return []Exception{
		{Dangling, dangling.calls, dangling.seconds},
		{Ungranted, m.ungranted, 0},
		{Unlicensed, m.unlicensed.calls, m.unlicensed.seconds},
		{Unrated, m.unrated.calls, m.unrated.seconds},
	}
}
