package web

import (
	"bufio"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strconv"
	"strings"
	"testing"
	"time"

	"tollbook/api/finance"
	"tollbook/domain"
)

// patience is how long a test waits for what is certain to come; only a failing
// test waits that long.
const patience = 30 * time.Second

// closable is a tenant whose September is over, with one gap, one exception and
// one record in suspense.
func closable(r *rig) (record uint64) {
	n := tenant{name: "contoso", plan: "BASIC_10", destination: "Italy", users: 2, calls: 120, user: func(i int) string { return "user" + strconv.Itoa(i) + "@contoso.example" }}
	r.booked(n.events()...)
	r.now = at("2026-09-20T10:00:00Z")
	r.suspended("contoso", mistyped)
	r.now = at("2026-10-23T10:00:00Z")
	return r.book.Head().Events
}

const mistyped = `{"specversion":"1.0","id":"mistyped","source":"switch/mil-2","type":"tollbook.call.completed.v1","time":"2026-09-05T09:01:00Z","tenant":"contoso",
"data":{"user":"user0@contoso.example","direction":"outbound","calling":"+390281234567","called":"0612345678","answered_at":"2026-09-05T09:00:00Z","billable_ms":60000,"disposition":"answered"}}`

func (r *rig) post(path string, pairs ...string) shown {
	r.t.Helper()
	form := url.Values{}
	for i := 0; i < len(pairs); i += 2 {
		form.Set(pairs[i], pairs[i+1])
	}
	return r.ask(http.MethodPost, path, form)
}

// want checks a status and, of a refusal, its words.
func (s *shown) want(t *testing.T, status int, words string) {
	t.Helper()
	if s.status != status || words != "" && !strings.Contains(s.text, words) {
		t.Fatalf("%s: %d %s, want %d with %q", s.path, s.status, failure(s), status, words)
	}
}

// TestMonthEnd is what somebody does at the end of a month, with the page alone.
func TestMonthEnd(t *testing.T) {
	r := newRig(t)
	record := closable(r)
	closing := "/contoso/2026-09/close"
	for _, what := range []string{"gap", "unlicensed", "in suspense"} {
		page := r.get(closing)
		page.want(t, http.StatusOK, what)
	}
	refused := r.post(closing)
	refused.want(t, http.StatusConflict, "The month is not closed")

	gap := []string{"source", `switch/<script>"&`, "from", "101", "to", "103", "why"}
	noWhy := r.post("/contoso/gaps", append(gap, " ")...)
	noWhy.want(t, http.StatusBadRequest, "auditors will ask")
	given := r.post("/contoso/gaps", append(gap, "the switch was down")...)
	given.want(t, http.StatusSeeOther, "")
	twice := r.post("/contoso/gaps", append(gap, "the switch was down")...)
	twice.want(t, http.StatusBadRequest, "")

	accepted := r.post("/contoso/exceptions", "month", "2026-09", "exception", "unlicensed", "why", "visitors")
	accepted.want(t, http.StatusSeeOther, "")

	show := "/contoso/suspense?position=" + strconv.FormatUint(record, 10)
	page := r.get(show)
	page.want(t, http.StatusOK, "0612345678")
	written := r.post(show, "do", "write-off", "why", "")
	written.want(t, http.StatusBadRequest, "")
	stays := r.post(show, "do", "recycle")
	stays.want(t, http.StatusConflict, "stays in suspense")
	edit := strings.ReplaceAll(strings.ReplaceAll(mistyped, "0612345678", "+390612345678"), "\n", "\r\n") // as a form sends it
	tried := r.post(show, "do", "try", "edited", edit)
	tried.want(t, http.StatusOK, "If it were recycled now:")
	page = r.get(show)
	page.want(t, http.StatusOK, "in suspense")
	recycled := r.post(show, "do", "recycle", "edited", edit, "why", "a digit was lost")
	recycled.want(t, http.StatusSeeOther, "")
	page = r.get(show)
	page.want(t, http.StatusOK, "a digit was lost")
	if doc, err := r.desk.Record(t.Context(), "contoso", record); err != nil || doc.Resolution != "recycled" || doc.By != "page" || strings.Contains(string(doc.Edited), "\r") {
		t.Errorf("%v, %+v", err, doc)
	}

	ready := r.get(closing)
	ready.want(t, http.StatusOK, "What is issued")
	closed := r.post(closing)
	closed.want(t, http.StatusSeeOther, "")
	invoice := r.ask(http.MethodGet, closed.header.Get("Location"), nil, func(q *http.Request) {
		for _, c := range (&http.Response{Header: closed.header}).Cookies() {
			q.AddCookie(c)
		}
	})
	invoice.want(t, http.StatusOK, "September 2026 is closed, by document ")
	replayed := r.post("/contoso/documents", "month", "2026-09")
	replayed.want(t, http.StatusOK, "was made again from the book: the same bytes.")
	again := r.post(closing)
	again.want(t, http.StatusConflict, "is closed, by document")
}

// TestStrangers: a form on another site, or a person who may not, changes nothing.
func TestStrangers(t *testing.T) {
	r := newRig(t)
	record := closable(r)
	head := r.book.Head().Events
	posts := map[string][]string{
		"/contoso/2026-09/close": nil,
		"/contoso/gaps":          {"source", `switch/<script>"&`, "from", "101", "to", "103", "why", "evil"},
		"/contoso/exceptions":    {"month", "2026-09", "exception", "unlicensed", "why", "evil"},
		"/contoso/suspense?position=" + strconv.FormatUint(record, 10): {"do", "write-off", "why", "evil"},
		"/contoso/suspense": {"do", "write-off", "why", "evil", "reason", "syntax"},
	}
	for path, pairs := range posts {
		form := url.Values{}
		for i := 0; i < len(pairs); i += 2 {
			form.Set(pairs[i], pairs[i+1])
		}
		for _, change := range []func(*http.Request){
			func(q *http.Request) { q.Header.Set("Sec-Fetch-Site", "cross-site") },
			func(q *http.Request) { q.Header.Set("Sec-Fetch-Site", "same-site") },
			func(q *http.Request) { q.Header.Set("Origin", "https://evil.example") },
		} {
			if got := r.ask(http.MethodPost, path, form, change); got.status != http.StatusForbidden {
				t.Errorf("%s from another site: %d", path, got.status)
			}
		}
	}
	r.Who = func(*http.Request) (finance.Person, error) {
		return finance.Person{Name: "rita", May: func(tenant string) (read, act bool) { return tenant == "contoso", false }}, nil
	}
	for path, pairs := range posts {
		if got := r.post(path, pairs...); got.status != http.StatusForbidden {
			t.Errorf("%s by a reader: %d", path, got.status)
		}
	}
	for _, path := range []string{"/contoso", "/contoso/gaps", "/contoso/suspense", "/contoso/2026-09/close"} {
		page := r.get(path)
		page.want(t, http.StatusOK, "")
		for n := range page.elements {
			if method, _ := attribute(n, "method"); method == "post" && path != "/contoso/documents" {
				t.Errorf("%s offers a reader to change something", path)
			}
		}
	}
	r.Who = func(*http.Request) (finance.Person, error) {
		return finance.Person{Name: "otto", May: func(tenant string) (read, act bool) { return tenant == "other", true }}, nil
	}
	for _, path := range []string{"/contoso", "/contoso/2026-09", "/contoso/2026-09/invoice", "/contoso/suspense", "/events?tenant=contoso", "/nobody"} {
		if got := r.get(path); got.status != http.StatusForbidden {
			t.Errorf("%s of another tenant: %d", path, got.status)
		}
	}
	if page := r.get("/"); strings.Contains(page.text, "contoso") {
		t.Error("another tenant is named")
	}
	if got := r.book.Head().Events; got != head {
		t.Errorf("the book has grown from %d to %d", head, got)
	}
}

// TestSinceTheLastLook: an invoice says by how much the book has grown since it was
// last looked at, for as long as somebody goes on looking, and then what changed.
func TestSinceTheLastLook(t *testing.T) {
	r := newRig(t)
	closable(r)
	var kept []*http.Cookie
	look := func(path string) shown {
		page := r.ask(http.MethodGet, path, nil, func(q *http.Request) {
			for _, c := range kept {
				q.AddCookie(c)
			}
		})
		page.want(t, http.StatusOK, "")
		if set := (&http.Response{Header: page.header}).Cookies(); len(set) > 0 {
			kept = set
		}
		return page
	}
	const invoice, says = "/contoso/2026-10/invoice", "since you last looked"
	if page := look(invoice); strings.Contains(page.text, says) {
		t.Error("the first look says what changed")
	}
	more := someCall("late", "2026-10-22T09:00:00Z", 900)
	r.now += domain.Instant(5 * time.Hour)
	r.booked(more)
	for range 2 { // also after a reload
		page := look(invoice)
		page.want(t, http.StatusOK, "grown by 1 event since")
		r.now += domain.Instant(time.Hour)
	}
	position := r.book.Head().Events
	changes := look(invoice + "?from=" + strconv.FormatUint(position-1, 10) + "&to=" + strconv.FormatUint(position, 10))
	changes.want(t, http.StatusOK, "1 call changed")
	r.now += domain.Instant(5 * time.Hour)
	if page := look(invoice); strings.Contains(page.text, says) {
		t.Error("what was seen is said again")
	}
}

func someCall(id, when string, seconds int64) domain.Event {
	answered := at(when)
	called, err := domain.ParseNumber("+390612345678")
	if err != nil {
		panic(err)
	}
	return domain.Event{Tenant: "contoso", Source: "switch/mil-3", ID: id, Time: answered, Data: &domain.Call{
		User: "user0@contoso.example", Kind: domain.KindUser, Called: called, AnsweredAt: answered, BillableMS: seconds * 1000,
	}}
}

// TestLive: who looks at a month is told of the book's position when it has grown,
// until the page ends.
func TestLive(t *testing.T) {
	r := newRig(t)
	closable(r)
	server := httptest.NewServer(r)
	defer server.Close()
	response, err := server.Client().Get(server.URL + "/events?tenant=contoso")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = response.Body.Close() }()
	if got := response.Header.Get("Content-Type"); got != "text/event-stream" {
		t.Fatalf("is %s", got)
	}
	told := make(chan uint64)
	go func() {
		defer close(told)
		for lines := bufio.NewScanner(response.Body); lines.Scan(); {
			if text, has := strings.CutPrefix(lines.Text(), "data: "); has {
				position, err := strconv.ParseUint(text, 10, 64)
				if err != nil {
					t.Errorf("%q: %v", text, err)
				}
				told <- position
			}
		}
	}()
	r.booked(someCall("a", "2026-10-22T09:00:00Z", 60))
	want := r.book.Head().Events
	for timeout := time.After(patience); ; {
		select {
		case got := <-told:
			if got < want {
				continue
			}
		case <-timeout:
			t.Fatalf("position %d was not told", want)
		}
		break
	}
	r.Page.Close()
	for timeout := time.After(patience); ; {
		select {
		case _, more := <-told:
			if more {
				continue
			}
		case <-timeout:
			t.Fatal("the stream did not end with the page")
		}
		break
	}
}
