package metrics

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"

	"tollbook/domain"
	"tollbook/eventstore"
	"tollbook/projections"
)

// counted is the value of a counter.
func counted(t *testing.T, c prometheus.Counter) float64 {
	t.Helper()
	var m dto.Metric
	if err := c.Write(&m); err != nil {
		t.Fatal(err)
	}
	return m.GetCounter().GetValue()
}

// series is how many a collector has.
func series(c prometheus.Collector) (n int) {
	all := make(chan prometheus.Metric)
	go func() {
		defer close(all)
		c.Collect(all)
	}()
	for range all {
		n++
	}
	return n
}

// sums is the sum of a reading's samples of a name, and how many there are.
func sums(r *reading, name string) (sum float64, n int) {
	for _, s := range r.samples {
		if strings.Contains(s.desc.String(), `"`+name+`"`) {
			sum += s.value
			n++
		}
	}
	return sum, n
}

// TestBounded: however many tenants and pools there are, there are so many series
// at most, and they have the sum of all.
func TestBounded(t *testing.T) {
	const tenants, plans = maxTenants + 20, 15
	at := domain.InstantOf(time.Date(2026, 10, 5, 9, 0, 0, 0, time.UTC))
	months, suspense := projections.NewMonths(), projections.NewSuspense(func(*domain.Event, *domain.Suspended) domain.Glimpse { return domain.Glimpse{} })
	var events []domain.Event
	var granted float64
	for i := range tenants {
		add := func(id string, data domain.Data) {
			events = append(events, domain.Event{Tenant: fmt.Sprintf("t-%03d", i), Source: "s", ID: id, Time: at, Data: data})
		}
		add("suspended", &domain.Suspended{Reason: "syntax"})
		for p := range plans {
			name := fmt.Sprint("PLAN_", p)
			add(name, &domain.Plan{
				Plan: name, Name: name, EffectiveFrom: 20260101, Kinds: []string{domain.KindUser}, Deck: "d", Increment: domain.DefaultIncrement,
				Buckets: []domain.Bucket{{Name: "domestic", Minutes: map[string]int64{domain.AnyCountry: 1}}},
			})
			add("licence-"+name, &domain.Assignment{User: fmt.Sprint("user", p), Plan: name, Country: "IT", EffectiveAt: at})
			granted += 60
		}
		add("call", &domain.Call{User: "user0", Kind: domain.KindUser, AnsweredAt: at, BillableMS: 1000})
		if i == tenants-1 { // the busiest
			add("another", &domain.Call{User: "user0", Kind: domain.KindUser, AnsweredAt: at, BillableMS: 1000})
		}
	}
	update := eventstore.Update{Head: eventstore.Head{Block: 1, Events: uint64(len(events))}, First: 1, Events: events}
	months.Follow(update)
	suspense.Follow(update)

	m := New("test")
	var r reading
	m.readTenants(&r, &Sources{Months: months, Suspense: suspense, Gaps: projections.NewGaps(), Clock: func() domain.Instant { return at }})
	for name, want := range map[string]struct {
		sum float64
		n   int
	}{
		"tollbook_tenants":              {tenants, 1},
		"tollbook_pool_granted_seconds": {granted, maxPools + 1},
		"tollbook_pools":                {tenants * plans, maxPools + 1},
		"tollbook_open_months":          {tenants, maxTenants + 1},
		"tollbook_suspense_records":     {tenants, maxTenants + 1},
	} {
		if sum, n := sums(&r, name); sum != want.sum || n != want.n {
			t.Errorf("%s: %d samples with the sum %v, want %+v", name, n, sum, want)
		}
	}
	if !slices.ContainsFunc(r.samples, func(s sample) bool {
		return slices.Contains(s.labels, fmt.Sprintf("t-%03d", tenants-1))
	}) {
		t.Error("the busiest tenant has no series of its own")
	}

	// The counts by tenant have the same limit, and the same tenants.
	for i := range tenants + 50 {
		booked := m.Booking()
		booked([]eventstore.Record{{Event: domain.Event{Tenant: fmt.Sprintf("t-%03d", i)}}}, []eventstore.Result{{Status: eventstore.Booked}}, nil)
	}
	if n := series(m.tenants.records); n != (maxTenants+1)*len(statuses) {
		t.Errorf("%d counters", n)
	}
	if n := counted(t, m.tenants.records.WithLabelValues(other, "booked")); n != tenants+50-maxTenants {
		t.Errorf("%v records of others", n)
	}
}

// TestBooking: a message's records are counted by tenant and by what became of them.
func TestBooking(t *testing.T) {
	m := New("test")
	of := func(tenants ...string) (records []eventstore.Record) {
		for _, tenant := range tenants {
			records = append(records, eventstore.Record{Event: domain.Event{Tenant: tenant}})
		}
		return records
	}
	m.Booking()(of("a", "a", "b", "b", "a"), []eventstore.Result{{}, {}, {}, {Status: eventstore.Duplicate}, {Status: eventstore.Suspended}}, nil)
	m.Booking()(of("a"), nil, context.Canceled)
	m.Booking()(nil, nil, nil)
	want := map[string]float64{"a booked": 2, "a duplicate": 0, "a suspended": 1, "b booked": 1, "b duplicate": 1, "b suspended": 0}
	got := map[string]float64{}
	for _, tenant := range []string{"a", "b"} {
		for _, status := range statuses {
			got[tenant+" "+status.String()] = counted(t, m.tenants.records.WithLabelValues(tenant, status.String()))
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if n := counted(t, m.failed); n != 1 {
		t.Errorf("%v failed", n)
	}
}

// TestHTTP: requests are counted by the route that took them, never by a path or a
// method that a stranger chose, and an answer that is a stream stays one.
func TestHTTP(t *testing.T) {
	m := New("test")
	inner, mux := http.NewServeMux(), http.NewServeMux()
	inner.HandleFunc("POST /v1/cdr/{tenant}", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusTooManyRequests) })
	mux.Handle("/v1/", inner)
	mux.HandleFunc("GET /stream", func(w http.ResponseWriter, _ *http.Request) {
		_, plain := w.(http.Flusher)
		control := http.NewResponseController(w)
		if err := errors.Join(control.Flush(), control.SetWriteDeadline(time.Time{})); err != nil || !plain {
			t.Errorf("the stream can't be flushed, or not be kept: %v", err)
		}
	})
	server := httptest.NewServer(m.HTTP(mux))
	defer server.Close()
	for _, request := range []string{"POST /v1/cdr/contoso", "POST /v1/cdr/acme", "GET /v1/cdr/acme", "GET /stream", "GET /393331234567", "BREW /stream"} {
		method, path, _ := strings.Cut(request, " ")
		r, err := http.NewRequest(method, server.URL+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		response, err := server.Client().Do(r)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = io.Copy(io.Discard, response.Body)
		_ = response.Body.Close()
	}
	want := map[[3]string]float64{
		{"POST", "/v1/cdr/{tenant}", "429"}: 2, {"GET", other, "405"}: 1, {"GET", "/stream", "200"}: 1, {"GET", other, "404"}: 1, {other, other, "405"}: 1,
	}
	for labels, n := range want {
		if got := counted(t, m.requests.WithLabelValues(labels[:]...)); got != n {
			t.Errorf("%v: %v, want %v", labels, got, n)
		}
	}
	if n := series(m.requests); n != len(want) {
		t.Errorf("%d series, want %v", n, slices.Collect(maps.Keys(want)))
	}
}

// BenchmarkScrape scrapes as many series as there can be.
func BenchmarkScrape(b *testing.B) {
	m := New("test")
	var r reading
	for i := range maxPools {
		labels := []string{fmt.Sprint("t-", i%maxTenants), "2026-10", "IT", fmt.Sprint("PLAN_", i/maxTenants), "domestic"}
		for _, d := range descs {
			if strings.Contains(d.String(), "{tenant,month,country,plan,bucket}") {
				r.gauge(d, float64(i), labels...)
			}
		}
	}
	m.reading.Store(&r)
	handler := m.Handler()
	for b.Loop() {
		w := httptest.NewRecorder()
		handler.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/metrics", nil))
		if w.Code != http.StatusOK {
			b.Fatal(w.Code)
		}
		b.ReportMetric(float64(w.Body.Len()), "B/scrape")
	}
}

// BenchmarkBooking is what the hook costs a message of one record.
func BenchmarkBooking(b *testing.B) {
	m := New("test")
	records, results := []eventstore.Record{{Event: domain.Event{Tenant: "contoso"}}}, []eventstore.Result{{Status: eventstore.Booked}}
	for b.Loop() {
		m.Booking()(records, results, nil)
	}
}
