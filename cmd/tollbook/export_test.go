package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"tollbook/api/export"
	"tollbook/domain"
	"tollbook/projections"
)

// exported runs export and returns what was asked for and its manifest.
func exported(t *testing.T, args ...string) ([]byte, export.Manifest) {
	t.Helper()
	out := filepath.Join(t.TempDir(), "file")
	printed := done(t, append([]string{"export", "--tenant", "contoso", "-o", out}, args...)...)
	file, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	manifest, err := os.ReadFile(out + ".manifest.json")
	if err != nil {
		t.Fatal(err)
	}
	m := decoded[export.Manifest](t, string(manifest))
	if m.Digest != projections.Digest(file) || m.Bytes != int64(len(file)) || m.File != "file" || !strings.Contains(printed, m.Digest) {
		t.Errorf("%v: the manifest is not of %d bytes of %s: %+v\n%s", args, len(file), projections.Digest(file), m, printed)
	}
	if files, _ := os.ReadDir(filepath.Dir(out)); len(files) != 2 {
		t.Errorf("%v leaves %v", args, files)
	}
	return file, m
}

// TestExport exports a month in each state, asked of the engine and of its book: the
// same bytes each time, and what was exported as of a position is so again later.
func TestExport(t *testing.T) {
	r, _ := newRigAt(t, "2026-11-04T08:00:00Z")
	r.book(licensed("contoso")...)
	r.book(callAt("contoso", "1", "2026-10-05T09:00:00Z", 130*60), callAt("contoso", "2", "2026-10-06T09:00:00Z", 61))
	queries := [][]string{
		{"--format", "csv"}, {"--format", "csv", "--what", "calls", "--bom"}, {"--format", "csv", "--what", "pools"}, {"--format", "csv", "--what", "lines"},
		{"--format", "xlsx", "--what", "calls"}, {"--format", "pdf", "--lang", "it"}, {"--format", "parquet"}, {"--format", "json"}, {"--format", "json", "--what", "calls"},
	}
	all := func(state, status string, at ...string) (files [][]byte) {
		t.Helper()
		for _, args := range queries {
			args = append(append([]string{"--month", "2026-10"}, args...), at...)
			online, manifest := exported(t, append(args, "--nats", r.NATSAddress)...)
			offline, same := exported(t, append(args, "--data", r.dir)...)
			if diff := cmp.Diff(manifest, same); diff != "" || !bytes.Equal(online, offline) {
				t.Errorf("%s: %v: %d bytes online, %d offline, manifests -online +offline:\n%s", state, args, len(online), len(offline), diff)
			}
			if manifest.Status != status {
				t.Errorf("%s: %v: is %s", state, args, manifest.Status)
			}
			files = append(files, online)
		}
		return files
	}
	equal := func(what string, before, after [][]byte) {
		t.Helper()
		for i := range before {
			if !bytes.Equal(before[i], after[i]) {
				t.Errorf("%s: %v is not what it was", what, queries[i])
			}
		}
	}
	draft := all("open", projections.StatusDraft)
	position := decimal(r.Book.Head().Events)
	r.book(callAt("contoso", "3", "2026-10-07T09:00:00Z", 600))
	equal("the draft", draft, all("then", projections.StatusDraft, "--at", position))
	r.close("contoso", "2026-10")
	issued := all("closed", projections.StatusIssued)
	r.book(callAt("contoso", "0", "2026-10-04T09:00:00Z", 600), domain.Event{Tenant: "contoso", Source: "desk", ID: "void", Time: instant("2026-11-04T09:00:00Z"), Data: &domain.Void{
		Ref: domain.Ref{Source: "switch/mil-1", ID: "1"}, Reason: "a test",
	}})
	equal("the issued document", issued, all("late", projections.StatusIssued))
	equal("the draft", draft, all("then", projections.StatusDraft, "--at", position))
	if invoice := r.ask("invoice", "--tenant", "contoso", "--month", "2026-10", "--format", "json"); canonical(t, invoice) != string(issued[7]) {
		t.Errorf("exported as %s, but the invoice is %s", issued[7], invoice)
	}
}

// TestExportRefuses: nothing is written, and one line says why.
func TestExportRefuses(t *testing.T) {
	r := newRig(t)
	r.book(licensed("contoso")...)
	for want, args := range map[string][]string{
		"tollbook: export: pdf has invoice only: ask for that, or another format": {"--format", "pdf", "--what", "calls"},
		`tollbook: export: format "doc": must be csv, xlsx, pdf`:                  {"--format", "doc"},
		"tollbook: export: --at 0: positions begin at 1":                          {"--format", "csv", "--at", "0"},
		"position 999 is beyond the end of the book":                              {"--format", "csv", "--at", "999"},
		"no such file or directory":                                               {"--format", "csv", "-o", filepath.Join(t.TempDir(), "missing", "file")},
		`tollbook: export: --tenant "Contoso": must be 1 to 63`:                   {"--format", "csv", "--tenant", "Contoso"},
	} {
		dir := t.TempDir()
		p := command(t, append([]string{"export", "--tenant", "contoso", "--month", "2026-10", "-o", filepath.Join(dir, "file"), "--nats", r.NATSAddress}, args...)...)
		if p.code == exitDone || !strings.Contains(p.err, want) || strings.Count(p.err, "\n") != 1 {
			t.Errorf("%v: %d, %s", args, p.code, p.err)
		}
		if files, _ := os.ReadDir(dir); len(files) != 0 {
			t.Errorf("%v leaves %v", args, files)
		}
	}
}
