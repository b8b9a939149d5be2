package alerts

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"slices"
	"strings"
	"time"

	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"

	"tollbook/domain"
	"tollbook/projections"
)

// FileName is the alerts' file in a data directory.
const FileName = "alerts.db"

// What a file of ours says about itself.
const (
	applicationID = 0x544f4c41 // "TOLA"
	userVersion   = 1
)

// busyTimeout is how long a statement waits for a reader in another process, in milliseconds.
const busyTimeout = 10_000

// Limits of the queue.
const (
	// maxOutstanding is how many alerts may wait for one webhook, of some 1 KB each:
	// every pool of 20,000 users, five times over.
	maxOutstanding = 100_000

	// atOnce is how many alerts a transaction takes, or a round over NATS.
	atOnce = 1000

	// keepFor is how long an alert and its deliveries are told of.
	keepFor = 400 * 24 * time.Hour

	maxErrorBytes = 200 // of why an attempt failed
)

// schema is of version 1. What was reached is kept for ever, as an alert of it must
// not come twice; all else goes after keepFor.
const schema = `
CREATE TABLE begun (at INTEGER NOT NULL);
CREATE TABLE reached (
	tenant TEXT NOT NULL, month TEXT NOT NULL, country TEXT NOT NULL, plan TEXT NOT NULL, user TEXT NOT NULL, bucket TEXT NOT NULL,
	percent INTEGER NOT NULL, granted INTEGER NOT NULL,
	PRIMARY KEY (tenant, month, country, plan, user, bucket)
) WITHOUT ROWID;
CREATE TABLE alerts (
	n INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, at INTEGER NOT NULL, tenant TEXT NOT NULL, subject TEXT NOT NULL, body BLOB NOT NULL,
	said INTEGER NOT NULL -- 1: NATS has it
);
CREATE INDEX unsaid ON alerts (n) WHERE said = 0;
CREATE INDEX by_tenant ON alerts (tenant, n);
CREATE TABLE deliveries (
	n INTEGER PRIMARY KEY, alert INTEGER NOT NULL REFERENCES alerts (n) ON DELETE CASCADE, webhook TEXT NOT NULL,
	state TEXT NOT NULL, attempts INTEGER NOT NULL, next INTEGER NOT NULL
);
CREATE INDEX of_alert ON deliveries (alert);
CREATE INDEX due ON deliveries (webhook, next, n) WHERE state = 'waiting';
CREATE TABLE attempts (
	n INTEGER PRIMARY KEY, delivery INTEGER NOT NULL REFERENCES deliveries (n) ON DELETE CASCADE,
	at INTEGER NOT NULL, took_ms INTEGER NOT NULL, status INTEGER NOT NULL, error TEXT NOT NULL
);
CREATE INDEX of_delivery ON attempts (delivery);
CREATE TABLE gone (webhook TEXT PRIMARY KEY, url BLOB NOT NULL, at INTEGER NOT NULL) WITHOUT ROWID;
`

// What may have become of a delivery.
const (
	StateWaiting   = "waiting"   // it is tried, and tried again
	StateDelivered = "delivered" // the receiver has it
	StateGivenUp   = "given-up"  // it was tried for as long as is stated
	StateGone      = "gone"      // the receiver wants no more (410)
	StateFull      = "full"      // never tried: as many as may waited already
)

// A store is what was announced and what is still to be delivered, in one SQLite
// file. What a method has done is on disk when it returns.
type store struct {
	path string
	db   *sql.DB

	maxOutstanding int
}

// openStore opens the file for writing and makes it if it is missing. Its caller
// holds the data directory's lock.
func openStore(path string) (*store, error) {
	// SQLite would make it readable by others, and names people.
	file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	if err := file.Close(); err != nil {
		return nil, err
	}
	s, err := dial(path, url.Values{"_txlock": {"immediate"}, "_pragma": {
		fmt.Sprintf("busy_timeout(%d)", busyTimeout), "journal_mode(WAL)", "synchronous(FULL)", "foreign_keys(1)",
	}})
	if err != nil {
		return nil, err
	}
	if err := s.check(true); err != nil {
		return nil, errors.Join(err, s.db.Close())
	}
	return s, nil
}

// readStore opens the file for reading, also beside an engine. The error is
// fs.ErrNotExist where there is none.
func readStore(path string) (*store, error) {
	if _, err := os.Stat(path); err != nil {
		return nil, err
	}
	s, err := dial(path, url.Values{"mode": {"ro"}, "_pragma": {fmt.Sprintf("busy_timeout(%d)", busyTimeout)}})
	if err != nil {
		return nil, err
	}
	if err := s.check(false); err != nil {
		return nil, errors.Join(err, s.db.Close())
	}
	return s, nil
}

func dial(path string, query url.Values) (*store, error) {
	db, err := sql.Open("sqlite", "file:"+(&url.URL{Path: path}).EscapedPath()+"?"+query.Encode())
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	db.SetMaxOpenConns(1) // the pragmas are of one connection, and there is one writer
	return &store{path: path, db: db, maxOutstanding: maxOutstanding}, nil
}

// check makes sure the file is ours and whole, or makes a new one so.
func (s *store) check(create bool) error {
	var application, version, tables int
	err := s.db.QueryRow(`SELECT (SELECT application_id FROM pragma_application_id),
		(SELECT user_version FROM pragma_user_version),
		(SELECT count(*) FROM sqlite_schema)`).Scan(&application, &version, &tables)
	switch {
	case err != nil:
		return s.translate(err)
	case tables == 0 && application == 0 && version == 0 && create:
		_, err := s.db.Exec(fmt.Sprintf("BEGIN IMMEDIATE; %s PRAGMA application_id = %d; PRAGMA user_version = %d; COMMIT", schema, applicationID, userVersion))
		return s.translate(err)
	case application != applicationID:
		return fmt.Errorf("%s is not a file of alerts (application id %#x): move it away", s.path, application)
	case version > userVersion:
		return fmt.Errorf("%s is of version %d, written by a newer tollbook: use that one", s.path, version)
	}
	var found string
	if err := s.db.QueryRow("PRAGMA quick_check(1)").Scan(&found); err != nil {
		return s.translate(err)
	}
	if found != "ok" {
		return s.damaged(errors.New(found))
	}
	return nil
}

func (s *store) damaged(err error) error {
	return fmt.Errorf("%s is damaged (%s): move it away, with its -wal and -shm: the engine then begins a new one, and what is in it and was not delivered is lost", s.path, brief(err))
}

// translate says what an error of SQLite means for whoever runs the engine.
func (s *store) translate(err error) error {
	var e *sqlite.Error
	switch {
	case errors.Is(err, errRow):
		return s.damaged(err)
	case !errors.As(err, &e):
		return err
	}
	switch e.Code() & 0xff {
	case sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_ERROR:
		return s.damaged(err)
	case sqlite3.SQLITE_FULL:
		return fmt.Errorf("%s: the disk is full: make room: %w", s.path, err)
	case sqlite3.SQLITE_BUSY:
		return fmt.Errorf("%s: another program holds the file: stop it: %w", s.path, err)
	case sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PERM, sqlite3.SQLITE_CANTOPEN:
		return fmt.Errorf("%s: the file or its directory can't be opened or written: check owner and permissions: %w", s.path, err)
	}
	return fmt.Errorf("%s: %w", s.path, err)
}

func (s *store) close() error { return s.db.Close() }

// within runs f in a transaction: all of it is on disk afterwards, or none.
func (s *store) within(f func(*sql.Tx) error) error {
	tx, err := s.db.Begin()
	if err != nil {
		return s.translate(err)
	}
	if err := f(tx); err != nil {
		return errors.Join(s.translate(err), tx.Rollback())
	}
	return s.translate(tx.Commit())
}

// begun reports whether the file has taken over: what was reached before it was
// made was announced by a version without one.
func (s *store) begun() (bool, error) {
	var n int
	err := s.db.QueryRow("SELECT count(*) FROM begun").Scan(&n)
	return n > 0, s.translate(err)
}

// begin takes what was reached so far as announced.
func (s *store) begin(all []projections.Crossing, now domain.Instant) error {
	return s.within(func(tx *sql.Tx) error {
		for i := range all {
			if err := mark(tx, &all[i]); err != nil {
				return err
			}
		}
		_, err := tx.Exec("INSERT INTO begun (at) VALUES (?)", int64(now))
		return err
	})
}

func mark(tx *sql.Tx, c *projections.Crossing) error {
	_, err := tx.Exec(`INSERT INTO reached (tenant, month, country, plan, user, bucket, percent, granted) VALUES (?, ?, ?, ?, ?, ?, ?, ?)
		ON CONFLICT DO UPDATE SET percent = excluded.percent, granted = excluded.granted`, c.Tenant, c.Month, c.Country, c.Plan, c.User, c.Bucket, c.Percent, c.Granted)
	return err
}

// reached is what was announced last, without the seconds used.
func (s *store) reached() (all []projections.Crossing, err error) {
	rows, err := s.db.Query("SELECT tenant, month, country, plan, user, bucket, percent, granted FROM reached")
	if err != nil {
		return nil, s.translate(err)
	}
	err = each(rows, func() error {
		var c projections.Crossing
		err := rows.Scan(&c.Tenant, &c.Month, &c.Country, &c.Plan, &c.User, &c.Bucket, &c.Percent, &c.Granted)
		all = append(all, c)
		return err
	})
	return all, s.translate(err)
}

// errRow marks a row that is not as it was written.
var errRow = errors.New("a row can't be read")

// each calls one, which scans a row, for all rows.
func each(rows *sql.Rows, one func() error) error {
	defer func() { _ = rows.Close() }()
	for rows.Next() {
		if err := one(); err != nil {
			return fmt.Errorf("%w: %w", errRow, err)
		}
	}
	return rows.Err()
}

// add takes alerts in, with a delivery for each webhook that wants them, and returns
// those that are new. full are the webhooks of which some were refused, and how many.
func (s *store) add(all []alert, hooks []Webhook) (fresh []alert, full map[string]int, err error) {
	full = map[string]int{}
	err = s.within(func(tx *sql.Tx) error {
		queues, err := s.queues(tx, hooks)
		if err != nil {
			return err
		}
		for i := range all {
			a := &all[i]
			if a.kind == domain.TypeThresholdReached {
				if err := mark(tx, &a.of); err != nil {
					return err
				}
			}
			result, err := tx.Exec("INSERT INTO alerts (id, at, tenant, subject, body, said) VALUES (?, ?, ?, ?, ?, 0) ON CONFLICT DO NOTHING", a.id, int64(a.at), a.of.Tenant, a.subject, a.body)
			if err != nil {
				return err
			}
			if n, err := result.RowsAffected(); err != nil || n == 0 {
				continue // announced before, from a book that was since put back to an older copy
			}
			n, err := result.LastInsertId()
			if err != nil {
				return err
			}
			fresh = append(fresh, *a)
			for j := range hooks {
				if !hooks[j].wants(a.of.Tenant) {
					continue
				}
				state := queues[j].admit(s.maxOutstanding)
				if state == StateFull {
					full[hooks[j].Name]++
				}
				if _, err := tx.Exec("INSERT INTO deliveries (alert, webhook, state, attempts, next) VALUES (?, ?, ?, 0, ?)", n, hooks[j].Name, state, int64(a.at)); err != nil {
					return err
				}
			}
		}
		return nil
	})
	return fresh, full, err
}

// renew wants those webhooks again that have another address than when they left.
func (s *store) renew(hooks []Webhook) error {
	return s.within(func(tx *sql.Tx) error {
		for i := range hooks {
			if _, err := tx.Exec("DELETE FROM gone WHERE webhook = ? AND url <> ?", hooks[i].Name, hooks[i].address()); err != nil {
				return err
			}
		}
		return nil
	})
}

// A queue is how many deliveries wait for a webhook, and whether it wants any.
type queue struct {
	waiting int
	gone    bool
}

// admit is the state that the next delivery begins with.
func (q *queue) admit(limit int) string {
	switch {
	case q.gone:
		return StateGone
	case q.waiting >= limit:
		return StateFull
	}
	q.waiting++
	return StateWaiting
}

func (s *store) queues(tx *sql.Tx, hooks []Webhook) ([]queue, error) {
	queues := make([]queue, len(hooks))
	for i := range hooks {
		q := &queues[i]
		err := tx.QueryRow(`SELECT (SELECT count(*) FROM deliveries WHERE webhook = ?1 AND state = 'waiting'),
			EXISTS (SELECT 1 FROM gone WHERE webhook = ?1)`, hooks[i].Name).Scan(&q.waiting, &q.gone)
		if err != nil {
			return nil, err
		}
	}
	return queues, nil
}

// A saying is an alert that NATS does not have yet.
type saying struct {
	n       int64
	subject string
	body    []byte
}

// unsaid are the first alerts that NATS does not have, in order.
func (s *store) unsaid() (all []saying, err error) {
	rows, err := s.db.Query("SELECT n, subject, body FROM alerts WHERE said = 0 ORDER BY n LIMIT ?", atOnce)
	if err != nil {
		return nil, s.translate(err)
	}
	err = each(rows, func() error {
		var one saying
		err := rows.Scan(&one.n, &one.subject, &one.body)
		all = append(all, one)
		return err
	})
	return all, s.translate(err)
}

// said notes that NATS has alerts that unsaid returned.
func (s *store) said(all []saying) error {
	_, err := s.db.Exec("UPDATE alerts SET said = 1 WHERE said = 0 AND n BETWEEN ? AND ?", all[0].n, all[len(all)-1].n)
	return s.translate(err)
}

// A delivery is an alert on its way to a webhook.
type delivery struct {
	n        int64
	id       string
	made, at domain.Instant // when the alert was; when it is to be tried
	attempts int
	body     []byte
}

// next is the delivery that is to be tried first; nil: none waits.
func (s *store) next(webhook string) (*delivery, error) {
	var d delivery
	err := s.db.QueryRow(`SELECT d.n, a.id, a.at, d.next, d.attempts, a.body FROM deliveries d JOIN alerts a ON a.n = d.alert
		WHERE d.webhook = ? AND d.state = 'waiting' ORDER BY d.next, d.n LIMIT 1`, webhook).Scan(&d.n, &d.id, &d.made, &d.at, &d.attempts, &d.body)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, nil
	}
	return &d, s.translate(err)
}

// tried notes an attempt, what became of the delivery by it, and when it is tried again.
func (s *store) tried(d *delivery, a Attempt, state string, next domain.Instant) error {
	return s.within(func(tx *sql.Tx) error { return tried(tx, d, a, state, next) })
}

func tried(tx *sql.Tx, d *delivery, a Attempt, state string, next domain.Instant) error {
	_, err := tx.Exec("UPDATE deliveries SET state = ?, attempts = attempts + 1, next = ? WHERE n = ?", state, int64(next), d.n)
	if err == nil {
		_, err = tx.Exec("INSERT INTO attempts (delivery, at, took_ms, status, error) VALUES (?, ?, ?, ?, ?)", d.n, int64(a.at), a.TookMS, a.Status, a.Error)
	}
	return err
}

// leave notes an attempt after which a webhook wants no more, and ends all that
// waits for it.
func (s *store) leave(w *Webhook, d *delivery, a Attempt) error {
	return s.within(func(tx *sql.Tx) error {
		err := tried(tx, d, a, StateGone, a.at)
		if err == nil {
			_, err = tx.Exec("UPDATE deliveries SET state = ? WHERE webhook = ? AND state = 'waiting'", StateGone, w.Name)
		}
		if err == nil {
			_, err = tx.Exec("INSERT OR REPLACE INTO gone (webhook, url, at) VALUES (?, ?, ?)", w.Name, w.address(), int64(a.at))
		}
		return err
	})
}

// expire gives up what waits for webhooks that are in the file no more, once it has
// waited for as long as others are tried, and forgets what is older than keepFor.
func (s *store) expire(hooks []Webhook, now domain.Instant) error {
	var names []any
	for i := range hooks {
		names = append(names, hooks[i].Name)
	}
	return s.within(func(tx *sql.Tx) error {
		args := append([]any{StateGivenUp, int64(now.Time().Add(-tryFor).UnixNano())}, names...)
		_, err := tx.Exec(`UPDATE deliveries SET state = ? WHERE state = 'waiting' AND (SELECT at FROM alerts WHERE alerts.n = alert) < ?
			AND webhook NOT IN (`+strings.TrimSuffix(strings.Repeat("?,", len(names)), ",")+`)`, args...)
		if err == nil {
			_, err = tx.Exec("DELETE FROM alerts WHERE at < ? AND said = 1", int64(now.Time().Add(-keepFor).UnixNano()))
		}
		return err
	})
}

// outstanding is how many deliveries wait, by webhook.
func (s *store) outstanding() (map[string]int, error) {
	all := map[string]int{}
	rows, err := s.db.Query("SELECT webhook, count(*) FROM deliveries WHERE state = 'waiting' GROUP BY webhook")
	if err != nil {
		return nil, s.translate(err)
	}
	err = each(rows, func() error {
		var name string
		var n int
		err := rows.Scan(&name, &n)
		all[name] = n
		return err
	})
	return all, s.translate(err)
}

// document is the last alerts and what became of them.
func (s *store) document(ctx context.Context, q Request) (Document, error) {
	d := Document{Alerts: []Record{}, Webhooks: []Status{}}
	// One transaction, so that all is of one moment.
	tx, err := s.db.BeginTx(ctx, &sql.TxOptions{ReadOnly: true})
	if err != nil {
		return d, s.translate(err)
	}
	defer func() { _ = tx.Rollback() }()
	err = s.read(ctx, tx, q, &d)
	return d, s.translate(err)
}

func (s *store) read(ctx context.Context, tx *sql.Tx, q Request, d *Document) error {
	rows, err := tx.QueryContext(ctx, "SELECT n, said, body FROM alerts WHERE tenant = ?1 OR ?1 = '' ORDER BY n DESC LIMIT ?2", q.Tenant, q.Limit)
	if err != nil {
		return err
	}
	var numbers []int64
	err = each(rows, func() error {
		r := Record{Deliveries: []Delivery{}}
		var n int64
		err := rows.Scan(&n, &r.Published, &r.Event)
		numbers, d.Alerts = append(numbers, n), append(d.Alerts, r)
		return err
	})
	for i := 0; i < len(numbers) && err == nil; i++ {
		err = readDeliveries(ctx, tx, numbers[i], &d.Alerts[i])
	}
	if err != nil {
		return err
	}
	rows, err = tx.QueryContext(ctx, `SELECT webhook, sum(state = 'waiting'), sum(state = 'delivered'), sum(state NOT IN ('waiting', 'delivered')),
		(SELECT at FROM gone WHERE gone.webhook = deliveries.webhook) FROM deliveries GROUP BY webhook ORDER BY webhook`)
	if err != nil {
		return err
	}
	return each(rows, func() error {
		var one Status
		var gone sql.NullInt64
		err := rows.Scan(&one.Webhook, &one.Waiting, &one.Delivered, &one.Undelivered, &gone)
		if gone.Valid {
			one.Gone = domain.Instant(gone.Int64).String()
		}
		d.Webhooks = append(d.Webhooks, one)
		return err
	})
}

func readDeliveries(ctx context.Context, tx *sql.Tx, alert int64, r *Record) error {
	rows, err := tx.QueryContext(ctx, `SELECT d.n, d.webhook, d.state, d.next, a.at, a.took_ms, a.status, a.error
		FROM deliveries d LEFT JOIN attempts a ON a.delivery = d.n WHERE d.alert = ? ORDER BY d.webhook, d.n, a.n`, alert)
	if err != nil {
		return err
	}
	last := int64(-1)
	return each(rows, func() error {
		var n, next int64
		var d Delivery
		var at, took, status sql.NullInt64
		var failed sql.NullString
		if err := rows.Scan(&n, &d.Webhook, &d.State, &next, &at, &took, &status, &failed); err != nil {
			return err
		}
		if n != last {
			last = n
			d.Attempts = []Attempt{}
			if d.State == StateWaiting {
				d.Next = domain.Instant(next).String()
			}
			r.Deliveries = append(r.Deliveries, d)
		}
		if at.Valid {
			to := &r.Deliveries[len(r.Deliveries)-1]
			to.Attempts = append(to.Attempts, Attempt{At: domain.Instant(at.Int64).String(), TookMS: took.Int64, Status: int(status.Int64), Error: failed.String})
		}
		return nil
	})
}

// Read is the document of a data directory, also beside an engine.
func Read(ctx context.Context, path string, q Request) (Document, error) {
	s, err := readStore(path)
	if errors.Is(err, fs.ErrNotExist) {
		return Document{Alerts: []Record{}, Webhooks: []Status{}}, nil
	}
	if err != nil {
		return Document{}, err
	}
	d, err := s.document(ctx, q)
	return d, errors.Join(err, s.close())
}

// sorted are the names of a map in order.
func sorted(names map[string]int) []string {
	all := make([]string, 0, len(names))
	for name := range names {
		all = append(all, name)
	}
	slices.Sort(all)
	return all
}
