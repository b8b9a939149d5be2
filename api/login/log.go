package login

import (
	"context"
	"log/slog"
	"net"
	"net/http"
	"path/filepath"
	"time"

	"gopkg.in/natefinch/lumberjack.v2"

	"tollbook/api/finance"
	"tollbook/domain"
)

// The access log is AccessLog in the data directory, and LogsKept older ones.
const (
	AccessLog  = "access.log"
	maxLogSize = 100 // MB
	LogsKept   = 20
)

// A Log has a line of JSON for each read of what names people, numbers or calls: who
// read, when, from where, whose and what. What was searched for, and what was
// found, is not in it.
type Log struct {
	file *lumberjack.Logger
	out  *slog.Logger
}

// OpenLog appends to the access log of a data directory. A line that can't be
// written is reported, and what was asked is answered.
func OpenLog(dir string, clock func() domain.Instant, report *slog.Logger) *Log {
	file := &lumberjack.Logger{Filename: filepath.Join(dir, AccessLog), MaxSize: maxLogSize, MaxBackups: LogsKept}
	l := &Log{file: file}
	l.out = slog.New(handler{slog.NewJSONHandler(file, &slog.HandlerOptions{ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
		switch a.Key {
		case slog.TimeKey:
			return slog.String("at", clock().String())
		case slog.LevelKey:
			return slog.Attr{}
		case slog.MessageKey:
			a.Key = "what"
		}
		return a
	}}), report})
	return l
}

// handler reports what can't be written.
type handler struct {
	slog.Handler
	report *slog.Logger
}

func (h handler) Handle(ctx context.Context, r slog.Record) error {
	err := h.Handler.Handle(ctx, r)
	if err != nil {
		h.report.Error("access log", "error", err)
	}
	return err
}

// Read notes that somebody reads.
func (l *Log) Read(r *http.Request, who finance.Person, tenant, what string) {
	from, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		from = r.RemoteAddr
	}
	l.out.Handler().Handle(r.Context(), record(what, slog.String("who", who.Name), slog.String("from", from), slog.String("tenant", tenant), slog.String("path", r.URL.Path)))
}

func record(what string, attrs ...slog.Attr) slog.Record {
	r := slog.NewRecord(time.Unix(0, 1), slog.LevelInfo, what, 0) // the time is the clock's: see OpenLog
	r.AddAttrs(attrs...)
	return r
}

// Close ends the log.
func (l *Log) Close() error { return l.file.Close() }
