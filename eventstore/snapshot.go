package eventstore

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"tollbook/eventstore/merkle"
)

// A Resumer is a follower that can begin where a snapshot of its own ends, so that
// the next start need not tell it of everything again. Its snapshot is a file
// below DIR/snapshots that names the head it was told of. One that is damaged, or
// of another book, is not resumed; it may be deleted at any time.
type Resumer interface {
	// Name is that of the file: lower-case letters and digits. What can't be read by
	// an older or newer version has another name there.
	Name() string

	// Follow is as a [Follower] is called.
	Follow(Update)

	// Snapshot is called now and then right after a Follow, when nothing is told that
	// is not in a block, and must be quick, as nobody is booked meanwhile. What it
	// returns writes what Resume reads: the state at that time, whatever is told
	// while it writes. It is called once, by another goroutine. last: nothing is told
	// any more, so the state itself can be written. nil: not now.
	Snapshot(last bool) (write func(io.Writer) error)

	// Resume is called before the first Follow, with the bytes of a snapshot, whole
	// and of this book. After an error the Resumer has to be as it was before, and is
	// told of everything.
	Resume(io.Reader) error
}

// snapshotEvery is how many events are booked between two snapshots: 1<<20, which
// a start after a crash reads again in a second or two.
const snapshotEvery = 1 << 20

// SnapshotsPath is where a data directory has the snapshots of followers.
func SnapshotsPath(dir string) string { return filepath.Join(dir, "snapshots") }

// A snapshot's file: magic (8), the head's block and events (8 each, little-endian)
// and hash (32), what the Resumer wrote, CRC-32C (4) over all before.
const (
	snapshotMagic  = "TOLLSNP1"
	snapshotHeader = len(snapshotMagic) + 8 + 8 + 32
)

// snapshots are the Resumers of a book. Those who book look after them.
type snapshots struct {
	dir     string
	every   uint64
	all     []*resuming
	taken   uint64        // at that position the last snapshots were begun
	writing chan struct{} // closed when they are written; nil: never begun
}

type resuming struct {
	Resumer
	told Head // up to which it knew the book when that was opened
}

// resume has each Resumer begin at its snapshot, and returns the block from which
// on one of them has to be told; 0 where there are none.
func (b *Book) resume(ctx context.Context) (from uint64, err error) {
	s := &b.snapshots
	for i, r := range s.all {
		if err := b.resumeOne(ctx, r); err != nil {
			if ctx.Err() != nil {
				return 0, ctx.Err()
			}
			b.warn(fmt.Errorf("snapshot of %s: %w: it is made anew from the book", r.Name(), err))
		}
		if next := r.told.Block + 1; i == 0 || next < from {
			from, s.taken = next, r.told.Events
		}
	}
	return from, nil
}

func (b *Book) resumeOne(ctx context.Context, r *resuming) error {
	file, err := os.Open(filepath.Join(b.snapshots.dir, r.Name()))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer func() { _ = file.Close() }()
	head, body, err := openSnapshot(file)
	if err != nil {
		return err
	}
	at, ok, err := HeadAt(ctx, b.log.Read, head.Block)
	if err != nil && !errors.Is(err, ErrCorrupt) {
		return err
	}
	if !ok || at != head {
		return fmt.Errorf("is of a book with another block %d", head.Block)
	}
	if err := r.Resume(body); err != nil {
		return err
	}
	r.told = head
	return nil
}

// openSnapshot checks a file and returns what the Resumer wrote.
func openSnapshot(file *os.File) (head Head, body io.Reader, err error) {
	info, err := file.Stat()
	if err != nil {
		return head, nil, err
	}
	end := info.Size() - 4
	if end < int64(snapshotHeader) {
		return head, nil, errors.New("is cut short")
	}
	sum := crc32.New(castagnoli)
	in := bufio.NewReaderSize(file, 1<<20)
	if _, err := io.CopyN(sum, in, end); err != nil {
		return head, nil, err
	}
	var tail [4]byte
	if _, err := io.ReadFull(in, tail[:]); err != nil {
		return head, nil, err
	}
	header := make([]byte, snapshotHeader)
	if _, err := file.ReadAt(header, 0); err != nil {
		return head, nil, err
	}
	header, ours := bytes.CutPrefix(header, []byte(snapshotMagic))
	if !ours || binary.LittleEndian.Uint32(tail[:]) != sum.Sum32() {
		return head, nil, errors.New("has changed, or is of another version")
	}
	head = Head{binary.LittleEndian.Uint64(header), merkle.Hash(header[16:]), binary.LittleEndian.Uint64(header[8:])}
	return head, bufio.NewReaderSize(io.NewSectionReader(file, int64(snapshotHeader), end-int64(snapshotHeader)), 1<<20), nil
}

// take begins snapshots as of the chain's head, whose block everybody was told of
// just now, if it is time. They are written in the background.
func (b *Book) take() {
	s := &b.snapshots
	if len(s.all) == 0 || b.chain.head.Events-s.taken < s.every {
		return
	}
	select {
	case <-s.writing:
	default:
		if s.writing != nil {
			return // the disk is slow; the next ones are of more
		}
	}
	write := b.begin(false)
	s.taken, s.writing = b.chain.head.Events, make(chan struct{})
	go func() {
		defer close(s.writing)
		write()
	}()
}

// takeLast writes snapshots when the committer has ended. What was repeated since
// the last block goes with the process, so where Resumers know of such repeats,
// the snapshots before stay.
func (b *Book) takeLast() {
	s := &b.snapshots
	if s.writing != nil {
		<-s.writing
	}
	if len(s.all) > 0 && b.Err() == nil && b.chain.head.Events > s.taken && len(b.duplicates) == 0 {
		b.begin(true)()
	}
}

// begin asks all Resumers for their snapshots, and returns what writes them.
func (b *Book) begin(last bool) (write func()) {
	s, head := &b.snapshots, b.chain.head
	bodies := make([]func(io.Writer) error, len(s.all))
	for i, r := range s.all {
		bodies[i] = r.Snapshot(last)
	}
	return func() {
		for i, body := range bodies {
			if body == nil {
				continue
			}
			if err := writeSnapshot(s.dir, s.all[i].Name(), head, body); err != nil {
				b.warn(fmt.Errorf("snapshot of %s: %w", s.all[i].Name(), err))
			}
		}
	}
}

// writeSnapshot has the file and its name on disk. A crash before the rename
// leaves the snapshot before.
func writeSnapshot(dir, name string, head Head, body func(io.Writer) error) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	path := filepath.Join(dir, name)
	file, err := os.Create(path + ".new")
	if err != nil {
		return err
	}
	sum := crc32.New(castagnoli)
	out := bufio.NewWriterSize(file, 1<<20)
	both := io.MultiWriter(out, sum)
	header := append(make([]byte, 0, snapshotHeader), snapshotMagic...)
	header = binary.LittleEndian.AppendUint64(header, head.Block)
	header = binary.LittleEndian.AppendUint64(header, head.Events)
	_, err = both.Write(append(header, head.Hash[:]...))
	if err == nil {
		err = body(both)
	}
	if err == nil {
		_, err = out.Write(binary.LittleEndian.AppendUint32(nil, sum.Sum32()))
	}
	if err == nil {
		err = out.Flush()
	}
	if err == nil {
		err = file.Sync()
	}
	if err := errors.Join(err, file.Close()); err != nil {
		return errors.Join(err, os.Remove(path+".new"))
	}
	if err := os.Rename(path+".new", path); err != nil {
		return err
	}
	at, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(at.Sync(), at.Close())
}
