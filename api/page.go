package api

import (
	"embed"
	"fmt"
	"html/template"
	"net/http"
	"strings"

	"tollbook/domain"
	"tollbook/projections"
)

//go:embed page.html
var pageFiles embed.FS

var pageTemplate = template.Must(template.New("page.html").Funcs(template.FuncMap{
	"minutes": func(seconds int64) string { return fmt.Sprintf("%d:%02d", seconds/60, seconds%60) },
	// when is an instant to the minute: 2026-10-29T12:53:33.383Z as 2026-10-29 12:53.
	"when": func(instant *string) string {
		return strings.Replace((*instant)[:len("2026-10-29T12:53")], "T", " ", 1)
	},
	"percent": func(b projections.Bucket) int64 {
		if b.Granted == 0 {
			return 0
		}
		return b.Used * 100 / b.Granted
	},
}).ParseFS(pageFiles, "page.html"))

// NewPage serves the page (/), one month of one tenant at a time, and the health
// check (/healthz).
func NewPage(months *projections.Months, healthy func() error) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) {
		if err := healthy(); err != nil {
			http.Error(w, err.Error(), http.StatusServiceUnavailable)
			return
		}
		fmt.Fprintln(w, "ok")
	})
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, r *http.Request) {
		page := struct {
			Status    Status
			Tenant    string
			Month     string
			Statement *projections.Statement
		}{Status: StatusOf(months), Tenant: r.FormValue("tenant"), Month: r.FormValue("month")}
		if page.Tenant == "" {
			page.Tenant, page.Month = newest(page.Status)
		}
		if page.Tenant != "" {
			statement, err := StatementOf(months, MonthRequest{Tenant: page.Tenant, Month: page.Month})
			if err != nil {
				http.Error(w, err.Error(), http.StatusBadRequest)
				return
			}
			page.Statement = &statement
		}
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		w.Header().Set("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'")
		// An error here is the reader's connection.
		_ = pageTemplate.Execute(w, page)
	})
	return mux
}

// newest is the latest month with calls, of the first tenant that has it.
func newest(s Status) (tenant, month string) {
	for _, t := range s.Tenants {
		if n := len(t.Months); n > 0 && t.Tenant != domain.CatalogTenant && t.Months[n-1] > month {
			tenant, month = t.Tenant, t.Months[n-1]
		}
	}
	return tenant, month
}
