package domain

import (
	"fmt"
	"time"
)

// An Instant is a moment in nanoseconds since 1970-01-01T00:00:00Z.
type Instant int64

// MinInstant and MaxInstant bound every time an event may carry: 2000-01-01 and
// 2200-01-01. A switch whose clock is outside them is broken, and an Instant
// holds the range with room for arithmetic.
const (
	MinInstant = Instant(946684800 * int64(time.Second))
	MaxInstant = Instant(7258118400 * int64(time.Second))
)

// InstantOf is the Instant of t.
func InstantOf(t time.Time) Instant { return Instant(t.UnixNano()) }

// Time is t in UTC.
func (t Instant) Time() time.Time { return time.Unix(0, int64(t)).UTC() }

// Append adds t as RFC 3339 in UTC with Z, without trailing zeros.
func (t Instant) Append(dst []byte) []byte {
	return t.Time().AppendFormat(dst, time.RFC3339Nano)
}

func (t Instant) String() string { return string(t.Append(nil)) }

// A Date is a day of the calendar as yyyymmdd, so that dates compare as numbers.
type Date int32

// ParseDate reads 2026-10-01.
func ParseDate(s string) (Date, error) {
	t, err := time.Parse(time.DateOnly, s)
	if err != nil {
		return 0, fmt.Errorf("must be a date such as 2026-10-01")
	}
	return Date(t.Year()*10000 + int(t.Month())*100 + t.Day()), nil
}

func (d Date) String() string {
	return fmt.Sprintf("%04d-%02d-%02d", d/10000, d/100%100, d%100)
}

// A Month is a calendar month, counted from year 0: year*12 + month-1.
type Month int32

// ParseMonth reads 2026-10.
func ParseMonth(s string) (Month, error) {
	t, err := time.Parse("2006-01", s)
	if err != nil {
		return 0, fmt.Errorf("%q is not a month such as 2026-10", s)
	}
	return MonthOf(t), nil
}

// MonthOf is the month t's own calendar shows.
func MonthOf(t time.Time) Month { return Month(t.Year()*12 + int(t.Month()) - 1) }

// FirstDay is the month's first day.
func (m Month) FirstDay() Date { return Date(int(m/12)*10000 + (int(m%12)+1)*100 + 1) }

// Start is the month's first instant in zone.
func (m Month) Start(zone *time.Location) Instant {
	return InstantOf(time.Date(int(m/12), time.Month(m%12+1), 1, 0, 0, 0, 0, zone))
}

func (m Month) String() string { return fmt.Sprintf("%04d-%02d", m/12, m%12+1) }
