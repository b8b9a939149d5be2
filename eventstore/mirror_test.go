package eventstore_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"

	"tollbook/eventstore"
	"tollbook/eventstore/block"
	"tollbook/eventstore/memlog"
)

// A copied is a mirror whose log is in memory.
type copied struct {
	t      tb
	dir    string
	log    *memlog.Log
	mirror *eventstore.Mirror
}

func newCopied(t tb, dir string) *copied { return &copied{t: t, dir: dir, log: memlog.New(t)} }

func (c *copied) tryOpen() (err error) {
	c.mirror, err = eventstore.OpenMirror(ctx, c.dir, func(path string) (eventstore.Log, error) {
		if path != eventstore.LogPath(c.dir) {
			c.t.Errorf("the log is opened at %s", path)
		}
		return c.log, nil
	})
	if err != nil {
		c.log = c.log.Reopen()
	}
	return err
}

func (c *copied) open() *copied {
	c.t.Helper()
	if err := c.tryOpen(); err != nil {
		c.t.Fatalf("%v", err)
	}
	return c
}

func (c *copied) close() {
	c.t.Helper()
	if err := c.mirror.Close(); err != nil {
		c.t.Errorf("close: %v", err)
	}
	c.log = c.log.Reopen()
}

// check checks every invariant of a book in the copy, and that it is the first n blocks.
func (c *copied) check(blocks [][]byte, n int) {
	c.t.Helper()
	checkLog(c.t, c.dir, c.log.Reopen())
	c.has(blocks, n)
}

func (c *copied) has(blocks [][]byte, n int) {
	c.t.Helper()
	if diff := cmp.Diff(blocks[:n], c.log.Blocks(), cmpopts.EquateEmpty()); diff != "" {
		c.t.Errorf("the copy is not the first %d of %d blocks: %s", n, len(blocks), diff)
	}
}

// source is a closed book.
func (s *shelf) source() eventstore.Source {
	s.t.Helper()
	anchor, err := eventstore.ReadAnchor(eventstore.AnchorPath(s.dir))
	if err != nil {
		s.t.Fatalf("%v", err)
	}
	return eventstore.Source{Dir: s.dir, Read: s.log.Reopen().Read, Anchor: anchor, Leaves: true}
}

// TestMirrorFollows: whatever is booked between two times the copy catches up,
// and however often it is opened, it is the book then, and was its beginning before.
func TestMirrorFollows(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		dir, err := os.MkdirTemp("", "mirror")
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = os.RemoveAll(dir) }()
		for _, name := range []string{"book", "copy"} {
			if err := os.Mkdir(filepath.Join(dir, name), 0o755); err != nil {
				t.Fatal(err)
			}
		}
		s := newShelf(t, filepath.Join(dir, "book")).open()
		c := newCopied(t, filepath.Join(dir, "copy")).open()
		from := eventstore.Source{Dir: s.dir, Leaves: rapid.Bool().Draw(t, "leaves")}
		next, has := 1, 0
		for range rapid.IntRange(1, 5).Draw(t, "rounds") {
			for range rapid.SampledFrom([]int{0, 1, 1, 2, 3, 70}).Draw(t, "blocks") {
				if _, err := s.book.Submit(ctx, calls(next, next)); err != nil {
					t.Fatal(err)
				}
				next++
			}
			if rapid.Bool().Draw(t, "reopen") {
				c.close()
				c.open()
			}
			c.has(s.log.Blocks(), has)
			from.Read, from.Anchor = s.book.Blocks, &eventstore.Anchor{Head: s.book.Head()}
			from.End = rapid.SampledFrom([]uint64{0, from.Anchor.Block}).Draw(t, "end")
			told := has
			if err := c.mirror.CatchUp(ctx, from, func(h eventstore.Head) {
				if told++; h.Block != uint64(told) {
					t.Errorf("told of block %d after %d", h.Block, told-1)
				}
			}); err != nil {
				t.Fatal(err)
			}
			if has = len(s.log.Blocks()); told != has || c.mirror.Head() != s.book.Head() {
				t.Errorf("told of %d of %d blocks; the copy is at %v, the book at %v", told, has, c.mirror.Head(), s.book.Head())
			}
		}
		c.check(s.log.Blocks(), has)
		c.close()
		s.close()
	})
}

// TestMirrorRefuses is of a copy of a book of five blocks, one of which is not
// what it was.
func TestMirrorRefuses(t *testing.T) {
	other := newShelf(t, t.TempDir()).open()
	for from := 1; from <= 61; from += 10 {
		if from > 20 {
			other.submit(calls(from+1000, from+1009))
		} else {
			other.submit(calls(from, from+9)) // two blocks are the same
		}
	}
	other.close()
	for _, test := range []struct {
		name    string
		has     int // blocks of the copy
		change  func(s *shelf, c *copied)
		compare bool // it is noticed before anything is copied
		kept    int  // blocks of the copy then
		refused []string
	}{
		{"nothing", 3, func(*shelf, *copied) {}, false, 5, nil},
		{"another book of that length", 5, func(s *shelf, _ *copied) { s.log = memlog.Of(s.t, other.log.Blocks()[:5]...) }, true, 5,
			[]string{"block 3 has hash " + block.Hash(other.log.Blocks()[2]).String(), "different books", "tollbook restore --data"}},
		{"another, longer book", 4, func(s *shelf, _ *copied) { s.log = other.log }, true, 4, []string{"block 3 has hash"}},
		{"another, shorter book", 5, func(s *shelf, _ *copied) { s.log = memlog.Of(s.t, other.log.Blocks()[:3]...) }, true, 5, []string{"block 3 has hash"}},
		{"book cut by a block", 5, func(s *shelf, _ *copied) { s.cut(4) }, true, 5,
			[]string{"ends at block 4", "goes on to block 5 (position 50)", "tollbook restore --data", " --from "}},
		{"book gone", 5, func(s *shelf, _ *copied) { s.cut(0) }, true, 5, []string{"ends at block 0", "goes on to block 5"}},
		{"book cut to what the copy has", 3, func(s *shelf, _ *copied) { s.cut(3) }, false, 3, []string{"ends at block 3", "anchor is block 5", "tollbook restore --data"}},
		{"bit of the copy's last block", 3, func(s *shelf, _ *copied) { s.flip(3) }, true, 3, []string{"block 3 has hash"}},
		{"bit of a block to be copied", 3, func(s *shelf, _ *copied) { s.flip(5) }, false, 4, []string{"block 5", "tollbook restore --data"}},
		{"block missing", 2, func(s *shelf, _ *copied) {
			blocks := s.log.Blocks()
			blocks[3] = nil
			s.log = memlog.Of(s.t, blocks...)
		}, false, 2, []string{"block 4 is missing"}},
		{"blocks of another book appended", 1, func(s *shelf, _ *copied) {
			s.log = memlog.Of(s.t, append(s.log.Blocks()[:3], other.log.Blocks()[3:]...)...)
		}, false, 3, []string{"block 4: continues a block with hash"}},
		{"another block at the anchor", 3, func(s *shelf, _ *copied) {
			s.cut(4)
			forge(s.t.(*testing.T), s, calls(41, 49), func(*block.Block) {})
		}, false, 4, []string{"block 5 has hash", "not the book the anchor was made of"}},
		{"a leaf that is not in the tree", 3, func(s *shelf, _ *copied) {
			s.cut(4)
			forge(s.t.(*testing.T), s, calls(41, 50), func(b *block.Block) { b.Tree[0][7] ^= 1 })
		}, false, 4, []string{"block 5: its events do not make the Merkle tree"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := filled(t)
			whole := s.log.Blocks()
			c := newCopied(t, t.TempDir()).open()
			if err := c.mirror.CatchUp(ctx, eventstore.Source{Read: memlog.Of(t, whole[:test.has]...).Read}, nil); err != nil {
				t.Fatal(err)
			}
			test.change(s, c)
			from := s.source()
			err := c.mirror.Compare(ctx, from)
			if test.compare {
				wantError(t, err, eventstore.ErrCorrupt, test.refused...)
			} else if err != nil && !errors.Is(err, eventstore.ErrCorrupt) {
				t.Error(err)
			}
			err = c.mirror.CatchUp(ctx, from, nil)
			if test.refused == nil {
				if err != nil {
					t.Error(err)
				}
			} else {
				wantError(t, err, eventstore.ErrCorrupt, test.refused...)
				if again := c.mirror.CatchUp(ctx, from, nil); again == nil || again.Error() != err.Error() {
					t.Errorf("then: %v", again)
				}
			}
			c.check(whole, test.kept)
			c.close()
			c.open() // what it has is good
			c.close()
		})
	}
}

// flip changes a bit in the middle of a block.
func (s *shelf) flip(n int) {
	blocks := s.log.Blocks()
	blocks[n-1][len(blocks[n-1])/2] ^= 4
	s.log = memlog.Of(s.t, blocks...)
}

// TestMirrorDamaged: a copy that is not what was written is refused, with the block.
func TestMirrorDamaged(t *testing.T) {
	for name, test := range map[string]struct {
		change  func(c *copied)
		refused []string
	}{
		"bit":        {func(c *copied) { s := &shelf{t: c.t, log: c.log}; s.flip(2); c.log = s.log }, []string{"block 2", "move it away"}},
		"cut":        {func(c *copied) { c.log = memlog.Of(c.t, c.log.Blocks()[:4]...) }, []string{"ends at block 4", "anchor is block 5", "move it away"}},
		"no anchor":  {func(c *copied) { _ = os.Remove(eventstore.AnchorPath(c.dir)) }, []string{"5 blocks but no anchor", "move it away"}},
		"restoring":  {func(c *copied) { _ = os.WriteFile(eventstore.RestoringPath(c.dir), []byte("replaced-1\n"), 0o644) }, []string{"a restore was begun", "run it again", "replaced-1"}},
		"no log":     {func(c *copied) { c.log = memlog.New(c.t) }, []string{"ends at block 0", "last 5 blocks"}},
		"two blocks": {func(c *copied) { b := c.log.Blocks(); b[1], b[2] = b[2], b[1]; c.log = memlog.Of(c.t, b...) }, []string{"block 2"}},
	} {
		t.Run(name, func(t *testing.T) {
			s := filled(t)
			c := newCopied(t, t.TempDir()).open()
			if err := c.mirror.CatchUp(ctx, s.source(), nil); err != nil {
				t.Fatal(err)
			}
			c.close()
			test.change(c)
			wantError(t, c.tryOpen(), eventstore.ErrCorrupt, append(test.refused, c.dir)...)
			wantError(t, c.tryOpen(), eventstore.ErrCorrupt, test.refused...) // the directory was released
		})
	}
}

// TestMirrorFaults: an append to the copy that fails, or that fails but
// happened, leaves the beginning of the book, from which it goes on.
func TestMirrorFaults(t *testing.T) {
	for n := 1; n <= 5; n++ {
		for _, persisted := range []bool{false, true} {
			t.Run(fmt.Sprintf("block %d, persisted %v", n, persisted), func(t *testing.T) {
				s := filled(t)
				c := newCopied(t, t.TempDir()).open()
				c.log.FailAppend(uint64(n), persisted)
				err := c.mirror.CatchUp(ctx, s.source(), nil)
				wantError(t, err, eventstore.ErrUncertain, fmt.Sprintf("block %d of the copy in %s", n, c.dir))
				if again := c.mirror.CatchUp(ctx, s.source(), nil); !errors.Is(again, eventstore.ErrUncertain) {
					t.Errorf("then: %v", again)
				}
				c.close()
				c.open()
				has := n - 1
				if persisted {
					has = n
				}
				c.check(s.log.Blocks(), has)
				if err := c.mirror.CatchUp(ctx, s.source(), nil); err != nil {
					t.Error(err)
				}
				c.check(s.log.Blocks(), 5)
				c.close()
			})
		}
	}
}

// TestMirrorHolds compares anchors that were saved at every block, and another book's.
func TestMirrorHolds(t *testing.T) {
	s := filled(t)
	c := newCopied(t, t.TempDir()).open()
	from := s.source()
	from.Read = memlog.Of(t, s.log.Blocks()[:4]...).Read
	from.Anchor = nil
	if err := c.mirror.CatchUp(ctx, from, nil); err != nil {
		t.Fatal(err)
	}
	for n := range uint64(6) {
		head, ok, err := eventstore.HeadAt(ctx, s.log.Read, n)
		if err != nil || !ok || head.Block != n || head.Events != 10*n {
			t.Fatal(head, ok, err)
		}
		err = c.mirror.Holds(ctx, eventstore.Anchor{Head: head})
		if n == 5 {
			wantError(t, err, eventstore.ErrCorrupt, "ends at block 4", "anchor is block 5")
			continue
		}
		if err != nil {
			t.Error(err)
		}
		head.Hash[3] ^= 1
		wantError(t, c.mirror.Holds(ctx, eventstore.Anchor{Head: head}), eventstore.ErrCorrupt, fmt.Sprintf("block %d", n), "not the book")
	}
	if head, ok, err := eventstore.HeadAt(ctx, s.log.Read, 6); ok || err != nil {
		t.Error(head, ok, err)
	}
	c.close()
}

// TestMirrorAlone: a directory is one mirror's, or one book's.
func TestMirrorAlone(t *testing.T) {
	s := newShelf(t, t.TempDir()).open()
	c := newCopied(t, s.dir)
	if err := c.tryOpen(); !errors.Is(err, eventstore.ErrLocked) {
		t.Error(err)
	}
	s.close()
	c.open()
	if err := s.tryOpen(); !errors.Is(err, eventstore.ErrLocked) {
		t.Error(err)
	}
	c.close()
}

// TestBlocksWhileBooked: Blocks goes up to a head that somebody was told of, and
// a Close waits for no more than one block.
func TestBlocksWhileBooked(t *testing.T) {
	s := newShelf(t, t.TempDir()).open()
	for id := 1; id <= 5; id++ {
		s.submit(calls(id, id))
	}
	var got []uint64
	closed := make(chan error, 1)
	err := s.book.Blocks(ctx, 2, func(n uint64, data []byte) error {
		if got = append(got, n); n == 3 {
			go func() { closed <- s.book.Close() }()
			<-s.book.Done()
		}
		return nil
	})
	if diff := cmp.Diff([]uint64{2, 3}, got); diff != "" || !errors.Is(err, eventstore.ErrClosed) {
		t.Errorf("%v %s", err, diff)
	}
	if err := <-closed; err != nil {
		t.Error(err)
	}
	if err := s.book.Blocks(ctx, 1, func(uint64, []byte) error { return nil }); !errors.Is(err, eventstore.ErrClosed) {
		t.Error(err)
	}
	s.log = s.log.Reopen()
	s.open()
	stop, cancel := context.WithCancel(ctx)
	cancel()
	for from, want := range map[uint64]error{1: context.Canceled, 6: nil} {
		if err := s.book.Blocks(stop, from, func(uint64, []byte) error { return nil }); !errors.Is(err, want) {
			t.Errorf("from %d: %v", from, err)
		}
	}
	s.close()
}

// TestOpenSaysRestore: a book that is refused comes with the command that puts a
// copy back, and one in the middle of a restore is not begun anew.
func TestOpenSaysRestore(t *testing.T) {
	s := filled(t)
	s.cut(4)
	command := "tollbook restore --data " + s.dir + " --from BACKUP"
	wantError(t, s.tryOpen(), eventstore.ErrCorrupt, "last 1 blocks", command)
	if err := os.WriteFile(eventstore.RestoringPath(s.dir), []byte("replaced-1\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	s.log = nil // not even opened
	err := s.tryOpen()
	wantError(t, err, eventstore.ErrCorrupt, "a restore was begun", command, filepath.Join(s.dir, "replaced-1"))
	if strings.Count(err.Error(), command) != 1 {
		t.Error(err)
	}
}
