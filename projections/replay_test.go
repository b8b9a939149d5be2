package projections_test

import (
	"context"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"tollbook/domain"
	"tollbook/domain/cloudevents"
	"tollbook/eventstore"
	"tollbook/eventstore/sqlite"
	"tollbook/projections"
)

func openLog(path string) (eventstore.Log, error) { return sqlite.Open(path) }

func october() domain.Month {
	m, err := domain.ParseMonth("2026-10")
	if err != nil {
		panic(err)
	}
	return m
}

// examples are the events of the worked examples, each as a tenant of its own.
func examples(t testing.TB) map[string][]domain.Event {
	t.Helper()
	files, err := filepath.Glob("../domain/testdata/examples/*.events.ndjson")
	if err != nil || len(files) == 0 {
		t.Fatalf("no worked examples: %v", err)
	}
	all := map[string][]domain.Event{}
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		tenant := filepath.Base(file[:len(file)-len(".events.ndjson")])
		err = cloudevents.Split(data, func(raw []byte) error {
			e, err := cloudevents.Decode(raw, "")
			if e.Tenant != domain.CatalogTenant {
				e.Tenant = tenant
			}
			all[tenant] = append(all[tenant], e)
			return err
		})
		if err != nil {
			t.Fatalf("%s: %v", file, err)
		}
	}
	return all
}

// known is what a document said at a position.
type known struct {
	tenant string
	at     uint64
	bytes  string
}

// TestReplayIsTheLiveMonth books events in any order, with repeats, in batches,
// with restarts, and remembers what the live months said on the way. Replay at
// each of those positions must give those bytes, and a restart changes nothing.
func TestReplayIsTheLiveMonth(t *testing.T) {
	byTenant := examples(t)
	base := t.TempDir()
	rapid.Check(t, func(t *rapid.T) {
		var events []domain.Event
		var tenants []string
		for _, tenant := range rapid.Permutation(slices.Sorted(maps.Keys(byTenant))).Draw(t, "tenants")[:2] {
			tenants = append(tenants, tenant)
			events = append(events, byTenant[tenant]...)
		}
		events = rapid.Permutation(events).Draw(t, "order")
		events = append(events, events[:rapid.IntRange(0, len(events)/4).Draw(t, "repeats")]...)

		dir, err := os.MkdirTemp(base, "book")
		if err != nil {
			t.Fatal(err)
		}
		now := domain.InstantOf(time.Date(2026, 10, 1, 0, 0, 0, 0, time.UTC))
		var book *eventstore.Book
		var months *projections.Months
		open := func() {
			months = projections.NewMonths()
			book, err = eventstore.Open(context.Background(), dir, openLog, eventstore.Options{
				Clock:  func() domain.Instant { now += domain.Instant(time.Second); return now },
				Follow: []eventstore.Follower{months.Follow},
			})
			if err != nil {
				t.Fatal(err)
			}
		}
		open()
		defer func() { _ = book.Close() }()
		var said []known
		note := func() {
			for _, tenant := range tenants {
				s := months.Statement(tenant, october())
				said = append(said, known{tenant, s.Position, canonical(t, s)})
			}
		}
		received := uint64(0)
		for len(events) > 0 {
			n := min(rapid.IntRange(1, 200).Draw(t, "batch"), len(events))
			var batch []eventstore.Record
			for _, e := range events[:n] {
				batch = append(batch, eventstore.Record{Event: e})
			}
			events = events[n:]
			if _, err := book.Submit(context.Background(), batch); err != nil {
				t.Fatal(err)
			}
			received += uint64(n)
			note()
		}
		total := uint64(0)
		for _, tenant := range months.Tenants() {
			intake, _ := months.Intake(tenant)
			total += intake.Received()
		}
		if total != received {
			t.Fatalf("booked + duplicate + suspended is %d, received were %d", total, received)
		}
		if err := book.Close(); err != nil {
			t.Fatal(err)
		}
		open()
		note()
		if diff := cmp.Diff(said[len(said)-4:len(said)-2], said[len(said)-2:], cmp.AllowUnexported(known{})); diff != "" {
			t.Fatalf("a restart changed the month (-before +after):\n%s", diff)
		}
		for _, k := range rapid.Permutation(said).Draw(t, "replayed")[:min(6, len(said))] {
			log, err := sqlite.OpenReadOnly(eventstore.LogPath(dir))
			if err != nil {
				t.Fatal(err)
			}
			s, err := projections.Replay(context.Background(), eventstore.Walk{Log: log}, k.tenant, october(), k.at, nil)
			if err := log.Close(); err != nil {
				t.Fatal(err)
			}
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(k.bytes, canonical(t, s)); diff != "" {
				t.Fatalf("%s at position %d (-live +replayed):\n%s", k.tenant, k.at, diff)
			}
		}
	})
}

func canonical(t interface{ Fatal(...any) }, v any) string {
	data, err := projections.Canonical(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}
