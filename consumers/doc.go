// Package consumers brings what switches and licence desks publish into the
// book.
//
// The model: a message is a subject, headers and a payload. [Intake] makes
// records of it, books them, and says what became of each; whoever received the
// message acknowledges it only then. Messages come from a JetStream stream
// through a Watermill router ([Serve]), where NATS keeps them until they are
// acknowledged, or as requests to the engine's own service (package api), whose
// senders want the answer.
//
// The guarantee: every record of a message becomes booked, duplicate or
// suspended; nothing is dropped and nothing stops the stream. A message handled
// twice, or half, is handled again without harm, because the book knows what it has.
package consumers
