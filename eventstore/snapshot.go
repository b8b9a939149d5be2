package eventstore

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
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

	// Resume is called before the first Follow, with the bytes of a snapshot of this
	// book. They end with io.EOF only if all of them are what was written. What was read
	// counts once accept is called; else the Resumer has to be as it was before, and
	// is told of everything.
	Resume(io.Reader) (accept func(), err error)
}

// A Loader is a [Resumer] that is told by Load instead of Follow of the blocks
// that were there when the book is opened. It may keep nothing of a Piece but
// texts and the data of Others.
type Loader interface{ Load(*Piece) }

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

// resume has each Resumer begin at its snapshot, and returns the blocks from which
// on those that are no Loaders, and those that are, have to be told; 0 where there
// are none.
func (b *Book) resume(ctx context.Context) (events, pieces uint64, err error) {
	s := &b.snapshots
	for i, r := range s.all {
		if err := b.resumeOne(ctx, r); err != nil {
			if ctx.Err() != nil {
				return 0, 0, ctx.Err()
			}
			b.warn(fmt.Errorf("snapshot of %s: %w: it is made anew from the book", r.Name(), err))
		}
		if i == 0 || r.told.Events < s.taken {
			s.taken = r.told.Events
		}
		from := &events
		if _, ok := r.Resumer.(Loader); ok {
			from = &pieces
		}
		if next := r.told.Block + 1; *from == 0 || next < *from {
			*from = next
		}
	}
	return events, pieces, nil
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
	in, err := openSnapshot(file)
	if err != nil {
		return err
	}
	at, ok, err := HeadAt(ctx, b.log.Read, in.head.Block)
	if err != nil && !errors.Is(err, ErrCorrupt) {
		return err
	}
	if !ok || at != in.head {
		return fmt.Errorf("is of a book with another block %d", in.head.Block)
	}
	accept, err := r.Resume(in)
	if err == nil {
		err = in.whole()
	}
	if err != nil {
		return err
	}
	accept()
	r.told = in.head
	return nil
}

// A snapshotReader reads what the Resumer wrote, and sums it up.
type snapshotReader struct {
	head Head
	file io.Reader // what is left of it before the sum
	sum  hash.Hash32
	want uint32
}

func openSnapshot(file *os.File) (*snapshotReader, error) {
	info, err := file.Stat()
	if err != nil {
		return nil, err
	}
	end := info.Size() - 4
	if end < int64(snapshotHeader) {
		return nil, errors.New("is cut short")
	}
	var tail [4]byte
	if _, err := file.ReadAt(tail[:], end); err != nil {
		return nil, err
	}
	in := &snapshotReader{file: io.LimitReader(file, end), sum: crc32.New(castagnoli), want: binary.LittleEndian.Uint32(tail[:])}
	header := make([]byte, snapshotHeader)
	if _, err := io.ReadFull(in, header); err != nil {
		return nil, err
	}
	header, ours := bytes.CutPrefix(header, []byte(snapshotMagic))
	if !ours {
		return nil, errSnapshotChanged
	}
	in.head = Head{binary.LittleEndian.Uint64(header), merkle.Hash(header[16:]), binary.LittleEndian.Uint64(header[8:])}
	return in, nil
}

var errSnapshotChanged = errors.New("has changed, or is of another version")

func (r *snapshotReader) Read(p []byte) (int, error) {
	n, err := r.file.Read(p)
	_, _ = r.sum.Write(p[:n]) // never fails
	if err == io.EOF && r.sum.Sum32() != r.want {
		err = errSnapshotChanged
	}
	return n, err
}

// whole reads what is left, and reports whether all is as it was written.
func (r *snapshotReader) whole() error {
	_, err := io.Copy(io.Discard, r)
	return err
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
	if err := os.MkdirAll(dir, 0o750); err != nil {
		return err
	}
	path := filepath.Join(dir, name)
	file, err := os.OpenFile(path+".new", os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600) // it tells who called whom
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
