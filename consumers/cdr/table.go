package cdr

import (
	"bytes"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"strings"
)

// tableRow reads a row of CSV below its header, as [Table] cuts it. The fields have
// the names of the columns as spelledBy writes them. Columns without a name are left
// out; a name that comes twice is an error: which of the two counts would be luck.
func tableRow(record []byte, separator rune, spelledBy func(name string) string) (fields, *Refusal) {
	r := csv.NewReader(bytes.NewReader(bytes.TrimPrefix(record, bom)))
	r.Comma, r.FieldsPerRecord = separator, -1
	var rows [2][]string // header and row
	for i, what := range [...]string{"a header and a row below it are expected, and the record is empty", "there is a header and no row below it"} {
		row, err := r.Read()
		if errors.Is(err, io.EOF) {
			err = errors.New(what)
		}
		if err != nil {
			return nil, refuse(CodeSyntax, "", "", "not CSV by RFC 4180: %v", err)
		}
		rows[i] = row
	}
	if _, err := r.Read(); !errors.Is(err, io.EOF) {
		return nil, refuse(CodeSyntax, "", "", "one record has one row below its header, and something follows this one")
	}
	header, row := rows[0], rows[1]
	if len(header) != len(row) {
		return nil, refuse(CodeSyntax, "", "", "the header has %s and the row %s; the columns are separated by %q here", columns(header), columns(row), separator)
	}
	f := make(fields, len(header))
	for i, column := range header {
		name := spelledBy(column)
		if name == "" {
			continue
		}
		if _, twice := f[name]; twice {
			return nil, refuse(CodeSyntax, column, "", "two columns have this name")
		}
		f[name] = row[i]
	}
	return f, nil
}

func columns(row []string) string {
	if len(row) == 1 {
		return "one column"
	}
	return fmt.Sprintf("%d columns", len(row))
}

// trimmed is the name of a column as tables of a mapping spell it.
func trimmed(name string) string { return strings.TrimSpace(name) }
