// Package cloudevents is the JSON form of domain events, by spec/events.md:
// [CloudEvents 1.0] in structured mode, NATS binary mode, NDJSON and arrays.
//
// [Split] finds the events of a message, [Decode] makes one of them a
// [domain.Event] or says in one line why not, and [Append] writes an event in
// its canonical form, which is RFC 8785 JSON with every default written out.
// Two events have the same content exactly when their canonical bytes are the
// same: key order, white space, the spelling of numbers, escapes and time zones,
// unknown fields, and the order of lists that mean sets are gone by then.
//
// What Append wrote, Decode reads back to the same event; FuzzDecode and
// TestRoundTrip show it. Decode refuses only what can be judged from the event
// alone. Text that is optional may be empty, which is the same as absent, as is
// null; fields nobody knows are passed over.
//
// Syntax is judged by jsontext, whole and strictly (UTF-8, no duplicate names,
// nothing after the event), before the first field is read. A cursor then walks
// bytes that are known to be JSON, which takes less time than asking a tokenizer
// for every name and value.
//
// [CloudEvents 1.0]: https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/spec.md
package cloudevents
