package main

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/nats-io/nats.go"

	"tollbook/api"
	"tollbook/consumers"
	"tollbook/domain"
	"tollbook/domain/cloudevents"
	"tollbook/eventstore"
	"tollbook/eventstore/block"
)

// oneCall is a call of contoso whose id is its number.
func oneCall(n int) domain.Event {
	return someCall("contoso", fmt.Sprint(n), "user000@contoso.example", 60)
}

// save keeps what a command prints in a file.
func save(t *testing.T, text string) string {
	t.Helper()
	return writeFile(t, "saved", []byte(text))
}

// TestAnchorsAndProofs: what the engine gives, and what a directory gives, is
// checked by somebody who has nothing but the public key.
func TestAnchorsAndProofs(t *testing.T) {
	r := newRig(t)
	refused(t, exitFailed, "the book is empty", "anchor", "--nats", r.NATSAddress)
	refused(t, exitFailed, "the book is empty", "anchor", "--data", r.dir)
	r.book(licensed("contoso")...)
	first := save(t, r.ask("anchor"))
	r.book(oneCall(1), oneCall(2))
	key := save(t, r.Key.Public())

	online, offline := r.ask("anchor"), done(t, "anchor", "--data", r.dir)
	if online != offline {
		t.Errorf("the engine's anchor is\n%s\nthat of its directory\n%s", online, offline)
	}
	doc := decoded[api.AnchorDocument](t, r.ask("anchor", "--format", "json"))
	if diff := cmp.Diff(api.AnchorDocument{Anchor: online, Position: 5}, doc); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}

	for _, how := range [][]string{{"--nats", r.NATSAddress}, {"--data", r.dir}} {
		proof := filepath.Join(t.TempDir(), "proof")
		explain := append([]string{"explain", "--tenant", "contoso", "switch/mil-1", "2"}, how...)
		e := oneCall(2)
		event := string(cloudevents.Append(nil, &e))
		if out := done(t, append(explain, "--proof", proof)...); !strings.Contains(out, "position 5\n") || !strings.Contains(out, event) || !strings.Contains(out, online) {
			t.Errorf("%v says\n%s", explain, out)
		}
		explained := decoded[api.ExplainDocument](t, done(t, append(explain, "--format", "json")...))
		if string(explained.Event) != event || explained.Position != 5 || explained.Block.Number != r.Book.Head().Block || explained.Block.Hash != r.Book.Head().String() || explained.Type != e.Data.Type() {
			t.Errorf("%v says %+v", explain, explained)
		}
		want := fmt.Sprintf("The proof holds: this is the event at position 5 of the 5 that %s signed (block 2, ", r.Key.Name())
		if out := done(t, "verify", "--proof", proof, "--key", key); !strings.HasPrefix(out, want) || !strings.HasSuffix(out, ").\n"+event+"\n") {
			t.Errorf("the proof of %v shows\n%s", how, out)
		}
		report := decoded[proofReport](t, done(t, "verify", "--proof", proof, "--key", r.Key.Public(), "--format", "json"))
		if report.Kind != "inclusion" || string(report.Event) != event || report.Anchor.Position != 5 || report.Anchor.Key != r.Key.Name() {
			t.Errorf("the proof of %v shows %+v", how, report)
		}

		since := save(t, done(t, append([]string{"anchor", "--since", first}, how...)...))
		want = fmt.Sprintf("The proof holds: the 5 events that %s signed (block 2, ", r.Key.Name())
		if out := done(t, "verify", "--proof", since, "--key", key); !strings.HasPrefix(out, want) || !strings.Contains(out, "\nbegin with the 3 events that ") {
			t.Errorf("the proof of %v shows\n%s", how, out)
		}
		report = decoded[proofReport](t, done(t, "verify", "--proof", since, "--key", key, "--format", "json"))
		if report.Kind != "consistency" || report.Old == nil || report.Old.Position != 3 || report.Anchor.Position != 5 || report.Event != nil {
			t.Errorf("the proof of %v shows %+v", how, report)
		}
		refused(t, exitFailed, `id "3" is booked`, append([]string{"explain", "--tenant", "contoso", "switch/mil-1", "3"}, how...)...)
	}

	// Anchors of both kinds, and then of a book that has moved on.
	r.book(oneCall(3))
	own := save(t, readText(t, eventstore.AnchorPath(r.dir)))
	for _, args := range [][]string{{"--anchor", first}, {"--anchor", first, "--key", key}, {"--anchor", save(t, online), "--key", r.Key.Public()}} {
		out := done(t, append([]string{"verify", "--data", r.dir}, args...)...)
		if !strings.Contains(out, ", signed by "+r.Key.Name()+") is reached") {
			t.Errorf("verify %v says\n%s", args, out)
		}
	}
	if out := done(t, "verify", "--data", r.dir, "--anchor", own); strings.Contains(out, "signed") {
		t.Errorf("against an anchor that nobody signed:\n%s", out)
	}
	report := decoded[verifyReport](t, done(t, "verify", "--data", r.dir, "--anchor", first, "--format", "json"))
	if report.Position != 6 || report.Anchor != 1 || report.Key != r.Key.Name() {
		t.Errorf("%+v", report)
	}

	// What does not hold.
	other := newRig(t)
	other.book(oneCall(1))
	otherAnchor := save(t, other.ask("anchor"))
	proof := save(t, r.ask("anchor", "--since", first))
	verify := func(args ...string) []string { return append([]string{"verify"}, args...) }
	for _, c := range []struct {
		say  string
		args []string
	}{
		{"give the --key that belongs to it", verify("--data", r.dir, "--anchor", otherAnchor)},
		{"give the --key that belongs to it", verify("--data", r.dir, "--anchor", first, "--key", other.Key.Public())},
		{"give the --key that belongs to it", verify("--proof", proof, "--key", other.Key.Public())},
		{"the events 1 to 1 are not those that " + other.Key.Name() + " signed", verify("--data", dirWith(t, 1), "--anchor", otherAnchor, "--key", other.Key.Public())},
		{"block 1 has hash", verify("--data", r.dir, "--anchor", otherAnchor, "--key", other.Key.Public())},
		{"the book ends at block 1, but its anchor is block 2", verify("--data", other.dir, "--anchor", save(t, online), "--key", key)},
		{"was changed", verify("--data", r.dir, "--anchor", save(t, strings.Replace(readText(t, first), "\n3\n", "\n4\n", 1)))},
		{"is no public key", verify("--proof", proof, "--key", "nothing")},
		{"no proof", verify("--proof", first, "--key", key)},
		{"is not a signed anchor", verify("--data", r.dir, "--anchor", own, "--key", key)},
		{"before the older anchor", []string{"anchor", "--since", first, "--nats", other.NATSAddress}},
		{"do not begin with", []string{"anchor", "--since", otherAnchor, "--nats", r.NATSAddress}},
		{"no signed note", []string{"anchor", "--since", own, "--nats", r.NATSAddress}},
	} {
		refused(t, exitCheck, c.say, c.args...)
	}
	refused(t, exitUsage, "can't be used together", verify("--proof", proof, "--data", r.dir, "--key", key)...)
	refused(t, exitUsage, "--proof needs --key", verify("--proof", proof)...)
	refused(t, exitUsage, "--key goes with", verify("--data", r.dir, "--key", key)...)
	refused(t, exitUsage, "--data=DIR or --proof=FILE", "verify")

	// A copy that is not to sign anything.
	copied := filepath.Join(t.TempDir(), "copy")
	done(t, "backup", "--data", r.dir, "--to", copied)
	if out := done(t, "explain", "--data", copied, "--tenant", "contoso", "switch/mil-1", "2"); !strings.Contains(out, "no signing key") {
		t.Errorf("explained by a copy:\n%s", out)
	}
	refused(t, exitFailed, "no signing key", "explain", "--data", copied, "--tenant", "contoso", "switch/mil-1", "2", "--proof", filepath.Join(copied, "proof"))
	refused(t, exitFailed, "no signing key", "anchor", "--data", copied)
	done(t, "verify", "--data", copied, "--anchor", first)
}

// dirWith is a directory whose book has n events of another tenant.
func dirWith(t *testing.T, n int) string {
	t.Helper()
	dir := t.TempDir()
	r := startRig(t, dir)
	for i := range n {
		r.book(someCall("acme", fmt.Sprint(i), "user000@acme.example", 60))
	}
	r.stop()
	return dir
}

func readText(t *testing.T, path string) string {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// TestAnchorsArePublished: whoever listens on NATS has the anchor of every state
// that the book rests in.
func TestAnchorsArePublished(t *testing.T) {
	r := newRig(t)
	var said bytes.Buffer
	r.tellKey(&said)
	if want := "public key " + r.Key.Public() + "; signed anchor none yet"; !strings.HasPrefix(said.String(), want) || !strings.Contains(said.String(), r.anchorSubject()) {
		t.Errorf("serve says %q", said.String())
	}
	keys, err := eventstore.ParsePublicKeys(r.Key.Public())
	if err != nil {
		t.Fatal(err)
	}
	heard := make(chan *nats.Msg, 64)
	if _, err := r.nc.ChanSubscribe(consumers.AnchorSubjects, heard); err != nil {
		t.Fatal(err)
	}
	if err := r.nc.Flush(); err != nil {
		t.Fatal(err)
	}
	for n := range 2 {
		r.book(oneCall(n))
		for {
			select {
			case m := <-heard:
				signed, err := keys.Open(m.Data)
				if err != nil || m.Subject != "tollbook-anchor."+r.Key.Name() {
					t.Fatalf("on %s: %v\n%s", m.Subject, err, m.Data)
				}
				if signed.Head != r.Book.Head() {
					continue
				}
			case <-time.After(patience):
				t.Fatal("no anchor is published")
			}
			break
		}
	}
	said.Reset()
	r.tellKey(&said)
	if !strings.Contains(said.String(), "signed anchor of position 2;") {
		t.Errorf("serve says %q", said.String())
	}
}

// TestSigningKeyIsMissedOrDamaged: a new one is made and said so; a damaged one
// is never replaced.
func TestSigningKeyIsMissedOrDamaged(t *testing.T) {
	dir := t.TempDir()
	r := startRig(t, dir)
	r.book(oneCall(1))
	old, anchor := r.Key.Public(), save(t, r.ask("anchor"))
	r.stop()
	if err := os.Remove(eventstore.SigningKeyPath(dir)); err != nil {
		t.Fatal(err)
	}
	var log bytes.Buffer
	config := EngineConfig{Dir: dir, NATSListen: "127.0.0.1:0", NATSSync: time.Minute, Clock: clock, Log: slog.New(slog.NewTextHandler(&log, nil))}
	engine, err := StartEngine(context.Background(), config)
	if err != nil {
		t.Fatal(err)
	}
	if err := engine.Stop(); err != nil {
		t.Error(err)
	}
	if engine.Key.Public() == old || !strings.Contains(log.String(), "level=WARN") || !strings.Contains(log.String(), "no signing key") || !strings.Contains(log.String(), engine.Key.Public()) {
		t.Errorf("key %s; logged\n%s", engine.Key.Public(), &log)
	}
	if diff := cmp.Diff(engine.Key.Public()+"\n"+old+"\n", readText(t, eventstore.PublicKeyPath(dir))); diff != "" {
		t.Errorf("public-key (-want +got):\n%s", diff)
	}
	// The key before it still checks what it signed, and the two states are one book.
	done(t, "verify", "--data", dir, "--anchor", anchor)
	done(t, "verify", "--proof", save(t, done(t, "anchor", "--data", dir, "--since", anchor)), "--key", eventstore.PublicKeyPath(dir))

	if err := os.WriteFile(eventstore.SigningKeyPath(dir), []byte("PRIVATE+KEY+x\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{{"serve", "--nats-listen", "127.0.0.1:0", "--http", ""}, {"anchor"}, {"explain", "--tenant", "contoso", "switch/mil-1", "1"}} {
		refused(t, exitFailed, eventstore.SigningKeyPath(dir)+" is damaged", append(args, "--data", dir)...)
	}
}

// TestInsider: somebody who has the directory and its key edits one call, and
// writes the whole book anew, in the same blocks, sealed at the same times, with
// every hash, every peak and the directory's anchor as they should be. The book
// alone can't tell: it is a whole book. Any anchor that was signed at or after
// that call, and kept elsewhere, does.
func TestInsider(t *testing.T) {
	const edited = 7 // position of the call
	r := newRig(t)
	var saved []string // by block
	for n := range 12 {
		r.book(oneCall(2*n), oneCall(2*n+1))
		saved = append(saved, save(t, r.ask("anchor")))
	}
	proof := filepath.Join(t.TempDir(), "proof")
	r.ask("explain", "--tenant", "contoso", "switch/mil-1", "6", "--proof", proof)
	key := save(t, r.Key.Public())
	r.stop()

	forged := forge(t, r.dir, func(position uint64, e *domain.Event) {
		if position == edited {
			e.Data.(*domain.Call).BillableMS = 1000
		}
	})
	for _, one := range []string{"signing-key", "public-key"} {
		if err := os.WriteFile(filepath.Join(forged, one), []byte(readText(t, filepath.Join(r.dir, one))), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	before, after := booked(t, r.dir), booked(t, forged)
	if len(before) != len(after) || cmp.Equal(before[edited-1], after[edited-1]) {
		t.Fatal("the book is not the one that was to be forged")
	}

	// Without what somebody kept, all is well: chain, tree, anchor, and a new signed anchor.
	done(t, "verify", "--data", forged)
	resigned := save(t, done(t, "anchor", "--data", forged))
	done(t, "verify", "--data", forged, "--anchor", resigned, "--key", key)

	for i, anchor := range saved {
		number, position := i+1, 2*(i+1)
		verify := []string{"verify", "--data", forged, "--anchor", anchor, "--key", key}
		since := []string{"anchor", "--data", forged, "--since", anchor}
		if position < edited {
			done(t, verify...) // so it is known that the edit comes after it
			done(t, since...)
			continue
		}
		refused(t, exitCheck, fmt.Sprintf("block %d: the events 1 to %d are not those that %s signed", number, position, keyName(t, key)), verify...)
		refused(t, exitCheck, "not proved: ", since...)
	}
	// The proof of the call as it was stays good; one of the call as it is now has
	// no anchor that anybody has kept.
	done(t, "verify", "--proof", proof, "--key", key)

	// The same events in other blocks are found by the blocks.
	reblocked := forge(t, r.dir, func(uint64, *domain.Event) {}, 1)
	refused(t, exitCheck, "the book was written anew", "verify", "--data", reblocked, "--anchor", saved[3], "--key", key)
}

func keyName(t *testing.T, path string) string {
	t.Helper()
	name, _, _ := strings.Cut(readText(t, path), "+")
	return name
}

// forge writes the book of a directory anew, edited, in another: in the same
// blocks, or with that many events in each.
func forge(t *testing.T, from string, edit func(uint64, *domain.Event), size ...int) string {
	t.Helper()
	ctx, to := context.Background(), t.TempDir()
	var sealed domain.Instant
	book, err := eventstore.Open(ctx, to, openLog, eventstore.Options{Clock: func() domain.Instant { return sealed }})
	if err != nil {
		t.Fatal(err)
	}
	walk, closeLog, err := openBook(ctx, from, "")
	if err != nil {
		t.Fatal(err)
	}
	defer closeLog()
	_, err = walk.Run(ctx, func(b *block.Block, _ eventstore.Head, _ int) error {
		sealed = b.SealedAt
		var records []eventstore.Record
		for i := range b.Events {
			edit(b.First+uint64(i), &b.Events[i])
			records = append(records, eventstore.Record{Event: b.Events[i]})
		}
		for len(records) > 0 {
			n := len(records)
			if len(size) > 0 {
				n = size[0]
			}
			if _, err := book.Submit(ctx, records[:n]); err != nil {
				return err
			}
			records = records[n:]
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := book.Close(); err != nil {
		t.Fatal(err)
	}
	return to
}
