package cloudevents

import (
	"math"
	"time"

	"tollbook/domain"
)

const (
	ruleTime      = "must be an RFC 3339 time with offset, such as 2026-10-01T08:30:00Z"
	ruleTimeRange = "must be from 2000-01-01 to 2200-01-01"
	ruleTimeNanos = "must not be finer than a nanosecond (nine decimals)"
)

// parseTime reads RFC 3339. Unlike time.Parse it takes t and z in small letters,
// as the RFC says, and neither a decimal comma nor more digits than are kept.
// A leap second is refused: no Instant stands for it. rule is empty if all is well.
func parseTime(b []byte) (t domain.Instant, rule string) {
	if len(b) < len("2006-01-02T15:04:05Z") ||
		b[4] != '-' || b[7] != '-' || b[10]|0x20 != 't' || b[13] != ':' || b[16] != ':' {
		return 0, ruleTime
	}
	year := two(b, 0)*100 + two(b, 2)
	month, day := two(b, 5), two(b, 8)
	hour, minute, second := two(b, 11), two(b, 14), two(b, 17)
	if two(b, 0) < 0 || two(b, 2) < 0 || month < 1 || month > 12 || day < 1 || day > daysIn(year, month) ||
		hour < 0 || hour > 23 || minute < 0 || minute > 59 || second < 0 || second > 59 {
		return 0, ruleTime
	}
	b = b[19:]
	nanos := int64(0)
	if b[0] == '.' {
		n := 1
		for ; n < len(b) && b[n] >= '0' && b[n] <= '9'; n++ {
			if n <= 9 {
				nanos = nanos*10 + int64(b[n]-'0')
			}
		}
		if n == 1 {
			return 0, ruleTime
		}
		if n > 10 {
			return 0, ruleTimeNanos
		}
		for i := n; i < 10; i++ {
			nanos *= 10
		}
		b = b[n:]
	}
	offset, ok := parseOffset(b)
	if !ok {
		return 0, ruleTime
	}
	seconds := daysBefore(year, month, day)*86400 + int64(hour*3600+minute*60+second) - offset
	const low, high = int64(domain.MinInstant) / int64(time.Second), int64(domain.MaxInstant) / int64(time.Second)
	if seconds < low || seconds > high || seconds == high && nanos > 0 {
		return 0, ruleTimeRange
	}
	return domain.Instant(seconds*int64(time.Second) + nanos), ""
}

// parseOffset reads Z or +01:00, in seconds east of Greenwich.
func parseOffset(b []byte) (seconds int64, ok bool) {
	if len(b) == 1 && b[0]|0x20 == 'z' {
		return 0, true
	}
	if len(b) != len("+01:00") || b[0] != '+' && b[0] != '-' || b[3] != ':' {
		return 0, false
	}
	hour, minute := two(b, 1), two(b, 4)
	if hour < 0 || hour > 23 || minute < 0 || minute > 59 {
		return 0, false
	}
	seconds = int64(hour*3600 + minute*60)
	if b[0] == '-' {
		seconds = -seconds
	}
	return seconds, true
}

// two is the number of two digits at b[i], or some number below 0.
func two(b []byte, i int) int {
	tens, ones := b[i]-'0', b[i+1]-'0'
	if tens > 9 || ones > 9 {
		return math.MinInt16
	}
	return int(tens)*10 + int(ones)
}

func daysIn(year, month int) int {
	switch month {
	case 2:
		if year%4 == 0 && (year%100 != 0 || year%400 == 0) {
			return 29
		}
		return 28
	case 4, 6, 9, 11:
		return 30
	}
	return 31
}

// daysBefore counts the days from 1970-01-01 to the given one. The year is taken
// to begin in March, so that the leap day is its last.
func daysBefore(year, month, day int) int64 {
	y, m := int64(year), int64(month)-3
	if m < 0 {
		y, m = y-1, m+12
	}
	if y < 0 { // January and February of year 0: out of range anyhow
		return math.MinInt32
	}
	return y*365 + y/4 - y/100 + y/400 + (m*153+2)/5 + int64(day) - 1 - 719468
}

// parseInteger reads a JSON number that is an integer in value: 60000, 6e4 and
// 60000.0 are one. exact is false for a fraction, and for what does not fit.
func parseInteger(b []byte) (negative bool, v uint64, exact bool) {
	if negative = b[0] == '-'; negative {
		b = b[1:]
	}
	if len(b) <= 18 && allDigits(b) {
		for _, ch := range b {
			v = v*10 + uint64(ch-'0')
		}
		return negative, v, true
	}
	// The value is digits × 10^exponent; zeros at the end of digits are counted
	// apart, as they only matter if another digit follows.
	exponent, zeros, point := 0, 0, false
	i := 0
	for ; i < len(b) && b[i]|0x20 != 'e'; i++ {
		if b[i] == '.' {
			point = true
			continue
		}
		if point {
			exponent--
		}
		if b[i] == '0' {
			zeros++
			continue
		}
		if v > 0 {
			for ; zeros > 0; zeros-- {
				if v, exact = times10(v); !exact {
					return negative, 0, false
				}
			}
		}
		zeros = 0
		if v, exact = times10(v); !exact || v > math.MaxUint64-uint64(b[i]-'0') {
			return negative, 0, false
		}
		v += uint64(b[i] - '0')
	}
	if v == 0 {
		return false, 0, true
	}
	exponent += zeros + parseExponent(b[i:])
	if exponent < 0 {
		return negative, 0, false
	}
	for ; exponent > 0; exponent-- {
		if v, exact = times10(v); !exact {
			return negative, 0, false
		}
	}
	return negative, v, true
}

// parseExponent reads the e+3 of a JSON number, or nothing.
func parseExponent(b []byte) int {
	const far = 1 << 40 // longer than any event; adding to it cannot overflow
	if len(b) == 0 {
		return 0
	}
	b = b[1:]
	negative := b[0] == '-'
	if negative || b[0] == '+' {
		b = b[1:]
	}
	e := 0
	for _, ch := range b {
		e = min(e*10+int(ch-'0'), far)
	}
	if negative {
		return -e
	}
	return e
}

func times10(v uint64) (uint64, bool) {
	return v * 10, v <= math.MaxUint64/10
}

// parseSequence reads a counter as CloudEvents has it, a string of digits,
// perhaps with leading zeros.
func parseSequence(b []byte) (v uint64, ok bool) {
	for _, ch := range b {
		if ch < '0' || ch > '9' {
			return 0, false
		}
		if v, ok = times10(v); !ok || v > math.MaxUint64-uint64(ch-'0') {
			return 0, false
		}
		v += uint64(ch - '0')
	}
	return v, len(b) > 0
}
