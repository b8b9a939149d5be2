package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	natsjs "github.com/nats-io/nats.go/jetstream"
	"golang.org/x/sync/errgroup"

	"tollbook/api"
	"tollbook/cmd/tollbook/catalog"
	"tollbook/cmd/tollbook/deckcsv"
	"tollbook/cmd/tollbook/traffic"
	"tollbook/consumers"
	"tollbook/domain"
	"tollbook/domain/cloudevents"
	"tollbook/eventstore"
	"tollbook/projections"
)

// benchCmd measures what docs/PERFORMANCE.md promises, on this machine. Each row
// is run three times, and the median counts.
type benchCmd struct {
	Rows  []string `arg:"" optional:"" help:"Which rows; without any, all."`
	Calls int      `default:"1000000" help:"Calls of the month that is replayed; the rows with a target are of 10,000,000."`
	Users int      `default:"50000" help:"Users of the month."`
	Seed  uint64   `default:"1" help:"Seed of the month."`
	Keep  string   `type:"path" placeholder:"DIR" help:"Keep the months that are made here, and use them again."`
	format
}

// A benchRow is one figure.
type benchRow struct {
	name   string
	what   string
	target string
	run    func(b *bench, ctx context.Context) (value float64, unit string, err error)
}

var benchRows = []benchRow{
	{"replay", "replay of a month, from the book on disk to the document", "≥ 5 M calls/s", (*bench).replay},
	{"growth", "time for a call in a replay, against a month a tenth as large", "1.0 ± 0.2 ×", (*bench).growth},
	{"size", "the book on disk, random UUIDs as ids", "≤ 34 B/call", (*bench).size},
	{"booking", "booking, 1,000 events a request, on disk before the answer", "≥ 400,000 calls/s", (*bench).booking},
	{"single", "booking, one event a message through JetStream, against nats.go alone", "≥ 0.6 ×", (*bench).single},
	{"latency", "2,000 events/s one by one: published until it counts, 99th percentile", "≤ 50 ms", (*bench).latency},
	{"deck", "a deck of 500,000 prefixes: read, checked, booked, in force", "≤ 2 s", (*bench).deck},
	{"start", "start of the engine with the month open, from its snapshots", "≤ 1 s", (*bench).start},
	{"cold", "start of the engine with the month open, snapshots removed", "≤ 4 s", (*bench).cold},
	{"memory", "memory of the open month, identities included", "≤ 48 B/call", (*bench).memory},
	{"answers", "pools and invoice of the live month while a call comes between any two, 99th percentile", "≤ 10 ms", (*bench).answers},
	{"desk", "the HTTP API on the live month while 5,000 calls/s are booked, 99th percentile", "≤ 50 ms", (*bench).desk},
	{"page", "the page on the live month while 5,000 calls/s are booked, the slowest", "≤ 300 ms", (*bench).page},
	{"members", "a call in a pool of 100,000 users against one in a pool of 1", "1.0 ± 0.1 ×", (*bench).members},
}

// Validate is called by kong, before anything is done.
func (c *benchCmd) Validate() error {
	if c.Calls < 1000 || c.Calls > 100_000_000 || c.Users < 15 || c.Users > 10_000_000 {
		return fmt.Errorf("--calls must be 1,000 to 100,000,000, --users 15 to 10,000,000")
	}
	for _, name := range c.Rows {
		if !slices.ContainsFunc(benchRows, func(r benchRow) bool { return r.name == name }) {
			var names []string
			for _, r := range benchRows {
				names = append(names, r.name)
			}
			return fmt.Errorf("%q is no row: they are %s", name, strings.Join(names, ", "))
		}
	}
	return nil
}

// benchRuns is how often a row is run.
const benchRuns = 3

// A benchResult is a row with its figures, the median first.
type benchResult struct {
	Row    string    `json:"row"`
	What   string    `json:"what"`
	Target string    `json:"target"`
	Unit   string    `json:"unit"`
	Median float64   `json:"median"`
	Runs   []float64 `json:"runs"`
}

func (c *benchCmd) Run(ctx context.Context, std Streams) (err error) {
	b := &bench{shape: traffic.Month(c.Seed, c.Users, c.Calls), dir: c.Keep, std: std}
	if b.dir == "" {
		if b.dir, err = os.MkdirTemp("", "tollbook-bench-"); err != nil {
			return err
		}
		defer func() { err = errors.Join(err, os.RemoveAll(b.dir)) }()
	}
	var results []benchResult
	for _, row := range benchRows {
		if len(c.Rows) > 0 && !slices.Contains(c.Rows, row.name) {
			continue
		}
		r := benchResult{Row: row.name, What: row.what, Target: row.target}
		for range benchRuns {
			value, unit, err := row.run(b, ctx)
			if err != nil {
				return fmt.Errorf("%s: %w", row.name, err)
			}
			r.Unit, r.Runs = unit, append(r.Runs, value)
		}
		sorted := slices.Sorted(slices.Values(r.Runs))
		r.Median = sorted[len(sorted)/2]
		results = append(results, r)
		if c.Format != "json" {
			fmt.Fprintf(std.Out, "%-8s %10.4g %-10s target %-18s %s\n", r.Row, r.Median, r.Unit, r.Target, r.What)
		}
	}
	if c.Format == "json" {
		return c.print(std, results, nil)
	}
	fmt.Fprintf(std.Out, "%s calls of %s users, seed %d; %s, %s/%s, %d cores\n",
		grouped(int64(c.Calls)), grouped(int64(c.Users)), c.Seed, runtime.Version(), runtime.GOOS, runtime.GOARCH, runtime.GOMAXPROCS(0))
	return nil
}

// A bench makes the months it measures once.
type bench struct {
	shape traffic.Shape
	dir   string
	std   Streams
}

// month is the data directory of the month, made if it is not there.
func (b *bench) month(ctx context.Context) (string, error) {
	dir := filepath.Join(b.dir, fmt.Sprintf("month-%d-%d-%d", b.shape.Seed, b.shape.Users, b.shape.Calls))
	if _, err := os.Stat(filepath.Join(dir, "made")); err == nil {
		return dir, nil
	}
	if err := errors.Join(os.RemoveAll(dir), os.MkdirAll(dir, 0o750)); err != nil {
		return "", err
	}
	bar := newProgress(b.std, "making the month", int64(b.shape.Calls), "calls")
	defer bar.finish()
	book, err := eventstore.Open(ctx, dir, openLog, eventstore.Options{Clock: clock})
	if err != nil {
		return "", err
	}
	var records []eventstore.Record
	made := uint64(0)
	flush := func() error {
		_, err := book.Submit(ctx, records)
		made += uint64(len(records))
		bar.set(made)
		records = records[:0]
		return err
	}
	add := func(e domain.Event) error {
		if records = append(records, eventstore.Record{Event: e}); len(records) == 8000 {
			return flush()
		}
		return nil
	}
	for _, e := range slices.Concat(builtinCatalog(), b.shape.Terms()) {
		err = errors.Join(err, add(e))
	}
	for e := range b.shape.Events() {
		if err = errors.Join(err, add(e)); err != nil {
			break
		}
	}
	if err = errors.Join(err, flush(), book.Close()); err != nil {
		return "", err
	}
	return dir, os.WriteFile(filepath.Join(dir, "made"), nil, 0o640)
}

func (b *bench) replay(ctx context.Context) (float64, string, error) {
	dir, err := b.month(ctx)
	if err != nil {
		return 0, "", err
	}
	walk, closeLog, err := openBook(ctx, dir, "")
	if err != nil {
		return 0, "", err
	}
	defer closeLog()
	runtime.GC()
	began := time.Now()
	s, err := projections.Replay(ctx, walk, b.shape.Tenant, b.shape.Month, 0, nil)
	if err == nil && s.Counts.Calls != int64(b.shape.Calls) {
		err = fmt.Errorf("the month has %d calls of %d", s.Counts.Calls, b.shape.Calls)
	}
	return float64(b.shape.Calls) / time.Since(began).Seconds() / 1e6, "M calls/s", err
}

func (b *bench) size(ctx context.Context) (float64, string, error) {
	dir, err := b.month(ctx)
	if err != nil {
		return 0, "", err
	}
	info, err := os.Stat(eventstore.LogPath(dir))
	if err != nil {
		return 0, "", err
	}
	return float64(info.Size()) / float64(b.shape.Calls), "B/call", nil
}

// engine starts one on a directory of its own.
func (b *bench) engine(ctx context.Context) (*Engine, func() error, error) {
	dir, err := os.MkdirTemp(b.dir, "engine-")
	if err != nil {
		return nil, nil, err
	}
	engine, err := b.engineOn(ctx, dir)
	if err != nil {
		return nil, nil, errors.Join(err, os.RemoveAll(dir))
	}
	return engine, func() error { return errors.Join(engine.Stop(), os.RemoveAll(dir)) }, nil
}

func (b *bench) engineOn(ctx context.Context, dir string) (*Engine, error) {
	return StartEngine(ctx, EngineConfig{
		Dir: dir, NATSListen: "127.0.0.1:0", NATSSync: time.Minute, HTTPListen: "127.0.0.1:0", Clock: clock,
		Log: slog.New(slog.NewTextHandler(b.std.Err, &slog.HandlerOptions{Level: slog.LevelError})),
	})
}

// payloads are the first events of the month in JSON, so many in each.
func (b *bench) payloads(total, each int) [][]byte {
	var payloads [][]byte
	var payload []byte
	n := 0
	for e := range b.shape.Events() {
		payload = append(cloudevents.Append(payload, &e), '\n')
		if n++; n%each == 0 {
			payloads, payload = append(payloads, payload), nil
		}
		if n == total {
			break
		}
	}
	return payloads
}

func (b *bench) booking(ctx context.Context) (value float64, unit string, err error) {
	const total, each, senders = 1_000_000, 1000, 8
	payloads := b.payloads(total, each)
	engine, stop, err := b.engine(ctx)
	if err != nil {
		return 0, "", err
	}
	defer func() { err = errors.Join(err, stop()) }()
	client := api.NewClient(engine.Conn)
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(senders)
	began := time.Now()
	for _, payload := range payloads {
		group.Go(func() error {
			_, err := client.Publish(ctx, consumers.SubjectPrefix+b.shape.Tenant+".events", payload)
			return err
		})
	}
	err = group.Wait()
	return float64(len(payloads)*each) / time.Since(began).Seconds(), "calls/s", err
}

func (b *bench) single(ctx context.Context) (value float64, unit string, err error) {
	payloads := b.payloads(100_000, 1)
	total := len(payloads) // a small month has fewer
	engine, stop, err := b.engine(ctx)
	if err != nil {
		return 0, "", err
	}
	defer func() { err = errors.Join(err, stop()) }()
	js, err := natsjs.New(engine.Conn, natsjs.WithPublishAsyncMaxPending(4096))
	if err != nil {
		return 0, "", err
	}
	publish := func(subject string) error {
		for _, payload := range payloads {
			if _, err := js.PublishAsync(subject, payload, natsjs.WithStallWait(time.Minute)); err != nil {
				return err
			}
		}
		<-js.PublishAsyncComplete()
		return nil
	}
	began := time.Now()
	if err := publish(consumers.SubjectPrefix + b.shape.Tenant + ".call.completed"); err != nil {
		return 0, "", err
	}
	want := uint64(total)
	for {
		intake, _ := engine.Months.Intake(b.shape.Tenant)
		if intake.Received() >= want {
			break
		}
		if err := sleep(ctx, time.Millisecond); err != nil {
			return 0, "", err
		}
	}
	ours := time.Since(began)

	// What nats.go alone does with the same messages on such a stream.
	const name = "ALONE"
	if _, err := js.CreateStream(ctx, natsjs.StreamConfig{Name: name, Subjects: []string{"alone"}, Retention: natsjs.WorkQueuePolicy, Storage: natsjs.FileStorage}); err != nil {
		return 0, "", err
	}
	consumer, err := js.CreateConsumer(ctx, name, natsjs.ConsumerConfig{AckPolicy: natsjs.AckExplicitPolicy, MaxAckPending: 4096})
	if err != nil {
		return 0, "", err
	}
	done, got := make(chan struct{}), 0
	began = time.Now()
	consuming, err := consumer.Consume(func(m natsjs.Msg) {
		_ = m.Ack()
		if got++; got == total {
			close(done)
		}
	}, natsjs.PullMaxMessages(4096))
	if err != nil {
		return 0, "", err
	}
	defer consuming.Stop()
	if err := publish("alone"); err != nil {
		return 0, "", err
	}
	select {
	case <-done:
	case <-ctx.Done():
		return 0, "", ctx.Err()
	}
	alone := time.Since(began)
	return alone.Seconds() / ours.Seconds(), "×", nil
}

func sleep(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (b *bench) latency(ctx context.Context) (value float64, unit string, err error) {
	const rate, most = 2000, 6000
	var events []domain.Event
	for e := range b.shape.Events() {
		if events = append(events, e); len(events) == most {
			break
		}
	}
	total := len(events)
	engine, stop, err := b.engine(ctx)
	if err != nil {
		return 0, "", err
	}
	defer func() { err = errors.Join(err, stop()) }()
	sent := make([]time.Time, 0, total)
	lags := make([]time.Duration, 0, total)
	subject := consumers.SubjectPrefix + b.shape.Tenant + ".call.completed"
	began, next := time.Now(), 0
	for next < total {
		for len(sent) < total && time.Since(began) >= time.Duration(len(sent))*time.Second/rate {
			e := &events[len(sent)]
			sent = append(sent, time.Now())
			if err := engine.Conn.PublishMsg(&nats.Msg{Subject: subject, Data: cloudevents.Append(nil, e)}); err != nil {
				return 0, "", err
			}
		}
		// The months follow the head, so what is found there counts.
		for next < len(sent) {
			if _, found := engine.Book.Find(b.shape.Tenant, events[next].Source, events[next].ID); !found {
				break
			}
			lags = append(lags, time.Since(sent[next]))
			next++
		}
		if err := sleep(ctx, 100*time.Microsecond); err != nil {
			return 0, "", err
		}
		if time.Since(began) > time.Minute {
			return 0, "", fmt.Errorf("%d of %d events are booked after a minute", next, total)
		}
	}
	slices.Sort(lags)
	return float64(lags[len(lags)*99/100].Microseconds()) / 1000, "ms", nil
}

func (b *bench) deck(ctx context.Context) (value float64, unit string, err error) {
	const rows = 500_000
	file := manyPrefixes(rows)
	engine, stop, err := b.engine(ctx)
	if err != nil {
		return 0, "", err
	}
	defer func() { err = errors.Join(err, stop()) }()
	client := api.NewClient(engine.Conn)
	began := time.Now()
	events, err := deckcsv.Read(bytes.NewReader(file), deckcsv.Options{
		Tenant: domain.CatalogTenant, Deck: "big", Version: "1", EffectiveFrom: domain.InstantOf(time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)), Time: catalogReleased,
	})
	if err != nil {
		return 0, "", err
	}
	if _, err := publishEvents(ctx, client, events); err != nil {
		return 0, "", err
	}
	plan := catalog.Plans(catalogReleased)[0]
	terms := *plan.Data.(*domain.Plan)
	terms.Plan, terms.Deck = "BIG", "big"
	plan.ID, plan.Data = "big", &terms
	if _, err := publishEvents(ctx, client, []domain.Event{plan}); err != nil {
		return 0, "", err
	}
	// In force is what prices a number.
	called, err := domain.ParseNumber("+19999999")
	if err != nil {
		return 0, "", err
	}
	_, _, _ = engine.Months.Estimate(b.shape.Tenant, "nobody", called, domain.InstantOf(time.Date(2026, 10, 1, 0, 0, 0, 0, time.UTC)), 60_000)
	return time.Since(began).Seconds(), "s", nil
}

// manyPrefixes is a CSV of a deck: ranges of operators and most digits after each.
func manyPrefixes(rows int) []byte {
	var text bytes.Buffer
	fmt.Fprintln(&text, "prefix,destination,country,type,rate_per_min,connect_fee,increment,currency")
	n := 0
	for first := uint64(1000); n < rows; first++ {
		for digit := first * 7 % 3; digit < 10 && n < rows; digit++ {
			for more := uint64(0); more < 10 && n < rows; more++ {
				fmt.Fprintf(&text, "%d%d%d,Range %d,US,mobile,0.%04d,0,60/60,USD\n", first, digit, more, first%500, 100+first%900)
				n++
			}
		}
	}
	return text.Bytes()
}

// copyMonth is a copy of the month that an engine may write to.
func (b *bench) copyMonth(ctx context.Context) (string, error) {
	from, err := b.month(ctx)
	if err != nil {
		return "", err
	}
	to := from + "-live"
	if _, err := os.Stat(filepath.Join(to, "made")); err == nil {
		return to, nil
	}
	if err := os.MkdirAll(to, 0o750); err != nil {
		return "", err
	}
	for _, name := range []string{filepath.Base(eventstore.LogPath(from)), filepath.Base(eventstore.AnchorPath(from)), "made"} {
		data, err := os.Open(filepath.Join(from, name))
		if err != nil {
			return "", err
		}
		err = errors.Join(writeDurably(filepath.Join(to, name), data), data.Close())
		if err != nil {
			return "", err
		}
	}
	return to, nil
}

func (b *bench) live(ctx context.Context) (*Engine, time.Duration, error) {
	dir, err := b.copyMonth(ctx)
	if err != nil {
		return nil, 0, err
	}
	began := time.Now()
	engine, err := b.engineOn(ctx, dir)
	return engine, time.Since(began), err
}

func (b *bench) start(ctx context.Context) (float64, string, error) {
	dir, err := b.copyMonth(ctx)
	if err != nil {
		return 0, "", err
	}
	if !exists(eventstore.SnapshotsPath(dir)) { // a stop leaves them
		engine, _, err := b.live(ctx)
		if err := errors.Join(err, engine.Stop()); err != nil {
			return 0, "", err
		}
		runtime.GC()
	}
	engine, took, err := b.live(ctx)
	if err != nil {
		return 0, "", err
	}
	return took.Seconds(), "s", engine.Stop()
}

func (b *bench) cold(ctx context.Context) (float64, string, error) {
	dir, err := b.copyMonth(ctx)
	if err == nil {
		err = os.RemoveAll(eventstore.SnapshotsPath(dir))
	}
	if err != nil {
		return 0, "", err
	}
	runtime.GC()
	engine, took, err := b.live(ctx)
	if err != nil {
		return 0, "", err
	}
	return took.Seconds(), "s", engine.Stop()
}

// heap is what is in use once everything that can go has gone.
func heap() float64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return float64(m.HeapAlloc)
}

func (b *bench) memory(ctx context.Context) (float64, string, error) {
	before := heap()
	engine, _, err := b.live(ctx)
	if err != nil {
		return 0, "", err
	}
	_ = engine.Months.Statement(b.shape.Tenant, b.shape.Month)
	used := heap() - before
	return used / float64(b.shape.Calls), "B/call", engine.Stop()
}

func (b *bench) answers(ctx context.Context) (value float64, unit string, err error) {
	engine, _, err := b.live(ctx)
	if err != nil {
		return 0, "", err
	}
	defer func() { err = errors.Join(err, engine.Stop()) }()
	client := api.NewClient(engine.Conn)
	month := api.MonthRequest{Tenant: b.shape.Tenant, Month: b.shape.Month.String()}
	if _, err := client.Pools(ctx, month); err != nil { // places what the start left to the first question
		return 0, "", err
	}
	more := b.shape
	more.Seed = uint64(time.Now().UnixNano()) // calls that the month has not
	var times []time.Duration
	for e := range more.Events() {
		if _, err := engine.Book.Submit(ctx, []eventstore.Record{{Event: e}}); err != nil {
			return 0, "", err
		}
		began := time.Now()
		if len(times)%2 == 0 {
			_, err = client.Pools(ctx, month)
		} else {
			_, err = client.Invoice(ctx, month)
		}
		if err != nil {
			return 0, "", err
		}
		if times = append(times, time.Since(began)); len(times) == 1000 {
			break
		}
	}
	slices.Sort(times)
	return float64(times[len(times)*99/100].Microseconds()) / 1000, "ms", nil
}

// members has the same few users call, in pools that they have for themselves and
// in pools that they share with many. (Where all of many call, each call costs
// more, whatever their pools: what is known of them no longer fits the caches.)
func (b *bench) members(ctx context.Context) (float64, string, error) {
	const pools = len(traffic.Countries) * len(traffic.Plans)
	var events []domain.Event
	for e := range traffic.Month(b.shape.Seed, pools, 200_000).Events() {
		events = append(events, e)
	}
	cost := func(members int) float64 {
		shape := traffic.Month(b.shape.Seed, pools*members, 0)
		ledger := domain.NewLedger()
		for _, e := range slices.Concat(builtinCatalog(), shape.Terms()) {
			ledger.Add(&e)
		}
		ledger.Rating(shape.Tenant, shape.Month)
		runtime.GC()
		began := time.Now()
		for i := range events {
			ledger.Add(&events[i])
		}
		return time.Since(began).Seconds()
	}
	one, many := cost(1), cost(100_000)
	return many / one, "×", ctx.Err()
}

// growth is the time for a call of the month against that of a month a tenth as
// large.
func (b *bench) growth(ctx context.Context) (float64, string, error) {
	tenth := *b
	tenth.shape.Calls /= 10
	small, _, err := tenth.replay(ctx)
	if err != nil {
		return 0, "", err
	}
	large, _, err := b.replay(ctx)
	return small / large, "×", err
}
