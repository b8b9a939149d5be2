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
	head   []byte    // its first bytes, at most printBytes of those before Offset
	last   []byte    // those before Offset
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

// ends are the first and the last bytes of what stands before an offset.
func (o *file) ends(offset int64) (head, last []byte, ok bool) {
	n := min(offset, printBytes)
	head, last = make([]byte, n), make([]byte, n)
	if n > 0 {
		_, err := o.f.ReadAt(head, 0)
		_, err2 := o.f.ReadAt(last, offset-n)
		ok = (err == nil || errors.Is(err, io.EOF)) && (err2 == nil || errors.Is(err2, io.EOF))
		return head, last, ok && o.reaches(offset)
	}
	return head, last, true
}

func (o *file) reaches(offset int64) bool {
	info, err := o.f.Stat()
	return err == nil && info.Size() >= offset
}

// extends reports whether the file begins with what was read up to the position. Of
// a position that has no record before it only the same inode tells.
func (o *file) extends(p *position) bool {
	same := o.Device == p.Device && o.Inode == p.Inode
	if !same && p.Offset <= int64(len(p.Header)+len("\xef\xbb\xbf\r\n")) {
		return false
	}
	head, last, ok := o.ends(p.Offset)
	return ok && printOf(head) == p.Head && printOf(last) == p.Last
}

// resume goes on at a position that the file extends.
func (o *file) resume(p *position) {
	o.Offset, o.Header, o.Begun, o.Inside = p.Offset, p.Header, p.Begun, p.Inside
	o.head, o.last, _ = o.ends(p.Offset)
	o.Head, o.Last = p.Head, p.Last
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
	if got < n || !bytes.Equal(buffer[:n], o.last) {
		return nil, false, errMoved
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

// advance moves the position behind data that was read, and answered.
func (o *file) advance(data []byte) {
	o.Offset += int64(len(data))
	o.head = append(o.head, data[:min(len(data), printBytes-len(o.head))]...)
	o.last = append(o.last, data[max(0, len(data)-printBytes):]...)
	o.last = bytes.Clone(o.last[max(0, len(o.last)-printBytes):])
	o.Head, o.Last = printOf(o.head), printOf(o.last)
}

func (o *file) close() { _ = o.f.Close() }
