package main

import (
	"bytes"
	"compress/gzip"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"tollbook/api"
	"tollbook/consumers"
	"tollbook/domain"
	"tollbook/domain/cloudevents"
)

// newHTTPRig starts an engine that takes records over HTTP.
func newHTTPRig(t *testing.T) *rig {
	t.Helper()
	r := &rig{t: t, dir: t.TempDir(), http: "127.0.0.1:0"}
	r.start()
	t.Cleanup(r.stop)
	return r
}

// A reply is what a request was answered.
type reply struct {
	status  int
	header  http.Header
	receipt api.Receipt // of 200
	detail  string      // of any other: one line
}

// post sends a request and checks the form of its answer.
func post(t tester, client *http.Client, url, contentType, body string, change ...func(*http.Request)) reply {
	t.Helper()
	request, err := http.NewRequest(http.MethodPost, url, strings.NewReader(body))
	if err != nil {
		t.Fatalf("%v", err)
	}
	if contentType != "" {
		request.Header.Set("Content-Type", contentType)
	}
	for _, c := range change {
		c(request)
	}
	response, err := client.Do(request)
	if err != nil {
		t.Fatalf("%v", err)
	}
	defer func() { _ = response.Body.Close() }()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatalf("%v", err)
	}
	r := reply{status: response.StatusCode, header: response.Header}
	if r.status == http.StatusOK {
		r.receipt = decoded[api.Receipt](t, string(text))
		if in := r.receipt; in.Received != in.Booked+in.Duplicate+in.Suspended || response.Header.Get("Content-Type") != "application/json" {
			t.Errorf("200 with %v %s", response.Header, text)
		}
		return r
	}
	problem := decoded[struct {
		Title  string `json:"title"`
		Status int    `json:"status"`
		Detail string `json:"detail"`
	}](t, string(text))
	again := r.status == http.StatusTooManyRequests || r.status == http.StatusServiceUnavailable
	if problem.Status != r.status || problem.Title != http.StatusText(r.status) || problem.Detail == "" || strings.Count(string(text), "\n") != 1 ||
		response.Header.Get("Content-Type") != "application/problem+json" || (response.Header.Get("Retry-After") != "") != again {
		t.Errorf("%d with %v %s", r.status, response.Header, text)
	}
	r.detail = problem.Detail
	return r
}

// outcome is what became of the records of a reply, and why of the first that was not booked.
func (r reply) outcome() string {
	if r.status != http.StatusOK {
		return fmt.Sprintf("%d: %s", r.status, r.detail)
	}
	text := fmt.Sprintf("%d booked, %d duplicate, %d suspended", r.receipt.Booked, r.receipt.Duplicate, r.receipt.Suspended)
	for _, one := range r.receipt.Records {
		if one.Reason != "" {
			return text + "; " + one.Reason + ": " + one.Detail
		}
	}
	return text
}

func with(name string, values ...string) func(*http.Request) {
	return func(r *http.Request) { r.Header[http.CanonicalHeaderKey(name)] = values }
}

func basic(user, password string) func(*http.Request) {
	return func(r *http.Request) { r.SetBasicAuth(user, password) }
}

// attributesOf are the headers of a call in binary mode.
func attributesOf(id string, change ...string) func(*http.Request) {
	return func(r *http.Request) {
		set := append([]string{"ce-specversion", "1.0", "ce-id", id, "ce-source", "switch/mil-1", "ce-type", "tollbook.call.completed.v1", "ce-time", "2026-10-05T09:01:00Z", "ce-tenant", "contoso"}, change...)
		for i := 0; i < len(set); i += 2 {
			if r.Header.Del(set[i]); set[i+1] != "" {
				r.Header.Set(set[i], set[i+1])
			}
		}
	}
}

// dataOf is the data of an event as it came.
func dataOf(event string) string {
	data := event[strings.Index(event, `"data":`)+len(`"data":`):]
	return data[:strings.Index(data, "}")+1]
}

const (
	jsonEvent  = "application/cloudevents+json"
	jsonEvents = "application/cloudevents-batch+json"
	jsonForm   = "application/x-www-form-urlencoded"
)

// TestHTTPEvents: the modes of the HTTP binding of CloudEvents, in this order on
// one book.
func TestHTTPEvents(t *testing.T) {
	r := newHTTPRig(t)
	data := dataOf(goodCall("x"))
	call := func(id string, replace ...string) string { return goodCall(id, replace...) }
	for _, row := range []struct {
		name, kind, body string
		change           func(*http.Request)
		want             string
	}{
		{"structured", jsonEvent, call("a"), nil, "1 booked, 0 duplicate, 0 suspended"},
		{"structured, with a charset", jsonEvent + "; charset=UTF-8", call("a"), nil, "0 booked, 1 duplicate, 0 suspended"},
		{"structured, in capitals", "Application/CloudEvents+JSON", call("a"), nil, "0 booked, 1 duplicate, 0 suspended"},
		{"structured, headers besides", jsonEvent, call("b"), attributesOf("other"), "1 booked, 0 duplicate, 0 suspended"},
		{"batch", jsonEvents, "[" + call("c") + ",\n" + call("d") + "]", nil, "2 booked, 0 duplicate, 0 suspended"},
		{"batch of nothing", jsonEvents, " [\n] ", nil, "0 booked, 0 duplicate, 0 suspended"},
		{"lines", "application/x-ndjson", call("d") + "\n\n" + call("e") + "\n{}\n", nil, "1 booked, 1 duplicate, 1 suspended; syntax: specversion: required"},
		{"another's content", jsonEvent, call("a", "+390612345678", "+390612345679"), nil, "0 booked, 0 duplicate, 1 suspended; conflict: source switch/mil-1 id a is booked at position 1 with other content"},
		{"the same again", jsonEvent, call("a", "+390612345678", "+390612345679"), nil, "0 booked, 1 duplicate, 0 suspended"},
		{"no tenant", jsonEvent, call("f", `"tenant":"contoso",`, ""), nil, "0 booked, 0 duplicate, 1 suspended; syntax: tenant: required"},
		{"no JSON", jsonEvent, "\xff", nil, "0 booked, 0 duplicate, 1 suspended; syntax: not valid JSON"},

		{"binary", "application/json", data, attributesOf("g"), "1 booked, 0 duplicate, 0 suspended"},
		{"binary, no type", "", data, attributesOf("g"), "0 booked, 1 duplicate, 0 suspended"},
		{"binary, as structured", jsonEvent, call("g", `"time":"2026-10-05T09:01:00Z"`, `"time":"2026-10-05T11:01:00+02:00"`), nil, "0 booked, 1 duplicate, 0 suspended"},
		{"binary, percent-encoded", "text/json", data, attributesOf("%67", "ce-source", "switch%2Fmil-1"), "0 booked, 1 duplicate, 0 suspended"},
		{"binary, quoted", "application/json; charset=utf-8", data, attributesOf(`"\g"`, "ce-source", `"switch/mil%2d1"`), "0 booked, 1 duplicate, 0 suspended"},
		{"binary, decoded once", "application/json", data, attributesOf("%2567"), "1 booked, 0 duplicate, 0 suspended"},
		{"binary, an attribute missing", "application/json", data, attributesOf("h", "ce-time", ""), "0 booked, 0 duplicate, 1 suspended; syntax: ce-time: required"},
		{"binary, an attribute twice", "application/json", data, func(r *http.Request) { attributesOf("h")(r); r.Header["Ce-Id"] = []string{"h", "i"} }, `0 booked, 0 duplicate, 1 suspended; syntax: ce-id: "h\ni": must be`},
		{"binary, no tenant", "application/json", data, attributesOf("h", "ce-tenant", ""), "0 booked, 0 duplicate, 1 suspended; syntax: ce-tenant: required"},
		{"binary, no data", "application/json", "", attributesOf("h"), "0 booked, 0 duplicate, 1 suspended; syntax: data: empty"},
		{"binary, not UTF-8", "application/json", data, attributesOf("%C0%A0"), "0 booked, 0 duplicate, 1 suspended; syntax: ce-id:"},

		{"JSON without headers", "application/json", call("z"), nil, `415: Content-Type "application/json": without ce- headers must be application/cloudevents+json`},
		{"no type at all", "", call("z"), nil, `415: Content-Type "": without ce- headers`},
		{"another format of events", "application/cloudevents+avro", call("z"), nil, `415: Content-Type "application/cloudevents+avro": of the formats of events only JSON`},
		{"data that is no JSON", "text/xml", "<x/>", attributesOf("z"), `415: Content-Type "text/xml": the data of an event is JSON`},
		{"no media type", "json/", call("z"), nil, `415: Content-Type "json/": is no media type`},
		{"nothing", jsonEvent, " \n", nil, "400: the body is empty"},
		{"a form", jsonForm, "cdr=" + url.QueryEscape(call("z")), nil, "415: "},
	} {
		change := row.change
		if change == nil {
			change = func(*http.Request) {}
		}
		got := post(t, http.DefaultClient, r.HTTPAddress+"/v1/events", row.kind, row.body, change).outcome()
		if !strings.HasPrefix(got, row.want) {
			t.Errorf("%s:\n got %s\nwant %s", row.name, got, row.want)
		}
	}
	in := r.intake("contoso")
	if in.Booked != 7 || in.Suspended != 5 {
		t.Errorf("of contoso: %+v", in)
	}
	// What came in binary mode is read again with its headers.
	again := command(t, "suspense", "recycle", "--reason", "syntax", "--tenant", "contoso", "--why", "again", "--yes", "--nats", r.NATSAddress)
	for _, detail := range []string{"data: empty", "ce-time: required", `ce-id: "h\ni"`} {
		if !strings.Contains(again.out, detail) {
			t.Errorf("read again, the records are refused with %s%s", again.out, again.err)
		}
	}
}

// cdrRecord is a call of a Kamailio, answered, of three seconds.
func cdrRecord(id string, more string) string {
	return fmt.Sprintf(`{"start_time":"1795383635.709","end_time":"1795383638.709","duration":"3","callid":%q,"from_tag":"t","direction":"outbound","caller":"1001",`+
		`"caller_pai":"+41445551000","called":"01144207939150","setup_time":"1795383635.1","answer_time":"1795383635.701959","sip_code":"200"%s}`, id, more)
}

// TestHTTPCDRs: records of a switch's own format, as switches post them.
func TestHTTPCDRs(t *testing.T) {
	r := newHTTPRig(t)
	const path = "/v1/cdr/acme/kamailio/kam-a"
	for _, row := range []struct{ name, path, kind, body, want string }{
		{"before the switch is known", path, "application/json", cdrRecord("a", ""), `0 booked, 0 duplicate, 1 suspended; switch: switch "kam-a" of tenant acme is not configured`},
		{"again", path, "application/json", cdrRecord("a", ""), "0 booked, 1 duplicate, 0 suspended"},
		{"configured", "/v1/events", jsonEvent, strings.TrimSpace(string(ndjson([]domain.Event{kamA()}))), "1 booked, 0 duplicate, 0 suspended"},
		{"raw", path, "application/json", cdrRecord("b", ""), "1 booked, 0 duplicate, 0 suspended"},
		{"of any type", path, "text/plain", cdrRecord("b", ""), "0 booked, 1 duplicate, 0 suspended"},
		{"of no type", path, "", cdrRecord("b", ""), "0 booked, 1 duplicate, 0 suspended"},
		{"a query", path + "?uuid=a_17", "application/json", cdrRecord("b", ""), "0 booked, 1 duplicate, 0 suspended"},
		{"lines", path, "application/x-ndjson", cdrRecord("b", "") + "\n" + cdrRecord("c", "") + "\n", "1 booked, 1 duplicate, 0 suspended"},
		{"an array", path, "application/json", "[" + cdrRecord("c", "") + "," + cdrRecord("d", "") + "]", "1 booked, 1 duplicate, 0 suspended"},
		{"a form", "/v1/cdr/acme/freeswitch/fs-1", jsonForm, "cdr=" + url.QueryEscape("{}"), `0 booked, 0 duplicate, 1 suspended; switch: `},
		{"unreadable", path, "application/json", `{"callid":"f"}`, "0 booked, 0 duplicate, 1 suspended; field: from_tag"},
		{"another content", path, "application/json", cdrRecord("b", `,"sip_reason":"OK"`), "0 booked, 1 duplicate, 0 suspended"},
		{"conflict", path, "application/json", strings.Replace(cdrRecord("b", ""), "01144207939150", "01144207939151", 1), "0 booked, 0 duplicate, 1 suspended; conflict: "},
		{"ce- headers mean nothing", path, "application/json", cdrRecord("g", ""), "1 booked, 0 duplicate, 0 suspended"},
		{"events of a switch", "/v1/cdr/contoso/cloudevents/mil-1", jsonEvent, goodCall("a"), "1 booked, 0 duplicate, 0 suspended"},
		{"events of another", "/v1/cdr/contoso/cloudevents/rom-1", jsonEvent, goodCall("a"), `0 booked, 0 duplicate, 1 suspended; subject: source: "switch/mil-1" is not the switch of the subject`},

		{"events where records are", path, jsonEvent, goodCall("a"), "415: "},
		{"many parts", path, "multipart/form-data; boundary=x", "--x\r\n\r\n{}\r\n--x--", "415: "},
		{"nothing", path, "application/json", "", "400: the body is empty"},
		{"a tenant that is none", "/v1/cdr/Acme/kamailio/kam-a", "", "{}", `404: path: tenant "Acme": must be`},
		{"no tenant", "/v1/cdr/-/kamailio/kam-a", "", "{}", `404: path: tenant "-": must be`},
		{"a format that is none", "/v1/cdr/acme/kamailo/kam-a", "", "{}", `404: path: format "kamailo": is not one of `},
		{"a switch that is none", "/v1/cdr/acme/kamailio/kam.a", "", "{}", `404: path: switch "kam.a": must be`},
		{"a switch with a slash", "/v1/cdr/acme/kamailio/a%2Fb", "", "{}", `404: path: switch "a/b": must be`},
		{"a switch of stars", "/v1/cdr/acme/kamailio/%3E", "", "{}", `404: path: switch ">": must be`},
		{"too short", "/v1/cdr/acme/kamailio", "", "{}", `404: path "/v1/cdr/acme/kamailio": must be`},
		{"too long", path + "/x", "", "{}", `404: path `},
		{"nowhere", "/v1/x+393471234567", "", "{}", `404: path "/v1/x+39347*******": must be`},
	} {
		if got := post(t, http.DefaultClient, r.HTTPAddress+row.path, row.kind, row.body, attributesOf("z")).outcome(); !strings.HasPrefix(got, row.want) {
			t.Errorf("%s:\n got %s\nwant %s", row.name, got, row.want)
		}
	}
	// The first record, too, is a call since its switch is known; and there is the configuration.
	r.until("the waiting record is taken up", func() bool { return r.intake("acme").Booked == 6 })
	for _, method := range []string{http.MethodGet, http.MethodPut, http.MethodDelete} {
		got := post(t, http.DefaultClient, r.HTTPAddress+path, "", "{}", func(r *http.Request) { r.Method = method })
		if got.status != http.StatusMethodNotAllowed || got.header.Get("Allow") != http.MethodPost {
			t.Errorf("%s: %+v", method, got)
		}
	}
	// The page is where it was.
	for path, want := range map[string]int{"/": 200, "/healthz": 200, "/nowhere": 404} {
		response, err := http.Get(r.HTTPAddress + path)
		if err != nil {
			t.Fatal(err)
		}
		if _ = response.Body.Close(); response.StatusCode != want {
			t.Errorf("%s: %s", path, response.Status)
		}
	}
}

func gzipped(body string) string {
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	_, _ = io.WriteString(w, body)
	_ = w.Close()
	return b.String()
}

// TestHTTPBodies: the longest body and one byte more, as it is, in gzip, and
// without a length; and what is no gzip.
func TestHTTPBodies(t *testing.T) {
	r := newHTTPRig(t)
	longest := goodCall("a")
	longest += strings.Repeat(" ", api.MaxBody-len(longest))
	lengthless := func(r *http.Request) { r.ContentLength, r.Body = -1, io.NopCloser(io.MultiReader(r.Body)) }
	many := strings.Repeat(goodCall("a")+"\n", 20_000)
	for _, row := range []struct {
		name, body string
		change     []func(*http.Request)
		want       string
	}{
		{"the longest", longest, nil, "1 booked, 0 duplicate, 0 suspended"},
		{"the longest without a length", longest, []func(*http.Request){lengthless}, "0 booked, 1 duplicate, 0 suspended"},
		{"the longest of gzip", gzipped(longest), []func(*http.Request){with("Content-Encoding", "gzip")}, "0 booked, 1 duplicate, 0 suspended"},
		{"gzip without a length", gzipped(many), []func(*http.Request){with("Content-Encoding", "GZIP"), lengthless}, "0 booked, 20000 duplicate, 0 suspended"},
		{"as it is", goodCall("a"), []func(*http.Request){with("Content-Encoding", "identity")}, "0 booked, 1 duplicate, 0 suspended"},
		{"a byte more", longest + " ", nil, "413: the body has more than 8388608 bytes"},
		{"a byte more without a length", longest + " ", []func(*http.Request){lengthless}, "413: "},
		{"a byte more of gzip", gzipped(longest + " "), []func(*http.Request){with("Content-Encoding", "gzip")}, "413: "},
		{"a bomb of gzip", gzipped(strings.Repeat(" ", 128<<20)), []func(*http.Request){with("Content-Encoding", "gzip")}, "413: "},
		{"no gzip", longest[:1000], []func(*http.Request){with("Content-Encoding", "gzip")}, "400: the body is not gzip"},
		{"nothing of gzip", "", []func(*http.Request){with("Content-Encoding", "gzip")}, "400: the body is not gzip"},
		{"gzip cut off", gzipped(goodCall("b"))[:100], []func(*http.Request){with("Content-Encoding", "gzip")}, "400: the body can't be read"},
		{"another encoding", goodCall("b"), []func(*http.Request){with("Content-Encoding", "br")}, `415: Content-Encoding "br": only gzip`},
		{"gzip twice", gzipped(gzipped(goodCall("b"))), []func(*http.Request){with("Content-Encoding", "gzip, gzip")}, "415: "},
	} {
		if got := post(t, http.DefaultClient, r.HTTPAddress+"/v1/events", "application/x-ndjson", row.body, row.change...).outcome(); !strings.HasPrefix(got, row.want) {
			t.Errorf("%s: got %.200s, want %s", row.name, got, row.want)
		}
	}
	if in := r.intake("contoso"); in.Booked != 1 || in.Suspended != 0 {
		t.Errorf("%+v", in)
	}
}

// TestHTTPUsers: with --auth a switch posts as itself, an operator as anybody, and
// nobody else at all.
func TestHTTPUsers(t *testing.T) {
	auth := filepath.Join(t.TempDir(), "auth.json")
	secrets := map[string]string{}
	for name, args := range map[string][]string{
		"mil-1": {"add-switch", "--tenant", "contoso", "--switch", "mil-1", "--password"},
		"rom-1": {"add-switch", "--tenant", "contoso", "--switch", "rom-1"}, // has an nkey
		"kam-a": {"add-switch", "--tenant", "acme", "--switch", "kam-a", "--password"},
		"anna":  {"add-operator", "anna", "--password"},
		"bi":    {"add-reader", "bi", "--password"},
	} {
		out := done(t, append(append([]string{"access"}, args...), "--auth", auth)...)
		if m := printedPassword.FindStringSubmatch(out); m != nil {
			secrets[name] = m[1]
		}
		if strings.Contains(out, "/v1/cdr/") != (args[0] == "add-switch" && secrets[name] != "") {
			t.Errorf("%v: %s", args, out)
		}
	}
	access, err := consumers.ReadAccess(auth)
	if err != nil {
		t.Fatal(err)
	}
	var log bytes.Buffer
	engine, err := StartEngine(t.Context(), EngineConfig{
		Dir: t.TempDir(), NATSListen: "127.0.0.1:0", NATSSync: time.Minute, Access: &access, HTTPListen: "127.0.0.1:0",
		Clock: clock, Log: slog.New(slog.NewTextHandler(&log, nil)),
	})
	if err != nil {
		t.Fatal(err)
	}
	file := map[string]consumers.User{}
	for _, u := range access.Users {
		file[u.Name] = u
	}
	bearer := func(token string) func(*http.Request) { return with("Authorization", "Bearer "+token) }
	as := func(name string) func(*http.Request) { return basic(name, secrets[name]) }
	const (
		booked    = "1 booked, "
		repeated  = "0 booked, 1 duplicate, "
		forbidden = "403: user "
		unknown   = "401: user and password are not those of a user"
		nobody    = "401: say who you are"
	)
	void := func(id, source, of string) string {
		return fmt.Sprintf(`{"specversion":"1.0","id":%q,"source":%q,"type":"tollbook.call.voided.v1","time":"2026-10-06T00:00:00Z","tenant":"contoso","data":{"ref":{"source":%q,"id":"a"}}}`, id, source, of)
	}
	const another = ", 1 suspended; subject: "
	for _, row := range []struct {
		name, path, kind, body string
		who                    func(*http.Request)
		want                   string
	}{
		{"a switch's call", "/v1/events", jsonEvent, goodCall("a"), as("mil-1"), booked},
		{"with a token", "/v1/events", jsonEvent, goodCall("a"), bearer("mil-1." + secrets["mil-1"]), repeated},
		{"without a tenant", "/v1/events", jsonEvent, goodCall("b", `"tenant":"contoso",`, ""), as("mil-1"), booked},
		{"in binary mode", "/v1/events", "application/json", dataOf(goodCall("c")), func(r *http.Request) { attributesOf("c")(r); as("mil-1")(r) }, booked},
		{"its void", "/v1/events", jsonEvent, void("v", "switch/mil-1/7", "switch/mil-1"), as("mil-1"), booked},
		{"on its path", "/v1/cdr/contoso/cloudevents/mil-1", jsonEvent, goodCall("a"), as("mil-1"), repeated},
		{"a record of its own", "/v1/cdr/acme/kamailio/kam-a", "", cdrRecord("a", ""), as("kam-a"), "0 booked, 0 duplicate, 1 suspended; switch: "},
		{"an operator", "/v1/events", jsonEvent, goodCall("a"), as("anna"), repeated},
		{"an operator, anywhere", "/v1/cdr/contoso/cloudevents/mil-1", jsonEvent, goodCall("a"), as("anna"), repeated},

		{"another tenant's", "/v1/events", jsonEvent, goodCall("d", `"tenant":"contoso"`, `"tenant":"acme"`), as("mil-1"), "0 booked, 0 duplicate, 1 suspended; syntax: tenant: "},
		{"another switch's", "/v1/events", jsonEvent, goodCall("d", "switch/mil-1", "switch/rom-1"), as("mil-1"), "0 booked, 0 duplicate" + another},
		{"another switch's, binary", "/v1/events", "application/json", dataOf(goodCall("d")), func(r *http.Request) { attributesOf("d", "ce-source", "switch/mil-10")(r); as("mil-1")(r) }, "0 booked, 0 duplicate" + another},
		{"a void of another's", "/v1/events", jsonEvent, void("w", "switch/mil-1", "switch/rom-1"), as("mil-1"), "0 booked, 0 duplicate" + another},
		{"a licence", "/v1/events", jsonEvent, of("l", "tollbook.license.removed.v1", `{"user":"u","plan":"P","effective_at":"2026-10-01T00:00:00Z"}`), as("mil-1"), "0 booked, 0 duplicate" + another},
		{"another's path", "/v1/cdr/contoso/cloudevents/rom-1", jsonEvent, goodCall("a"), as("mil-1"), forbidden},
		{"another tenant's path", "/v1/cdr/acme/cloudevents/mil-1", jsonEvent, goodCall("a"), as("mil-1"), forbidden},
		{"a reader", "/v1/events", jsonEvent, goodCall("a"), as("bi"), forbidden},
		{"a web page", "/v1/events", jsonEvent, goodCall("a"), func(r *http.Request) { as("mil-1")(r); r.Header.Set("Origin", "http://evil.example") }, "403: a web page's"},

		{"nobody", "/v1/events", jsonEvent, goodCall("a"), func(*http.Request) {}, nobody},
		{"no password", "/v1/events", jsonEvent, goodCall("a"), basic("mil-1", ""), nobody},
		{"a wrong password", "/v1/events", jsonEvent, goodCall("a"), basic("mil-1", secrets["kam-a"]), unknown},
		{"a wrong password, again", "/v1/events", jsonEvent, goodCall("a"), basic("mil-1", secrets["kam-a"]), unknown},
		{"a password too long", "/v1/events", jsonEvent, goodCall("a"), basic("mil-1", secrets["mil-1"]+strings.Repeat("x", 100)), unknown},
		{"the hash", "/v1/events", jsonEvent, goodCall("a"), basic("mil-1", file["mil-1"].Password), unknown},
		{"an nkey", "/v1/events", jsonEvent, goodCall("a"), basic("rom-1", file["rom-1"].NKey), unknown},
		{"a stranger", "/v1/events", jsonEvent, goodCall("a"), basic("eve", "x"), unknown},
		{"a wrong token", "/v1/events", jsonEvent, goodCall("a"), bearer(secrets["mil-1"]), nobody},
		{"another token", "/v1/events", jsonEvent, goodCall("a"), bearer("mil-1.x"), unknown},
		{"another scheme", "/v1/events", jsonEvent, goodCall("a"), with("Authorization", "Digest x"), nobody},
		{"where nothing is", "/v1/cdr/contoso/x/y", jsonEvent, goodCall("a"), func(*http.Request) {}, nobody},
	} {
		got := post(t, http.DefaultClient, engine.HTTPAddress+row.path, row.kind, row.body, row.who)
		if !strings.HasPrefix(got.outcome(), row.want) {
			t.Errorf("%s:\n got %s\nwant %s", row.name, got.outcome(), row.want)
		}
		if (got.status == http.StatusUnauthorized) != strings.HasPrefix(got.header.Get("WWW-Authenticate"), "Basic ") {
			t.Errorf("%s: %v", row.name, got.header)
		}
	}
	if err := engine.Stop(); err != nil {
		t.Error(err)
	}
	if !strings.Contains(log.String(), "HTTP request refused") || !strings.Contains(log.String(), "user=mil-1") {
		t.Errorf("the log is %s", log.String())
	}
	for _, secret := range secrets {
		if strings.Contains(log.String(), secret) {
			t.Errorf("a password is in the log: %s", log.String())
		}
	}
}

// TestHTTPOpen: where other machines reach HTTP, records come from users only,
// and over TLS where there is a certificate.
func TestHTTPOpen(t *testing.T) {
	auth := filepath.Join(t.TempDir(), "auth.json")
	password := printedPassword.FindStringSubmatch(done(t, "access", "add-switch", "--tenant", "contoso", "--switch", "mil-1", "--password", "--auth", auth))[1]
	cert, key := testCertificate(t)
	page := func(ready string) string {
		_, rest, _ := strings.Cut(ready, "page ")
		return strings.Replace(strings.Fields(strings.Replace(rest, ";", " ", 1))[0], "[::]", "127.0.0.1", 1)
	}
	ready, _ := serveWith(t, "--nats-listen", "127.0.0.1:0", "--http", "0.0.0.0:0", "--http-open")
	if got := post(t, http.DefaultClient, page(ready)+"/v1/events", jsonEvent, goodCall("a")); !strings.HasPrefix(got.outcome(), "403: --http is open to other machines and there are no users") {
		t.Errorf("without users: %s", got.outcome())
	}
	ready, _ = serveWith(t, "--nats-listen", "127.0.0.1:0", "--http", "0.0.0.0:0", "--http-open", "--auth", auth)
	if got := post(t, http.DefaultClient, page(ready)+"/v1/events", jsonEvent, goodCall("a"), basic("mil-1", password)); got.receipt.Booked != 1 {
		t.Errorf("with users: %s", got.outcome())
	}
	ready, _ = serveWith(t, "--nats-listen", "127.0.0.1:0", "--http", "127.0.0.1:0", "--auth", auth, "--tls-cert", cert, "--tls-key", key, "--http-rate", "1")
	text, err := os.ReadFile(cert)
	ca := x509.NewCertPool()
	if err != nil || !ca.AppendCertsFromPEM(text) {
		t.Fatal(err)
	}
	secure := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: ca}, ForceAttemptHTTP2: true}}
	address := page(ready)
	if !strings.HasPrefix(address, "https://") {
		t.Errorf("the ready line is %q", ready)
	}
	if got := post(t, secure, address+"/v1/events", jsonEvent, goodCall("a"), basic("mil-1", password)); got.receipt.Booked != 1 {
		t.Errorf("over TLS: %s", got.outcome())
	}
	if out := done(t, "health", "--http", address); out != "ok\n" {
		t.Errorf("health: %q", out)
	}
	if response, err := http.Get(strings.Replace(address, "https", "http", 1) + "/"); err == nil && response.StatusCode != http.StatusBadRequest {
		t.Errorf("without TLS: %s", response.Status)
	}
	// One request a second: of some that follow each other at once, one is too many.
	for n := 0; ; n++ {
		got := post(t, secure, address+"/v1/events", jsonEvent, goodCall("a"), basic("mil-1", password))
		if got.status == http.StatusTooManyRequests && strings.Contains(got.detail, "--http-rate") {
			break
		}
		if got.receipt.Duplicate != 1 || n > 1000 {
			t.Fatalf("request %d: %s", n, got.outcome())
		}
	}
	refused(t, exitUsage, "--http-rate", "serve", "--data", t.TempDir(), "--http-rate", "-1")
}

// httpSender sends events one by one over HTTP until the first that is not answered
// with 200; those that were are acknowledged.
func (s *senders) httpSender(ctx context.Context, client *http.Client, address string, events []domain.Event) error {
	for i := range events {
		s.send(events[i : i+1])
		request, err := http.NewRequestWithContext(ctx, http.MethodPost, address+"/v1/events", bytes.NewReader(cloudevents.Append(nil, &events[i])))
		if err != nil {
			return err
		}
		request.Header.Set("Content-Type", jsonEvent)
		response, err := client.Do(request)
		if err != nil {
			return err
		}
		_, err = io.Copy(io.Discard, response.Body)
		_ = response.Body.Close()
		if response.StatusCode != http.StatusOK {
			return fmt.Errorf("%s", response.Status)
		}
		// The status says it: what comes behind may be cut off.
		s.acknowledge(events[i])
		if err != nil {
			return err
		}
	}
	return nil
}

const httpSenders = 8

// sendHTTP has several send their parts of the events at once.
func (s *senders) sendHTTP(ctx context.Context, address string, events []domain.Event) error {
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: httpSenders}}
	defer client.CloseIdleConnections()
	var all sync.WaitGroup
	errs := make([]error, httpSenders)
	part := len(events)/httpSenders + 1
	i := 0
	for events := range slices.Chunk(events, part) {
		err := &errs[i]
		all.Go(func() { *err = s.httpSender(ctx, client, address, events) })
		i++
	}
	all.Wait()
	return errors.Join(errs...)
}

func onHTTP(c *exec.Cmd) {
	c.Args[slices.Index(c.Args, "--http")+1] = "127.0.0.1:0"
}

// TestKillHTTP kills serve while switches post to it. What was answered with 200
// is there, and what they post again is there once.
func TestKillHTTP(t *testing.T) {
	random := rand.New(rand.NewPCG(flipSeed(t), 1))
	dir, s, rounds := t.TempDir(), newSenders(), 8
	if everyFault {
		rounds = 60
	}
	cut := 0
	for round := range rounds {
		calls := roundCalls(round, 1500)
		first := serve(t, dir, onHTTP)
		ctx, done := first.whileItRuns()
		time.AfterFunc(time.Duration(random.Int64N(int64(300*time.Millisecond))), func() { _ = first.cmd.Process.Kill() })
		if s.sendHTTP(ctx, first.http, calls) != nil {
			cut++
		}
		first.killed()
		done()

		second := serve(t, dir, onHTTP)
		ctx, done = second.whileItRuns()
		s.send(calls)
		if err := s.sendHTTP(ctx, second.http, s.unanswered(calls)); err != nil {
			t.Fatalf("round %d, posting again: %v", round, err)
		}
		done()
		second.kill()
	}
	if cut == 0 {
		t.Error("nobody was cut off: kill earlier")
	}
	told := s.told()
	if len(told) != len(s.sent) {
		t.Errorf("of %d events %d were acknowledged", len(s.sent), len(told))
	}
	repeats := s.audit(t, dir, told)
	t.Logf("%d kills, %d while switches posted; %d events came again; lost %d, doubled %d, undetected %d",
		2*rounds, cut, repeats, s.found.lost, s.found.doubled, s.found.undetected)
}

// TestHTTPStop: an engine that stops while switches post answers 200 for what is
// booked only, and stops without an error though one of them never ends.
func TestHTTPStop(t *testing.T) {
	dir, s := t.TempDir(), newSenders()
	calls := roundCalls(0, 4000)
	for round := range 3 {
		r := &rig{t: t, dir: dir, http: "127.0.0.1:0"}
		r.start()
		if round == 0 {
			slow, err := net.Dial("tcp", strings.TrimPrefix(r.HTTPAddress, "http://"))
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = slow.Close() }()
			fmt.Fprintf(slow, "POST /v1/events HTTP/1.1\r\nHost: x\r\nContent-Type: %s\r\nContent-Length: 1000\r\n\r\n{", jsonEvent)
		}
		sent := make(chan error, 1)
		rest := s.unanswered(calls)
		go func() { sent <- s.sendHTTP(t.Context(), r.HTTPAddress, rest) }()
		at := r.Book.Head().Events
		r.until("some are booked", func() bool { return r.Book.Head().Events > at+200 })
		r.stop()
		if err := <-sent; err == nil {
			t.Error("nobody was cut off: send more")
		}
	}
	s.send(calls)
	told := s.told()
	if len(told) < 600 {
		t.Errorf("%d were acknowledged", len(told))
	}
	s.audit(t, dir, told)
}

// fsA is how the switch that wrote consumers/cdr/testdata/freeswitch counts.
func fsA(format string) domain.Event {
	return domain.Event{Tenant: "acme", Source: "admin", ID: format, Time: instant("2026-11-01T00:00:00Z"), Data: &domain.SwitchConfig{
		Switch: "fs-a", Format: format, Country: "CH", InternationalPrefixes: []string{"00", "011"}, NationalPrefix: "0", InternalDigits: []int{3, 4},
		TimeZone: "Europe/Zurich", User: "{sip_from_user}@{accountcode}|{sip_P-Asserted-Identity}@{accountcode}", Options: map[string]string{"direction": "sip_h_X-Rig-Dir"},
	}}
}

// TestHTTPFreeSWITCH: a leg in every form in which FreeSWITCH's modules post it is
// the same leg, and one that can't be decoded safely is kept as it came.
func TestHTTPFreeSWITCH(t *testing.T) {
	r := newHTTPRig(t)
	read := func(name string) string {
		text, err := os.ReadFile("../../consumers/cdr/testdata/freeswitch/" + name)
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	leg, xml := read("full.json"), read("a_leg.cdr.xml")
	encoded := "cdr=" + base64.StdEncoding.EncodeToString([]byte(leg))
	const jsonPath, xmlPath = "/v1/cdr/acme/freeswitch/fs-a?uuid=7e40b3c1", "/v1/cdr/acme/freeswitch-xml/fs-a?uuid=a_7e40b3c1"
	for _, row := range []struct{ name, path, kind, body, want string }{
		{"before the switch is known", jsonPath, "application/x-www-form-base64-encoded", encoded, "0 booked, 0 duplicate, 1 suspended; switch: "},
		{"configured", "/v1/events", jsonEvent, string(ndjson([]domain.Event{fsA("freeswitch")})), "1 booked, "},
		{"encode=false", jsonPath, "application/json", leg, ""},
		{"again", jsonPath, "application/json", leg, "0 booked, 1 duplicate, 0 suspended"},
		{"encode=false, disable-100-continue", jsonPath, jsonForm, leg, "0 booked, 1 duplicate, 0 suspended"},
		{"encode=base64", jsonPath, "application/x-www-form-base64-encoded", encoded, "0 booked, 1 duplicate, 0 suspended"},
		{"encode=base64, disable-100-continue", jsonPath, jsonForm, encoded, "0 booked, 1 duplicate, 0 suspended"},
		{"encode=true", jsonPath, jsonForm, "cdr=" + url.QueryEscape(leg), "0 booked, 0 duplicate, 1 suspended; syntax: mod_json_cdr with encode=true"},
		{"a form without the field", jsonPath, jsonForm, "uuid=17", "0 booked, 0 duplicate, 1 suspended; syntax: "},
		{"configured anew", "/v1/events", jsonEvent, string(ndjson([]domain.Event{fsA("freeswitch-xml")})), "1 booked, "},
		{"XML", xmlPath, "text/xml", xml, "1 booked, "},
		{"XML in a form", xmlPath, jsonForm, "cdr=" + url.QueryEscape(xml), "0 booked, 1 duplicate, 0 suspended"},
		{"the other format", jsonPath, "application/json", leg, "0 booked, 0 duplicate, 1 suspended; format: "},
	} {
		got := post(t, http.DefaultClient, r.HTTPAddress+row.path, row.kind, row.body).outcome()
		if !strings.HasPrefix(got, row.want) {
			t.Errorf("%s:\n got %s\nwant %s", row.name, got, row.want)
		}
	}
	// Two configurations, and the legs of the record and of the XML file, each once.
	r.until("the waiting leg is taken up", func() bool { return r.intake("acme").Booked == 4 })
}

// TestHTTPReceipt: a receipt says of each record what became of it, and sums the calls.
func TestHTTPReceipt(t *testing.T) {
	r := newHTTPRig(t)
	got := post(t, http.DefaultClient, r.HTTPAddress+"/v1/events", "application/x-ndjson", goodCall("a")+"\n"+goodCall("a")+"\n{}").receipt
	want := api.Receipt{
		Received: 3, Booked: 1, Duplicate: 1, Suspended: 1, Position: 2, Answered: 2, BillableMS: 120_000,
		Records: []api.Record{{Index: 1, Status: "duplicate", Position: 1}, {Index: 2, Status: "suspended", Position: 2, Reason: "syntax", Detail: "specversion: required"}},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}
