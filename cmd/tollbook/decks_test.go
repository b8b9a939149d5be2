package main

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/go-json-experiment/json/jsontext"
)

// TestDecksStory is a new price list, from the spreadsheet to the month's calls.
func TestDecksStory(t *testing.T) {
	r := newRig(t)
	text, err := os.ReadFile("testdata/decks.txt")
	if err != nil {
		t.Fatal(err)
	}
	s := newStory(t, "testdata/decks", "TOLLBOOK_NATS="+r.NATSAddress, "DATA="+r.dir)
	today := clock().Time().Format(time.DateOnly)
	told := strings.NewReplacer(s.dir+"/", "", r.dir, "DIR").Replace(s.tell(string(text)))
	tomorrow := clock().Time().Format(time.DateOnly) // by now
	golden(t, "decks.txt", regexp.MustCompile("("+today+"|"+tomorrow+")T[0-9:]{8}Z").ReplaceAllString(told, "2026-11-02T09:30:00Z"))
}

// TestDecksJSON: each command prints one line of JSON.
func TestDecksJSON(t *testing.T) {
	r := newRig(t)
	deck := func(args ...string) []string {
		return append(append([]string{"deck"}, args...), "--format", "json", "--data", r.dir)
	}
	done(t, "import-deck", "testdata/decks/standard.csv", "--version", "2026-09", "--effective-from", "2026-09-01T00:00:00Z", "--nats", r.NATSAddress)
	done(t, "publish", "testdata/decks/month.ndjson", "--nats", r.NATSAddress)
	const file = "testdata/decks/listino.csv"
	at := []string{"--version", "2090-01", "--effective-from", "2090-01-01T00:00:00Z"}
	for _, c := range []struct {
		args  []string
		field string
	}{
		{deck(append([]string{"lint", file}, at...)...), "findings"},
		{deck("diff", file), "changes"},
		{deck("impact", file, "--of", "contoso"), "prefixes"},
		{deck(append([]string{"stage", file}, at...)...), "report"},
		{deck("list"), "stages"},
	} {
		out := done(t, c.args...)
		if fields := decoded[map[string]jsontext.Value](t, out); fields[c.field] == nil || strings.Count(out, "\n") != 1 {
			t.Errorf("%v prints no line with %s: %s", c.args, c.field, out)
		}
	}
}

func TestDecksWrongUsage(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join("testdata", "decks", "standard.csv")
	for _, c := range []struct {
		line string
		args []string
	}{
		{"--effective-from \"1/10\"", []string{"lint", file, "--effective-from", "1/10"}},
		{"--jump 1: must be 2 to 1000", []string{"lint", file, "--jump", "1"}},
		{"--each 0: must be", []string{"lint", file, "--each", "0"}},
		{"name a file, or with --to", []string{"diff", "--data", dir}},
		{"name a file, or with --to", []string{"diff", file, "--to", "1", "--data", dir}},
		{"--limit 0: must be", []string{"diff", file, "--limit", "0", "--data", dir}},
		{"--only", []string{"diff", file, "--only", "worse", "--data", dir}},
		{"--of", []string{"impact", file, "--data", dir}},
		{"--of \"Contoso\"", []string{"impact", file, "--of", "Contoso", "--data", dir}},
		{"--month", []string{"impact", file, "--of", "contoso", "--month", "October", "--data", dir}},
		{"--top 0: must be", []string{"impact", file, "--of", "contoso", "--top", "0", "--data", dir}},
		{"--version", []string{"stage", file, "--effective-from", "2026-10-01T00:00:00Z", "--data", dir}},
		{"--data", []string{"activate", "1234"}},
	} {
		refused(t, exitUsage, c.line, append([]string{"deck"}, c.args...)...)
	}
	refused(t, exitFailed, "there is no book in "+dir, "deck", "list", "--data", dir)
	refused(t, exitFailed, "no deck is staged under this id", "deck", "activate", "1234", "--data", dir)
	refused(t, exitFailed, "line 1: the header", "deck", "lint", writeFile(t, "bad.csv", []byte("prefix,rate\n39,1\n")))
}
