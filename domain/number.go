package domain

import (
	"errors"
	"strconv"
)

// MaxDigits is the longest E.164 number, in digits.
const MaxDigits = 15

// A Number is a telephone number as a switch reports it: an E.164 number
// (Plus), a short number (2 to 6 digits, no plus), or, as the zero value,
// an anonymous caller. The last digits may be masked; masked digits are not
// part of Digits and end the number for prefix matching (R6).
type Number struct {
	Digits uint64 // the readable digits as one decimal number
	Len    uint8  // how many digits are readable, leading zeros included
	Masked uint8  // how many digits after them are '*'
	Plus   bool
}

var (
	errNumberForm   = errors.New("must be + and 2 to 15 digits, or 2 to 6 digits without +")
	errNumberMasked = errors.New("only the last digits of a number with + may be masked as *")
)

// ParseNumber reads +390612345, +39061****, 112 or anonymous.
func ParseNumber(s string) (Number, error) {
	if s == "anonymous" {
		return Number{}, nil
	}
	var n Number
	if len(s) > 0 && s[0] == '+' {
		n.Plus = true
		s = s[1:]
	}
	if len(s) < 2 || len(s) > MaxDigits || !n.Plus && len(s) > 6 {
		return Number{}, errNumberForm
	}
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case c == '*' && n.Plus:
			n.Masked++
		case c == '*' || c >= '0' && c <= '9' && n.Masked > 0:
			return Number{}, errNumberMasked
		case c >= '0' && c <= '9':
			n.Digits = n.Digits*10 + uint64(c-'0')
			n.Len++
		default:
			return Number{}, errNumberForm
		}
	}
	return n, nil
}

// Anonymous reports whether the number was withheld.
func (n Number) Anonymous() bool { return n == Number{} }

// Short reports whether it is an emergency, service or internal number.
func (n Number) Short() bool { return !n.Plus && n.Len > 0 }

// Valid reports whether n is what [ParseNumber] returns for some text. Readers
// of stored numbers use it.
func (n Number) Valid() bool {
	total := int(n.Len) + int(n.Masked)
	switch {
	case n.Anonymous():
		return true
	case total < 2 || total > MaxDigits || n.Digits >= pow10[n.Len]:
		return false
	case n.Plus:
		return true
	default:
		return n.Masked == 0 && n.Len <= 6
	}
}

// Append adds the number's text to dst.
func (n Number) Append(dst []byte) []byte {
	if n.Anonymous() {
		return append(dst, "anonymous"...)
	}
	if n.Plus {
		dst = append(dst, '+')
	}
	if n.Len > 0 {
		var digits [20]byte
		text := strconv.AppendUint(digits[:0], n.Digits, 10)
		for i := len(text); i < int(n.Len); i++ {
			dst = append(dst, '0')
		}
		dst = append(dst, text...)
	}
	for range n.Masked {
		dst = append(dst, '*')
	}
	return dst
}

func (n Number) String() string { return string(n.Append(nil)) }

var pow10 = func() (p [MaxDigits + 1]uint64) {
	p[0] = 1
	for i := 1; i < len(p); i++ {
		p[i] = p[i-1] * 10
	}
	return p
}()
