package cdr

import (
	"bytes"
	"fmt"
	"os"
	"reflect"
	"regexp"
	"strings"
	"testing"

	"tollbook/domain"
	"tollbook/domain/cloudevents"
)

func opensipsRig() *domain.SwitchConfig {
	cfg := rig()
	cfg.Switch, cfg.Format = "osips-a", "opensips"
	cfg.User = "{caller_pai}|{caller}"
	return cfg
}

// TestOpenSIPSGolden: the records are written after the documentation of OpenSIPS's
// acc and event_stream modules.
func TestOpenSIPSGolden(t *testing.T) {
	goldenRecords(t, "testdata/opensips/cdr.jsonl", opensipsRig())
}

// TestOpenSIPSEnvelope: an event is the same, with JSON-RPC around it or without.
func TestOpenSIPSEnvelope(t *testing.T) {
	params := recordsOf(t, "opensips", "testdata/opensips/cdr.jsonl")[0]
	want, err := readAs(t, params, opensipsRig())
	if err != nil {
		t.Fatal(err)
	}
	for _, envelope := range []string{
		`{"jsonrpc":"2.0","method":"E_ACC_CDR","params":%s}`,
		`{"params": %s, "id": null, "method": "E_ACC_CDR", "jsonrpc": "2.0"}`,
	} {
		got, err := readAs(t, fmt.Appendf(nil, envelope, params), opensipsRig())
		if err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%s: %v, got %v, want %v", envelope, err, got, want)
		}
	}
}

// TestOpenSIPSLegs: the events of a call's legs are one, unless the switch says
// that each is to be billed.
func TestOpenSIPSLegs(t *testing.T) {
	first := recordsOf(t, "opensips", "testdata/opensips/cdr.jsonl")[0]
	second := bytes.Replace(first, []byte(`"called":"0441516204"`), []byte(`"called":"0443120000","leg":"2"`), 1)
	for _, c := range []struct {
		leg  string
		same bool
	}{{"", true}, {"{leg}", false}, {"{from_tag}", true}} {
		cfg := opensipsRig()
		if c.leg != "" {
			cfg.Options = map[string]string{"leg": c.leg}
		}
		if err := Check(cfg); err != nil {
			t.Fatal(err)
		}
		a, err := readAs(t, first, cfg)
		if err != nil {
			t.Fatal(err)
		}
		b, err := readAs(t, second, cfg)
		if err != nil {
			t.Fatal(err)
		}
		if (a.ID == b.ID) != c.same {
			t.Errorf("leg %q: %s and %s", c.leg, a.ID, b.ID)
		}
	}
	cfg := opensipsRig()
	if cfg.Options = map[string]string{"leg": "{leg"}; Check(cfg) == nil {
		t.Error("took a template without its brace")
	}
}

func TestOpenSIPSChanged(t *testing.T) {
	for _, record := range recordsOf(t, "opensips", "testdata/opensips/cdr.jsonl") {
		changedRecords(record, func(changed []byte) { mustBeSound(t, changed, opensipsRig()) })
	}
}

func FuzzOpenSIPS(f *testing.F) {
	payload, err := os.ReadFile("testdata/opensips/cdr.jsonl")
	if err != nil {
		f.Fatal(err)
	}
	for line := range bytes.Lines(payload) {
		f.Add(line, "", "{caller}")
		f.Add(line, "{leg}|{to_tag}", "{caller_pai}|{called}{")
	}
	f.Fuzz(func(t *testing.T, record []byte, leg, template string) {
		cfg := opensipsRig()
		cfg.User = template
		if leg != "" {
			cfg.Options = map[string]string{"leg": leg}
		}
		mustBeSound(t, record, cfg)
	})
}

func BenchmarkOpenSIPS(b *testing.B) {
	benchmarkRecords(b, "testdata/opensips/cdr.jsonl", opensipsRig())
}

// TestPagesConfigure: the descriptions of switches on the pages are ones that can be
// published, and a mapping has the columns that its description names.
func TestPagesConfigure(t *testing.T) {
	for page, want := range map[string]int{"asterisk": 4, "opensips": 1} {
		text, err := os.ReadFile("../../docs/switches/" + page + ".md")
		if err != nil {
			t.Fatal(err)
		}
		found := 0
		var mapped, named string
		for line := range strings.Lines(string(text)) {
			if mapping, ok := strings.CutPrefix(line, "tollbook.csv => "); ok {
				var names []string
				for _, m := range regexp.MustCompile(`\bCDR\((\w+)`).FindAllStringSubmatch(mapping, -1) {
					names = append(names, m[1])
				}
				mapped = strings.Join(names, ",")
			}
			if !strings.HasPrefix(line, `{"specversion"`) {
				continue
			}
			found++
			e, err := cloudevents.Decode([]byte(line), "acme")
			if err != nil {
				t.Fatalf("%s: %v\n%s", page, err, line)
			}
			cfg := e.Data.(*domain.SwitchConfig)
			if err := Check(cfg); err != nil {
				t.Errorf("%s: %v\n%s", page, err, line)
			}
			if columns := cfg.Options["columns"]; columns != "" {
				named = columns
			}
		}
		if found != want || mapped != named {
			t.Errorf("%s: %d descriptions, want %d; the mapping has %s and the description %s", page, found, want, mapped, named)
		}
	}
}
