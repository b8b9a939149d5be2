package jetstream

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	natsjs "github.com/nats-io/nats.go/jetstream"
)

// A puller asks the server for the messages of a pull consumer, and for more once
// half of them have come.
//
// It is here in place of nats.go's Consume because that takes any message
// without payload that has a header Status for the server's word on a pull request:
// the message is dropped, redelivered and dropped again, and Status: 408 ends the
// subscription without a sign. Whoever may publish could stop the intake so. Here
// the server's word is only what comes on the request's own inbox; a message of
// the stream comes with its subject.
type puller struct {
	conn     *nats.Conn
	ask      string // the subject of pull requests
	inbox    string // of the answers; below it, the round of the request
	maxCount int    // messages asked for at once
	maxBytes int
	receive  func(*nats.Msg) // one at a time; may block, which stops asking

	lost chan error // has room for one: why asking again is of no use

	mu      sync.Mutex
	round   int // of requests; what the server says of an earlier one means nothing now
	count   int // asked for in this round and not received
	bytes   int
	heard   time.Time // when the server last gave a sign
	working bool      // receive has a message
}

func newPuller(js natsjs.JetStream, route Route, maxCount, maxBytes int, receive func(*nats.Msg)) *puller {
	api := "$JS.API"
	if o := js.Options(); o.Domain != "" {
		api = "$JS." + o.Domain + ".API"
	} else if o.APIPrefix != "" {
		api = strings.TrimSuffix(o.APIPrefix, ".")
	}
	return &puller{
		conn: js.Conn(), ask: api + ".CONSUMER.MSG.NEXT." + route.Stream + "." + route.Durable, inbox: js.Conn().NewInbox(),
		maxCount: maxCount, maxBytes: maxBytes, receive: receive,
		lost: make(chan error, 1),
	}
}

// run pulls until stop is closed, when it returns nil, or until the consumer has
// to be looked at. What the server has sent by then is received before it returns,
// unless that takes longer than drainTimeout.
func (p *puller) run(stop <-chan struct{}) error {
	status := p.conn.StatusChanged(nats.CONNECTED, nats.CLOSED)
	defer p.conn.RemoveStatusListener(status)
	sub, err := p.conn.Subscribe(p.inbox+".*", p.handle)
	if err != nil {
		return err
	}
	drained := make(chan struct{})
	sub.SetClosedHandler(func(string) { close(drained) })
	p.again(0)
	err = p.watch(stop, status)

	// To unsubscribe would throw away what nats.go has buffered, and those messages
	// would wait for AckWait.
	if sub.Drain() != nil {
		return err // the connection is closed
	}
	timeout := time.NewTimer(drainTimeout)
	defer timeout.Stop()
	select {
	case <-drained:
	case <-timeout.C:
	}
	return err
}

func (p *puller) watch(stop <-chan struct{}, status <-chan nats.Status) error {
	silence := time.NewTicker(pullHeartbeat)
	defer silence.Stop()
	for {
		select {
		case <-stop:
			return nil
		case err := <-p.lost:
			return err
		case s := <-status:
			if s == nats.CLOSED {
				return nats.ErrConnectionClosed
			}
			p.again(0) // the server that had the requests is not the one that is there now
		case <-silence.C:
			p.again(2 * pullHeartbeat)
		}
	}
}

// again begins a new round of requests if the server has been silent for so long
// while it could be heard.
func (p *puller) again(silent time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if silent > 0 && (p.working || time.Since(p.heard) < silent || !p.conn.IsConnected()) {
		return // without a connection, requests would pile up until there is one
	}
	p.round++
	p.count, p.bytes = 0, 0
	if !p.working {
		p.refill()
	}
}

// refill asks for what is missing to the limits. p.mu is held.
func (p *puller) refill() {
	if p.count > p.maxCount/2 && p.bytes > p.maxBytes/2 {
		return
	}
	count, bytes := max(p.maxCount-p.count, 1), p.maxBytes-p.bytes
	if bytes <= 0 {
		return
	}
	request := fmt.Appendf(nil, `{"batch":%d,"max_bytes":%d,"expires":%d,"idle_heartbeat":%d}`, count, bytes, pullExpiry, pullHeartbeat)
	p.heard = time.Now()
	if p.conn.PublishRequest(p.ask, p.inbox+"."+strconv.Itoa(p.round), request) == nil {
		p.count += count
		p.bytes += bytes
	} // else silence follows, and another try
}

// handle is called by nats.go with whatever comes, one at a time.
func (p *puller) handle(m *nats.Msg) {
	if round, own := strings.CutPrefix(m.Subject, p.inbox+"."); own {
		p.told(round, m.Header)
		return
	}
	p.mu.Lock()
	p.working = true
	p.mu.Unlock()
	p.receive(m)
	p.mu.Lock()
	defer p.mu.Unlock()
	p.working = false
	p.heard = time.Now()
	p.count = max(p.count-1, 0)
	p.bytes = max(p.bytes-m.Size(), 0)
	p.refill()
}

// told takes in what the server says of a request: that it still has it, or that
// it is at its end, with what has not come of it.
func (p *puller) told(round string, header nats.Header) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.heard = time.Now()
	if round != strconv.Itoa(p.round) {
		return
	}
	switch status, description := header.Get("Status"), strings.ToLower(header.Get("Description")); {
	case status == "100": // a heartbeat
		return
	case status == "400":
		p.lose(fmt.Errorf("%w: %s", natsjs.ErrBadRequest, description))
		return
	case status == "503":
		p.lose(nats.ErrNoResponders)
		return
	case strings.Contains(description, "consumer deleted"):
		p.lose(natsjs.ErrConsumerDeleted)
		return
	}
	count, errCount := strconv.Atoi(header.Get("Nats-Pending-Messages"))
	bytes, errBytes := strconv.Atoi(header.Get("Nats-Pending-Bytes"))
	if errors.Join(errCount, errBytes) != nil {
		// Something else, such as a change of leaders: if the requests are gone, silence follows.
		return
	}
	p.count = max(p.count-count, 0)
	p.bytes = max(p.bytes-bytes, 0)
	p.refill()
}

func (p *puller) lose(err error) {
	select {
	case p.lost <- err:
	default:
	}
}
