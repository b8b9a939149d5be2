package eventstore

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sort"
	"strings"

	"tollbook/eventstore/block"
	"tollbook/eventstore/merkle"
)

// A Mirror is a copy of a book: a directory with a log and an anchor of its own,
// the files of a data directory, so that whatever reads a book reads a copy. It
// has the first blocks of the book, byte for byte, and grows by [Mirror.CatchUp].
// What is copied is checked first: a damaged book never gets into a copy of it.
//
// A Mirror is used by one goroutine at a time.
type Mirror struct {
	dir    string
	log    Log
	anchor *anchorFile
	lock   interface{ Unlock() error }
	chain  chain
	bytes  uint64
	failed error // why it has to be opened again
}

// A Source is the book that a Mirror copies.
type Source struct {
	// Dir is its data directory, for what an error tells people to do; "" where
	// it is not one that they would put a copy back into.
	Dir    string
	Read   ReadFunc // [Book.Blocks] or [Log.Read]
	End    uint64   // the last block to copy: who books faster than a copy is written must not keep it from ending; 0: all
	Anchor *Anchor  // what it must reach; nil: not compared
	Leaves bool     // check every event against the Merkle tree, not only the blocks against the chain
}

// OpenMirror takes an existing directory, checks the chain of what is copied
// there up to the copy's anchor, and is ready for more. Errors: ErrLocked,
// ErrCorrupt with the block.
func OpenMirror(ctx context.Context, dir string, openLog func(path string) (Log, error)) (*Mirror, error) {
	lock, err := LockDir(dir)
	if err != nil {
		return nil, err
	}
	m := &Mirror{dir: dir, lock: lock}
	if err := m.load(ctx, openLog); err != nil {
		if errors.Is(err, ErrCorrupt) {
			err = fmt.Errorf("the copy in %s: %w; move it away, and a new one is made from the beginning", dir, err)
		}
		return nil, errors.Join(err, m.Close())
	}
	return m, nil
}

func (m *Mirror) load(ctx context.Context, openLog func(path string) (Log, error)) (err error) {
	if m.log, err = openLogIn(m.dir, openLog); err != nil {
		return err
	}
	end, err := m.log.Head(ctx)
	if err != nil {
		return err
	}
	file, anchor, err := openAnchor(AnchorPath(m.dir), end)
	if err != nil {
		return err
	}
	m.anchor = file
	walk := Walk{Log: m.log, Anchor: anchor}
	err = walk.run(ctx, &m.chain, func(_ *block.Block, _ []merkle.Hash, size int) error {
		m.bytes += uint64(size)
		return nil
	})
	if err != nil {
		return err
	}
	return m.anchor.write(m.chain.head)
}

// Head is how far the copy goes: everything up to it is durable.
func (m *Mirror) Head() Head { return m.chain.head }

// Bytes is how long the copy's blocks are together.
func (m *Mirror) Bytes() uint64 { return m.bytes }

// Compare makes sure that the copy is the beginning of the source, which it is
// if the source has the copy's last block. Errors: ErrCorrupt, with the first
// block that differs or is missing, and what to do.
func (m *Mirror) Compare(ctx context.Context, from Source) error {
	_, err := m.fetch(ctx, from, 0)
	return err
}

// CatchUp appends what the source has and the copy has not, and calls each, if
// not nil, with every block.
//
// Errors: those of Compare; ErrCorrupt for a block of the source that does not
// continue the one before, or an anchor that it does not reach; those of the
// copy's log. After an error open the Mirror again.
func (m *Mirror) CatchUp(ctx context.Context, from Source, each func(Head)) error {
	if m.failed != nil {
		return m.failed
	}
	m.failed = m.catchUp(ctx, from, each)
	return m.failed
}

func (m *Mirror) catchUp(ctx context.Context, from Source, each func(Head)) error {
	for {
		limit := fetchBlocks
		if from.End != 0 {
			limit = int(min(uint64(limit), max(from.End, m.chain.head.Block)-m.chain.head.Block))
		}
		blocks, err := m.fetch(ctx, from, limit)
		if err != nil {
			return err
		}
		if len(blocks) == 0 {
			return from.damaged(from.Anchor.reached(m.chain.head))
		}
		for _, data := range blocks {
			if err := m.append(ctx, from, data); err != nil {
				return err
			}
			if each != nil {
				each(m.chain.head)
			}
		}
	}
}

// append puts one more block into the copy. A crash after the log has it leaves
// an anchor that is a block behind, which the next OpenMirror moves on.
func (m *Mirror) append(ctx context.Context, from Source, data []byte) error {
	n := m.chain.head.Block + 1
	if _, _, err := m.chain.next(n, data, from.Leaves); err != nil {
		return from.damaged(err)
	}
	if err := from.Anchor.check(m.chain.head); err != nil {
		return from.damaged(err)
	}
	if err := m.log.Append(ctx, n, data); err != nil {
		return fmt.Errorf("block %d of the copy in %s: %w", n, m.dir, err)
	}
	m.bytes += uint64(len(data))
	return m.anchor.write(m.chain.head)
}

// How much of the source is held in memory at once: a copy that is slow, or
// hangs, must not do so while the source waits to be closed.
const (
	fetchBlocks = 63      // with the one before, as many as a log reads at a time
	fetchBytes  = 8 << 20 // unless the first block alone is longer
)

// fetch compares the source's block of the copy's head, and returns up to limit
// of those that follow it.
func (m *Mirror) fetch(ctx context.Context, from Source, limit int) ([][]byte, error) {
	head := m.chain.head
	same, size := head.Block == 0, 0
	var blocks [][]byte
	err := from.Read(ctx, head.Block, func(n uint64, data []byte) error {
		if n == head.Block {
			same = block.Hash(data) == head.Hash
		} else {
			blocks = append(blocks, bytes.Clone(data))
			size += len(data)
		}
		if !same || len(blocks) >= limit || size >= fetchBytes {
			return errEnough
		}
		return nil
	})
	if err != nil && !errors.Is(err, errEnough) {
		return nil, from.damaged(err)
	}
	if !same {
		return nil, m.difference(ctx, from)
	}
	return blocks[:min(limit, len(blocks))], nil
}

// difference says where copy and source part. Blocks name the one before, so
// once they differ they do so to the end.
func (m *Mirror) difference(ctx context.Context, from Source) error {
	var failed error
	at := func(read ReadFunc, n uint64) (hash merkle.Hash, ok bool) {
		err := read(ctx, n, func(_ uint64, data []byte) error {
			hash, ok = block.Hash(data), true
			return errEnough
		})
		if err != nil && !errors.Is(err, errEnough) {
			failed = errors.Join(failed, err)
		}
		return hash, ok
	}
	first := 1 + uint64(sort.Search(int(m.chain.head.Block), func(i int) bool {
		theirs, ok := at(from.Read, uint64(i)+1)
		ours, _ := at(m.log.Read, uint64(i)+1)
		return !ok || theirs != ours
	}))
	theirs, ok := at(from.Read, first)
	ours, _ := at(m.log.Read, first)
	if failed != nil {
		return from.damaged(failed)
	}
	if !ok {
		return fmt.Errorf("%w: the book in %s ends at block %d, but its copy in %s goes on to block %d (position %d): the book was cut or is an old copy; put back the one that goes further: tollbook restore --data %s --from %s",
			ErrCorrupt, from.Dir, first-1, m.dir, m.chain.head.Block, m.chain.head.Events, from.Dir, m.dir)
	}
	return fmt.Errorf("%w: block %d has hash %s in %s, and %s in the copy in %s: from there on they are different books; compare each with an anchor saved elsewhere (tollbook verify --data DIR --anchor FILE); if the book is right, move the copy away, else: tollbook restore --data %s --from %s --accept-loss",
		ErrCorrupt, first, theirs, from.Dir, ours, m.dir, from.Dir, m.dir)
}

// Holds compares an anchor that was saved elsewhere. Errors: ErrCorrupt, where
// the copy does not reach it or has another block there.
func (m *Mirror) Holds(ctx context.Context, a Anchor) error {
	if err := a.reached(m.chain.head); err != nil {
		return err
	}
	at, _, err := HeadAt(ctx, m.log.Read, a.Block)
	if err != nil {
		return err
	}
	return a.check(at)
}

// Close releases the directory.
func (m *Mirror) Close() error {
	var errs []error
	if m.log != nil {
		errs = append(errs, m.log.Close())
	}
	if m.anchor != nil {
		errs = append(errs, m.anchor.close())
	}
	return errors.Join(append(errs, m.lock.Unlock())...)
}

// damaged is an error about the source's content, with what to do.
func (s Source) damaged(err error) error {
	if s.Dir == "" {
		return err
	}
	return Damaged(s.Dir, err)
}

// Damaged adds to an ErrCorrupt about the book of a data directory how a copy is
// put back; any other error stays as it is.
func Damaged(dir string, err error) error {
	if !errors.Is(err, ErrCorrupt) || errors.Is(err, errRestoring) {
		return err
	}
	return fmt.Errorf("%w (tollbook restore --data %s --from BACKUP puts back a copy)", err, dir)
}

// RestoringPath is a file that a data directory has from before the first until
// after the last of its files was replaced by a restore. While it is there the
// files may be of two books, and nobody opens them. It says where the old ones went.
func RestoringPath(dir string) string { return filepath.Join(dir, "restoring") }

var errRestoring = fmt.Errorf("%w: a restore was begun and has not ended", ErrCorrupt)

// CheckRestored refuses a directory in which a restore was begun and not ended.
func CheckRestored(dir string) error {
	said, err := os.ReadFile(RestoringPath(dir))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	kept, _, _ := strings.Cut(strings.TrimSpace(string(said)), " ")
	return errors.Join(fmt.Errorf("%w: run it again: tollbook restore --data %s --from BACKUP (what was there before is in %s)",
		errRestoring, dir, filepath.Join(dir, kept)), err)
}

// openLogIn opens the log of a directory, unless a restore was begun there: a
// log that is missing between two of its steps must not be begun anew.
func openLogIn(dir string, openLog func(path string) (Log, error)) (Log, error) {
	if err := CheckRestored(dir); err != nil {
		return nil, err
	}
	return openLog(LogPath(dir))
}
