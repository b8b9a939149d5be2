package cdr

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net/url"
	"slices"
	"strings"

	"github.com/go-json-experiment/json/jsontext"

	"tollbook/domain"
)

// readFreeSWITCH reads one record of mod_json_cdr, which is one leg of a call:
// see [freeswitchLeg] for what becomes of it.
func readFreeSWITCH(record []byte, tenant string, cfg *domain.SwitchConfig) (domain.Event, error) {
	record, err := FormRecord(record)
	if err != nil {
		return domain.Event{}, refuse(CodeSyntax, "", "", "%v", err)
	}
	leg, refusal := freeswitchJSON(record)
	if refusal != nil {
		return domain.Event{}, refusal
	}
	return leg.read(tenant, cfg)
}

// freeswitchJSON takes a record of mod_json_cdr apart. What is read and comes twice
// is refused; bytes that are no UTF-8 are not, as FreeSWITCH passes on what callers
// name themselves.
func freeswitchJSON(record []byte) (*freeswitchLeg, *Refusal) {
	// Names that come twice are looked for where it matters: it costs a third of the time.
	r := jsonWalk{jsontext.NewDecoder(bytes.NewReader(record), jsontext.AllowInvalidUTF8(true), jsontext.AllowDuplicateNames(true))}
	leg := &freeswitchLeg{fields: make(fields, 192)}
	var had []string
	err := r.object(func(name string) error {
		switch name {
		case "core-uuid", "channel_data", "variables", "callflow":
			if slices.Contains(had, name) {
				return r.twice()
			}
			had = append(had, name)
		}
		switch name {
		case "core-uuid":
			return r.text(&leg.coreUUID)
		case "channel_data":
			return r.object(func(name string) error {
				if name == "direction" {
					return r.text(&leg.direction)
				}
				return r.SkipValue()
			})
		case "variables":
			return r.object(func(name string) error {
				if _, ok := leg.fields[name]; ok {
					return r.twice()
				}
				var value string
				err := r.text(&value)
				leg.fields[name] = value
				return err
			})
		case "callflow":
			return r.array(func() error {
				leg.callflow = append(leg.callflow, freeswitchProfile{})
				p := &leg.callflow[len(leg.callflow)-1]
				return r.object(func(name string) error {
					if name == "caller_profile" {
						return r.profile(p)
					}
					return r.SkipValue()
				})
			})
		}
		return r.SkipValue()
	})
	if err == nil {
		switch _, err = r.ReadToken(); err {
		case io.EOF:
			return leg, nil
		case nil:
			err = errors.New("something follows the record")
		}
	}
	if syntactic, ok := errors.AsType[*jsontext.SyntacticError](err); ok {
		masked := *syntactic
		masked.JSONPointer = jsontext.Pointer(domain.MaskNumbers(string(masked.JSONPointer)))
		err = &masked
	}
	return nil, refuse(CodeSyntax, "", "", "not one record of mod_json_cdr: %v", err)
}

// jsonWalk reads JSON whose shape is known.
type jsonWalk struct{ *jsontext.Decoder }

// object calls member with the name of each member, which it has to read.
func (r jsonWalk) object(member func(name string) error) error {
	if kind := r.PeekKind(); kind != jsontext.KindBeginObject {
		return r.not("an object")
	}
	if _, err := r.ReadToken(); err != nil {
		return err
	}
	for r.PeekKind() != jsontext.KindEndObject {
		name, err := r.ReadToken()
		if err != nil {
			return err
		}
		if err := member(name.String()); err != nil {
			return err
		}
	}
	_, err := r.ReadToken()
	return err
}

// array calls element before each element, which it has to read.
func (r jsonWalk) array(element func() error) error {
	if kind := r.PeekKind(); kind != jsontext.KindBeginArray {
		return r.not("an array")
	}
	if _, err := r.ReadToken(); err != nil {
		return err
	}
	for r.PeekKind() != jsontext.KindEndArray {
		if err := element(); err != nil {
			return err
		}
	}
	_, err := r.ReadToken()
	return err
}

// text reads a string, or a number as it is spelled, once.
func (r jsonWalk) text(to *string) error {
	if *to != "" {
		return r.twice()
	}
	switch r.PeekKind() {
	case jsontext.KindString, jsontext.KindNumber:
		t, err := r.ReadToken()
		if err == nil {
			*to = t.String()
		}
		return err
	}
	return r.not("a text")
}

// twice is the error of a name that was there before: which of the two counts would be luck.
func (r jsonWalk) twice() error {
	return fmt.Errorf("%q comes twice", domain.MaskNumbers(string(r.StackPointer())))
}

// not is the error of a value that is something else, or none at all.
func (r jsonWalk) not(expected string) error {
	at := r.StackPointer()
	if _, err := r.ReadToken(); err != nil {
		if err == io.EOF {
			return io.ErrUnexpectedEOF
		}
		return err
	}
	return fmt.Errorf("%s is expected at %q", expected, domain.MaskNumbers(string(at)))
}

// profile reads a caller profile.
func (r jsonWalk) profile(p *freeswitchProfile) error {
	return r.object(func(name string) error {
		if to := p.field(name); to != nil {
			return r.text(to)
		}
		if name != "originator" {
			return r.SkipValue()
		}
		return r.object(func(name string) error {
			if name != "originator_caller_profiles" {
				return r.SkipValue()
			}
			return r.array(func() error {
				return r.object(func(name string) error {
					if to := p.originatorField(name); to != nil && *to == "" {
						return r.text(to)
					}
					return r.SkipValue()
				})
			})
		})
	})
}

// FormRecord takes a record out of the form that FreeSWITCH's modules post it in:
// cdr= and the record as it is, in base64, or percent-encoded. What does not begin
// with cdr= is no form and stays as it is.
//
// It refuses JSON that was percent-encoded, which is encode=true of mod_json_cdr:
// there FreeSWITCH leaves a % alone that its values have already, so that what a caller named
// himself, with its quotes, becomes a part of the record's JSON. Nothing tells such a
// record from an honest one.
func FormRecord(body []byte) ([]byte, error) {
	field, ok := bytes.CutPrefix(bytes.TrimSpace(body), []byte("cdr="))
	if !ok {
		return body, nil
	}
	if isRecord(field) {
		return field, nil
	}
	field, _, _ = bytes.Cut(field, []byte("&"))
	if text, err := url.PathUnescape(string(field)); err == nil {
		// Base64 first: in it a + is itself, elsewhere it may stand for a space.
		if record, err := base64.RawStdEncoding.DecodeString(strings.TrimRight(text, "=\r\n ")); err == nil && isRecord(record) {
			return record, nil
		}
	}
	text, err := url.QueryUnescape(string(field))
	record := []byte(text)
	switch {
	case err != nil || !isRecord(record):
		return nil, errors.New("the form's field cdr is no record: JSON, XML, or either of them in base64 is expected")
	case bytes.TrimSpace(record)[0] != '<':
		return nil, errors.New("mod_json_cdr with encode=true posts what can't be decoded safely, as it does not encode % again: set encode to false in json_cdr.conf.xml")
	}
	return record, nil
}

// isRecord reports whether it begins as JSON or XML does.
func isRecord(text []byte) bool {
	text = bytes.TrimSpace(text)
	return len(text) > 0 && (text[0] == '{' || text[0] == '<')
}
