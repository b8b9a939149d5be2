package export

import (
	"context"

	"tollbook/projections"
)

// A LinesDocument is the lines of a month's invoices, each with its rounding, and
// the adjustments.
type LinesDocument struct {
	projections.AsOf
	Lines       []LineSum           `json:"lines"`
	Adjustments []AdjustmentOfMonth `json:"adjustments"`
}

// An AdjustmentOfMonth is an adjustment and of which invoice. Its Month is the one it
// belongs to.
type AdjustmentOfMonth struct {
	Country  string `json:"country"`
	Plan     string `json:"plan"`
	Currency string `json:"currency"`
	projections.Adjustment
}

// json writes the canonical document.
func (e *Export) json(ctx context.Context, w *writer) error {
	s := &e.statement
	put := func(v any) error {
		data, err := projections.Canonical(v)
		if err == nil {
			_, err = w.Write(data)
		}
		return err
	}
	switch e.query.What {
	case Invoice:
		w.wrote("invoices", int64(len(s.Invoices)))
		return put(s.InvoiceDocument)
	case Pools:
		w.wrote("pools", int64(len(s.Pools)))
		return put(s.PoolsOnly())
	case Lines:
		d := LinesDocument{AsOf: asOf(s), Lines: e.lines, Adjustments: []AdjustmentOfMonth{}}
		for i := range s.Invoices {
			for _, a := range s.Invoices[i].Adjustments {
				d.Adjustments = append(d.Adjustments, AdjustmentOfMonth{s.Invoices[i].Country, s.Invoices[i].Plan, s.Invoices[i].Currency, a})
			}
		}
		w.wrote("lines", int64(len(d.Lines)))
		w.wrote("adjustments", int64(len(d.Adjustments)))
		return put(d)
	}
	// The calls come first in the canonical order of the names, so that the document
	// can be written without all of them in memory.
	if _, err := w.WriteString(`{"calls":[`); err != nil {
		return err
	}
	first := true
	rows, err := e.each(ctx, func(c *projections.MonthCall) error {
		if !first {
			if err := w.WriteByte(','); err != nil {
				return err
			}
		}
		first = false
		return put(c)
	})
	if err != nil {
		return err
	}
	w.wrote("calls", rows)
	rest, err := projections.Canonical(asOf(s))
	if err != nil {
		return err
	}
	if _, err := w.WriteString("],"); err != nil {
		return err
	}
	_, err = w.Write(rest[1:])
	return err
}
