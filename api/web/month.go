package web

import (
	"cmp"
	"net/http"
	"slices"
	"time"

	"tollbook/api/finance"
	"tollbook/domain"
	"tollbook/projections"
	"tollbook/projections/forecast"
)

// How much of a month its page shows at first: the rest is one step away.
const (
	rowsShown  = 200
	cardsShown = 6
)

func (p *Page) home(q *request) error {
	type row struct {
		finance.TenantInfo
		Latest string
	}
	body := struct {
		Tenants []row
		Nobodys int // records in suspense of which not even the tenant can be read
	}{}
	for _, t := range q.view.Tenants {
		one := row{TenantInfo: t}
		for _, month := range t.Months {
			one.Latest = max(one.Latest, month)
		}
		body.Tenants = append(body.Tenants, one)
	}
	if person, err := p.Who(q.Request); err != nil {
		return err
	} else if read, _ := person.May(domain.NoTenant); read {
		body.Nobodys = p.Desk.Suspense.Suspense.Before(domain.NoTenant, domain.MaxInstant)
	}
	return p.show(q, http.StatusOK, "home", q.l.t("Tenants"), body)
}

func (p *Page) tenant(q *request) error {
	months, err := p.Desk.MonthsOf(q.view.Tenant)
	if err != nil {
		return err
	}
	slices.Reverse(months) // the newest first
	return p.show(q, http.StatusOK, "tenant", q.view.Tenant, months)
}

// States of a pool, in the order in which they need attention.
const (
	stateBad  = "bad"  // it has ended
	stateWarn = "warn" // it ends before the month does, or is nearly used up
	stateGood = "good"
)

// A poolRow is a bucket of a pool on the month's page.
type poolRow struct {
	Country, Plan, User, Bucket string
	Href                        string
	Licences                    int64
	Granted, Drawn, Overage     int64 // seconds
	Used                        int64 // percent
	Pace                        string
	State                       string
	EndedAt                     *string
	Invoices                    []*projections.Invoice // one of each currency
	Foreseen                    *foreseen              // nil: nothing is
	index                       int                    // of the bucket in its plan
}

// A card is a pool that needs attention.
type card struct {
	poolRow
	Says  string
	Tells string // what is expected
	Chart chart
}

type monthView struct {
	Statement                   projections.Statement
	At                          uint64
	Totals                      []finance.Total
	Sums                        string
	Foreseen                    *forecast.Forecast // nil: nothing is
	Ended                       int
	Day, Days                   int  // of the month that runs; 0: it is over, or has not begun
	Ahead                       bool // it has not begun
	Open                        int64
	Exceptions, Gaps, Suspended int64
	Cards                       []card
	Rows                        []poolRow
	More                        bool
}

func (p *Page) month(q *request) error {
	v := q.view
	at, err := position(q.URL.Query(), "at")
	if err != nil {
		return err
	}
	statement, err := p.Desk.Month(q.Context(), v.Tenant, v.Month, at)
	if err != nil {
		return err
	}
	b := monthView{Statement: statement, At: at}
	v.At = at
	now := p.Desk.Clock()
	s := p.span(v.Tenant, q.month)
	b.Ahead = now < s.From
	if !b.Ahead && now < s.To {
		local := now.Time().In(v.Zone)
		b.Day = local.Day()
		b.Days = time.Date(local.Year(), local.Month()+1, 0, 0, 0, 0, 0, v.Zone).Day()
	}
	b.Totals = finance.TotalsOf(statement)
	for i, t := range b.Totals {
		b.Sums += []string{"", ", "}[min(i, 1)] + q.l.money(t.Total, t.Currency)
	}
	if b.Sums == "" {
		b.Sums = q.l.t("none")
	}
	b.Rows = q.rows(&statement, s, now)
	if at == 0 {
		if b.Foreseen, err = p.foresee(q, &statement, b.Rows, false); err != nil {
			return err
		}
		b.Rows = byAttention(regrouped(b.Rows))
	}
	for i := range statement.Pools {
		if statement.Pools[i].ExhaustedAt != nil {
			b.Ended++
		}
	}
	for _, e := range statement.Exceptions {
		_, waived := p.Desk.Months.Exceptions(v.Tenant, q.month, e.Reason)
		b.Exceptions += max(0, e.Count-waived)
	}
	_, gaps := p.Desk.Gaps.Open(v.Tenant, 0, s.To, 1)
	b.Gaps, b.Suspended = int64(gaps), int64(p.Desk.Suspense.Suspense.Before(v.Tenant, s.To))
	if statement.Status == projections.StatusIssued { // what is open now does not keep it open
		b.Exceptions, b.Gaps, b.Suspended = 0, 0, 0
	}
	b.Open = b.Exceptions + b.Gaps + b.Suspended
	if at == 0 {
		if err := p.cards(q, &b, s, now); err != nil {
			return err
		}
	}
	if len(b.Rows) > rowsShown && !q.URL.Query().Has("all") {
		b.Rows, b.More = b.Rows[:rowsShown], true
	}
	v.Position = statement.Position
	v.Live = at == 0 && statement.Status == projections.StatusDraft
	q.offer(at)
	return p.show(q, http.StatusOK, "month", q.l.month(v.Month), b)
}

// span is the tenant's month.
func (p *Page) span(tenant string, month domain.Month) span {
	from, to := p.Desk.Months.MonthBounds(tenant, month)
	return span{from, to}
}

// rows are the month's buckets, what needs attention first.
func (q *request) rows(s *projections.Statement, month span, now domain.Instant) []poolRow {
	invoices := map[[2]string][]*projections.Invoice{}
	for i := range s.Invoices {
		one := &s.Invoices[i]
		key := [2]string{one.Country, one.Plan}
		invoices[key] = append(invoices[key], one)
	}
	elapsed := month.x(now)
	var pools [][]poolRow
	for i := range s.Pools {
		pool := &s.Pools[i]
		var rows []poolRow
		href := "/" + s.Tenant + "/" + s.Month + "/pool?" + string(poolQuery(pool.Country, pool.Plan, pool.User))
		for j, b := range pool.Buckets {
			r := poolRow{
				Country: pool.Country, Plan: pool.Plan, User: pool.User, Licences: pool.Licences, EndedAt: pool.ExhaustedAt,
				Href:    href,
				Granted: b.Granted, Drawn: b.Used, Overage: b.Overage, Used: share(b.Used, b.Granted), State: stateGood, index: j,
			}
			if len(pool.Buckets) > 1 {
				r.Bucket = b.Name
			}
			if elapsed > 0 && elapsed < 1000 {
				r.Pace = permille(elapsed)
			}
			if j == 0 && pool.User == "" {
				r.Invoices = invoices[[2]string{pool.Country, pool.Plan}]
			}
			switch {
			case r.Overage > 0 || r.Granted > 0 && r.Drawn >= r.Granted:
				r.State = stateBad
			case r.Granted > 0 && r.Used >= 80, r.Granted > 0 && elapsed > 100 && elapsed < 1000 && r.Used*10 > elapsed+100:
				r.State = stateWarn
			}
			rows = append(rows, r)
		}
		if len(pool.Buckets) == 0 {
			rows = append(rows, poolRow{Country: pool.Country, Plan: pool.Plan, User: pool.User, Licences: pool.Licences, State: stateGood, Href: href})
		}
		pools = append(pools, rows)
	}
	return byAttention(pools)
}

// byAttention sorts pools by the bucket of each that is worst; the buckets of a
// pool stay together. Of those that have not ended, the one that will first is worst.
func byAttention(pools [][]poolRow) (rows []poolRow) {
	order := map[string]int{stateBad: 0, stateWarn: 1, stateGood: 2}
	worse := func(a, b poolRow) int {
		if a.State != stateBad && a.State == b.State {
			switch {
			case a.Foreseen != nil && b.Foreseen != nil:
				return a.Foreseen.Compare(b.Foreseen.Bucket)
			case a.Foreseen != nil:
				return -1
			case b.Foreseen != nil:
				return 1
			}
		}
		return cmp.Or(cmp.Compare(order[a.State], order[b.State]), cmp.Compare(b.Overage, a.Overage), cmp.Compare(b.Used, a.Used))
	}
	for _, buckets := range pools {
		slices.SortStableFunc(buckets, worse)
	}
	slices.SortStableFunc(pools, func(a, b []poolRow) int { return worse(a[0], b[0]) })
	return slices.Concat(pools...)
}

// says is a pool in a sentence.
func (q *request) says(r *poolRow) string {
	l := q.l
	switch {
	case r.EndedAt != nil && r.Overage > 0:
		return l.t("Ended on %s; %s min over it.", l.said(q.view.Zone, r.EndedAt), l.minutes(r.Overage))
	case r.EndedAt != nil:
		return l.t("Ended on %s.", l.said(q.view.Zone, r.EndedAt))
	}
	return l.t("%s of %s min left.", l.minutes(r.Granted-r.Drawn), l.minutes(r.Granted))
}

// cards draws the pools that need attention, as the months have them now.
func (p *Page) cards(q *request, b *monthView, s span, now domain.Instant) error {
	for i := range b.Rows[:min(len(b.Rows), cardsShown)] {
		if b.Foreseen != nil && b.Rows[i].State != stateGood {
			b.Rows[i].drawFrom(b.Foreseen)
		}
	}
	_, err := p.Desk.Months.View(q.view.Tenant, q.month, func(v *projections.View) error {
		for i := range b.Rows {
			r := &b.Rows[i]
			if r.State == stateGood || len(b.Cards) == cardsShown {
				return nil
			}
			curve, ok := v.Ledger.PoolCurve(q.view.Tenant, q.month, r.key())
			if !ok || r.index >= len(curve.Buckets) {
				continue // it has become another meanwhile
			}
			b.Cards = append(b.Cards, card{*r, q.says(r), q.foretells(r), q.burnDown(r, s, now, courseOf(curve.Slots, r, s, now), true)})
		}
		return nil
	})
	return err
}

// courseOf is what was left of a bucket at the end of each slot, until now.
func courseOf(slots []domain.CurveSlot, r *poolRow, s span, now domain.Instant) []balance {
	left := r.Granted
	course := []balance{{s.From, left}}
	after := r.left(slots)
	for i := range slots {
		if last := course[len(course)-1]; last.At < slots[i].From {
			course = append(course, balance{slots[i].From, left})
		}
		left = after[i]
		course = append(course, balance{slots[i].To, left})
	}
	if last := course[len(course)-1]; last.At < min(now, s.To) {
		course = append(course, balance{min(now, s.To), left})
	}
	return course
}
