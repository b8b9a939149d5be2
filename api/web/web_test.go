package web

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"math/big"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/net/html"

	"tollbook/api"
	"tollbook/api/finance"
	"tollbook/consumers"
	"tollbook/domain"
	"tollbook/eventstore"
	"tollbook/eventstore/memlog"
	"tollbook/projections"
)

// A rig is a page on a book in memory.
type rig struct {
	t    *testing.T
	book *eventstore.Book
	desk *finance.Desk
	now  domain.Instant
	*Page
}

func newRig(t *testing.T) *rig {
	t.Helper()
	r := &rig{t: t, now: at("2026-10-23T10:00:00Z")}
	clock := func() domain.Instant { return r.now }
	switches, months, gaps := consumers.NewSwitches(), projections.NewMonths(), projections.NewGaps()
	suspense := projections.NewSuspense(switches.Glimpse)
	dir := t.TempDir()
	var err error
	r.book, err = eventstore.Open(t.Context(), dir, func(string) (eventstore.Log, error) { return memlog.New(t), nil },
		eventstore.Options{Clock: clock, Follow: []eventstore.Follower{switches.Follow, months.Follow, suspense.Follow, gaps.Follow}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = r.book.Close() })
	r.desk = &finance.Desk{
		Book: r.book, Months: months, Gaps: gaps, Clock: clock, Dir: dir,
		Closer:   &api.Closer{Book: r.book, Months: months, Clock: clock, Others: []api.Blockers{api.GapBlockers(gaps), api.SuspenseBlockers(suspense)}},
		Suspense: &api.Desk{Suspense: suspense, Months: months, Events: r.book.Events}, Explainer: api.ExplainBook(r.book, months),
		Intake: consumers.NewIntake(r.book, switches, clock),
	}
	desk := &finance.DeckDesk{Book: r.book, Months: months, Intake: r.desk.Intake, Clock: clock, Stages: finance.StagesOf(dir, nil)}
	r.Page = New(Config{Desk: r.desk, Decks: desk, Log: slog.New(slog.DiscardHandler)})
	t.Cleanup(r.Close)
	return r
}

func at(text string) domain.Instant {
	t, err := time.Parse(time.RFC3339Nano, text)
	if err != nil {
		panic(err)
	}
	return domain.InstantOf(t)
}

// booked books events and fails unless each is new.
func (r *rig) booked(events ...domain.Event) {
	r.t.Helper()
	records := make([]eventstore.Record, len(events))
	for i := range events {
		records[i] = eventstore.Record{Event: events[i], Subject: "tollbook." + events[i].Tenant + ".events"}
	}
	results, err := r.book.Submit(r.t.Context(), records)
	if err != nil {
		r.t.Fatal(err)
	}
	for i, one := range results {
		if one.Status != eventstore.Booked {
			r.t.Fatalf("%s %s: %s, %s", events[i].Source, events[i].ID, one.Status, one.Detail)
		}
	}
}

// suspended has a record taken in that can't be booked.
func (r *rig) suspended(tenant, payload string) {
	r.t.Helper()
	results, err := r.desk.Intake.Receive(r.t.Context(), consumers.Message{
		Subject: "tollbook." + tenant + ".call.completed", Payload: []byte(payload), Header: func(string) string { return "" },
	})
	if err != nil || len(results) != 1 || results[0].Status != eventstore.Suspended {
		r.t.Fatalf("%v, %+v", err, results)
	}
}

// odd is text that a page must not take for its own.
const odd = `<script>alert(1)</script>"'&<b>`

// A tenant books plan, deck, licences and calls of one.
type tenant struct {
	name, plan, destination string
	user                    func(int) string
	users, calls, rows      int
	scope                   domain.Scope
}

func (n tenant) events() []domain.Event {
	said := at("2026-08-20T10:00:00Z")
	var events []domain.Event
	add := func(source, id string, when domain.Instant, data domain.Data) {
		events = append(events, domain.Event{Tenant: n.name, Source: source, ID: id, Time: when, Data: data})
	}
	deck := &domain.Deck{Deck: "standard", Version: "1 & 2", EffectiveFrom: at("2026-01-01T00:00:00Z"), Currency: "EUR", Part: 1, Parts: 1}
	deck.Rows = append(deck.Rows, domain.Row{Prefix: "39", Country: "IT", Name: n.destination, RowType: "landline", Price: 16_100, ConnectFee: 1_000, Increment: domain.DefaultIncrement})
	for i := range n.rows {
		deck.Rows = append(deck.Rows, domain.Row{
			Prefix: fmt.Sprintf("39%03d", 100+i), Country: "IT", Name: fmt.Sprintf("%s %d", n.destination, i), RowType: "mobile", Price: domain.Micros(20_000 + i*333), Increment: domain.DefaultIncrement,
		})
	}
	add("admin", "plan", said, &domain.Plan{
		Plan: n.plan, Name: n.plan, EffectiveFrom: 20260101, Kinds: []string{domain.KindUser}, Scope: n.scope,
		Buckets: []domain.Bucket{{Name: "domestic", Minutes: map[string]int64{domain.AnyCountry: 10}}}, Increment: domain.DefaultIncrement, Deck: "standard",
	})
	add("admin", "deck", said, deck)
	for i := range n.users {
		add("admin", fmt.Sprintf("licence-%d", i), said, &domain.Assignment{User: n.user(i), Plan: n.plan, Country: "IT", EffectiveAt: at("2026-09-01T00:00:00Z")})
	}
	for i := range n.calls {
		answered := at("2026-09-02T08:00:00Z") + domain.Instant(i)*domain.Instant(49*24*time.Hour/time.Duration(n.calls))
		called, err := domain.ParseNumber(fmt.Sprintf("+39%03d0%06d", 100+i%max(n.rows, 1), i))
		if err != nil {
			panic(err)
		}
		add("switch/<script>\"&", fmt.Sprintf("call-%d&\"more", i), answered, &domain.Call{User: n.user(i % (n.users + 1)), Kind: domain.KindUser, Called: called, AnsweredAt: answered, BillableMS: int64(61_000 + i*37)})
		events[len(events)-1].Sequence = domain.Sequence{N: uint64(i/100*103 + i%100 + 1), Has: true} // of 103 three never come
	}
	return events
}

var (
	oddTenant = tenant{name: "odd", plan: `PLAN "&` + odd, destination: odd, users: 3, calls: 150, rows: 3,
		user: func(i int) string { return fmt.Sprintf("%s%d", odd, i) }}
	largeTenant = tenant{name: "large", plan: "BASIC_10", destination: "Italy", users: 300, calls: 3000, rows: 250, scope: domain.ScopeUser,
		user: func(i int) string { return fmt.Sprintf("user%03d@large.example", i) }}
)

// newFullRig has tenants of whom there is much to show, and strange things, and one
// of whom there is nothing.
func newFullRig(t *testing.T) *rig {
	t.Helper()
	r := newRig(t)
	r.booked(domain.Event{Tenant: "empty", Source: "admin", ID: "config", Time: at("2026-08-20T10:00:00Z"), Data: &domain.TenantConfig{
		TimeZone: "UTC", Zone: time.UTC, Currency: "EUR", EffectiveFrom: 20260901,
	}})
	r.booked(oddTenant.events()...)
	r.booked(largeTenant.events()...)
	r.suspended("odd", "no JSON "+odd)
	r.suspended("odd", "\xff\x00 no text")
	return r
}

// A shown is a page as it came.
type shown struct {
	path   string
	status int
	header http.Header
	text   string
	root   *html.Node
}

func (r *rig) ask(method, path string, form url.Values, change ...func(*http.Request)) shown {
	r.t.Helper()
	request := httptest.NewRequest(method, path, strings.NewReader(form.Encode()))
	if method == http.MethodPost {
		request.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	for _, c := range change {
		c(request)
	}
	answer := httptest.NewRecorder()
	r.ServeHTTP(answer, request)
	body, err := io.ReadAll(answer.Result().Body)
	if err != nil {
		r.t.Fatal(err)
	}
	s := shown{path: path, status: answer.Code, header: answer.Result().Header, text: string(body)}
	if strings.HasPrefix(s.header.Get("Content-Type"), "text/html") {
		if s.root, err = html.Parse(bytes.NewReader(body)); err != nil {
			r.t.Fatal(err)
		}
	}
	return s
}

func (r *rig) get(path string) shown { return r.ask(http.MethodGet, path, nil) }

// elements are those of a page, in their order.
func (s *shown) elements(yield func(*html.Node) bool) {
	for n := range s.root.Descendants() {
		if n.Type == html.ElementNode && !yield(n) {
			return
		}
	}
}

func attribute(n *html.Node, name string) (string, bool) {
	for _, a := range n.Attr {
		if a.Key == name {
			return a.Val, true
		}
	}
	return "", false
}

// textOf is all text of an element.
func textOf(n *html.Node) string {
	var b strings.Builder
	for d := range n.Descendants() {
		if d.Type == html.TextNode {
			b.WriteString(d.Data)
		}
	}
	return strings.TrimSpace(b.String())
}

// faults are what is wrong with a page, whatever it shows.
func (s *shown) faults() (found []string) {
	fault := func(format string, args ...any) { found = append(found, fmt.Sprintf(format, args...)) }
	if i := strings.Index(s.text, untranslated); i >= 0 {
		fault("not in the catalogue: %.60s", s.text[i:])
	}
	if i := strings.Index(s.text, "%!"); i >= 0 {
		fault("a message has other arguments: %.60s", s.text[max(0, i-40):])
	}
	if strings.Contains(s.text, "<script>") {
		fault("has an inline script")
	}
	// Every element that is opened is closed, in their order.
	var open []string
	void := []string{"area", "base", "br", "col", "embed", "hr", "img", "input", "link", "meta", "source", "track", "wbr"}
	for z := html.NewTokenizer(strings.NewReader(s.text)); ; {
		kind := z.Next()
		if kind == html.ErrorToken {
			if !errors.Is(z.Err(), io.EOF) {
				fault("%v", z.Err())
			}
			break
		}
		name, _ := z.TagName()
		switch kind {
		case html.StartTagToken:
			if !slices.Contains(void, string(name)) {
				open = append(open, string(name))
			}
		case html.EndTagToken:
			if n := len(open); n == 0 || open[n-1] != string(name) {
				fault("</%s> closes none of %q", name, open)
				return found
			}
			open = open[:len(open)-1]
		}
	}
	if len(open) > 0 {
		fault("not closed: %q", open)
	}
	ids := map[string]bool{}
	for n := range s.elements {
		if id, has := attribute(n, "id"); has {
			if ids[id] {
				fault("two elements have the id %q", id)
			}
			ids[id] = true
		}
	}
	labels := map[string]bool{}
	for n := range s.elements {
		if n.Data == "label" {
			of, _ := attribute(n, "for")
			labels[of] = true
		}
	}
	mains := 0
	for n := range s.elements {
		for _, a := range n.Attr {
			switch {
			case strings.HasPrefix(a.Key, "on"), a.Key == "style":
				fault("<%s> has an inline %s", n.Data, a.Key)
			case (a.Key == "href" || a.Key == "src" || a.Key == "action") && (strings.Contains(a.Val, ":") && !strings.HasPrefix(a.Val, "/") && !strings.HasPrefix(a.Val, "?") || strings.HasPrefix(a.Val, "//") || strings.Contains(a.Val, "ZgotmplZ")):
				fault("<%s> leads elsewhere: %s", n.Data, a.Val)
			case a.Key == "for" || a.Key == "aria-labelledby" || a.Key == "aria-describedby":
				if !ids[a.Val] {
					fault("%s names %q, which is not there", a.Key, a.Val)
				}
			}
		}
		labelled := func() bool {
			id, _ := attribute(n, "id")
			_, has := attribute(n, "aria-label")
			return has || labels[id]
		}
		switch n.Data {
		case "style":
			fault("has an inline style")
		case "main":
			mains++
		case "th":
			if _, has := attribute(n, "scope"); !has {
				fault("a head without a scope: %s", textOf(n))
			}
		case "table":
			if n.FirstChild == nil || !slices.ContainsFunc(slices.Collect(n.ChildNodes()), func(c *html.Node) bool { return c.Data == "caption" }) {
				fault("a table without a caption")
			}
		case "input", "select", "textarea":
			if kind, _ := attribute(n, "type"); kind != "hidden" && !labelled() {
				fault("a field without a label: %v", n.Attr)
			}
		}
	}
	if mains != 1 {
		fault("has %d main parts", mains)
	}
	return found
}

// TestEveryPage walks through all pages that are linked to, in both languages:
// whatever the tenants have, a page is well-formed, in its language, and runs
// nothing that somebody put into a name.
func TestEveryPage(t *testing.T) {
	r := newFullRig(t)
	for _, l := range locales {
		t.Run(l.tag.String(), func(t *testing.T) {
			seen := map[string]int{} // by the form of an address: enough are enough
			todo, known := []string{"/"}, map[string]bool{}
			pages := 0
			for len(todo) > 0 {
				path := todo[0]
				todo = todo[1:]
				form := regexp.MustCompile(`=[^&]*`).ReplaceAllString(path, "=")
				if known[path] || seen[form] >= 12 || strings.Contains(path, "lang=") {
					continue
				}
				known[path] = true
				seen[form]++
				page := r.ask(http.MethodGet, path, nil, func(q *http.Request) { q.Header.Set("Accept-Language", l.tag.String()+";q=0.9, fr") })
				if page.status != http.StatusOK {
					t.Errorf("%s: %d %s", path, page.status, failure(&page))
					continue
				}
				if page.root == nil {
					continue
				}
				pages++
				for _, fault := range page.faults() {
					t.Errorf("%s: %s", path, fault)
				}
				if got := page.header.Get("Content-Language"); got != l.tag.String() {
					t.Errorf("%s is in %q", path, got)
				}
				base, err := url.Parse("http://page" + path)
				if err != nil {
					t.Fatal(err)
				}
				for n := range page.elements {
					href, has := attribute(n, "href")
					if !has || n.Data != "a" {
						continue
					}
					to, err := base.Parse(href)
					if err != nil {
						t.Errorf("%s: %q: %v", path, href, err)
						continue
					}
					todo = append(todo, to.RequestURI())
				}
			}
			if pages < 40 {
				t.Errorf("only %d pages were found: %v", pages, seen)
			}
		})
	}
}

// TestPolicy: a page may use what this server has, and nothing else.
func TestPolicy(t *testing.T) {
	r := newRig(t)
	page := r.get("/")
	want := "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; img-src 'self' data:; form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
	if got := page.header.Get("Content-Security-Policy"); got != want {
		t.Errorf("Content-Security-Policy: %s", got)
	}
	for n := range page.elements {
		for _, name := range []string{"href", "src"} {
			path, has := attribute(n, name)
			if !has || n.Data == "a" {
				continue
			}
			if a := r.get(path); a.status != http.StatusOK || !strings.Contains(a.header.Get("Cache-Control"), "immutable") || a.text == "" {
				t.Errorf("%s: %d %v", path, a.status, a.header)
			}
		}
	}
}

// TestAmounts: the page says what the document says, digit by digit.
func TestAmounts(t *testing.T) {
	r := newFullRig(t)
	for number, l := range locales {
		for _, tenant := range []string{"odd", "large"} {
			statement, err := r.desk.Month(t.Context(), tenant, "2026-09", 0)
			if err != nil {
				t.Fatal(err)
			}
			var want, got []string
			sum := new(big.Rat)
			for _, i := range statement.Invoices {
				want = append(want, i.Currency+"\u00a0"+i.Total)
				for _, line := range i.Lines {
					want = append(want, line.Amount)
					amount, _ := new(big.Rat).SetString(line.Amount)
					sum.Add(sum, amount)
				}
			}
			if sum.Sign() == 0 {
				t.Fatalf("%s owes nothing: the test shows nothing", tenant)
			}
			page := r.get("/" + tenant + "/2026-09/invoice?lang=" + languages[number].String())
			plain := strings.NewReplacer(l.group, "", l.decimal, ".", "\u2212", "-")
			for n := range page.elements {
				if class, _ := attribute(n, "class"); class == "total" || class == "n amount" {
					got = append(got, plain.Replace(textOf(n)))
				}
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("%s in %s (-document +page):\n%s", tenant, l.tag, diff)
			}
		}
	}
}

// TestPoolAddsUp: the course of a pool ends where its bucket does, and its users draw
// together what was drawn.
func TestPoolAddsUp(t *testing.T) {
	r := newFullRig(t)
	statement, err := r.desk.Month(t.Context(), "odd", "2026-09", 0)
	if err != nil {
		t.Fatal(err)
	}
	for i := range statement.Pools {
		pool := &statement.Pools[i]
		view, err := r.desk.Pool(t.Context(), finance.PoolQuery{Tenant: "odd", Month: "2026-09", Country: pool.Country, Plan: pool.Plan, User: pool.User})
		if err != nil {
			t.Fatal(err)
		}
		want := pool.Buckets[0].Used + pool.Buckets[0].Overage
		for _, list := range [][]drawn{usersOf(&view), destinationsOf(&view)} {
			sum, over := int64(0), int64(0)
			for _, one := range list {
				sum += one.Seconds
				over += one.Over
			}
			if sum != want || over != pool.Buckets[0].Overage || over == 0 {
				t.Errorf("%d s, %d over it, of %+v", sum, over, pool)
			}
		}
		page := r.get("/odd/2026-09/pool?" + string(poolQuery(pool.Country, pool.Plan, pool.User)))
		var last string
		for n := range page.elements {
			if class, _ := attribute(n, "class"); n.Data == "td" && class == "n bad" && n.Parent.FirstChild.Data == "th" && len(slices.Collect(n.Parent.ChildNodes())) == 3 {
				last = textOf(n)
			}
		}
		if left := locales[0].minutes(pool.Buckets[0].Granted - want); last != left {
			t.Errorf("%q is left in the end, want %q", last, left)
		}
	}
}

// TestLinkedPoolEnds: of a pool of linked buckets one ends all, and what the others
// have left is nobody's.
func TestLinkedPoolEnds(t *testing.T) {
	slot := func(domestic, over, international int64) domain.CurveSlot {
		return domain.CurveSlot{CourseSlot: domain.CourseSlot{Billed: []int64{domestic, international}}, Over: []int64{over, 0}}
	}
	slots := []domain.CurveSlot{slot(600, 0, 0), slot(400, 0, 600), slot(900, 900, 0), slot(600, 600, 0)}
	if diff := cmp.Diff([]int64{2400, 2000, -900, -1500}, (&poolRow{Granted: 3000}).left(slots)); diff != "" {
		t.Errorf("domestic: -want +got:\n%s", diff)
	}
	if diff := cmp.Diff([]int64{600, 0, 0, 0}, (&poolRow{Granted: 600, index: 1}).left(slots)); diff != "" {
		t.Errorf("international: -want +got:\n%s", diff)
	}
}

// TestSearch finds calls by user, by number however it is written, and by id.
func TestSearch(t *testing.T) {
	r := newFullRig(t)
	for text, want := range map[string][]string{
		"USER007@":       {"user007@large.example"},
		"+39 107-0 0000": {"+391070000007"},
		"call-7&\"more":  {"+391070000007"},
		"user7x":         {"Nothing was found"},
		"x":              {"at least two characters"},
		"@large":         {"20 of ", "Next page"},
	} {
		page := r.get("/large/search?month=2026-09&" + string(query("q", text)))
		page.want(t, http.StatusOK, "")
		for _, words := range want {
			if main := textOf(page.root); !strings.Contains(main, words) {
				t.Errorf("%q does not find %q", text, words)
			}
		}
	}
}

// TestNumbers: exact decimals keep every digit in every language.
func TestNumbers(t *testing.T) {
	en, it := locales[0], locales[1]
	for _, c := range []struct{ text, english, italian string }{
		{"0", "0", "0"},
		{"1234567.5", "1,234,567.5", "1.234.567,5"},
		{"-12.50", "\u221212.50", "\u221212,50"},
		{"0.0000001", "0.0000001", "0,0000001"},
		{"123456789012345678901234567890.12", "123,456,789,012,345,678,901,234,567,890.12", "123.456.789.012.345.678.901.234.567.890,12"},
		{"no number", "no number", "no number"},
		{"", "", ""},
		{".5", ".5", ".5"},
	} {
		if got := en.exact(c.text); got != c.english {
			t.Errorf("%q in English: %q", c.text, got)
		}
		if got := it.exact(c.text); got != c.italian {
			t.Errorf("%q in Italian: %q", c.text, got)
		}
	}
	for _, c := range []struct{ text, fraction, worth string }{
		{"63/50", "63/50", "= 1,26"},
		{"61/480", "61/480", "≈ 0,127083"},
		{"-19467/200", "\u221219.467/200", "= \u221297,335"},
		{"5", "5", ""},
	} {
		if got := it.fraction(c.text); got != c.fraction {
			t.Errorf("%q: %q", c.text, got)
		}
		if got := it.worth(c.text); got != c.worth {
			t.Errorf("%q is worth %q", c.text, got)
		}
	}
	for _, c := range []struct {
		seconds int64
		want    string
	}{{0, "0:00"}, {59, "0:59"}, {3_600_000, "60,000:00"}, {-61, "\u22121:01"}} {
		if got := en.minutes(c.seconds); got != c.want {
			t.Errorf("%d s: %q", c.seconds, got)
		}
	}
	if got := it.t("%d call|%d calls", 1) + ", " + it.t("%d call|%d calls", 1234); got != "1 chiamata, 1.234 chiamate" {
		t.Errorf("plurals: %s", got)
	}
}

// TestMessages: every message that a template or the program says is in the
// catalogue, in both languages with the same arguments, and nothing else is.
func TestMessages(t *testing.T) {
	sources := map[string]string{}
	read := func(dir fs.FS, pattern string) {
		names, err := fs.Glob(dir, pattern)
		if err != nil || len(names) == 0 {
			t.Fatalf("%s: %v", pattern, err)
		}
		for _, name := range names {
			text, err := fs.ReadFile(dir, name)
			if err != nil {
				t.Fatal(err)
			}
			sources[name] = string(text)
		}
	}
	read(files, "templates/*.html")
	read(os.DirFS("."), "*.go")
	said := regexp.MustCompile(`\bt(?: |\()"((?:[^"\\]|\\.)*)"`)
	quoted := ""
	for name, text := range sources {
		if strings.HasSuffix(name, "_test.go") || name == "messages.go" {
			continue
		}
		quoted += text
		for _, m := range said.FindAllStringSubmatch(text, -1) {
			if _, has := italian[m[1]]; !has {
				t.Errorf("%s says %q, which the catalogue lacks", name, m[1])
			}
		}
	}
	verbs := regexp.MustCompile(`%[sd]`)
	for english, italian := range italian {
		if english != englishMonths && !strings.Contains(quoted, `"`+english+`"`) {
			t.Errorf("%q is said nowhere", english)
		}
		if strings.TrimSpace(italian) == "" {
			t.Errorf("%q has no Italian", english)
		}
		texts := [2]string{english, italian}
		if strings.Count(texts[0], pluralMark) != strings.Count(texts[1], pluralMark) {
			t.Errorf("%q has other plurals in Italian: %q", texts[0], texts[1])
		}
		if a, b := verbs.FindAllString(texts[0], -1), verbs.FindAllString(texts[1], -1); !slices.Equal(a, b) {
			t.Errorf("%q has arguments %v, in Italian %v", texts[0], a, b)
		}
	}
	for _, codes := range []map[string]string{classes, reasons, exceptions, remedies, outcomes, words, deckStates, deckChanges, findings, grants} {
		for code, english := range codes {
			if _, has := italian[english]; !has {
				t.Errorf("%s means %q, which the catalogue lacks", code, english)
			}
		}
	}
}

// TestLanguage: what is asked for counts most and is kept, then what was, then what
// the browser prefers.
func TestLanguage(t *testing.T) {
	r := newRig(t)
	for _, c := range []struct{ query, cookie, accept, want string }{
		{"", "", "", "en"},
		{"", "", "it-CH, en;q=0.5", "it"},
		{"", "", "fr, de", "en"},
		{"", "it", "en", "it"},
		{"?lang=en", "it", "it", "en"},
		{"?lang=it", "", "en", "it"},
		{"?lang=xx", "", "it", "it"},
	} {
		page := r.ask(http.MethodGet, "/"+c.query, nil, func(q *http.Request) {
			q.Header.Set("Accept-Language", c.accept)
			if c.cookie != "" {
				q.AddCookie(&http.Cookie{Name: languageCookie, Value: c.cookie})
			}
		})
		kept := strings.Contains(page.header.Get("Set-Cookie"), languageCookie+"=")
		if got := page.header.Get("Content-Language"); got != c.want || kept != (c.query == "?lang="+c.want) {
			t.Errorf("%+v: in %s, kept %v", c, got, kept)
		}
	}
}

// failure is what a page says did not work.
func failure(s *shown) string {
	if s.root == nil {
		return s.text
	}
	for n := range s.elements {
		if role, _ := attribute(n, "role"); role == "alert" {
			return textOf(n)
		}
	}
	return ""
}
