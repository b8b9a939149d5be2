package alerts

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/nats-io/nats.go"

	"tollbook/consumers"
	"tollbook/domain"
)

// percents are those of all alerts, the oldest first.
func (r *rig) percents() (all []int) {
	r.t.Helper()
	for _, one := range slices.Backward(r.document().Alerts) {
		all = append(all, decoded(r.t, one.Event).Data.Percent)
	}
	return all
}

// TestKilled: whenever an engine is killed, every alert reaches its receiver, once
// unless it was on its way, and always with the same id.
func TestKilled(t *testing.T) {
	for _, c := range []struct {
		name string
		// until does what the engine got to, and returns what it left on disk.
		until func(*rig, *receiver) string
		times int // that the receiver gets the alert
	}{
		{"before it has looked", func(r *rig, _ *receiver) string {
			r.talk("contoso", 50)
			return copied(r.t, r.dir)
		}, 1},
		{"before anybody is told", func(r *rig, _ *receiver) string {
			r.alerted("contoso", 50)
			return copied(r.t, r.dir)
		}, 1},
		{"after an attempt that failed", func(r *rig, rec *receiver) string {
			rec.answers(status(500))
			r.alerted("contoso", 50)
			if _, err := r.senders[0].step(context.Background()); err != nil {
				r.t.Fatal(err)
			}
			return copied(r.t, r.dir)
		}, 2},
		{"while the receiver takes it", func(r *rig, rec *receiver) (dir string) {
			rec.answers(func(http.ResponseWriter, *http.Request) { dir = copied(r.t, r.dir) })
			r.alerted("contoso", 50)
			r.deliver()
			return dir
		}, 2},
		{"after that", func(r *rig, _ *receiver) string {
			r.alerted("contoso", 50)
			r.deliver()
			return copied(r.t, r.dir)
		}, 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			rec, hook := newReceiver(t, "finance")
			r := newRig(t, hook)
			r.license("contoso")
			r.killed(c.until(r, rec))
			if err := r.look(); err != nil {
				t.Fatal(err)
			}
			r.deliver()
			r.killed(copied(t, r.dir))
			if err := r.look(); err != nil {
				t.Fatal(err)
			}
			r.deliver()
			ids := rec.attempts()
			if len(ids) != c.times || len(slices.Compact(ids)) != 1 {
				t.Errorf("received %v, want it %d times", ids, c.times)
			}
			if diff := cmp.Diff([]int{50}, r.percents()); diff != "" {
				t.Errorf("alerts (-want +got):\n%s", diff)
			}
		})
	}
}

// TestOnce: what a correction takes back and another call reaches again is no new
// alert, also when the engine was started between.
func TestOnce(t *testing.T) {
	r := newRig(t)
	r.license("contoso")
	r.alerted("contoso", 85)
	call := r.events[len(r.events)-1]
	shorter := *call.Data.(*domain.Call)
	shorter.BillableMS = 60_000
	r.book(domain.Event{Tenant: "contoso", Source: "mediation", ID: "correction", Time: r.now, Data: &domain.Correction{
		Ref: domain.Ref{Source: call.Source, ID: call.ID}, Call: shorter, Reason: "wrong length",
	}})
	r.killed(copied(t, r.dir))
	r.alerted("contoso", 60)
	r.alerted("contoso", 22)
	if diff := cmp.Diff([]int{80}, r.percents()); diff != "" {
		t.Errorf("before it is reached anew (-want +got):\n%s", diff)
	}
	r.alerted("contoso", 17)
	if diff := cmp.Diff([]int{80, 100}, r.percents()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// TestEnlarged: what more licences have made room for is announced again when it is
// used up, also when the engine was started between.
func TestEnlarged(t *testing.T) {
	r := newRig(t)
	r.license("contoso")
	r.alerted("contoso", 100)
	r.book(domain.Event{Tenant: "contoso", Source: "desk", ID: "one more", Time: r.now, Data: &domain.Assignment{
		User: "bob", Plan: "HUNDRED", Country: "IT", EffectiveAt: domain.InstantOf(time.Date(2026, 9, 1, 0, 0, 0, 0, time.UTC)),
	}})
	r.alerted("contoso", 1) // of 200
	if diff := cmp.Diff([]int{100}, r.percents()); diff != "" {
		t.Errorf("with room again (-want +got):\n%s", diff)
	}
	r.alerted("contoso", 60)
	r.killed(copied(t, r.dir))
	r.alerted("contoso", 40)
	if diff := cmp.Diff([]int{100, 80, 100}, r.percents()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// TestBegin: a directory that had no file of alerts begins with what comes.
func TestBegin(t *testing.T) {
	r := newRig(t)
	r.license("contoso")
	r.talk("contoso", 55)
	r.killed(t.TempDir())
	r.alerted("contoso", 1)
	if diff := cmp.Diff([]int(nil), r.percents()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if !strings.Contains(r.log.String(), "is not announced") {
		t.Error(r.log.String())
	}
	r.killed(copied(t, r.dir))
	r.alerted("contoso", 30)
	if diff := cmp.Diff([]int{80}, r.percents()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// TestIDs: ids stay what they are, as listeners remember them.
func TestIDs(t *testing.T) {
	r := newRig(t)
	r.license("contoso")
	r.alerted("contoso", 80)
	r.endings = func(context.Context) ([]Ending, error) { return []Ending{endingOf("contoso", "2026-10")}, nil }
	r.config.Endings = r.endings
	if err := r.foresee(context.Background()); err != nil {
		t.Fatal(err)
	}
	d := r.document()
	var got []string
	for _, one := range d.Alerts {
		got = append(got, string(one.Event))
	}
	want := []string{
		`{"specversion":"1.0","id":"99ac3057-6642-5efb-883b-6e26c666a70e","source":"tollbook","type":"tollbook.pool.forecast.v1","time":"2026-10-20T09:00:00Z","tenant":"contoso",` +
			`"data":{"month":"2026-10","country":"IT","plan":"HUNDRED","bucket":"domestic","ends":"2026-10-29T15:04:00Z","ends_low":"2026-10-27T10:00:00Z","ends_high":null,` +
			`"granted_seconds":6000,"used_seconds":4800,"expected_seconds":7000,"overage_expected":1000,"position":4}}`,
		`{"specversion":"1.0","id":"8af216ba-b4a6-5ad7-bd44-066b3623d2f8","source":"tollbook","type":"tollbook.pool.threshold.v1","time":"2026-10-20T09:00:00Z","tenant":"contoso",` +
			`"data":{"month":"2026-10","country":"IT","plan":"HUNDRED","bucket":"domestic","percent":80,"granted_seconds":6000,"used_seconds":4800,"position":4}}`,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func endingOf(tenant, month string) Ending {
	low := month + "-27T10:00:00Z"
	return Ending{
		Tenant: tenant, Month: month, Country: "IT", Plan: "HUNDRED", Bucket: "domestic",
		Ends: month + "-29T15:04:00Z", EndsLow: &low, Granted: 6000, Used: 4800, Expected: 7000, Overage: 1000, Position: 4,
	}
}

// TestForecasts: the first forecast that sees a bucket's end is an alert, and no
// other of the month; what one tenant's forecast fails at holds up no other.
func TestForecasts(t *testing.T) {
	rec, hook := newReceiver(t, "finance")
	r := newRig(t, hook)
	look := func(failed error, all ...Ending) {
		t.Helper()
		r.config.Endings = func(context.Context) ([]Ending, error) { return all, failed }
		if err := r.foresee(context.Background()); !errors.Is(err, failed) {
			t.Fatal(err)
		}
		r.deliver()
	}
	wrong := errors.New("acme: a pool is not right")
	look(nil)
	look(nil, endingOf("contoso", "2026-10"))
	look(nil, endingOf("contoso", "2026-10"))
	look(nil) // it looks better now
	look(nil, endingOf("contoso", "2026-10"))
	look(wrong, endingOf("contoso", "2026-10"), endingOf("others", "2026-10"))
	r.killed(copied(t, r.dir))
	look(nil, endingOf("contoso", "2026-10"), endingOf("others", "2026-10"))
	look(nil, endingOf("contoso", "2026-11"))
	var got []string
	for _, e := range rec.got {
		got = append(got, e.Type+" "+e.Tenant+" "+e.Data.Ends)
	}
	if diff := cmp.Diff([]string{
		"tollbook.pool.forecast.v1 contoso 2026-10-29T15:04:00Z",
		"tollbook.pool.forecast.v1 others 2026-10-29T15:04:00Z",
		"tollbook.pool.forecast.v1 contoso 2026-11-29T15:04:00Z",
	}, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if got := r.Totals(); got.Forecasts != 1 || got.Thresholds != 0 { // since the last start
		t.Errorf("%+v", got)
	}
}

// TestNATS: NATS gets every alert, those of a time without it later.
func TestNATS(t *testing.T) {
	server, err := consumers.StartServer(consumers.ServerConfig{Dir: t.TempDir(), Listen: "127.0.0.1:0"})
	if err != nil {
		t.Fatal(err)
	}
	defer server.Shutdown()
	connect := func() *nats.Conn {
		conn, err := nats.Connect(server.ClientURL())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(conn.Close)
		return conn
	}
	ctx, broken, conn := context.Background(), connect(), connect()
	heard, err := conn.SubscribeSync("tollbook.>")
	if err == nil {
		err = conn.Flush()
	}
	if err != nil {
		t.Fatal(err)
	}
	r := newRig(t)
	r.license("contoso")
	r.alerted("contoso", 50)
	broken.Close()
	if err := r.say(ctx, broken); err == nil || r.document().Alerts[0].Published {
		t.Errorf("told nobody: %v", err)
	}
	r.killed(copied(t, r.dir))
	r.alerted("contoso", 30)
	for range 2 { // the second has nothing to say
		if err := r.say(ctx, conn); err != nil {
			t.Fatal(err)
		}
	}
	if err := conn.Flush(); err != nil {
		t.Fatal(err)
	}
	var got []string
	for {
		n, _, err := heard.Pending()
		if err != nil {
			t.Fatal(err)
		}
		if n == 0 {
			break
		}
		m, err := heard.NextMsg(time.Minute)
		if err != nil {
			t.Fatal(err)
		}
		if !consumers.Announcement(m.Subject, m.Data) {
			t.Errorf("on %s, it would be booked: %s", m.Subject, m.Data)
		}
		got = append(got, fmt.Sprint(m.Subject, " ", decoded(t, m.Data).Data.Percent))
	}
	if diff := cmp.Diff([]string{"tollbook.contoso.pool.threshold 50", "tollbook.contoso.pool.threshold 80"}, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if d := r.document(); !d.Alerts[0].Published || !d.Alerts[1].Published {
		t.Errorf("%+v", d)
	}
}

// TestDiskFull: what can't be stored is not said, and not forgotten.
func TestDiskFull(t *testing.T) {
	rec, hook := newReceiver(t, "finance")
	r := newRig(t, hook)
	r.license("contoso")
	pages := func(n int) {
		if _, err := r.store.db.Exec(fmt.Sprint("PRAGMA max_page_count = ", n)); err != nil {
			t.Fatal(err)
		}
	}
	pages(1) // as many as there are
	tenants := []string{"contoso"}
	for i := range 50 { // more than fits into what is free in those
		tenants = append(tenants, fmt.Sprint("tenant-", i))
		r.license(tenants[i+1])
	}
	for _, tenant := range tenants {
		r.talk(tenant, 50)
	}
	if err := r.look(); err == nil || !strings.Contains(err.Error(), "make room") {
		t.Fatalf("%v", err)
	}
	if n := len(r.document().Alerts); n != 0 {
		t.Errorf("%d alerts of a transaction that failed", n)
	}
	r.talk("contoso", 30)
	pages(1 << 20)
	for range 2 { // the first stores what was found before
		if err := r.look(); err != nil {
			t.Fatal(err)
		}
	}
	r.deliver()
	if n := len(rec.attempts()); n != len(tenants)+1 {
		t.Errorf("%d alerts were received", n)
	}
}

// TestDamaged: a file that is not right is refused in a line that says what to do.
func TestDamaged(t *testing.T) {
	r := newRig(t)
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(r.dir, FileName)
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
	for name, change := range map[string]func([]byte) []byte{
		"cut":       func(b []byte) []byte { return b[:len(b)-4096] },
		"a page":    func(b []byte) []byte { copy(b[4096:], make([]byte, 4096)); return b },
		"something": func([]byte) []byte { return []byte(strings.Repeat("nothing of ours\n", 1000)) },
		"another's": func(b []byte) []byte { copy(b[68:], "ELSE"); return b },
		"newer":     func(b []byte) []byte { b[63]++; return b },
	} {
		if err := os.WriteFile(path, change(slices.Clone(data)), 0o600); err != nil {
			t.Fatal(err)
		}
		a, err := Open(r.config)
		if err == nil {
			_ = a.Close()
			t.Errorf("%s: opened", name)
			continue
		}
		if line := err.Error(); strings.Contains(line, "\n") || !strings.Contains(line, path) || !strings.Contains(line, "move it away") && !strings.Contains(line, "use that one") {
			t.Errorf("%s: %s", name, line)
		}
	}
}

// TestExpire: what waits for a webhook that is in the file no more waits as long as
// others are tried; what is very old is forgotten, but not that it was announced.
func TestExpire(t *testing.T) {
	_, hook := newReceiver(t, "finance")
	r := newRig(t, hook)
	r.license("contoso")
	r.alerted("contoso", 50)
	r.hooks = nil
	r.killed(copied(t, r.dir))
	expire := func(after time.Duration) {
		t.Helper()
		r.now += domain.Instant(after)
		if err := r.store.expire(r.config.Webhooks, r.now); err != nil {
			t.Fatal(err)
		}
	}
	expire(tryFor)
	if diff := cmp.Diff([]string{StateWaiting}, r.states()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	expire(time.Second)
	if diff := cmp.Diff([]string{StateGivenUp}, r.states()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	all, err := r.store.unsaid()
	if err == nil {
		err = r.store.said(all)
	}
	if err != nil {
		t.Fatal(err)
	}
	expire(keepFor)
	r.killed(copied(t, r.dir))
	r.alerted("contoso", 1)
	if d := r.document(); len(d.Alerts) != 0 || len(d.Webhooks) != 0 {
		t.Errorf("%+v", d)
	}
}

// TestRead: the file tells, beside an engine or after it, what the engine does.
func TestRead(t *testing.T) {
	_, hook := newReceiver(t, "finance")
	r := newRig(t, hook)
	for _, tenant := range []string{"contoso", "acme"} {
		r.license(tenant)
		r.alerted(tenant, 50)
	}
	r.deliver()
	path := filepath.Join(r.dir, FileName)
	ctx := context.Background()
	for range 2 {
		d, err := Read(ctx, path, Request{Limit: 10})
		if diff := cmp.Diff(2, len(d.Alerts)); diff != "" || err != nil {
			t.Errorf("%v (-want +got):\n%s", err, diff)
		}
		if diff := cmp.Diff([]Status{{Webhook: "finance", Delivered: 2}}, d.Webhooks); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
		d, err = Read(ctx, path, Request{Tenant: "contoso", Limit: 10})
		if err != nil || len(d.Alerts) != 1 || decoded(t, d.Alerts[0].Event).Tenant != "contoso" {
			t.Errorf("%v, %+v", err, d)
		}
		if err := r.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if d, err := Read(ctx, path+"-none", Request{Limit: 1}); err != nil || len(d.Alerts) != 0 {
		t.Errorf("%v, %+v", err, d)
	}
	if _, err := os.Stat(path + "-none"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("reading made a file: %v", err)
	}
	for _, q := range []Request{{Tenant: "../x"}, {Limit: -1}, {Limit: MaxLimit + 1}} {
		if _, err := r.Document(ctx, q); !errors.Is(err, ErrRequest) {
			t.Errorf("%+v: %v", q, err)
		}
	}
}

// TestReadWebhooks: what is not understood is refused in one line without secrets.
func TestReadWebhooks(t *testing.T) {
	secret, _ := secretOf("k")
	good := fmt.Sprintf(`{"name":"finance","url":"https://finance.example/hook?token=hush","secrets":[%q],"tenants":["contoso"]}`, secret)
	one := func(old, new string) string {
		return `{"webhooks":[` + strings.Replace(good, old, new, 1) + `]}`
	}
	for _, c := range []struct{ name, text, says string }{
		{"good", one("", ""), ""},
		{"plain http", one("https", "http"), ""},
		{"an address of one's own", one("finance.example", "192.168.1.7:8443"), ""},
		{"nothing", ``, "not valid JSON"},
		{"a list", `[]`, "must be an object"},
		{"none", `{"webhooks":[]}`, "missing or empty"},
		{"broken off", one("", "")[:40], "not valid JSON"},
		{"an unknown name", one(`"tenants"`, `"tenant"`), `"webhooks.0.tenant": unknown name`},
		{"secret for secrets", one(fmt.Sprintf("[%q]", secret), fmt.Sprintf("%q", secret)), `"webhooks.0.secrets": is not what belongs here`},
		{"no secret", one(fmt.Sprintf("%q", secret), ""), "webhooks[0].secrets: must be a list of 1 to 3"},
		{"a short one", one(secret, "whsec_aHVzaA=="), "webhooks[0].secrets[0]: must be whsec_"},
		{"a bare one", one("whsec_", ""), "webhooks[0].secrets[0]: must be whsec_"},
		{"no base64", one(secret, "whsec_hush hush hush hush hush hush hush"), "webhooks[0].secrets[0]: must be whsec_"},
		{"no url", one("https://finance.example/hook?token=hush", "hush"), "webhooks[0].url: must be https://"},
		{"a file", one("https", "file"), "webhooks[0].url: must be https://"},
		{"a login", one("finance.example", "me:hush@finance.example"), "webhooks[0].url: must be without user@"},
		{"no name", one(`"name":"finance",`, ""), "webhooks[0].name"},
		{"a tenant", one("contoso", "Contoso"), "webhooks[0].tenants[0]"},
		{"twice", `{"webhooks":[` + good + "," + good + `]}`, "webhooks[1].name"},
		{"too many", `{"webhooks":[` + strings.Repeat(good+",", maxWebhooks) + good + `]}`, "may be at most 100"},
	} {
		path := webhooksFile(t, c.text)
		hooks, err := ReadWebhooks(path)
		if c.says == "" {
			if err != nil || len(hooks) != 1 || hooks[0].Clear() != (c.name == "plain http") {
				t.Errorf("%s: %v, %+v", c.name, err, hooks)
			}
			continue
		}
		if err == nil || !strings.Contains(err.Error(), c.says) || !strings.HasPrefix(err.Error(), path+": ") || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: %v, want %q", c.name, err, c.says)
		} else if strings.Contains(err.Error(), "hush") || strings.Contains(err.Error(), secret) {
			t.Errorf("%s: tells a secret: %v", c.name, err)
		}
	}
	open := webhooksFile(t, one("", ""))
	for mode, want := range map[os.FileMode]bool{0o600: true, 0o640: true, 0o644: false, 0o660: false} {
		if err := os.Chmod(open, mode); err != nil {
			t.Fatal(err)
		}
		if _, err := ReadWebhooks(open); (err == nil) != want {
			t.Errorf("mode %04o: %v", mode, err)
		}
	}
}
