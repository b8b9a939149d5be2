package api

import (
	"context"

	"tollbook/domain"
	"tollbook/projections"
)

// A PoolViewRequest asks how a pool of a month is used.
type PoolViewRequest struct {
	Tenant string `json:"tenant"`
	Month  string `json:"month"`
	AsOf
	Plan    string `json:"plan"`
	Country string `json:"country,omitzero"` // it and User may be left out where the plan has one pool
	User    string `json:"user,omitzero"`
	Top     int    `json:"top,omitzero"` // users and destinations; at most projections.MaxTop
}

// An OverflowRequest asks for a page of the calls of a pool that have overage.
type OverflowRequest struct {
	Tenant string `json:"tenant"`
	Month  string `json:"month"`
	AsOf
	Plan    string             `json:"plan"`
	Country string             `json:"country,omitzero"` // it and User may be left out where the plan has one pool
	User    string             `json:"user,omitzero"`
	After   *projections.After `json:"after,omitzero"` // the Next of the page before
	Limit   int                `json:"limit,omitzero"` // calls of a page; at most projections.MaxPage
}

// PoolView is a pool of a month, with who uses it. It waits for calls to be counted
// for as long as patient has it; nil: until they are.
func (x *Explainer) PoolView(ctx context.Context, q PoolViewRequest, patient func() bool) (projections.PoolView, error) {
	month, err := monthOf(q.Tenant, q.Month)
	if err != nil {
		return projections.PoolView{}, err
	}
	var r projections.PoolReading
	for ready := false; !ready; {
		err := x.ask(ctx, q.Tenant, month, q.AsOf, func(v *projections.View) (err error) {
			r, ready, err = v.PoolView(q.Tenant, month, projections.PoolQuery{Country: q.Country, Plan: q.Plan, User: q.User}, q.Top, patient == nil || patient())
			return asWrong(err)
		})
		if err == nil {
			err = ctx.Err()
		}
		if err != nil {
			return projections.PoolView{}, err
		}
	}
	return r.Document(), nil
}

// Overflow is a page of the calls of a pool that have overage.
func (x *Explainer) Overflow(ctx context.Context, q OverflowRequest) (projections.OverflowPage, error) {
	month, err := monthOf(q.Tenant, q.Month)
	if err != nil {
		return projections.OverflowPage{}, err
	}
	var page projections.CallPage
	var pool domain.PoolKey
	err = x.ask(ctx, q.Tenant, month, q.AsOf, func(v *projections.View) (err error) {
		page, pool, err = v.Overflow(q.Tenant, month, projections.PoolQuery{Country: q.Country, Plan: q.Plan, User: q.User}, q.After, pageOf(q.Limit))
		return asWrong(err)
	})
	if err != nil {
		return projections.OverflowPage{}, err
	}
	return page.Overflow(pool), nil
}
