package cdr

import (
	"bytes"
	"encoding/csv"
	"errors"
	"fmt"
	"io"

	"tollbook/domain/cloudevents"
)

// A Framing is how records of a format stand in a message or a file. Each record
// is cut out so that it can be read alone, now or from suspense.
type Framing int

// Framings.
const (
	Objects Framing = iota // one JSON object, an array of them, or one a line
	Rows                   // CSV by RFC 4180, a record a line, no header
	Table                  // CSV with a header, which is kept before each record
	Whole                  // all of it is one record
)

// Framing is how the format's records stand in a message.
func (f Format) Framing() Framing { return f.framing }

// Split calls each with every record of a payload; the bytes of [Rows] and
// [Objects] are a part of it. Split returns the first error of each, or one about
// the payload as a whole, before any call of each.
func (f Format) Split(payload []byte, each func(raw []byte) error) error {
	switch f.framing {
	case Rows:
		return splitRows(payload, each)
	case Table:
		return splitTable(payload, each)
	case Whole:
		if len(bytes.TrimSpace(payload)) == 0 {
			return nil
		}
		return each(payload)
	}
	return cloudevents.Split(payload, each)
}

func splitRows(payload []byte, each func(raw []byte) error) error {
	rows, err := CutRows(payload)
	if err != nil {
		return err
	}
	for _, row := range rows {
		if err := each(row); err != nil {
			return err
		}
	}
	return nil
}

// splitTable repeats the header before each record.
func splitTable(payload []byte, each func(raw []byte) error) error {
	rows, err := CutRows(payload)
	if err != nil || len(rows) == 0 {
		return err
	}
	header := rows[0]
	if len(rows) == 1 {
		return errors.New("there is a header and no record below it, or the header is missing")
	}
	for _, row := range rows[1:] {
		if bytes.Equal(row, header) {
			continue // of a file put behind another
		}
		raw := make([]byte, 0, len(header)+len(row)+1)
		raw = append(append(append(raw, header...), '\n'), row...)
		if err := each(raw); err != nil {
			return err
		}
	}
	return nil
}

var bom = []byte("\xef\xbb\xbf")

// CutRows are the rows of CSV as they are, without the ends of their lines; empty
// ones are left out. A row may hold ends of lines between quotes. What has a
// quote too many is cut somewhere, and refused when it is read.
func CutRows(payload []byte) ([][]byte, error) {
	payload = bytes.TrimPrefix(payload, bom)
	r := csv.NewReader(bytes.NewReader(payload))
	r.FieldsPerRecord, r.LazyQuotes, r.ReuseRecord = -1, true, true
	var rows [][]byte
	for start := int64(0); ; {
		_, err := r.Read()
		if errors.Is(err, io.EOF) {
			return rows, nil
		}
		if err != nil {
			return nil, fmt.Errorf("not CSV by RFC 4180: %w", err)
		}
		end := r.InputOffset()
		row := bytes.Trim(payload[start:end], "\r\n")
		start = end
		if len(bytes.TrimSpace(row)) == 0 {
			continue
		}
		if rows = append(rows, row); len(rows) > cloudevents.MaxEventsPerMessage {
			return nil, fmt.Errorf("more than %d records: send them in several messages", cloudevents.MaxEventsPerMessage)
		}
	}
}
