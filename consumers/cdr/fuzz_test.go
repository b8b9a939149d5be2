package cdr

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"testing"

	"tollbook/domain"
	"tollbook/domain/cloudevents"
)

// FuzzKamailio: no record and no configuration makes the reader panic, an error
// is a refusal on one line, and an event passes the checks of every other event.
func FuzzKamailio(f *testing.F) {
	files, err := filepath.Glob("testdata/kamailio/*.jsonl")
	if err != nil {
		f.Fatal(err)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		for i, line := range bytes.Split(text, []byte("\n")) {
			f.Add(line, []string{"CH", "US", "IT", "AD", ""}[i%5], []string{"", "0"}[i%2], []string{"{caller}@{tenant}|{caller_pai}", "{caller_pai}", "{called}{"}[i%3])
		}
	}
	f.Fuzz(func(t *testing.T, record []byte, country, national, template string) {
		cfg := rig()
		cfg.Country, cfg.NationalPrefix, cfg.User = country, national, template
		e, err := read(t, record, cfg)
		if err != nil {
			var refusal *Refusal
			if !errors.As(err, &refusal) {
				t.Fatalf("%v is no refusal", err)
			}
			switch refusal.Code {
			case CodeSyntax, CodeField, CodeNumber, CodeTime, CodeUser:
			default:
				t.Fatalf("refused with code %q", refusal.Code)
			}
			if bytes.ContainsAny([]byte(err.Error()), "\r\n") || !reflect.DeepEqual(e, domain.Event{}) {
				t.Fatalf("refusal %q with event %v", err, e)
			}
			return
		}
		mustBeCanonical(t, e)
	})
}

// FuzzNumber: what a dial plan reads is a number that can be written and read again.
func FuzzNumber(f *testing.F) {
	for _, s := range []string{"0041441516204", "*31#0441516204", "4144151****", "anonymous", "+882", "tel:+1-2;x", "0612345678"} {
		f.Add(s, "CH", "00", "0")
		f.Add(s, "IT", "", "")
	}
	f.Fuzz(func(t *testing.T, s, country, international, national string) {
		plan := NewDialPlan(&domain.SwitchConfig{Country: country, InternationalPrefixes: []string{international}, NationalPrefix: national, InternalDigits: []int{4, 9}})
		for _, read := range []func(string) (domain.Number, error){plan.Called, plan.Calling} {
			n, err := read(s)
			if err != nil {
				continue
			}
			again, err := domain.ParseNumber(n.String())
			if err != nil || again != n || !n.Valid() {
				t.Fatalf("%q became %+v, %q: %v", s, n, n, err)
			}
		}
	})
}

// mustBeCanonical checks an event as one that came from outside.
func mustBeCanonical(t *testing.T, e domain.Event) {
	t.Helper()
	raw := cloudevents.Append(nil, &e)
	again, err := cloudevents.Decode(raw, "contoso")
	if err != nil || !reflect.DeepEqual(again, e) {
		t.Fatalf("%v\n%s\n got %+v %+v\nwant %+v %+v", err, raw, again, again.Data, e, e.Data)
	}
}
