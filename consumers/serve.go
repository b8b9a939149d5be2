package consumers

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"time"

	"github.com/ThreeDotsLabs/watermill"
	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/ThreeDotsLabs/watermill/message/router/middleware"
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

// EnsureStream makes the stream, or brings it up to date. It is a work queue: a
// message is gone from it once it is booked, as the book keeps it from then on.
func EnsureStream(ctx context.Context, js natsjs.JetStream) error {
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
	// A full stream must refuse, so that the sender knows, and never drop what is oldest.
	config.Discard = natsjs.DiscardNew
	// The book knows repeats by (tenant, source, id). A Nats-Msg-Id must never make a
	// record disappear, so NATS looks back no longer than the least it takes.
	config.Duplicates = 100 * time.Millisecond
	if _, err := js.CreateOrUpdateStream(ctx, config); err != nil {
		return fmt.Errorf("stream %s on NATS: %w: is JetStream enabled there?", StreamName, err)
	}
	return nil
}

// settleTimeout is how long stopping waits for messages that are being booked.
const settleTimeout = 10 * time.Second

// Serve books what comes through the stream, with a Watermill router, until ctx
// is done, and then stops cleanly: what was not acknowledged comes again.
func Serve(ctx context.Context, js natsjs.JetStream, in *Intake, logger watermill.LoggerAdapter) error {
	if err := EnsureStream(ctx, js); err != nil {
		return err
	}
	subscriber, err := jetstream.NewSubscriber(jetstream.SubscriberConfig{
		JetStream: js,
		Route: jetstream.FixedRoute(jetstream.Route{
			Stream: StreamName, Durable: ConsumerName, Filters: []string{topic},
		}),
		SettleTimeout: settleTimeout,
		Logger:        logger,
	})
	if err != nil {
		return err
	}
	if err := forget(ctx, js, subscriber); err != nil {
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
	if Announcement(subject, msg.Payload) {
		return nil
	}
	// Stopping waits for what is in the committer's hands: a record booked but not
	// acknowledged would come again as a repeat.
	ctx := context.WithoutCancel(msg.Context())
	_, err := in.Receive(ctx, Message{Subject: subject, Header: HeaderIn(maps.All(msg.Metadata)), Payload: msg.Payload})
	return err
}
