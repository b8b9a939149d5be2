package alerts

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-json-experiment/json"

	"tollbook/domain"
	"tollbook/eventstore"
	"tollbook/projections"
)

// secretOf is a secret, and the key that it stands for.
func secretOf(letter string) (secret string, key []byte) {
	key = []byte(strings.Repeat(letter, 32))
	return secretPrefix + base64.StdEncoding.EncodeToString(key), key
}

// A rig is what alerts are made from: months that calls are booked into, a clock that
// stands still until it is set, and a data directory.
type rig struct {
	*Announcer
	t        *testing.T
	dir      string
	months   *projections.Months
	events   []domain.Event
	position uint64
	now      domain.Instant
	jitter   float64
	hooks    []Webhook
	endings  func(context.Context) ([]Ending, error)
	log      bytes.Buffer
}

func newRig(t *testing.T, hooks ...Webhook) *rig {
	t.Helper()
	r := &rig{
		t: t, dir: t.TempDir(), months: projections.NewMonths(), jitter: 0.5, hooks: hooks,
		now: domain.InstantOf(time.Date(2026, 10, 20, 9, 0, 0, 0, time.UTC)),
	}
	r.open()
	return r
}

func (r *rig) open() {
	r.t.Helper()
	a, err := Open(Config{
		Dir: r.dir, Months: r.months, Endings: r.endings, Webhooks: slices.Clone(r.hooks), Program: "test", Timeout: 200 * time.Millisecond,
		Clock: func() domain.Instant { return r.now }, Jitter: func() float64 { return r.jitter },
		Log: slog.New(slog.NewTextHandler(&r.log, nil)),
	})
	if err != nil {
		r.t.Fatal(err)
	}
	r.Announcer = a
	r.t.Cleanup(func() { _ = a.Close() })
}

// copied is a directory as it is on disk at this moment, whoever is writing to it.
func copied(t *testing.T, dir string) string {
	t.Helper()
	to := t.TempDir()
	if err := os.CopyFS(to, os.DirFS(dir)); err != nil {
		t.Fatal(err)
	}
	return to
}

// killed goes on with what a directory had at some moment, and the book has now.
func (r *rig) killed(dir string) {
	r.t.Helper()
	r.dir, r.months = dir, projections.NewMonths()
	r.months.Follow(eventstore.Update{Head: eventstore.Head{Block: 1, Events: r.position}, First: 1, Events: r.events})
	r.open()
}

func (r *rig) book(events ...domain.Event) {
	first := r.position + 1
	r.position += uint64(len(events))
	r.events = append(r.events, events...)
	r.months.Follow(eventstore.Update{Head: eventstore.Head{Block: r.position, Events: r.position}, First: first, Events: events})
}

// license gives a tenant a pool of 100 minutes.
func (r *rig) license(tenant string) {
	at := domain.InstantOf(time.Date(2026, 9, 1, 0, 0, 0, 0, time.UTC))
	event := func(id string, data domain.Data) domain.Event {
		return domain.Event{Tenant: tenant, Source: "desk", ID: id, Time: at, Data: data}
	}
	r.book(event("plan", &domain.Plan{
		Plan: "HUNDRED", Name: "A hundred", EffectiveFrom: 20260101, Kinds: []string{domain.KindUser}, Deck: "standard", Increment: domain.DefaultIncrement,
		Buckets: []domain.Bucket{{Name: "domestic", Minutes: map[string]int64{domain.AnyCountry: 100}}},
	}), event("deck", &domain.Deck{
		Deck: "standard", Version: "1", EffectiveFrom: at, Currency: "EUR", Part: 1, Parts: 1,
		Rows: []domain.Row{{Prefix: "39", Country: "IT", Name: "Italy", RowType: "landline", Price: 16_000, Increment: domain.DefaultIncrement}},
	}), event("licence", &domain.Assignment{User: "ada", Plan: "HUNDRED", Country: "IT", EffectiveAt: at}))
}

// talk books a call of so many minutes.
func (r *rig) talk(tenant string, minutes int64) {
	called, err := domain.ParseNumber("+390612345678")
	if err != nil {
		r.t.Fatal(err)
	}
	r.book(domain.Event{Tenant: tenant, Source: "switch", ID: fmt.Sprint("call-", r.position), Time: r.now, Data: &domain.Call{
		User: "ada", Kind: domain.KindUser, Direction: domain.Outbound, Called: called, AnsweredAt: r.now, BillableMS: minutes * 60_000,
	}})
}

// alerted has a tenant's pool reach a threshold, and the alert stored.
func (r *rig) alerted(tenant string, minutes int64) {
	r.t.Helper()
	r.talk(tenant, minutes)
	if err := r.look(); err != nil {
		r.t.Fatal(err)
	}
}

// deliver has the first webhook work until nothing waits for it any more, and
// returns how long that took by the clock.
func (r *rig) deliver() time.Duration {
	r.t.Helper()
	began := r.now
	for {
		wait, err := r.senders[0].step(context.Background())
		if err != nil {
			r.t.Fatal(err)
		}
		d, err := r.store.next(r.hooks[0].Name)
		if err != nil {
			r.t.Fatal(err)
		}
		if d == nil {
			return time.Duration(r.now - began)
		}
		r.now += domain.Instant(wait)
	}
}

func (r *rig) document() Document {
	r.t.Helper()
	d, err := r.Document(context.Background(), Request{})
	if err != nil {
		r.t.Fatal(err)
	}
	return d
}

// states are what became of alerts for the first webhook, the oldest first.
func (r *rig) states() (all []string) {
	r.t.Helper()
	for _, one := range slices.Backward(r.document().Alerts) {
		all = append(all, one.Deliveries[0].State)
	}
	return all
}

// eventOf is what an alert says.
type eventOf struct {
	ID     string `json:"id"`
	Type   string `json:"type"`
	Time   string `json:"time"`
	Tenant string `json:"tenant"`
	Data   struct {
		Percent int    `json:"percent"`
		Ends    string `json:"ends"`
	} `json:"data"`
}

func decoded(t *testing.T, body []byte) (e eventOf) {
	t.Helper()
	if err := json.Unmarshal(body, &e); err != nil {
		t.Fatalf("%v: %s", err, body)
	}
	return e
}

// A receiver is somebody else's HTTP server that checks what it is sent by the
// specification, and answers as it is told.
type receiver struct {
	*httptest.Server
	t    *testing.T
	keys [][]byte // each of which has to have signed

	mu     sync.Mutex
	answer http.HandlerFunc // nil: 204
	got    []eventOf        // each attempt
	stamps []string         // of webhook-timestamp
}

func newReceiver(t *testing.T, name string, secrets ...string) (*receiver, Webhook) {
	t.Helper()
	rec := &receiver{t: t}
	hook := Webhook{Name: name}
	for _, letter := range append([]string{"k"}, secrets...) {
		secret, key := secretOf(letter)
		hook.Secrets, rec.keys = append(hook.Secrets, secret), append(rec.keys, key)
	}
	rec.Server = httptest.NewServer(http.HandlerFunc(rec.serve))
	t.Cleanup(rec.Close)
	hook.URL = rec.URL + "/alerts?token=hush"
	return rec, hook
}

func (rec *receiver) serve(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		rec.t.Error(err)
	}
	id, stamp := r.Header.Get("webhook-id"), r.Header.Get("webhook-timestamp")
	var want []string
	for _, key := range rec.keys {
		mac := hmac.New(sha256.New, key)
		fmt.Fprintf(mac, "%s.%s.%s", id, stamp, body)
		want = append(want, "v1,"+base64.StdEncoding.EncodeToString(mac.Sum(nil)))
	}
	if got := r.Header.Get("webhook-signature"); got != strings.Join(want, " ") {
		rec.t.Errorf("signed %q, want %q", got, want)
	}
	if r.Method != http.MethodPost || r.Header.Get("Content-Type") != contentType || r.Header.Get("User-Agent") != "Tollbook/test" {
		rec.t.Errorf("%s of %q by %q", r.Method, r.Header.Get("Content-Type"), r.Header.Get("User-Agent"))
	}
	e := decoded(rec.t, body)
	if e.ID != id {
		rec.t.Errorf("webhook-id %s of the event %s", id, e.ID)
	}
	rec.mu.Lock()
	rec.got, rec.stamps = append(rec.got, e), append(rec.stamps, stamp)
	answer := rec.answer
	rec.mu.Unlock()
	if answer == nil {
		w.WriteHeader(http.StatusNoContent)
		return
	}
	answer(w, r)
}

// answers gives one answer after the other, and 204 then.
func (rec *receiver) answers(all ...http.HandlerFunc) {
	rec.mu.Lock()
	defer rec.mu.Unlock()
	rec.answer = func(w http.ResponseWriter, r *http.Request) {
		rec.mu.Lock()
		next := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) })
		if len(all) > 0 {
			next, all = all[0], all[1:]
		}
		rec.mu.Unlock()
		next(w, r)
	}
}

// attempts are the ids of what was sent, in order.
func (rec *receiver) attempts() (ids []string) {
	rec.mu.Lock()
	defer rec.mu.Unlock()
	for _, e := range rec.got {
		ids = append(ids, e.ID)
	}
	return ids
}

func status(code int, headers ...string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		for i := 0; i < len(headers); i += 2 {
			w.Header().Set(headers[i], headers[i+1])
		}
		w.WriteHeader(code)
	}
}

func webhooksFile(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "webhooks.json")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}
