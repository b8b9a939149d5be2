package main

import (
	"io"
	"log/slog"
	"slices"

	"tollbook/domain"
)

// logFormat is how serve writes its log.
type logFormat struct {
	LogFormat string `name:"log-format" enum:"text,json" default:"text" help:"Of the log on standard error: text or json, a line each."`
}

// foreign are the keys of what others wrote and nobody has masked yet.
var foreign = []string{"says", "subject", "reply", "user"}

// logger writes to w. docs/METRICS.md lists the keys.
func (f logFormat) logger(w io.Writer) *slog.Logger {
	options := &slog.HandlerOptions{ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
		if slices.Contains(foreign, a.Key) {
			a.Value = slog.StringValue(domain.MaskNumbers(a.Value.String()))
		}
		return a
	}}
	if f.LogFormat == "json" {
		return slog.New(slog.NewJSONHandler(w, options))
	}
	return slog.New(slog.NewTextHandler(w, options))
}
