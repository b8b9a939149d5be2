package deckcsv

import (
	"fmt"
	"slices"
	"strings"
)

// A Column is what a cell of a deck's file means.
type Column int

// The columns of a deck's file.
const (
	Prefix      Column = iota // leading digits of an E.164 number, a leading + is dropped; or = and a short number
	Destination               // the name on the invoice line, 1 to 128 bytes
	Country                   // of the destination, ISO 3166-1 alpha-2
	Type                      // landline, mobile, …; toll_free, emergency and onnet are never charged
	Rate                      // per minute
	ConnectFee                // per call; 0 when empty or missing
	Increment                 // in seconds, first/step; 60/60 when empty or missing
	Currency                  // ISO 4217, the same in every row
	columnCount
)

// Columns are the names each column may have in a header, the first being the
// one to write. Capitals don't count, and neither does whether words are
// parted by a space, a hyphen or an underscore.
var Columns = [columnCount][]string{
	Prefix:      {"prefix", "code", "dial_code", "dialcode", "digits", "destination_code"},
	Destination: {"destination", "name", "destination_name", "description"},
	Country:     {"country", "country_iso", "country_iso2", "iso", "iso2"},
	Type:        {"type", "number_type", "destination_type", "line_type"},
	Rate: {"rate_per_min", "rate", "price", "price_per_min", "rate_per_minute", "price_per_minute",
		"per_minute"},
	ConnectFee: {"connect_fee", "connection_fee", "connect_charge", "setup_fee"},
	Increment:  {"increment", "increments", "billing_increment"},
	Currency:   {"currency", "currency_code", "ccy"},
}

func (c Column) String() string { return Columns[c][0] }

// required reports whether a file without the column is refused. Currency may
// be given beside the file.
func (c Column) required(currency bool) bool { return c <= Rate || c == Currency && currency }

// columns are where each column is in a record, and what the header calls it.
type columns struct {
	at    [columnCount]int // -1: not there
	names [columnCount]string
}

func readHeader(header []string, currency bool) (columns, error) {
	var cols columns
	for c := range cols.at {
		cols.at[c] = -1
	}
	spell := strings.NewReplacer(" ", "_", "-", "_")
	for i, name := range header {
		name = strings.Clone(strings.TrimSpace(name))
		c := slices.IndexFunc(Columns[:], func(names []string) bool {
			return slices.Contains(names, spell.Replace(strings.ToLower(name)))
		})
		if c < 0 {
			continue
		}
		if cols.at[c] >= 0 {
			return cols, fmt.Errorf("columns %q and %q both mean %s; rename one", cols.names[c], name, Column(c))
		}
		cols.at[c], cols.names[c] = i, name
	}
	for c, at := range cols.at {
		if at >= 0 || !Column(c).required(currency) {
			continue
		}
		if Column(c) == Currency {
			return cols, fmt.Errorf("the header has no column %s; add one, or say the deck's currency", Currency)
		}
		return cols, fmt.Errorf("the header has no column %s (or %s)", Column(c), strings.Join(Columns[c][1:], ", "))
	}
	return cols, nil
}

// cell is the trimmed value, false where the file has no such column.
func (cols *columns) cell(record []string, c Column) (string, bool) {
	if cols.at[c] < 0 {
		return "", false
	}
	return strings.TrimSpace(record[cols.at[c]]), true
}
