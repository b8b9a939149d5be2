package main

import (
	"context"
	"encoding/base64"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	"github.com/nats-io/nats.go"
	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"

	"tollbook/api"
	"tollbook/api/alerts"
	"tollbook/consumers"
	"tollbook/domain"
)

// A listening is a receiver of webhooks, which verifies them as the public library
// says to.
type listening struct {
	*httptest.Server
	file string // for serve --webhooks

	mu      sync.Mutex
	refuses bool
	got     []announcement // each attempt
}

func startListening(t *testing.T) *listening {
	t.Helper()
	secret := "whsec_" + base64.StdEncoding.EncodeToString([]byte(strings.Repeat("k", 32)))
	verifier, err := standardwebhooks.NewWebhook(secret)
	if err != nil {
		t.Fatal(err)
	}
	l := &listening{}
	l.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err == nil {
			err = verifier.Verify(body, r.Header)
		}
		if err != nil {
			t.Errorf("%v: %s", err, body)
		}
		l.mu.Lock()
		defer l.mu.Unlock()
		l.got = append(l.got, decoded[announcement](t, string(body)))
		if l.refuses {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
	}))
	t.Cleanup(l.Close)
	l.file = writeFile(t, "webhooks.json", fmt.Appendf(nil, `{"webhooks":[{"name":"finance","url":%q,"secrets":[%q]}]}`, l.URL, secret))
	if err := os.Chmod(l.file, 0o600); err != nil {
		t.Fatal(err)
	}
	return l
}

// ids are the attempts by the percent they tell of: how often each id came.
func (l *listening) ids() map[int]map[string]int {
	l.mu.Lock()
	defer l.mu.Unlock()
	all := map[int]map[string]int{}
	for _, a := range l.got {
		if all[a.Data.Percent] == nil {
			all[a.Data.Percent] = map[string]int{}
		}
		all[a.Data.Percent][a.ID]++
	}
	return all
}

// TestServeKilled kills engines with SIGKILL right after calls were booked that
// bring a pool over a threshold, and while its receiver refuses: every alert comes.
func TestServeKilled(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	l, dir := startListening(t), t.TempDir()
	start := func() *process {
		return serve(t, dir, func(c *exec.Cmd) { c.Args = append(c.Args, "--webhooks", l.file) })
	}
	until := func(what string, holds func() bool) {
		t.Helper()
		for deadline := time.Now().Add(patience); !holds(); time.Sleep(2 * time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatalf("not within %v: %s; received %+v", patience, what, l.ids())
			}
		}
	}
	calls := 0
	for i, step := range []struct{ percent, minutes int64 }{{50, 60}, {80, 36}, {95, 18}, {100, 6}} {
		l.mu.Lock()
		l.refuses = i == 0
		l.mu.Unlock()
		p := start()
		nc, err := nats.Connect(p.nats)
		if err != nil {
			t.Fatal(err)
		}
		var events []domain.Event
		if i == 0 {
			events = licensed("contoso")
		}
		calls++
		events = append(events, someCall("contoso", fmt.Sprintf("call-%d", calls), "user000@contoso.example", step.minutes*60))
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		receipt, err := api.NewClient(nc).Publish(ctx, consumers.SubjectPrefix+"-.events", ndjson(events))
		cancel()
		if err != nil || receipt.Booked != len(events) {
			t.Fatalf("%+v, %v", receipt, err)
		}
		nc.Close()
		if i == 0 {
			until("the first was tried", func() bool { return len(l.ids()[50]) > 0 })
		} else {
			time.Sleep(time.Duration(random.IntN(int(300 * time.Millisecond))))
		}
		p.kill()
	}
	p := start()
	states := func() (states []string) {
		for _, one := range decoded[alerts.Document](t, done(t, "alerts", "--nats", p.nats, "--format", "json")).Alerts {
			for _, d := range one.Deliveries {
				states = append(states, d.State)
			}
		}
		return states
	}
	want := []string{alerts.StateDelivered, alerts.StateDelivered, alerts.StateDelivered, alerts.StateDelivered}
	until("all are delivered", func() bool { return cmp.Equal(want, states()) })
	ids := l.ids()
	for _, percent := range []int{50, 80, 95, 100} {
		if len(ids[percent]) != 1 {
			t.Errorf("%d %%: %v", percent, ids[percent])
		}
	}
	if len(ids) != 4 {
		t.Errorf("%v", ids)
	}
	p.kill()
}

// TestForecastAlert: an engine that finds that a pool will end says so once, over
// NATS and to webhooks, and books nothing of it. The command tells of it.
func TestForecastAlert(t *testing.T) {
	r, clock := newRigAt(t, "2026-10-12T08:00:00Z")
	r.book(licensed("contoso")...)
	for n := range 9 { // of 120 minutes in the pool
		r.book(callAt("contoso", fmt.Sprint("call", n), fmt.Sprintf("2026-10-%02dT09:00:00Z", 1+n), 480))
	}
	forecasts := func() (n int) {
		d := decoded[alerts.Document](t, r.ask("alerts", "--tenant", "contoso", "--format", "json"))
		for _, one := range d.Alerts {
			if !one.Published {
				return 0
			}
			if strings.Contains(string(one.Event), `"tollbook.pool.forecast.v1"`) {
				n++
			}
		}
		return n
	}
	r.restart() // a start looks at once
	r.until("it is forecast", func() bool { return forecasts() == 1 })
	clock.set("2026-10-13T08:00:00Z")
	r.restart()
	r.talkUntilTold("2026-10-13T07:00:00Z", 25*60) // of 97 used so far
	if n := forecasts(); n != 1 {
		t.Errorf("forecast %d times", n)
	}
	r.drained()
	if tenant := r.intake("contoso"); tenant.Suspended != 0 || tenant.Booked != 13 {
		t.Errorf("%+v", tenant)
	}

	online := r.ask("alerts", "--format", "json")
	if diff := cmp.Diff(online, done(t, "alerts", "--data", r.dir, "--format", "json")); diff != "" {
		t.Errorf("-online +offline:\n%s", diff)
	}
	text := r.ask("alerts")
	for line := range strings.Lines(text) {
		if n := utf8.RuneCountInString(line); n > 121 {
			t.Errorf("%d columns: %s", n, line)
		}
	}
	if !strings.Contains(text, "2026-10-12 08:00  contoso  2026-10  IT DOMESTIC_120 domestic  ends 2026-10-") || !strings.Contains(text, "80 % used") {
		t.Errorf("%s", text)
	}
	if text := r.ask("alerts", "--limit", "1"); strings.Count(text, "contoso") != 1 {
		t.Errorf("%s", text)
	}
	refused(t, exitUsage, "--limit 0: must be 1 to 1000", "alerts", "--limit", "0")
	refused(t, exitUsage, "tenant", "alerts", "--tenant", "A B")
}

// talkUntilTold books a call, and waits until a threshold is announced.
func (r *rig) talkUntilTold(at string, seconds int64) {
	r.t.Helper()
	heard, err := r.nc.SubscribeSync("tollbook.*.pool.threshold")
	if err == nil {
		err = r.nc.Flush()
	}
	if err != nil {
		r.t.Fatalf("%v", err)
	}
	r.book(callAt("contoso", "last", at, seconds))
	if _, err := heard.NextMsg(patience); err != nil {
		r.t.Fatalf("nothing is announced: %v", err)
	}
	r.until("it is noted that NATS has it", func() bool {
		for _, one := range decoded[alerts.Document](r.t, r.ask("alerts", "--format", "json")).Alerts {
			if !one.Published {
				return false
			}
		}
		return true
	})
}

// TestWebhooksRefused: serve does not start with webhooks that it does not understand.
func TestWebhooksRefused(t *testing.T) {
	serve := func(file string) []string {
		return []string{"serve", "--data", filepath.Join(t.TempDir(), "data"), "--nats-listen", "127.0.0.1:0", "--http", "", "--webhooks", file}
	}
	refused(t, exitFailed, "--webhooks: open /nowhere/webhooks.json", serve("/nowhere/webhooks.json")...)
	file := writeFile(t, "webhooks.json", []byte(`{"webhooks":[]}`))
	refused(t, exitFailed, "chmod 600", serve(file)...)
	if err := os.Chmod(file, 0o600); err != nil {
		t.Fatal(err)
	}
	refused(t, exitFailed, "--webhooks: "+file+": webhooks: is missing or empty", serve(file)...)
}
