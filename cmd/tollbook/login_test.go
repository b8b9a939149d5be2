package main

import (
	"bytes"
	"context"
	"encoding/base64"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"tollbook/api/login"
	"tollbook/consumers"
	"tollbook/domain"
	"tollbook/eventstore"
)

var shownToken = regexp.MustCompile(`tb_[A-Za-z0-9_-]{43}`)

// heard is what HTTP answers.
type heard struct {
	status int
	text   string
	header http.Header
}

// askHTTP asks with a token, or with "" for one without; post with "" is a GET.
func askHTTP(t *testing.T, client *http.Client, address, token, post string) heard {
	t.Helper()
	method, body := http.MethodGet, io.Reader(nil)
	if post != "" {
		method, body = http.MethodPost, strings.NewReader(post)
	}
	request, err := http.NewRequest(method, address, body)
	if err != nil {
		t.Fatal(err)
	}
	if token != "" {
		request.Header.Set("Authorization", "Bearer "+token)
	}
	if strings.HasPrefix(post, "{") {
		request.Header.Set("Content-Type", "application/json")
	} else if post != "" {
		request.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	response, err := client.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = response.Body.Close() }()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return heard{response.StatusCode, string(text), response.Header}
}

// startGuarded is an engine with an access file, a page, and two tenants.
func startGuarded(t *testing.T, dir, auth string, clock func() domain.Instant, log *slog.Logger) *Engine {
	t.Helper()
	access, err := consumers.ReadAccess(auth)
	if err != nil {
		t.Fatal(err)
	}
	engine, err := StartEngine(context.Background(), EngineConfig{
		Dir: dir, NATSListen: "127.0.0.1:0", NATSSync: time.Minute, HTTPListen: "127.0.0.1:0", Access: &access, Clock: clock, Log: log,
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, tenant := range []string{"contoso", "fabrikam"} {
		var records []eventstore.Record
		for _, e := range append(licensed(tenant), someCall(tenant, "a", "user000@"+tenant+".example", 60)) {
			records = append(records, eventstore.Record{Event: e, Subject: consumers.SubjectPrefix + tenant + ".events"})
		}
		if _, err := engine.intake.Book(context.Background(), records); err != nil {
			t.Fatal(err)
		}
	}
	return engine
}

// TestTokens: who has which token may see and do what, at the page, over the HTTP
// API and of the metrics; sessions end; what is read is in the access log.
func TestTokens(t *testing.T) {
	auth := filepath.Join(t.TempDir(), "access.json")
	token := func(args ...string) string {
		t.Helper()
		return shownToken.FindString(done(t, append([]string{"access"}, append(args, "--auth", auth)...)...))
	}
	tokens := map[string]string{
		"nobody":   "",
		"guess":    consumers.TokenPrefix + strings.Repeat("A", 43),
		"reader":   token("add-reader", "rita", "--token", "--tenants", "contoso"),
		"operator": token("add-operator", "otto", "--token", "--tenants", "contoso,fabrikam"),
		"auditor":  token("add-reader", "ada", "--token"),
		"past":     token("add-reader", "paul", "--token", "--expires", "2026-10-20"),
		"scraper":  token("add-metrics", "prometheus"),
	}
	for want, args := range map[string][]string{
		"tenants: each must be":       {"--token", "--tenants", ""}, // not all of them
		"--password and --out are of": {"--token", "--password"},
	} {
		refused(t, exitFailed, want, append([]string{"access", "add-reader", "nobody", "--auth", auth}, args...)...)
	}
	file, err := os.ReadFile(auth)
	if err != nil || strings.Contains(string(file), consumers.TokenPrefix) {
		t.Fatalf("%v: the file has a token: %s", err, file)
	}
	if list := done(t, "access", "list", "--auth", auth); !strings.Contains(list, "reader of contoso") || !strings.Contains(list, "until 2026-10-20T00:00:00Z") {
		t.Error(list)
	}
	now := new(setClock)
	now.set("2026-10-23T12:00:00Z")
	dir := t.TempDir()
	var log bytes.Buffer
	engine := startGuarded(t, dir, auth, now.now, slog.New(slog.NewTextHandler(&log, nil)))
	stay := &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	const month, waive = "/api/v1/tenants/contoso/months/2026-10", `{"exception":"unrated","why":"a test"}`
	for _, c := range []struct {
		who, path, post string
		want            int
	}{
		{"nobody", month, "", 401},
		{"guess", month, "", 401},
		{"past", month, "", 401},
		{"scraper", month, "", 403},
		{"reader", month, "", 200},
		{"auditor", month, "", 200},
		{"operator", month, "", 200},
		{"reader", "/api/v1/tenants/fabrikam/months/2026-10", "", 403},
		{"reader", month + "/export?format=csv", "", 200},
		{"reader", "/api/v1/tenants/fabrikam/months/2026-10/export?format=csv", "", 403},
		{"nobody", month + "/export?format=csv", "", 401},
		{"nobody", "/api/v1/events", "", 401},
		{"reader", month + "/waivers", waive, 403},
		{"auditor", month + "/waivers", waive, 403},
		{"operator", month + "/waivers", waive, 400}, // there are none to waive
		{"reader", month + "/what-if", `{}`, 200},    // which changes nothing
		{"nobody", month + "/what-if", `{}`, 401},
		{"nobody", "/contoso/2026-10", "", 303},
		{"reader", "/contoso/2026-10", "", 200},
		{"reader", "/fabrikam/2026-10", "", 403},
		{"reader", "/contoso/exceptions", "month=2026-10&exception=unrated&why=x", 403},
		{"reader", "/contoso/documents", "month=2026-10", 404}, // a replay changes nothing, and nothing was issued
		{"nobody", "/contoso/documents", "month=2026-10", 303},
		{"auditor", "/-/suspense", "", 200},
		{"reader", "/-/suspense", "", 403},
		{"reader", "/contoso/suspense?position=1", "", 404},
		{"operator", "/v1/events", `{}`, 401}, // which takes switches' passwords
		{"nobody", "/metrics", "", 401},
		{"scraper", "/metrics", "", 200},
		{"auditor", "/metrics", "", 200},
		{"reader", "/metrics", "", 403},
		{"nobody", "/docs", "", 200},
		{"nobody", "/healthz", "", 200},
	} {
		got := askHTTP(t, stay, engine.HTTPAddress+c.path, tokens[c.who], c.post)
		if got.status != c.want {
			t.Errorf("%s %s: %d, want %d: %.200s", c.who, c.path, got.status, c.want, got.text)
		}
		if got.status == http.StatusUnauthorized && got.header.Get("WWW-Authenticate") == "" {
			t.Errorf("%s %s: no WWW-Authenticate", c.who, c.path)
		}
	}
	tenants := askHTTP(t, stay, engine.HTTPAddress+"/api/v1/tenants", tokens["reader"], "").text
	if strings.Contains(tenants, "fabrikam") || !strings.Contains(tenants, "contoso") {
		t.Errorf("the reader's tenants: %s", tenants)
	}

	// Whoever may act for some tenants can't make a record of theirs one of others.
	foreign := ndjson([]domain.Event{someCall("northwind", "foreign", "user000@northwind.example", 60)})
	for i, subject := range []string{"tollbook.contoso.events", "tollbook.-.events"} {
		unread := strings.Replace(string(ndjson([]domain.Event{someCall("contoso", fmt.Sprint("unread-", i), "user000@contoso.example", 60)})), `"time":"`, `"time":"not `, 1)
		results, err := engine.intake.Receive(context.Background(), consumers.Message{
			Subject: subject, Payload: []byte(unread), Header: func(string) string { return "" }, AnyTenant: true,
		})
		if err != nil || results[0].Status != eventstore.Suspended {
			t.Fatalf("%+v %v", results, err)
		}
		for _, as := range []string{"tollbook.northwind.events", "tollbook.-.events", ""} {
			body := fmt.Sprintf(`{"positions":[%d],"subject":%q,"edited":%q}`, results[0].Position, as, base64.StdEncoding.EncodeToString(foreign))
			got := askHTTP(t, stay, engine.HTTPAddress+"/api/v1/tenants/contoso/suspense/recycle", tokens["operator"], body)
			if got.status != http.StatusOK || !strings.Contains(got.text, `"status":"refused"`) {
				t.Errorf("a record that came to %s, read as of %q: %d %s", subject, as, got.status, got.text)
			}
		}
	}
	if _, booked := engine.Book.Find("northwind", "switch/mil-1", "foreign"); booked {
		t.Error("otto has booked a call of northwind")
	}

	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	people := &http.Client{Jar: jar, CheckRedirect: stay.CheckRedirect}
	look := func(want int) heard {
		t.Helper()
		got := askHTTP(t, people, engine.HTTPAddress+"/contoso/2026-10", "", "")
		if got.status != want {
			t.Errorf("looking: %d, want %d: %.300s", got.status, want, got.text)
		}
		return got
	}
	signIn := func(token, to string) heard {
		t.Helper()
		return askHTTP(t, people, engine.HTTPAddress+"/sign-in", "", url.Values{"token": {token}, "to": {to}}.Encode())
	}
	if to := look(http.StatusSeeOther).header.Get("Location"); to != "/sign-in?to=%2Fcontoso%2F2026-10" {
		t.Errorf("a stranger is led to %s", to)
	}
	if got := signIn(tokens["guess"], "/"); got.status != http.StatusUnauthorized || !strings.Contains(got.text, "not known") {
		t.Errorf("a guess: %d %.200s", got.status, got.text)
	}
	for _, elsewhere := range []string{"https://evil.example/", "//evil.example/", "/\\evil.example", "javascript:alert(1)", ""} {
		if to := signIn(tokens["operator"], elsewhere).header.Get("Location"); to != "/" {
			t.Errorf("%q leads to %q", elsewhere, to)
		}
	}
	if to := signIn(tokens["operator"], "/contoso/2026-10?lang=it").header.Get("Location"); to != "/contoso/2026-10?lang=it" {
		t.Errorf("signed in, and led to %q", to)
	}
	if page := look(http.StatusOK); !strings.Contains(page.text, "You act as otto.") {
		t.Errorf("the page does not say who acts: %.300s", page.text)
	}
	askHTTP(t, people, engine.HTTPAddress+"/sign-out", "", "x=1")
	look(http.StatusSeeOther)
	signIn(tokens["operator"], "/")
	now.set("2026-10-23T12:59:59Z")
	look(http.StatusOK)
	now.set("2026-10-23T13:59:59Z") // an hour after the last look
	look(http.StatusSeeOther)

	if err := engine.Stop(); err != nil {
		t.Error(err)
	}
	lines, err := os.ReadFile(filepath.Join(dir, login.AccessLog))
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		`{"at":"2026-10-23T12:00:00Z","what":"get-month","who":"rita","from":"127.0.0.1","tenant":"contoso","path":"/api/v1/tenants/contoso/months/2026-10"}`,
		`"what":"export","who":"rita"`, `"what":"page","who":"otto","from":"127.0.0.1","tenant":"contoso","path":"/contoso/2026-10"`,
		`"what":"page","who":"ada","from":"127.0.0.1","tenant":"-","path":"/-/suspense"`, `"what":"recycle-records","who":"otto"`,
	} {
		if !strings.Contains(string(lines), want) {
			t.Errorf("the access log has no %s:\n%s", want, lines)
		}
	}
	if strings.Contains(string(lines), `"tenant":"fabrikam","path":"/api`) {
		t.Errorf("what was refused was read:\n%s", lines)
	}
	if said := log.String() + string(lines); strings.Contains(said, consumers.TokenPrefix) || !strings.Contains(said, "HTTP request refused") {
		t.Errorf("a token is in a log, or who was refused is not:\n%s", said)
	}
}
