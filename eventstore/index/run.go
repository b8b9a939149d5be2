package index

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"tollbook/eventstore/merkle"
)

// A run's file, little-endian, named run-FROM-TO by its first and last block:
//
//	header  one page: magic (8), block, events (8 each) and hash (32) of the head
//	        before its first block, the same of its last block, zeros, CRC-32C (4)
//	pages   of 102 entries each, by ascending key: key (16), digest (16),
//	        position (8); zeros; CRC-32C (4) of the page, which begins with that of
//	        the header plus the number of the page
//	sieve   tags and unary, each unary word 8 bytes
//	chunks  32 bytes for each full chunk of the Merkle tree that ends in the run
//	end     CRC-32C (4) of sieve and chunks, which begins with that of the header
//
// It has an entry for each event between the heads, so its length follows from them.
const (
	magic       = "TOLLIDX1"
	pageBytes   = 4096
	recordBytes = 40
	pageRecords = (pageBytes - 4) / recordBytes
	headBytes   = 8 + 8 + 32

	runPrefix  = "run-"
	unfinished = ".new"
)

// maxRunEvents is how many entries a run may have, which its sieve counts in 32
// bits. Runs that would come to more are not merged.
const maxRunEvents = 1<<32 - 1

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// A run is an open file of entries.
type run struct {
	path     string
	file     *os.File
	from, to Head
	sum      uint32 // of the header
	synced   bool   // the file is on disk; the one who tends it looks
	sieve    *sieve
	chunks   []merkle.Hash
}

func (r *run) count() uint64 { return r.to.Events - r.from.Events }

func (r *run) memory() uint64 {
	return uint64(cap(r.sieve.tags) + 8*cap(r.sieve.unary) + 4*cap(r.sieve.starts) + 32*cap(r.chunks))
}

func (r *run) pages() int64 { return int64((r.count() + pageRecords - 1) / pageRecords) }

// newChunks is how many chunks of the tree end between the heads.
func newChunks(from, to Head) uint64 {
	return to.Events/merkle.ChunkLeaves - from.Events/merkle.ChunkLeaves
}

func (r *run) tailBytes() int64 {
	return int64(r.count() + 8*unaryWords(r.count()) + 32*newChunks(r.from, r.to) + 4)
}

// name gives a part its name.
func (r *run) name() error {
	path := strings.TrimSuffix(r.path, unfinished)
	if path == r.path {
		return nil
	}
	err := os.Rename(r.path, path)
	if err == nil {
		r.path = path
	}
	return err
}

// remove gives up the run, of which nobody reads any more. Whether the file goes
// does not matter: the next Open leaves it out.
func (r *run) remove() {
	_ = r.file.Close()
	_ = os.Remove(r.path)
}

func appendHead(dst []byte, h Head) []byte {
	dst = binary.LittleEndian.AppendUint64(dst, h.Block)
	dst = binary.LittleEndian.AppendUint64(dst, h.Events)
	return append(dst, h.Hash[:]...)
}

func parseHead(b []byte) Head {
	return Head{binary.LittleEndian.Uint64(b), merkle.Hash(b[16:headBytes]), binary.LittleEndian.Uint64(b[8:])}
}

func header(from, to Head) []byte {
	page := appendHead(appendHead(append(make([]byte, 0, pageBytes), magic...), from), to)
	return seal(page[:pageBytes], 0)
}

// seal puts the checksum at the end of a page.
func seal(page []byte, sum uint32) []byte {
	body := page[:pageBytes-4]
	binary.LittleEndian.PutUint32(page[pageBytes-4:], crc32.Update(sum, castagnoli, body))
	return page
}

func whole(page []byte, sum uint32) bool {
	return crc32.Update(sum, castagnoli, page[:pageBytes-4]) == binary.LittleEndian.Uint32(page[pageBytes-4:])
}

// openRun opens a run and checks all but its pages, which are checked as they are
// read. Errors: ErrDamaged; those of the system.
func openRun(path string) (*run, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	r := &run{path: path, file: file, synced: true}
	if err := r.load(); err != nil {
		return nil, errors.Join(err, file.Close())
	}
	return r, nil
}

func (r *run) damaged(format string, args ...any) error {
	return fmt.Errorf("%w: %s: %s", ErrDamaged, r.path, fmt.Sprintf(format, args...))
}

func (r *run) load() error {
	info, err := r.file.Stat()
	if err != nil {
		return err
	}
	page := make([]byte, pageBytes)
	if _, err := r.file.ReadAt(page, 0); err != nil {
		return r.damaged("header: %v", err)
	}
	if !bytes.HasPrefix(page, []byte(magic)) || !whole(page, 0) {
		return r.damaged("the header has changed, or is of another version")
	}
	r.sum = binary.LittleEndian.Uint32(page[pageBytes-4:])
	r.from, r.to = parseHead(page[len(magic):]), parseHead(page[len(magic)+headBytes:])
	if r.from.Block >= r.to.Block || r.from.Events >= r.to.Events || r.count() > maxRunEvents {
		return r.damaged("the header names blocks %d to %d", r.from.Block+1, r.to.Block)
	}
	start := pageBytes * (1 + r.pages())
	if want := start + r.tailBytes(); info.Size() != want {
		return r.damaged("has %d bytes, not %d", info.Size(), want)
	}
	tail := make([]byte, r.tailBytes())
	if _, err := r.file.ReadAt(tail, start); err != nil {
		return r.damaged("sieve: %v", err)
	}
	tail, sum := tail[:len(tail)-4], binary.LittleEndian.Uint32(tail[len(tail)-4:])
	if crc32.Update(r.sum, castagnoli, tail) != sum {
		return r.damaged("the sieve has changed")
	}
	n := r.count()
	s := newSieve(n)
	s.tags, tail = append(s.tags, tail[:n]...), tail[n:]
	for i := range unaryWords(n) {
		s.unary[i] = binary.LittleEndian.Uint64(tail)
		tail = tail[8:]
	}
	if !s.finish() {
		return r.damaged("the sieve is not of %d entries", n)
	}
	r.sieve = s
	r.chunks = make([]merkle.Hash, newChunks(r.from, r.to))
	for i := range r.chunks {
		copy(r.chunks[i][:], tail[32*i:])
	}
	return nil
}

var pageBuffers = sync.Pool{New: func() any { return new([pageBytes]byte) }}

// maxProbes is how many keys a sieve is asked for at once.
const maxProbes = 64

// search sets found for those of the keys that are in the run and were not found
// elsewhere. At most maxProbes keys.
func (r *run) search(keys []Key, found []Entry) error {
	var probes [maxProbes]probe
	r.sieve.find(keys, probes[:len(keys)])
	for i := range keys {
		if p := &probes[i]; p.first < p.end && found[i].Position == 0 {
			if err := r.look(&keys[i], p.first, p.end, &found[i]); err != nil {
				return err
			}
		}
	}
	return nil
}

// look looks for a key among some entries of the file.
func (r *run) look(key *Key, first, end uint64, found *Entry) error {
	page := pageBuffers.Get().(*[pageBytes]byte)
	defer pageBuffers.Put(page)
	for i := first; i < end; i++ {
		if i == first || i%pageRecords == 0 {
			if err := r.readPage(int64(i/pageRecords), page); err != nil {
				return err
			}
		}
		at := page[i%pageRecords*recordBytes:][:recordBytes]
		if Key(at) == *key {
			*found = parseEntry(at)
			return nil
		}
	}
	return nil
}

func (r *run) readPage(n int64, page *[pageBytes]byte) error {
	if _, err := r.file.ReadAt(page[:], pageBytes*(1+n)); err != nil {
		return r.damaged("page %d: %v", n+1, err)
	}
	if !whole(page[:], r.sum+uint32(n)) {
		return r.damaged("page %d has changed", n+1)
	}
	return nil
}

func appendRecord(dst []byte, r *record) []byte {
	dst = append(append(dst, r.key[:]...), r.Digest[:]...)
	return binary.LittleEndian.AppendUint64(dst, r.Position)
}

func parseEntry(b []byte) Entry {
	return Entry{[16]byte(b[16:32]), binary.LittleEndian.Uint64(b[32:])}
}

// A runWriter makes a run of the entries it is given, in order.
type runWriter struct {
	run
	out   *bufio.Writer
	page  []byte
	pages uint32
	last  record
	part  bool
}

// writeBuffer is how many bytes are written at once: 256 KiB.
const writeBuffer = 256 << 10

// How a run is written.
type writing struct {
	sync bool // its file is on disk before it is used
	part bool // it keeps the name of what is not finished: the next Open removes it
}

func createRun(dir string, from, to Head, how writing) (*runWriter, error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	w := &runWriter{run: run{from: from, to: to, path: filepath.Join(dir, fmt.Sprintf("%s%012d-%012d", runPrefix, from.Block+1, to.Block))}}
	w.sieve, w.synced, w.part = newSieve(w.count()), how.sync, how.part
	file, err := os.Create(w.path + unfinished)
	if err != nil {
		return nil, err
	}
	w.file, w.out, w.page = file, bufio.NewWriterSize(file, writeBuffer), make([]byte, 0, pageBytes)
	page := header(from, to)
	w.sum = binary.LittleEndian.Uint32(page[pageBytes-4:])
	if _, err := w.out.Write(page); err != nil {
		return nil, w.abandon(err)
	}
	return w, nil
}

// abandon removes what was written, because of err.
func (w *runWriter) abandon(err error) error {
	return errors.Join(err, w.file.Close(), os.Remove(w.path+unfinished))
}

// add adds an entry, whose key must be above the one before.
func (w *runWriter) add(rec []byte) error {
	key := Key(rec)
	switch {
	case uint64(len(w.sieve.tags)) == w.count():
		return fmt.Errorf("%w: blocks %d to %d have more than %d entries", ErrDamaged, w.from.Block+1, w.to.Block, w.count())
	case len(w.sieve.tags) > 0 && key == w.last.key:
		first, second := w.last.Position, parseEntry(rec).Position
		return &TwiceError{min(first, second), max(first, second)}
	case len(w.sieve.tags) > 0 && less(&key, &w.last.key):
		return fmt.Errorf("%w: blocks %d to %d are not sorted", ErrDamaged, w.from.Block+1, w.to.Block)
	}
	w.last = record{key, parseEntry(rec)}
	w.sieve.add(&key)
	w.page = append(w.page, rec...)
	if len(w.page) == pageRecords*recordBytes {
		return w.writePage()
	}
	return nil
}

func (w *runWriter) writePage() error {
	clear(w.page[len(w.page):pageBytes])
	_, err := w.out.Write(seal(w.page[:pageBytes], w.sum+w.pages))
	w.page, w.pages = w.page[:0], w.pages+1
	return err
}

// finish writes the rest, has the file and its name on disk, and opens it.
func (w *runWriter) finish() (*run, error) {
	if len(w.page) > 0 {
		if err := w.writePage(); err != nil {
			return nil, w.abandon(err)
		}
	}
	if !w.sieve.finish() || uint64(len(w.chunks)) != newChunks(w.from, w.to) {
		return nil, w.abandon(fmt.Errorf("%w: blocks %d to %d do not have %d entries", ErrDamaged, w.from.Block+1, w.to.Block, w.count()))
	}
	sum := w.sum
	put := func(b []byte) {
		sum = crc32.Update(sum, castagnoli, b)
		_, _ = w.out.Write(b) // Flush returns the error
	}
	put(w.sieve.tags)
	var word [8]byte
	for _, u := range w.sieve.unary[:unaryWords(w.count())] {
		binary.LittleEndian.PutUint64(word[:], u)
		put(word[:])
	}
	for i := range w.chunks {
		put(w.chunks[i][:])
	}
	binary.LittleEndian.PutUint32(word[:], sum)
	_, _ = w.out.Write(word[:4])
	err := w.out.Flush()
	if err == nil && w.synced {
		err = w.file.Sync()
	}
	if err != nil {
		return nil, w.abandon(err)
	}
	r := w.run
	if w.part {
		r.path += unfinished
	} else if err := os.Rename(w.path+unfinished, w.path); err != nil {
		return nil, w.abandon(err)
	}
	if w.synced {
		err = syncDir(filepath.Dir(w.path))
	}
	if err == nil {
		r.file, err = os.Open(r.path)
	}
	if err != nil {
		return nil, errors.Join(err, w.file.Close(), os.Remove(r.path))
	}
	return &r, w.file.Close()
}

func syncDir(path string) error {
	dir, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}

func writeTable(dir string, t *table, how writing) (*run, error) {
	w, err := createRun(dir, t.from, t.to, how)
	if err != nil {
		return nil, err
	}
	w.chunks = t.chunks
	list := t.sorted()
	var buf [recordBytes]byte
	for i := range list {
		if err := w.add(appendRecord(buf[:0], &list[i])); err != nil {
			return nil, w.abandon(err)
		}
	}
	return w.finish()
}

// errStopped is returned by a merge that Close came into.
var errStopped = errors.New("stopped")

// mergeRuns makes one run of several in a row.
func mergeRuns(dir string, runs []*run, how writing, stop <-chan struct{}) (*run, error) {
	w, err := createRun(dir, runs[0].from, runs[len(runs)-1].to, how)
	if err != nil {
		return nil, err
	}
	var from readers
	for _, r := range runs {
		w.chunks = append(w.chunks, r.chunks...)
		in := &runReader{run: r, in: bufio.NewReaderSize(io.NewSectionReader(r.file, pageBytes, pageBytes*r.pages()), writeBuffer)}
		if err := in.next(); err != nil {
			return nil, w.abandon(err)
		}
		from = append(from, in)
	}
	for i := len(from)/2 - 1; i >= 0; i-- {
		from.sift(i)
	}
	for n := 0; len(from) > 0; n++ {
		if n%pageRecords == 0 {
			select {
			case <-stop:
				return nil, w.abandon(errStopped)
			default:
			}
		}
		if err := w.add(from[0].record); err != nil {
			return nil, w.abandon(err)
		}
		if err := from[0].next(); err == io.EOF {
			last := len(from) - 1
			from[0] = from[last]
			from = from[:last]
		} else if err != nil {
			return nil, w.abandon(err)
		}
		from.sift(0)
	}
	return w.finish()
}

// readers are a heap: the first has the least key.
type readers []*runReader

// sift moves a reader whose key has grown to its place.
func (h readers) sift(i int) {
	for {
		least := i
		for child := 2*i + 1; child <= 2*i+2 && child < len(h); child++ {
			if less(&h[child].key, &h[least].key) {
				least = child
			}
		}
		if least == i {
			return
		}
		h[i], h[least] = h[least], h[i]
		i = least
	}
}

// A runReader reads the entries of a run in their order.
type runReader struct {
	*run
	in     *bufio.Reader
	page   [pageBytes]byte
	read   uint64
	record []byte // of the present one
	key    Key
}

// next goes on by one; io.EOF at the end.
func (r *runReader) next() error {
	if r.read == r.count() {
		return io.EOF
	}
	i := r.read % pageRecords
	if i == 0 {
		if _, err := io.ReadFull(r.in, r.page[:]); err != nil {
			return r.damaged("page %d: %v", r.read/pageRecords+1, err)
		}
		if !whole(r.page[:], r.sum+uint32(r.read/pageRecords)) {
			return r.damaged("page %d has changed", r.read/pageRecords+1)
		}
	}
	r.record = r.page[i*recordBytes:][:recordBytes]
	r.key = Key(r.record)
	r.read++
	return nil
}
