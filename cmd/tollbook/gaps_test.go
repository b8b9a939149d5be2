package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"tollbook/api"
	"tollbook/domain"
	"tollbook/projections"
)

// counted calls: call n of a switch has the number n and its minute of October.
func countedCall(source string, n uint64) domain.Event {
	e := someCall("contoso", fmt.Sprint("call-", n), "user000@contoso.example", 60)
	e.Source, e.Sequence = source, domain.Sequence{N: n, Has: true}
	e.Time = instant("2026-10-01T00:00:00Z") + domain.Instant(n)*domain.Instant(time.Minute)
	return e
}

func countedCalls(source string, numbers ...uint64) (events []domain.Event) {
	for _, n := range numbers {
		events = append(events, countedCall(source, n))
	}
	return events
}

// TestGaps walks through what an operator sees and does.
func TestGaps(t *testing.T) {
	r := newRig(t)
	var printed strings.Builder
	say := func(args ...string) {
		t.Helper()
		fmt.Fprintf(&printed, "$ tollbook %s\n%s\n", strings.Join(args, " "), r.ask(args...))
	}
	say("gaps")
	say("gaps", "--tenant", "contoso")

	r.book(countedCalls("switch/mil-1", 3, 4, 7, 8, 15)...)
	r.book(countedCalls("switch/rom-1", 1, 2, 3)...)
	again := countedCall("switch/rom-1", 2)
	again.ID = "call-2-again"
	r.book(again)
	r.book(countedCalls("switch/nap-1", 1, 2)...)
	broken := strings.Replace(string(ndjson(countedCalls("switch/mil-1", 10))), `"billable_ms":60000`, `"billable_ms":-1`, 1)
	if receipt := r.request("tollbook.contoso.call.completed", []byte(broken)); receipt.Suspended != 1 {
		t.Fatalf("the broken record: %+v", receipt)
	}
	say("gaps", "--tenant", "contoso")

	r.book(countedCalls("switch/mil-1", 5)...)
	say("gaps", "waive", "--tenant", "contoso", "--source", "switch/mil-1", "--from", "11", "--to", "14", "--why", "disk of mil-1 died", "--by", "ada")
	say("gaps", "--tenant", "contoso", "--source", "switch/mil-1")
	say("gaps", "--tenant", "contoso", "--all")
	say("gaps", "--source", "switch/tur-1", "--tenant", "contoso")
	golden(t, "gaps.txt", printed.String())

	all := r.ask("gaps", "--format", "json")
	if report := decoded[gapsReport](t, all); len(report.Tenants) != 1 || len(report.Tenants[0].Sources) != 3 || report.Tenants[0].Incomplete != 1 {
		t.Errorf("of all tenants: %s", all)
	}
	if offline := done(t, "gaps", "--format", "json", "--data", r.dir); offline != all {
		t.Errorf("the book alone says otherwise:\n%s", cmp.Diff(all, offline))
	}

	waive := func(args ...string) []string {
		return append([]string{"gaps", "waive", "--tenant", "contoso", "--why", "lost", "--by", "ada", "--nats", r.NATSAddress}, args...)
	}
	for line, args := range map[string][]string{
		"not missing: number 15, which came":                           waive("--source", "switch/mil-1", "--from", "15", "--to", "15"),
		"not missing: number 10, which came":                           waive("--source", "switch/mil-1", "--from", "9", "--to", "11"),
		"not missing: numbers 16 to 20; the last that came":            waive("--source", "switch/mil-1", "--from", "12", "--to", "20"),
		"waived already: numbers 12 to 13, by ada at position 14: dis": waive("--source", "switch/mil-1", "--from", "12", "--to", "13"),
		"the range ends before it begins":                              waive("--source", "switch/mil-1", "--from", "2", "--to", "1"),
		"no event of it with a sequence is in the book":                waive("--source", "switch/tur-1", "--from", "1", "--to", "1"),
		"why: required": waive("--source", "switch/mil-1", "--from", "1", "--to", "1", "--why", " "),
		"why: must have at most 1024 bytes, this one has 1025": waive("--source", "switch/mil-1", "--from", "1", "--to", "1", "--why", strings.Repeat("x", 1025)),
		"why: must be one line":                                waive("--source", "switch/mil-1", "--from", "1", "--to", "1", "--why", "a\nb"),
	} {
		refused(t, exitFailed, line, args...)
	}
	refused(t, exitUsage, "--tenant \"Contoso\"", "gaps", "--tenant", "Contoso")
	refused(t, exitUsage, "--tenant \"Contoso\"", "gaps", "waive", "--tenant", "Contoso", "--source", "s", "--from", "1", "--to", "1", "--why", "lost")
	refused(t, exitUsage, "missing flags: --why", "gaps", "waive", "--tenant", "contoso", "--source", "s", "--from", "1", "--to", "1")
	refused(t, exitUsage, "--from", "gaps", "waive", "--tenant", "contoso", "--source", "s", "--from", "-1", "--to", "1", "--why", "lost")
	if n := r.Book.Head().Events; n != 14 {
		t.Errorf("what was refused is in the book: %d events", n)
	}
	// Whoever asks under no good name is nobody.
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	_, err := r.client.WaiveGap(ctx, strings.Repeat("a", 65), api.WaiveRequest{Tenant: "contoso", Source: "switch/mil-1", From: 1, To: 2, Why: "lost"})
	if err == nil || !strings.Contains(err.Error(), "must be a name") {
		t.Errorf("waived by nobody: %v", err)
	}
}

// TestGapsOfLostRecords drops records on the way to a running engine: exactly
// they are reported, by the engine, by the book alone and after a restart; those
// that come late are closed.
func TestGapsOfLostRecords(t *testing.T) {
	const seed, n = 7, 20_000
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, seed))
	r := newRig(t)
	var sent, lost []uint64
	for i := uint64(1); i <= n; i++ {
		if random.IntN(50) == 0 && i < n {
			lost = append(lost, i)
		} else {
			sent = append(sent, i)
		}
	}
	random.Shuffle(len(sent), func(i, j int) { sent[i], sent[j] = sent[j], sent[i] })
	file := writeFile(t, "calls.ndjson", ndjson(countedCalls("switch/mil-1", sent...)))
	if report := r.publishFile(file); report.Booked != len(sent) {
		t.Fatalf("%+v", report)
	}
	r.publishFile(file) // again: all are duplicates, and no number is repeated

	one := func(args ...string) (projections.SourceGaps, string) {
		t.Helper()
		text := done(t, append([]string{"gaps", "--tenant", "contoso", "--format", "json"}, args...)...)
		return decoded[projections.GapsDocument](t, text).Sources[0], text
	}
	check := func(want []uint64) string {
		t.Helper()
		live, text := one("--nats", r.NATSAddress)
		var missing []uint64
		for _, m := range live.Missing {
			for i := m.From; i <= m.To; i++ {
				missing = append(missing, uint64(i))
			}
		}
		if !slices.Equal(missing, want) || int(live.MissingCount) != len(want) || live.RepeatedCount != 0 {
			t.Fatalf("%d numbers are missing and %d repeated, %d were lost", len(missing), live.RepeatedCount, len(want))
		}
		if _, replayed := one("--data", r.dir); replayed != text {
			t.Fatalf("the book alone says otherwise:\n%s", cmp.Diff(text, replayed))
		}
		return text
	}
	before := check(lost)
	r.restart()
	if after := check(lost); after != before {
		t.Errorf("a restart changed the gaps:\n%s", cmp.Diff(before, after))
	}

	late := len(lost) / 2
	r.book(countedCalls("switch/mil-1", lost[:late]...)...)
	check(lost[late:])
	r.book(countedCalls("switch/mil-1", lost[late:]...)...)
	check(nil)
	live, _ := one("--nats", r.NATSAddress)
	if len(live.Closed) != 100 || live.Closed[99].How != "arrived" || uint64(live.Closed[99].To) != lost[len(lost)-1] || live.SeenRanges != 1 {
		t.Errorf("after all: %d seen ranges, closed last %+v", live.SeenRanges, live.Closed[len(live.Closed)-1])
	}
}
