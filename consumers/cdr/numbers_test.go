package cdr

import (
	"flag"
	"os"
	"strconv"
	"strings"
	"testing"

	"tollbook/domain"
)

var update = flag.Bool("update", false, "write the results into testdata")

// TestNumbers reads testdata/numbers.txt: a line "switch …" sets the dial plan,
// "called" and "calling" lines have what was dialled and, behind =, what it is.
func TestNumbers(t *testing.T) {
	const file = "testdata/numbers.txt"
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var plan *DialPlan
	var out strings.Builder
	cases := 0
	for line := range strings.Lines(string(text)) {
		line = strings.TrimSuffix(line, "\n")
		word, rest, _ := strings.Cut(line, " ")
		switch word {
		case "", "#":
		case "switch":
			plan = NewDialPlan(testSwitch(t, rest))
		case "called", "calling":
			dialled, _, _ := strings.Cut(rest, " = ")
			dialled = strings.TrimSpace(dialled)
			read := plan.Called
			if word == "calling" {
				read = plan.Calling
			}
			n, err := read(strings.Trim(dialled, `"`))
			got := n.String()
			if err != nil {
				got = "refused: " + err.Error()
			}
			line = padded(padded(word, 8)+dialled, 36) + "= " + got
			cases++
		default:
			t.Fatalf("%s: %q is no case", file, line)
		}
		out.WriteString(line + "\n")
	}
	if cases < 100 {
		t.Errorf("%s has %d cases; there were more", file, cases)
	}
	golden(t, file, out.String())
}

// testSwitch reads country=CH international=00,011 national=0 internal=3,4.
func testSwitch(t *testing.T, text string) *domain.SwitchConfig {
	cfg := &domain.SwitchConfig{Switch: "kam-a", Format: "kamailio"}
	for word := range strings.FieldsSeq(text) {
		key, value, _ := strings.Cut(word, "=")
		switch key {
		case "country":
			cfg.Country = value
		case "international":
			cfg.InternationalPrefixes = strings.Split(value, ",")
		case "national":
			cfg.NationalPrefix = value
		case "internal":
			for n := range strings.SplitSeq(value, ",") {
				length, err := strconv.Atoi(n)
				if err != nil {
					t.Fatal(err)
				}
				cfg.InternalDigits = append(cfg.InternalDigits, length)
			}
		default:
			t.Fatalf("switch line has %q", word)
		}
	}
	return cfg
}

func padded(s string, width int) string {
	return s + strings.Repeat(" ", max(1, width-len([]rune(s))))
}

// golden compares what came with what is in the file, or writes it there with -update.
func golden(t *testing.T, file, got string) {
	t.Helper()
	if *update {
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	want := strings.Split(string(text), "\n")
	for i, line := range strings.Split(got, "\n") {
		if i >= len(want) || line != want[i] {
			t.Errorf("%s:%d\n got %s\nwant %s", file, i+1, line, want[min(i, len(want)-1)])
		}
	}
	if len(want) > len(strings.Split(got, "\n")) {
		t.Errorf("%s has more lines than came", file)
	}
}
