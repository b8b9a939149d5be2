package alerts

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"

	"tollbook/domain"
)

// How deliveries are tried.
const (
	tryFor = 3 * 24 * time.Hour // from when the alert was made; the last attempt is then

	firstWait = 5 * time.Second // after the first attempt, then twice as long each time
	longest   = 3 * time.Hour
	maxAsked  = 24 * time.Hour // of what a receiver may ask for by Retry-After

	sendTimeout    = 20 * time.Second
	maxHeaderBytes = 64 << 10 // of an answer
	maxBodyBytes   = 4 << 10  // of an answer that is read, to use the connection again

	// maxSleep bounds how long a sender trusts that the clock goes on evenly.
	maxSleep = time.Minute

	// storeWait is how long a sender waits after the file could not be read or written.
	storeWait = 5 * time.Second
)

// contentType is that of a CloudEvent in structured mode.
const contentType = "application/cloudevents+json; charset=utf-8"

// A sender delivers to one webhook, one alert at a time.
type sender struct {
	*Announcer
	*Webhook
	client *http.Client
	wake   chan struct{}

	hold    domain.Instant // nothing is sent before: the receiver has asked for it
	failing bool           // the last attempt has
}

func (s *sender) run(ctx context.Context) {
	for {
		wait, err := s.step(ctx)
		if err != nil && ctx.Err() == nil {
			s.told.Do(func() { s.config.Log.Error("alerts wait", "webhook", s.Name, "error", err) })
			wait = storeWait
		}
		if ctx.Err() != nil || wait > 0 && !sleep(ctx, wait, s.wake) {
			return
		}
	}
}

// step makes the next attempt, if it is due; else it returns how long to wait.
func (s *sender) step(ctx context.Context) (wait time.Duration, err error) {
	d, err := s.store.next(s.Name)
	if err != nil || d == nil {
		return maxSleep, err
	}
	if due := time.Duration(max(d.at, s.hold) - s.config.Clock()); due > 0 {
		return min(due, maxSleep), nil
	}
	return 0, s.attempt(ctx, d)
}

// attempt sends an alert once and notes what came of it. A crash before that has it
// sent again.
func (s *sender) attempt(ctx context.Context, d *delivery) error {
	began := s.config.Clock()
	status, asked, err := s.post(ctx, d, began.Time())
	if ctx.Err() != nil {
		return nil // the engine stops, which is not the receiver's fault
	}
	now := s.config.Clock()
	a := Attempt{at: began, TookMS: time.Duration(now - began).Milliseconds(), Status: status}
	if err != nil {
		a.Error = brief(err)
	}
	log := s.config.Log.With("webhook", s.Name, "alert", d.id, "attempts", d.attempts+1)
	switch last := d.made + domain.Instant(tryFor); {
	case err == nil:
		if err := s.store.tried(d, a, StateDelivered, now); err != nil {
			return err
		}
		s.failing = false
		s.counts.add(s.Name, Counts{Delivered: 1})
		log.Info("alert delivered", "status", status)
		return nil
	case status == http.StatusGone:
		waiting, err := s.store.outstanding()
		if err == nil {
			err = s.store.leave(s.Webhook, d, a)
		}
		if err != nil {
			return err
		}
		s.counts.add(s.Name, Counts{Failed: 1, Lost: uint64(waiting[s.Name])})
		log.Error("the webhook wants no more alerts, and gets none until its name or address in the file is another", "status", status, "alerts", waiting[s.Name])
		return nil
	case now >= last:
		if err := s.store.tried(d, a, StateGivenUp, now); err != nil {
			return err
		}
		s.counts.add(s.Name, Counts{Failed: 1, Lost: 1})
		log.Error("alert given up", "status", status, "error", a.Error)
		return nil
	default:
		next := min(now+domain.Instant(max(backoff(d.attempts, s.config.Jitter()), asked)), last)
		if asked > 0 {
			s.hold = now + domain.Instant(asked)
		}
		if err := s.store.tried(d, a, StateWaiting, next); err != nil {
			return err
		}
		s.counts.add(s.Name, Counts{Failed: 1})
		if !s.failing { // what goes on failing, 'tollbook alerts' has
			s.failing = true
			log.Warn("alert not delivered; it is tried again", "status", status, "error", a.Error, "next", next.String())
		}
		return nil
	}
}

// backoff is how long to wait after an attempt when so many had failed before it:
// between half of a time that doubles and all of it.
func backoff(before int, jitter float64) time.Duration {
	wait := longest
	if before < 16 {
		wait = min(longest, firstWait<<before)
	}
	return wait/2 + time.Duration(jitter*float64(wait/2))
}

// post sends an alert. The status is 0 where there was no answer; asked is how long
// the receiver wants to be left alone.
func (s *sender) post(ctx context.Context, d *delivery, at time.Time) (status int, asked time.Duration, err error) {
	signature, err := s.sign(d.id, at, d.body)
	if err != nil {
		return 0, 0, err
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, s.URL, bytes.NewReader(d.body))
	if err != nil {
		return 0, 0, withoutURL(err)
	}
	request.Header.Set("Content-Type", contentType)
	request.Header.Set("User-Agent", "Tollbook/"+s.config.Program)
	request.Header.Set(standardwebhooks.HeaderWebhookID, d.id)
	request.Header.Set(standardwebhooks.HeaderWebhookTimestamp, strconv.FormatInt(at.Unix(), 10))
	request.Header.Set(standardwebhooks.HeaderWebhookSignature, signature)
	response, err := s.client.Do(request)
	if err != nil {
		return 0, 0, withoutURL(err)
	}
	// The status has said what there is to know; a body that never ends is cut off.
	_, _ = io.CopyN(io.Discard, response.Body, maxBodyBytes)
	_ = response.Body.Close()
	switch code := response.StatusCode; {
	case code >= 200 && code <= 299:
		return code, 0, nil
	case code >= 300 && code <= 399:
		err = fmt.Errorf("answered %d: redirects are not followed: put the new address into the file", code)
	default:
		err = fmt.Errorf("answered %d", code)
	}
	return response.StatusCode, retryAfter(response.Header.Get("Retry-After"), s.config.Clock()), err
}

// retryAfter reads the header: seconds, or a date. What is neither asks for nothing.
func retryAfter(text string, now domain.Instant) time.Duration {
	if seconds, err := strconv.ParseUint(text, 10, 32); err == nil {
		return min(time.Duration(seconds)*time.Second, maxAsked)
	}
	if at, err := http.ParseTime(text); err == nil {
		return max(0, min(at.Sub(now.Time()), maxAsked))
	}
	return 0
}

// withoutURL is an error without the address, which may have a secret in it.
func withoutURL(err error) error {
	var of *url.Error
	if errors.As(err, &of) {
		if of.Timeout() {
			return errors.New("no answer in time")
		}
		return of.Err
	}
	return err
}

// brief is an error as one short line.
func brief(err error) string {
	line := strings.Join(strings.Fields(err.Error()), " ")
	return strings.ToValidUTF8(line[:min(len(line), maxErrorBytes)], "")
}

// address stands for the URL where that must not be kept.
func (w *Webhook) address() []byte {
	sum := sha256.Sum256([]byte(w.URL))
	return sum[:]
}

// Totals are what happened since the engine's start.
type Totals struct {
	Thresholds, Forecasts uint64            // alerts made
	Webhooks              map[string]Counts // of the file, by name
}

// Counts are what happened for a webhook since the engine's start.
type Counts struct {
	Delivered uint64 // alerts that it has
	Failed    uint64 // attempts
	Lost      uint64 // alerts that it will not get: given up, refused, not wanted
	Waiting   int    // alerts that it is to get, now
}

// counts are the totals while they grow.
type counts struct {
	mu sync.Mutex
	Totals
}

func (c *counts) alert(kind domain.Type) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if kind == domain.TypePoolForecast {
		c.Forecasts++
	} else {
		c.Thresholds++
	}
}

func (c *counts) add(webhook string, more Counts) {
	c.mu.Lock()
	defer c.mu.Unlock()
	sum := c.Webhooks[webhook]
	sum.Delivered += more.Delivered
	sum.Failed += more.Failed
	sum.Lost += more.Lost
	c.Webhooks[webhook] = sum
}

// Totals are those of now.
func (a *Announcer) Totals() Totals {
	waiting, err := a.store.outstanding()
	if err != nil {
		a.told.Do(func() { a.config.Log.Error("alerts can't be counted", "error", err) })
	}
	a.counts.mu.Lock()
	defer a.counts.mu.Unlock()
	all := a.counts.Totals
	all.Webhooks = maps.Clone(all.Webhooks)
	for name, sum := range all.Webhooks {
		sum.Waiting = waiting[name]
		all.Webhooks[name] = sum
	}
	return all
}
