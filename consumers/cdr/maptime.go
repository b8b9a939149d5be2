package cdr

import (
	"math"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/ncruces/go-strftime"

	"tollbook/domain"
)

// A timeReader reads times as one switch writes them.
type timeReader struct {
	form   string // of checkTime
	layout string // Go's, of a strftime form
	zone   *time.Location
	local  bool // the layout has no offset
}

func newTimeReader(form, zone string) (*timeReader, error) {
	r := &timeReader{form: form}
	if !strings.Contains(form, "%") {
		return r, nil
	}
	var err error
	if r.layout, err = strftime.Layout(form); err != nil {
		return nil, err
	}
	r.local = !strings.Contains(form, "%z") && !strings.Contains(form, "%:z")
	r.zone, err = zoneNamed(zone)
	return r, err
}

// zones are the time zones that switches were found to have; a name is read once.
var zones sync.Map // of *time.Location by name

func zoneNamed(name string) (*time.Location, error) {
	if zone, ok := zones.Load(name); ok {
		return zone.(*time.Location), nil
	}
	zone, err := time.LoadLocation(name)
	if err == nil {
		zones.Store(name, zone)
	}
	return zone, err
}

// read is the time that text says; 0: none. notBefore chooses between the two
// instants that a local time is in the hour that a clock goes through twice: the
// first that is not before it.
func (r *timeReader) read(text string, notBefore domain.Instant) (t domain.Instant, rule string) {
	if noTime(text) {
		return 0, ""
	}
	switch r.form {
	case timeUnix, timeUnixMS, timeUnixUS:
		unit := map[string]string{timeUnix: "s", timeUnixMS: "ms", timeUnixUS: "us"}[r.form]
		ns, ok := lengthOf(text, unit)
		if !ok {
			return 0, "a number since 1970 is expected (time is " + r.form + ")"
		}
		if t = domain.Instant(ns); t < domain.MinInstant || t >= domain.MaxInstant {
			return 0, "not between 2000 and 2200 as time is " + r.form + "; look at that option, and at the switch's clock"
		}
		return t, ""
	case timeRFC3339:
		parsed, err := time.Parse(time.RFC3339, text)
		if err != nil {
			return 0, "an RFC 3339 time with offset is expected, such as 2026-10-01T08:30:00Z"
		}
		return instantOf(parsed)
	}
	parsed, err := time.Parse(r.layout, text)
	if err != nil {
		return 0, "a time written as " + r.form + " is expected"
	}
	if _, rule := instantOf(parsed); rule != "" || !r.local {
		t, rule := instantOf(parsed)
		return t, rule
	}
	first, second := r.instants(parsed)
	switch {
	case first.IsZero():
		return 0, "there was no such time in " + r.zone.String() + ", where the clock went forward over it"
	case domain.InstantOf(first) < notBefore:
		first = second
	}
	return instantOf(first)
}

// instants are when clocks of the zone showed what wall shows in UTC: once, twice,
// or, as the zero time, never.
func (r *timeReader) instants(wall time.Time) (first, second time.Time) {
	for _, near := range []time.Duration{-24 * time.Hour, 24 * time.Hour} {
		_, offset := wall.Add(near).In(r.zone).Zone()
		t := wall.Add(-time.Duration(offset) * time.Second)
		if _, there := t.In(r.zone).Zone(); there != offset {
			continue
		}
		if first.IsZero() {
			first = t
		}
		second = t
	}
	if second.Before(first) {
		first, second = second, first
	}
	return first, second
}

// noTime reports whether text is one of the ways to say that there is no time:
// nothing, zeros, or the year 1 of .NET.
func noTime(text string) bool {
	return strings.Trim(text, "0-:. TZ") == "" || strings.HasPrefix(text, "0001-01-01")
}

// lengthUnits are the units of lengths, as people are told of them.
var lengthUnits = map[string]string{
	"s":  "seconds such as 60 or 0.397 are",
	"ms": "whole milliseconds such as 397 are",
	"us": "whole microseconds such as 397000 are",
}

// lengthOf reads a number of s, with up to nine decimals, ms or us.
func lengthOf(text, unit string) (ns int64, ok bool) {
	scale := int64(time.Millisecond)
	switch unit {
	case "ms":
	case "us":
		scale = int64(time.Microsecond)
	default:
		return nanoseconds(text)
	}
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil || !digits(text) || n > math.MaxInt64/scale {
		return 0, false
	}
	return n * scale, true
}
