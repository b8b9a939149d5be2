package cloudevents

import (
	"encoding/base64"
	"errors"
	"slices"
	"time"
	_ "time/tzdata" // zone names must mean the same on a machine without zone files

	"tollbook/domain"
)

// A list is read to at most MaxListLength entries, repeats included: more than
// there are countries (676 codes at most), and far more than anything else that is listed.
const MaxListLength = 1000

// MaxRawBytes bounds the bytes a record.suspended carries: the largest payload
// a NATS server can be configured to take, 64 MiB.
const MaxRawBytes = 64 << 20

// Rules that several fields share.
const (
	ruleRequired = "required"
	ruleString   = "must be a string"
	ruleName     = "must be text of at most 128 bytes without control characters"
	ruleReason   = "must be text of at most 1024 bytes without control characters"
	ruleVisible  = "must be 1 to 128 bytes of visible ASCII"
	ruleCountry  = "must be an ISO 3166-1 country code of two capitals, such as IT"
	ruleZone     = "must be the name of a time zone, such as Europe/Rome"
	ruleMoney    = "must be a decimal string in quotes, such as \"0.0160\""
	ruleList     = "has more than 1000 entries"
	ruleDigits   = "must be 1 to 15 digits"
)

// text reads a string of at most max bytes without control characters; "" is
// null or empty.
func (c *cursor) text(max int, rule string) string {
	at, b := c.bytes(rule)
	if len(b) == 0 {
		return ""
	}
	if !plain(b, max) {
		c.fail(at, rule)
		return ""
	}
	return string(b)
}

// name reads text of at most domain.MaxNameBytes.
func (c *cursor) name() string { return c.text(domain.MaxNameBytes, ruleName) }

// nameLike is name, without a copy where the text is the same as before. The
// rows of a deck repeat themselves.
func (c *cursor) nameLike(before string) string {
	at, b := c.bytes(ruleName)
	if string(b) == before {
		return before
	}
	if !plain(b, domain.MaxNameBytes) {
		c.fail(at, ruleName)
		return ""
	}
	return string(b)
}

// bytes reads a string; nil at null. at is where it began.
func (c *cursor) bytes(rule string) (at int, b []byte) {
	switch c.next() {
	case '"':
		at = c.i
		return at, c.str()
	case 'n':
		at = c.i
		c.i += len("null")
		return at, nil
	}
	c.fail(c.i, rule)
	return c.i, nil
}

func plain(b []byte, max int) bool {
	if len(b) > max {
		return false
	}
	for i, ch := range b {
		if ch < ' ' || ch == 0x7f {
			return false
		}
		if ch == 0xc2 && b[i+1] < 0xa0 { // U+0080 to U+009F; valid UTF-8 has a byte after 0xc2
			return false
		}
	}
	return true
}

// visible reads 1 to 128 bytes of visible ASCII; "" at null.
func (c *cursor) visible() string {
	at, b := c.bytes(ruleVisible)
	if b == nil || c.err != nil {
		return ""
	}
	if !visibleASCII(b) {
		c.fail(at, ruleVisible)
		return ""
	}
	return string(b)
}

func visibleASCII(b []byte) bool {
	for _, ch := range b {
		if ch <= ' ' || ch >= 0x7f {
			return false
		}
	}
	return len(b) >= 1 && len(b) <= domain.MaxSourceBytes && len(b) <= domain.MaxIDBytes
}

// enum reads one of names.
func (c *cursor) enum(names []string, rule string) (index uint8, has bool) {
	at, b := c.bytes(rule)
	if b == nil || c.err != nil {
		return 0, false
	}
	for i, name := range names {
		if string(b) == name {
			return uint8(i), true
		}
	}
	c.fail(at, rule)
	return 0, false
}

// integer reads an integer from low to high, however it is spelled.
func (c *cursor) integer(low, high int64, rule string) (v int64, has bool) {
	switch ch := c.next(); {
	case ch == 'n':
		c.skip()
		return 0, false
	case ch == '-' || ch >= '0' && ch <= '9':
		at := c.i
		negative, magnitude, exact := parseInteger(c.literal())
		if exact && magnitude <= 1<<62 {
			if v = int64(magnitude); negative {
				v = -v
			}
			if v >= low && v <= high {
				return v, true
			}
		}
		c.fail(at, rule)
		return 0, false
	}
	c.fail(c.i, rule)
	return 0, false
}

// boolean reads true or false; false at null.
func (c *cursor) boolean() bool {
	switch c.next() {
	case 't':
		c.skip()
		return true
	case 'f', 'n':
		c.skip()
		return false
	}
	c.fail(c.i, "must be true or false")
	return false
}

// instant reads a time; 0 at null.
func (c *cursor) instant() domain.Instant {
	at, b := c.bytes(ruleTime)
	if b == nil || c.err != nil {
		return 0
	}
	t, rule := parseTime(b)
	if rule != "" {
		c.fail(at, rule)
	}
	return t
}

// date reads a day; 0 at null.
func (c *cursor) date() domain.Date {
	return parsed(c, "must be a date such as 2026-10-01", domain.ParseDate)
}

// parsed reads a string and gives it to parse; zero at null.
func parsed[T any](c *cursor, rule string, parse func(string) (T, error)) (v T) {
	at, b := c.bytes(rule)
	if b == nil || c.err != nil {
		return v
	}
	v, err := parse(string(b))
	if err != nil {
		c.fail(at, err.Error())
	}
	return v
}

// number reads a telephone number. It is parsed apart because a call through a
// func value would put the text on the heap.
func (c *cursor) number() (n domain.Number, has bool) {
	at, b := c.bytes("must be a telephone number in a string")
	if b == nil || c.err != nil {
		return n, false
	}
	n, err := domain.ParseNumber(string(b))
	if err != nil {
		c.fail(at, err.Error())
	}
	return n, true
}

// micros reads a price or fee; 0 at null.
func (c *cursor) micros() (v domain.Micros, has bool) {
	at, b := c.bytes(ruleMoney)
	if b == nil || c.err != nil {
		return 0, false
	}
	v, err := domain.ParseMicros(string(b))
	if err != nil {
		c.fail(at, err.Error())
	}
	return v, true
}

// increment reads seconds/seconds; the default at null.
func (c *cursor) increment() domain.Increment {
	at, b := c.bytes("must be a string such as \"60/60\"")
	if b == nil || c.err != nil || string(b) == "60/60" {
		return domain.DefaultIncrement
	}
	v, err := domain.ParseIncrement(string(b))
	if err != nil {
		c.fail(at, err.Error())
	}
	return v
}

// currency reads an ISO 4217 code; "" at null.
func (c *cursor) currency() domain.Currency {
	return parsed(c, "must be an ISO 4217 code in a string, such as \"EUR\"", domain.ParseCurrency)
}

// country reads two capitals; "" at null.
func (c *cursor) country() string { return c.countryLike("") }

// countryLike is country, without a copy where it is the same as before.
func (c *cursor) countryLike(before string) string {
	at, b := c.bytes(ruleCountry)
	switch {
	case b == nil || c.err != nil:
		return ""
	case !isCountry(b):
		c.fail(at, ruleCountry)
		return ""
	case string(b) == before:
		return before
	}
	return string(b)
}

func isCountry(b []byte) bool {
	return len(b) == 2 && b[0] >= 'A' && b[0] <= 'Z' && b[1] >= 'A' && b[1] <= 'Z'
}

// zone reads the name of a time zone; UTC at null.
func (c *cursor) zone() (string, *time.Location) {
	at, b := c.bytes(ruleZone)
	if b == nil || c.err != nil {
		return "UTC", time.UTC
	}
	name := string(b)
	zone, err := time.LoadLocation(name)
	switch name {
	case "", "Local", "localtime", "posixrules": // these load, but mean what the machine says
		err = errors.ErrUnsupported
	}
	if err != nil || !plain(b, domain.MaxNameBytes) {
		c.fail(at, ruleZone)
		return "", nil
	}
	return name, zone
}

// digits reads 1 to 15 digits; "" at null or empty.
func (c *cursor) digits() string {
	at, b := c.bytes(ruleDigits)
	if len(b) == 0 || c.err != nil {
		return ""
	}
	if !allDigits(b) || len(b) > domain.MaxDigits {
		c.fail(at, ruleDigits)
	}
	return string(b)
}

func allDigits(b []byte) bool {
	for _, ch := range b {
		if ch < '0' || ch > '9' {
			return false
		}
	}
	return len(b) > 0
}

// base64 reads standard base64 with padding; nil at null or empty.
func (c *cursor) base64() []byte {
	const rule = "must be standard base64 of at most 64 MiB"
	at, b := c.bytes(rule)
	if len(b) == 0 || c.err != nil {
		return nil
	}
	if base64.StdEncoding.DecodedLen(len(b)) > MaxRawBytes+2 {
		c.fail(at, rule)
		return nil
	}
	raw, err := base64.StdEncoding.Strict().AppendDecode(nil, b)
	if err != nil || len(raw) > MaxRawBytes {
		c.fail(at, rule)
	}
	return raw
}

// set reads an array that means a set: sorted, each entry once. nil where it is
// empty or null. one reads an entry and leaves "" where there was none.
func (c *cursor) set(one func() string, rule string) []string {
	var list []string
	c.list(func(at int) {
		entry := one()
		if entry == "" {
			c.fail(at, rule)
		}
		list = append(list, entry)
	})
	slices.Sort(list)
	return slices.Compact(list)
}

// list calls each at every element of an array.
func (c *cursor) list(each func(at int)) {
	at := c.i
	if !c.array() {
		return
	}
	for n := 0; c.element(); n++ {
		if n == MaxListLength {
			c.fail(at, ruleList)
			return
		}
		each(c.i)
	}
}

// byCountry calls each at the value of every member of an object whose names are
// countries, or domain.AnyCountry where any is true. It returns false at null.
func (c *cursor) byCountry(any bool, each func(country string)) bool {
	at := c.i
	if !c.object() {
		return false
	}
	for {
		name, ok := c.member()
		if !ok {
			return true
		}
		if !isCountry(name) && !(any && string(name) == domain.AnyCountry) {
			c.failName(at, name, "names must be ISO 3166-1 country codes of two capitals, such as IT")
			return true
		}
		each(string(name))
	}
}
