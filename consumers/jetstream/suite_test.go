package jetstream_test

import (
	"strings"
	"testing"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/ThreeDotsLabs/watermill/pubsub/tests"

	"tollbook/consumers/jetstream"
)

func TestWatermillSuite(t *testing.T) {
	js := newStream(t)
	construct := func(t *testing.T, group string) (message.Publisher, message.Subscriber) {
		sub := newSubscriber(t, js, func(c *jetstream.SubscriberConfig) {
			c.Route = func(topic string) (jetstream.Route, error) {
				durable := group + "-" + strings.ReplaceAll(topic, ".", "-")
				return jetstream.Route{Stream: testStream, Durable: durable, Filters: []string{topic}}, nil
			}
		})
		return newPublisher(t, js), sub
	}
	features := tests.Features{
		ConsumerGroups:      true,
		ExactlyOnceDelivery: false,
		GuaranteedOrder:     false,
		Persistent:          true,
		// A group is a durable consumer: a new group starts at the beginning
		// of the stream, a second subscriber of a group does not.
		NewSubscriberReceivesOldMessages: false,
		GenerateTopicFunc: func(c tests.TestContext) string {
			return "records." + c.TestID.String()
		},
	}
	tests.TestPubSub(t, features,
		func(t *testing.T) (message.Publisher, message.Subscriber) { return construct(t, "all") },
		construct)
}
