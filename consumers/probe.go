package consumers

import (
	"context"
	"errors"
	"fmt"
	"time"

	natsjs "github.com/nats-io/nats.go/jetstream"
)

// probeSubject is where a Prober publishes: a message without payload, which is
// no record of anybody.
const probeSubject = "tollbook.-.probe"

// probeTimeout is how long the stream may take to store a message.
const probeTimeout = 5 * time.Second

// A Prober finds out whether the stream still stores what is published. After a
// failed write a NATS server goes on, but never stores a message again, and says
// so to nobody but the senders whose messages it leaves unanswered.
type Prober struct {
	js   natsjs.JetStream
	last uint64 // the stream's last sequence at the last probe that failed
	bad  int    // probes that failed one after the other, nothing having been stored meanwhile
}

// NewProber returns a Prober of the stream that EnsureStream has made.
func NewProber(js natsjs.JetStream) *Prober { return &Prober{js: js} }

// stuckAfter is how many probes must fail in a row: senders wait in line behind
// one another, so one that waits too long says little.
const stuckAfter = 2

// Probe has the stream store a message. The error says that it has stored none
// for some time and will not.
func (p *Prober) Probe(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	_, err := p.js.Publish(ctx, probeSubject, nil)
	var refused *natsjs.APIError
	if err == nil || errors.As(err, &refused) { // a full stream that says so is alive
		p.bad = 0
		return nil
	}
	asking, done := context.WithTimeout(context.WithoutCancel(ctx), probeTimeout)
	defer done()
	if stream, err := p.js.Stream(asking, StreamName); err == nil {
		if last := stream.CachedInfo().State.LastSeq; last != p.last {
			p.last, p.bad = last, 0 // it does store, slowly
		}
	}
	if p.bad++; p.bad < stuckAfter {
		return nil
	}
	return fmt.Errorf("NATS stores no messages any more (%w): see whether its disk is full or failing, and restart it", err)
}

// probed reports whether a message is a Prober's.
func probed(subject string, payload []byte) bool {
	return subject == probeSubject && len(payload) == 0
}
