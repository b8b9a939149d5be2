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
	Prefix      Column = iota // leading digits of an E.164 number, or several; or = and a short number
	Destination               // the name on the invoice line, 1 to 128 bytes
	Country                   // of the destination, ISO 3166-1 alpha-2
	Type                      // landline, mobile, …; toll_free, emergency and onnet are never charged
	Rate                      // per minute
	ConnectFee                // per call; 0 when empty or missing
	Increment                 // in seconds, first/step; 60/60 when empty or missing
	First                     // the first increment, where it has a column of its own
	Step                      // and the following ones
	Currency                  // ISO 4217, the same in every row
	CallingCode               // 39, where the column of prefixes has only what follows it
	columnCount
)

// eitherCode is a column that calls itself country code, which some mean as IT and
// some as 39; its first cell tells.
const eitherCode = columnCount

// Columns are the names each column may have in a header, the first being the
// one to write. Capitals don't count, and neither does how words are parted.
var Columns = [columnCount][]string{
	Prefix: {"prefix", "code", "dial_code", "dialcode", "digits", "destination_code", "prefixes", "codes", "dial_codes", "dialcodes",
		"area_code", "area_codes", "city_code", "city_codes", "breakout", "breakouts",
		"prefisso", "prefissi", "codice", "codici", "vorwahl", "vorwahlen", "präfix", "praefix", "kennzahl", "kennzahlen"},
	Destination: {"destination", "name", "destination_name", "description", "destinazione", "nome", "descrizione", "ziel", "zielname", "bezeichnung", "beschreibung"},
	Country:     {"country", "country_iso", "country_iso2", "iso", "iso2", "paese", "nazione", "land", "zielland"},
	Type:        {"type", "number_type", "destination_type", "line_type", "tipo", "tipologia", "typ", "zieltyp"},
	Rate: {"rate_per_min", "rate", "price", "price_per_min", "rate_per_minute", "price_per_minute", "per_minute", "price_min", "rate_min",
		"prezzo", "prezzo_al_minuto", "prezzo_min", "tariffa", "tariffa_al_minuto", "costo_al_minuto", "costo_min",
		"preis", "preis_pro_minute", "preis_min", "minutenpreis", "tarif"},
	ConnectFee: {"connect_fee", "connection_fee", "connect_charge", "setup_fee",
		"scatto_alla_risposta", "scatto", "costo_di_connessione", "verbindungsgebühr", "verbindungsgebuehr", "verbindungsentgelt"},
	Increment:   {"increment", "increments", "billing_increment", "incremento", "incrementi", "taktung", "takt", "abrechnungstakt"},
	First:       {"first_increment", "initial_increment", "first_interval", "interval_1", "primo_incremento", "ersttakt", "erster_takt"},
	Step:        {"next_increment", "subsequent_increment", "next_interval", "interval_n", "incremento_successivo", "folgetakt"},
	Currency:    {"currency", "currency_code", "ccy", "valuta", "divisa", "währung", "waehrung"},
	CallingCode: {"calling_code", "country_calling_code", "country_prefix", "cc", "prefisso_internazionale", "prefisso_paese", "landesvorwahl", "ländervorwahl"},
}

// eitherCodes are the names of eitherCode.
var eitherCodes = []string{"country_code", "codice_paese", "ländercode", "laendercode", "landescode"}

// nationalNames are those of a column of prefixes that has, beside one of calling
// codes, only what follows them.
var nationalNames = []string{"code", "codes", "area_code", "area_codes", "city_code", "city_codes", "breakout", "breakouts", "codice", "codici",
	"vorwahl", "vorwahlen", "kennzahl", "kennzahlen", "destination_code"}

func (c Column) String() string { return Columns[c][0] }

// required reports whether a file without the column is refused. Currency may
// be given beside the file.
func (c Column) required(currency bool) bool { return c <= Rate || c == Currency && currency }

// columns are where each column is in a record, and what the header calls it.
type columns struct {
	at    [columnCount + 1]int // -1: not there
	names [columnCount + 1]string
	width int
}

// spelled is a header's cell as Columns has it.
func spelled(name string) string {
	return strings.Join(strings.FieldsFunc(strings.ToLower(name), func(r rune) bool { return strings.ContainsRune(" \t\u00a0_-./:*", r) }), "_")
}

// columnOf is what a header's cell names; false: nothing.
func columnOf(name string) (Column, bool) {
	name = spelled(name)
	if slices.Contains(eitherCodes, name) {
		return eitherCode, true
	}
	c := slices.IndexFunc(Columns[:], func(names []string) bool { return slices.Contains(names, name) })
	return Column(c), c >= 0
}

func readHeader(header []string) (columns, error) {
	cols := columns{width: len(header)}
	for c := range cols.at {
		cols.at[c] = -1
	}
	for i, name := range header {
		if c, ok := columnOf(name); ok {
			if err := cols.set(c, i, strings.Clone(strings.TrimSpace(name))); err != nil {
				return cols, err
			}
		}
	}
	return cols, nil
}

func (cols *columns) set(c Column, at int, name string) error {
	if cols.at[c] >= 0 {
		meaning := "country code"
		if c < columnCount {
			meaning = c.String()
		}
		return fmt.Errorf("columns %q and %q both mean %s; rename one", cols.names[c], name, meaning)
	}
	cols.at[c], cols.names[c] = at, name
	return nil
}

// complete refuses a header without a column that is needed.
func (cols *columns) complete(header []string, currency bool) error {
	for c, at := range cols.at[:columnCount] {
		if at >= 0 || !Column(c).required(currency) {
			continue
		}
		switch Column(c) {
		case Currency:
			return fmt.Errorf("the header has no column %s; add one, or say the deck's currency", Currency)
		case Country:
			if cols.at[eitherCode] >= 0 {
				continue // what its first cell is will tell
			}
		}
		return fmt.Errorf("the header %.200q has no column %s; rename the one that is meant, or add it (also taken: %s)",
			strings.Join(header, " | "), Column(c), strings.Join(Columns[c][1:], ", "))
	}
	return nil
}

// national reports whether prefixes are what follows the calling code.
func (cols *columns) national() bool {
	return cols.at[CallingCode] >= 0 && slices.Contains(nationalNames, spelled(cols.names[Prefix]))
}
