// Package jetstream joins Watermill to NATS JetStream: a [Subscriber] with many
// messages in flight on a durable pull consumer, and a [Publisher] that returns
// once JetStream has stored what it was given.
//
// The model: JetStream holds every message until it is acknowledged. A message
// handed to a handler is in flight; there may be thousands, so that a handler
// which waits for an fsync shares that fsync with its neighbours. Message.Ack
// acknowledges on JetStream, Message.Nack asks for redelivery, and the message's
// context ends with either.
//
// The guarantee is at least once. A message is acknowledged only after its
// handler acked it; whatever else happens (a nack, a cancelled subscription, a
// crash, an acknowledgement lost with the connection) leads to redelivery. So a
// handler sees a message again now and then, in no particular order, and has to
// recognise what it already did. While a handler works, the subscriber keeps
// extending the message's deadline, so slowness alone causes no redelivery.
//
// It assumes that the stream exists, that nobody but this package configures
// the durable consumer, and that the connection reconnects for ever
// (nats.MaxReconnects(-1)): a connection that is closed for good ends the
// subscription and closes its channel.
//
// Whoever may publish can send any headers, also those that mean something to
// NATS clients: they reach the handler like all others (TestForgedStatus).
//
// TestWatermillSuite runs Watermill's own pub/sub suite, TestStopUnderLoad and
// TestCancelRedeliversAtOnce show that stopping loses nothing, and
// TestServerRestart and TestConsumerDeleted that the subscriber recovers alone.
package jetstream
