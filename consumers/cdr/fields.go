package cdr

import (
	"bytes"
	"errors"
	"io"
	"math"
	"strings"
	"time"

	"github.com/go-json-experiment/json/jsontext"

	"tollbook/domain"
)

// fields are the texts of a flat record by field name. A field that is not
// there and one that is empty differ.
type fields map[string]string

// flatJSON reads one JSON object. Strings and numbers become fields, a number
// with the spelling it has; other values are left out, as null says nothing and
// no known field is deeper. UTF-8 is strict, and a name that comes twice is an
// error: which of the two counts would be luck.
func flatJSON(record []byte) (fields, *Refusal) {
	dec := jsontext.NewDecoder(bytes.NewReader(record))
	fail := func(err error) (fields, *Refusal) {
		if syntactic, ok := err.(*jsontext.SyntacticError); ok {
			masked := *syntactic
			masked.JSONPointer = jsontext.Pointer(domain.MaskNumbers(string(masked.JSONPointer)))
			err = &masked
		}
		return nil, refuse(CodeSyntax, "", "", "not one JSON object in strict UTF-8: %v", err)
	}
	switch t, err := dec.ReadToken(); {
	case err == io.EOF:
		return fail(errors.New("the record is empty"))
	case err != nil:
		return fail(err)
	case t.Kind() != jsontext.KindBeginObject:
		return nil, refuse(CodeSyntax, "", "", "a JSON object is expected, not one that begins with %s", t.Kind())
	}
	f := make(fields, 32)
	for {
		t, err := dec.ReadToken()
		if err != nil {
			return fail(err)
		}
		if t.Kind() == jsontext.KindEndObject {
			break
		}
		name := t.String()
		switch dec.PeekKind() {
		case jsontext.KindString, jsontext.KindNumber:
			value, err := dec.ReadToken()
			if err != nil {
				return fail(err)
			}
			f[name] = value.String()
		default:
			if err := dec.SkipValue(); err != nil {
				return fail(err)
			}
		}
	}
	if _, err := dec.ReadToken(); err != io.EOF {
		return nil, refuse(CodeSyntax, "", "", "one record has one JSON object, and something follows this one; send one record a line")
	}
	return f, nil
}

// need returns the text of a field that must not be empty.
func (f fields) need(code, name string) (string, *Refusal) {
	value, ok := f[name]
	switch {
	case !ok:
		return "", refuse(code, name, "", "the field is missing; let the switch record it")
	case value == "":
		return "", refuse(code, name, "", "the field is empty")
	}
	return value, nil
}

// unix reads seconds since 1970 with up to nine decimals. A missing field, an
// empty one and 0 are 0: the switch has no such time.
func (f fields) unix(name string) (domain.Instant, *Refusal) {
	value := f[name]
	if value == "" {
		return 0, nil
	}
	ns, ok := nanoseconds(value)
	switch {
	case !ok:
		return 0, refuse(CodeTime, name, value, "seconds since 1970 are expected, such as 1795383636.106")
	case ns == 0:
		return 0, nil
	case domain.Instant(ns) < domain.MinInstant || domain.Instant(ns) >= domain.MaxInstant:
		return 0, refuse(CodeTime, name, value, "not between 2000 and 2200; look at the switch's clock")
	}
	return domain.Instant(ns), nil
}

// nanoseconds reads a decimal number of seconds exactly: 0.397, 12.
func nanoseconds(s string) (int64, bool) {
	const decimals = 9
	whole, fraction, dot := strings.Cut(s, ".")
	if !digits(whole) || dot && !digits(fraction) || len(fraction) > decimals {
		return 0, false
	}
	whole = strings.TrimLeft(whole, "0")
	if len(whole)+decimals > len("9223372036854775807") {
		return 0, false
	}
	var ns uint64
	for _, c := range []byte(whole + fraction + "000000000"[len(fraction):]) {
		ns = ns*10 + uint64(c-'0')
	}
	return int64(ns), ns <= math.MaxInt64
}

// milliseconds drops what is less than one, in the caller's favour.
func milliseconds(ns int64) int64 { return ns / int64(time.Millisecond) }
