package export

import (
	"context"
	"strconv"

	"tollbook/projections"
)

// A kind says what the cells of a column are. All are handed on as their exact text.
type kind uint8

const (
	text   kind = iota
	number      // a decimal without exponent; "": none
	amount      // a number of money, with its currency's digits
	moment      // RFC 3339 in UTC; "": none
	yes         // true or false
)

type column struct {
	name string
	kind kind
}

// A table is rows of one kind.
type table struct {
	name    string
	columns []column
	each    func(ctx context.Context, row func(cells []string) error) error
}

func columns(k kind, names ...string) []column {
	list := make([]column, len(names))
	for i, name := range names {
		list[i] = column{name, k}
	}
	return list
}

func join(parts ...[]column) (all []column) {
	for _, p := range parts {
		all = append(all, p...)
	}
	return all
}

func count(n int64) string { return strconv.FormatInt(n, 10) }

// of are the columns by which every row of a table that stands alone says which
// month it is of, and their cells.
func (e *Export) of() ([]column, []string) {
	s := &e.statement
	number := ""
	if s.Number != nil {
		number = *s.Number
	}
	return columns(text, "tenant", "month", "status", "number"), []string{s.Tenant, s.Month, s.Status, number}
}

// invoices has a row for each invoice and credit note.
func (e *Export) invoices() table {
	of, cells := e.of()
	return table{
		name:    "invoices",
		columns: join(of, columns(text, "country", "plan", "type", "currency"), columns(number, "lines", "adjustments", "calls", "seconds"), columns(amount, "total")),
		each: func(_ context.Context, row func([]string) error) error {
			for i := range e.statement.Invoices {
				one := &e.statement.Invoices[i]
				calls, seconds := int64(0), int64(0)
				for j := range one.Lines {
					calls += one.Lines[j].Calls
					seconds += one.Lines[j].Seconds
				}
				if err := row(append(cells[:len(cells):len(cells)], one.Country, one.Plan, typeOf(one), one.Currency,
					strconv.Itoa(len(one.Lines)), strconv.Itoa(len(one.Adjustments)), count(calls), count(seconds), one.Total)); err != nil {
					return err
				}
			}
			return nil
		},
	}
}

func typeOf(i *projections.Invoice) string {
	if i.Credit() {
		return "credit_note"
	}
	return "invoice"
}

// pools has a row for each bucket, and one for a pool without any.
func (e *Export) pools() table {
	of, cells := e.of()
	return table{
		name: "pools",
		columns: join(of, columns(text, "country", "plan", "scope", "user"), columns(number, "licences"), columns(text, "bucket"),
			columns(number, "granted_seconds", "used_seconds", "overage_seconds"), columns(moment, "exhausted_at")),
		each: func(_ context.Context, row func([]string) error) error {
			for i := range e.statement.Pools {
				p := &e.statement.Pools[i]
				ended := ""
				if p.ExhaustedAt != nil {
					ended = *p.ExhaustedAt
				}
				pool := append(cells[:len(cells):len(cells)], p.Country, p.Plan, p.Scope, p.User, count(p.Licences))
				pool = pool[:len(pool):len(pool)]
				for _, b := range p.Buckets {
					if err := row(append(pool, b.Name, count(b.Granted), count(b.Used), count(b.Overage), ended)); err != nil {
						return err
					}
				}
				if len(p.Buckets) == 0 {
					if err := row(append(pool, "", "", "", "", ended)); err != nil {
						return err
					}
				}
			}
			return nil
		},
	}
}

// What a row of lines may be.
const (
	rowLine       = "line"
	rowAdjustment = "adjustment"
)

// lineTable has a row for each line, each adjustment, or both, in the order of the
// document.
func (e *Export) lineTable(name string, lines, adjustments bool) table {
	of, cells := e.of()
	return table{
		name: name,
		columns: join(of, columns(text, "country", "plan", "currency", "kind", "of_month", "deck", "deck_version", "destination_country", "destination", "type"),
			columns(number, "price", "connect_fee", "calls", "seconds"), columns(amount, "amount"), columns(text, "exact", "rounding")),
		each: func(_ context.Context, row func([]string) error) error {
			n := 0
			for i := range e.statement.Invoices {
				invoice := &e.statement.Invoices[i]
				write := func(kind, month string, l *projections.Line, exact, rounding string) error {
					return row(append(cells[:len(cells):len(cells)], invoice.Country, invoice.Plan, invoice.Currency, kind, month, l.Deck, l.DeckVersion,
						l.DestinationCountry, l.Destination, l.Type, l.Price, l.ConnectFee, count(l.Calls), count(l.Seconds), l.Amount, exact, rounding))
				}
				for j := range invoice.Lines {
					l := &e.lines[n]
					n++
					if !lines {
						continue
					}
					if err := write(rowLine, e.statement.Month, &invoice.Lines[j], l.Exact, l.Rounding); err != nil {
						return err
					}
				}
				for j := range invoice.Adjustments {
					a := &invoice.Adjustments[j]
					if !adjustments {
						break
					}
					if err := write(rowAdjustment, a.Month, &a.Line, "", ""); err != nil {
						return err
					}
				}
			}
			return nil
		},
	}
}

// exceptions has a row for each.
func (e *Export) exceptions() table {
	of, cells := e.of()
	return table{
		name: "exceptions", columns: join(of, columns(text, "reason"), columns(number, "count", "seconds")),
		each: func(_ context.Context, row func([]string) error) error {
			for _, x := range e.statement.Exceptions {
				if err := row(append(cells[:len(cells):len(cells)], x.Reason, count(x.Count), count(x.Seconds))); err != nil {
					return err
				}
			}
			return nil
		},
	}
}

// callColumns are those of a call; a MonthCall has the same names.
var callColumns = join(
	columns(moment, "at"), columns(text, "source", "id", "user", "kind", "called"), columns(number, "billable_ms"), columns(yes, "amended"),
	columns(text, "class", "pool_country", "pool_plan", "pool_user", "bucket"), columns(number, "billed_seconds", "pool_seconds", "overage_seconds"),
	columns(text, "deck", "deck_version", "destination_country", "destination", "type"), columns(number, "price", "connect_fee"), columns(text, "currency", "exact"),
)

func (e *Export) calls() table {
	cells := make([]string, len(callColumns))
	return table{
		name: "calls", columns: callColumns,
		each: func(ctx context.Context, row func([]string) error) error {
			_, err := e.each(ctx, func(c *projections.MonthCall) error {
				cells = append(cells[:0], c.At, c.Source, c.ID, c.User, c.Kind, c.Called, count(c.BillableMS), strconv.FormatBool(c.Amended),
					c.Class, c.PoolCountry, c.PoolPlan, c.PoolUser, c.Bucket, count(c.Billed), count(c.Pool), count(c.Overage),
					c.Deck, c.DeckVersion, c.Country, c.Destination, c.Type, c.Price, c.ConnectFee, c.Currency, c.Exact)
				return row(cells)
			})
			return err
		},
	}
}
