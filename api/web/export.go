package web

import (
	"net/http"
	"strconv"

	"tollbook/api/export"
)

// downloads are the files of a month that its pages offer.
var downloads = []struct{ name, format, what string }{
	{"Excel", export.XLSX, export.Invoice},
	{"PDF", export.PDF, export.Invoice},
	{"CSV: invoices", export.CSV, export.Invoice},
	{"CSV: lines", export.CSV, export.Lines},
	{"CSV: pools", export.CSV, export.Pools},
	{"CSV: calls", export.CSV, export.Calls},
	{"Parquet: calls", export.Parquet, export.Calls},
	{"JSON", export.JSON, export.Invoice},
}

// A download is a file to be had.
type download struct{ Name, Href string }

// offer is what can be downloaded of the month as it is shown.
func (q *request) offer(at uint64) {
	v := q.view
	for _, d := range downloads {
		pairs := []string{"format", d.format, "what", d.what}
		if at != 0 {
			pairs = append(pairs, "at", strconv.FormatUint(at, 10))
		}
		if d.format == export.PDF {
			pairs = append(pairs, "lang", q.l.tag.String())
		}
		v.Downloads = append(v.Downloads, download{q.l.t(d.name), "/" + v.Tenant + "/" + v.Month + "/export?" + string(query(pairs...))})
	}
}

// export serves a file of a month.
func (p *Page) export(q *request) error {
	p.Desk.ExportHandler(p.Program, p.Log, func(_ http.ResponseWriter, _ *http.Request, err error) { p.fail(q, err) }).ServeHTTP(q.w, q.Request)
	return nil
}
