//go:build switch

package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"text/tabwriter"
	"time"

	"github.com/nats-io/nats.go"
	natsjs "github.com/nats-io/nats.go/jetstream"

	"tollbook/api"
	"tollbook/consumers"
	"tollbook/domain"
	"tollbook/projections"
)

// TestKamailio makes real calls through a real Kamailio, with the configuration
// that docs/switches/kamailio.md gives, and compares what was booked with what
// the telephones, which are sipp's, counted, call by call. Then again with an
// engine that hangs, dies and comes back in the middle.
func TestKamailio(t *testing.T) {
	kamailioNeeds(t)
	l := newLab(t)
	random := rand.New(rand.NewPCG(flipSeed(t), 0))
	l.calls(t, random)
	l.outage(t, random)
	l.reconcile(t)
}

// The programs that are needed, and the Debian packages they are in.
const kamailioPackages = "kamailio kamailio-nats-modules kamailio-json-modules kamailio-extra-modules sip-tester"

// program finds one that may be where only root's PATH leads.
func program(name string) (string, error) {
	path, err := exec.LookPath(name)
	if err != nil {
		path, err = exec.LookPath("/usr/sbin/" + name)
	}
	return path, err
}

func kamailioNeeds(t *testing.T) {
	t.Helper()
	for _, name := range []string{"kamailio", "sipp"} {
		if _, err := program(name); err != nil {
			t.Fatalf("no %s: apt-get install --no-install-recommends %s", name, kamailioPackages)
		}
	}
}

// Where the telephone system, the carrier and Kamailio are.
const (
	kamailioIP = "127.0.0.1"
	pbxIP      = "127.0.0.2"
	carrierIP  = "127.0.0.3"
)

// longestCall is after how many seconds Kamailio ends a call that nobody hangs up.
const longestCall = 10

// tolerance is by how much the talk that is billed may differ from what the
// caller saw: the ACK and the BYE travel, and wait for a processor.
const tolerance = 500 * time.Millisecond

// accounts are the tenants on the switch.
var accounts = []string{"acme", "globex"}

// A lab is an engine, a Kamailio and telephones on both sides of it.
type lab struct {
	dir    string // of the engine
	nats   string // host:port, the same after each start
	engine *process

	sip      string // host:port of Kamailio
	config   string // directory of its files
	kamailio *exec.Cmd

	known []phoned // all calls so far
}

func newLab(t *testing.T) *lab {
	t.Helper()
	l := &lab{dir: t.TempDir(), nats: freePort(t, "tcp", "127.0.0.1"), sip: freePort(t, "udp", kamailioIP)}
	l.startEngine(t)
	event := configuredOnPage(t)
	for _, account := range accounts {
		one := strings.Replace(event, `"tenant":"acme"`, `"tenant":"`+account+`"`, 1)
		if out := l.ask(t, "publish", writeFile(t, "switch.json", []byte(one))); !strings.HasPrefix(out, "1 record: 1 booked") {
			t.Fatalf("the switch of %s: %s", account, out)
		}
	}
	pbx, carrier := freePort(t, "udp", pbxIP), freePort(t, "udp", carrierIP)
	l.configure(t, pbx, carrier)
	for _, at := range []string{pbx, carrier} {
		host, port, _ := net.SplitHostPort(at)
		started(t, "sipp", "-sf", "testdata/sipp/answer.xml", "-i", host, "-p", port, "-bind_local", "-nostdin")
	}
	return l
}

// freePort is an address that nobody has at the moment.
func freePort(t *testing.T, network, host string) string {
	t.Helper()
	if network == "udp" {
		c, err := net.ListenPacket(network, host+":0")
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = c.Close() }()
		return c.LocalAddr().String()
	}
	c, err := net.Listen(network, host+":0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	return c.Addr().String()
}

// started runs a program that ends with the test.
func started(t *testing.T, name string, args ...string) {
	t.Helper()
	path, err := program(name)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(path, args...)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
}

func (l *lab) startEngine(t *testing.T) {
	t.Helper()
	l.engine = serve(t, l.dir, func(cmd *exec.Cmd) {
		cmd.Args[slices.Index(cmd.Args, "--nats-listen")+1] = l.nats
	})
}

func (l *lab) ask(t *testing.T, args ...string) string {
	t.Helper()
	return done(t, append(args, "--nats", l.engine.nats)...)
}

const page = "../../docs/switches/kamailio.md"

// What the test takes from the page, as an operator does.
var (
	configuredEvent = regexp.MustCompile(`\{"specversion".*"tollbook\.switch\.configured\.v1".*`)
	sedOnPage       = regexp.MustCompile(`sed -n '(s/[^']*)'`)
)

// configuredOnPage is the event that the page tells to publish.
func configuredOnPage(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	event := configuredEvent.FindString(string(text))
	if event == "" {
		t.Fatalf("%s has no tollbook.switch.configured.v1", page)
	}
	return event
}

// configure writes the page's configuration with the marked places filled, and
// lets Kamailio check it.
func (l *lab) configure(t *testing.T, pbx, carrier string) {
	t.Helper()
	l.config = t.TempDir()
	for file, places := range map[string][][2]string{
		"kamailio.cfg": {
			{`LISTEN udp:192.0.2.1:5060`, `LISTEN udp:` + l.sip},
			{`PBX_IP "192.0.2.10"`, `PBX_IP "` + pbxIP + `"`},
			{`PBX_URI "sip:192.0.2.10:5060"`, `PBX_URI "sip:` + pbx + `"`},
			{`CARRIER_IP "198.51.100.7"`, `CARRIER_IP "` + carrierIP + `"`},
			{`CARRIER_URI "sip:198.51.100.7:5060"`, `CARRIER_URI "sip:` + carrier + `"`},
		},
		"tollbook.cfg": {
			{`!nats://127.0.0.1:4222!`, `!nats://` + l.nats + `!`},
			{`TOLLBOOK_LONGEST_CALL 43200`, fmt.Sprint(`TOLLBOOK_LONGEST_CALL `, longestCall)},
		},
	} {
		text, err := os.ReadFile("../../docs/switches/kamailio/" + file)
		if err != nil {
			t.Fatal(err)
		}
		for _, place := range places {
			if n := strings.Count(string(text), place[0]); n != 1 {
				t.Fatalf("%s has the place %q %d times", file, place[0], n)
			}
			text = []byte(strings.Replace(string(text), place[0], place[1], 1))
		}
		if err := os.WriteFile(filepath.Join(l.config, file), text, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if out, err := l.kamailioWith("-c").CombinedOutput(); err != nil {
		t.Fatalf("kamailio refuses its configuration; it needs the packages %s: %v\n%s", kamailioPackages, err, out)
	}
}

func (l *lab) kamailioWith(args ...string) *exec.Cmd {
	path, _ := program("kamailio")
	return exec.Command(path, append([]string{"-f", filepath.Join(l.config, "kamailio.cfg")}, args...)...)
}

// log is where Kamailio says what it does.
func (l *lab) log() string { return filepath.Join(l.config, "kamailio.log") }

// startKamailio starts one that counts anew, with an empty log, and returns once
// it answers.
func (l *lab) startKamailio(t *testing.T) {
	t.Helper()
	log, err := os.Create(l.log())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = log.Close() }()
	l.kamailio = l.kamailioWith("-DD", "-E", "-w", l.config, "-Y", l.config)
	l.kamailio.Stderr = log
	l.kamailio.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := l.kamailio.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(l.stopKamailio)
	l.until(t, "Kamailio answers", func() bool { return pinged(l.sip) })
}

// stopKamailio ends it as an operator does, and then what is left of it. Its exit
// status says nothing: 5.6's nats module crashes when all is done.
func (l *lab) stopKamailio() {
	if l.kamailio.ProcessState != nil {
		return // it has ended
	}
	_ = l.kamailio.Process.Signal(syscall.SIGTERM)
	_ = l.kamailio.Wait()
	_ = syscall.Kill(-l.kamailio.Process.Pid, syscall.SIGKILL)
}

// pinged reports whether somebody answers OPTIONS.
func pinged(address string) bool {
	c, err := net.Dial("udp", address)
	if err != nil {
		return false
	}
	defer func() { _ = c.Close() }()
	_ = c.SetDeadline(time.Now().Add(200 * time.Millisecond))
	fmt.Fprintf(c, "OPTIONS sip:ping@%s SIP/2.0\r\nVia: SIP/2.0/UDP %s;branch=z9hG4bK-ping\r\nFrom: <sip:ping@lab.invalid>;tag=1\r\n"+
		"To: <sip:ping@lab.invalid>\r\nCall-ID: ping\r\nCSeq: 1 OPTIONS\r\nMax-Forwards: 1\r\nContent-Length: 0\r\n\r\n", address, c.LocalAddr())
	answer := make([]byte, 2048)
	n, err := c.Read(answer)
	return err == nil && bytes.HasPrefix(answer[:n], []byte("SIP/2.0 200 "))
}

// until polls for something that has to become true.
func (l *lab) until(t *testing.T, what string, holds func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !holds(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			log, _ := os.ReadFile(l.log())
			t.Fatalf("not within %v: %s\n%s", patience, what, log[max(0, len(log)-4000):])
		}
	}
}

// A numbered record is one that Kamailio says it has published.
type numbered struct {
	account      string
	seq          uint64
	boot, callID string
}

var publishedLine = regexp.MustCompile(`(?m)tollbook (\S+) (\{"start_time".*\})$`)

// published is what Kamailio's log has.
func (l *lab) published(t *testing.T) (all []numbered) {
	t.Helper()
	log, err := os.ReadFile(l.log())
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range publishedLine.FindAllSubmatch(log, -1) {
		r := decoded[struct {
			Boot   string `json:"boot"`
			Seq    uint64 `json:"seq"`
			CallID string `json:"callid"`
		}](t, string(m[2]))
		all = append(all, numbered{string(m[1]), r.Seq, r.Boot, r.CallID})
	}
	return all
}

// arrived waits until what this Kamailio has published last is in the stream, and
// with it everything before that ever comes, and then until all of it is booked.
func (l *lab) arrived(t *testing.T) {
	t.Helper()
	last := map[string]numbered{}
	for _, c := range l.published(t) {
		last[c.account] = c
	}
	for account, c := range last {
		l.until(t, fmt.Sprint("number ", c.seq, " of ", account, " is booked"), func() bool {
			return uint64(l.gaps(t, account, c.source()).Last) == c.seq
		})
	}
	nc, err := nats.Connect(l.engine.nats)
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	js, err := natsjs.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	l.until(t, "the stream is empty", func() bool {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		stream, err := js.Stream(ctx, consumers.StreamName)
		if err != nil {
			t.Fatal(err)
		}
		return stream.CachedInfo().State.Msgs == 0
	})
}

// gaps is what the engine says of the numbers of one start of Kamailio.
func (l *lab) gaps(t *testing.T, account, source string) (g projections.SourceGaps) {
	t.Helper()
	d := decoded[projections.GapsDocument](t, l.ask(t, "gaps", "--tenant", account, "--source", source, "--format", "json"))
	for _, one := range d.Sources {
		if one.Source == source {
			g = one
		}
	}
	return g
}

// calls are some hundred of all kinds, with nothing in the way.
func (l *lab) calls(t *testing.T, random *rand.Rand) {
	t.Helper()
	l.startKamailio(t)
	l.dial(t, everyKind(random), 20)()
	l.arrived(t)
	if lost := l.lost(t); len(lost) != 0 {
		t.Errorf("with nothing in the way these are lost: %v", lost)
	}
	l.stopKamailio()
}

// outage: the engine, and NATS in it, is not there when Kamailio starts; later it
// hangs while calls end, is killed, and is back after some seconds.
func (l *lab) outage(t *testing.T, random *rand.Rand) {
	t.Helper()
	l.engine.kill()
	l.startKamailio(t) // counts anew
	hungUp := l.dial(t, shortCalls(random, 200), 12)
	ended := func(more int) {
		t.Helper()
		n := len(l.published(t)) + more
		l.until(t, fmt.Sprint(n, " calls have ended"), func() bool { return len(l.published(t)) >= n })
	}
	ended(10)
	l.startEngine(t)
	ended(50)
	if err := l.engine.cmd.Process.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	ended(10)
	l.engine.kill()
	ended(30)
	l.startEngine(t)
	hungUp()
	l.arrived(t)

	lost := l.lost(t)
	t.Logf("in the outage Kamailio has published %d records; %d are lost, and gaps names them: %v", len(l.published(t)), len(lost), lost)
	if len(lost) < 5 {
		t.Error("too few were lost while NATS hung and died to show anything")
	}
	l.sendAgain(t)
	if lost := l.lost(t); len(lost) != 0 {
		t.Errorf("after Kamailio's log was published these are missing: %v", lost)
	}
	l.stopKamailio()
}

// A number is one of a tenant's records.
type number struct {
	account string
	seq     uint64
}

// lost are the records that this Kamailio has published and that never came. What
// the engine names as missing has to be exactly those.
func (l *lab) lost(t *testing.T) (lost []number) {
	t.Helper()
	published := l.published(t)
	source := published[0].source()
	have, named := map[number]bool{}, map[number]bool{}
	for _, e := range booked(t, l.dir) {
		if _, ok := e.Data.(*domain.Call); ok && e.Source == source {
			have[number{e.Tenant, e.Sequence.N}] = true
		}
	}
	for _, account := range accounts {
		g := l.gaps(t, account, source)
		for _, m := range g.Missing {
			for n := m.From; n <= m.To; n++ {
				named[number{account, uint64(n)}] = true
			}
		}
		if g.RepeatedCount != 0 || g.Truncated {
			t.Errorf("%s: %d numbers are repeated, truncated %t", account, g.RepeatedCount, g.Truncated)
		}
	}
	for _, c := range published {
		n := number{c.account, c.seq}
		switch {
		case l.unbookable(c.callID): // it came, and waits in suspense
			if named[n] {
				t.Errorf("number %v is in suspense, and missing by gaps", n)
			}
		case have[n] == named[n]:
			t.Errorf("number %v: in the book %t, missing by gaps %t", n, have[n], named[n])
		case !have[n]:
			lost = append(lost, n)
		}
		delete(named, n)
	}
	for n := range named {
		t.Errorf("number %v is missing by gaps, and Kamailio has never published it", n)
	}
	return lost
}

func (c *numbered) source() string { return "switch/kam-a/" + c.boot }

// sendAgain publishes Kamailio's log as the page tells.
func (l *lab) sendAgain(t *testing.T) {
	t.Helper()
	text, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	m := sedOnPage.FindSubmatch(text)
	if m == nil {
		t.Fatalf("%s has no sed -n '…'", page)
	}
	for _, account := range accounts {
		records, err := exec.Command("sed", "-n", strings.ReplaceAll(string(m[1]), "acme", account), l.log()).Output()
		if err != nil {
			t.Fatal(err)
		}
		l.ask(t, "publish", "--from", "kamailio", "--tenant", account, "--switch", "kam-a", writeFile(t, "records.jsonl", records))
	}
}

// A phoned call is what sipp says of one.
type phoned struct {
	plan   *plan
	callID string
	status int32
	talk   time.Duration // of an answered call
}

// unbookable reports whether a call is planned to be one that nobody can book.
func (l *lab) unbookable(callID string) bool {
	return slices.ContainsFunc(l.known, func(p phoned) bool { return p.callID == callID && p.plan.whose == nobody })
}

// dial begins to make calls, some a second of each kind of caller. What it
// returns is to be called, and does once all have ended and Kamailio has
// published what it will.
func (l *lab) dial(t *testing.T, plans []plan, rate int) (hungUp func()) {
	t.Helper()
	type caller struct{ scenario, from string }
	groups := map[caller][]plan{}
	for _, p := range plans {
		c := caller{p.scenario, pbxIP}
		if p.direction == domain.Inbound {
			c.from = carrierIP
		}
		groups[c] = append(groups[c], p)
	}
	before := len(l.published(t))
	var callers []func() ([]phoned, error)
	for c, plans := range groups {
		dir := t.TempDir()
		ended := make(chan error, 1)
		var made []phoned
		go func() {
			var err error
			made, err = l.sipp(dir, c.scenario, c.from, plans, rate)
			ended <- err
		}()
		callers = append(callers, func() ([]phoned, error) {
			err := <-ended
			return made, err
		})
	}
	return func() {
		t.Helper()
		made := 0
		for _, wait := range callers {
			calls, err := wait()
			if err != nil {
				t.Error(err)
			}
			made += len(calls)
			l.known = append(l.known, calls...)
		}
		l.until(t, fmt.Sprint("Kamailio has published ", made, " calls"), func() bool { return len(l.published(t)) >= before+made })
	}
}

// sipp runs a scenario of callers, and returns what it says of each call.
func (l *lab) sipp(dir, scenario, from string, plans []plan, rate int) (made []phoned, err error) {
	rows := []byte("SEQUENTIAL\n")
	for i := range plans {
		rows = append(rows, plans[i].row()...)
	}
	file := func(name string) string { return filepath.Join(dir, name) }
	if err := os.WriteFile(file("calls.csv"), rows, 0o644); err != nil {
		return nil, err
	}
	path, err := program("sipp")
	if err != nil {
		return nil, err
	}
	if out, err := exec.Command(path, "-sf", "testdata/sipp/"+scenario+".xml", "-inf", file("calls.csv"), "-m", fmt.Sprint(len(plans)), "-r", fmt.Sprint(rate), "-l", "1000",
		"-i", from, "-bind_local", "-nostdin", "-timeout", "60", "-trace_logs", "-log_file", file("calls.log"), "-trace_err", "-error_file", file("errors.log"), l.sip).CombinedOutput(); err != nil {
		said, _ := os.ReadFile(file("errors.log"))
		return nil, fmt.Errorf("sipp, %s from %s: %w\n%.4000s\n%s", scenario, from, err, said, out[max(0, len(out)-2000):])
	}
	log, err := os.ReadFile(file("calls.log"))
	ended := map[*plan]bool{}
	for line := range strings.Lines(string(log)) {
		p, err := readPhoned(line, plans)
		if err != nil {
			return nil, fmt.Errorf("sipp, %s from %s: %q: %w", scenario, from, line, err)
		}
		made = append(made, p)
		ended[p.plan] = true
	}
	if err == nil && len(ended) != len(plans) {
		err = fmt.Errorf("sipp, %s from %s: of %d calls the log has %d", scenario, from, len(plans), len(ended))
	}
	return made, err
}

// readPhoned reads what a scenario logs: Call-ID and status, and of an answered
// call the seconds and microseconds when it was answered and when it ended. The
// Call-ID begins with the number of the call, from 1.
func readPhoned(line string, plans []plan) (p phoned, err error) {
	f := strings.Fields(line)
	if len(f) != 2 && len(f) != 6 {
		return p, errors.New("a Call-ID and a status are expected")
	}
	number, _, _ := strings.Cut(f[0], "-")
	n, err := strconv.Atoi(number)
	if err != nil || n < 1 || n > len(plans) {
		return p, fmt.Errorf("call %q of %d", number, len(plans))
	}
	numbers := make([]int64, len(f)-1)
	for i := range numbers {
		whole, _, _ := strings.Cut(f[1+i], ".")
		if numbers[i], err = strconv.ParseInt(whole, 10, 64); err != nil {
			return p, err
		}
	}
	p = phoned{plan: &plans[n-1], callID: f[0], status: int32(numbers[0])}
	if len(f) == 6 {
		p.talk = time.Duration(numbers[3]-numbers[1])*time.Second + time.Duration(numbers[4]-numbers[2])*time.Microsecond
	}
	return p, nil
}

// A reconciled kind is a row of the reconciliation.
type reconciled struct {
	phoned, booked, suspended, answered int

	talk, billed time.Duration
	most         time.Duration // the greatest difference of a call
}

func (a *reconciled) add(b *reconciled) {
	a.phoned += b.phoned
	a.booked += b.booked
	a.suspended += b.suspended
	a.answered += b.answered
	a.talk += b.talk
	a.billed += b.billed
	a.most = max(a.most, b.most)
}

// reconcile compares the book with what sipp says of each call, and prints the
// sums.
func (l *lab) reconcile(t *testing.T) {
	t.Helper()
	type attempt struct { // a caller who tries again keeps the Call-ID
		callID string
		status int32
	}
	calls := map[attempt]domain.Event{}
	for _, e := range booked(t, l.dir) {
		if c, ok := e.Data.(*domain.Call); ok {
			a := attempt{c.Correlation, c.SIPStatus}
			if _, twice := calls[a]; twice {
				t.Errorf("booked twice: %v", a)
			}
			calls[a] = e
		}
	}
	sums := map[string]*reconciled{}
	for _, p := range l.known {
		sum := sums[p.plan.kind]
		if sum == nil {
			sum = &reconciled{}
			sums[p.plan.kind] = sum
		}
		sum.phoned++
		a := attempt{p.callID, p.status}
		e, ok := calls[a]
		delete(calls, a)
		switch {
		case p.plan.whose == nobody:
			if sum.suspended++; ok {
				t.Errorf("%s %s is booked, and nobody can say whose it is", p.plan.kind, p.callID)
			}
		case !ok:
			t.Errorf("%s %s, which ended with %d, is not in the book", p.plan.kind, p.callID, p.status)
		default:
			sum.booked++
			p.compare(t, &e, sum)
		}
	}
	for a := range calls {
		t.Errorf("the book has %v, which nobody phoned", a)
	}
	var all reconciled
	for _, sum := range sums {
		all.add(sum)
	}
	if n := l.suspended(t); n != all.suspended {
		t.Errorf("%d records are in suspense, want %d:\n%s", n, all.suspended, l.ask(t, "suspense"))
	}
	sums["all"] = &all
	t.Logf("reconciliation of what sipp counted with what is booked:\n%s", printReconciled(sums))
}

// compare checks a booked call against what the caller saw.
func (p *phoned) compare(t *testing.T, e *domain.Event, sum *reconciled) {
	t.Helper()
	c := e.Data.(*domain.Call)
	got := fmt.Sprintf("%s %s of %s: %s to %s, %s %d", e.Tenant, c.Direction, c.User, c.Calling, c.Called, c.Disposition, c.SIPStatus)
	want := p.plan.want(p.status)
	if got != want {
		t.Errorf("%s %s is booked as\n     %s\nwant %s", p.plan.kind, p.callID, got, want)
	}
	if c.Disposition != domain.Answered {
		if c.BillableMS != 0 {
			t.Errorf("%s %s was not answered and has %d ms", p.plan.kind, p.callID, c.BillableMS)
		}
		return
	}
	billed := time.Duration(c.BillableMS) * time.Millisecond
	apart := (billed - p.talk).Abs()
	if apart > tolerance {
		t.Errorf("%s %s: the caller talked for %v, booked are %v", p.plan.kind, p.callID, p.talk, billed)
	}
	sum.answered++
	sum.talk += p.talk
	sum.billed += billed
	sum.most = max(sum.most, apart)
}

// suspended is how many records of the switch wait.
func (l *lab) suspended(t *testing.T) (n int) {
	t.Helper()
	for _, one := range decoded[api.Status](t, l.ask(t, "status", "--format", "json")).Tenants {
		n += int(one.Suspended)
	}
	return n
}

func printReconciled(sums map[string]*reconciled) string {
	var text strings.Builder
	w := tabwriter.NewWriter(&text, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(w, "calls\tsipp\tbooked\tsuspended\tanswered\ttalk by sipp\tbooked talk\tgreatest difference\t")
	for _, kind := range append(kinds(), "all") {
		if sum := sums[kind]; sum != nil {
			ms := func(d time.Duration) string { return fmt.Sprintf("%.3f s", d.Seconds()) }
			fmt.Fprintf(w, "%s\t%d\t%d\t%d\t%d\t%s\t%s\t%s\t\n", kind, sum.phoned, sum.booked, sum.suspended, sum.answered, ms(sum.talk), ms(sum.billed), ms(sum.most))
		}
	}
	_ = w.Flush()
	return text.String()
}
