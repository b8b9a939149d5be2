package consumers

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/ThreeDotsLabs/watermill"
	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/ThreeDotsLabs/watermill/message/router/middleware"
	"github.com/go-json-experiment/json"
	natsjs "github.com/nats-io/nats.go/jetstream"

	"tollbook/consumers/jetstream"
)

// The stream that keeps what is published until it is booked, and the consumer
// that books it.
const (
	StreamName   = "TOLLBOOK"
	ConsumerName = "tollbook-book"
	topic        = "tollbook.>"
)

// noStream is a stream that is always empty. TOLLBOOK names it as a source, as a
// stream with one is the only kind for which the server takes "no window at all"
// for duplicates; any other drops a second message with the same Nats-Msg-Id
// for 100 ms at least.
const noStream = "TOLLBOOK-NONE"

// EnsureStream makes the stream, or brings it up to date. It is a work queue: a
// message is gone from it once it is booked, as the book keeps it from then on.
func EnsureStream(ctx context.Context, js natsjs.JetStream) error {
	_, err := js.CreateOrUpdateStream(ctx, natsjs.StreamConfig{
		Name: noStream, Description: "always empty; lets TOLLBOOK do without a window for duplicates",
		Subjects: []string{"tollbook-none"}, MaxMsgs: 1, Discard: natsjs.DiscardNew,
	})
	if err != nil {
		return fmt.Errorf("stream %s on NATS: %w: is JetStream enabled there?", noStream, err)
	}
	config := natsjs.StreamConfig{Name: StreamName, Storage: natsjs.FileStorage}
	stream, err := js.Stream(ctx, StreamName)
	if err == nil {
		config = stream.CachedInfo().Config // replicas, limits, placement are the operator's
	} else if !errors.Is(err, natsjs.ErrStreamNotFound) {
		return fmt.Errorf("stream %s on NATS: %w: is JetStream enabled there?", StreamName, err)
	}
	config.Description = "CDRs and licence events on their way into the book"
	config.Subjects = []string{topic}
	config.Retention = natsjs.WorkQueuePolicy
	// A full stream must refuse, so that the sender knows, and never drop what is
	// oldest, nor what is booked late, nor at a sender's word.
	config.Discard = natsjs.DiscardNew
	config.DiscardNewPerSubject = config.MaxMsgsPerSubject > 0
	config.MaxAge = 0
	config.AllowRollup = false
	// The book knows repeats by (tenant, source, id). A Nats-Msg-Id must never make a
	// record disappear.
	config.Duplicates = 0
	if !slices.ContainsFunc(config.Sources, func(s *natsjs.StreamSource) bool { return s.Name == noStream }) {
		config.Sources = append(config.Sources, &natsjs.StreamSource{Name: noStream, FilterSubject: "tollbook-none.never"})
	}
	stream, err = js.CreateOrUpdateStream(ctx, config)
	if err == nil && stream.CachedInfo().Config.Duplicates > 0 {
		// An older server, which chose a window itself: the least it takes.
		config.Duplicates = 100 * time.Millisecond
		_, err = js.CreateOrUpdateStream(ctx, config)
	}
	if err != nil {
		return fmt.Errorf("stream %s on NATS: %w: is JetStream enabled there?", StreamName, err)
	}
	return nil
}

// ackWait is how long a message waits to come again whose acknowledgement was lost,
// with a NATS server that was restarted or killed. While a message is being booked,
// however long that takes, it is extended.
const ackWait = 5 * time.Second

// Strict reports whether the server refuses requests of its API that say what it
// does not know. One that does not takes an acknowledgement, which a sender may
// direct to any subject, for a request to purge the stream.
func Strict(ctx context.Context, js natsjs.JetStream) (bool, error) {
	answer, err := js.Conn().RequestWithContext(ctx, "$JS.API.STREAM.INFO."+StreamName, []byte(`{"no_such_field":true}`))
	if err != nil {
		return false, fmt.Errorf("stream %s on NATS: %w", StreamName, err)
	}
	var said struct {
		Error *natsjs.APIError `json:"error"`
	}
	err = json.Unmarshal(answer.Data, &said)
	return said.Error != nil, err
}

// settleTimeout is how long stopping waits for messages that are being booked.
const settleTimeout = 10 * time.Second

// Serve books what comes through the stream, with a Watermill router, until ctx
// is done, and then stops cleanly: what was not acknowledged comes again.
func Serve(ctx context.Context, js natsjs.JetStream, in *Intake, logger watermill.LoggerAdapter) error {
	subscriber, err := prepare(ctx, js, logger)
	if err != nil {
		if ctx.Err() != nil {
			return nil // stopped before it began
		}
		return err
	}
	router, err := message.NewRouter(message.RouterConfig{CloseTimeout: 30 * time.Second}, logger)
	if err != nil {
		return err
	}
	router.AddMiddleware(middleware.Recoverer)
	router.AddConsumerHandler("book", topic, subscriber, in.handle)
	if err := router.Run(ctx); err != nil || ctx.Err() != nil {
		return err
	}
	return errors.New("the NATS connection was closed, perhaps because the server refuses its credentials: nothing is booked any more; restart tollbook")
}

// prepare makes stream and consumer ready for a subscription.
func prepare(ctx context.Context, js natsjs.JetStream, logger watermill.LoggerAdapter) (*jetstream.Subscriber, error) {
	if err := EnsureStream(ctx, js); err != nil {
		return nil, err
	}
	subscriber, err := jetstream.NewSubscriber(jetstream.SubscriberConfig{
		JetStream: js,
		Route: jetstream.FixedRoute(jetstream.Route{
			Stream: StreamName, Durable: ConsumerName, Filters: []string{topic},
		}),
		AckWait:       ackWait,
		SettleTimeout: settleTimeout,
		OwnUUIDs:      true,
		Logger:        logger,
	})
	if err != nil {
		return nil, err
	}
	return subscriber, forget(ctx, js, subscriber)
}

// forget removes the consumer, which Subscribe makes anew. What an engine before
// this one had in its hands, and a server that went with it was not told of,
// would wait for AckWait; a new consumer gets it at once. It is made before it is
// removed: where the server was killed while making it, half of it is on disk,
// which cannot be removed by name and which the next one of the name would take over.
func forget(ctx context.Context, js natsjs.JetStream, subscriber *jetstream.Subscriber) error {
	if err := subscriber.SubscribeInitialize(topic); err != nil {
		return err
	}
	if err := js.DeleteConsumer(ctx, StreamName, ConsumerName); err != nil {
		return fmt.Errorf("consumer %s on NATS: %w", ConsumerName, err)
	}
	return nil
}

// handle returns once the message's records are durable; the router
// acknowledges it then, and an error makes NATS send it again.
func (in *Intake) handle(msg *message.Message) error {
	subject := jetstream.Subject(msg)
	if probed(subject, msg.Payload) || Announcement(subject, msg.Payload) {
		return nil
	}
	// Stopping waits for what is in the committer's hands: a record booked but not
	// acknowledged would come again as a repeat.
	ctx := context.WithoutCancel(msg.Context())
	_, err := in.Receive(ctx, Message{Subject: subject, Header: HeaderIn(maps.All(msg.Metadata)), Payload: msg.Payload})
	return err
}
