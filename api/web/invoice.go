package web

import (
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/go-json-experiment/json"

	"tollbook/api"
	"tollbook/api/finance"
	"tollbook/projections"
)

// linesShown is how many calls a page of a line has.
const linesShown = 100

// position reads a position of an address; 0: none is given.
func position(values url.Values, name string) (uint64, error) {
	text := values.Get(name)
	if text == "" {
		return 0, nil
	}
	n, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		return 0, &finance.Error{Status: http.StatusBadRequest, Detail: fmt.Sprintf("%s %.40q: must be a position of the book, such as 18231", name, text)}
	}
	return n, nil
}

func (p *Page) invoice(q *request) error {
	v := q.view
	at, err := position(q.URL.Query(), "at")
	if err != nil {
		return err
	}
	statement, err := p.Desk.Month(q.Context(), v.Tenant, v.Month, at)
	if err != nil {
		return err
	}
	body := struct {
		Statement projections.Statement
		Since     *grown
		Changes   *projections.DiffDocument
	}{Statement: statement}
	from, err := position(q.URL.Query(), "from")
	if err != nil {
		return err
	}
	to, err := position(q.URL.Query(), "to")
	if err != nil {
		return err
	}
	if from != 0 {
		changes, err := p.Desk.Changes(q.Context(), v.Tenant, v.Month, from, to)
		if err != nil {
			return err
		}
		body.Changes = &changes
	}
	if at == 0 {
		body.Since = q.sinceLast(statement.Position, p.Desk.Clock().Time())
		if from != 0 {
			body.Since = nil
		}
	}
	v.Position, v.At = statement.Position, at
	q.offer(at)
	title := "Draft invoices of %s"
	if statement.Status == projections.StatusIssued {
		title = "Invoices of %s"
	}
	return p.show(q, http.StatusOK, "invoice", q.l.t(title, q.l.month(v.Month)), body)
}

// grown says by how much the book has grown since somebody last looked.
type grown struct {
	Events uint64
	Href   string
}

// lookCookie keeps what somebody has seen of an invoice: the position that is
// compared with, the last one, and when that was.
const lookCookie = "look"

// visit is how long somebody may be away and still be looking: the position they
// compare with stays.
const visit = 4 * time.Hour

// sinceLast says what came since the last look, and keeps this one.
func (q *request) sinceLast(seen uint64, now time.Time) *grown {
	base, last := seen, seen
	if c, err := q.Cookie(lookCookie); err == nil {
		var at int64
		var b, l uint64
		if n, err := fmt.Sscanf(c.Value, "%d.%d.%d", &b, &l, &at); err == nil && n == 3 && b <= l && l <= seen {
			if base = l; now.Sub(time.Unix(at, 0)) < visit {
				base = b
			}
		}
	}
	q.keep(lookCookie, fmt.Sprintf("%d.%d.%d", base, last, now.Unix()), q.URL.Path, 400*24*time.Hour)
	if base == seen {
		return nil
	}
	return &grown{seen - base, fmt.Sprintf("?from=%d&to=%d#changes", base, seen)}
}

func (p *Page) line(q *request) error {
	v, values := q.view, q.URL.Query()
	at, err := position(values, "at")
	if err != nil {
		return err
	}
	v.At = at
	ask := api.ExplainLineRequest{Tenant: v.Tenant, Month: v.Month, LineQuery: asked(values), After: afterOf(values), Limit: linesShown, AsOf: api.AsOf{At: at}}
	doc, err := p.Desk.Line(q.Context(), ask)
	if err != nil {
		return err
	}
	body := struct {
		Document    projections.LineDocument
		First, Next string
	}{Document: doc}
	body.First, body.Next = pages(values, doc.Next, "")
	v.Position = doc.Position
	return p.show(q, http.StatusOK, "line", strings.TrimSpace(doc.Line.DestinationCountry+" "+doc.Line.Destination), body)
}

func (p *Page) call(q *request) error {
	v, values := q.view, q.URL.Query()
	at, err := position(values, "at")
	if err != nil {
		return err
	}
	v.At = at
	ask := api.ExplainRequest{Tenant: v.Tenant, Source: values.Get("source"), ID: values.Get("id"), AsOf: api.AsOf{At: at}}
	doc, err := p.Desk.Call(q.Context(), ask)
	if err != nil {
		return err
	}
	if values.Has("proof") {
		if doc.Proof == nil {
			return &finance.Error{Status: http.StatusNotFound, Detail: "this book signs nothing, so there is no proof: start the engine with its key"}
		}
		q.w.Header().Set("Content-Type", "application/json")
		q.w.Header().Set("Content-Disposition", fmt.Sprintf(`attachment; filename="proof-%d.json"`, doc.Position))
		return json.MarshalWrite(q.w, doc.Proof)
	}
	if doc.Call != nil && doc.Call.Month != v.Month {
		// The address names another month than the call's own.
		http.Redirect(q.w, q.Request, "/"+v.Tenant+"/"+doc.Call.Month+"/call?"+values.Encode(), http.StatusSeeOther)
		return nil
	}
	values.Set("proof", "1")
	body := struct {
		api.ExplainDocument
		ProofHref   string
		ChangedHref string // what its record changed
	}{ExplainDocument: doc, ProofHref: "?" + values.Encode()}
	if doc.Position > 1 {
		body.ChangedHref = fmt.Sprintf("/%s/%s/invoice?from=%d&to=%d#changes", v.Tenant, v.Month, doc.Position-1, doc.Position)
	}
	return p.show(q, http.StatusOK, "call", ask.ID, body)
}

// closing is the checklist of a month.
type closing struct {
	Document api.CloseDocument
	Ready    bool
	Checks   []check
}

type check struct {
	Name, Href string
	Blockers   []projections.Blocker
}

func (p *Page) checklist(q *request) error {
	doc, err := p.Desk.Checklist(q.Context(), q.view.Tenant, q.view.Month)
	if err != nil {
		return err
	}
	return p.showChecklist(q, http.StatusOK, doc)
}

func (p *Page) showChecklist(q *request, status int, doc api.CloseDocument) error {
	base := "/" + q.view.Tenant
	body := closing{Document: doc, Ready: len(doc.Blockers) == 0, Checks: []check{
		{Name: "It is the next month to close"}, {Name: "The month is over"},
		{Name: "Every call could be charged", Href: base + "/exceptions"}, {Name: "No number is missing", Href: base + "/gaps"},
		{Name: "Nothing is in suspense", Href: base + "/suspense"},
	}}
	of := map[string]int{
		projections.BlockedByOrder: 0, projections.BlockedByTime: 1, projections.BlockedByException: 2, projections.BlockedByGap: 3, projections.BlockedBySuspense: 4,
	}
	for _, b := range doc.Blockers {
		i := of[b.What]
		body.Checks[i].Blockers = append(body.Checks[i].Blockers, b)
	}
	if status != http.StatusOK {
		q.view.Said, q.view.Failed = q.l.t("The month is not closed: see the checklist."), true
	}
	return p.show(q, status, "close", q.l.t("Close %s", q.l.month(q.view.Month)), body)
}

func (p *Page) close(q *request) error {
	v := q.view
	doc, err := p.Desk.Close(q.Context(), v.Person, api.CloseRequest{Tenant: v.Tenant, Month: v.Month})
	if err != nil {
		return err
	}
	if !doc.Closed {
		return p.showChecklist(q, http.StatusConflict, doc)
	}
	return q.seeOther("/"+v.Tenant+"/"+v.Month+"/invoice", q.l.t("%s is closed, by document %s.", q.l.month(v.Month), doc.Number))
}
