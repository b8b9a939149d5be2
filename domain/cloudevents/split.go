package cloudevents

import (
	"bytes"
	"strconv"

	"github.com/go-json-experiment/json/jsontext"
)

// MaxEventsPerMessage is how many events one message or chunk of a file may
// hold. A message is acknowledged as a whole, so it has to be booked at one go.
const MaxEventsPerMessage = 100_000

var bom = []byte("\xef\xbb\xbf")

// Split calls each with the bytes of every event in a payload: one event, an
// array of events, or one event a line. A byte order mark and empty lines are
// passed over; the bytes are a part of payload, without white space around them.
//
// Whether an element can be decoded is for each to find out. A line that is not
// JSON is handed over like any other. What is broken as a whole is handed over
// whole: an array that does not parse, and an object over several lines that
// does not.
//
// Split returns the first error of each, or an *Error, before any call of each,
// if there are more than MaxEventsPerMessage.
func Split(payload []byte, each func(raw []byte) error) error {
	text := trim(bytes.TrimPrefix(payload, bom))
	if len(text) == 0 {
		return nil
	}
	if text[0] == '[' {
		return splitArray(text, each)
	}
	end := bytes.IndexByte(text, '\n')
	if end < 0 {
		return each(text)
	}
	// More than one line: a record a line unless the first one, by itself, is the
	// beginning of an object. Only then is it worth parsing.
	if text[0] == '{' && !wellFormed(text[:end]) {
		// In a pretty-printed object the lines between the braces are indented.
		if wellFormed(text) || !bytes.Contains(text, []byte("\n{")) {
			return each(text)
		}
	}
	return splitLines(text, each)
}

func splitLines(text []byte, each func(raw []byte) error) error {
	if bytes.Count(text, []byte{'\n'}) >= MaxEventsPerMessage {
		n := 0
		for line := range bytes.SplitSeq(text, []byte{'\n'}) {
			if len(trim(line)) > 0 {
				n++
			}
		}
		if n > MaxEventsPerMessage {
			return errTooMany()
		}
	}
	for len(text) > 0 {
		line := text
		if end := bytes.IndexByte(text, '\n'); end >= 0 {
			line, text = text[:end], text[end+1:]
		} else {
			text = nil
		}
		if line = trim(line); len(line) == 0 {
			continue
		}
		if err := each(line); err != nil {
			return err
		}
	}
	return nil
}

func splitArray(text []byte, each func(raw []byte) error) error {
	if !wellFormed(text) {
		return each(text)
	}
	n := 0
	c := cursor{b: text, i: 1}
	for c.element() {
		c.skip()
		n++
	}
	if n > MaxEventsPerMessage {
		return errTooMany()
	}
	c = cursor{b: text, i: 1}
	for c.element() {
		start := c.i
		c.skip()
		if err := each(text[start:c.i]); err != nil {
			return err
		}
	}
	return nil
}

// trim is b without JSON's white space around it.
func trim(b []byte) []byte {
	for len(b) > 0 && space(b[0]) {
		b = b[1:]
	}
	for len(b) > 0 && space(b[len(b)-1]) {
		b = b[:len(b)-1]
	}
	return b
}

func space(ch byte) bool { return ch == ' ' || ch == '\t' || ch == '\r' || ch == '\n' }

// wellFormed reports whether b is one JSON value as far as its structure goes.
// Text that is not UTF-8 and names that come twice are faults of the event that
// has them, not of its neighbours.
func wellFormed(b []byte) bool {
	return jsontext.Value(b).IsValid(jsontext.AllowInvalidUTF8(true), jsontext.AllowDuplicateNames(true))
}

func errTooMany() error {
	return &Error{Rule: "more than " + strconv.Itoa(MaxEventsPerMessage) + " events: send them in several messages"}
}
