package jetstream

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/ThreeDotsLabs/watermill"
	"github.com/ThreeDotsLabs/watermill/message"
	natsjs "github.com/nats-io/nats.go/jetstream"
)

const (
	// DefaultMaxInFlight is enough to fill one group commit of the book and
	// have the next waiting.
	DefaultMaxInFlight = 4096
	// MaxMaxInFlight bounds the goroutines a subscription can have.
	MaxMaxInFlight = 1 << 16
	// DefaultMaxInFlightBytes bounds the payloads held for handlers, in bytes,
	// when messages are large: 4096 of 1 MiB would be 4 GiB.
	DefaultMaxInFlightBytes = 64 << 20
	// DefaultAckWait is JetStream's own default. It is how long the messages
	// of a crashed process wait for another one.
	DefaultAckWait = 30 * time.Second
	// MinAckWait leaves time for four deadline extensions and their way to
	// the server.
	MinAckWait = 100 * time.Millisecond
	// DefaultNackDelay keeps a handler that fails at once from being called in
	// a tight loop.
	DefaultNackDelay = 250 * time.Millisecond

	// setupTimeout bounds one request to create or look up a consumer; a
	// cluster electing a leader takes a few seconds.
	setupTimeout = 10 * time.Second
)

// ErrClosed is returned when a closed Subscriber or Publisher is used. It is
// final: make a new one.
var ErrClosed = errors.New("jetstream: closed")

// Route says which durable consumer serves a topic. Subscriptions with the same
// stream and durable, in any process, share its messages.
type Route struct {
	// Stream is the name of an existing stream. Required.
	Stream string
	// Durable is the consumer's name, without dots, spaces and wildcards.
	// Required. It is created on Subscribe, and updated if its settings differ.
	Durable string
	// Filters are the subjects to receive; none means the whole stream.
	Filters []string
}

// FixedRoute is a SubscriberConfig.Route that serves every topic with route.
func FixedRoute(route Route) func(topic string) (Route, error) {
	return func(string) (Route, error) { return route, nil }
}

// SubscriberConfig configures a [Subscriber].
type SubscriberConfig struct {
	// JetStream is the context to consume with. Required. The subscriber never
	// closes its connection.
	JetStream natsjs.JetStream
	// Route names the consumer of a topic. Required.
	Route func(topic string) (Route, error)
	// MaxInFlight is how many messages may be unacknowledged on one consumer,
	// over all its subscriptions: 1 to [MaxMaxInFlight]. Zero means
	// [DefaultMaxInFlight].
	MaxInFlight int
	// MaxInFlightBytes is how many bytes of messages one subscription holds for
	// its handlers. A single larger message still passes. What was asked for
	// may wait in the client besides: 8 MiB, or twice the server's largest
	// message, and as much again after a reconnect. Zero means [DefaultMaxInFlightBytes].
	MaxInFlightBytes int
	// AckWait is after how long without a sign of life JetStream redelivers a
	// message, at least [MinAckWait]. It need not cover the handling time:
	// messages in a handler are extended. Zero means [DefaultAckWait].
	AckWait time.Duration
	// NackDelay is how long JetStream waits before it redelivers a message
	// that was nacked. Zero means [DefaultNackDelay].
	NackDelay time.Duration
	// SettleTimeout is how long a subscription that stops still takes the
	// acks of messages already handed out. After it they are returned to
	// JetStream for redelivery. Zero means they are returned at once.
	SettleTimeout time.Duration
	// OwnUUIDs names messages stream:sequence, whatever UUID their sender gave
	// them: Watermill's router puts it into the log.
	OwnUUIDs bool
	// Logger gets what the subscriber recovers from by itself. Nil means none.
	Logger watermill.LoggerAdapter
}

func (c SubscriberConfig) withDefaults() (SubscriberConfig, error) {
	if c.JetStream == nil {
		return c, errors.New("jetstream: SubscriberConfig.JetStream is required")
	}
	if c.Route == nil {
		return c, errors.New("jetstream: SubscriberConfig.Route is required")
	}
	if c.MaxInFlight == 0 {
		c.MaxInFlight = DefaultMaxInFlight
	}
	if c.MaxInFlight < 1 || c.MaxInFlight > MaxMaxInFlight {
		return c, fmt.Errorf("jetstream: SubscriberConfig.MaxInFlight is %d, must be 1 to %d", c.MaxInFlight, MaxMaxInFlight)
	}
	if c.MaxInFlightBytes == 0 {
		c.MaxInFlightBytes = DefaultMaxInFlightBytes
	}
	if c.MaxInFlightBytes < 0 {
		return c, fmt.Errorf("jetstream: SubscriberConfig.MaxInFlightBytes is %d, must not be negative", c.MaxInFlightBytes)
	}
	if c.AckWait == 0 {
		c.AckWait = DefaultAckWait
	}
	if c.AckWait < MinAckWait {
		return c, fmt.Errorf("jetstream: SubscriberConfig.AckWait is %s, must be at least %s", c.AckWait, MinAckWait)
	}
	if c.NackDelay == 0 {
		c.NackDelay = DefaultNackDelay
	}
	if c.NackDelay < 0 || c.SettleTimeout < 0 {
		return c, errors.New("jetstream: SubscriberConfig.NackDelay and SettleTimeout must not be negative")
	}
	if c.Logger == nil {
		c.Logger = watermill.NopLogger{}
	}
	return c, nil
}

// Subscriber receives messages from JetStream for Watermill. It is safe for
// concurrent use.
type Subscriber struct {
	config SubscriberConfig

	closing context.Context // done once Close is called
	close   context.CancelFunc

	mu            sync.Mutex
	closed        bool
	subscriptions sync.WaitGroup
}

var (
	_ message.Subscriber           = (*Subscriber)(nil)
	_ message.SubscribeInitializer = (*Subscriber)(nil)
)

// NewSubscriber returns a subscriber, or an error if config is not usable.
func NewSubscriber(config SubscriberConfig) (*Subscriber, error) {
	config, err := config.withDefaults()
	if err != nil {
		return nil, err
	}
	s := &Subscriber{config: config}
	s.closing, s.close = context.WithCancel(context.Background())
	return s, nil
}

// Subscribe starts receiving the messages of topic and returns the channel they
// arrive on, up to MaxInFlight of them before the first is acked. The channel
// has no buffer: a message is handed out when it is read.
//
// When ctx ends or Close is called, the channel is closed, and what was not
// acked is returned to JetStream, to be redelivered to the next subscriber
// without waiting for AckWait. A message acked after that is redelivered all
// the same. Interruptions of the connection, a restarted server and a deleted
// consumer are recovered from; a consumer made anew delivers its stream from
// the start.
//
// It fails if the stream does not exist, the server cannot be reached now, or
// the subscriber is closed ([ErrClosed]).
func (s *Subscriber) Subscribe(ctx context.Context, topic string) (<-chan *message.Message, error) {
	if err := s.begin(); err != nil {
		return nil, err
	}
	sub, err := s.subscribe(ctx, topic)
	if err != nil {
		s.subscriptions.Done()
		return nil, err
	}
	go func() {
		defer s.subscriptions.Done()
		sub.run()
	}()
	return sub.out, nil
}

func (s *Subscriber) subscribe(ctx context.Context, topic string) (*subscription, error) {
	route, err := s.route(topic)
	if err != nil {
		return nil, err
	}
	running, stop := context.WithCancel(ctx)
	detach := context.AfterFunc(s.closing, stop)
	release := func() { detach(); stop() }
	consumer, err := ensureConsumer(running, s.config, route)
	if err != nil {
		release()
		return nil, err
	}
	return newSubscription(s.config, route, ctx, running, release, consumer), nil
}

// SubscribeInitialize creates or updates the durable consumer of topic. Subscribe
// does the same; calling it first only makes messages of a stream with interest
// retention wait for a subscriber that comes later.
func (s *Subscriber) SubscribeInitialize(topic string) error {
	if err := s.begin(); err != nil {
		return err
	}
	defer s.subscriptions.Done()
	route, err := s.route(topic)
	if err != nil {
		return err
	}
	_, err = ensureConsumer(s.closing, s.config, route)
	return err
}

// Close ends all subscriptions and returns when their channels are closed, their
// goroutines gone, and their unacked messages returned to JetStream. It may be
// called more than once, and always returns nil.
func (s *Subscriber) Close() error {
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
	s.close()
	s.subscriptions.Wait()
	return nil
}

func (s *Subscriber) begin() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return ErrClosed
	}
	s.subscriptions.Add(1)
	return nil
}

func (s *Subscriber) route(topic string) (Route, error) {
	route, err := s.config.Route(topic)
	if err != nil {
		return Route{}, fmt.Errorf("jetstream: no route for topic %q: %w", topic, err)
	}
	if route.Stream == "" || route.Durable == "" {
		return Route{}, fmt.Errorf("jetstream: route for topic %q needs a stream and a durable name", topic)
	}
	return route, nil
}

// ensureConsumer makes the durable consumer what config and route say. It is
// idempotent, so that many subscribers may do it at the same time.
func ensureConsumer(ctx context.Context, config SubscriberConfig, route Route) (natsjs.Consumer, error) {
	ctx, cancel := context.WithTimeout(ctx, setupTimeout)
	defer cancel()
	want := natsjs.ConsumerConfig{
		Durable:       route.Durable,
		DeliverPolicy: natsjs.DeliverAllPolicy,
		AckPolicy:     natsjs.AckExplicitPolicy,
		AckWait:       config.AckWait,
		MaxDeliver:    -1,
		MaxAckPending: config.MaxInFlight,
	}
	if len(route.Filters) == 1 {
		want.FilterSubject = route.Filters[0]
	} else {
		want.FilterSubjects = route.Filters
	}
	consumer, err := config.JetStream.CreateOrUpdateConsumer(ctx, route.Stream, want)
	switch {
	case err == nil:
		return consumer, nil
	case errors.Is(err, natsjs.ErrStreamNotFound):
		return nil, fmt.Errorf("jetstream: consumer %q: create stream %q first: %w", route.Durable, route.Stream, err)
	default:
		return nil, fmt.Errorf("jetstream: create consumer %q on stream %q: %w", route.Durable, route.Stream, err)
	}
}
