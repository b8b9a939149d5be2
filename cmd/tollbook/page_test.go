package main

import (
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"
)

// TestPageVisitors: without users, who sits at this machine may act, and a name that
// a stranger's web page has lead here may not; nor may anybody who is not asked who
// they are.
func TestPageVisitors(t *testing.T) {
	r := newHTTPRig(t)
	r.book(licensed("contoso")...)
	r.book(someCall("contoso", "a", "user000@contoso.example", 60))
	decide := func(host string) (int, string) {
		t.Helper()
		form := url.Values{"month": {"2026-10"}, "exception": {"unrated"}, "why": {"a test"}}
		request, err := http.NewRequest(http.MethodPost, r.HTTPAddress+"/contoso/exceptions", strings.NewReader(form.Encode()))
		if err != nil {
			t.Fatal(err)
		}
		request.Header.Set("Content-Type", jsonForm)
		if host != "" {
			request.Host = host
		}
		response, err := http.DefaultClient.Do(request)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = response.Body.Close() }()
		text, err := io.ReadAll(response.Body)
		if err != nil {
			t.Fatal(err)
		}
		return response.StatusCode, string(text)
	}
	const refused = "the page does not know who you are"
	for host, want := range map[string]int{"": http.StatusBadRequest, "localhost:8080": http.StatusBadRequest, "[::1]:8080": http.StatusBadRequest, "evil.example": http.StatusForbidden, "10.0.0.1:80": http.StatusForbidden} {
		status, text := decide(host)
		if status != want || (want == http.StatusForbidden) != strings.Contains(text, refused) {
			t.Errorf("host %q: %d, want %d: %s", host, status, want, text)
		}
	}
}

// TestPageStops: somebody who looks at a month that goes on does not hold up a stop.
func TestPageStops(t *testing.T) {
	r := &rig{t: t, dir: t.TempDir(), http: "127.0.0.1:0"}
	r.start()
	r.book(licensed("contoso")...)
	response, err := http.Get(r.HTTPAddress + "/events?tenant=contoso")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = response.Body.Close() }()
	first := make([]byte, len("data: "))
	if _, err := io.ReadFull(response.Body, first); err != nil || string(first) != "data: " {
		t.Fatalf("%v: %q", err, first)
	}
	stopped := make(chan struct{})
	go func() { defer close(stopped); r.stop() }()
	if rest, err := io.ReadAll(response.Body); err != nil {
		t.Errorf("the stream is cut, not ended: %v: %q", err, rest)
	}
	select {
	case <-stopped:
	case <-time.After(patience):
		t.Fatal("the engine does not stop")
	}
}
