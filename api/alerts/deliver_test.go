package alerts

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"

	"tollbook/domain"
)

// TestDeliveries: what receivers may do, what becomes of the alert, and when.
func TestDeliveries(t *testing.T) {
	var elsewhere *receiver
	hang := func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }
	for _, c := range []struct {
		name     string
		answers  []http.HandlerFunc
		state    string
		attempts []string // status or error of each
		took     time.Duration
	}{
		{"takes it", nil, StateDelivered, []string{"204"}, 0},
		{"any 2xx", []http.HandlerFunc{status(299)}, StateDelivered, []string{"299"}, 0},
		{"500, then 200", []http.HandlerFunc{status(500), status(200)}, StateDelivered, []string{"answered 500", "200"}, 3750 * time.Millisecond},
		{"500 and 404, then 200", []http.HandlerFunc{status(500), status(404), status(200)}, StateDelivered, []string{"answered 500", "answered 404", "200"}, (3750 + 7500) * time.Millisecond},
		{"no answer in time", []http.HandlerFunc{hang}, StateDelivered, []string{"no answer in time", "204"}, 3750 * time.Millisecond},
		{"the connection breaks", []http.HandlerFunc{func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }}, StateDelivered, []string{"EOF", "204"}, 3750 * time.Millisecond},
		{"asks for two minutes", []http.HandlerFunc{status(429, "Retry-After", "120")}, StateDelivered, []string{"answered 429", "204"}, 2 * time.Minute},
		{"asks for a time", []http.HandlerFunc{status(503, "Retry-After", "Tue, 20 Oct 2026 09:30:00 GMT")}, StateDelivered, []string{"answered 503", "204"}, 30 * time.Minute},
		{"asks for less", []http.HandlerFunc{status(503, "Retry-After", "1")}, StateDelivered, []string{"answered 503", "204"}, 3750 * time.Millisecond},
		{"asks for a year", []http.HandlerFunc{status(503, "Retry-After", "31536000")}, StateDelivered, []string{"answered 503", "204"}, 24 * time.Hour},
		{"asks for nonsense", []http.HandlerFunc{status(503, "Retry-After", "-7 days")}, StateDelivered, []string{"answered 503", "204"}, 3750 * time.Millisecond},
		{"sends it elsewhere", []http.HandlerFunc{func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, elsewhere.URL, http.StatusTemporaryRedirect)
		}}, StateDelivered, []string{"answered 307: redirects are not followed: put the new address into the file", "204"}, 3750 * time.Millisecond},
		{"answers without end", []http.HandlerFunc{func(w http.ResponseWriter, r *http.Request) {
			for r.Context().Err() == nil {
				_, _ = w.Write(make([]byte, 32<<10))
			}
		}}, StateDelivered, []string{"200"}, 0},
		{"wants no more", []http.HandlerFunc{status(410)}, StateGone, []string{"answered 410"}, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			elsewhere, _ = newReceiver(t, "elsewhere")
			rec, hook := newReceiver(t, "finance", "o")
			rec.answers(c.answers...)
			r := newRig(t, hook)
			r.license("contoso")
			r.alerted("contoso", 50)
			if took := r.deliver(); took != c.took {
				t.Errorf("it took %v by the clock, want %v", took, c.took)
			}
			one := r.document().Alerts[0].Deliveries[0]
			var attempts []string
			for _, a := range one.Attempts {
				if a.Error == "" {
					a.Error = fmt.Sprint(a.Status)
				}
				attempts = append(attempts, a.Error)
			}
			if diff := cmp.Diff(c.attempts, attempts); diff != "" || one.State != c.state {
				t.Errorf("%s, attempts (-want +got):\n%s", one.State, diff)
			}
			if got := rec.attempts(); len(got) != len(c.attempts) || len(elsewhere.attempts()) != 0 {
				t.Errorf("received %v and elsewhere %v", got, elsewhere.attempts())
			}
			for _, id := range rec.attempts() {
				if id != rec.got[0].ID {
					t.Errorf("the id has changed: %v", rec.attempts())
				}
			}
			if strings.Contains(r.log.String(), "hush") || strings.Contains(r.log.String(), rec.URL) {
				t.Errorf("the address is in the log:\n%s", r.log.String())
			}
		})
	}
}

// TestRefused: nobody listens, until somebody does.
func TestRefused(t *testing.T) {
	rec, hook := newReceiver(t, "finance")
	address := rec.Listener.Addr().String()
	rec.Close()
	r := newRig(t, hook)
	r.license("contoso")
	r.alerted("contoso", 50)
	for range 3 {
		if wait, err := r.senders[0].step(context.Background()); wait != 0 || err != nil {
			t.Fatal(wait, err)
		}
		r.now += domain.Instant(time.Hour)
	}
	one := r.document().Alerts[0].Deliveries[0]
	if len(one.Attempts) != 3 || one.State != StateWaiting || !strings.Contains(one.Attempts[0].Error, "refused") || strings.Contains(one.Attempts[0].Error, "hush") {
		t.Fatalf("%+v", one)
	}
	if warned := strings.Count(r.log.String(), "level=WARN"); warned != 1 {
		t.Errorf("%d warnings:\n%s", warned, r.log.String())
	}
	listener, err := net.Listen("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	again := httptest.NewUnstartedServer(http.HandlerFunc(rec.serve))
	again.Listener = listener
	again.Start()
	defer again.Close()
	r.deliver()
	if diff := cmp.Diff([]string{StateDelivered}, r.states()); diff != "" || len(rec.attempts()) != 1 {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// TestGivenUp: an alert that nobody takes is tried less and less often, for the last
// time when three days are over, and then known as given up.
func TestGivenUp(t *testing.T) {
	for _, jitter := range []float64{0, 0.999} {
		rec, hook := newReceiver(t, "finance")
		rec.answer = status(500)
		r := newRig(t, hook)
		r.jitter = jitter
		r.license("contoso")
		r.alerted("contoso", 50)
		if took := r.deliver(); took != tryFor {
			t.Errorf("given up after %v", took)
		}
		n := len(rec.attempts())
		if n < 30 || n > 70 {
			t.Errorf("%d attempts", n)
		}
		if diff := cmp.Diff([]string{StateGivenUp}, r.states()); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
		if got := r.Totals().Webhooks["finance"]; got != (Counts{Failed: uint64(n), Lost: 1}) {
			t.Errorf("%+v", got)
		}
		if !strings.Contains(r.log.String(), `level=ERROR msg="alert given up"`) {
			t.Error(r.log.String())
		}
		var stamps []string
		for i, a := range r.document().Alerts[0].Deliveries[0].Attempts {
			at, err := time.Parse(time.RFC3339Nano, a.At)
			if err != nil {
				t.Fatal(i, err)
			}
			stamps = append(stamps, fmt.Sprint(at.Unix()))
		}
		if diff := cmp.Diff(stamps, rec.stamps); diff != "" {
			t.Errorf("webhook-timestamp is of the attempt (-want +got):\n%s", diff)
		}
	}
}

// TestAskedToWait: what a receiver asks for by Retry-After holds for all alerts.
func TestAskedToWait(t *testing.T) {
	rec, hook := newReceiver(t, "finance")
	rec.answers(status(429, "Retry-After", "600"))
	r := newRig(t, hook)
	r.license("contoso")
	r.alerted("contoso", 50)
	if _, err := r.senders[0].step(context.Background()); err != nil {
		t.Fatal(err)
	}
	r.alerted("contoso", 30)
	if wait, err := r.senders[0].step(context.Background()); wait != maxSleep || err != nil || len(rec.attempts()) != 1 {
		t.Errorf("%v, %v, %d attempts", wait, err, len(rec.attempts()))
	}
	if took := r.deliver(); took != 10*time.Minute || len(rec.attempts()) != 3 {
		t.Errorf("after %v, %d attempts", took, len(rec.attempts()))
	}
}

// TestGone: a webhook that wants no more gets none, neither what waits nor what
// comes, also after a restart, until its address is another. Others get theirs.
func TestGone(t *testing.T) {
	rec, hook := newReceiver(t, "finance")
	other, otherHook := newReceiver(t, "other")
	rec.answers(status(500), status(410))
	r := newRig(t, hook, otherHook)
	r.license("contoso")
	r.alerted("contoso", 50)
	if _, err := r.senders[0].step(context.Background()); err != nil {
		t.Fatal(err)
	}
	r.alerted("contoso", 30)
	r.deliver()
	r.killed(copied(t, r.dir))
	r.alerted("contoso", 15)
	if diff := cmp.Diff([]string{StateGone, StateGone, StateGone}, r.states()); diff != "" || len(rec.attempts()) != 2 {
		t.Errorf("%d attempts (-want +got):\n%s", len(rec.attempts()), diff)
	}
	if gone := r.document().Webhooks[0]; gone.Gone == "" || gone.Undelivered != 3 {
		t.Errorf("%+v", gone)
	}
	for range 3 {
		if _, err := r.senders[1].step(context.Background()); err != nil {
			t.Fatal(err)
		}
	}
	if len(other.attempts()) != 3 {
		t.Errorf("the other got %v", other.attempts())
	}
	r.hooks[0].URL += "&again"
	r.killed(copied(t, r.dir))
	r.alerted("contoso", 5)
	r.deliver()
	if diff := cmp.Diff([]string{StateGone, StateGone, StateGone, StateDelivered}, r.states()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// TestFull: of more alerts than may wait, the rest is refused, and that is said,
// counted and kept.
func TestFull(t *testing.T) {
	rec, hook := newReceiver(t, "finance")
	r := newRig(t, hook)
	r.store.maxOutstanding = 2
	for _, tenant := range []string{"a", "b", "c"} {
		r.license(tenant)
		r.alerted(tenant, 50)
	}
	if diff := cmp.Diff([]string{StateWaiting, StateWaiting, StateFull}, r.states()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if got := r.Totals().Webhooks["finance"]; got != (Counts{Lost: 1, Waiting: 2}) {
		t.Errorf("%+v", got)
	}
	if !strings.Contains(r.log.String(), `level=ERROR msg="alerts are not delivered: too many wait for this webhook already; 'tollbook alerts' has them" webhook=finance alerts=1`) {
		t.Error(r.log.String())
	}
	r.deliver()
	r.license("d")
	r.alerted("d", 50)
	r.deliver()
	if diff := cmp.Diff([]string{StateDelivered, StateDelivered, StateFull, StateDelivered}, r.states()); diff != "" || len(rec.attempts()) != 3 {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// TestTenants: a webhook gets the alerts of its tenants.
func TestTenants(t *testing.T) {
	rec, hook := newReceiver(t, "finance")
	hook.Tenants = []string{"acme", "contoso"}
	r := newRig(t, hook)
	for _, tenant := range []string{"contoso", "others", "acme"} {
		r.license(tenant)
		r.alerted(tenant, 50)
	}
	r.deliver()
	if len(rec.got) != 2 || rec.got[0].Tenant != "contoso" || rec.got[1].Tenant != "acme" {
		t.Errorf("%+v", rec.got)
	}
}

// TestSignature compares with the example of the public libraries, and has theirs
// verify ours.
func TestSignature(t *testing.T) {
	hook := Webhook{Name: "finance", URL: "https://example.com", Secrets: []string{"whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"}}
	if err := hook.prepare(); err != nil {
		t.Fatal(err)
	}
	const id, stamp, body = "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, `{"test": 2432232314}`
	signature, err := hook.sign(id, time.Unix(stamp, 0), []byte(body))
	if want := "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="; signature != want || err != nil {
		t.Errorf("%s, %v; want %s", signature, err, want)
	}
	reader, err := standardwebhooks.NewWebhook(hook.Secrets[0])
	if err != nil {
		t.Fatal(err)
	}
	headers := http.Header{}
	for name, value := range map[string]string{"webhook-id": id, "webhook-timestamp": fmt.Sprint(stamp), "webhook-signature": "v1,older " + signature} {
		headers.Set(name, value)
	}
	if err := reader.VerifyIgnoringTimestamp([]byte(body), headers); err != nil {
		t.Error(err)
	}
	if err := reader.VerifyIgnoringTimestamp([]byte(body+" "), headers); err == nil {
		t.Error("what was changed is verified")
	}
}
