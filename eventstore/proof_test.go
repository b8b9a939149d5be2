package eventstore_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/go-json-experiment/json"
	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"tollbook/domain"
	"tollbook/eventstore"
	"tollbook/eventstore/memlog"
	"tollbook/eventstore/merkle"
)

// TestProofs: whatever the blocks are like, each event of a book that is open,
// opened again or only walked has the same proof, which holds; and so has each
// state that it has passed.
func TestProofs(t *testing.T) {
	key := fixedKey(t)
	keys := publicKeys(t, fixedPublic)
	rapid.Check(t, func(rt *rapid.T) {
		s := newShelf(rt, t.TempDir()).open()
		var saved []eventstore.SignedAnchor
		sign := func(p *eventstore.Prover) eventstore.SignedAnchor {
			rt.Helper()
			signed, err := key.Sign(p.Checkpoint)
			if err != nil {
				rt.Fatalf("%v", err)
			}
			return signed
		}
		// Mostly some chunks, in blocks of any size.
		size := rapid.OneOf(rapid.IntRange(1, 40), rapid.IntRange(1000, 1050), rapid.IntRange(2000, 4200)).Draw(rt, "events")
		for n := 0; n < size; {
			batch := min(size-n, rapid.SampledFrom([]int{1, 7, 500, 1024, 1500}).Draw(rt, "batch"))
			s.submit(calls(n+1, n+batch))
			n += batch
			saved = append(saved, sign(s.book.Prover(ctx)))
		}
		if rapid.Bool().Draw(rt, "reopen") {
			s.close()
			s.open()
		}
		n := rapid.IntRange(1, size).Draw(rt, "event")
		e := call("contoso", "switch/mil-1", n)

		position, ok := s.book.Find(e.Tenant, e.Source, e.ID)
		if !ok || position != uint64(n) {
			rt.Fatalf("event %d is at position %d, %v", n, position, ok)
		}
		place, err := s.book.Place(ctx, position)
		if err != nil {
			rt.Fatalf("%v", err)
		}
		live := s.book.Prover(ctx)
		leaf, hashes, err := live.Include(&place)
		if err != nil {
			rt.Fatalf("%v", err)
		}
		if leaf != merkle.Leaf(canonical(&e)) {
			rt.Errorf("the leaf of position %d is another event's", n)
		}
		proof := reread(rt, eventstore.NewInclusion(&place, hashes, sign(live)))
		if shown, err := proof.Check(keys); err != nil || proof.Event != string(canonical(&e)) || proof.Position != position || shown.Anchor != sign(live) {
			rt.Errorf("position %d: %v", n, err)
		}

		old := rapid.SampledFrom(saved).Draw(rt, "saved")
		extension, err := live.Extend(old.Events)
		if err != nil {
			rt.Fatalf("%v", err)
		}
		consistency, err := eventstore.NewConsistency(old, sign(live), extension)
		if err != nil {
			rt.Fatalf("%v", err)
		}
		if shown, err := reread(rt, consistency).Check(keys); err != nil || shown.Old != old {
			rt.Errorf("from position %d: %v", old.Events, err)
		}

		walk := eventstore.Walk{Log: s.log}
		walked, there, err := walk.Prover(ctx, func(_ uint64, one *domain.Event) bool { return one.ID == e.ID })
		if err != nil || there == nil {
			rt.Fatalf("walked: %v", err)
		}
		if diff := cmp.Diff(place, *there); diff != "" || walked.Checkpoint != live.Checkpoint {
			rt.Errorf("walked to %v, live at %v (-live +walked):\n%s", walked.Checkpoint, live.Checkpoint, diff)
		}
		if leaf2, hashes2, err := walked.Include(there); err != nil || leaf2 != leaf || !cmp.Equal(hashes, hashes2) {
			rt.Errorf("the walk's proof of position %d is another: %v", n, err)
		}
		walked, _, err = walk.Prover(ctx, func(position uint64, _ *domain.Event) bool { return position == old.Events })
		if err != nil {
			rt.Fatalf("%v", err)
		}
		if extension2, err := walked.Extend(old.Events); err != nil || !cmp.Equal(extension, extension2) {
			rt.Errorf("the walk's proof from position %d is another: %v", old.Events, err)
		}
		s.close()
	})
}

// reread writes a proof and reads it again.
func reread(t tb, p *eventstore.Proof) *eventstore.Proof {
	t.Helper()
	data, err := json.Marshal(p)
	if err != nil {
		t.Fatalf("%v", err)
	}
	again, err := eventstore.ParseProof(data)
	if err != nil {
		t.Fatalf("%v", err)
	}
	if diff := cmp.Diff(p, again); diff != "" {
		t.Fatalf("-written +read:\n%s", diff)
	}
	return again
}

// someProofs are one of each kind, of a small book.
func someProofs(t *testing.T) (inclusion, consistency *eventstore.Proof) {
	t.Helper()
	key := fixedKey(t)
	s := newShelf(t, t.TempDir()).open()
	defer s.close()
	var anchors []eventstore.SignedAnchor
	for _, n := range []int{3, 7} {
		s.submit(calls(1, n))
		signed, err := key.Sign(s.book.Prover(ctx).Checkpoint)
		if err != nil {
			t.Fatal(err)
		}
		anchors = append(anchors, signed)
	}
	prover := s.book.Prover(ctx)
	place, err := s.book.Place(ctx, 2)
	if err != nil {
		t.Fatal(err)
	}
	_, hashes, err := prover.Include(&place)
	if err != nil {
		t.Fatal(err)
	}
	inclusion = eventstore.NewInclusion(&place, hashes, anchors[1])
	if hashes, err = prover.Extend(3); err != nil {
		t.Fatal(err)
	}
	if consistency, err = eventstore.NewConsistency(anchors[0], anchors[1], hashes); err != nil {
		t.Fatal(err)
	}
	return inclusion, consistency
}

// TestProofWithAnyBitFlipped is refused, in one line, or it shows the very same:
// there are bits that base64 and JSON do not use.
func TestProofWithAnyBitFlipped(t *testing.T) {
	keys := publicKeys(t, fixedPublic)
	inclusion, consistency := someProofs(t)
	for _, p := range []*eventstore.Proof{inclusion, consistency} {
		good, err := json.Marshal(p)
		if err != nil {
			t.Fatal(err)
		}
		want, err := p.Check(keys)
		if err != nil {
			t.Fatal(err)
		}
		refused, same := 0, 0
		for i := range good {
			for bit := range 8 {
				bad := bytes.Clone(good)
				bad[i] ^= 1 << bit
				p2, err := eventstore.ParseProof(bad)
				var got eventstore.Shown
				if err == nil {
					got, err = p2.Check(keys)
				}
				switch {
				case err == nil && p2.Kind == p.Kind && p2.Event == p.Event && p2.Position == p.Position && cmp.Equal(p2.Hashes, p.Hashes) &&
					got.Anchor.Checkpoint == want.Anchor.Checkpoint && got.Anchor.Key == want.Anchor.Key &&
					got.Old.Checkpoint == want.Old.Checkpoint && got.Old.Key == want.Old.Key:
					same++
				case err == nil:
					t.Errorf("%s, bit %d of byte %d: shows something else:\n%s", p.Kind, bit, i, bad)
				case !errors.Is(err, eventstore.ErrUnproven) || strings.Contains(err.Error(), "\n"):
					t.Errorf("%s, bit %d of byte %d: %v", p.Kind, bit, i, err)
				default:
					refused++
				}
			}
		}
		t.Logf("%s: of %d bits %d are refused, %d are without effect", p.Kind, 8*len(good), refused, same)
		if same > len(good)/10 {
			t.Errorf("%s: %d of %d bits are without effect", p.Kind, same, 8*len(good))
		}
	}
}

// TestForgedProofs: parts of good proofs put together otherwise.
func TestForgedProofs(t *testing.T) {
	keys := publicKeys(t, fixedPublic)
	inclusion, consistency := someProofs(t)
	for _, c := range []struct {
		name, say string
		of        *eventstore.Proof
		forge     func(*eventstore.Proof)
	}{
		{"kind", "kind", inclusion, func(p *eventstore.Proof) { p.Kind = "absence" }},
		{"other kind", "event", inclusion, func(p *eventstore.Proof) { p.Kind = eventstore.ProofConsistency }},
		{"other position", "position", inclusion, func(p *eventstore.Proof) { p.Position = 3 }},
		{"position 0", "position", inclusion, func(p *eventstore.Proof) { p.Position = 0 }},
		{"position beyond", "position", inclusion, func(p *eventstore.Proof) { p.Position = 1 << 63 }},
		{"other event", "event", inclusion, func(p *eventstore.Proof) { p.Event = strings.Replace(p.Event, "60000", "60001", 1) }},
		{"a node as event", "event", inclusion, func(p *eventstore.Proof) { p.Event = string(p.Hashes[0][:]) + string(p.Hashes[1][:]) }},
		{"a hash less", "hashes", inclusion, func(p *eventstore.Proof) { p.Hashes = p.Hashes[1:] }},
		{"a hash more", "hashes", inclusion, func(p *eventstore.Proof) { p.Hashes = append(p.Hashes, merkle.Hash{}) }},
		{"no hashes", "hashes", inclusion, func(p *eventstore.Proof) { p.Hashes = nil }},
		{"older anchor", "hashes", inclusion, func(p *eventstore.Proof) { p.Anchor = consistency.Old }},
		{"two anchors", "old", inclusion, func(p *eventstore.Proof) { p.Old = consistency.Old }},
		{"no anchor", "anchor", inclusion, func(p *eventstore.Proof) { p.Anchor = "" }},
		{"anchors swapped", "before the older", consistency, func(p *eventstore.Proof) { p.Old, p.Anchor = p.Anchor, p.Old }},
		{"hashes of another", "hashes", consistency, func(p *eventstore.Proof) { p.Hashes = inclusion.Hashes }},
		{"no older anchor", "old", consistency, func(p *eventstore.Proof) { p.Old = "" }},
		{"with event", "event", consistency, func(p *eventstore.Proof) { p.Event = inclusion.Event }},
	} {
		forged := *c.of
		c.forge(&forged)
		if _, err := forged.Check(keys); !errors.Is(err, eventstore.ErrUnproven) || !strings.Contains(err.Error(), c.say) {
			t.Errorf("%s: %v; want an error with %q", c.name, err, c.say)
		}
	}
	for _, text := range []string{"", "[]", "{}", `{"kind":"inclusion","more":1}`, `{"kind":"inclusion","hashes":["AA=="],"anchor":""}`} {
		p, err := eventstore.ParseProof([]byte(text))
		if err == nil {
			_, err = p.Check(keys)
		}
		if !errors.Is(err, eventstore.ErrUnproven) {
			t.Errorf("%q: %v", text, err)
		}
	}
	if _, err := eventstore.ParseProof(make([]byte, eventstore.MaxProofBytes+1)); !errors.Is(err, eventstore.ErrUnproven) {
		t.Errorf("a file that is too long: %v", err)
	}
}

// TestFindWhileBooking: what was acknowledged is found at once, by anybody, and
// proved of a head that has it.
func TestFindWhileBooking(t *testing.T) {
	s := newShelf(t, t.TempDir()).open()
	defer s.close()
	var senders sync.WaitGroup
	for sender := range 4 {
		senders.Go(func() {
			source := fmt.Sprintf("switch/%d", sender)
			for n := range 60 {
				e := call("contoso", source, n)
				if _, ok := s.book.Find("contoso", source, e.ID); ok {
					t.Errorf("%s %s is found before it is booked", source, e.ID)
				}
				results, err := s.book.Submit(ctx, records(e))
				if err != nil {
					t.Error(err)
					return
				}
				position, ok := s.book.Find("contoso", source, e.ID)
				if !ok || position != results[0].Position {
					t.Errorf("%s %s is booked at %d and found at %d, %v", source, e.ID, results[0].Position, position, ok)
				}
				place, err := s.book.Place(ctx, position)
				if err != nil {
					t.Error(err)
					return
				}
				if leaf, _, err := s.book.Prover(ctx).Include(&place); err != nil || leaf != merkle.Leaf(canonical(&e)) {
					t.Errorf("%s %s: %v", source, e.ID, err)
				}
			}
		})
	}
	senders.Wait()
	if _, ok := s.book.Find("contoso", "switch/0", "call-60"); ok {
		t.Error("a call that was never booked is found")
	}
}

// TestEmptyBookProvesNothing and asks nobody for it.
func TestEmptyBookProvesNothing(t *testing.T) {
	s := newShelf(t, t.TempDir()).open()
	defer s.close()
	p := s.book.Prover(ctx)
	if _, err := fixedKey(t).Sign(p.Checkpoint); err == nil {
		t.Error("an empty book was signed")
	}
	if _, err := p.Extend(0); err == nil {
		t.Error("something was proved of an empty book")
	}
	if _, _, err := p.Include(&eventstore.Place{Position: 1}); err == nil {
		t.Error("an event was proved to be in an empty book")
	}
}

// A swappedLog reads from another log once told to.
type swappedLog struct {
	eventstore.Log
	other *memlog.Log
}

func (l *swappedLog) Read(ctx context.Context, from uint64, each func(uint64, []byte) error) error {
	if l.other != nil {
		return l.other.Read(ctx, from, each)
	}
	return l.Log.Read(ctx, from, each)
}

// TestProofOfAChangedLog: what is in the log once the book is open is not proved
// unless it is what was booked, even where every block of it is whole.
func TestProofOfAChangedLog(t *testing.T) {
	write := func(edit int64) *shelf {
		s := newShelf(t, t.TempDir()).open()
		s.submit(append(calls(1, 1), records(longer(call("contoso", "switch/mil-1", 2), edit))...))
		s.submit(calls(3, 4))
		s.close()
		return s
	}
	s, edited := write(0), write(1000)
	log := &swappedLog{Log: s.log}
	book, err := eventstore.Open(ctx, s.dir, func(string) (eventstore.Log, error) { return log, nil }, eventstore.Options{Clock: ticking()})
	if err != nil {
		t.Fatal(err)
	}
	log.other = edited.log
	for position := range uint64(4) {
		place, err := book.Place(ctx, position+1)
		if err != nil {
			t.Fatal(err)
		}
		_, _, err = book.Prover(ctx).Include(&place)
		wantError(t, err, eventstore.ErrCorrupt, "block 2")
	}
	_, err = book.Prover(ctx).Extend(3)
	wantError(t, err, eventstore.ErrCorrupt, "block 2")
	if err := book.Close(); err != nil {
		t.Error(err)
	}
}

// BenchmarkProve proves events here and there in a book of calls.
func BenchmarkProve(b *testing.B) {
	s := newShelf(b, b.TempDir()).open()
	const size = 200_000
	for n := 0; n < size; n += 5000 {
		s.submit(calls(n+1, n+5000))
	}
	b.ResetTimer()
	for i := range b.N {
		place, err := s.book.Place(ctx, uint64(i)*7919%size+1)
		if err != nil {
			b.Fatal(err)
		}
		if _, _, err := s.book.Prover(ctx).Include(&place); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "proofs/s")
	s.close()
}
