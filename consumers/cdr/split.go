package cdr

import (
	"bytes"
	"encoding/csv"
	"errors"
	"fmt"
	"io"

	"github.com/go-json-experiment/json/jsontext"

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
	Pages                  // as Objects, but an object with an array named value is as many records
)

// Framing is how the format's records stand in a message.
func (f Format) Framing() Framing { return f.framing }

// Split calls each with every record of a payload; the bytes of [Rows], [Objects]
// and [Pages] are a part of it. Split returns the first error of each, or one about
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
	case Pages:
		return splitPages(payload, each)
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

// splitTable repeats the header before each record. What separates the columns is
// the switch's to say, so that a row ends where a line does outside quotes.
func splitTable(payload []byte, each func(raw []byte) error) error {
	rows, err := cutLines(bytes.TrimPrefix(payload, bom))
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

// cutLines are the lines of text outside quotes, empty ones left out.
func cutLines(text []byte) (rows [][]byte, err error) {
	for start, end := 0, 0; start < len(text); start = end {
		for quotes := 0; end < len(text); {
			line := text[end:]
			if n := bytes.IndexByte(line, '\n'); n >= 0 {
				line = line[:n+1]
			}
			end += len(line)
			if quotes += bytes.Count(line, []byte{'"'}); quotes%2 == 0 {
				break
			}
		}
		row := bytes.Trim(text[start:end], "\r\n")
		if len(bytes.TrimSpace(row)) == 0 {
			continue
		}
		if rows = append(rows, row); len(rows) > cloudevents.MaxEventsPerMessage {
			return nil, errTooManyRows
		}
	}
	return rows, nil
}

// splitPages takes the rows out of pages. Pages may follow each other with or
// without a line between, as a loop of requests leaves them in a file.
func splitPages(payload []byte, each func(raw []byte) error) error {
	payload = bytes.TrimPrefix(payload, bom)
	var values [][]byte
	take := func(raw []byte) error {
		if values = append(values, rowsOf(raw)...); len(values) > cloudevents.MaxEventsPerMessage {
			return errTooManyRows
		}
		return nil
	}
	if err := splitValues(payload, take); err != nil {
		// Not JSON all through: each line is on its own.
		values = nil
		if err := cloudevents.Split(payload, take); err != nil {
			return err
		}
	}
	for _, raw := range values {
		if err := each(raw); err != nil {
			return err
		}
	}
	return nil
}

// splitValues calls each with the JSON values that text is, one behind the other,
// and with the elements of an array instead of it.
func splitValues(text []byte, each func(raw []byte) error) error {
	for d := lenient(text); ; {
		raw, err := readValue(d, text)
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return err
		case raw[0] == '[':
			err = elements(lenient(raw), raw, each)
		default:
			err = each(raw)
		}
		if err != nil {
			return err
		}
	}
}

// rowsOf are the elements of the array value that a page has; of what is no page, itself.
func rowsOf(raw []byte) (rows [][]byte) {
	d := lenient(raw)
	if t, err := d.ReadToken(); err != nil || t.Kind() != jsontext.KindBeginObject {
		return [][]byte{raw}
	}
	for {
		name, err := d.ReadToken()
		switch {
		case err != nil || name.Kind() == jsontext.KindEndObject:
			return [][]byte{raw}
		case name.String() == "value" && d.PeekKind() == jsontext.KindBeginArray:
			if elements(d, raw, func(row []byte) error { rows = append(rows, row); return nil }) != nil {
				return [][]byte{raw}
			}
			return rows
		case d.SkipValue() != nil:
			return [][]byte{raw}
		}
	}
}

// elements calls each with the elements of the array that begins where d is in text.
func elements(d *jsontext.Decoder, text []byte, each func(raw []byte) error) error {
	if _, err := d.ReadToken(); err != nil {
		return err
	}
	for d.PeekKind() != jsontext.KindEndArray {
		raw, err := readValue(d, text)
		if err == nil {
			err = each(raw)
		}
		if err != nil {
			return err
		}
	}
	_, err := d.ReadToken()
	return err
}

// readValue is the next value of text, of which d reads, as a part of text.
func readValue(d *jsontext.Decoder, text []byte) ([]byte, error) {
	value, err := d.ReadValue()
	if err != nil {
		return nil, err
	}
	end := int(d.InputOffset())
	return text[end-len(value) : end], nil
}

// lenient reads JSON whose text is not UTF-8 and whose names come twice: that is
// for the record that has it.
func lenient(text []byte) *jsontext.Decoder {
	return jsontext.NewDecoder(bytes.NewReader(text), jsontext.AllowInvalidUTF8(true), jsontext.AllowDuplicateNames(true))
}

var errTooManyRows = fmt.Errorf("more than %d records: send them in several messages", cloudevents.MaxEventsPerMessage)

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
			return nil, errTooManyRows
		}
	}
}
