package domain

import (
	"regexp"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// ShownDigits is how much of a telephone number errors and logs show: the
// country and its first digits. A number has at least MaskedFrom digits; what has
// fewer is short or internal and belongs to nobody.
const (
	ShownDigits = 5
	MaskedFrom  = 7
)

// MaskNumbers makes text that others chose fit to be shown: of every telephone
// number in it the first [ShownDigits] digits stay and each of the others becomes *.
//
// A number is [MaskedFrom] or more digits with nothing between them but what people
// write there: spaces, dots, hyphens, slashes, brackets, invisible characters. A *
// counts as a digit that is masked already; +, letters and all else end a number.
// A character may be written as %2B or \u002b. Only what cannot be taken for a
// number stays whole: an RFC 3339 time or date, a UUID, and 32 or more
// hexadecimal digits with a letter among them. In doubt it is masked.
//
// It is for values, not for whole lines: it masks a position or a limit of seven
// digits just so. Masked text stays as it is.
func MaskNumbers(text string) string {
	if !mayHaveNumber(text) {
		return text
	}
	var out strings.Builder
	before := ' '
	for i := 0; i < len(text); {
		if !wordy(before) && before != '+' {
			if n := notANumber(text[i:]); n > 0 {
				out.WriteString(text[i : i+n])
				before, i = rune(text[i+n-1]), i+n
				continue
			}
		}
		r, n := character(text[i:])
		if unicode.IsDigit(r) {
			n = maskRun(&out, text[i:])
		} else {
			out.WriteString(text[i : i+n])
		}
		before, i = r, i+n
	}
	return out.String()
}

// mayHaveNumber is quick to say no. Each digit takes a byte, however it is spelled.
func mayHaveNumber(text string) bool {
	n := 0
	for i := range len(text) {
		if c := text[i]; c >= '0' && c <= '9' || c == '*' || c >= utf8.RuneSelf {
			n++
		}
	}
	return n >= MaskedFrom
}

// maskRun writes the run of digits that text begins with, masked if it is a
// number, and returns how long it is.
func maskRun(out *strings.Builder, text string) (end int) {
	digits := 0
	for i := 0; i < len(text); {
		r, n := character(text[i:])
		i += n
		switch {
		case unicode.IsDigit(r) || r == '*':
			digits++
			end = i
		case !between(r):
			i = len(text)
		}
	}
	if digits < MaskedFrom {
		out.WriteString(text[:end])
		return end
	}
	shown := 0
	for i := 0; i < end; {
		r, n := character(text[i:end])
		switch {
		case !unicode.IsDigit(r):
			out.WriteString(text[i : i+n])
		case shown < ShownDigits:
			shown++
			out.WriteString(text[i : i+n])
		default:
			out.WriteByte('*')
		}
		i += n
	}
	return end
}

// between reports whether r may stand between two digits of a number.
func between(r rune) bool {
	switch r {
	case '.', '/', '(', ')', '[', ']', '·', '•':
		return true
	}
	return unicode.In(r, unicode.White_Space, unicode.Pd, unicode.Cf)
}

func wordy(r rune) bool { return r == '_' || unicode.IsLetter(r) || unicode.IsDigit(r) }

// character is the first character of text and its length there, where %2B,
// \u002b and \t are one each. What spells nothing that a number has is not read so:
// in 50%4412345678 the digits are digits.
func character(text string) (r rune, n int) {
	switch {
	case text[0] == '%' && len(text) >= 3:
		if v, err := strconv.ParseUint(text[1:3], 16, 8); err == nil && v < utf8.RuneSelf && ofNumber(rune(v)) {
			return rune(v), 3
		}
	case text[0] == '\\' && len(text) >= 6 && text[1] == 'u':
		if v, err := strconv.ParseUint(text[2:6], 16, 16); err == nil && ofNumber(rune(v)) {
			return rune(v), 6
		}
	case text[0] == '\\' && len(text) >= 2 && strings.IndexByte("tnrfv", text[1]) >= 0:
		return ' ', 2
	case text[0] == '\\' && len(text) >= 2 && text[1] == '/':
		return '/', 2
	}
	return utf8.DecodeRuneInString(text)
}

func ofNumber(r rune) bool { return unicode.IsDigit(r) || between(r) || r == '+' || r == '*' }

var (
	timeForm   = regexp.MustCompile(`^\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d(?::\d\d(?:\.\d{1,9}[Zz]?\b)?)?`)
	dateForm   = regexp.MustCompile(`^(?:19|20|21)\d\d-(?:0[1-9]|1[0-2])-(?:0[1-9]|[12]\d|3[01])(?:[Tt]|\b)`)
	uuidForm   = regexp.MustCompile(`^[0-9A-Fa-f]{8}(?:-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}\b`)
	digestForm = regexp.MustCompile(`^[0-9A-Fa-f]{32,}\b`)
)

// notANumber is the length of the time, date, UUID or digest that text begins
// with; 0 if there is none.
func notANumber(text string) int {
	if n := max(len(timeForm.FindString(text)), len(uuidForm.FindString(text))); n > 0 {
		return n
	}
	if n := len(digestForm.FindString(text)); strings.ContainsAny(text[:n], "abcdefABCDEF") {
		return n
	}
	n := len(dateForm.FindString(text))
	if n == 0 || text[n-1]|0x20 == 't' {
		return n
	}
	for rest := text[n:]; rest != ""; {
		r, size := character(rest)
		if unicode.IsDigit(r) {
			return 0 // it goes on as numbers do
		}
		if !between(r) {
			break
		}
		rest = rest[size:]
	}
	return n
}
