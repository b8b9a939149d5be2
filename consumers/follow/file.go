package follow

import (
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"syscall"
	"time"
)

// maxUnpacked is how much a compressed file may be: it is unpacked to the disk.
const maxUnpacked = 4 << 30

// A file is one that is read, whatever its name is by now.
type file struct {
	position
	name   string // it was opened by
	f      *os.File
	head   []byte    // its first bytes, those that Seen counts or more
	last   []byte    // those before Offset, at most printBytes
	static bool      // nobody writes it
	size   int64     // as last seen
	quiet  time.Time // since when it has not changed
	links  uint64    // how many names it has
}

// identity is what a file system knows a file by.
func identity(info os.FileInfo) (device, inode uint64, links uint64) {
	if s, ok := info.Sys().(*syscall.Stat_t); ok {
		return uint64(s.Dev), s.Ino, uint64(s.Nlink)
	}
	return 0, 0, 1
}

// openRegular opens what is a file and no pipe, which would wait for its writer.
func openRegular(name string) (*os.File, os.FileInfo, error) {
	f, err := os.OpenFile(name, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, nil, err
	}
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = fmt.Errorf("%s is not a file", name)
	}
	if err != nil {
		_ = f.Close()
		return nil, nil, err
	}
	return f, info, nil
}

// openFile opens a file to be read from its beginning. One whose name ends in .gz
// is unpacked first.
func openFile(path, name string, now time.Time) (*file, error) {
	f, info, err := openRegular(name)
	if err != nil {
		return nil, err
	}
	o := &file{name: name, f: f, quiet: now}
	o.Path, o.Changed = path, info.ModTime()
	o.Device, o.Inode, o.links = identity(info)
	if strings.HasSuffix(name, ".gz") && path != name {
		o.static = true
		packed := o.f
		o.f, err = unpack(packed)
		if err := errors.Join(err, packed.Close()); err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
	}
	return o, nil
}

// unpack writes what is in a compressed file to one that has no name.
func unpack(packed io.Reader) (*os.File, error) {
	z, err := gzip.NewReader(packed)
	if err != nil {
		return nil, err
	}
	f, err := os.CreateTemp("", "tollbook-follow-*")
	if err != nil {
		return nil, err
	}
	err = os.Remove(f.Name())
	n, copied := io.Copy(f, io.LimitReader(z, maxUnpacked+1))
	if err = errors.Join(err, copied); err == nil && n > maxUnpacked {
		err = fmt.Errorf("has more than %d bytes unpacked", maxUnpacked)
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// at reads n bytes from an offset on; nil: they are not there.
func (o *file) at(offset, n int64) []byte {
	b := make([]byte, n)
	if got, _ := o.f.ReadAt(b, offset); int64(got) < n {
		return nil
	}
	return b
}

// ends are the first bytes and those before the offset that the position has hashes
// of; ok: the file has them, so that it begins with what was read up to there. Of a
// position that tells nothing it must also have the inode.
func (o *file) ends(p *position) (head, last []byte, ok bool) {
	if !p.Telling && (o.Device != p.Device || o.Inode != p.Inode) {
		return nil, nil, false
	}
	n := min(p.Offset, printBytes)
	head, last = o.at(0, p.Seen), o.at(p.Offset-n, n)
	return head, last, head != nil && last != nil && printOf(head) == p.Head && printOf(last) == p.Last
}

// extends reports whether the file can be resumed at the position.
func (o *file) extends(p *position) bool {
	_, _, ok := o.ends(p)
	return ok
}

// resume goes on at a position, if the file extends it.
func (o *file) resume(p *position) bool {
	head, last, ok := o.ends(p)
	if !ok {
		return false
	}
	o.Offset, o.Header, o.Begun, o.Inside = p.Offset, p.Header, p.Begun, p.Inside
	o.Seen, o.Head, o.Last, o.Telling = p.Seen, p.Head, p.Last, p.Telling
	o.head, o.last = head, last
	return true
}

// errMoved is returned when what was read is not in the file any more.
var errMoved = errors.New("the file was truncated or written anew")

// read is what stands behind the position, at most limit bytes, and whether it is
// all. It checks in the same turn that what was read before still stands before it.
func (o *file) read(limit int, now time.Time) (data []byte, end bool, err error) {
	info, err := o.f.Stat()
	if err != nil {
		return nil, false, err
	}
	n := len(o.last)
	buffer := make([]byte, n+int(min(int64(limit), max(0, info.Size()-o.Offset)+1)))
	got, err := o.f.ReadAt(buffer, o.Offset-int64(n))
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, false, err
	}
	if got < n || !bytes.Equal(buffer[:n], o.last) || int64(n) == o.Offset && !bytes.HasPrefix(buffer[:got], o.head) {
		return nil, false, errMoved
	}
	// A file that is truncated meanwhile and grows again gives a bit of both.
	if again := o.at(o.Offset-int64(n), int64(min(got, printBytes))); got > n && (again == nil || !bytes.HasPrefix(buffer[:got], again)) {
		return nil, false, errMoved
	}
	if int64(n) == o.Offset && len(o.head) < printBytes { // all of the file so far
		o.head = bytes.Clone(buffer[:min(got, printBytes)])
	}
	if !o.static {
		o.Changed = info.ModTime()
		_, _, o.links = identity(info)
	}
	if info.Size() != o.size {
		o.size, o.quiet = info.Size(), now
	}
	return buffer[n:got], err != nil, nil
}

// note has the position say what was seen, and reports whether that is news.
func (o *file) note(table bool) bool {
	if o.Seen == int64(len(o.head)) {
		return false
	}
	o.Seen, o.Head = int64(len(o.head)), printOf(o.head)
	rest := o.head
	if table {
		_, rest, _ = bytes.Cut(rest, []byte{'\n'})
	}
	line, _, whole := bytes.Cut(bytes.TrimLeft(rest, "\x00\r\n "), []byte{'\n'})
	o.Telling = whole && len(line) > 0 || len(o.head) == printBytes
	return true
}

// advance moves the position behind data that was read, and answered.
func (o *file) advance(data []byte) {
	o.Offset += int64(len(data))
	o.last = append(o.last, data[max(0, len(data)-printBytes):]...)
	o.last = bytes.Clone(o.last[max(0, len(o.last)-printBytes):])
	o.Last = printOf(o.last)
}

func (o *file) close() { _ = o.f.Close() }
