package eventstore_test

import (
	"bytes"
	"math/rand/v2"
	"os"
	"slices"
	"testing"

	"tollbook/domain"
	"tollbook/eventstore"
	"tollbook/eventstore/block"
	"tollbook/eventstore/merkle"
	"tollbook/eventstore/sqlite"
)

// TestFaultControls takes away what the book relies on, one thing at a time: what
// TestFaults looks for must be found then. One that has all is for comparison.
func TestFaultControls(t *testing.T) {
	t.Parallel()
	seed := faultSeed(t)
	for _, control := range []struct {
		name   string
		strike func(s *site, r *rand.Rand)
		want   verdict
		found  []string
	}{
		{"nothing is taken away", forgets(false, false), opens, nil},
		{"no fsync: acknowledged blocks go, and the anchor with them", forgets(true, true), opens, []string{lost, different}},
		{"no fsync: acknowledged blocks go, and the anchor stays", forgets(true, false), opens, []string{lost, refused}},
		{"the chain is checked: one block is another", rewritten(false), refuses, nil},
		{"the chain is not checked: every block after it continues it", rewritten(true), refuses, []string{lost, different, undetected}},
		{"the anchor is compared: the book is an old copy", older(true), refuses, nil},
		{"the anchor is not compared: the book is an old copy", older(false), refuses, []string{lost, undetected}},
		{"no index: repeats are booked", forgetful, opens, []string{doubled, refused}},
	} {
		t.Run(control.name, func(t *testing.T) {
			t.Parallel()
			s := newSite(t, newReport())
			r := drawing(seed, t.Name(), 0)
			s.begin(r)
			control.strike(s, r)
			s.judge(control.want)
			if control.found == nil {
				s.none("a control")
			}
			for _, finding := range control.found {
				if len(s.findings[finding]) == 0 {
					t.Errorf("nothing is found to be %s, only %v", finding, s.findings)
				}
			}
		})
	}
}

// forgets ends the process after some blocks; with cached, while those were only
// in a cache that went with it.
func forgets(cached, anchor bool) func(*site, *rand.Rand) {
	return func(s *site, r *rand.Rand) {
		s.save()
		before := s.dir
		if anchor {
			before = copyDir(s.t, s.dir)
		}
		s.hooks.append = func(_ uint64, block []byte, write func([]byte) error) error {
			if cached {
				return nil
			}
			return write(block)
		}
		for range 1 + r.IntN(3) {
			s.fatal(s.send(s.draw(r)))
		}
		s.killed()
		if anchor {
			s.put(before, "anchor")
		}
		s.then = s.clone() // senders keep what they were told
	}
}

// older is a directory whose log is an old copy; unless it is compared, its anchor
// is as if there had never been a block.
func older(compared bool) func(*site, *rand.Rand) {
	return func(s *site, r *rand.Rand) {
		s.put(s.older(r), "book.db", "book.db-wal", "book.db-shm")
		if !compared {
			s.forgetAnchor()
		}
	}
}

func (s *site) forgetAnchor() {
	s.t.Helper()
	empty := newSite(s.t, s.count)
	s.fatal(empty.open())
	s.fatal(empty.close())
	s.put(empty.dir, "anchor")
}

// forgetful books what is sent again, as a book without its index would.
func forgetful(s *site, r *rand.Rand) {
	s.save()
	s.book.ForgetIndex()
	s.fatal(s.send(s.sent[:1+r.IntN(len(s.sent))]))
	s.inspect(nil)
	s.fatal(s.close())
}

// rewritten has the first call of the book last a minute longer. Chained, every
// block is made again, and the anchor is forgotten.
func rewritten(chained bool) func(*site, *rand.Rand) {
	return func(s *site, r *rand.Rand) {
		s.fatal(s.send(s.draw(r))) // so that there is a block after the first call
		s.fatal(s.close())
		s.save()
		blocks := resealed(s.t, blocksOf(s.t, s.dir), chained)
		s.fatal(os.Remove(eventstore.LogPath(s.dir)))
		log, err := sqlite.Open(eventstore.LogPath(s.dir))
		s.fatal(err)
		for i, data := range blocks {
			s.fatal(log.Append(ctx, uint64(i)+1, data))
		}
		s.fatal(log.Close())
		if chained {
			s.forgetAnchor()
		}
	}
}

func blocksOf(t testing.TB, dir string) (blocks [][]byte) {
	t.Helper()
	log, err := sqlite.OpenReadOnly(eventstore.LogPath(dir))
	if err != nil {
		t.Fatal(err)
	}
	err = log.Read(ctx, 1, func(_ uint64, data []byte) error {
		blocks = append(blocks, bytes.Clone(data))
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := log.Close(); err != nil {
		t.Fatal(err)
	}
	return blocks
}

// resealed is the book with its first call changed, each block in order by
// itself. Chained, each also names the hash that the one before has now.
func resealed(t testing.TB, blocks [][]byte, chained bool) (all [][]byte) {
	t.Helper()
	var read, write block.Symbols
	var tree merkle.Tree
	edited := false
	for _, data := range blocks {
		b, err := block.Decode(data, &read)
		if err != nil {
			t.Fatal(err)
		}
		for i := range b.Events {
			if _, ok := b.Events[i].Data.(*domain.Call); ok && !edited {
				b.Events[i], edited = longer(b.Events[i], 60_000), true
			}
			tree.Append(merkle.Leaf(canonical(&b.Events[i])))
		}
		b.Tree = slices.Clone(tree.Peaks)
		if chained && len(all) > 0 {
			b.Prev = block.Hash(all[len(all)-1])
		}
		again, staged, err := write.Encode(nil, b)
		if err != nil {
			t.Fatal(err)
		}
		staged.Commit()
		all = append(all, again)
	}
	return all
}
