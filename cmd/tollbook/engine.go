package main

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"sync/atomic"
	"time"

	"github.com/ThreeDotsLabs/watermill"
	"github.com/felixge/httpsnoop"
	natsd "github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	natsjs "github.com/nats-io/nats.go/jetstream"
	"golang.org/x/sync/errgroup"

	"tollbook/api"
	"tollbook/api/alerts"
	"tollbook/api/finance"
	"tollbook/api/login"
	"tollbook/api/metrics"
	"tollbook/api/rest"
	"tollbook/consumers"
	"tollbook/domain"
	"tollbook/eventstore"
	"tollbook/eventstore/sqlite"
	"tollbook/projections"
)

// EngineConfig is what an engine needs. Zero values of the optional ones leave
// the part out.
type EngineConfig struct {
	Dir        string        // the data directory; made if missing
	NATSListen string        // of the embedded server, host:port
	NATSURL    string        // an external server instead
	NATSSync   time.Duration // see consumers.ServerConfig.SyncInterval
	HTTPListen string        // optional: the page and the intake over HTTP, host:port
	HTTPOpen   bool          // HTTPListen may be reached from other machines
	HTTPRate   int           // see api.HTTPConfig.Rate
	Mirror     string        // optional: the directory of a standing second copy of the book
	Login      natsLogin     // with NATSURL: as whom

	Webhooks []alerts.Webhook // optional: where alerts are posted to

	Access *consumers.Access // see consumers.ServerConfig.Access; of HTTP too
	TLS    *tls.Config       // optional: of the embedded server and of HTTP

	Clock   func() domain.Instant
	Log     *slog.Logger
	Loading func(events uint64) // optional: called while the book is read
}

// An Engine is everything that runs: the book, NATS, intake, months, service, page.
type Engine struct {
	Book   *eventstore.Book
	Months *projections.Months
	Key    *eventstore.SigningKey
	Conn   *nats.Conn

	NATSAddress string // where others connect
	HTTPAddress string // "" without a page

	config EngineConfig
	intake *consumers.Intake
	desk   *finance.Desk
	server *natsd.Server
	web    *http.Server
	mirror *mirroring // nil without one
	alerts *alerts.Announcer
	door   *metrics.Door
	work   *errgroup.Group
	cancel context.CancelFunc
	stuck  atomic.Pointer[error] // why NATS stores nothing
	stops  []func() error        // in the order of starting

	metrics *metrics.Metrics
	guard   *login.Guard // nil: nobody has to say who they are
}

// quieter turns Watermill's level info, which tells of every start and stop, into debug.
var quieter = map[slog.Level]slog.Level{slog.LevelInfo: slog.LevelDebug}

func clock() domain.Instant { return domain.InstantOf(time.Now()) }

// StartEngine opens the book, which locks the directory, and starts the rest on it.
func StartEngine(ctx context.Context, c EngineConfig) (*Engine, error) {
	e := &Engine{config: c, Months: projections.NewMonths(), metrics: metrics.New(version())}
	if err := e.start(ctx); err != nil {
		return nil, errors.Join(err, e.Stop())
	}
	return e, nil
}

func (e *Engine) start(ctx context.Context) error {
	c := e.config
	if err := c.check(); err != nil {
		return err
	}
	if err := os.MkdirAll(c.Dir, 0o750); err != nil {
		return fmt.Errorf("data directory: %w", err)
	}
	if c.Access != nil {
		e.guard = login.NewGuard(*c.Access, c.Clock)
	}
	e.openDoor()
	switches := consumers.NewSwitches()
	suspense := projections.NewSuspense(switches.Glimpse)
	gaps := projections.NewGaps()
	options := eventstore.Options{
		Clock:    c.Clock,
		Resume:   []eventstore.Resumer{switches, e.Months, suspense, gaps},
		Log:      c.Log,
		Progress: e.loading,
	}
	if c.Mirror != "" {
		e.mirror = newMirroring(c.Mirror, c.Dir, c.Log)
		options.Later = append(options.Later, e.mirror.follow)
	}
	book, err := eventstore.Open(ctx, c.Dir, openLog, options)
	if err != nil {
		return err
	}
	e.Book = book
	if e.mirror != nil {
		if err := e.mirror.start(ctx, book); err != nil {
			return err
		}
	}
	if err := e.openKey(rand.Reader); err != nil {
		return err
	}
	e.intake = consumers.NewIntake(book, switches, c.Clock)
	e.intake.Observe = e.metrics.Booking
	if err := e.openAlerts(); err != nil {
		return err
	}

	if err := e.connect(); err != nil {
		return err
	}
	js, err := natsjs.New(e.Conn)
	if err != nil {
		return err
	}
	if err := consumers.EnsureStream(ctx, js); err != nil {
		return err
	}
	if c.NATSURL != "" { // the embedded one is, and would log what it refuses
		strict, err := consumers.Strict(ctx, js)
		if err != nil {
			return err
		}
		if !strict {
			c.Log.Warn("this NATS server is not strict: whoever may publish to the stream may also purge it; remove 'strict: false' from its jetstream block", "nats", e.NATSAddress)
		}
	}
	ctx, e.cancel = context.WithCancel(ctx)
	e.work, ctx = errgroup.WithContext(ctx)
	e.work.Go(func() error {
		return consumers.Serve(ctx, js, e.intake, watermill.NewSlogLoggerWithLevelMapping(c.Log, quieter))
	})
	e.work.Go(func() error { return e.intake.TakeUp(ctx) })
	e.work.Go(func() error { return e.probe(ctx, consumers.NewProber(js)) })
	if err := e.watchAnchors(); err != nil {
		return err
	}
	e.work.Go(func() error { return e.publishAnchors(ctx) })
	e.watch(ctx, js, suspense, gaps)
	e.work.Go(func() error {
		select {
		case <-ctx.Done():
			return nil
		case <-book.Done():
			return book.Err()
		}
	})
	closer := &api.Closer{
		Book: book, Months: e.Months, Clock: c.Clock,
		Others: []api.Blockers{api.GapBlockers(gaps), api.SuspenseBlockers(suspense)},
	}
	e.work.Go(func() error { e.closeDue(ctx, closer); return nil })
	e.desk = &finance.Desk{
		Book: book, Months: e.Months, Closer: closer, Suspense: &api.Desk{Suspense: suspense, Months: e.Months, Events: book.Events}, Gaps: gaps,
		Explainer: api.ExplainBook(book, e.Months), Key: e.Key, Intake: e.intake, Clock: c.Clock, Dir: c.Dir,
	}
	e.work.Go(func() error { return e.alerts.Run(ctx, e.Conn) })
	service := &api.Service{Book: book, Closer: closer, Gaps: gaps, Key: e.Key, Clock: c.Clock, Desk: e.desk.Suspense, Intake: e.intake, Months: e.Months, Explainer: e.desk.Explainer, Log: c.Log, Alerts: e.alerts}
	if e.mirror != nil {
		service.Mirror = e.mirror.status
	}
	stop, err := service.Start(ctx, e.Conn, version())
	if err != nil {
		return err
	}
	e.stops = append(e.stops, stop)
	return e.listen(ctx, js)
}

func openLog(path string) (eventstore.Log, error) { return sqlite.Open(path) }

func (e *Engine) connect() (err error) {
	options := []nats.Option{
		nats.Name("tollbook engine"), nats.MaxReconnects(-1), nats.RetryOnFailedConnect(false),
		nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) { e.config.Log.Warn("NATS", "error", err) }),
	}
	if e.config.NATSURL != "" {
		e.NATSAddress = redacted(e.config.NATSURL)
		login, err := e.config.Login.options()
		if err != nil {
			return err
		}
		if e.Conn, err = nats.Connect(e.config.NATSURL, append(options, login...)...); err != nil {
			return fmt.Errorf("NATS at %s: %w", e.NATSAddress, err)
		}
		return nil
	}
	key, login, err := engineLogin(rand.Reader)
	if err != nil {
		return err
	}
	if e.config.Access != nil {
		options = append(options, login)
	}
	if e.config.clear() {
		e.config.Log.Warn("passwords and calls travel in clear between machines: give --tls-cert and --tls-key", "nats-listen", e.config.NATSListen, "http", e.config.HTTPListen)
	}
	e.server, err = consumers.StartServer(e.config.server(key))
	if err != nil {
		return err
	}
	e.NATSAddress = e.server.ClientURL()
	e.Conn, err = nats.Connect("", append(options, nats.InProcessServer(e.server))...)
	if err != nil {
		return fmt.Errorf("embedded NATS server: %w", err)
	}
	return nil
}

func (e *Engine) listen(ctx context.Context, js natsjs.JetStream) error {
	if e.config.HTTPListen == "" {
		return nil
	}
	host, _, _ := net.SplitHostPort(e.config.HTTPListen)
	listener, err := e.door.Listener()
	if err != nil {
		return fmt.Errorf("--http %s: %w", e.config.HTTPListen, err)
	}
	mux := http.NewServeMux()
	page, desk := e.faces()
	mux.Handle("/", patient(page))
	mux.Handle("/api/", patient(desk))
	mux.Handle(rest.Reference, desk)
	mux.Handle(rest.Reference+"/", desk)
	mux.Handle("GET /healthz", healthz(func() error { return e.healthy(js) }))
	mux.Handle("GET /readyz", metrics.Ready(func() error { return e.healthy(js) }))
	mux.Handle("GET /metrics", e.scrapes())
	mux.Handle("/v1/", api.NewHTTPIntake(api.HTTPConfig{
		Intake: e.intake, Log: e.config.Log, Access: e.config.Access, Local: consumers.Loopback(host), Rate: e.config.HTTPRate,
	}))
	e.web = &http.Server{
		Handler:           e.metrics.HTTP(mux),
		ReadHeaderTimeout: 10 * time.Second,
		ReadTimeout:       time.Minute,
		WriteTimeout:      writeWithin,
		MaxHeaderBytes:    64 << 10,
		ErrorLog:          slog.NewLogLogger(e.config.Log.Handler(), slog.LevelWarn),
	}
	e.web.RegisterOnShutdown(page.Close)
	e.web.RegisterOnShutdown(desk.Close)
	serve := func() error { return e.web.Serve(listener) }
	e.HTTPAddress = "http://" + listener.Addr().String()
	if e.config.TLS != nil {
		e.web.TLSConfig = e.config.TLS.Clone()
		serve = func() error { return e.web.ServeTLS(listener, "", "") }
		e.HTTPAddress = "https://" + listener.Addr().String()
	}
	e.work.Go(func() error {
		<-ctx.Done() // the page must not outlive what it shows
		return e.web.Close()
	})
	e.work.Go(func() error {
		if err := serve(); !errors.Is(err, http.ErrServerClosed) {
			return fmt.Errorf("HTTP: %w", err)
		}
		return nil
	})
	return nil
}

// writeWithin is how long a client may take for a piece of an answer.
const writeWithin = time.Minute

// patient lets an answer take as long as it takes to make: what reads the whole book
// does not end with the time of a write. It ends when the client goes.
func patient(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		control := http.NewResponseController(w)
		_ = control.SetWriteDeadline(time.Time{}) // a writer that has no deadlines needs none
		next.ServeHTTP(httpsnoop.Wrap(w, httpsnoop.Hooks{Write: func(write httpsnoop.WriteFunc) httpsnoop.WriteFunc {
			return func(data []byte) (int, error) {
				_ = control.SetWriteDeadline(time.Now().Add(writeWithin))
				return write(data)
			}
		}}), r)
	})
}

// healthy reports whether the engine can book what comes now.
func (e *Engine) healthy(js natsjs.JetStream) error {
	select {
	case <-e.Book.Done():
		return fmt.Errorf("the book takes no more: %w", e.Book.Err())
	default:
	}
	if err := e.stuck.Load(); err != nil {
		return *err
	}
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	if _, err := js.Stream(ctx, consumers.StreamName); err != nil {
		return fmt.Errorf("NATS: %w", err)
	}
	return nil
}

// probeEvery is how often the stream is asked whether it still stores.
const probeEvery = 10 * time.Second

// probe ends the engine when its NATS server stores no more: only a start anew
// helps. A server of its own is somebody else's to start; until then the engine
// is not healthy.
func (e *Engine) probe(ctx context.Context, prober *consumers.Prober) error {
	ticker := time.NewTicker(probeEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
		if !e.Conn.IsConnected() {
			continue // there is nobody to ask
		}
		err := prober.Probe(ctx)
		if err != nil && e.server != nil && ctx.Err() == nil {
			return err
		}
		if err == nil {
			e.stuck.Store(nil)
		} else if e.stuck.Swap(&err) == nil {
			e.config.Log.Error("nothing is taken in", "error", err)
		}
	}
}

// Wait returns when a part has failed, or nil when ctx is done.
func (e *Engine) Wait(ctx context.Context) error {
	failed := make(chan error, 1)
	go func() { failed <- e.work.Wait() }()
	select {
	case err := <-failed:
		return err
	case <-ctx.Done():
		return nil
	}
}

// Stop ends everything in the reverse order of starting. What was not
// acknowledged comes again at the next start.
func (e *Engine) Stop() error {
	var errs []error
	if e.web != nil {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		err := e.web.Shutdown(ctx)
		if errors.Is(err, context.DeadlineExceeded) { // a sender is slow, and will come again
			err = e.web.Close()
		}
		errs = append(errs, err)
		cancel()
	}
	for _, stop := range e.stops {
		errs = append(errs, stop())
	}
	if e.cancel != nil {
		e.cancel()
		_ = e.work.Wait() // Wait has returned its error already
	}
	if e.Conn != nil {
		e.Conn.Close()
	}
	if e.server != nil {
		e.server.Shutdown()
		e.server.WaitForShutdown()
	}
	if e.mirror != nil {
		e.mirror.stop()
	}
	if e.alerts != nil {
		errs = append(errs, e.alerts.Close())
	}
	if e.Book != nil {
		errs = append(errs, e.Book.Close())
	}
	return errors.Join(errs...)
}
