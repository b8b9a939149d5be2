package web

import (
	"errors"
	"fmt"
	"net/http"
	"strings"

	"tollbook/api/finance"
	"tollbook/domain"
	"tollbook/projections"
	"tollbook/projections/forecast"
)

// A foreseen is what is expected of a bucket.
type foreseen struct {
	*forecast.Bucket
	course []forecast.Point // from now on; none: it is not drawn
}

// foresee adds to the rows of a month that is open what is expected of them. all:
// their courses too. A month that is closed, in the meantime too, has no forecast.
func (p *Page) foresee(q *request, s *projections.Statement, rows []poolRow, all bool) (*forecast.Forecast, error) {
	if s.Status != projections.StatusDraft {
		return nil, nil
	}
	f, err := p.Desk.Foresee(q.Context(), s.Tenant, s.Month)
	if refused, ok := errors.AsType[*finance.Error](err); ok && refused.Status == http.StatusConflict {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	pools := make(map[domain.PoolKey]*forecast.Pool, len(f.Pools))
	for i := range f.Pools {
		one := &f.Pools[i]
		pools[domain.PoolKey{Country: one.Country, Plan: one.Plan, User: one.User}] = one
	}
	for i := range rows {
		r := &rows[i]
		pool := pools[r.key()]
		if pool == nil || r.index >= len(pool.Buckets) {
			continue // it has come or gone since the statement was made
		}
		r.Foreseen = &foreseen{Bucket: &pool.Buckets[r.index]}
		if r.State != stateBad {
			r.State = stateGood
			if r.Foreseen.Ends != nil || r.Granted > 0 && r.Used >= 80 {
				r.State = stateWarn
			}
		}
		if all {
			r.drawFrom(f)
		}
	}
	return f, nil
}

func (r *poolRow) key() domain.PoolKey {
	return domain.PoolKey{Country: r.Country, Plan: r.Plan, User: r.User}
}

// drawFrom takes the course of the row's bucket.
func (r *poolRow) drawFrom(f *forecast.Forecast) {
	if courses := f.Course(r.key()); r.Foreseen != nil && r.index < len(courses) {
		r.Foreseen.course = courses[r.index]
	}
}

// regrouped are rows as byAttention takes them, by pool.
func regrouped(rows []poolRow) (pools [][]poolRow) {
	for i := range rows {
		if n := len(pools); n > 0 && pools[n-1][0].key() == rows[i].key() {
			pools[n-1] = append(pools[n-1], rows[i])
			continue
		}
		pools = append(pools, rows[i:i+1:i+1])
	}
	return pools
}

// foretells is what is expected of a bucket, in a sentence or two; "" of one of
// which everything is known.
func (q *request) foretells(r *poolRow) string {
	if r.Foreseen == nil || r.Foreseen.ExpectedLow == r.Foreseen.ExpectedHigh {
		return ""
	}
	l, zone, b := q.l, q.view.Zone, r.Foreseen
	var said []string
	switch {
	case b.Ended, b.Granted == 0:
	case b.Ends != nil && b.EndsHigh != nil:
		said = append(said, l.t("Expected to end on %s, between %s and %s.", l.said(zone, b.Ends), l.day(zone, b.EndsLow), l.day(zone, b.EndsHigh)))
	case b.Ends != nil:
		said = append(said, l.t("Expected to end on %s, not before %s; it may last.", l.said(zone, b.Ends), l.day(zone, b.EndsLow)))
	case b.EndsLow != nil:
		said = append(said, l.t("Expected to last; it may end from %s on.", l.day(zone, b.EndsLow)))
	default:
		said = append(said, l.t("Expected to last, with %s %% used.", l.num(share(b.Expected, b.Granted))))
	}
	if b.OverageHigh > 0 {
		said = append(said, l.t("By the end of the month %s min over it, between %s and %s.", l.minutes(b.OverageExpected), l.minutes(b.OverageLow), l.minutes(b.OverageHigh)))
	}
	return strings.Join(said, " ")
}

// drawForeseen adds to a chart what will be left of a bucket, and between what and
// what it may be. y is where in the field a number of seconds left is.
func (c *chart) drawForeseen(r *poolRow, s span, y func(left int64) int64) {
	if r.Foreseen == nil || len(r.Foreseen.course) < 2 {
		return
	}
	course, granted := r.Foreseen.course, r.foot()
	// What may be beyond the foot of the chart ends there.
	at := func(p *forecast.Point, billed int64) string {
		return fmt.Sprintf("%d %d", s.x(p.At), min(max(y(granted-billed), 0), 1000))
	}
	var line, band strings.Builder
	for i := range course {
		fmt.Fprintf(&line, "%s%s", []string{"M", "L"}[min(i, 1)], at(&course[i], course[i].Expected))
		fmt.Fprintf(&band, "%s%s", []string{"M", "L"}[min(i, 1)], at(&course[i], course[i].Low))
	}
	for i := len(course) - 1; i >= 0; i-- {
		fmt.Fprintf(&band, "L%s", at(&course[i], course[i].High))
	}
	c.Paths = append(c.Paths, stroke{"band", band.String() + "Z"}, stroke{"expected", line.String()})
}

// foot is what the course of a bucket is taken from, so that it goes on from what is
// left now: what is granted, unless another bucket of a linked pool has ended it.
func (r *poolRow) foot() int64 {
	left := r.Granted - r.Drawn
	if r.Overage > 0 {
		left = -r.Overage
	}
	return left + r.Foreseen.course[0].Expected
}

// lowest is the least that will be left of a bucket by its expected course, with
// room for a band that is not too wide.
func (r *poolRow) lowest() int64 {
	if r.Foreseen == nil || len(r.Foreseen.course) == 0 {
		return 0
	}
	last := &r.Foreseen.course[len(r.Foreseen.course)-1]
	return r.foot() - min(last.High, last.Expected+last.Expected/4)
}
