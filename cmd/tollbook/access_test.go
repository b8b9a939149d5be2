package main

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	natsd "github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	natsjs "github.com/nats-io/nats.go/jetstream"

	"tollbook/api"
	"tollbook/consumers"
	"tollbook/domain"
)

// A guarded is a running engine with users, made as an administrator makes them.
type guarded struct {
	*Engine
	t       *testing.T
	dir     string
	auth    string            // the access file
	secrets map[string]string // password, or file with the seed
}

// users of a guarded engine, in the order of the tables below.
var guardedUsers = []string{"mil-1", "rom-1", "acme-mil-1", "anna", "bob", "bi"}

func newGuarded(t *testing.T) *guarded {
	t.Helper()
	g := &guarded{t: t, dir: t.TempDir(), secrets: map[string]string{}}
	g.auth = filepath.Join(t.TempDir(), "auth.json")
	g.add("mil-1", "add-switch", "--tenant", "contoso", "--switch", "mil-1")
	g.add("rom-1", "add-switch", "--tenant", "contoso", "--switch", "rom-1", "--password")
	g.add("acme-mil-1", "add-switch", "--tenant", "acme", "--switch", "mil-1", "--name", "acme-mil-1")
	g.add("anna", "add-operator", "anna", "--password")
	g.add("bob", "add-operator", "bob")
	g.add("bi", "add-reader", "bi")
	access, err := consumers.ReadAccess(g.auth)
	if err != nil {
		t.Fatal(err)
	}
	g.Engine, err = StartEngine(context.Background(), EngineConfig{
		Dir: g.dir, NATSListen: "127.0.0.1:0", NATSSync: time.Minute, Access: &access,
		Clock: clock, Log: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := g.Stop(); err != nil {
			t.Errorf("stopping: %v", err)
		}
	})
	return g
}

var printedPassword = regexp.MustCompile(`(?m)^password +(\S+)`)

// add runs tollbook access and keeps the secret it makes.
func (g *guarded) add(name string, args ...string) {
	g.t.Helper()
	args = append([]string{"access"}, append(args, "--auth", g.auth)...)
	if slices.Contains(args, "--password") {
		g.secrets[name] = printedPassword.FindStringSubmatch(done(g.t, args...))[1]
		return
	}
	g.secrets[name] = filepath.Join(filepath.Dir(g.auth), name+".seed")
	done(g.t, append(args, "--out", g.secrets[name])...)
}

// login is how a user connects.
func (g *guarded) login(name string) natsLogin {
	if filepath.IsAbs(g.secrets[name]) {
		return natsLogin{User: name, NKey: g.secrets[name]}
	}
	return natsLogin{User: name, Password: g.secrets[name]}
}

// flags are the same for a command.
func (g *guarded) flags(name string) []string {
	l := g.login(name)
	if l.NKey != "" {
		return []string{"--nats", g.NATSAddress, "--nats-user", name, "--nkey", l.NKey}
	}
	return []string{"--nats", g.NATSAddress, "--nats-user", name, "--nats-password", l.Password}
}

func (g *guarded) connect(name string) *nats.Conn {
	g.t.Helper()
	options, err := g.login(name).options()
	if err != nil {
		g.t.Fatal(err)
	}
	nc, err := nats.Connect(g.NATSAddress, append(options, nats.ErrorHandler(func(*nats.Conn, *nats.Subscription, error) {}))...)
	if err != nil {
		g.t.Fatalf("%s: %v", name, err)
	}
	g.t.Cleanup(nc.Close)
	return nc
}

// lastSequence is how many messages the stream ever took.
func (g *guarded) lastSequence() uint64 {
	g.t.Helper()
	js, err := natsjs.New(g.Conn)
	if err != nil {
		g.t.Fatal(err)
	}
	stream, err := js.Stream(context.Background(), consumers.StreamName)
	if err != nil {
		g.t.Fatal(err)
	}
	return stream.CachedInfo().State.LastSeq
}

// attempt tries an action and reports whether the server refused it. The
// server answers in order, so a refusal comes before the answer to a flush.
func attempt(t *testing.T, nc *nats.Conn, action, subject string) (refused bool) {
	t.Helper()
	before := nc.LastError()
	switch action {
	case "publish":
		if err := nc.Publish(subject, []byte("{}")); err != nil {
			t.Fatal(err)
		}
	case "listen", "share":
		sub, err := nc.SubscribeSync(subject)
		if action == "share" {
			sub, err = nc.QueueSubscribeSync(subject, "q") // q is the service's own group
		}
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = sub.Unsubscribe() }()
	}
	if err := nc.FlushTimeout(patience); err != nil {
		t.Fatal(err)
	}
	after := nc.LastError()
	if after != nil && !errors.Is(after, nats.ErrPermissionViolation) {
		t.Fatalf("%s %s: %v", action, subject, after)
	}
	return after != before
}

// TestWhoMayDoWhat: every user tries everything. What is not in a user's row is
// refused by the server, and nothing of it arrives anywhere.
func TestWhoMayDoWhat(t *testing.T) {
	const (
		operators = "anna bob"
		askers    = "anna bob bi"
	)
	table := []struct{ action, subject, allowed string }{
		// A switch publishes as itself.
		{"publish", "tollbook.contoso.cdr.cloudevents.mil-1", "mil-1 anna bob"},
		{"publish", "tollbook.contoso.cdr.kamailio.mil-1", "mil-1 anna bob"},
		{"publish", "tollbook.contoso.cdr.cloudevents.rom-1", "rom-1 anna bob"},
		{"publish", "tollbook.acme.cdr.cloudevents.mil-1", "acme-mil-1 anna bob"},
		{"publish", "tollbook-api.publish.contoso.cdr.cloudevents.mil-1", "mil-1 anna bob"},
		{"publish", "tollbook-api.publish.contoso.cdr.cloudevents.rom-1", "rom-1 anna bob"},
		{"publish", "tollbook-api.publish.acme.cdr.kamailio.mil-1", "acme-mil-1 anna bob"},
		// What else is intake.
		{"publish", "tollbook.contoso.cdr.mil-1", operators},
		{"publish", "tollbook.contoso.cdr.cloudevents.mil-1.x", operators},
		{"publish", "tollbook.contoso.cdr.cloudevents.mil-10", operators},
		{"publish", "tollbook.contoso.call.completed", operators},
		{"publish", "tollbook.contoso.call.voided", operators},
		{"publish", "tollbook.contoso.license.assigned", operators},
		{"publish", "tollbook.contoso.switch.configured", operators},
		{"publish", "tollbook.catalog.deck.published", operators},
		{"publish", "tollbook.contoso.events", operators},
		{"publish", "tollbook-api.publish.-.events", operators},
		{"publish", "tollbook-api.publish.contoso.events", operators},
		{"publish", "tollbook-api.publish.contoso.license.assigned", operators},
		// Asking.
		{"publish", "tollbook-api.pools", askers},
		{"publish", "tollbook-api.invoice", askers},
		{"publish", "tollbook-api.status", askers},
		{"publish", "tollbook-api.suspense.list", askers},
		{"publish", "tollbook-api.gaps", askers},
		{"publish", "tollbook-api.nothing", ""},
		// Acting under one's own name.
		{"publish", "tollbook-api.as.anna.suspense.write-off", "anna"},
		{"publish", "tollbook-api.as.bob.suspense.write-off", "bob"},
		{"publish", "tollbook-api.as.bi.suspense.write-off", ""},
		{"publish", "tollbook-api.as.mil-1.suspense.write-off", ""},
		{"publish", "tollbook-api.as.anna.gaps.waive", "anna"},
		{"publish", "tollbook-api.as.anna", ""},
		// The engine's own words.
		{"publish", "tollbook.contoso.pool.threshold", ""},
		{"publish", "tollbook.contoso.pool.forecast", ""},
		{"publish", "tollbook-anchor.contoso", ""},
		{"publish", "_INBOX_anna.x", ""},
		{"publish", "_INBOX_mil-1.x", ""},
		{"publish", "_INBOX.x", ""},
		// NATS itself.
		{"publish", "$JS.API.INFO", ""},
		{"publish", "$JS.API.STREAM.NAMES", ""},
		{"publish", "$JS.API.STREAM.INFO.TOLLBOOK", ""},
		{"publish", "$JS.API.STREAM.CREATE.MINE", ""},
		{"publish", "$JS.API.STREAM.UPDATE.TOLLBOOK", ""},
		{"publish", "$JS.API.STREAM.PURGE.TOLLBOOK", ""},
		{"publish", "$JS.API.STREAM.DELETE.TOLLBOOK", ""},
		{"publish", "$JS.API.STREAM.SNAPSHOT.TOLLBOOK", ""},
		{"publish", "$JS.API.STREAM.MSG.GET.TOLLBOOK", ""},
		{"publish", "$JS.API.STREAM.MSG.DELETE.TOLLBOOK", ""},
		{"publish", "$JS.API.DIRECT.GET.TOLLBOOK", ""},
		{"publish", "$JS.API.CONSUMER.CREATE.TOLLBOOK", ""},
		{"publish", "$JS.API.CONSUMER.DURABLE.CREATE.TOLLBOOK.mine", ""},
		{"publish", "$JS.API.CONSUMER.DELETE.TOLLBOOK.tollbook-book", ""},
		{"publish", "$JS.API.CONSUMER.MSG.NEXT.TOLLBOOK.tollbook-book", ""},
		{"publish", "$JS.ACK.TOLLBOOK.tollbook-book.1.1.1.1.1", ""},
		{"publish", "$JS.FC.TOLLBOOK.tollbook-book.x", ""},
		{"publish", "$KV.x.y", ""},
		{"publish", "$SRV.PING", ""},
		{"publish", "$SYS.REQ.SERVER.PING", ""},
		{"publish", "$SYS.REQ.USER.INFO", ""},
		{"publish", "$SYS.ACCOUNT.x.CONNECT", ""},
		{"publish", "anything", ""},
		// Reading.
		{"listen", ">", ""},
		{"listen", "*", ""},
		{"listen", "*.>", ""},
		{"listen", "tollbook.>", ""},
		{"listen", "tollbook.*.cdr.>", ""},
		{"listen", "tollbook.contoso.cdr.cloudevents.mil-1", ""},
		{"listen", "tollbook-api.>", ""},
		{"share", "tollbook-api.publish.>", ""},
		{"share", "tollbook-api.status", ""},
		{"listen", "tollbook-anchor.>", askers},
		{"listen", "tollbook-anchor.contoso", askers},
		{"listen", "tollbook.*.pool.threshold", operators},
		{"listen", "tollbook.*.pool.forecast", operators},
		{"listen", "tollbook.contoso.pool.threshold", operators},
		{"listen", "tollbook.*.pool.*", ""},
		{"listen", "_INBOX.>", ""},
		{"listen", "_INBOX_mil-1.>", "mil-1"},
		{"listen", "_INBOX_acme-mil-1.>", "acme-mil-1"},
		{"listen", "_INBOX_anna.>", "anna"},
		{"listen", "_INBOX_bi.x", "bi"},
		{"listen", "$JS.>", ""},
		{"listen", "$JS.EVENT.ADVISORY.>", ""},
		{"listen", "$JS.ACK.>", ""},
		{"listen", "$SYS.>", ""},
		{"listen", "$SRV.>", ""},
		{"listen", "_R_.>", ""},
	}
	g := newGuarded(t)
	// Who may do all sees whatever arrives.
	var mu sync.Mutex
	arrived := map[string]int{}
	spy, err := g.Conn.Subscribe(">", func(m *nats.Msg) {
		if strings.HasPrefix(m.Reply, "$JS.ACK.") {
			return // the stream gives the engine what it took
		}
		mu.Lock()
		defer mu.Unlock()
		arrived[m.Subject]++
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := g.Conn.Flush(); err != nil {
		t.Fatal(err)
	}
	want := map[string]int{}
	streamed := uint64(0)
	access, err := consumers.ReadAccess(g.auth)
	if err != nil {
		t.Fatal(err)
	}
	for i, name := range guardedUsers {
		nc := g.connect(name)
		for _, row := range table {
			allowed := slices.Contains(strings.Fields(row.allowed), name)
			intake := row.action == "publish" && strings.HasPrefix(row.subject, consumers.SubjectPrefix)
			if may := access.Users[i].MayPublish(row.subject); may != (intake && allowed) && row.action == "publish" {
				t.Errorf("%s may publish %s another way: %v", name, row.subject, may)
			}
			if refused := attempt(t, nc, row.action, row.subject); refused == allowed {
				t.Errorf("%s may %s %s: %v, want %v", name, row.action, row.subject, !refused, allowed)
			}
			if allowed && row.action == "publish" {
				want[row.subject]++
				if strings.HasPrefix(row.subject, consumers.SubjectPrefix) {
					streamed++
				}
			}
		}
	}
	if err := g.Conn.Flush(); err != nil {
		t.Fatal(err)
	}
	if err := spy.Drain(); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(patience); spy.IsValid() && time.Now().Before(deadline); {
		time.Sleep(time.Millisecond)
	}
	mu.Lock()
	defer mu.Unlock()
	maps.DeleteFunc(arrived, func(subject string, _ int) bool { // the engine's own work
		return strings.HasPrefix(subject, "$JS") || strings.HasPrefix(subject, "_INBOX.") || strings.HasPrefix(subject, "tollbook-anchor.tollbook-")
	})
	if diff := cmp.Diff(want, arrived); diff != "" {
		t.Errorf("what arrived (-want +got):\n%s", diff)
	}
	if got := g.lastSequence(); got != streamed {
		t.Errorf("the stream took %d messages, want %d", got, streamed)
	}
}

// TestStrangers: nobody comes in without a credential that is in the file.
func TestStrangers(t *testing.T) {
	g := newGuarded(t)
	bobs := g.secrets["bob"]
	for _, options := range [][]nats.Option{
		{},
		{nats.UserInfo("anna", "")},
		{nats.UserInfo("anna", "anna")},
		{nats.UserInfo("bob", "")}, // has an nkey
		{nats.UserInfo("nobody", g.secrets["anna"])},
		{nats.UserInfo("rom-1", g.secrets["anna"])},
		{nats.Token(g.secrets["anna"])},
	} {
		nc, err := nats.Connect(g.NATSAddress, options...)
		if !errors.Is(err, nats.ErrAuthorization) {
			t.Errorf("%v: %v, want an authorization violation", options, err)
		}
		nc.Close()
	}
	refused(t, exitFailed, "give --nats-user, with --nkey", "status", "--nats", g.NATSAddress)
	refused(t, exitFailed, "does not know user anna", "status", "--nats", g.NATSAddress, "--nats-user", "anna", "--nats-password", "x")
	refused(t, exitFailed, "need --nats-user", "status", "--nats", g.NATSAddress, "--nkey", bobs)
	refused(t, exitFailed, "give one of them", "status", "--nats-user", "bob", "--nkey", bobs, "--nats-password", "x")
	refused(t, exitFailed, "--nkey "+g.auth, "status", "--nats-user", "bob", "--nkey", g.auth)
	refused(t, exitFailed, "--nats-user \"a.b\"", "status", "--nats-user", "a.b", "--nats-password", "x")
	refused(t, exitFailed, "--nats-ca", "status", "--nats-ca", filepath.Join(t.TempDir(), "none.pem"))
	p := command(t, "status", "--nats", "nats://anna:hunter2@127.0.0.1:1")
	if p.code != exitFailed || strings.Contains(p.err, "hunter2") {
		t.Errorf("a password is shown: %q", p.err)
	}
	if g.add("eve", "add-operator", "eve"); !errors.Is(connects(g, "eve"), nats.ErrAuthorization) {
		t.Error("who was added after serve started is let in")
	}
}

func connects(g *guarded, name string) error {
	options, err := g.login(name).options()
	if err != nil {
		return err
	}
	nc, err := nats.Connect(g.NATSAddress, options...)
	nc.Close()
	return err
}

// TestAnswersElsewhere: the engine answers with rights its askers have not, so it
// answers on inboxes only. Without that, the first line would delete the stream.
func TestAnswersElsewhere(t *testing.T) {
	g := newGuarded(t)
	secret, err := g.Conn.SubscribeSync("somewhere.else")
	if err != nil {
		t.Fatal(err)
	}
	for _, row := range []struct{ user, subject, reply string }{
		{"bi", "tollbook-api.pools", "$JS.API.STREAM.DELETE.TOLLBOOK"}, // a refusal, which has no bytes
		{"bi", "tollbook-api.status", "$JS.API.STREAM.PURGE.TOLLBOOK"},
		{"bi", "tollbook-api.status", "tollbook.contoso.license.assigned"},
		{"bi", "tollbook-api.status", "tollbook-api.as.anna.suspense.write-off"},
		{"bi", "tollbook-api.status", "somewhere.else"},
		{"bi", "tollbook-api.status", "_INBOX"},
		{"mil-1", "tollbook-api.publish.contoso.cdr.cloudevents.mil-1", "$JS.API.STREAM.DELETE.TOLLBOOK"},
		{"mil-1", "tollbook-api.publish.contoso.cdr.cloudevents.mil-1", "tollbook.acme.call.completed"},
		{"mil-1", "tollbook-api.publish.contoso.cdr.cloudevents.mil-1", ""},
		// The stream acknowledges where it is told to: on a subject of the service, nobody heeds it.
		{"mil-1", "tollbook.contoso.cdr.cloudevents.mil-1", "tollbook-api.publish.acme.call.completed"},
		{"mil-1", "tollbook.contoso.cdr.cloudevents.mil-1", "tollbook-api.as.anna.suspense.write-off"},
		{"mil-1", "tollbook.contoso.cdr.cloudevents.mil-1", "$JS.API.STREAM.PURGE.TOLLBOOK"},
	} {
		nc := g.connect(row.user)
		if err := nc.PublishMsg(&nats.Msg{Subject: row.subject, Reply: row.reply, Data: []byte("{}")}); err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(nc.Flush(), nc.LastError()); err != nil {
			t.Errorf("%+v: %v", row, err)
		}
	}
	// Three records came through the stream; nothing else is anywhere, and all still works.
	var status api.Status
	for deadline := time.Now().Add(patience); status.Position < 1 && time.Now().Before(deadline); {
		status = decoded[api.Status](t, done(t, append([]string{"status", "--format", "json"}, g.flags("bi")...)...))
	}
	if len(status.Tenants) != 1 || status.Tenants[0].Tenant != "contoso" || status.Tenants[0].Booked != 0 {
		t.Errorf("what came in: %+v", status.Tenants)
	}
	if got := g.lastSequence(); got != 3 {
		t.Errorf("the stream took %d messages, want 3", got)
	}
	if n, _, _ := secret.Pending(); n != 0 {
		t.Errorf("%d answers went to a subject that is no inbox", n)
	}
}

// TestCallsOfASwitch: on a switch's own subject, calls of that switch are booked
// and all else is suspended, saying so.
func TestCallsOfASwitch(t *testing.T) {
	g := newGuarded(t)
	call := func(id string, source string) string {
		return goodCall(id, `"source":"switch/mil-1"`, fmt.Sprintf(`"source":%q`, source))
	}
	void := func(id, source, of string) string {
		return fmt.Sprintf(`{"specversion":"1.0","id":%q,"source":%q,"type":"tollbook.call.voided.v1","time":"2026-10-06T00:00:00Z","data":{"ref":{"source":%q,"id":"a"}}}`, id, source, of)
	}
	correct := func(id, of string) string {
		data := goodCall("x")
		data = data[strings.Index(data, `{"answered_at"`):]
		data = data[:strings.Index(data, "}")+1]
		return fmt.Sprintf(`{"specversion":"1.0","id":%q,"source":"switch/mil-1","type":"tollbook.call.corrected.v1","time":"2026-10-06T00:00:00Z","data":{"ref":{"source":%q,"id":"a"},"call":%s}}`, id, of, data)
	}
	const another = `is not the switch of the subject: must be switch/mil-1 or begin with switch/mil-1/`
	for _, row := range []struct{ name, event, reason, detail string }{
		{"its own call", call("a", "switch/mil-1"), "", ""},
		{"its own call after a restart", call("a", "switch/mil-1/7"), "", ""},
		{"a void of its own", void("v", "switch/mil-1/7", "switch/mil-1"), "", ""},
		{"a correction of its own", correct("c", "switch/mil-1/7"), "", ""},
		{"a call of another switch", call("b", "switch/rom-1"), "subject", `source: "switch/rom-1" ` + another},
		{"a switch whose name goes on", call("b", "switch/mil-10"), "subject", `source: "switch/mil-10" ` + another},
		{"no switch", call("b", "mil-1"), "subject", `source: "mil-1" ` + another},
		{"a void of another's call", void("w", "switch/mil-1", "switch/rom-1"), "subject", `data.ref.source: "switch/rom-1" ` + another},
		{"a correction of another's call", correct("d", "switch/rom-1"), "subject", `data.ref.source: "switch/rom-1" ` + another},
		{"a licence", of("l", "tollbook.license.removed.v1", `{"user":"u","plan":"P","effective_at":"2026-10-01T00:00:00Z"}`), "subject", "type: tollbook.license.removed.v1 is not a switch's to publish: its subject takes calls, their corrections and voids"},
		{"another tenant's call", goodCall("b", `"tenant":"contoso"`, `"tenant":"acme"`), "syntax", ""},
	} {
		file := writeFile(t, "call.json", []byte(row.event))
		p := command(t, append([]string{"publish", file, "--tenant", "contoso", "--switch", "mil-1", "--format", "json"}, g.flags("mil-1")...)...)
		if p.code != exitDone {
			t.Fatalf("%s: %+v", row.name, p)
		}
		report := decoded[publishReport](t, p.out)
		if row.reason == "" {
			if report.Booked != 1 {
				t.Errorf("%s: %s%s", row.name, p.out, p.err)
			}
			continue
		}
		if report.Suspended != 1 || !strings.Contains(p.err, row.detail) {
			t.Errorf("%s: %s%s, want it suspended: %s", row.name, p.out, p.err, row.detail)
		}
		all := booked(t, g.dir)
		data, ok := all[len(all)-1].Data.(*domain.Suspended)
		if !ok || data.Reason != row.reason || string(data.Raw) != row.event || data.Subject != "tollbook.contoso.cdr.cloudevents.mil-1" {
			t.Errorf("%s: in the book is %+v", row.name, all[len(all)-1])
		}
	}
	// Through the stream it is the same.
	nc := g.connect("mil-1")
	js, err := natsjs.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	for _, event := range []string{call("s", "switch/mil-1"), call("s", "switch/rom-1")} {
		if _, err := js.Publish(context.Background(), "tollbook.contoso.cdr.cloudevents.mil-1", []byte(event)); err != nil {
			t.Fatal(err)
		}
	}
	want := api.TenantStatus{Tenant: "contoso", Received: 13, Months: []string{"2026-10"}}
	want.Booked, want.Suspended = 5, 8
	var got api.TenantStatus
	for deadline := time.Now().Add(patience); got.Received < want.Received && time.Now().Before(deadline); {
		got = decoded[api.Status](t, done(t, append([]string{"status", "--format", "json"}, g.flags("bi")...)...)).Tenants[0]
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// TestCommandsWithUsers: every command that connects takes a user, and who may
// not is told at once rather than waiting for an answer.
func TestCommandsWithUsers(t *testing.T) {
	g := newGuarded(t)
	file := writeFile(t, "events.ndjson", ndjson(licensed("contoso")))
	run := func(user string, args ...string) printed { return command(t, append(args, g.flags(user)...)...) }
	month := []string{"--tenant", "contoso", "--month", "2026-10"}
	for _, row := range []struct {
		allowed string
		args    []string
	}{
		{"anna bob", []string{"publish", file}},
		{"anna bob", []string{"import-catalog"}},
		{"anna bob bi", append([]string{"pools"}, month...)},
		{"anna bob bi", append([]string{"invoice"}, month...)},
		{"anna bob bi", []string{"status"}},
	} {
		for _, user := range []string{"mil-1", "anna", "bob", "bi"} {
			p := run(user, row.args...)
			if allowed := slices.Contains(strings.Fields(row.allowed), user); (p.code == exitDone) != allowed || (p.err == "") != allowed {
				t.Errorf("%s: tollbook %s: exit status %d, %s%s; want allowed: %v", user, strings.Join(row.args, " "), p.code, p.out, p.err, allowed)
			}
		}
	}
	// The environment does as well as flags.
	t.Setenv("TOLLBOOK_NATS", g.NATSAddress)
	t.Setenv("TOLLBOOK_NATS_USER", "anna")
	t.Setenv("TOLLBOOK_NATS_PASSWORD", g.secrets["anna"])
	if out := done(t, append([]string{"pools"}, month...)...); !strings.Contains(out, "DOMESTIC_120") {
		t.Errorf("pools: %s", out)
	}
}

// TestEngineOnAGuardedServer: serve --nats proves itself to a server that has
// users, and is answered on the inbox of its own that it is confined to.
func TestEngineOnAGuardedServer(t *testing.T) {
	server, err := natsd.NewServer(&natsd.Options{
		Host: "127.0.0.1", Port: natsd.RANDOM_PORT, JetStream: true, StoreDir: t.TempDir(), NoLog: true, NoSigs: true,
		Users: []*natsd.User{{Username: "engine", Password: "secret", Permissions: &natsd.Permissions{
			Subscribe: &natsd.SubjectPermission{Allow: []string{"_INBOX_engine.>", api.Prefix + ">", "$SRV.>"}},
		}}},
	})
	if err != nil {
		t.Fatal(err)
	}
	server.Start()
	t.Cleanup(func() { server.Shutdown(); server.WaitForShutdown() })
	if !server.ReadyForConnections(patience) {
		t.Fatal("no NATS server")
	}
	config := EngineConfig{Dir: t.TempDir(), NATSURL: server.ClientURL(), Clock: clock, Log: slog.New(slog.DiscardHandler)}
	if engine, err := StartEngine(context.Background(), config); !errors.Is(err, nats.ErrAuthorization) {
		t.Fatalf("without a user: %v, %v", engine, err)
	}
	config.Login = natsLogin{User: "engine", Password: "secret"}
	engine, err := StartEngine(context.Background(), config)
	if err != nil {
		t.Fatal(err)
	}
	done(t, "status", "--nats", engine.NATSAddress, "--nats-user", "engine", "--nats-password", "secret")
	if err := engine.Stop(); err != nil {
		t.Error(err)
	}
}

// A certificate that signs itself, for 127.0.0.1, and its key, as files.
func testCertificate(t *testing.T) (cert, key string) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "tollbook test"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, &template, &template, private.Public(), private)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	return writeFile(t, "cert.pem", pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})),
		writeFile(t, "key.pem", pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER}))
}

// A served is tollbook serve in this process, until the test ends.
type served struct {
	mu    sync.Mutex
	out   bytes.Buffer
	ready chan string // the line
}

func (s *served) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.out.Write(p)
	if strings.Contains(string(p), "is ready") {
		s.ready <- string(p)
	}
	return len(p), nil
}

// serveWith runs serve and returns its ready line and, once it has ended, its log.
func serveWith(t *testing.T, args ...string) (ready string, log func() string) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	s := &served{ready: make(chan string, 1)}
	var stderr bytes.Buffer
	ended := make(chan int, 1)
	go func() {
		ended <- Run(ctx, append([]string{"serve", "--data", t.TempDir(), "--nats-sync", "1m"}, args...), Streams{strings.NewReader(""), s, &stderr})
	}()
	stop := sync.OnceValue(func() string {
		cancel()
		if code := <-ended; code != exitDone {
			t.Errorf("serve %s: exit status %d: %s", strings.Join(args, " "), code, stderr.String())
		}
		return stderr.String()
	})
	select {
	case ready = <-s.ready:
	case code := <-ended:
		t.Fatalf("serve %s: exit status %d: %s", strings.Join(args, " "), code, stderr.String())
	}
	t.Cleanup(func() { stop() })
	return ready, stop
}

var readyNATS = regexp.MustCompile(`NATS (\S+),`)

// TestTLS: with a certificate, the server talks TLS of 1.2 or newer only, and
// commands know it by --nats-ca.
func TestTLS(t *testing.T) {
	cert, key := testCertificate(t)
	auth := filepath.Join(t.TempDir(), "auth.json")
	password := printedPassword.FindStringSubmatch(done(t, "access", "add-reader", "bi", "--password", "--auth", auth))[1]
	ready, _ := serveWith(t, "--auth", auth, "--tls-cert", cert, "--tls-key", key, "--nats-listen", "127.0.0.1:0", "--http", "")
	url := readyNATS.FindStringSubmatch(ready)[1]
	if !strings.HasPrefix(url, "tls://127.0.0.1:") || strings.Contains(ready, "anyone") {
		t.Errorf("the ready line is %q", ready)
	}
	t.Setenv("TOLLBOOK_NATS_USER", "bi")
	t.Setenv("TOLLBOOK_NATS_PASSWORD", password)
	done(t, "status", "--nats", url, "--nats-ca", cert)
	refused(t, exitFailed, "give --nats-ca", "status", "--nats", url)

	ca := x509.NewCertPool()
	text, err := os.ReadFile(cert)
	if err != nil || !ca.AppendCertsFromPEM(text) {
		t.Fatal(err)
	}
	for version, ok := range map[uint16]bool{tls.VersionTLS11: false, tls.VersionTLS12: true, tls.VersionTLS13: true} {
		nc, err := nats.Connect(url, nats.UserInfo("bi", password), nats.Secure(&tls.Config{RootCAs: ca, MinVersion: tls.VersionTLS10, MaxVersion: version}))
		if (err == nil) != ok {
			t.Errorf("%s: %v, want it taken: %v", tls.VersionName(version), err, ok)
		}
		nc.Close()
	}
	// Without TLS on the connection nobody gets as far as a password.
	plain, err := net.Dial("tcp", strings.TrimPrefix(url, "tls://"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = plain.Close() }()
	if _, err := fmt.Fprintf(plain, "CONNECT {\"verbose\":true,\"user\":\"bi\",\"pass\":%q}\r\nPING\r\n", password); err != nil {
		t.Fatal(err)
	}
	var said bytes.Buffer
	_ = plain.SetReadDeadline(time.Now().Add(patience))
	_, _ = said.ReadFrom(plain)
	if strings.Contains(said.String(), "PONG") || strings.Contains(said.String(), "+OK") {
		t.Errorf("without TLS the server says %q", said.String())
	}
}

// TestServeLetsNoStrangersIn: what is open to other machines is so because
// somebody said so.
func TestServeLetsNoStrangersIn(t *testing.T) {
	dir := t.TempDir()
	auth := filepath.Join(t.TempDir(), "auth.json")
	cert, key := testCertificate(t)
	done(t, "access", "add-reader", "bi", "--password", "--auth", auth)
	for _, listen := range []string{"0.0.0.0:4222", ":4222", "[::]:4222", "192.0.2.1:4222", "tollbook.example:4222"} {
		refused(t, exitFailed, "--nats-listen "+listen+": without --auth only this machine may be let in (127.0.0.1:4222); make a file of users with 'tollbook access add-switch'", "serve", "--data", dir, "--nats-listen", listen)
	}
	for _, listen := range []string{"0.0.0.0:8080", ":8080", "[::]:8080", "192.0.2.1:8080"} {
		refused(t, exitFailed, "--http "+listen+": without --auth the page asks nobody who they are", "serve", "--data", dir, "--http", listen)
		refused(t, exitFailed, "--http "+listen+": without --auth the page asks nobody who they are", "serve", "--data", dir, "--http", listen, "--nats", "nats://127.0.0.1:1")
	}
	refused(t, exitFailed, "are of the embedded NATS server", "serve", "--data", dir, "--nats", "nats://127.0.0.1:1", "--auth", auth)
	refused(t, exitFailed, "make it with 'tollbook access", "serve", "--data", dir, "--auth", filepath.Join(dir, "none.json"))
	refused(t, exitFailed, "without the other", "serve", "--data", dir, "--tls-cert", cert)
	refused(t, exitFailed, "--tls-key "+cert, "serve", "--data", dir, "--tls-cert", cert, "--tls-key", cert)
	refused(t, exitFailed, "--auth: "+key+": ", "serve", "--data", dir, "--auth", key)
	if err := os.Chmod(auth, 0o620); err != nil {
		t.Fatal(err)
	}
	refused(t, exitFailed, "can be written by others (mode 0620)", "serve", "--data", dir, "--auth", auth)
	if err := os.Chmod(auth, 0o640); err != nil {
		t.Fatal(err)
	}
	if entries, err := os.ReadDir(dir); err != nil || len(entries) != 0 {
		t.Errorf("refused, and yet in the data directory are %v, %v", entries, err)
	}

	for _, listen := range []string{"127.0.0.1:0", "localhost:0", "127.0.0.2:0"} {
		ready, log := serveWith(t, "--nats-listen", listen, "--http", "")
		if !strings.HasSuffix(ready, "; anyone on this machine may publish and ask\n") || log() != "" {
			t.Errorf("%s: the ready line is %q, the log %q", listen, ready, log())
		}
	}
	ready, log := serveWith(t, "--nats-listen", "0.0.0.0:0", "--auth", auth, "--http", "0.0.0.0:0")
	if strings.Contains(ready, "anyone") || strings.Count(log(), "\n") != 1 || !strings.Contains(log(), "level=WARN") || !strings.Contains(log(), "travel in clear") {
		t.Errorf("the ready line is %q, the log %q", ready, log())
	}
	_, log = serveWith(t, "--nats-listen", "0.0.0.0:0", "--auth", auth, "--tls-cert", cert, "--tls-key", key, "--http", "")
	if log() != "" {
		t.Errorf("with TLS the log is %q", log())
	}
}

// TestAccessCommands: what the commands print and what they leave.
func TestAccessCommands(t *testing.T) {
	dir := t.TempDir()
	auth, seed := filepath.Join(dir, "auth.json"), filepath.Join(dir, "mil-1.seed")
	said := done(t, "access", "add-switch", "--auth", auth, "--tenant", "contoso", "--switch", "mil-1", "--out", seed, "--nats", "tls://bills.example:4222")
	for _, want := range []string{
		"mil-1 is in " + auth + ", as switch mil-1 of tenant contoso. Restart serve --auth " + auth + " for it to hold.",
		"tls://bills.example:4222", "_INBOX_mil-1 ", "--nats-user mil-1 --nkey " + seed,
		"tollbook.contoso.cdr.cloudevents.mil-1 ", "tollbook.contoso.cdr.kamailio.mil-1 ", "tollbook-api.publish.contoso.cdr.cloudevents.mil-1,",
	} {
		if !strings.Contains(said, want) {
			t.Errorf("add-switch does not say %q:\n%s", want, said)
		}
	}
	secret, err := os.ReadFile(seed)
	if err != nil || strings.Contains(said, strings.TrimSpace(string(secret))) {
		t.Errorf("%v; the seed is in a file and on the screen too:\n%s", err, said)
	}
	password := printedPassword.FindStringSubmatch(done(t, "access", "add-operator", "anna", "--password", "--auth", auth))[1]
	reader := done(t, "access", "add-reader", "bi", "--auth", auth)
	printedSeed := regexp.MustCompile(`SU[A-Z2-7]{56}`).FindString(reader)
	text, err := os.ReadFile(auth)
	if err != nil || printedSeed == "" {
		t.Fatal(err, reader)
	}
	for _, secret := range []string{password, printedSeed, strings.TrimSpace(string(secret))} {
		if strings.Contains(string(text), secret) {
			t.Errorf("a secret is in the access file:\n%s", text)
		}
	}
	for _, file := range []string{auth, seed} {
		info, err := os.Stat(file)
		if err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s has mode %v, %v", file, info.Mode(), err)
		}
	}
	list := done(t, "access", "list", "--auth", auth)
	if !strings.Contains(list, "switch mil-1 of tenant contoso") || !strings.Contains(list, "password") || strings.Contains(list, "$2a$") {
		t.Errorf("list:\n%s", list)
	}
	if list := done(t, "access", "list", "--auth", auth, "--format", "json"); strings.Contains(list, "$2a$") {
		t.Errorf("list shows hashes:\n%s", list)
	}

	// What is refused leaves the file as it is, and no seed behind.
	other := filepath.Join(dir, "other.seed")
	for line, args := range map[string][]string{
		"has a user mil-1 already":         {"add-switch", "--tenant", "acme", "--switch", "mil-1", "--out", other},
		"users[3].switch: \"a.b\"":         {"add-switch", "--tenant", "acme", "--switch", "a.b", "--name", "ab", "--out", other},
		"users[3].name: \"Mil\"":           {"add-switch", "--tenant", "acme", "--switch", "Mil", "--out", other},
		"users[3].tenant: \"Acme\"":        {"add-switch", "--tenant", "Acme", "--switch", "mil-2", "--out", other},
		"users[3].name: \"Anna\"":          {"add-operator", "Anna", "--out", other},
		"--password makes none":            {"add-operator", "carl", "--password", "--out", other},
		"--out: open " + seed:              {"add-operator", "carl", "--out", seed},
		"has no user carl":                 {"remove", "carl"},
		"auth.json.new: no such file or d": {"add-reader", "carl", "--out", other, "--auth", filepath.Join(dir, "nowhere", "auth.json")},
	} {
		if !slices.Contains(args, "--auth") {
			args = append(args, "--auth", auth)
		}
		refused(t, exitFailed, line, append([]string{"access"}, args...)...)
		if _, err := os.Stat(other); err == nil {
			t.Errorf("%v leaves a seed", args)
		}
	}
	after, err := os.ReadFile(auth)
	if diff := cmp.Diff(string(text), string(after)); err != nil || diff != "" {
		t.Errorf("the access file has changed: %v\n%s", err, diff)
	}
	done(t, "access", "remove", "anna", "--auth", auth)
	if list := done(t, "access", "list", "--auth", auth); strings.Contains(list, "anna") || !strings.Contains(list, "bi") {
		t.Errorf("after remove:\n%s", list)
	}
	if entries, err := os.ReadDir(dir); err != nil || len(entries) != 2 {
		t.Errorf("left behind: %v, %v", entries, err)
	}
}
