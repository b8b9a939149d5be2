package web

import (
	"bytes"
	"cmp"
	"encoding/base64"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"time"

	"tollbook/api/finance"
	"tollbook/domain"
	"tollbook/projections"
)

// A request is one on its way to being answered.
type request struct {
	w http.ResponseWriter
	*http.Request
	l      *locale
	number int // of the language
	month  domain.Month
	failed int // the status of what did not work, where the page is shown again
	view   *view
	person finance.Person
}

// A view is a page and what the layout shows around it.
type view struct {
	Title     string
	Tenant    string
	Month     string // that is shown, or would be
	Tenants   []finance.TenantInfo
	Months    []monthState // the newest first
	Tabs      []tab
	Tongues   []tongue
	Beside    string // of this page, behind the month
	Zone      *time.Location
	ZoneName  string
	Position  uint64
	At        uint64 // as of which the page was asked for, and so are those it leads to; 0: now
	Person    string
	SignedIn  bool   // and may sign out
	Act       bool   // the person may change what is shown
	Said      string // what came of what was just done
	Failed    bool
	Search    string
	Live      bool
	Downloads []download
	Here      *url.URL
	Body      any
}

// A monthState is a month that a tenant has.
type monthState struct{ Month, Status, Number string }

type tab struct {
	Name, Href string
	Count      int
	Now        bool
}

type tongue struct {
	Tag, Name, Short, Href string
	Now                    bool
}

// tongueNames are the languages in themselves.
var tongueNames = []string{"English", "Italiano"}

func (p *Page) answer(w http.ResponseWriter, r *http.Request, handle func(*request) error) {
	q := &request{w: w, Request: r, view: &view{Here: r.URL, Zone: time.UTC}}
	var chosen bool
	q.number, chosen = languageOf(r)
	q.l = locales[q.number]
	for i, l := range locales {
		values := r.URL.Query()
		values.Set("lang", l.tag.String())
		q.view.Tongues = append(q.view.Tongues, tongue{
			l.tag.String(), tongueNames[i], strings.ToUpper(l.tag.String()), r.URL.Path + "?" + values.Encode(), i == q.number,
		})
	}
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Add("Vary", "Accept-Language, Cookie")
	if chosen {
		q.keep(languageCookie, q.l.tag.String(), "/", 400*24*time.Hour)
	}
	limit := int64(maxForm)
	if strings.HasPrefix(r.Header.Get("Content-Type"), "multipart/") {
		limit = finance.MaxDeckBytes + maxForm
	}
	r.Body = http.MaxBytesReader(w, r.Body, limit)
	err := p.enter(q)
	if err == nil {
		err = handle(q)
	}
	if err != nil {
		p.fail(q, err)
	}
}

// keep leaves a cookie.
func (q *request) keep(name, value, path string, during time.Duration) {
	http.SetCookie(q.w, &http.Cookie{
		Name: name, Value: value, Path: path, MaxAge: int(during / time.Second), HttpOnly: true, SameSite: http.SameSiteLaxMode, Secure: q.TLS != nil,
	})
}

var monthName = regexp.MustCompile(`^[0-9]{4}-[0-9]{2}$`)

// enter finds out who asks, and what of: the tenant, and the month.
func (p *Page) enter(q *request) error {
	if q.URL.Path == signInPath {
		return nil // this is where they say so
	}
	person, err := p.Who(q.Request)
	if err != nil {
		return err
	}
	v := q.view
	v.SignedIn = p.Guard != nil
	q.person, v.Person = person, person.Name
	v.Tenant = q.PathValue("tenant")
	v.Search = q.URL.Query().Get("q")
	for _, t := range p.Desk.Tenants() {
		if read, _ := person.May(t.Tenant); read && t.Tenant != domain.CatalogTenant {
			v.Tenants = append(v.Tenants, t)
		}
	}
	if v.Tenant == "" {
		return nil
	}
	tenant := v.Tenant
	v.Tenant = ""                                                               // what is not there, or not theirs, is not shown around
	act := q.Method == http.MethodPost && q.URL.Path != "/"+tenant+"/documents" // a replay changes nothing
	if err := person.Admit(tenant, act); err != nil {
		return err
	}
	_, v.Act = person.May(tenant)
	known := slices.IndexFunc(v.Tenants, func(t finance.TenantInfo) bool { return t.Tenant == tenant })
	nobodys := tenant == domain.NoTenant && q.URL.Path == "/"+tenant+"/suspense"
	if known < 0 && !nobodys {
		return &finance.Error{Status: http.StatusNotFound, Detail: fmt.Sprintf("no tenant %.63q has anything in the book: see the list on the first page", tenant)}
	}
	name := q.PathValue("month")
	if name != "" {
		if q.month, err = domain.ParseMonth(name); err != nil || !monthName.MatchString(name) {
			return &finance.Error{Status: http.StatusNotFound, Detail: fmt.Sprintf("no page %.80q: months are written as 2026-10", q.URL.Path)}
		}
	}
	if p.Read != nil {
		what := "page" // forms too: what came of them is shown
		if strings.HasSuffix(q.URL.Path, "/export") {
			what = "export"
		}
		p.Read(q.Request, person, tenant, what)
	}
	v.Tenant, v.Month = tenant, name
	if c, err := q.Cookie(saidCookie); err == nil && q.Method == http.MethodGet {
		if text, err := base64.RawURLEncoding.DecodeString(c.Value); err == nil {
			v.Said = string(text)
		}
		q.keep(saidCookie, "", "/"+tenant, -time.Second)
	}
	if nobodys { // whose records these are can't be read
		v.ZoneName = v.Zone.String()
		return nil
	}
	v.Months = p.monthsOf(v.Tenants[known])
	if name == "" && len(v.Months) > 0 {
		v.Month = v.Months[0].Month
		q.month, _ = domain.ParseMonth(v.Month)
	}
	if _, err := p.Desk.Months.View(tenant, 0, func(view *projections.View) error {
		v.Zone, v.Position = view.Ledger.Zone(tenant, q.month), view.Head.Events
		return nil
	}); err != nil {
		return err
	}
	v.ZoneName = v.Zone.String()
	p.tabs(q)
	return nil
}

// monthsOf are a tenant's months, without what they come to: every page names them.
func (p *Page) monthsOf(t finance.TenantInfo) (months []monthState) {
	issued := map[string]bool{}
	for _, i := range p.Desk.Months.Issues(t.Tenant) {
		issued[i.Replayed.Month] = true
		months = append(months, monthState{i.Replayed.Month, projections.StatusIssued, i.Number})
	}
	for _, month := range t.Months {
		if !issued[month] {
			months = append(months, monthState{Month: month, Status: projections.StatusDraft})
		}
	}
	slices.SortFunc(months, func(a, b monthState) int { return cmp.Compare(b.Month, a.Month) })
	return months
}

func (p *Page) tabs(q *request) {
	v := q.view
	at := strings.TrimPrefix(q.URL.Path, "/"+v.Tenant)
	if name := q.PathValue("month"); name != "" {
		at = strings.TrimPrefix(at, "/"+name)
		v.Beside = at
		if at != "/invoice" && at != "/close" && at != "/what-if" {
			v.Beside = ""
		}
	} else if at == "" {
		at = "/"
	}
	base := "/" + v.Tenant
	add := func(name, href string, count int, paths ...string) {
		v.Tabs = append(v.Tabs, tab{name, href, count, slices.Contains(paths, at)})
	}
	if v.Month != "" {
		add("Month", base+"/"+v.Month, 0, "", "/pool")
		add("Invoice", base+"/"+v.Month+"/invoice", 0, "/invoice", "/line", "/close")
		add("What if", base+"/"+v.Month+"/what-if", 0, "/what-if")
	}
	add("Suspense", base+"/suspense", p.Desk.Suspense.Suspense.Before(v.Tenant, domain.MaxInstant), "/suspense")
	_, gaps := p.Desk.Gaps.Open(v.Tenant, 0, domain.MaxInstant, 1)
	add("Gaps", base+"/gaps", gaps, "/gaps")
	add("Exceptions", base+"/exceptions", 0, "/exceptions")
	add("Decks", base+"/decks", 0, "/decks")
	add("Documents", base+"/documents", 0, "/documents")
}

// show writes a page.
func (p *Page) show(q *request, status int, page, title string, body any) error {
	q.view.Title, q.view.Body = title, body
	var out bytes.Buffer
	if err := p.templates[q.number][page].ExecuteTemplate(&out, "layout", q.view); err != nil {
		return err
	}
	q.w.Header().Set("Content-Type", "text/html; charset=utf-8")
	q.w.Header().Set("Content-Language", q.l.tag.String())
	if q.failed != 0 {
		status = q.failed
	}
	q.w.WriteHeader(status)
	// An error here is the reader's connection.
	_, _ = out.WriteTo(q.w)
	return nil
}

// saidCookie carries what came of a form to the page that is shown next.
const saidCookie = "said"

// seeOther sends on to a page, where it is said what came of the form.
func (q *request) seeOther(to, said string) error {
	q.keep(saidCookie, base64.RawURLEncoding.EncodeToString([]byte(said)), "/"+q.view.Tenant, time.Minute)
	http.Redirect(q.w, q.Request, to, http.StatusSeeOther)
	return nil
}

// fail shows an error.
func (p *Page) fail(q *request, err error) {
	status, detail := finance.StatusOf(err)
	if status == http.StatusUnauthorized && p.Guard != nil {
		p.sendToSignIn(q)
		return
	}
	if status >= 500 {
		p.Log.Warn("page", "path", domain.MaskNumbers(q.URL.Path), "error", domain.MaskNumbers(err.Error()))
	}
	back := "/"
	if q.view.Tenant != "" {
		back += q.view.Tenant
		if q.Method == http.MethodPost {
			back = q.URL.RequestURI()
		}
	}
	q.view.Live = false
	title := "This did not work"
	if status == http.StatusNotFound {
		title = "There is no such page"
	}
	if err := p.show(q, status, "failure", q.l.t(title), struct{ Detail, Back string }{detail, back}); err != nil {
		http.Error(q.w, detail, status)
	}
}

func (p *Page) nowhere(q *request) error {
	if q.Method != http.MethodGet && q.Method != http.MethodHead {
		return &finance.Error{Status: http.StatusMethodNotAllowed, Detail: fmt.Sprintf("%s is not taken here", q.Method)}
	}
	return &finance.Error{Status: http.StatusNotFound, Detail: fmt.Sprintf("no page %.200q", q.URL.Path)}
}
