package alerts

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"golang.org/x/sync/errgroup"
	"golang.org/x/time/rate"

	"tollbook/domain"
	"tollbook/projections"
)

// How often pools are looked at.
const (
	// lookEvery is soon enough for people, seldom enough to cost nothing.
	lookEvery = 250 * time.Millisecond

	// foreseeEvery is how often forecasts are made: they hold up others.
	foreseeEvery = 5 * time.Minute

	// restFor is how many times as long as forecasts took the next ones wait at
	// least, so that with very many pools they stay below two percent of the time.
	restFor = 50

	// expireEvery is how often what is too old is put away.
	expireEvery = time.Hour

	// sayTimeout is how long NATS may take.
	sayTimeout = 5 * time.Second
)

// Config is what alerts need. All but Endings and Webhooks is needed.
type Config struct {
	Dir      string // the data directory, which the caller has locked
	Months   *projections.Months
	Endings  func(context.Context) ([]Ending, error) // which buckets will end, as it looks now; what it returns beside an error counts
	Webhooks []Webhook
	Clock    func() domain.Instant
	Jitter   func() float64 // from 0 to 1, so that many engines do not try at once
	Program  string         // its version, for the receivers
	Log      *slog.Logger

	Timeout time.Duration // of an attempt; 0: sendTimeout
}

// An Announcer finds alerts and sees them delivered.
type Announcer struct {
	config  Config
	store   *store
	senders []*sender
	counts  counts
	told    rate.Sometimes // of what can't be stored or said

	wake chan struct{} // of watch: there is something to say

	taking   sync.Mutex      // held by who stores alerts
	pending  []alert         // of watch: thresholds that are found and not stored yet
	foreseen map[string]bool // of forecast: ids of its last round
}

// Open opens or makes the alerts' file and finds out what was announced before. The
// book is read already and takes nothing yet.
func Open(c Config) (*Announcer, error) {
	if err := prepare(c.Webhooks); err != nil {
		return nil, err
	}
	if c.Timeout == 0 {
		c.Timeout = sendTimeout
	}
	s, err := openStore(filepath.Join(c.Dir, FileName))
	if err != nil {
		return nil, fmt.Errorf("alerts: %w", err)
	}
	a := &Announcer{
		config: c, store: s, told: rate.Sometimes{First: 1, Interval: time.Minute},
		wake: make(chan struct{}, 1), foreseen: map[string]bool{},
	}
	a.counts.Webhooks = map[string]Counts{}
	client := newClient(c.Timeout)
	for i := range c.Webhooks {
		a.counts.Webhooks[c.Webhooks[i].Name] = Counts{}
		a.senders = append(a.senders, &sender{Announcer: a, Webhook: &a.config.Webhooks[i], client: client, wake: make(chan struct{}, 1)})
	}
	err = s.renew(c.Webhooks)
	if err == nil {
		err = a.resume()
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("alerts: %w", err), s.close())
	}
	return a, nil
}

// resume tells the months what was announced. A file that is new takes what was
// reached so far as announced: by a version without a file, or by the engine that
// wrote the backup.
func (a *Announcer) resume() error {
	begun, err := a.store.begun()
	if err != nil {
		return err
	}
	if !begun {
		all := a.config.Months.Crossings()
		if len(all) > 0 {
			a.config.Log.Info("alerts begin with what comes now: what pools have reached so far is not announced", "file", a.store.path)
		}
		return a.store.begin(all, a.config.Clock())
	}
	all, err := a.store.reached()
	if err != nil {
		return err
	}
	if err := a.config.Months.Announced(all); err != nil {
		return a.store.damaged(err)
	}
	return nil
}

// Close closes the file, after Run has returned.
func (a *Announcer) Close() error { return a.store.close() }

// Document is the last alerts.
func (a *Announcer) Document(ctx context.Context, q Request) (Document, error) {
	if err := q.Check(); err != nil {
		return Document{}, fmt.Errorf("%w: %w", ErrRequest, err)
	}
	return a.store.document(ctx, q)
}

// Run finds and delivers alerts until ctx is done. It has no error of its own:
// billing goes on while alerts can't.
func (a *Announcer) Run(ctx context.Context, conn *nats.Conn) error {
	work, ctx := errgroup.WithContext(ctx)
	work.Go(func() error { a.watch(ctx, conn); return nil })
	if a.config.Endings != nil {
		work.Go(func() error { a.forecast(ctx); return nil })
	}
	for _, s := range a.senders {
		if s.Clear() {
			a.config.Log.Warn("alerts travel in clear to this webhook: give it an https address", "webhook", s.Name)
		}
		work.Go(func() error { s.run(ctx); return nil })
	}
	return work.Wait()
}

// watch looks at pools, and tells NATS.
func (a *Announcer) watch(ctx context.Context, conn *nats.Conn) {
	ticker := time.NewTicker(lookEvery)
	defer ticker.Stop()
	var expired time.Time
	for {
		err := a.look()
		if err == nil {
			err = a.say(ctx, conn)
		}
		if now := time.Now(); err == nil && now.Sub(expired) > expireEvery {
			expired = now
			err = a.store.expire(a.config.Webhooks, a.config.Clock())
		}
		if err != nil && ctx.Err() == nil {
			a.told.Do(func() { a.config.Log.Error("alerts wait", "error", err) })
		}
		select {
		case <-ctx.Done():
			return
		case <-a.wake:
		case <-ticker.C:
		}
	}
}

// look stores what pools have reached. What can't be stored is kept, and nothing
// more is asked for until it is.
func (a *Announcer) look() error {
	if len(a.pending) == 0 {
		for _, c := range a.config.Months.Crossings() {
			one, err := ofCrossing(c, a.config.Clock())
			if err != nil {
				return err
			}
			a.pending = append(a.pending, one)
		}
	}
	for len(a.pending) > 0 {
		n := min(atOnce, len(a.pending))
		if err := a.take(a.pending[:n]); err != nil {
			return err
		}
		a.pending = a.pending[n:]
	}
	return nil
}

// take stores alerts, and has them delivered. Those that are known are no alerts.
func (a *Announcer) take(all []alert) error {
	a.taking.Lock()
	defer a.taking.Unlock()
	fresh, full, err := a.store.add(all, a.config.Webhooks)
	if err != nil {
		return err
	}
	for i := range fresh {
		one := &fresh[i]
		a.counts.alert(one.kind)
		if one.kind == domain.TypePoolForecast {
			a.config.Log.Info("a pool will end this month", "tenant", one.of.Tenant, "month", one.of.Month, "plan", one.of.Plan, "alert", one.id)
		} else {
			a.config.Log.Info("a pool has reached a threshold", "tenant", one.of.Tenant, "month", one.of.Month, "plan", one.of.Plan, "percent", one.of.Percent, "alert", one.id)
		}
	}
	for _, name := range sorted(full) {
		a.counts.add(name, Counts{Lost: uint64(full[name])})
		a.config.Log.Error("alerts are not delivered: too many wait for this webhook already; 'tollbook alerts' has them", "webhook", name, "alerts", full[name])
	}
	if len(fresh) > 0 {
		poke(a.wake)
		for _, s := range a.senders {
			poke(s.wake)
		}
	}
	return nil
}

func poke(wake chan struct{}) {
	select {
	case wake <- struct{}{}:
	default: // it is awake
	}
}

// say tells NATS what it does not have. What it may have had when the connection
// broke it gets again.
func (a *Announcer) say(ctx context.Context, conn *nats.Conn) error {
	for {
		all, err := a.store.unsaid()
		if err != nil || len(all) == 0 {
			return err
		}
		if !conn.IsConnected() {
			return errors.New("NATS: not connected")
		}
		for _, one := range all {
			if err := conn.Publish(one.subject, one.body); err != nil {
				return fmt.Errorf("NATS: %w", err)
			}
		}
		flush, cancel := context.WithTimeout(ctx, sayTimeout)
		err = conn.FlushWithContext(flush)
		cancel()
		if err != nil {
			return fmt.Errorf("NATS: %w", err)
		}
		if err := a.store.said(all); err != nil {
			return err
		}
	}
}

// forecast looks at forecasts.
func (a *Announcer) forecast(ctx context.Context) {
	for {
		began := time.Now()
		if err := a.foresee(ctx); err != nil && ctx.Err() == nil {
			a.told.Do(func() { a.config.Log.Error("forecasts for alerts", "error", err) })
		}
		if !sleep(ctx, max(foreseeEvery, restFor*time.Since(began)), nil) {
			return
		}
	}
}

// foresee stores what will end. That it is still so is no alert.
func (a *Announcer) foresee(ctx context.Context) error {
	endings, failed := a.config.Endings(ctx)
	var fresh []alert
	ids := map[string]bool{}
	for _, e := range endings {
		one, err := ofEnding(e, a.config.Clock())
		if err != nil {
			return errors.Join(failed, err)
		}
		ids[one.id] = true
		if !a.foreseen[one.id] {
			fresh = append(fresh, one)
		}
	}
	for some := range slices.Chunk(fresh, atOnce) {
		if err := a.take(some); err != nil {
			return errors.Join(failed, err)
		}
	}
	a.foreseen = ids
	return failed
}

// sleep waits for as long, or until somebody wakes it; false: until ctx is done.
func sleep(ctx context.Context, d time.Duration, wake <-chan struct{}) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-wake:
	case <-timer.C:
	}
	return true
}

// newClient sends to webhooks: it follows no redirect and reads little.
func newClient(timeout time.Duration) *http.Client {
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.MaxResponseHeaderBytes = maxHeaderBytes
	transport.DisableCompression = true
	return &http.Client{
		Transport: transport, Timeout: timeout,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}
