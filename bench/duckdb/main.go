// Command duckdb rates a month that package traffic makes twice: with DuckDB, in
// SQL from zstd Parquet files, and with Tollbook, from its book. It compares every
// pool and every invoice line, and prints how fast each was.
//
// The SQL is of this month only, whose calls are all of one zone, in plans that all
// grant by peak, under one deck, of users who hold one licence all month, without
// corrections: it has no versions, no intervals and no exceptions to look at.
// Repeated records are left out of the Parquet files, as the book, which is read
// instead of them, has each once. So what it does is less than a replay does, and
// none of what a replay checks: blocks, hashes, positions.
package main

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/duckdb/duckdb-go/v2"

	"tollbook/cmd/tollbook/catalog"
	"tollbook/cmd/tollbook/traffic"
	"tollbook/domain"
	"tollbook/eventstore"
	"tollbook/eventstore/sqlite"
	"tollbook/projections"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	calls := flag.Int("calls", 1_000_000, "calls of the month")
	users := flag.Int("users", 50_000, "users of the month")
	seed := flag.Uint64("seed", 1, "seed of the month")
	runs := flag.Int("runs", 3, "how often each is timed; the median is printed")
	flag.Parse()
	dir, err := os.MkdirTemp("", "tollbook-duckdb-")
	if err == nil {
		err = errors.Join(compare(ctx, dir, traffic.Month(*seed, *users, *calls), *runs), os.RemoveAll(dir))
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "duckdb:", err)
		os.Exit(1)
	}
}

// compare makes the month in dir, rates it in both ways and prints what came of it.
func compare(ctx context.Context, dir string, shape traffic.Shape, runs int) (err error) {
	db, err := sql.Open("duckdb", "")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	if _, err := db.ExecContext(ctx, fmt.Sprintf("SET threads = %d", runtime.GOMAXPROCS(0))); err != nil {
		return err
	}
	w, err := newWorld(shape)
	if err != nil {
		return err
	}
	data := filepath.Join(dir, "book")
	if err := os.Mkdir(data, 0o750); err != nil {
		return err
	}
	book, err := eventstore.Open(ctx, data, func(path string) (eventstore.Log, error) { return sqlite.Open(path) },
		eventstore.Options{Clock: func() domain.Instant { return domain.InstantOf(time.Now()) }})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, book.Close()) }()
	if err := w.load(ctx, db, book, dir); err != nil {
		return err
	}

	var ours projections.Statement
	var theirs rated
	replays, queries, sums := []float64{}, []float64{}, []float64{}
	timed := func(list *[]float64, work func() error) error {
		runtime.GC()
		began := time.Now()
		err := work()
		*list = append(*list, float64(shape.Calls)/time.Since(began).Seconds())
		return err
	}
	for range runs {
		err := errors.Join(
			timed(&replays, func() (err error) {
				ours, err = projections.Replay(ctx, book.Walk(), shape.Tenant, shape.Month, 0, nil)
				return err
			}),
			timed(&queries, func() (err error) { theirs, err = w.rate(ctx, db); return err }),
			timed(&sums, func() error { return w.sums(ctx, db) }),
		)
		if err != nil {
			return err
		}
	}
	lines, err := same(&ours, &theirs)
	if err != nil {
		return err
	}
	tollbook, duck, plain := median(replays), median(queries), median(sums)
	var version string
	if err := db.QueryRowContext(ctx, "SELECT version()").Scan(&version); err != nil {
		return err
	}
	fmt.Printf("tollbook %8.3f M calls/s   replay of the month from its book\n", tollbook/1e6)
	fmt.Printf("duckdb   %8.3f M calls/s   the same from zstd Parquet, DuckDB %s\n", duck/1e6, version)
	fmt.Printf("duckdb   %8.3f M calls/s   without order and draw: what each pool was asked for\n", plain/1e6)
	fmt.Printf("ratio    %8.1f ×           %d pools and %d invoice lines are the same; medians of %d, %d cores\n", tollbook/duck, len(ours.Pools), lines, runs, runtime.GOMAXPROCS(0))
	return nil
}

func median(list []float64) float64 { return slices.Sorted(slices.Values(list))[len(list)/2] }

// A world is what the month is rated with.
type world struct {
	shape traffic.Shape
	rows  []domain.Row
	plans map[string]*domain.Plan
	pools []pool // by number
	dir   string
}

type pool struct {
	plan    *domain.Plan
	country string
	holders int64
}

func newWorld(shape traffic.Shape) (*world, error) {
	w := &world{shape: shape, plans: map[string]*domain.Plan{}}
	for _, e := range catalog.Plans(released) {
		p := e.Data.(*domain.Plan)
		if old := w.plans[p.Plan]; p.EffectiveFrom <= shape.Month.FirstDay() && (old == nil || old.EffectiveFrom < p.EffectiveFrom) {
			w.plans[p.Plan] = p
		}
	}
	for _, e := range catalog.Deck(released) {
		w.rows = append(w.rows, e.Data.(*domain.Deck).Rows...)
	}
	for _, name := range traffic.Plans {
		for _, country := range traffic.Countries {
			p := w.plans[name]
			if p.Grant != domain.GrantPeak || p.Scope != domain.ScopeCountry || p.SharedPools[country] != "" || p.Increment != domain.DefaultIncrement {
				return nil, fmt.Errorf("plan %s: the SQL knows plans of one pool a country, peak and 60/60 only", name)
			}
			w.pools = append(w.pools, pool{plan: p, country: country})
		}
	}
	return w, nil
}

var released = domain.InstantOf(time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC))

// poolOf is the number of a pool.
func (w *world) poolOf(plan, country string) int {
	return slices.IndexFunc(w.pools, func(p pool) bool { return p.plan.Plan == plan && p.country == country })
}

// bucketOf is R6.5: the position of the first bucket whose zone holds a country; -1: none.
func (p *pool) bucketOf(destination string) int {
	domestic := p.plan.Domestic[p.country]
	if domestic == nil {
		domestic = []string{p.country}
	}
	home := slices.Contains(domestic, destination)
	for i := range p.plan.Buckets {
		b := &p.plan.Buckets[i]
		switch {
		case b.Zone == domain.ZoneDomestic && home, b.Zone == domain.ZoneListed && !home && slices.Contains(b.Destinations, destination), b.Zone == domain.ZoneAll:
			return i
		}
	}
	return -1
}

// charged reports whether calls of a row's type cost anything (R6.4).
func charged(r *domain.Row) bool {
	return r.RowType != domain.RowTollFree && r.RowType != domain.RowEmergency && r.RowType != domain.RowOnNet
}

// load books the month, and writes it as Parquet files.
func (w *world) load(ctx context.Context, db *sql.DB, book *eventstore.Book, dir string) error {
	w.dir = dir
	tables := `
		CREATE TABLE calls (id VARCHAR, source VARCHAR, usr VARCHAR, outbound BOOLEAN, answered BOOLEAN, moment BIGINT, called VARCHAR, billable_ms BIGINT);
		CREATE TABLE licences (usr VARCHAR, pool INTEGER);
		CREATE TABLE pools (pool INTEGER, country VARCHAR, plan VARCHAR, linked BOOLEAN);
		CREATE TABLE buckets (pool INTEGER, bucket INTEGER, granted BIGINT);
		CREATE TABLE deck (deckrow INTEGER, len INTEGER, prefix BIGINT, country VARCHAR, name VARCHAR, type VARCHAR, charged BOOLEAN, price BIGINT, fee BIGINT, first BIGINT, step BIGINT);
		CREATE TABLE zones (pool INTEGER, country VARCHAR, bucket INTEGER);`
	if _, err := db.ExecContext(ctx, tables); err != nil {
		return err
	}
	connection, err := db.Conn(ctx)
	if err != nil {
		return err
	}
	defer func() { _ = connection.Close() }() // it is of the pool of db, which is closed
	appending := func(table string, rows func(add func(...driver.Value) error) error) error {
		return connection.Raw(func(raw any) error {
			a, err := duckdb.NewAppenderFromConn(raw.(driver.Conn), "", table)
			if err != nil {
				return err
			}
			return errors.Join(rows(a.AppendRow), a.Close())
		})
	}

	var records []eventstore.Record
	submit := func(least int) error {
		if len(records) < least {
			return nil
		}
		_, err := book.Submit(ctx, records)
		records = records[:0]
		return err
	}
	for _, e := range slices.Concat(catalog.Plans(released), catalog.Deck(released), w.shape.Terms()) {
		records = append(records, eventstore.Record{Event: e})
	}
	if err := submit(1); err != nil {
		return err
	}
	err = errors.Join(
		appending("calls", func(add func(...driver.Value) error) error {
			last := ""
			for e := range w.shape.Events() {
				records = append(records, eventstore.Record{Event: e})
				if err := submit(8000); err != nil {
					return err
				}
				if e.ID == last { // a repeat comes right behind
					continue
				}
				last = e.ID
				c := e.Data.(*domain.Call)
				if err := add(e.ID, e.Source, c.User, c.Direction == domain.Outbound, c.Disposition == domain.Answered, int64(c.AnsweredAt), c.Called.String(), c.BillableMS); err != nil {
					return err
				}
			}
			return submit(1)
		}),
		appending("licences", func(add func(...driver.Value) error) error {
			for _, e := range w.shape.Terms() {
				a, ok := e.Data.(*domain.Assignment)
				if !ok {
					continue
				}
				n := w.poolOf(a.Plan, a.Country)
				w.pools[n].holders++
				if err := add(a.User, int32(n)); err != nil {
					return err
				}
			}
			return nil
		}),
	)
	if err != nil {
		return err
	}
	err = errors.Join(
		appending("pools", func(add func(...driver.Value) error) error {
			for i, p := range w.pools {
				if err := add(int32(i), p.country, p.plan.Plan, p.plan.Linked); err != nil {
					return err
				}
			}
			return nil
		}),
		appending("buckets", func(add func(...driver.Value) error) error {
			for i, p := range w.pools {
				for n := range p.plan.Buckets {
					minutes, ok := p.plan.Buckets[n].Minutes[p.country]
					if !ok {
						minutes = p.plan.Buckets[n].Minutes[domain.AnyCountry]
					}
					if err := add(int32(i), int32(n), 60*minutes*p.holders); err != nil {
						return err
					}
				}
			}
			return nil
		}),
		appending("deck", func(add func(...driver.Value) error) error {
			for i := range w.rows {
				r := &w.rows[i]
				if strings.HasPrefix(r.Prefix, "=") {
					continue // of short numbers, which nobody calls here
				}
				prefix := int64(0)
				for _, digit := range []byte(r.Prefix) {
					prefix = prefix*10 + int64(digit-'0')
				}
				if err := add(int32(i), int32(len(r.Prefix)), prefix, r.Country, r.Name, r.RowType, charged(r), int64(r.Price), int64(r.ConnectFee), int64(r.Increment.First), int64(r.Increment.Step)); err != nil {
					return err
				}
			}
			return nil
		}),
		appending("zones", func(add func(...driver.Value) error) error {
			seen := map[string]bool{}
			for i := range w.rows {
				if country := w.rows[i].Country; !seen[country] {
					seen[country] = true
					for n := range w.pools {
						if err := add(int32(n), country, int32(w.pools[n].bucketOf(country))); err != nil {
							return err
						}
					}
				}
			}
			return nil
		}),
	)
	if err != nil {
		return err
	}
	for _, table := range []string{"calls", "licences", "pools", "buckets", "deck", "zones"} {
		if _, err := db.ExecContext(ctx, fmt.Sprintf("COPY %s TO '%s' (FORMAT parquet, COMPRESSION zstd); DROP TABLE %[1]s; CREATE VIEW %[1]s AS FROM '%[2]s'", table, w.file(table))); err != nil {
			return err
		}
	}
	return nil
}

func (w *world) file(table string) string { return filepath.Join(w.dir, table+".parquet") }

// digits of a called number that prefixes are compared with: no prefix has more.
const digits = 12

// placed is the SQL of R2, R3 and R6: each call that is charged, with its row, bucket and
// billed seconds. The longest prefix is looked for by a join for each length.
func (w *world) placed() string {
	lengths := map[int]bool{}
	for i := range w.rows {
		lengths[len(w.rows[i].Prefix)] = true
	}
	var joins, found strings.Builder
	power := int64(1)
	for n := digits; n > 0; n, power = n-1, power*10 {
		if lengths[n] {
			fmt.Fprintf(&joins, "LEFT JOIN (SELECT deckrow, prefix FROM deck WHERE len = %d) d%[1]d ON d%[1]d.prefix = number // %d\n", n, power)
			fmt.Fprintf(&found, "d%d.deckrow, ", n)
		}
	}
	return `
	outbound AS (
		SELECT pool, source, id, moment, (billable_ms + 999) // 1000 AS s, rpad(substr(called, 2), 12, '0')[:12]::BIGINT AS number
		FROM calls JOIN licences USING (usr) WHERE outbound AND answered AND billable_ms > 0
	),
	matched AS (
		SELECT outbound.*, coalesce(` + strings.TrimSuffix(found.String(), ", ") + `) AS deckrow FROM outbound
		` + joins.String() + `
	),
	placed AS (
		SELECT m.pool, m.source, m.id, m.moment, m.deckrow, z.bucket,
			CASE WHEN z.bucket < 0 THEN first + greatest(0, (s - first + step - 1) // step) * step ELSE 60 + greatest(0, (s - 60 + 59) // 60) * 60 END AS billed
		FROM matched m JOIN deck d USING (deckrow) JOIN zones z ON z.pool = m.pool AND z.country = d.country WHERE d.charged
	)`
}

// rated is what a month comes to.
type rated struct {
	lines map[lineKey]lineSum
	pools map[bucketKey]bucketSum
}

type lineKey struct{ Country, Plan, DestinationCountry, Destination, Type, Price, Fee string }

type lineSum struct {
	Calls, Seconds int64
	Amount         string
}

type bucketKey struct {
	Country, Plan string
	Bucket        int
}

type bucketSum struct{ Granted, Used, Overage int64 }

// rate is R7 to R9 on top.
func (w *world) rate(ctx context.Context, db *sql.DB) (rated, error) {
	r := rated{lines: map[lineKey]lineSum{}, pools: map[bucketKey]bucketSum{}}
	// One query: what was drawn is not written down in between.
	query := "WITH " + w.placed() + `,
	running AS (
		SELECT p.*, granted, sum(billed) OVER (PARTITION BY pool, bucket ORDER BY moment, source, id ROWS UNBOUNDED PRECEDING)::BIGINT AS run
		FROM placed p JOIN buckets USING (pool, bucket)
	),
	ended AS (
		SELECT pool, min({m: moment, source: source, id: id}) FILTER (run >= granted) AS last, min(granted) = 0 AS never
		FROM running JOIN pools USING (pool) WHERE linked GROUP BY pool
	),
	drawn AS (
		SELECT r.pool, r.bucket, r.deckrow, r.billed AS billed,
			CASE WHEN never OR {m: r.moment, source: r.source, id: r.id} > last THEN billed ELSE greatest(0, least(billed, run - granted)) END AS over
		FROM running r LEFT JOIN ended USING (pool)
	),
	costs AS (
		SELECT pool, bucket, deckrow, count(*) FILTER (over > 0) AS calls, sum(over) AS seconds, sum(billed - over) AS used FROM drawn GROUP BY ALL
		UNION ALL
		SELECT pool, bucket, deckrow, count(*), sum(billed), 0 FROM placed WHERE bucket < 0 GROUP BY ALL
	)
	SELECT p.country, p.plan, bucket, d.country, d.name, d.type, price, fee, sum(calls)::BIGINT, sum(seconds)::BIGINT, sum(used)::BIGINT
	FROM costs JOIN pools p USING (pool) JOIN deck d USING (deckrow) GROUP BY ALL`
	list, err := db.QueryContext(ctx, query)
	if err != nil {
		return r, err
	}
	defer func() { _ = list.Close() }() // Err says what went wrong
	micros := map[lineKey][2]int64{}
	for list.Next() {
		var k lineKey
		var bucket int
		var price, fee, calls, seconds, used int64
		if err := list.Scan(&k.Country, &k.Plan, &bucket, &k.DestinationCountry, &k.Destination, &k.Type, &price, &fee, &calls, &seconds, &used); err != nil {
			return r, err
		}
		k.Price, k.Fee = domain.Micros(price).String(), domain.Micros(fee).String()
		if bucket >= 0 {
			b := bucketKey{k.Country, k.Plan, bucket}
			sum := r.pools[b]
			r.pools[b] = bucketSum{0, sum.Used + used, sum.Overage + seconds}
		}
		if calls > 0 {
			line := r.lines[k]
			r.lines[k] = lineSum{Calls: line.Calls + calls, Seconds: line.Seconds + seconds}
			micros[k] = [2]int64{price, fee}
		}
	}
	for k, line := range r.lines {
		// Half away from zero to the cent: micros a minute times seconds are 600,000 to the cent.
		exact := micros[k][0]*line.Seconds + 60*micros[k][1]*line.Calls
		cents := (2*exact + 600_000) / 1_200_000
		line.Amount = fmt.Sprintf("%d.%02d", cents/100, cents%100)
		r.lines[k] = line
	}
	return r, list.Err()
}

// sums is the work without order: what was asked of each bucket.
func (w *world) sums(ctx context.Context, db *sql.DB) error {
	list, err := db.QueryContext(ctx, "WITH "+w.placed()+" SELECT pool, bucket, count(*), sum(billed)::BIGINT FROM placed GROUP BY ALL")
	if err != nil {
		return err
	}
	defer func() { _ = list.Close() }() // Err says what went wrong
	for list.Next() {
	}
	return list.Err()
}

// same reports the first difference, and how many lines there are.
func same(ours *projections.Statement, theirs *rated) (lines int, err error) {
	if len(ours.Exceptions) > 0 {
		return 0, fmt.Errorf("the month has exceptions, which the SQL has not: %+v", ours.Exceptions)
	}
	for _, p := range ours.Pools {
		for i, b := range p.Buckets {
			other := theirs.pools[bucketKey{p.Country, p.Plan, i}]
			if other.Used != b.Used || other.Overage != b.Overage {
				return 0, fmt.Errorf("pool %s %s, %s: tollbook has %d s used and %d over, DuckDB %d and %d", p.Country, p.Plan, b.Name, b.Used, b.Overage, other.Used, other.Overage)
			}
		}
	}
	for _, i := range ours.Invoices {
		for _, l := range i.Lines {
			lines++
			k := lineKey{i.Country, i.Plan, l.DestinationCountry, l.Destination, l.Type, l.Price, l.ConnectFee}
			if got, want := theirs.lines[k], (lineSum{l.Calls, l.Seconds, l.Amount}); got != want {
				return 0, fmt.Errorf("line %+v: tollbook has %+v, DuckDB %+v", k, want, got)
			}
		}
	}
	if lines != len(theirs.lines) {
		return 0, fmt.Errorf("tollbook has %d lines, DuckDB %d", lines, len(theirs.lines))
	}
	return lines, nil
}
