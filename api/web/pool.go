package web

import (
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"tollbook/api"
	"tollbook/api/finance"
	"tollbook/domain"
	"tollbook/projections"
)

// licencesShown is how many licences a page of a pool lists.
const licencesShown = 50

type poolView struct {
	Pool                projections.Pool
	Rows                []poolRow
	Says                string
	Grant               projections.GrantDocument
	Charts              []bucketChart
	View                projections.PoolView
	Users, Destinations []drawn
	Over                []projections.MonthCall // a page of the calls with overage
	OverAt              uint64                  // the position of another page than the first
	FirstOver, NextOver string
	Held                chart
	FirstPage, NextPage string
}

// A bucketChart is the burn-down of a bucket, as a picture and day by day.
type bucketChart struct {
	Bucket string
	Chart  chart
	Days   []dayLeft
}

// A dayLeft is what was left of a bucket at the end of a day.
type dayLeft struct {
	Day          domain.Instant
	Billed, Left int64
}

// left is what is left of the row's bucket after each slot: what was granted less
// what was drawn, or, where calls were over it, what they were over it. Of linked
// buckets one may have something left when all of them end.
func (r *poolRow) left(slots []domain.CurveSlot) []int64 {
	used, over := int64(0), int64(0)
	all := make([]int64, len(slots))
	for i := range slots {
		used += slots[i].Billed[r.index] - slots[i].Over[r.index]
		over += slots[i].Over[r.index]
		if all[i] = r.Granted - used; over > 0 {
			all[i] = -over
		}
	}
	return all
}

// days are a course by the tenant's days.
func days(slots []domain.CurveSlot, r *poolRow, zone *time.Location) (all []dayLeft) {
	left := r.left(slots)
	for i := range slots {
		year, month, day := slots[i].From.Time().In(zone).Date()
		at := domain.InstantOf(time.Date(year, month, day, 0, 0, 0, 0, zone))
		if n := len(all); n == 0 || all[n-1].Day != at {
			all = append(all, dayLeft{Day: at})
		}
		last := &all[len(all)-1]
		last.Billed += slots[i].Billed[r.index]
		last.Left = left[i]
	}
	return all
}

func (p *Page) pool(q *request) error {
	v, values := q.view, q.URL.Query()
	country, plan, user := values.Get("country"), values.Get("plan"), values.Get("user")
	ask := api.PoolViewRequest{Tenant: v.Tenant, Month: v.Month, Country: country, Plan: plan, User: user}
	view, err := p.Desk.Pool(q.Context(), ask)
	if err != nil {
		return notThere(err)
	}
	b := poolView{Pool: view.Pool, View: view, Users: usersOf(&view), Destinations: destinationsOf(&view), Over: view.Overflow}
	statement := projections.Statement{
		InvoiceDocument: projections.InvoiceDocument{Tenant: view.Tenant, Month: view.Month, Status: view.Status, Position: view.Position},
		Pools:           []projections.Pool{view.Pool},
	}
	s := p.span(v.Tenant, q.month)
	now := p.Desk.Clock()
	b.Rows = q.rows(&statement, s, now)
	if _, err := p.foresee(q, &statement, b.Rows, true); err != nil {
		return err
	}
	b.Says = strings.TrimSpace(q.says(&b.Rows[0]) + " " + q.foretells(&b.Rows[0]))
	slots := courseSlots(&view)
	for i := range b.Rows {
		if r := &b.Rows[i]; len(slots) > 0 {
			b.Charts = append(b.Charts, bucketChart{r.Bucket, q.burnDown(r, s, now, courseOf(slots, r, s, now), false), days(slots, r, v.Zone)})
		}
	}
	if err := p.overflow(q, ask, &b); err != nil {
		return err
	}
	from := 0
	if text := values.Get("licences"); text != "" {
		if from, err = strconv.Atoi(text); err != nil || from < 0 {
			return &finance.Error{Status: http.StatusBadRequest, Detail: fmt.Sprintf("licences %.20q: must be a number", text)}
		}
	}
	b.Grant, err = p.Desk.Grant(q.Context(), api.ExplainPoolRequest{
		Tenant: v.Tenant, Month: v.Month, Plan: plan, Country: country, User: user, From: from, Limit: licencesShown,
	})
	if err != nil {
		return err
	}
	b.Held = heldChart(q.l, v.Zone, s, view.Held)
	if from > 0 {
		values.Del("licences")
		b.FirstPage = "?" + values.Encode() + "#licences"
	}
	if b.Grant.Next > 0 {
		values.Set("licences", strconv.Itoa(b.Grant.Next))
		b.NextPage = "?" + values.Encode() + "#licences"
	}
	v.Position = statement.Position
	return p.show(q, http.StatusOK, "pool", country+" "+plan, b)
}

// notThere makes what can't be asked for a page that is not there.
func notThere(err error) error {
	if e, ok := errors.AsType[*finance.Error](err); ok && e.Status == http.StatusBadRequest {
		return &finance.Error{Status: http.StatusNotFound, Detail: e.Detail}
	}
	return err
}

// courseSlots are the slots of a pool as its course is drawn from.
func courseSlots(v *projections.PoolView) []domain.CurveSlot {
	slots := make([]domain.CurveSlot, len(v.Slots))
	for i, s := range v.Slots {
		slots[i] = domain.CurveSlot{CourseSlot: domain.CourseSlot{From: domain.InstantOf(instant(s.From)), To: domain.InstantOf(instant(s.To)), Billed: s.Billed}, Over: s.Overage}
	}
	return slots
}

// overflow shows the page of the calls with overage that the address names.
func (p *Page) overflow(q *request, pool api.PoolViewRequest, b *poolView) error {
	values := q.URL.Query()
	next := b.View.Next
	if after := afterOf(values); after != nil {
		page, err := p.Desk.Overflow(q.Context(), api.OverflowRequest{
			Tenant: pool.Tenant, Month: pool.Month, Country: pool.Country, Plan: pool.Plan, User: pool.User, After: after, Limit: overShown,
		})
		if err != nil {
			return err
		}
		b.Over, b.OverAt, next = page.Calls, page.Position, page.Next
	}
	b.FirstOver, b.NextOver = pages(values, next, "#over")
	return nil
}
