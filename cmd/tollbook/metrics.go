package main

import (
	"context"
	"net/http"
	"time"

	"github.com/nats-io/nats.go"
	natsjs "github.com/nats-io/nats.go/jetstream"

	"tollbook/api/finance"
	"tollbook/api/metrics"
	"tollbook/projections"
)

// openDoor listens for HTTP before the book is read.
func (e *Engine) openDoor() {
	if e.config.HTTPListen == "" {
		return
	}
	e.door = e.metrics.OpenDoor(e.config.HTTPListen, e.config.TLS, e.scrapes(), e.config.Log)
	e.stops = append(e.stops, e.door.Close)
}

// loading tells who watches how far the book is read.
func (e *Engine) loading(events uint64) {
	e.metrics.Loading(events)
	if e.config.Loading != nil {
		e.config.Loading(events)
	}
}

// scrapes is GET /metrics. Where nobody has to say who they are, it is for whoever
// reaches it, as the page is; where somebody has, this is the place to ask.
func (e *Engine) scrapes() http.Handler {
	if e.config.Access == nil {
		return e.metrics.Handler()
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if err := e.guard.Scrapes(r); err != nil {
			status, detail := finance.StatusOf(err)
			if status == http.StatusUnauthorized {
				w.Header().Set("WWW-Authenticate", `Bearer realm="Tollbook"`)
			}
			http.Error(w, detail, status)
			return
		}
		e.metrics.Handler().ServeHTTP(w, r)
	})
}

// watch has the metrics look at the engine until it stops.
func (e *Engine) watch(ctx context.Context, js natsjs.JetStream, suspense *projections.Suspense, gaps *projections.Gaps) {
	if e.config.HTTPListen == "" {
		return // nobody can ask
	}
	s := metrics.Sources{
		Book: e.Book, Months: e.Months, Suspense: suspense, Gaps: gaps, JetStream: js,
		Healthy: func() error { return e.healthy(js) }, Alerts: e.alerts.Totals, Dir: e.config.Dir, Clock: e.config.Clock, Log: e.config.Log,
	}
	if e.mirror != nil {
		s.Mirror = e.mirror.status
	}
	e.metrics.Attach(s)
	e.work.Go(func() error { e.metrics.Watch(ctx); return nil })
}

// watchAnchors notes when NATS passes on a signed anchor.
func (e *Engine) watchAnchors() error {
	_, err := e.Conn.Subscribe(e.anchorSubject(), func(*nats.Msg) { e.metrics.Anchored(time.Now()) })
	return err
}
