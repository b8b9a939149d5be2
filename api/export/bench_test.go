package export_test

import (
	"context"
	"io"
	"os"
	"runtime"
	"strconv"
	"testing"
	"time"

	"tollbook/api"
	"tollbook/api/export"
	"tollbook/cmd/tollbook/catalog"
	"tollbook/cmd/tollbook/traffic"
	"tollbook/domain"
	"tollbook/eventstore"
	"tollbook/projections"
)

// trafficMonth is a month of calls with the built-in catalogue, in memory only.
func trafficMonth(users, calls int) *api.Explainer {
	shape := traffic.Month(1, users, calls)
	ledger := domain.NewLedger()
	n := uint64(0)
	add := func(e domain.Event) {
		n++
		ledger.Add(&e)
	}
	for _, e := range append(catalog.Plans(instant("2026-01-01T00:00:00Z")), catalog.Deck(instant("2026-01-01T00:00:00Z"))...) {
		add(e)
	}
	for _, e := range shape.Terms() {
		add(e)
	}
	seen := map[string]struct{}{}
	for e := range shape.Events() {
		if key := e.Source + e.ID; shape.RepeatedPerMille > 0 {
			if _, repeat := seen[key]; repeat {
				continue
			}
			seen[key] = struct{}{}
		}
		add(e)
	}
	head := eventstore.Head{Block: 1, Events: n}
	return api.NewExplainer(api.ExplainSource{
		Live: func(_ context.Context, tenant string, month domain.Month, ask func(*projections.View) error) (uint64, error) {
			v, at := projections.View{Ledger: ledger, Head: head}.Issued(tenant, month)
			if v == nil {
				return at, nil
			}
			return 0, ask(v)
		},
	})
}

// BenchmarkExport writes a month's calls in each format. TOLLBOOK_CALLS is how many;
// without it 100,000. The heap is the most that was in use above the month itself.
func BenchmarkExport(b *testing.B) {
	calls := 100_000
	if n, err := strconv.Atoi(os.Getenv("TOLLBOOK_CALLS")); err == nil {
		calls = n
	}
	explainer := trafficMonth(calls/100, calls)
	for _, format := range []string{"csv", "parquet", "json", "xlsx"} {
		b.Run(format, func(b *testing.B) {
			var m export.Manifest
			heap := uint64(0)
			for b.Loop() {
				before := inUse()
				peak := watchHeap(func() {
					e, err := export.Begin(context.Background(), explainer, export.Query{Tenant: tenant, Month: "2026-10", Format: format, What: "calls"})
					if err == nil {
						m, err = e.Write(context.Background(), io.Discard)
					}
					if err != nil {
						b.Fatal(err)
					}
				})
				heap = max(heap, peak-min(before, peak))
			}
			n := float64(m.Counts.Calls)
			b.ReportMetric(n*float64(b.N)/b.Elapsed().Seconds(), "calls/s")
			b.ReportMetric(float64(m.Bytes)/n, "B/call")
			b.ReportMetric(float64(heap)/1e6, "MB-heap")
		})
	}
}

// watchHeap is the most of the heap that was in use while do ran.
func watchHeap(do func()) (peak uint64) {
	stop, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		for {
			select {
			case <-stop:
				return
			case <-time.After(50 * time.Millisecond):
				var m runtime.MemStats
				runtime.ReadMemStats(&m)
				peak = max(peak, m.HeapInuse)
			}
		}
	}()
	do()
	close(stop)
	<-done
	return peak
}

func inUse() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapInuse
}
