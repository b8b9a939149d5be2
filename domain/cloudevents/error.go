package cloudevents

import (
	"bytes"
	"errors"
	"io"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/go-json-experiment/json/jsontext"

	"tollbook/domain"
)

// An Error says what is wrong with an event. It is the sender's to repair; the
// same bytes are refused again. Every error of Decode, DecodeBinary, DecodeData
// and Split itself is an *Error.
type Error struct {
	Field string // such as data.buckets[0].minutes.IT; empty where no field is at fault
	Value string // as it was written but for telephone numbers, printable, at most some maxValueBytes; empty where there is none
	Rule  string // what it must be
}

// maxValueBytes is how much of a refused value is shown: enough to find it, too
// little to fill a log.
const maxValueBytes = 64

// Error is one line: field, value, rule.
func (e *Error) Error() string {
	var b strings.Builder
	for _, part := range []string{e.Field, e.Value, e.Rule} {
		if part == "" {
			continue
		}
		if b.Len() > 0 {
			b.WriteString(": ")
		}
		b.WriteString(part)
	}
	return b.String()
}

// shown is the beginning of what a sender wrote, without the ends of telephone
// numbers. More of it is masked than is kept, so that no number is cut off before
// it is known to be one.
func shown(b []byte) string {
	const spelled = 8 // a digit has six bytes as \u0030
	return clip([]byte(domain.MaskNumbers(string(b[:min(len(b), spelled*maxValueBytes)]))))
}

// clip is the beginning of b in characters that can be shown on one line.
func clip(b []byte) string {
	var out []byte
	for len(b) > 0 {
		r, n := utf8.DecodeRune(b)
		if len(out)+n > maxValueBytes {
			return string(append(out, "…"...))
		}
		if unicode.IsPrint(r) {
			out = utf8.AppendRune(out, r)
		} else {
			quoted := strconv.QuoteRuneToASCII(r)
			out = append(out, quoted[1:len(quoted)-1]...)
		}
		b = b[n:]
	}
	return string(out)
}

// syntaxError says why jsontext does not take raw.
func syntaxError(raw []byte) *Error {
	d := jsontext.NewDecoder(bytes.NewBuffer(raw))
	_, err := d.ReadValue()
	if err == io.EOF {
		return &Error{Rule: "empty: an event is one JSON object"}
	}
	if err == nil {
		at := d.InputOffset()
		if _, err = d.ReadToken(); err == nil {
			return &Error{Rule: "not one JSON object: there is more after byte " + strconv.FormatInt(at, 10)}
		}
	}
	var syntactic *jsontext.SyntacticError
	if !errors.As(err, &syntactic) {
		return &Error{Rule: "not valid JSON: " + clip([]byte(err.Error()))}
	}
	what := "cannot be read"
	switch {
	case errors.Is(syntactic.Err, io.ErrUnexpectedEOF):
		what = "ends in the middle"
	case syntactic.Err != nil:
		what = clip([]byte(syntactic.Err.Error()))
	}
	return &Error{
		Field: dotted(syntactic.JSONPointer),
		Rule:  "not valid JSON at byte " + strconv.FormatInt(syntactic.ByteOffset, 10) + ": " + what,
	}
}

// dotted is a JSON pointer as the other errors write paths.
func dotted(p jsontext.Pointer) string {
	var b []byte
	for token := range p.Tokens() {
		token = domain.MaskNumbers(token) // a member's name is the sender's, as values are
		if _, err := strconv.Atoi(token); err == nil && len(b) > 0 {
			b = append(b, '[')
			b = append(b, token...)
			b = append(b, ']')
			continue
		}
		if len(b) > 0 {
			b = append(b, '.')
		}
		b = append(b, token...)
	}
	return clip(b)
}
