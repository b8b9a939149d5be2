package follow

import (
	"bufio"
	"bytes"
	"context"
	"crypto/md5"
	"crypto/tls"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"os"
	"strings"
	"time"

	"github.com/go-json-experiment/json/jsontext"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sync/semaphore"

	"tollbook/consumers/cdr"
)

// Limits of what a manager sends. A Cdr event has 1 KiB.
const (
	maxAMILine   = 64 << 10
	maxAMIEvent  = cdr.MaxRecordBytes
	maxAMIFields = 1000
	maxAMIQueue  = 64 << 20 // bytes of events that wait for an answer; then the manager waits
	amiSilence   = 3        // unanswered pings until a peer is taken for dead
)

// An AMI is a connection to Asterisk's manager that takes its Cdr events. The
// manager repeats nothing: what happens while nobody is connected is only in files.
type AMI struct {
	Address, User, Secret string
	TLS                   *tls.Config // nil: plain, where the secret goes as an answer to a challenge

	Of        string // whose records, in words
	Send      func(ctx context.Context, payload []byte) error
	State     string        // its file
	Ping      time.Duration // how often the peer is asked whether it lives
	Retry     time.Duration // until the next try to connect; twice as long each time, up to RetryMost
	RetryMost time.Duration
	Last      time.Duration // how long a stop waits for answers to what has come

	Clock func() time.Time
	Log   *slog.Logger
}

// errLogin is returned when the manager does not let the user in.
var errLogin = errors.New("the manager refuses the login")

// An amiEvent is one as a record, and when it came.
type amiEvent struct {
	record []byte // nil: not a Cdr; it only says that all before it was heard
	at     time.Time
	held   int64 // of the room
}

// amiRun is what a run of an AMI has.
type amiRun struct {
	*AMI
	queue chan amiEvent
	room  *semaphore.Weighted // of maxAMIQueue bytes
	heard time.Time           // when the peer last said anything; zero: not in this run or before
}

// Run takes events until ctx ends. What had come by then is sent first.
func (a *AMI) Run(ctx context.Context) error {
	lock, err := lockState(a.State)
	if err != nil {
		return err
	}
	s, err := readState(a.State, a.Of)
	if err == nil {
		err = writeState(a.State, s)
	}
	if err != nil {
		return errors.Join(err, lock.Unlock())
	}
	r := &amiRun{AMI: a, queue: make(chan amiEvent, 10_000), room: semaphore.NewWeighted(maxAMIQueue), heard: s.Heard}
	a.Log.Info("Asterisk's manager does not repeat what it sent while nobody was connected: let Asterisk write its CDRs to a CSV file too (cdr_csv), to publish from it what is missed here")

	group, receiving := errgroup.WithContext(ctx)
	sending, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	group.Go(func() error {
		defer close(r.queue)
		return r.receive(receiving)
	})
	group.Go(func() error { return r.send(sending) })
	go func() {
		<-receiving.Done()
		select {
		case <-time.After(a.Last):
			stop()
		case <-sending.Done():
		}
	}()
	err = group.Wait()
	if n := len(r.queue); n > 0 {
		first := <-r.queue
		a.Log.Error("records are lost: they came from the manager and could not be booked before the stop", "records", n, "from", stamp(first.at), "until", stamp(a.Clock()))
	}
	return errors.Join(err, lock.Unlock())
}

// receive connects again and again.
func (r *amiRun) receive(ctx context.Context) error {
	wait, said, first := r.Retry, "", true
	for {
		in, err := r.session(ctx)
		if ctx.Err() != nil {
			return nil
		}
		if first && !in && errors.Is(err, errLogin) {
			return err // nobody has seen it work: it is a slip
		}
		if in {
			wait, said, first = r.Retry, "", false
		}
		if text := err.Error(); text != said {
			r.Log.Warn("not connected to the manager; trying again", "ami", r.Address, "error", err)
			said = text
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(wait/2 + rand.N(wait/2+1)):
		}
		wait = min(2*wait, r.RetryMost)
	}
}

// session is one connection; in: the login was accepted.
func (r *amiRun) session(ctx context.Context) (in bool, err error) {
	dialer := &net.Dialer{Timeout: amiSilence * r.Ping}
	var conn net.Conn
	if r.TLS != nil {
		conn, err = (&tls.Dialer{NetDialer: dialer, Config: r.TLS}).DialContext(ctx, "tcp", r.Address)
	} else {
		conn, err = dialer.DialContext(ctx, "tcp", r.Address)
	}
	if err != nil {
		return false, err
	}
	defer func() { _ = conn.Close() }()
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	defer stop()
	lines := bufio.NewReader(conn)
	alive := func() error { return conn.SetDeadline(time.Now().Add(amiSilence * r.Ping)) }
	if err := alive(); err != nil {
		return false, err
	}
	if err := r.login(conn, lines); err != nil {
		return false, err
	}
	now := r.Clock()
	if r.heard.IsZero() {
		r.Log.Info("connected to the manager", "ami", r.Address)
	} else {
		r.Log.Warn("connected to the manager; records of calls that ended while it was not connected did not come and are missing unless they are published from the CSV file", "ami", r.Address,
			"from", stamp(r.heard), "until", stamp(now))
	}
	r.heard = now
	done := make(chan struct{})
	defer close(done)
	go r.ping(conn, done)
	for {
		if err := alive(); err != nil {
			return true, err
		}
		headers, err := readMessage(lines)
		if errors.Is(err, os.ErrDeadlineExceeded) {
			err = fmt.Errorf("the manager has not answered for %v: %w", amiSilence*r.Ping, err)
		}
		if err != nil {
			return true, err
		}
		r.heard = r.Clock()
		e := amiEvent{at: r.heard}
		if value(headers, "Event") == "Cdr" {
			e.record = appendObject(nil, headers)
		}
		if r.room.Acquire(ctx, int64(len(e.record))) == nil {
			e.held = int64(len(e.record))
		}
		select {
		case r.queue <- e:
		case <-ctx.Done():
			r.queueLast(e)
			return true, ctx.Err()
		}
	}
}

// queueLast keeps what was read when the stop came, if there is room.
func (r *amiRun) queueLast(e amiEvent) {
	select {
	case r.queue <- e:
	default:
		r.Log.Error("a record is lost: it came from the manager and could not be booked before the stop", "from", stamp(e.at))
	}
}

// ping asks the peer to say something.
func (r *amiRun) ping(conn io.Writer, done <-chan struct{}) {
	ticker := time.NewTicker(r.Ping)
	defer ticker.Stop()
	for {
		select {
		case <-done:
			return
		case <-ticker.C:
			if _, err := io.WriteString(conn, "Action: Ping\r\n\r\n"); err != nil {
				return // the reader notices
			}
		}
	}
}

func (r *amiRun) login(conn io.Writer, lines *bufio.Reader) error {
	banner, err := readAMILine(lines)
	if err != nil {
		return err
	}
	if !bytes.HasPrefix(banner, []byte("Asterisk Call Manager/")) {
		return fmt.Errorf("%s is no manager of an Asterisk: it says %.40q", r.Address, banner)
	}
	answer, err := ask(conn, lines, "Action: Challenge\r\nAuthType: MD5\r\n\r\n")
	if err != nil {
		return err
	}
	challenge := value(answer, "Challenge")
	if challenge == "" {
		return fmt.Errorf("%w: no challenge: %s", errLogin, value(answer, "Message"))
	}
	key := md5.Sum([]byte(challenge + r.Secret))
	answer, err = ask(conn, lines, "Action: Login\r\nAuthType: MD5\r\nUsername: "+r.User+"\r\nKey: "+hex.EncodeToString(key[:])+"\r\nEvents: cdr\r\n\r\n")
	if err == nil && value(answer, "Response") != "Success" {
		err = fmt.Errorf("%w of user %s: %s; manager.conf needs this user, its secret and read = cdr", errLogin, r.User, value(answer, "Message"))
	}
	return err
}

// ask returns the answer to an action; events before it are none of ours yet.
func ask(conn io.Writer, lines *bufio.Reader, action string) ([]header, error) {
	if _, err := io.WriteString(conn, action); err != nil {
		return nil, err
	}
	for range maxAMIFields {
		headers, err := readMessage(lines)
		if err != nil || value(headers, "Response") != "" {
			return headers, err
		}
	}
	return nil, errors.New("the manager sends events and no answer")
}

// send publishes what waits, as much as there is together.
func (r *amiRun) send(ctx context.Context) error {
	saved := r.Clock()
	for e := range r.queue {
		payload, heard, held := []byte(nil), e.at, int64(0)
		add := func(e amiEvent) {
			heard, held = e.at, held+e.held
			if e.record != nil {
				payload = append(append(payload, e.record...), '\n')
			}
		}
		add(e)
		for waiting := len(r.queue); waiting > 0 && len(payload) < pieceBytes-maxAMIEvent; waiting-- {
			add(<-r.queue) // only this goroutine takes
		}
		if payload != nil {
			if err := r.Send(ctx, payload); err != nil {
				return fmt.Errorf("%w; records that came from the manager since %s are not booked", err, stamp(e.at))
			}
			r.room.Release(held)
		}
		if payload != nil || heard.Sub(saved) >= r.Ping {
			saved = heard
			if err := writeState(r.State, &state{Of: r.Of, Heard: heard}); err != nil {
				r.Log.Warn("the state can't be saved: after a stop more time will be taken for missed than was", "error", err)
			}
		}
	}
	return nil
}

// A header is a line of a message.
type header struct{ name, value string }

func value(headers []header, name string) string {
	for _, h := range headers {
		if strings.EqualFold(h.name, name) {
			return h.value
		}
	}
	return ""
}

// readMessage reads headers up to an empty line. A line that is no header belongs
// to the one before: Asterisk does not escape the ends of lines in values.
func readMessage(lines *bufio.Reader) (headers []header, err error) {
	for size := 0; ; {
		line, err := readAMILine(lines)
		if err != nil {
			return nil, err
		}
		if size += len(line); size > maxAMIEvent || len(headers) > maxAMIFields {
			return nil, fmt.Errorf("a message of the manager has more than %d bytes or %d headers", maxAMIEvent, maxAMIFields)
		}
		if len(line) == 0 {
			if len(headers) > 0 {
				return headers, nil
			}
			continue
		}
		name, value, ok := strings.Cut(string(line), ":")
		switch {
		case ok && name != "" && !strings.ContainsAny(name, " \t"):
			headers = append(headers, header{name, strings.TrimPrefix(value, " ")})
		case len(headers) > 0:
			headers[len(headers)-1].value += "\n" + string(line)
		default:
			return nil, fmt.Errorf("the manager sends %.40q, which is no header", line)
		}
	}
}

// readAMILine reads a line without its end.
func readAMILine(lines *bufio.Reader) ([]byte, error) {
	var line []byte
	for {
		part, err := lines.ReadSlice('\n')
		if len(line)+len(part) > maxAMILine {
			return nil, fmt.Errorf("a line of the manager is longer than %d bytes", maxAMILine)
		}
		line = append(line, part...)
		if err == nil {
			return bytes.TrimRight(line, "\r\n"), nil
		}
		if !errors.Is(err, bufio.ErrBufferFull) {
			if errors.Is(err, io.EOF) {
				err = errors.New("the manager has closed the connection")
			}
			return nil, err
		}
	}
}

// appendObject is a message as a JSON object with its headers, in their order. One
// that comes again with the same value is left out, with another it comes twice: the
// record is then refused and waits in suspense, as which of the two counts would be
// luck. What is not UTF-8 becomes U+FFFD.
func appendObject(dst []byte, headers []header) []byte {
	dst = append(dst, '{')
	said := map[header]bool{}
	for _, h := range headers {
		if said[h] {
			continue
		}
		if len(said) > 0 {
			dst = append(dst, ',')
		}
		said[h] = true
		dst = appendText(append(appendText(dst, h.name), ':'), h.value)
	}
	return append(dst, '}')
}

func appendText(dst []byte, text string) []byte {
	dst, err := jsontext.AppendQuote(dst, strings.ToValidUTF8(text, "\uFFFD"))
	if err != nil {
		panic(err) // only text that is not UTF-8 can't be quoted
	}
	return dst
}
