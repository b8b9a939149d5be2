package cloudevents_test

import (
	"errors"
	"fmt"
	"math/big"
	"regexp"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"tollbook/domain"
	"tollbook/domain/cloudevents"
)

// envelope decodes a void with one attribute changed.
func envelope(name, value string) (domain.Event, error) {
	attributes := map[string]string{"time": `"2026-10-02T00:00:00Z"`, "sequence": "null"}
	attributes[name] = value
	return cloudevents.Decode(fmt.Appendf(nil, `{"specversion":"1.0","type":"tollbook.call.voided.v1","source":"s","id":"1","time":%s,"sequence":%s,"data":%s}`,
		attributes["time"], attributes["sequence"], voidData), "contoso")
}

// TestEveryDay compares all days an Instant can have with package time.
func TestEveryDay(t *testing.T) {
	for day := domain.MinInstant.Time(); !day.After(domain.MaxInstant.Time()); day = day.AddDate(0, 0, 1) {
		e, err := envelope("time", day.Format(`"2006-01-02T15:04:05Z07:00"`))
		if err != nil {
			t.Fatal(err)
		}
		if e.Time != domain.InstantOf(day) {
			t.Fatalf("%v became %v", day, e.Time)
		}
	}
}

// TestTimesAsTimeParse: apart from the differences named, a time is read as
// package time reads it, or refused with it.
func TestTimesAsTimeParse(t *testing.T) {
	taken := 0
	rapid.Check(t, func(t *rapid.T) {
		offset := rapid.IntRange(-23*60-59, 23*60+59).Draw(t, "offset")
		text := []byte(genInstant.Draw(t, "instant").Time().In(time.FixedZone("", offset*60)).Format(time.RFC3339Nano))
		for range rapid.IntRange(0, 2).Draw(t, "changes") {
			text[rapid.IntRange(0, len(text)-1).Draw(t, "at")] = rapid.SampledFrom([]byte("0123459:-+.TZ ")).Draw(t, "by")
		}
		want, refused := time.Parse(time.RFC3339Nano, string(text))
		if farOffset.Match(text) { // package time takes these, RFC 3339 does not
			refused = errors.ErrUnsupported
		}
		inRange := !want.Before(domain.MinInstant.Time()) && !want.After(domain.MaxInstant.Time())
		got, err := envelope("time", `"`+strings.NewReplacer("T", "t", "Z", "z").Replace(string(text))+`"`)
		if (err == nil) != (refused == nil && inRange) {
			t.Fatalf("%s: %v, package time says %v", text, err, refused)
		}
		if err == nil {
			taken++
			if got.Time != domain.InstantOf(want) {
				t.Fatalf("%s became %v", text, got.Time)
			}
		}
	})
	if taken == 0 {
		t.Error("no time was taken")
	}
}

var farOffset = regexp.MustCompile(`[+-](24:..|..:60)$`)

var jsonNumber = regexp.MustCompile(`^-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?$`)

// TestIntegers compares how integers are read with exact arithmetic.
func TestIntegers(t *testing.T) {
	number := rapid.OneOf(
		rapid.StringMatching(`-?(0|[1-9][0-9]{0,21})(\.[0-9]{1,4})?([eE][+-]?[0-9]{1,2})?`),
		rapid.StringMatching(`-?(0|[1-9]0{0,12})(\.[0-9]{0,3}0{1,9})?([eE][+-]?[0-9])?`),
		rapid.SampledFrom([]string{"18446744073709551615", "18446744073709551616", "1844674407370955161.50e1", "184467440737095516150e-1", "1e19", "2e19", "-0", "-0.0e9", "0e99999999999999999999", "1e-99999999999999999999"}),
	)
	most := new(big.Rat).SetUint64(1<<64 - 1)
	taken := 0
	rapid.Check(t, func(t *rapid.T) {
		text := number.Draw(t, "number")
		if !jsonNumber.MatchString(text) {
			t.Skip()
		}
		e, err := envelope("sequence", text)
		want, ok := new(big.Rat).SetString(text)
		if !ok { // big refuses exponents that are absurd
			want = new(big.Rat)
			if text[0] != '0' {
				want.SetInt64(-1)
			}
		}
		if fits := want.IsInt() && want.Sign() >= 0 && want.Cmp(most) <= 0; fits != (err == nil) {
			t.Fatalf("%s is %v, and Decode says %v", text, want, err)
		}
		if err == nil {
			taken++
			if got := new(big.Rat).SetUint64(e.Sequence.N); !e.Sequence.Has || got.Cmp(want) != 0 {
				t.Fatalf("%s became %v", text, got)
			}
		}
	})
	if taken == 0 {
		t.Error("no number was taken")
	}
}
