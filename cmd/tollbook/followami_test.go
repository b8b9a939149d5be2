package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/md5"
	"crypto/tls"
	"encoding/hex"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-json-experiment/json/jsontext"

	"tollbook/domain"
)

// A manager speaks what follow needs of Asterisk's manager interface, after its
// documentation, over real connections, and plays what a real one sent.
type manager struct {
	t        *testing.T
	listener net.Listener
	secret   string

	mu     sync.Mutex
	in     net.Conn // who is logged in; nil: nobody
	logins int
	left   int  // of them
	mute   bool // says nothing any more, as a machine that lost its network
}

const (
	managerUser   = "tollbook"
	managerSecret = "s3cret, with = and \\"
)

func newManager(t *testing.T, listener net.Listener) *manager {
	t.Helper()
	m := &manager{t: t, listener: listener, secret: managerSecret}
	var serving sync.WaitGroup
	serving.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			serving.Go(func() { m.serve(conn) })
		}
	})
	t.Cleanup(func() {
		_ = listener.Close()
		m.drop()
		serving.Wait()
	})
	return m
}

func loopback(t *testing.T) net.Listener {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return listener
}

func (m *manager) serve(conn net.Conn) {
	defer func() {
		_ = conn.Close()
		m.mu.Lock()
		defer m.mu.Unlock()
		if m.in == conn {
			m.in = nil
			m.left++
		}
	}()
	say := func(text string) {
		m.mu.Lock()
		defer m.mu.Unlock()
		if !m.mute {
			_, _ = io.WriteString(conn, text)
		}
	}
	say("Asterisk Call Manager/11.0.0\r\n")
	challenge := fmt.Sprint(rand.Uint32())
	action := map[string]string{}
	for lines := bufio.NewScanner(conn); lines.Scan(); {
		if name, value, ok := strings.Cut(lines.Text(), ": "); ok {
			action[name] = value
			continue
		}
		switch key := md5.Sum([]byte(challenge + m.secret)); {
		case action["Action"] == "Challenge" && action["AuthType"] == "MD5":
			say("Response: Success\r\nChallenge: " + challenge + "\r\n\r\n")
		case action["Action"] == "Login" && action["Username"] == managerUser && action["Key"] == hex.EncodeToString(key[:]) && action["Events"] == "cdr":
			say("Response: Success\r\nMessage: Authentication accepted\r\n\r\n")
			m.mu.Lock()
			m.in = conn
			m.logins++
			m.mu.Unlock()
		case action["Action"] == "Login":
			say("Response: Error\r\nMessage: Authentication failed\r\n\r\n")
			return
		case action["Action"] == "Ping":
			say("Response: Success\r\nPing: Pong\r\nTimestamp: 1795384014.000001\r\n\r\n")
		default:
			say("Response: Error\r\nMessage: Invalid/unknown command\r\n\r\n")
		}
		clear(action)
	}
}

// seen reports how often somebody was let in, and how often he left.
func (m *manager) seen() (logins, left int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.logins, m.left
}

// play sends bytes in pieces that end anywhere.
func (m *manager) play(data []byte) {
	m.t.Helper()
	m.mu.Lock()
	defer m.mu.Unlock()
	for len(data) > 0 {
		n := 1 + rand.IntN(len(data))
		if _, err := m.in.Write(data[:n]); err != nil {
			m.t.Fatal(err)
		}
		data = data[n:]
	}
}

// drop closes the connection of whoever is logged in.
func (m *manager) drop() {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.in != nil {
		_ = m.in.Close()
	}
}

func (m *manager) silence(mute bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.mute = mute
}

// recordedEvents are Cdr events of an Asterisk 22.10.1, each as it came.
func recordedEvents(t *testing.T) (events [][]byte) {
	t.Helper()
	text, err := os.ReadFile(recordedFile)
	if err != nil {
		t.Fatal(err)
	}
	for line := range bytes.Lines(text) {
		d := jsontext.NewDecoder(bytes.NewReader(line))
		var event []byte
		for {
			token, err := d.ReadToken()
			if err == io.EOF {
				break
			}
			if err != nil {
				t.Fatal(err)
			}
			if token.Kind() != jsontext.KindString {
				continue
			}
			name := token.String()
			value, err := d.ReadToken()
			if err != nil {
				t.Fatal(err)
			}
			event = fmt.Appendf(event, "%s: %s\r\n", name, value.String())
		}
		events = append(events, append(event, "\r\n"...))
	}
	if len(events) < 10 {
		t.Fatalf("%s has %d events", recordedFile, len(events))
	}
	return events
}

const recordedFile = "../../consumers/cdr/testdata/asterisk/ami.jsonl"

func asteriskSwitch() domain.Event {
	return domain.Event{Tenant: "acme", Source: "admin", ID: "ast-a", Time: instant("2026-11-01T00:00:00Z"), Data: &domain.SwitchConfig{
		Switch: "ast-a", Format: "asterisk-ami", Country: "CH", InternationalPrefixes: []string{"00", "011"}, NationalPrefix: "0",
		InternalDigits: []int{3, 4}, TimeZone: "Europe/Zurich", User: "{src}@{accountcode}|withheld@{accountcode}",
	}}
}

func managerArgs(t *testing.T, m *manager, secret string) []string {
	return []string{"follow", "--from", "asterisk-ami", "--tenant", "acme", "--switch", "ast-a", "--state", filepath.Join(t.TempDir(), "state"),
		"--ami", m.listener.Addr().String(), "--user", managerUser, "--secret-file", writeFile(t, "secret", []byte(secret+"\n")), "--ping", "100ms", "--format", "json"}
}

// TestFollowManager: what the manager sends is booked once, through connections that
// break and peers that go silent; each time without a connection is told with its two ends.
func TestFollowManager(t *testing.T) {
	events := recordedEvents(t)
	for _, secure := range []bool{false, true} {
		t.Run(fmt.Sprint("TLS=", secure), func(t *testing.T) {
			t.Parallel()
			r := newRig(t)
			r.book(asteriskSwitch())
			listener, more := loopback(t), []string(nil)
			if secure {
				cert, key := testCertificate(t)
				pair, err := tls.LoadX509KeyPair(cert, key)
				if err != nil {
					t.Fatal(err)
				}
				listener = tls.NewListener(listener, &tls.Config{Certificates: []tls.Certificate{pair}})
				more = []string{"--ami-ca", cert}
			}
			m := newManager(t, listener)
			f := &following{t: t, r: r, args: append(managerArgs(t, m, managerSecret), more...)}
			logins, sent := 0, 0
			connected := func() {
				t.Helper()
				logins++
				r.until("follow is logged in", func() bool { n, left := m.seen(); return n == logins && left == logins-1 })
			}
			send := func(n int) {
				for range n {
					m.play([]byte("Event: FullyBooted\r\nPrivilege: system,all\r\nStatus: Fully Booted\r\n\r\n"))
					m.play(events[sent])
					sent++
				}
			}
			all := func() {
				t.Helper()
				r.until("all is booked", func() bool { return r.intake("acme").Booked == uint64(sent)+1 })
			}
			f.start()
			connected()
			send(5)
			all()

			m.play(events[5][:100]) // half an event is none
			m.drop()
			connected()
			send(3)
			all()

			m.silence(true)
			r.until("follow gives the connection up", func() bool { _, left := m.seen(); return left == 2 })
			m.silence(false)
			connected()
			send(2)
			all()

			f.stop()
			f.start()
			connected()
			send(len(events) - sent)
			all()
			f.stop()

			missed := strings.Count(f.errs, "records of calls that ended while it was not connected did not come")
			if missed != 3 || strings.Count(f.errs, "from=2") != missed || strings.Count(f.errs, "until=2") != missed {
				t.Errorf("%d times without a connection were told, want 3:\n%s", missed, f.errs)
			}
			for _, text := range []string{"the manager has closed the connection", "the manager has not answered for", "write its CDRs to a CSV file too"} {
				if !strings.Contains(f.errs, text) {
					t.Errorf("not said: %q\n%s", text, f.errs)
				}
			}
			// As events they are what they are as records of a file.
			report := r.publishFile(recordedFile, "--from", "asterisk-ami", "--tenant", "acme", "--switch", "ast-a")
			if report.Duplicate != len(events) || report.Received != len(events) {
				t.Errorf("published from a file: %+v", report)
			}
		})
	}
}

// TestManagerRefuses: a wrong secret ends follow with a line, and it is not shown.
func TestManagerRefuses(t *testing.T) {
	r := newRig(t)
	m := newManager(t, loopback(t))
	for what, secret := range map[string]string{"a wrong secret": "wr0ng", "no secret": ""} {
		p := command(t, append(managerArgs(t, m, secret), "--nats", r.NATSAddress)...)
		if p.code != exitFailed || !strings.Contains(p.err, "secret") || strings.Contains(p.err, "wr0ng") {
			t.Errorf("%s: exit status %d: %s", what, p.code, p.err)
		}
	}
	// What is no manager is tried again: it may be one that starts.
	other := loopback(t)
	go func() {
		for {
			conn, err := other.Accept()
			if err != nil {
				return
			}
			_, _ = io.WriteString(conn, "SSH-2.0-OpenSSH_9.2\r\n")
			_ = conn.Close()
		}
	}()
	defer func() { _ = other.Close() }()
	m.listener = other
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	p := commandWith(ctx, append(managerArgs(t, m, managerSecret), "--nats", r.NATSAddress)...)
	if p.code != exitDone || strings.Count(p.err, "is no manager of an Asterisk") != 1 {
		t.Errorf("exit status %d: %s", p.code, p.err)
	}
}

// TestManagerWithoutEngine: what the manager sends while the engine is away is booked
// once it is back; where it does not come back before a stop, it is said what is lost.
func TestManagerWithoutEngine(t *testing.T) {
	events := recordedEvents(t)
	m := newManager(t, loopback(t))
	free := loopback(t)
	address := free.Addr().String()
	_ = free.Close()
	data := t.TempDir()
	begin := func() *process {
		return serve(t, data, func(cmd *exec.Cmd) { cmd.Args[slices.Index(cmd.Args, "127.0.0.1:0")] = address })
	}
	p := begin()
	config := asteriskSwitch()
	done(t, "publish", writeFile(t, "switch.json", ndjson([]domain.Event{config})), "--nats", "nats://"+address)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	ended := make(chan printed, 1)
	go func() {
		ended <- commandWith(ctx, append(managerArgs(t, m, managerSecret), "--nats", "nats://"+address)...)
	}()
	for logins := 0; logins == 0; time.Sleep(time.Millisecond) {
		logins, _ = m.seen()
	}
	p.kill()
	m.play(bytes.Join(events[:8], nil))
	p = begin()
	for deadline := time.Now().Add(patience); ; time.Sleep(5 * time.Millisecond) {
		var calls int
		for _, e := range booked(t, data) {
			if _, ok := e.Data.(*domain.Call); ok {
				calls++
			}
		}
		if calls == 8 {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("%d of 8 calls are booked", calls)
		}
	}
	p.kill()
	m.play(bytes.Join(events[8:12], nil))
	time.Sleep(200 * time.Millisecond) // they have come
	cancel()
	report := <-ended
	if report.code != exitFailed || !strings.Contains(report.err, "are not booked") {
		t.Errorf("exit status %d: %s", report.code, report.err)
	}
}
