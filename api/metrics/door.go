package metrics

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"time"

	"github.com/go-json-experiment/json"
)

// A Door listens for HTTP while the book is read, answers 503 with how far that
// is, and hands its listener over once there is more to answer: nobody who comes
// in between is turned away.
type Door struct {
	listener *net.TCPListener // nil: handed over, closed, or never there
	err      error            // why it never was
	server   http.Server
	served   chan struct{} // closed when server takes no more
}

// doorTimeout is how long who is being answered may take once the engine is ready.
const doorTimeout = 2 * time.Second

// OpenDoor listens on an address. That it can't is told by Listener: what is wrong
// with the book is worth more.
func (m *Metrics) OpenDoor(address string, t *tls.Config, scrape http.Handler, log *slog.Logger) *Door {
	d := &Door{served: make(chan struct{})}
	listener, err := net.Listen("tcp", address)
	if err != nil {
		d.err = err
		return d
	}
	d.listener = listener.(*net.TCPListener)
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", scrape)
	mux.HandleFunc("/", m.loading)
	d.server = http.Server{
		Handler: m.HTTP(mux), ReadHeaderTimeout: 10 * time.Second, ReadTimeout: time.Minute, WriteTimeout: time.Minute, MaxHeaderBytes: 64 << 10,
		ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelWarn),
	}
	serve := func() error { return d.server.Serve(lent{d.listener}) }
	if t != nil {
		d.server.TLSConfig = t.Clone()
		serve = func() error { return d.server.ServeTLS(lent{d.listener}, "", "") }
	}
	go func() {
		defer close(d.served)
		if err := serve(); !errors.Is(err, http.ErrServerClosed) {
			log.Warn("HTTP while the book is read", "error", err)
		}
	}()
	return d
}

// loading answers everything but /metrics while the book is read.
func (m *Metrics) loading(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "application/problem+json")
	w.Header().Set("Retry-After", "5")
	w.WriteHeader(http.StatusServiceUnavailable)
	// An error here is the reader's connection.
	_ = json.MarshalWrite(w, struct {
		Title  string `json:"title"`
		Status int    `json:"status"`
		Detail string `json:"detail"`
	}{
		http.StatusText(http.StatusServiceUnavailable), http.StatusServiceUnavailable,
		fmt.Sprintf("loading, %d events of the book are read: come again", m.loaded.Load()),
	})
	_, _ = w.Write([]byte("\n"))
}

// A lent listener is not closed with the server that has it: it stops accepting.
type lent struct{ *net.TCPListener }

// Close makes Accept return.
func (l lent) Close() error { return l.SetDeadline(time.Unix(1, 0)) }

// Listener hands the listener over. Connections that come meanwhile wait.
func (d *Door) Listener() (net.Listener, error) {
	if d.err != nil {
		return nil, d.err
	}
	d.end()
	listener := d.listener
	d.listener = nil
	return listener, listener.SetDeadline(time.Time{})
}

func (d *Door) end() {
	ctx, cancel := context.WithTimeout(context.Background(), doorTimeout)
	defer cancel()
	if d.server.Shutdown(ctx) != nil { // somebody is slow, and will come again
		_ = d.server.Close()
	}
	<-d.served
}

// Close closes what was not handed over.
func (d *Door) Close() error {
	if d.listener == nil {
		return nil
	}
	d.end()
	listener := d.listener
	d.listener = nil
	return listener.Close()
}

// Ready serves GET /readyz: 200 when the engine can book what comes now.
func Ready(healthy func() error) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if err := healthy(); err != nil {
			http.Error(w, err.Error(), http.StatusServiceUnavailable)
			return
		}
		_, _ = fmt.Fprintln(w, "ready")
	})
}
