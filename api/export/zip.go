package export

import (
	"archive/zip"
	"cmp"
	"compress/flate"
	"errors"
	"fmt"
	"hash"
	"hash/crc32"
	"io"
	"io/fs"
	"os"
	"slices"

	"github.com/xuri/excelize/v2"
)

// parts is the zip of a workbook: its parts in one order, while excelize writes
// sheets in that of a map. They wait in a temporary file, packed.
type parts struct {
	out   io.Writer
	file  *os.File
	list  []*part
	sizes int64 // of all before the last one, packed
}

type part struct {
	name   string
	at     int64
	packed counter
	size   counter
	crc    hash.Hash32
	zip    *flate.Writer
}

func newParts(out io.Writer) (*parts, error) {
	file, err := os.CreateTemp("", "tollbook-xlsx-")
	if err != nil {
		return nil, err
	}
	// Without a name it goes whatever happens.
	return &parts{out: out, file: file}, errors.Join(os.Remove(file.Name()))
}

// instead is what excelize calls for a writer of the zip.
func (p *parts) instead(io.Writer) excelize.ZipWriter { return p }

// AddFS is asked for by excelize's interface, and not called.
func (p *parts) AddFS(fs.FS) error { return errors.ErrUnsupported }

// Create begins a part; the one before is done.
func (p *parts) Create(name string) (io.Writer, error) {
	if err := p.end(); err != nil {
		return nil, err
	}
	one := &part{name: name, at: p.sizes, crc: crc32.NewIEEE()}
	packed, err := flate.NewWriter(io.MultiWriter(p.file, &one.packed), flate.DefaultCompression)
	if err != nil {
		return nil, err
	}
	one.zip = packed
	p.list = append(p.list, one)
	return io.MultiWriter(one.zip, one.crc, &one.size), nil
}

func (p *parts) end() error {
	if len(p.list) == 0 {
		return nil
	}
	last := p.list[len(p.list)-1]
	err := last.zip.Close()
	p.sizes = last.at + last.packed.n
	return err
}

// contentTypes is the part that comes first, as readers expect.
const contentTypes = "[Content_Types].xml"

// Close writes the zip.
func (p *parts) Close() error {
	defer func() { _ = p.file.Close() }()
	if err := p.end(); err != nil {
		return err
	}
	slices.SortFunc(p.list, func(a, b *part) int {
		rank := func(x *part) int {
			if x.name == contentTypes {
				return 0
			}
			return 1
		}
		return cmp.Or(cmp.Compare(rank(a), rank(b)), cmp.Compare(a.name, b.name))
	})
	out := zip.NewWriter(p.out)
	for _, one := range p.list {
		to, err := out.CreateRaw(&zip.FileHeader{
			Name: one.name, Method: zip.Deflate, CRC32: one.crc.Sum32(), CompressedSize64: uint64(one.packed.n), UncompressedSize64: uint64(one.size.n),
		})
		if err == nil {
			_, err = io.Copy(to, io.NewSectionReader(p.file, one.at, one.packed.n))
		}
		if err != nil {
			return fmt.Errorf("xlsx, %s: %w", one.name, err)
		}
	}
	return out.Close()
}
