package metrics

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/go-json-experiment/json"
	natsjs "github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nats.go/micro"
	"github.com/prometheus/client_golang/prometheus"

	"tollbook/api"
	"tollbook/api/alerts"
	"tollbook/consumers"
	"tollbook/domain"
	"tollbook/eventstore"
	"tollbook/projections"
)

// How often the engine is looked at.
const (
	readEvery = 5 * time.Second

	// restFor is how many times as long as a reading took the next one waits at
	// least, so that with very many pools readings stay below two percent of the time.
	restFor = 50

	// askTimeout is how long NATS may take to answer.
	askTimeout = 2 * time.Second
)

// Sources are what is looked at. All but Mirror are needed.
type Sources struct {
	Book      *eventstore.Book
	Months    *projections.Months
	Suspense  *projections.Suspense
	Gaps      *projections.Gaps
	JetStream natsjs.JetStream
	Mirror    func() api.MirrorStatus // nil without one
	Alerts    func() alerts.Totals    // what became of alerts
	Healthy   func() error            // whether the engine can book what comes now
	Dir       string                  // the data directory
	Clock     func() domain.Instant
	Log       *slog.Logger
}

// Attach says what to look at, once the book is read.
func (m *Metrics) Attach(s Sources) { m.sources.Store(&s) }

// Watch takes readings of what was attached until ctx is done.
func (m *Metrics) Watch(ctx context.Context) {
	for {
		took := m.Read(ctx)
		rest := time.NewTimer(max(readEvery, restFor*took))
		select {
		case <-ctx.Done():
			rest.Stop()
			return
		case <-rest.C:
		}
	}
}

// Read takes a reading now and says how long the engine's own part of it took.
func (m *Metrics) Read(ctx context.Context) time.Duration {
	m.turn.Lock()
	defer m.turn.Unlock()
	s := m.sources.Load()
	began := time.Now()
	var r reading
	m.readTenants(&r, s)
	r.readAlerts(s.Alerts())
	took := time.Since(began)

	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	healthy := s.Healthy()
	r.gauge(descHealthy, oneIf(healthy == nil))
	if err := errors.Join(r.readStream(ctx, s), r.readRequests(ctx, s), r.readDisk(s.Dir)); err != nil && healthy == nil && ctx.Err() == nil {
		m.told.Do(func() { s.Log.Warn("metrics are incomplete", "error", err) })
	}
	r.gauge(descReadSeconds, took.Seconds())
	r.gauge(descReadAt, float64(began.UnixNano())/1e9)
	m.reading.Store(&r)
	return took
}

// A reading is the samples of one moment.
type reading struct {
	samples []sample
	index   map[string]int
}

type sample struct {
	desc   *prometheus.Desc
	kind   prometheus.ValueType
	value  float64
	labels []string
}

// at is the sample with these labels. Those of [other] are shared by many.
func (r *reading) at(desc *prometheus.Desc, kind prometheus.ValueType, labels []string) *sample {
	key := fmt.Sprintf("%p%q", desc, labels)
	i, ok := r.index[key]
	if !ok {
		if r.index == nil {
			r.index = map[string]int{}
		}
		i = len(r.samples)
		r.index[key] = i
		r.samples = append(r.samples, sample{desc: desc, kind: kind, labels: labels})
	}
	return &r.samples[i]
}

func (r *reading) gauge(desc *prometheus.Desc, value float64, labels ...string) {
	r.at(desc, prometheus.GaugeValue, labels).value += value
}

func (r *reading) greatest(desc *prometheus.Desc, value float64, labels ...string) {
	s := r.at(desc, prometheus.GaugeValue, labels)
	s.value = max(s.value, value)
}

func (r *reading) counter(desc *prometheus.Desc, value float64, labels ...string) {
	r.at(desc, prometheus.CounterValue, labels).value += value
}

func oneIf(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

func (m *Metrics) readTenants(r *reading, s *Sources) {
	now := s.Clock()
	type named struct {
		name string
		projections.Levels
	}
	var all []named
	for _, name := range s.Months.Tenants() {
		all = append(all, named{name, s.Months.Levels(name, now)})
	}
	// Where there are more than can be told apart, the busiest come first.
	slices.SortFunc(all, func(a, b named) int {
		return cmp.Or(cmp.Compare(b.Intake.Received(), a.Intake.Received()), cmp.Compare(a.name, b.name))
	})
	r.gauge(descTenants, float64(len(all)))
	pools := 0
	for _, t := range all {
		label := m.tenants.of(t.name).label
		r.gauge(descRecords, float64(t.Intake.Booked), label, "booked")
		r.gauge(descRecords, float64(t.Intake.Duplicate), label, "duplicate")
		r.gauge(descRecords, float64(t.Intake.Suspended), label, "suspended")
		r.gauge(descRecords, float64(t.Intake.WrittenOff), label, "written_off")
		r.gauge(descOpenMonths, float64(t.Open), label)
		for reason, n := range t.Exceptions {
			r.gauge(descExceptions, float64(n), label, reason)
		}
		for i := range t.Pools {
			p := &t.Pools[i]
			labels := []string{label, t.Month.String(), p.Country, p.Plan, p.Bucket}
			if pools++; pools > maxPools || label == other {
				labels = []string{other, other, other, other, other}
			}
			r.gauge(descPools, float64(p.Pools), labels...)
			r.gauge(descEnded, float64(p.Ended), labels...)
			r.greatest(descPoolRatio, p.Fullest.Ratio(), labels...)
			r.gauge(descPoolGranted, float64(p.Granted), labels...)
			r.gauge(descPoolUsed, float64(p.Used), labels...)
			r.gauge(descPoolOverage, float64(p.Overage), labels...)
		}
	}
	r.gauge(descSuspenseAll, 0)
	for _, l := range s.Suspense.Levels() {
		label := m.tenants.of(l.Tenant).label
		r.gauge(descSuspenseAll, float64(l.Records))
		r.gauge(descSuspense, float64(l.Records), label, l.Reason)
		r.greatest(descSuspenseAge, time.Duration(now-l.Oldest).Seconds(), label, l.Reason)
	}
	for _, l := range s.Gaps.Levels() {
		label := m.tenants.of(l.Tenant).label
		r.gauge(descGapSources, float64(l.Sources), label)
		r.gauge(descGapIncomplete, float64(l.Incomplete), label)
		r.gauge(descGapMissing, float64(l.Missing), label)
	}
}

func (r *reading) readStream(ctx context.Context, s *Sources) error {
	stream, err := s.JetStream.Stream(ctx, consumers.StreamName)
	if err != nil {
		return fmt.Errorf("stream: %w", err)
	}
	state := stream.CachedInfo().State
	info := &natsjs.ConsumerInfo{NumPending: state.Msgs} // before the engine's first start makes the consumer
	switch consumer, err := stream.Consumer(ctx, consumers.ConsumerName); {
	case err == nil:
		info = consumer.CachedInfo()
	case !errors.Is(err, natsjs.ErrConsumerNotFound):
		return fmt.Errorf("consumer: %w", err)
	}
	age := time.Duration(0)
	if state.Msgs > 0 {
		age = max(0, time.Since(state.FirstTime))
	}
	r.gauge(descStreamWaiting, float64(info.NumPending))
	r.gauge(descStreamInFlight, float64(info.NumAckPending))
	r.gauge(descStreamAgain, float64(info.NumRedelivered))
	r.gauge(descStreamBytes, float64(state.Bytes))
	r.gauge(descStreamAge, age.Seconds())
	return nil
}

// readRequests asks the NATS library for its own count, as `nats micro stats` does.
func (r *reading) readRequests(ctx context.Context, s *Sources) error {
	subject, err := micro.ControlSubject(micro.StatsVerb, api.ServiceName, "")
	if err != nil {
		return err
	}
	answer, err := s.JetStream.Conn().RequestWithContext(ctx, subject, nil)
	if err != nil {
		return fmt.Errorf("service %s: %w", api.ServiceName, err)
	}
	var stats struct { // of micro.Stats
		Endpoints []struct {
			Name     string `json:"name"`
			Requests int    `json:"num_requests"`
		} `json:"endpoints"`
	}
	if err := json.Unmarshal(answer.Data, &stats); err != nil {
		return fmt.Errorf("service %s: %w", api.ServiceName, err)
	}
	for _, e := range stats.Endpoints {
		r.counter(descRequests, float64(e.Requests), e.Name)
	}
	return nil
}

func (r *reading) readAlerts(t alerts.Totals) {
	r.counter(descAlerts, float64(t.Thresholds), "threshold")
	r.counter(descAlerts, float64(t.Forecasts), "forecast")
	for webhook, n := range t.Webhooks {
		r.counter(descHookSent, float64(n.Delivered), webhook)
		r.counter(descHookFailed, float64(n.Failed), webhook)
		r.counter(descHookLost, float64(n.Lost), webhook)
		r.gauge(descHookWaits, float64(n.Waiting), webhook)
	}
}

func (r *reading) readDisk(dir string) error {
	free, size, err := disk(dir)
	if err != nil {
		return fmt.Errorf("%s: %w", dir, err)
	}
	r.gauge(descDiskFree, float64(free))
	r.gauge(descDiskSize, float64(size))
	return nil
}
