package cloudevents

import (
	"bytes"
	"strconv"
	"strings"

	"github.com/go-json-experiment/json/jsontext"

	"tollbook/domain"
)

// maxPeekedText is the longest spelling of an attribute that Peek looks at: 128
// bytes of visible ASCII, each escaped as \u00xx, with quotes and room.
const maxPeekedText = 1024

// Peek reads source, id, time and sequence of a record that Decode or DecodeBinary
// refused, as far as they can be read: what is broken elsewhere does not matter,
// nor what comes after the place where the JSON breaks. An attribute that is
// absent, breaks its own rule or is there twice is left empty. A record without
// specversion is no CloudEvent, and nothing is read of it.
//
// raw is one record: an object, or headers as NATS has them on the wire with the
// data behind them. It is read once, and not kept.
func Peek(raw []byte) (source, id string, at domain.Instant, sequence domain.Sequence) {
	p := peeked{}
	if headers, ok := bytes.CutPrefix(raw, []byte("NATS/1.0\r\n")); ok {
		p.headers(headers)
	} else {
		p.object(raw)
	}
	if _, ok := p["specversion"]; !ok {
		return "", "", 0, domain.Sequence{}
	}
	at, _ = parseTime([]byte(p["time"]))
	sequence.N, sequence.Has = parseSequence([]byte(p["sequence"]))
	return p.visible("source"), p.visible("id"), at, sequence
}

// peeked has the attributes that were found, as text; those that say nothing are empty.
type peeked map[string]string

func (p peeked) wants(name string) bool {
	switch name {
	case "specversion", "source", "id", "time", "sequence":
		return true
	}
	return false
}

func (p peeked) put(name, text string) {
	if _, twice := p[name]; twice {
		text = ""
	}
	p[name] = text
}

func (p peeked) visible(name string) string {
	if !visibleASCII([]byte(p[name])) {
		return ""
	}
	return p[name]
}

// object reads attributes until the end or the first fault of syntax.
func (p peeked) object(raw []byte) {
	d := jsontext.NewDecoder(bytes.NewBuffer(raw), jsontext.AllowInvalidUTF8(true), jsontext.AllowDuplicateNames(true))
	if open, err := d.ReadToken(); err != nil || open.Kind() != '{' {
		return
	}
	for d.PeekKind() == '"' {
		token, err := d.ReadToken()
		if err != nil {
			return
		}
		name := token.String()
		if !p.wants(name) {
			if d.SkipValue() != nil {
				return
			}
			continue
		}
		value, err := d.ReadValue()
		if err != nil {
			return
		}
		p.put(name, spelled(name, value))
	}
}

// spelled is an attribute's value as text: a string's, and a sequence may be a number.
func spelled(name string, value jsontext.Value) string {
	switch kind := value.Kind(); {
	case len(value) > maxPeekedText:
	case kind == '"':
		text, err := jsontext.AppendUnquote(nil, value)
		if err == nil {
			return string(text)
		}
	case kind == '0' && name == "sequence":
		if negative, n, exact := parseInteger(value); exact && !(negative && n > 0) {
			return strconv.FormatUint(n, 10)
		}
	}
	return ""
}

func (p peeked) headers(raw []byte) {
	for line := range bytes.SplitSeq(raw, []byte("\r\n")) {
		if len(line) == 0 {
			return // the data begins
		}
		name, value, _ := strings.Cut(string(line[:min(len(line), maxPeekedText)]), ":")
		name, ours := strings.CutPrefix(strings.ToLower(name), "ce-")
		if !ours || !p.wants(name) {
			continue
		}
		if len(line) > maxPeekedText {
			value = ""
		}
		p.put(name, percentDecoded(strings.TrimSpace(value)))
	}
}
