package projections

import (
	"fmt"
	"time"

	"tollbook/domain"
)

// A Blocker keeps a month from closing.
type Blocker struct {
	What   string `json:"what"`   // order, running, exception, gap, suspense
	Detail string `json:"detail"` // one line
	Do     string `json:"do"`     // what resolves or waives it
}

// What can be a Blocker.
const (
	BlockedByOrder     = "order"
	BlockedByTime      = "running"
	BlockedByException = "exception"
	BlockedByGap       = "gap"
	BlockedBySuspense  = "suspense"
)

// Remedies are what makes exceptions none, by their reasons (R10).
var Remedies = map[string]string{
	domain.Dangling:   "publish the call that was corrected or voided",
	domain.Ungranted:  "publish the plan, or its minutes for the licence's country",
	domain.Unlicensed: "assign the users a licence from before their calls",
	domain.Unrated:    "publish a deck with the destination, or its missing parts",
}

// Blockers are what the calls and licences of a month say against closing it at
// now. Gaps and suspense have projections of their own.
func (m *Months) Blockers(tenant string, month domain.Month, now domain.Instant) []Blocker {
	m.mu.Lock()
	defer m.mu.Unlock()
	next, any := m.ledger.NextToClose(tenant)
	switch {
	case !any:
		return []Blocker{{BlockedByOrder, fmt.Sprintf("%s has no calls yet: there is nothing to close", tenant), "tollbook status"}}
	case month < next && m.issue(tenant, month) != nil:
		return []Blocker{{BlockedByOrder, fmt.Sprintf("%s is closed, by document %s", month, m.issue(tenant, month).Number), fmt.Sprintf("tollbook invoice --tenant %s --month %s", tenant, month)}}
	case month < next:
		return []Blocker{{BlockedByOrder, fmt.Sprintf("%s is before the first month with calls, or the first that was closed: what belongs to it comes as adjustments of %s", month, next), fmt.Sprintf("tollbook close --tenant %s --month %s", tenant, next)}}
	case month > next:
		return []Blocker{{BlockedByOrder, fmt.Sprintf("months close in order, and %s is not closed", next), fmt.Sprintf("tollbook close --tenant %s --month %s", tenant, next)}}
	}
	var blockers []Blocker
	if _, end := m.ledger.Bounds(tenant, month); now < end {
		blockers = append(blockers, Blocker{BlockedByTime, fmt.Sprintf("%s runs until %s", month, end), "wait until then"})
	}
	for _, e := range m.ledger.Rating(tenant, month).Exceptions {
		if waived := m.ledger.Waived(tenant, month, e.Reason); e.Count > waived {
			blockers = append(blockers, Blocker{
				BlockedByException, fmt.Sprintf("%d %s (%d of them waived)", e.Count, e.Reason, waived),
				fmt.Sprintf("%s, or: tollbook exceptions waive --tenant %s --month %s --exception %s --why TEXT", Remedies[e.Reason], tenant, month, e.Reason),
			})
		}
	}
	return blockers
}

// Due is the tenant's month to close by itself at now, by close_after_days.
func (m *Months) Due(tenant string, now domain.Instant) (domain.Month, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	month, any := m.ledger.NextToClose(tenant)
	if !any {
		return 0, false
	}
	days := m.ledger.CloseAfterDays(tenant, month)
	_, end := m.ledger.Bounds(tenant, month)
	return month, days > 0 && end+domain.Instant(days)*domain.Instant(24*time.Hour) <= now
}

// Exceptions is how many of a reason a month has, and how many are waived.
func (m *Months) Exceptions(tenant string, month domain.Month, reason string) (count, waived int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, e := range m.ledger.Rating(tenant, month).Exceptions {
		if e.Reason == reason {
			count = e.Count
		}
	}
	return count, m.ledger.Waived(tenant, month, reason)
}

// Issue makes the document that closing the month now issues.
func (m *Months) Issue(tenant string, month domain.Month) (Issue, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return issue(m.ledger, tenant, month, m.head)
}

// Issues are the tenant's issued documents, in order. The caller must not change
// them.
func (m *Months) Issues(tenant string) []*Issue {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.issues[tenant]
}

// MonthBounds are the first instant of the tenant's month and that of the next one.
func (m *Months) MonthBounds(tenant string, month domain.Month) (from, to domain.Instant) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.ledger.Bounds(tenant, month)
}

// NextToClose is the tenant's month to close next; false while it has no calls.
func (m *Months) NextToClose(tenant string) (domain.Month, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.ledger.NextToClose(tenant)
}
