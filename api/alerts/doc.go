// Package alerts tells people that a pool of minutes is running out: over NATS, and
// to webhooks.
//
// An alert is a CloudEvent of the engine. There is one when a bucket of a pool
// reaches one of projections.Thresholds, and one when a forecast says for the first
// time that a bucket will be used up before its month is over. Its id is made of
// what it is about, so that whoever hears it again can tell.
//
// The model: what pools have reached is looked at four times a second. What is new
// is written to a file in the data directory (SQLite, [FileName]), together with a
// delivery for each webhook that wants it, before anybody is told. NATS is told from
// the file, and so are webhooks; what they have is noted afterwards. So whatever
// dies, nobody is told of nothing, and somebody may be told twice: at least once.
// What was reached while no engine ran, or in the moment before one was killed, is
// found at the next start, as the book has it and the file does not.
//
// A webhook is signed by Standard Webhooks (standardwebhooks.com): webhook-id is
// that of the event, webhook-timestamp when the attempt was made, webhook-signature
// HMAC-SHA256 by each of the webhook's secrets; the body is the CloudEvent. A status
// of 2xx ends a delivery, 410 the webhook, and all else is tried again for [tryFor],
// later and later. Redirects are not followed, and of an answer no more than the
// status and Retry-After counts.
//
// TestDeliveries has what receivers may do, TestKilled what a kill may leave behind,
// and TestServeKilled both with a whole engine.
package alerts
