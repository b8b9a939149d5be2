package jetstream

import (
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/nats-io/nats.go"
	natsjs "github.com/nats-io/nats.go/jetstream"
)

const (
	// DefaultAckTimeout is how long a publisher waits for JetStream's
	// acknowledgements when its config says nothing: longer than a leader
	// election in a cluster.
	DefaultAckTimeout = 10 * time.Second

	// publishBatch is how many messages one Publish call has unacknowledged
	// on the wire. At 256 the round trip is no longer what limits.
	publishBatch = 256

	// publishBatches is how many such batches all calls together have on the
	// wire. Their product stays below the 4,000 unacknowledged messages after
	// which a JetStream context refuses to publish.
	publishBatches = 8
)

// PublisherConfig configures a [Publisher].
type PublisherConfig struct {
	// JetStream is the context to publish with. Required. The publisher never
	// closes its connection.
	JetStream natsjs.JetStream
	// AckTimeout is how long Publish waits for the acknowledgements of one
	// batch. Zero means [DefaultAckTimeout].
	AckTimeout time.Duration
}

// Publisher publishes Watermill messages to JetStream. The topic is the subject,
// the metadata become headers. It is safe for concurrent use.
type Publisher struct {
	js         natsjs.JetStream
	ackTimeout time.Duration
	batches    chan struct{}

	mu     sync.Mutex
	closed bool
	calls  sync.WaitGroup
}

var _ message.Publisher = (*Publisher)(nil)

// NewPublisher returns a publisher, or an error if config is not usable.
func NewPublisher(config PublisherConfig) (*Publisher, error) {
	if config.JetStream == nil {
		return nil, errors.New("jetstream: PublisherConfig.JetStream is required")
	}
	if config.AckTimeout < 0 {
		return nil, fmt.Errorf("jetstream: PublisherConfig.AckTimeout is %s, must not be negative", config.AckTimeout)
	}
	if config.AckTimeout == 0 {
		config.AckTimeout = DefaultAckTimeout
	}
	return &Publisher{
		js:         config.JetStream,
		ackTimeout: config.AckTimeout,
		batches:    make(chan struct{}, publishBatches),
	}, nil
}

// Publish stores messages in the stream that listens on topic and returns when
// JetStream has acknowledged each of them. On an error, any of the messages may
// have been stored all the same; publishing them again is safe where the
// receiver knows repeats. A message whose context ends is no longer waited for.
// After Close it returns [ErrClosed].
func (p *Publisher) Publish(topic string, messages ...*message.Message) error {
	if err := p.begin(); err != nil {
		return err
	}
	defer p.calls.Done()

	for len(messages) > 0 {
		n := min(len(messages), publishBatch)
		if err := p.publishBatch(topic, messages[:n]); err != nil {
			return err
		}
		messages = messages[n:]
	}
	return nil
}

func (p *Publisher) begin() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return ErrClosed
	}
	p.calls.Add(1)
	return nil
}

func (p *Publisher) publishBatch(topic string, messages []*message.Message) error {
	p.batches <- struct{}{}
	defer func() { <-p.batches }()

	timeout := time.NewTimer(p.ackTimeout)
	defer timeout.Stop()

	var failed error
	futures := make([]natsjs.PubAckFuture, 0, len(messages))
	for _, msg := range messages {
		future, err := p.send(topic, msg)
		if err != nil {
			failed = publishError(topic, msg, err)
			break
		}
		futures = append(futures, future)
	}
	// What was sent before a failure is waited for too, so that nothing is on
	// its way when Publish has returned.
	for i, future := range futures {
		var err error
		select {
		case <-future.Ok():
		case err = <-future.Err():
		case <-messages[i].Context().Done():
			err = messages[i].Context().Err()
		case <-timeout.C:
			return publishError(topic, messages[i], nats.ErrTimeout)
		}
		if err != nil && failed == nil {
			failed = publishError(topic, messages[i], err)
		}
	}
	return failed
}

func (p *Publisher) send(topic string, msg *message.Message) (natsjs.PubAckFuture, error) {
	if err := msg.Context().Err(); err != nil {
		return nil, err
	}
	header, err := newHeader(msg)
	if err != nil {
		return nil, err
	}
	return p.js.PublishMsgAsync(&nats.Msg{Subject: topic, Header: header, Data: msg.Payload})
}

func publishError(topic string, msg *message.Message, err error) error {
	return fmt.Errorf("jetstream: publish message %q to %q: %w", msg.UUID, topic, err)
}

// Close waits for the Publish calls under way and refuses further ones. It may
// be called more than once, and always returns nil.
func (p *Publisher) Close() error {
	p.mu.Lock()
	p.closed = true
	p.mu.Unlock()
	p.calls.Wait()
	return nil
}
