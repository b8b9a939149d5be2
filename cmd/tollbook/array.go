package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"

	"github.com/go-json-experiment/json/jsontext"
)

// arrayChunks sends the elements of a JSON array, as lines, without holding the
// whole file. A file that ends or breaks inside the array fails, naming where;
// what was read before it is sent.
func arrayChunks(r *bufio.Reader, send func([]byte) error) error {
	d := jsontext.NewDecoder(r)
	if _, err := d.ReadToken(); err != nil {
		return err
	}
	var payload []byte
	records, element := 0, 0
	flush := func() error {
		if records == 0 {
			return nil
		}
		out := payload
		payload, records = nil, 0
		return send(out)
	}
	for d.PeekKind() != ']' {
		element++
		value, err := d.ReadValue()
		if err != nil {
			return errors.Join(flush(), fmt.Errorf("element %d of the array: %w", element, err))
		}
		if err := value.Compact(); err != nil {
			return err
		}
		if len(value) > maxRecordBytes {
			return errors.Join(flush(), fmt.Errorf("element %d of the array is longer than %d bytes, the most a NATS message holds", element, maxRecordBytes))
		}
		if len(payload)+len(value) > requestBytes || records == requestRecords {
			if err := flush(); err != nil {
				return err
			}
		}
		payload = append(append(payload, value...), '\n')
		records++
	}
	if err := flush(); err != nil {
		return err
	}
	if _, err := d.ReadToken(); err != nil {
		return err
	}
	if _, err := d.ReadToken(); !errors.Is(err, io.EOF) {
		return fmt.Errorf("byte %d: there is more after the array", d.InputOffset())
	}
	return nil
}
