package metrics

import (
	"net/http"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/felixge/httpsnoop"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"golang.org/x/time/rate"

	"tollbook/eventstore"
)

// Limits of labels. A tenant has some 15 series, a pool 6.
const (
	maxTenants = 100
	maxPools   = 1000 // of a country, a plan and a bucket, of all tenants together

	// other is the label of what is beyond them; no tenant, country or plan is named so.
	other = "_other"
)

// Limits of scraping.
const (
	scrapesAtOnce = 4
	scrapeTimeout = 10 * time.Second
)

// namespace begins the name of each metric.
const namespace = "tollbook"

// statuses are what becomes of a record.
var statuses = [...]eventstore.Status{eventstore.Booked, eventstore.Duplicate, eventstore.Suspended}

// Metrics are what one engine exports. They are there before its book is read, and
// are safe for concurrent use.
type Metrics struct {
	registry *prometheus.Registry

	failed   prometheus.Counter
	latency  prometheus.Histogram
	together prometheus.Histogram
	requests *prometheus.CounterVec
	took     *prometheus.HistogramVec

	loaded   atomic.Uint64 // events read so far
	anchored atomic.Int64  // when the last signed anchor was seen, in ns; 0: never
	tenants  tenants
	told     rate.Sometimes          // of what could not be read
	sources  atomic.Pointer[Sources] // nil: the book is being read
	turn     sync.Mutex              // of one who takes a reading
	reading  atomic.Pointer[reading] // nil: none yet
}

// New makes those of a program of a version.
func New(version string) *Metrics {
	m := &Metrics{
		told:     rate.Sometimes{First: 1, Interval: time.Hour},
		registry: prometheus.NewRegistry(),
		tenants: tenants{names: map[string]*tenant{}, records: prometheus.NewCounterVec(prometheus.CounterOpts{
			Namespace: namespace, Name: "records_total",
			Help: "Records taken in since the start of the process, over NATS and HTTP, and what became of them: booked, duplicate or suspended; their sum is what was received.",
		}, []string{"tenant", "result"})},
		failed: prometheus.NewCounter(prometheus.CounterOpts{
			Namespace: namespace, Name: "booking_errors_total",
			Help: "Messages and requests of which nothing was promised, as the book took no more or the sender went away; they come again.",
		}),
		latency: prometheus.NewHistogram(prometheus.HistogramOpts{
			Namespace: namespace, Name: "booking_duration_seconds",
			Help:    "Time from taking the records of a message or request to the book until they are on disk and their sender may be told.",
			Buckets: []float64{.0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10},
		}),
		together: prometheus.NewHistogram(prometheus.HistogramOpts{
			Namespace: namespace, Name: "booking_records",
			Help:    "Records of a message or request. How many events share a block, and so an fsync, is the increase of tollbook_book_events_total by that of tollbook_book_blocks_total.",
			Buckets: []float64{1, 2, 5, 10, 50, 100, 500, 1000, 10_000, 100_000},
		}),
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Namespace: namespace, Name: "http_requests_total",
			Help: "HTTP requests answered, by method, pattern of the route (not the path) and status.",
		}, []string{"method", "route", "code"}),
		took: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Namespace: namespace, Name: "http_request_duration_seconds",
			Help:    "Time to answer an HTTP request, by pattern of the route. A stream of events counts when it ends.",
			Buckets: prometheus.DefBuckets,
		}, []string{"route"}),
	}
	build := prometheus.NewGaugeVec(prometheus.GaugeOpts{
		Namespace: namespace, Name: "build_info", Help: "1, with the version of the program and of Go.",
	}, []string{"version", "goversion"})
	build.WithLabelValues(version, runtime.Version()).Set(1)
	m.registry.MustRegister(
		m.tenants.records, m.failed, m.latency, m.together, m.requests, m.took, build, looked{m},
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
	)
	return m
}

// Handler serves GET /metrics. Whom it lets in is its caller's to ask.
func (m *Metrics) Handler() http.Handler {
	return promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{
		MaxRequestsInFlight: scrapesAtOnce, Timeout: scrapeTimeout, EnableOpenMetrics: true, ErrorHandling: promhttp.ContinueOnError,
	})
}

// Booking is a hook for consumers.Intake.Observe.
func (m *Metrics) Booking() func([]eventstore.Record, []eventstore.Result, error) {
	began := time.Now()
	return func(records []eventstore.Record, results []eventstore.Result, err error) {
		if err != nil {
			m.failed.Inc()
			return
		}
		m.latency.Observe(time.Since(began).Seconds())
		m.together.Observe(float64(len(records)))
		for i := 0; i < len(results); {
			first := i
			for i < len(results) && results[i].Status == results[first].Status && records[i].Event.Tenant == records[first].Event.Tenant {
				i++
			}
			m.tenants.of(records[first].Event.Tenant).records[results[first].Status].Add(float64(i - first))
		}
	}
}

// methods are those that are told apart.
var methods = []string{http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete, http.MethodOptions}

// HTTP counts the requests to a handler that has its routes in http.ServeMux.
func (m *Metrics) HTTP(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		got := httpsnoop.CaptureMetrics(next, w, r)
		method := other
		if slices.Contains(methods, r.Method) {
			method = r.Method
		}
		// What no route takes may have any path.
		route := other
		if r.Pattern != "" {
			route = r.Pattern[strings.IndexByte(r.Pattern, ' ')+1:]
		}
		m.requests.WithLabelValues(method, route, strconv.Itoa(got.Code)).Inc()
		m.took.WithLabelValues(route).Observe(got.Duration.Seconds())
	})
}

// Loading tells how many events of the book are read.
func (m *Metrics) Loading(events uint64) { m.loaded.Store(events) }

// Anchored tells that a signed anchor has gone out.
func (m *Metrics) Anchored(at time.Time) { m.anchored.Store(at.UnixNano()) }

// tenants are those with labels of their own: the first that come.
type tenants struct {
	records *prometheus.CounterVec

	mu    sync.RWMutex
	names map[string]*tenant
	rest  *tenant // all others; nil: there are none
}

// A tenant is a label, and the records counted under it.
type tenant struct {
	label   string
	records [len(statuses)]prometheus.Counter // by status
}

// of is what a tenant is counted under.
func (t *tenants) of(name string) *tenant {
	t.mu.RLock()
	one, rest := t.names[name], t.rest
	t.mu.RUnlock()
	switch {
	case one != nil:
		return one
	case rest != nil:
		return rest
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if one := t.names[name]; one != nil {
		return one
	}
	if len(t.names) == maxTenants {
		if t.rest == nil {
			t.rest = t.make(other)
		}
		return t.rest
	}
	name = strings.Clone(name) // not a part of a message's text
	one = t.make(name)
	t.names[name] = one
	return one
}

func (t *tenants) make(label string) *tenant {
	one := &tenant{label: label}
	for _, status := range statuses {
		one.records[status] = t.records.WithLabelValues(label, status.String())
	}
	return one
}
