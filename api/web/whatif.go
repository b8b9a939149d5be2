package web

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"tollbook/api/finance"
	"tollbook/projections/whatif"
)

// maxLicences is how many licences one form adds or takes away.
const maxLicences = 10_000

type whatIfView struct {
	Plans, Countries []string // of the month's pools
	Form             url.Values
	Is               *whatif.Document
	Size             *whatif.SizingDocument
}

// Get is a field of the form.
func (v whatIfView) Get(name string) string { return v.Form.Get(name) }

// scenario is what a form asks; nothing of it: false.
func (q *request) scenario(form url.Values) (s whatif.Scenario, asked bool, err error) {
	s = whatif.Scenario{Tenant: q.view.Tenant, Month: q.view.Month}
	text := func(name string) string { return strings.TrimSpace(form.Get(name)) }
	count := func(name string) int {
		if text(name) == "" || err != nil {
			return 0
		}
		n, bad := strconv.Atoi(text(name))
		if bad != nil || n < 0 || n > maxLicences {
			err = &finance.Error{Status: http.StatusBadRequest, Detail: fmt.Sprintf("%s %.20q: must be a number from 0 to %d", name, text(name), maxLicences)}
		}
		return n
	}
	if n := count("add"); n > 0 {
		s.Add = append(s.Add, whatif.Addition{Plan: text("add_plan"), Country: text("add_country"), Licences: n})
	}
	if n := count("remove"); n > 0 {
		s.Remove = append(s.Remove, whatif.Removal{Plan: text("remove_plan"), Country: text("remove_country"), Licences: n})
	}
	if text("from") != "" && text("to") != "" {
		s.Plans = append(s.Plans, whatif.PlanChange{From: text("from"), To: text("to"), Users: strings.Fields(form.Get("users"))})
	}
	if text("grant") != "" && text("grant_plan") != "" {
		s.Grants = append(s.Grants, whatif.GrantChange{Plan: text("grant_plan"), Grant: text("grant")})
	}
	return s, len(s.Add)+len(s.Remove)+len(s.Plans)+len(s.Grants) > 0, err
}

// whatIf asks what the month would have been, or which licences would have been the
// cheapest. Forms are asked with GET: a question can be sent to somebody.
func (p *Page) whatIf(q *request) error {
	v, form := q.view, q.URL.Query()
	statement, err := p.Desk.Month(q.Context(), v.Tenant, v.Month, 0)
	if err != nil {
		return err
	}
	b := whatIfView{Form: form}
	for _, pool := range statement.Pools {
		b.Plans = append(b.Plans, pool.Plan)
		b.Countries = append(b.Countries, pool.Country)
	}
	slices.Sort(b.Plans)
	slices.Sort(b.Countries)
	b.Plans, b.Countries = slices.Compact(b.Plans), slices.Compact(b.Countries)
	scenario, asked, err := q.scenario(form)
	if by := form.Get("by"); err == nil && by != "" {
		var size whatif.SizingDocument
		size, err = p.Desk.RightSize(q.Context(), whatif.Sizing{Tenant: v.Tenant, Months: []string{v.Month}, By: by})
		b.Size = &size
	} else if err == nil && asked {
		var is whatif.Document
		is, err = p.Desk.WhatIf(q.Context(), scenario)
		b.Is = &is
	}
	var e *finance.Error
	if errors.As(err, &e) && e.Status < 500 {
		v.Said, v.Failed, q.failed, b.Is, b.Size, err = e.Detail, true, e.Status, nil, nil, nil
	}
	if err != nil {
		return err
	}
	return p.show(q, http.StatusOK, "whatif", q.l.t("What if"), b)
}
