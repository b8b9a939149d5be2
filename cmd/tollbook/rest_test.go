package main

import (
	"context"
	"encoding/base64"
	"fmt"
	"math/big"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"testing"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"tollbook/api"
	"tollbook/api/finance"
	"tollbook/domain"
	"tollbook/projections"
)

// TestRESTDocument: the OpenAPI document, which programs are made from, changes
// only when somebody means it to: it is testdata/openapi.json.
func TestRESTDocument(t *testing.T) {
	r := newHTTPRig(t)
	got := askHTTP(t, http.DefaultClient, r.HTTPAddress+"/api/openapi.json", "", "")
	if got.status != http.StatusOK {
		t.Fatalf("%d %s", got.status, got.text)
	}
	text := jsontext.Value(got.text)
	if err := text.Canonicalize(); err != nil {
		t.Fatal(err)
	}
	if err := text.Indent(jsontext.WithIndent(" ")); err != nil {
		t.Fatal(err)
	}
	golden(t, "openapi.json", string(text)+"\n")

	reference := askHTTP(t, http.DefaultClient, r.HTTPAddress+"/docs", "", "")
	var doc struct {
		Paths map[string]map[string]struct {
			OperationID string `json:"operationId"`
		}
	}
	if err := json.Unmarshal([]byte(got.text), &doc); err != nil {
		t.Fatal(err)
	}
	for path, methods := range doc.Paths {
		for _, op := range methods {
			if !strings.Contains(reference.text, `<article id="`+op.OperationID+`">`) {
				t.Errorf("/docs has nothing of %s %s", path, op.OperationID)
			}
		}
	}
	if outside := regexp.MustCompile(`(?:src|href)="(?:https?:)?//[^"]*`).FindString(reference.text); outside != "" {
		t.Errorf("/docs needs %s", outside)
	}
}

// TestREST: what the HTTP API answers is what the commands print; pages add up.
func TestREST(t *testing.T) {
	r := newHTTPRig(t)
	r.book(licensed("contoso")...)
	const calls = 25
	for i := range calls {
		r.book(someCall("contoso", fmt.Sprintf("c-%02d", i), "user000@contoso.example", 1000))
	}
	base := r.HTTPAddress + "/api/v1/tenants/contoso"
	ask := func(path, post string, want int) heard {
		t.Helper()
		got := askHTTP(t, http.DefaultClient, base+path, "", post)
		if got.status != want {
			t.Fatalf("%s: %d, want %d: %.400s", path, got.status, want, got.text)
		}
		return got
	}

	statement := ask("/months/2026-10", "", http.StatusOK)
	doc := decoded[projections.Statement](t, statement.text)
	for _, what := range []string{"pools", "invoice"} {
		cli := decoded[projections.Statement](t, r.ask(what, "--tenant", "contoso", "--month", "2026-10", "--format", "json"))
		if what == "invoice" && (len(cli.Invoices) != len(doc.Invoices) || cli.Invoices[0].Total != doc.Invoices[0].Total) {
			t.Errorf("invoice: %+v, of the API %+v", cli.Invoices, doc.Invoices)
		}
	}
	if months := decoded[struct {
		Months []finance.MonthInfo `json:"months"`
	}](t, ask("/months", "", http.StatusOK).text); len(months.Months) != 1 || months.Months[0].Totals[0].Total != doc.Invoices[0].Total {
		t.Errorf("%+v", months)
	}

	// A page after the other, of calls and of a line, while more calls come.
	line := doc.Invoices[0].Lines[0]
	q := url.Values{"plan": {doc.Invoices[0].Plan}, "destination": {line.Destination}, "limit": {"3"}}
	seconds, exact := int64(0), new(big.Rat)
	for path, n := "/months/2026-10/line?"+q.Encode(), 0; path != ""; n++ {
		got := ask(path, "", http.StatusOK)
		page := decoded[projections.LineDocument](t, got.text)
		for _, c := range page.Calls {
			share, ok := new(big.Rat).SetString(c.Exact)
			if !ok {
				t.Fatalf("share %q", c.Exact)
			}
			seconds, exact = seconds+c.Overage, exact.Add(exact, share)
		}
		path = nextOf(t, got, "/api/v1/tenants/contoso")
		r.book(someCall("contoso", fmt.Sprintf("meanwhile-%d", n), "user000@contoso.example", 60))
	}
	if rounded := exact.FloatString(2); seconds != line.Seconds || rounded != line.Amount {
		t.Errorf("the calls of the line have %d s and %s, the line %d and %s", seconds, rounded, line.Seconds, line.Amount)
	}
	listed, overage, added := 0, int64(0), false
	for path := "/months/2026-10/calls?limit=4"; path != ""; {
		got := ask(path, "", http.StatusOK)
		page := decoded[projections.CallsDocument](t, got.text)
		for _, c := range page.Calls {
			listed, overage = listed+1, overage+c.Overage
		}
		path = nextOf(t, got, "/api/v1/tenants/contoso")
		if !added {
			statement, added = ask("/months/2026-10", "", http.StatusOK), true
			r.book(someCall("contoso", "later", "user000@contoso.example", 60))
		}
	}
	doc = decoded[projections.Statement](t, statement.text)
	if listed != int(doc.Counts.Calls) || overage != doc.Invoices[0].Lines[0].Seconds {
		t.Errorf("%d calls with %d s of overage listed, of %d with %d", listed, overage, doc.Counts.Calls, doc.Invoices[0].Lines[0].Seconds)
	}

	// What the asker has is not sent again.
	tag := `"other", ` + ask("/months/2026-10", "", http.StatusOK).header.Get("ETag")
	again := func() int {
		request, err := http.NewRequestWithContext(context.Background(), http.MethodGet, base+"/months/2026-10", nil)
		if err != nil {
			t.Fatal(err)
		}
		request.Header.Set("If-None-Match", tag)
		response, err := http.DefaultTransport.RoundTrip(request)
		if err != nil {
			t.Fatal(err)
		}
		_ = response.Body.Close()
		return response.StatusCode
	}
	if status := again(); status != http.StatusNotModified {
		t.Errorf("nothing has come, and the answer is %d", status)
	}
	r.book(someCall("contoso", "news", "user000@contoso.example", 60))
	if status := again(); status != http.StatusOK {
		t.Errorf("a call has come, and the answer is %d", status)
	}

	call := decoded[api.ExplainDocument](t, ask("/call?source=switch%2Fmil-1&id=c-03", "", http.StatusOK).text)
	if call.Call == nil || call.Proof == nil {
		t.Errorf("%+v", call)
	} else if _, err := call.Proof.Check(nil); err != nil {
		t.Error(err)
	}

	r.request("tollbook.contoso.call.completed", []byte(`{"no":"record"}`))
	suspended := decoded[api.SuspenseDocument](t, ask("/suspense", "", http.StatusOK).text)
	if len(suspended.Records) != 1 {
		t.Fatalf("%+v", suspended)
	}
	record := suspended.Records[0].Position
	edited := ndjson([]domain.Event{someCall("contoso", "edited", "user000@contoso.example", 60)})
	body := fmt.Sprintf(`{"positions":[%d],"edited":"%s","why":"a test"}`, record, base64.StdEncoding.EncodeToString(edited))
	if done := decoded[api.ResolveDocument](t, ask("/suspense/recycle", body, http.StatusOK).text); done.Counts["booked"] != 1 {
		t.Errorf("%+v", done)
	}

	// What is wrong is said in one line.
	for _, c := range []struct {
		path, post string
		status     int
		detail     string
	}{
		{"/months/2026-1", "", 400, "2026-1"},
		{"/months/2026-10?at=99999999", "", 400, "99999999"},
		{"/months/2026-10/changes?from=0", "", 400, "from 0"},
		{"/gaps/waivers", `{"source":"switch/mil-1","from":"two","to":"3","why":"x"}`, 422, "body.from"},
		{"/months/2026-10?at=x", "", 422, "query.at"},
		{"/months/2026-10?and=more", "", 422, "query.and"},
		{"/months/2026-10/calls?cursor=x", "", 400, "cursor"},
		{"/months/2026-10/calls?limit=10001", "", 422, "query.limit"},
		{"/months/2026-10/line?plan=NONE", "", 400, "no line of 2026-10"},
		{"/call?source=a&id=b", "", 404, "is booked"},
		{"/suspense/1", "", 404, "position 1"},
		{"/suspense/recycle", `{"positions":[1]}`, 404, "position 1"},
		{"/suspense/recycle", `{"position":[1]}`, 422, "body.position"},
		{"/suspense/recycle", `{`, 400, ""},
		{"/gaps/waivers", `{"source":"switch/mil-1","from":"2","to":"1","why":"x"}`, 400, ""},
		{"/months/2026-10/waivers", `{"exception":"none","why":"x"}`, 422, "body.exception"},
		{"/months/2026-09/check", "", 404, "2026-09"},
		{"/decks/none", "", 404, "none"},
		{"/deck-stages/0/activate", `{}`, 404, "no deck is staged"},
		{"/nothing", "", 404, "no operation"},
		{"/months/2026-10/export?format=doc", "", 400, "doc"},
		{"/right-size", `{"months":["2026-10"],"by":"magic"}`, 422, "body.by"},
	} {
		got := ask(c.path, c.post, c.status)
		problem := decoded[struct {
			Status int    `json:"status"`
			Detail string `json:"detail"`
		}](t, got.text)
		if problem.Status != c.status || problem.Detail == "" || strings.Contains(problem.Detail, "\n") || !strings.Contains(problem.Detail, c.detail) ||
			got.header.Get("Content-Type") != "application/problem+json" {
			t.Errorf("%s: %s %+v", c.path, got.header.Get("Content-Type"), problem)
		}
	}
}

var nextLink = regexp.MustCompile(`^<(.*)>; rel="next"$`)

// nextOf is the path of the next page, behind a prefix; "": there is none.
func nextOf(t *testing.T, got heard, prefix string) string {
	t.Helper()
	link := got.header.Get("Link")
	if link == "" {
		return ""
	}
	m := nextLink.FindStringSubmatch(link)
	if m == nil || !strings.HasPrefix(m[1], prefix) {
		t.Fatalf("link %q", link)
	}
	return strings.TrimPrefix(m[1], prefix)
}
