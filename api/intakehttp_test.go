package api_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/base64"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-json-experiment/json"

	"tollbook/api"
	"tollbook/consumers"
	"tollbook/domain"
	"tollbook/eventstore"
	"tollbook/eventstore/memlog"
)

// An httpRig is the intake over HTTP on a book in memory, which can be held up.
type httpRig struct {
	t    testing.TB
	book *eventstore.Book
	held sync.Mutex // while a test has it, the book books nothing
	http.Handler
}

func newHTTPRig(t testing.TB, booking, held int64, change func(*api.HTTPConfig)) *httpRig {
	t.Helper()
	r := &httpRig{t: t}
	clock := func() domain.Instant { return domain.MinInstant }
	switches := consumers.NewSwitches()
	wait := func(eventstore.Update) {
		r.held.Lock()
		defer r.held.Unlock()
	}
	book, err := eventstore.Open(context.Background(), t.TempDir(), func(string) (eventstore.Log, error) { return memlog.New(t), nil },
		eventstore.Options{Clock: clock, Follow: []eventstore.Follower{switches.Follow, wait}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = book.Close() })
	c := api.HTTPConfig{Intake: consumers.NewIntake(book, switches, clock), Log: slog.New(slog.DiscardHandler), Local: true}
	if change != nil {
		change(&c)
	}
	r.book, r.Handler = book, api.NewHTTPIntakeOf(c, booking, held)
	return r
}

// listen serves the intake until the test ends, and its connections before that.
func (r *httpRig) listen() *httptest.Server {
	server := httptest.NewServer(r)
	r.t.Cleanup(server.Close)
	return server
}

// posted posts an event or records and returns the status; 0: it was cut off.
func posted(ctx context.Context, address, contentType string, body []byte) int {
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, address+"/v1/events", bytes.NewReader(body))
	if err != nil {
		return 0
	}
	request.Header.Set("Content-Type", contentType)
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return 0
	}
	_, _ = io.Copy(io.Discard, response.Body)
	_ = response.Body.Close()
	return response.StatusCode
}

const jsonEvent = "application/cloudevents+json"

// TestHTTPSlowBook: with a book that books nothing, so many requests wait and no
// more, whether their senders are still there or not. Once it goes on, all that
// was sent again is booked once.
func TestHTTPSlowBook(t *testing.T) {
	const booking = 5
	r := newHTTPRig(t, booking, 1<<20, nil)
	server := r.listen()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()

	r.held.Lock()
	impatient, leave := context.WithCancel(ctx)
	statuses := make(chan int, 100)
	sent := 0
	for full := false; !full; sent++ {
		id := fmt.Sprint("c-", sent)
		wait := 20 * time.Millisecond
		if sent == booking { // one of so many is answered, however busy the machine is
			wait = patience
		}
		go func() { statuses <- posted(impatient, server.URL, jsonEvent, call("contoso", id)) }()
		select {
		case status := <-statuses:
			if full = true; status != http.StatusTooManyRequests || sent < booking {
				t.Errorf("request %d while nothing is booked: %d", sent, status)
			}
		case <-time.After(wait):
			if sent == booking {
				t.Fatalf("%d requests wait", sent+1)
			}
		}
	}
	leave()
	for range sent - 1 {
		if status := <-statuses; status != 0 {
			t.Errorf("who went away was answered %d", status)
		}
	}
	if status := posted(ctx, server.URL, jsonEvent, call("contoso", "more")); status != http.StatusTooManyRequests {
		t.Errorf("with all places held by senders that went away: %d", status)
	}
	r.held.Unlock()
	for i := range sent {
		for status := 0; status != http.StatusOK; {
			if status = posted(ctx, server.URL, jsonEvent, call("contoso", fmt.Sprint("c-", i))); status != http.StatusOK && status != http.StatusTooManyRequests {
				t.Fatalf("call %d again: %d", i, status)
			}
		}
	}
	if got := r.book.Head().Events; got != uint64(sent) {
		t.Errorf("%d calls are booked, want %d", got, sent)
	}
	if err := r.book.Close(); err != nil {
		t.Fatal(err)
	}
	if status := posted(ctx, server.URL, jsonEvent, call("contoso", "late")); status != http.StatusServiceUnavailable {
		t.Errorf("with a book that is closed: %d", status)
	}
}

// A sending is a request whose body has come up to a point, and goes on once it may.
type sending struct {
	here   chan struct{} // closed when what has come is read
	goOn   chan struct{}
	status chan int
}

// Read is the body behind that point: there is nothing more.
func (s *sending) Read([]byte) (int, error) {
	close(s.here)
	<-s.goOn
	return 0, io.EOF
}

// begin returns once the handler has read the beginning of a request of so many bytes.
func (r *httpRig) begin(length int, body []byte) *sending {
	s := &sending{make(chan struct{}), make(chan struct{}), make(chan int, 1)}
	request := httptest.NewRequest(http.MethodPost, "/v1/events", io.MultiReader(bytes.NewReader(body), s))
	request.ContentLength = int64(length)
	go func() { s.status <- r.serve(request) }()
	select {
	case <-s.here:
	case status := <-s.status:
		r.t.Fatalf("before all of it had come: %d", status)
	}
	return s
}

func (s *sending) end() int {
	close(s.goOn)
	return <-s.status
}

func (r *httpRig) serve(request *http.Request) int {
	w := httptest.NewRecorder()
	if request.Header.Get("Content-Type") == "" {
		request.Header.Set("Content-Type", jsonEvent)
	}
	r.ServeHTTP(w, request)
	return w.Code
}

// TestHTTPMemory: bodies that are being sent hold what has come of them, and who
// would need more than there is comes again. So do records that are many.
func TestHTTPMemory(t *testing.T) {
	r := newHTTPRig(t, 100, 2<<20, nil)
	post := func(body []byte) int {
		return r.serve(httptest.NewRequest(http.MethodPost, "/v1/events", bytes.NewReader(body)))
	}
	small, large := call("contoso", "small"), call("contoso", "large")
	large = append(large, strings.Repeat(" ", 900<<10)...)

	var announced []*sending
	for range 100 {
		announced = append(announced, r.begin(api.MaxBody, nil))
	}
	if status := post(large); status != http.StatusOK {
		t.Errorf("large: %d", status)
	}
	slow := r.begin(len(large), large)
	if status := post(large); status != http.StatusTooManyRequests {
		t.Errorf("large, while another one comes: %d", status)
	}
	if status := post(small); status != http.StatusOK {
		t.Errorf("small, while a large one comes: %d", status)
	}
	if status := slow.end(); status != http.StatusOK {
		t.Errorf("the large one, come at last: %d", status)
	}
	if status := post(large); status != http.StatusOK {
		t.Errorf("large, after it: %d", status)
	}
	for _, one := range announced {
		if status := one.end(); status != http.StatusBadRequest {
			t.Errorf("of what was announced nothing came: %d", status)
		}
	}
	for _, c := range []struct{ records, want int }{{1000, http.StatusOK}, {3000, http.StatusTooManyRequests}} {
		request := httptest.NewRequest(http.MethodPost, "/v1/events", bytes.NewReader(bytes.Repeat([]byte("{}\n"), c.records)))
		request.Header.Set("Content-Type", "application/x-ndjson")
		if status := r.serve(request); status != c.want {
			t.Errorf("%d records: %d, want %d", c.records, status, c.want)
		}
	}
}

// TestHTTPSlowBody: a body that does not come is answered, in its time, to come again.
func TestHTTPSlowBody(t *testing.T) {
	r := newHTTPRig(t, 1, 1<<20, func(c *api.HTTPConfig) { c.BodyTimeout = 50 * time.Millisecond })
	server := r.listen()
	conn, err := net.Dial("tcp", server.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	if err := conn.SetReadDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	fmt.Fprintf(conn, "POST /v1/events HTTP/1.1\r\nHost: x\r\nContent-Type: %s\r\nContent-Length: 1000\r\n\r\n{", jsonEvent)
	answer, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatal(err)
	}
	text, err := io.ReadAll(answer.Body)
	if err != nil || answer.StatusCode != http.StatusServiceUnavailable || answer.Header.Get("Retry-After") == "" || !strings.Contains(string(text), "did not come within 50ms") {
		t.Errorf("%v %s, %v", answer, text, err)
	}
	if status := posted(t.Context(), server.URL, jsonEvent, call("contoso", "a")); status != http.StatusOK {
		t.Errorf("the next one: %d", status)
	}
}

// FuzzHTTP: whatever is posted is booked, suspended or a repeat, and the receipt
// says so; or it is refused in one line, with a time to come again or without.
func FuzzHTTP(f *testing.F) {
	form := "cdr=" + url.QueryEscape(`{"callid":"a"}`)
	for _, seed := range []struct{ path, kind, encoding, id, body string }{
		{"events", jsonEvent, "", "", string(call("contoso", "a"))},
		{"events", "application/cloudevents-batch+json", "", "", "[" + string(call("contoso", "b")) + "]"},
		{"events", "application/cloudevents-batch+json", "", "", "[]"},
		{"events", "application/x-ndjson; charset=utf-8", "", "", "{}\n{}"},
		{"events", "application/json", "", `"\a%20%e9"`, callData},
		{"events", "application/json", "gzip", "a", "\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\xff\x03\x00\x00\x00\x00\x00\x00\x00\x00\x00"},
		{"cdr/acme/kamailio/kam-a", "application/x-www-form-urlencoded", "", "", form},
		{"cdr/acme/kamailio/kam-a", "application/x-www-form-base64-encoded", "", "", "cdr=" + base64.StdEncoding.EncodeToString([]byte("{}"))},
		{"cdr/acme/kamailio/kam-a", "application/x-www-form-urlencoded", "", "", "cdr=%20"},
		{"cdr/acme/kamailio/kam-a", "", "", "", "{}"},
		{"cdr/acme/cloudevents/mil-1", jsonEvent, "", "", string(call("acme", "a"))},
		{"cdr/Acme/x/a.b", "multipart/form-data", "br", "", ""},
	} {
		f.Add(seed.path, seed.kind, seed.encoding, seed.id, []byte(seed.body))
	}
	f.Fuzz(func(t *testing.T, path, kind, encoding, id string, body []byte) {
		request := httptest.NewRequest(http.MethodPost, "/v1/events", bytes.NewReader(body))
		request.URL.Path = "/v1/" + path
		request.Header.Set("Content-Type", kind)
		request.Header.Set("Content-Encoding", encoding)
		if id != "" {
			request.Header.Set("Ce-Id", id)
			request.Header.Set("Ce-Specversion", "1.0")
		}
		r := newHTTPRig(t, 4, 4<<20, nil)
		w := httptest.NewRecorder()
		r.ServeHTTP(w, request)
		text, wrong := w.Body.Bytes(), func(format string, args ...any) {
			t.Fatalf("%q %q %q %q %q: %d %v %s: %s", path, kind, encoding, id, body, w.Code, w.Header(), w.Body, fmt.Sprintf(format, args...))
		}
		switch w.Code {
		case http.StatusOK:
			var in api.Receipt
			if err := json.Unmarshal(text, &in); err != nil || in.Received != in.Booked+in.Duplicate+in.Suspended {
				wrong("no receipt: %v", err)
			}
			if added := r.book.Head().Events; added != uint64(in.Booked+in.Suspended) {
				wrong("%d are in the book", added)
			}
			return
		case http.StatusMovedPermanently, http.StatusTemporaryRedirect, http.StatusPermanentRedirect:
			return // to the path without what is too much in it
		case http.StatusBadRequest, http.StatusNotFound, http.StatusRequestEntityTooLarge, http.StatusUnsupportedMediaType:
			if w.Header().Get("Retry-After") != "" {
				wrong("to come again in vain")
			}
		case http.StatusTooManyRequests:
		default:
			wrong("what is that?")
		}
		var problem struct {
			Title, Detail string
			Status        int
		}
		if err := json.Unmarshal(text, &problem, json.MatchCaseInsensitiveNames(true)); err != nil || problem.Status != w.Code || problem.Detail == "" {
			wrong("no problem: %v", err)
		}
		if slices.Index(text, '\n') != len(text)-1 || r.book.Head().Events != 0 {
			wrong("not refused in one line")
		}
	})
}
