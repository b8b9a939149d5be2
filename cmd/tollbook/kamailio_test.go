package main

import (
	"bytes"
	"fmt"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"tollbook/domain"
)

// kamA is how the switch that wrote consumers/cdr/testdata/kamailio counts.
func kamA() domain.Event {
	return domain.Event{Tenant: "acme", Source: "admin", ID: "kam-a", Time: instant("2026-11-01T00:00:00Z"), Data: &domain.SwitchConfig{
		Switch: "kam-a", Format: "kamailio", Country: "CH", InternationalPrefixes: []string{"00", "011"}, NationalPrefix: "0",
		InternalDigits: []int{3, 4}, TimeZone: "Europe/Zurich", User: "{caller_pai}",
	}}
}

// A ledger is what records say by themselves, summed up without tollbook.
type ledger struct {
	records, calls int   // calls: distinct by call id and tag
	answered       int   // of records
	talkMS         int64 // of answered records
}

// kamailioLedger reads the fields that the switch's own ledger has. The rig ran
// with cdr_start_on_confirmed, so duration is talk.
func kamailioLedger(t *testing.T, files ...string) ledger {
	t.Helper()
	var sum ledger
	seen := map[string]bool{}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for line := range bytes.Lines(text) {
			r := decoded[struct {
				CallID   string `json:"callid"`
				FromTag  string `json:"from_tag"`
				Status   string `json:"sip_code"`
				Duration string `json:"duration"`
			}](t, string(bytes.TrimSpace(line)))
			sum.records++
			seen[r.CallID+";"+r.FromTag] = true
			if r.Status[0] == '2' {
				seconds, ok := new(big.Rat).SetString(r.Duration)
				if !ok {
					t.Fatalf("duration %q", r.Duration)
				}
				ms := seconds.Mul(seconds, big.NewRat(1000, 1))
				if !ms.IsInt() {
					t.Fatalf("duration %q", r.Duration)
				}
				sum.answered++
				sum.talkMS += ms.Num().Int64()
			}
		}
	}
	sum.calls = len(seen)
	return sum
}

func (l ledger) reconciliation() string {
	return fmt.Sprintf("reconciliation: %d answered calls, %d.%03d s of talk; compare with the ledger of switch kam-a\n", l.answered, l.talkMS/1000, l.talkMS%1000)
}

func kamailioFiles(t *testing.T) []string {
	t.Helper()
	files, err := filepath.Glob("../../consumers/cdr/testdata/kamailio/acc_json*.jsonl")
	if err != nil || len(files) != 3 {
		t.Fatalf("found %v, %v", files, err)
	}
	return files
}

var fromKamailio = []string{"--from", "kamailio", "--tenant", "acme", "--switch", "kam-a"}

// TestKamailioFiles: real records, the configuration first.
func TestKamailioFiles(t *testing.T) {
	files := kamailioFiles(t)
	r := newRig(t)
	r.book(kamA())
	var repeats uint64
	for _, file := range files {
		want := kamailioLedger(t, file)
		if repeated := want.records - want.calls; strings.Contains(file, "duplicates") != (repeated == 4) {
			t.Errorf("%s has %d repeats", file, repeated)
		}
		for _, booked := range []int{want.calls, 0} { // and once more
			out := r.ask(append([]string{"publish", file}, fromKamailio...)...)
			head, reconciliation, _ := strings.Cut(out, "\n")
			wantHead := fmt.Sprintf("%d records: %d booked, %d duplicate, 0 suspended; the book is at position %d", want.records, booked, want.records-booked, r.Book.Head().Events)
			if head != wantHead || reconciliation != want.reconciliation() {
				t.Errorf("%s:\n got %s\nwant %s\n%s", file, out, wantHead, want.reconciliation())
			}
			repeats += uint64(want.records - booked)
		}
	}
	all := kamailioLedger(t, files...)
	in := r.intake("acme")
	if in.Booked != uint64(all.calls)+1 || in.Duplicate != repeats || in.Suspended != 0 {
		t.Errorf("of %d calls, %d repeats and a configuration: %+v", all.calls, repeats, in)
	}
	r.stop()
	checkCallsOnce(t, r.dir, all.calls, files)
}

// checkCallsOnce looks for the calls of Kamailio's files in the book itself.
func checkCallsOnce(t *testing.T, dir string, calls int, files []string) {
	t.Helper()
	var talk int64
	seen := map[string]int{}
	for _, e := range booked(t, dir) {
		if c, ok := e.Data.(*domain.Call); ok {
			talk += c.BillableMS
			seen[e.Source+" "+e.ID]++
			if seen[e.Source+" "+e.ID] > 1 || !strings.HasPrefix(e.Source, "switch/kam-a/") || !e.Has {
				t.Errorf("the book has %s %s %d times, sequence %v", e.Source, e.ID, seen[e.Source+" "+e.ID], e.Sequence)
			}
		}
	}
	if len(seen) != calls {
		t.Errorf("the book has %d calls, want %d", len(seen), calls)
	}
	// Each file's talk, without what its repeats add.
	var want int64
	once := map[string]bool{}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for line := range bytes.Lines(text) {
			if !once[string(line)] {
				once[string(line)] = true
				want += kamailioLedger(t, writeFile(t, "one.jsonl", line)).talkMS
			}
		}
	}
	if talk != want {
		t.Errorf("the book has %d ms of talk, want %d", talk, want)
	}
}

// TestKamailioBeforeItsConfiguration: the records wait in suspense and are taken
// up by themselves, also when the engine was stopped in between.
func TestKamailioBeforeItsConfiguration(t *testing.T) {
	for _, when := range []string{"running", "restart before", "restart after"} {
		t.Run(when, func(t *testing.T) {
			files := kamailioFiles(t)
			all := kamailioLedger(t, files...)
			r := newRig(t)
			report := r.publishFile(append(files, fromKamailio...)...)
			repeats := all.records - all.calls
			if report.Received != all.records || report.Suspended != all.calls || report.Duplicate != repeats || report.Booked != 0 {
				t.Errorf("of %+v: %+v", all, report)
			}
			if in := r.intake("acme"); in.Suspended != uint64(all.calls) || in.Duplicate != uint64(repeats) || in.Received != uint64(all.records) {
				t.Errorf("waiting: %+v", in)
			}
			if when == "restart before" {
				r.restart()
			}
			r.book(kamA())
			if when == "restart after" { // at whatever point of taking up
				r.restart()
			}
			r.until("nothing is suspended", func() bool { return r.intake("acme").Suspended == 0 })
			in := r.intake("acme")
			if in.Booked != uint64(all.calls)+1 || in.Received != in.Booked+in.Duplicate {
				t.Errorf("taken up: %+v", in)
			}
			if when == "running" && in.Duplicate != uint64(repeats) {
				t.Errorf("%d repeats were sent: %+v", repeats, in)
			}
			// The same records again are repeats of the calls.
			report = r.publishFile(append(files, fromKamailio...)...)
			if report.Duplicate != all.records || report.Received != all.records {
				t.Errorf("sent again: %+v", report)
			}
			r.restart()
			if in := r.intake("acme"); in.Suspended != 0 || in.Booked != uint64(all.calls)+1 {
				t.Errorf("after a restart: %+v", in)
			}
			r.stop()
			checkCallsOnce(t, r.dir, all.calls, files)
			taken := 0
			for _, e := range booked(t, r.dir) {
				if _, ok := e.Data.(*domain.Recycled); ok {
					taken++
				}
			}
			if taken != all.calls {
				t.Errorf("the book says of %d records that they were taken up, want %d", taken, all.calls)
			}
		})
	}
}

// TestKamailioEdges: of records that are broken in all ways, those that can be
// read are booked, the others are in suspense; taken up later, it is the same.
func TestKamailioEdges(t *testing.T) {
	const file = "../../consumers/cdr/testdata/kamailio/edges.jsonl"
	first := newRig(t)
	first.book(kamA())
	direct := first.publishFile(append([]string{file}, fromKamailio...)...)
	if direct.Booked == 0 || direct.Suspended == 0 || direct.Received != direct.Booked+direct.Duplicate+direct.Suspended {
		t.Errorf("%+v", direct)
	}

	late := newRig(t)
	waiting := late.publishFile(append([]string{file}, fromKamailio...)...)
	if waiting.Booked != 0 || waiting.Received != direct.Received {
		t.Errorf("%+v, want as many as %+v", waiting, direct)
	}
	late.book(kamA())
	late.until("what can be read is booked", func() bool { return late.intake("acme").Booked >= uint64(direct.Booked)+1 })
	late.until("what cannot be read is left", func() bool { return late.intake("acme").Suspended <= uint64(direct.Suspended) })
	a, b := first.intake("acme"), late.intake("acme")
	if a.Booked != b.Booked || a.Suspended != b.Suspended || a.Received != b.Received {
		t.Errorf("configured first %+v, later %+v", a, b)
	}
}
