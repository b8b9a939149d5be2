package jetstream

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/ThreeDotsLabs/watermill"
	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/nats-io/nats.go"
	natsjs "github.com/nats-io/nats.go/jetstream"
)

const (
	// maxPullMessages is how many messages are asked for at once. The next are
	// when half have come, which keeps the connection busy; more would let one
	// subscriber of a shared consumer take all from the others.
	maxPullMessages = 1024

	// minPullBytes is how many bytes are asked for at once. They can all be
	// waiting in the client, which must stay well below the 64 MiB at which
	// nats.go drops the messages of a slow subscription.
	minPullBytes = 8 << 20

	// pullExpiry is how long a pull request stays at the server, and
	// pullHeartbeat how often the server then says that it still has it. After two
	// missed heartbeats it is asked again.
	pullExpiry    = 10 * time.Second
	pullHeartbeat = 2 * time.Second

	// messageOverhead is charged to MaxInFlightBytes for each message besides
	// its own bytes, for its context and goroutine, and headerOverhead for each of
	// its headers, which are kept in two maps; in bytes.
	messageOverhead = 1 << 10
	headerOverhead  = 256

	// extendsPerAckWait is how often deadlines are extended in one AckWait. A
	// message goes without extension for two ticks at most, half of AckWait.
	extendsPerAckWait = 4

	// drainTimeout bounds the wait for messages on their way when a
	// subscription stops while the connection is down.
	drainTimeout = 2 * time.Second

	// firstRetry and lastRetry bound the pauses between attempts to get a
	// consumer back.
	firstRetry = 50 * time.Millisecond
	lastRetry  = 5 * time.Second
)

// subscription is one Subscribe call. Messages go from the puller (receive) over
// flight.queue to feed, which hands them out; await settles each.
type subscription struct {
	config  SubscriberConfig
	route   Route
	log     watermill.LoggerAdapter
	parent  context.Context // of the messages' contexts
	running context.Context // done when the subscription is to stop
	release context.CancelFunc

	consumer natsjs.Consumer // owned by run

	out     chan *message.Message
	abandon chan struct{}  // closed when unacked messages are to be returned
	waiters sync.WaitGroup // awaits; added to by feed only

	flight flight
}

// delivery is one message in flight.
type delivery struct {
	raw    *nats.Msg
	size   int
	tick   uint64
	valid  *validity
	stream string
	seq    uint64

	mu      sync.Mutex
	settled bool // an ack or nak was sent: an extension would undo a nak
}

// validity is shared by the deliveries of one incarnation of a consumer. Once
// the consumer was deleted and made anew, its stream may be another one too, and
// an old acknowledgement could hit a new message with the same sequence.
type validity struct {
	mu   sync.RWMutex
	over bool
}

func (v *validity) end() {
	v.mu.Lock()
	v.over = true
	v.mu.Unlock()
}

func newSubscription(config SubscriberConfig, route Route, parent, running context.Context, release context.CancelFunc, consumer natsjs.Consumer) *subscription {
	return &subscription{
		config:   config,
		route:    route,
		log:      config.Logger.With(watermill.LogFields{"stream": route.Stream, "consumer": route.Durable}),
		parent:   parent,
		running:  running,
		release:  release,
		consumer: consumer,
		out:      make(chan *message.Message),
		abandon:  make(chan struct{}),
		flight: flight{
			maxCount: config.MaxInFlight,
			maxBytes: config.MaxInFlightBytes,
			members:  make(map[*delivery]struct{}),
			queue:    make(chan *delivery, config.MaxInFlight),
			room:     make(chan struct{}, 1),
		},
	}
}

// run returns when the subscription has stopped and nothing of it is left.
func (s *subscription) run() {
	defer s.release()
	var helpers sync.WaitGroup
	fed, settled := make(chan struct{}), make(chan struct{})
	helpers.Go(func() { defer close(fed); s.feed() })
	helpers.Go(func() { s.extend(settled) })

	s.consume()
	s.release()
	<-fed

	// From here on the server sends nothing more, so what is returned goes to
	// another subscriber and not back to this one.
	s.returnQueue()
	s.waitSettled()
	close(s.abandon)
	s.waiters.Wait()
	close(settled)
	helpers.Wait()
	// Where the drain timed out, receive may have added messages meanwhile.
	s.flight.close()
	s.returnQueue()

	// The next subscriber should not wait for AckWait because this connection
	// is closed with naks in its buffer.
	flush, cancel := context.WithTimeout(context.Background(), drainTimeout)
	defer cancel()
	if err := s.config.JetStream.Conn().FlushWithContext(flush); err != nil {
		s.log.Debug("Stopped without the server's confirmation; unacked messages may wait for AckWait", watermill.LogFields{"error": err.Error()})
	}
}

// consume receives until the subscription is to stop, getting the consumer back
// whenever it is lost.
func (s *subscription) consume() {
	valid := new(validity)
	for {
		err := s.receiveUntilLost(valid)
		if s.running.Err() != nil {
			return
		}
		s.log.Info("Consumer lost, getting it back", watermill.LogFields{"error": err.Error()})
		created := s.consumer.CachedInfo().Created
		if !s.regain() {
			return
		}
		if !s.consumer.CachedInfo().Created.Equal(created) {
			valid.end()
			valid = new(validity)
		}
	}
}

// receiveUntilLost returns once no more messages arrive from the server: nil
// because the subscription is to stop, or why the consumer has to be looked at.
func (s *subscription) receiveUntilLost(valid *validity) error {
	js := s.config.JetStream
	pullBytes := max(minPullBytes, 2*int(js.Conn().MaxPayload()))
	pull := newPuller(js, s.route, min(s.config.MaxInFlight, maxPullMessages), pullBytes, func(raw *nats.Msg) { s.receive(raw, valid) })
	return pull.run(s.running.Done())
}

// regain gets the consumer back, however long it takes. It reports false if the
// subscription is to stop, or has to because its connection is closed for good.
func (s *subscription) regain() bool {
	pause := firstRetry
	for {
		timer := time.NewTimer(pause)
		select {
		case <-s.running.Done():
			timer.Stop()
			return false
		case <-timer.C:
		}
		if s.config.JetStream.Conn().IsClosed() {
			s.log.Error("Subscription ended: its connection is closed", nats.ErrConnectionClosed, nil)
			return false
		}
		consumer, err := ensureConsumer(s.running, s.config, s.route)
		if err == nil {
			s.consumer = consumer
			return true
		}
		if s.running.Err() == nil {
			s.log.Error("Consumer not available, will try again", err, nil)
		}
		pause = min(2*pause, lastRetry)
	}
}

// receive is called by the puller, one message at a time. It blocks while the
// flight is full, so that no more are asked for.
func (s *subscription) receive(raw *nats.Msg, valid *validity) {
	d := &delivery{raw: raw, valid: valid, size: raw.Size() + messageOverhead + len(raw.Header)*headerOverhead}
	meta, err := raw.Metadata()
	if err != nil {
		s.log.Error("Message without JetStream reply subject ignored", err, watermill.LogFields{"subject": raw.Subject})
		return
	}
	d.stream, d.seq = meta.Stream, meta.Sequence.Stream
	if !s.flight.enter(d, s.running.Done()) {
		s.nak(d, 0)
	}
}

// feed hands out the messages in the order they came, until the subscription is
// to stop.
func (s *subscription) feed() {
	defer close(s.out)
	for {
		select {
		case <-s.running.Done():
			return
		case d := <-s.flight.queue:
			msg := newMessage(d.stream, d.seq, s.config.OwnUUIDs, d.raw.Subject, d.raw.Header, d.raw.Data)
			ctx, cancel := context.WithCancel(s.parent)
			msg.SetContext(ctx)
			select {
			case s.out <- msg:
				s.waiters.Go(func() { s.await(d, msg, cancel) })
			case <-s.running.Done():
				cancel()
				s.flight.queue <- d
				return
			}
		}
	}
}

// await settles one message that was handed out. A goroutine for each is the
// price of Watermill's two channels a message; it is some 3 KiB and below a
// microsecond.
func (s *subscription) await(d *delivery, msg *message.Message, cancel context.CancelFunc) {
	defer cancel()
	select {
	case <-msg.Acked():
		s.ack(d)
	case <-msg.Nacked():
		s.nak(d, s.config.NackDelay)
	case <-s.abandon:
		select {
		case <-msg.Acked():
			s.ack(d)
		default:
			s.nak(d, 0)
		}
	}
	s.flight.leave(d)
}

// ack does not wait for the server. If the ack is lost, the message is delivered
// again.
func (s *subscription) ack(d *delivery) { s.settle(d, "+ACK") }

func (s *subscription) nak(d *delivery, delay time.Duration) {
	if delay == 0 {
		s.settle(d, "-NAK")
		return
	}
	s.settle(d, fmt.Sprintf(`-NAK {"delay": %d}`, delay))
}

func (s *subscription) settle(d *delivery, word string) {
	d.mu.Lock()
	d.settled = true
	err := s.reply(d, word)
	d.mu.Unlock()
	if err != nil {
		s.log.Debug("Message not settled, JetStream will redeliver it", watermill.LogFields{"sequence": d.seq, "error": err.Error()})
	}
}

// reply tells JetStream of a message, unless that would be another one by now.
func (s *subscription) reply(d *delivery, word string) error {
	d.valid.mu.RLock()
	defer d.valid.mu.RUnlock()
	if d.valid.over {
		return nil
	}
	return s.config.JetStream.Conn().Publish(d.raw.Reply, []byte(word))
}

// extend keeps JetStream from redelivering what is still being worked on: one
// ticker for all messages of the subscription, also those not yet handed out.
func (s *subscription) extend(done <-chan struct{}) {
	ticker := time.NewTicker(s.config.AckWait / extendsPerAckWait)
	defer ticker.Stop()
	for {
		select {
		case <-done:
			return
		case <-ticker.C:
		}
		for _, d := range s.flight.tick() {
			d.mu.Lock()
			if !d.settled {
				// A lost extension costs a redelivery at most.
				_ = s.reply(d, "+WPI")
			}
			d.mu.Unlock()
		}
	}
}

// returnQueue gives back the messages that were never handed out.
func (s *subscription) returnQueue() {
	for {
		select {
		case d := <-s.flight.queue:
			s.nak(d, 0)
			s.flight.leave(d)
		default:
			return
		}
	}
}

// waitSettled gives handlers SettleTimeout to ack what they have.
func (s *subscription) waitSettled() {
	if s.config.SettleTimeout == 0 {
		return
	}
	timeout := time.NewTimer(s.config.SettleTimeout)
	defer timeout.Stop()
	select {
	case <-s.flight.empty():
	case <-timeout.C:
	}
}
