package main

import (
	"fmt"
	"log/slog"
	"testing"
	"time"

	"tollbook/consumers"
	"tollbook/domain"
)

// TestPublishOutlivesRestarts: publish begins before there is an engine and goes on
// while the engine beside the NATS server is stopped and started: each record is
// booked, and those of requests without an answer were sent again.
func TestPublishOutlivesRestarts(t *testing.T) {
	srv, err := consumers.StartServer(consumers.ServerConfig{Dir: t.TempDir(), Listen: "127.0.0.1:0", SyncInterval: time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { srv.Shutdown(); srv.WaitForShutdown() })
	const n = 40_000
	calls := make([]domain.Event, n)
	for i := range calls {
		calls[i] = someCall("contoso", fmt.Sprint("call-", i), "user000@contoso.example", 60)
	}
	file := writeFile(t, "calls.ndjson", ndjson(calls))
	published := make(chan printed, 1)
	go func() { published <- command(t, "publish", "--format", "json", "--nats", srv.ClientURL(), file) }()

	dir := t.TempDir()
	var engine *Engine
	stop := func() {
		if engine == nil {
			return
		}
		if err := engine.Stop(); err != nil {
			t.Error(err)
		}
		engine = nil
	}
	t.Cleanup(stop)
	restarts := 0
	for at := uint64(0); ; at += n / 5 {
		stop()
		engine, err = StartEngine(t.Context(), EngineConfig{Dir: dir, NATSURL: srv.ClientURL(), Clock: clock, Log: slog.New(slog.DiscardHandler)})
		if err != nil {
			t.Fatal(err)
		}
		for engine.Book.Head().Events < at+1 && len(published) == 0 {
			time.Sleep(time.Millisecond)
		}
		if len(published) > 0 {
			break
		}
		if at >= n*4/5 {
			break
		}
		restarts++
	}
	p := <-published
	if p.code != exitDone {
		t.Fatalf("publish: exit status %d: %s", p.code, p.err)
	}
	report := decoded[publishReport](t, p.out)
	if report.Received != n || report.Booked+report.Duplicate != n || report.Suspended != 0 {
		t.Errorf("%d records: %+v", n, report)
	}
	stop()
	if got := len(booked(t, dir)); got != n {
		t.Errorf("%d events are in the book, want %d", got, n)
	}
	if restarts == 0 {
		t.Error("the engine was never restarted: publish more")
	}
	t.Logf("%d restarts, %d records, %d duplicates", restarts, n, report.Duplicate)
}
