package cdr

import (
	"bytes"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"strings"
	"unicode/utf8"

	"tollbook/domain"
)

// readFreeSWITCHXML reads one record of mod_xml_cdr, which is one leg of a call:
// see [freeswitchLeg] for what becomes of it. The same leg written by mod_json_cdr
// is the same event.
func readFreeSWITCHXML(record []byte, tenant string, cfg *domain.SwitchConfig) (domain.Event, error) {
	record, err := FormRecord(record)
	if err != nil {
		return domain.Event{}, refuse(CodeSyntax, "", "", "%v", err)
	}
	// FreeSWITCH escapes nothing behind a <! in a text, so that who has it in the
	// name he calls by writes on in the record. It never writes one itself.
	if bytes.Contains(record, []byte("<!")) {
		return domain.Event{}, refuse(CodeSyntax, "", "", "the record has a <!, behind which FreeSWITCH escapes nothing: a caller may have written the rest of it; look at it, and use mod_json_cdr")
	}
	leg, err := freeswitchXML(record)
	if err != nil {
		return domain.Event{}, refuse(CodeSyntax, "", "", "not one record of mod_xml_cdr: %v", domain.MaskNumbers(err.Error()))
	}
	return leg.read(tenant, cfg)
}

// freeswitchXML takes a record of mod_xml_cdr apart.
func freeswitchXML(record []byte) (*freeswitchLeg, error) {
	x := xmlWalk{xml.NewDecoder(bytes.NewReader(readableXML(record)))}
	leg := &freeswitchLeg{fields: make(fields, 192)}
	var once struct{ data, variables bool }
	root, err := x.root()
	if err != nil {
		return nil, err
	}
	for _, a := range root.Attr {
		if nameOf(a.Name) == "core-uuid" {
			leg.coreUUID = a.Value
		}
	}
	err = x.children(func(name string) error {
		switch name {
		case "channel_data":
			return x.single(&once.data, name, func(name string) error {
				if name == "direction" {
					return x.text(&leg.direction)
				}
				return x.Skip()
			})
		case "variables":
			return x.single(&once.variables, name, func(name string) error {
				var value string
				if err := x.text(&value); err != nil {
					return err
				}
				// A variable with several values comes as often; in JSON it is such a text.
				if first, ok := leg.fields[name]; ok && !strings.HasPrefix(first, freeswitchArray) {
					value = freeswitchArray + first
				} else if ok {
					value = first
				}
				leg.fields[name] = value
				return nil
			})
		case "callflow":
			leg.callflow = append(leg.callflow, freeswitchProfile{})
			p := &leg.callflow[len(leg.callflow)-1]
			return x.children(func(name string) error {
				if name == "caller_profile" {
					return x.profile(p)
				}
				return x.Skip()
			})
		}
		return x.Skip()
	})
	if err != nil {
		return nil, err
	}
	return leg, x.end()
}

// readableXML is the record with every byte that XML can't have as U+FFFD: bytes
// that are no UTF-8, and control characters.
func readableXML(record []byte) []byte {
	wrong := func(r rune) bool { return r < ' ' && r != '\t' && r != '\n' && r != '\r' }
	if utf8.Valid(record) && bytes.IndexFunc(record, wrong) < 0 {
		return record
	}
	return bytes.Map(func(r rune) rune {
		if wrong(r) {
			return utf8.RuneError
		}
		return r
	}, record)
}

// xmlWalk reads XML whose shape is known.
type xmlWalk struct{ *xml.Decoder }

// nameOf is a name with its prefix, as FreeSWITCH knows no name spaces.
func nameOf(n xml.Name) string {
	if n.Space == "" {
		return n.Local
	}
	return n.Space + ":" + n.Local
}

// root finds the element that is the record.
func (x xmlWalk) root() (xml.StartElement, error) {
	for {
		t, err := x.Token()
		if err != nil {
			if err == io.EOF {
				err = errors.New("the record is empty")
			}
			return xml.StartElement{}, err
		}
		if start, ok := t.(xml.StartElement); ok {
			if name := nameOf(start.Name); name != "cdr" {
				return xml.StartElement{}, fmt.Errorf("<cdr> is expected, not <%.40s>", name)
			}
			return start, nil
		}
	}
}

// children calls child with the name of each element in the one that was
// opened; child has to read it to its end.
func (x xmlWalk) children(child func(name string) error) error {
	for {
		t, err := x.Token()
		if err != nil {
			return err
		}
		switch t := t.(type) {
		case xml.StartElement:
			if err := child(nameOf(t.Name)); err != nil {
				return err
			}
		case xml.EndElement:
			return nil
		}
	}
}

// single is children of an element that a record has once.
func (x xmlWalk) single(seen *bool, name string, child func(name string) error) error {
	if *seen {
		return fmt.Errorf("there are two <%s>", name)
	}
	*seen = true
	return x.children(child)
}

// text is what stands in an element that has no others.
func (x xmlWalk) text(to *string) error {
	var b []byte
	for {
		t, err := x.Token()
		if err != nil {
			return err
		}
		switch t := t.(type) {
		case xml.CharData:
			b = append(b, t...)
		case xml.StartElement:
			return fmt.Errorf("<%.40s> stands where a text is expected", nameOf(t.Name))
		case xml.EndElement:
			*to = string(b)
			return nil
		}
	}
}

// profile reads a caller profile. Variables that the dialplan adds to it follow
// FreeSWITCH's own fields, so the first of a name counts.
func (x xmlWalk) profile(p *freeswitchProfile) error {
	first := func(to *string) error {
		if to == nil || *to != "" {
			return x.Skip()
		}
		return x.text(to)
	}
	return x.children(func(name string) error {
		if name != "originator" {
			return first(p.field(name))
		}
		return x.children(func(name string) error {
			if name != "originator_caller_profile" {
				return x.Skip()
			}
			return x.children(func(name string) error { return first(p.originatorField(name)) })
		})
	})
}

// end makes sure that nothing follows the record.
func (x xmlWalk) end() error {
	for {
		t, err := x.Token()
		switch {
		case err == io.EOF:
			return nil
		case err != nil:
			return err
		}
		if text, ok := t.(xml.CharData); !ok || len(bytes.TrimSpace(text)) > 0 {
			return errors.New("something follows the record")
		}
	}
}
