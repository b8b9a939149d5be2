// Package pack is an audit pack: one file with a document, all blocks of the
// book up to the one that issued it, and what proves that these are all there is.
//
// The model: a pack is a tar of regular files in a fixed order. The manifest says
// what the pack is about and names every other member by its SHA-256, the blocks
// by the hash of the last, as each names the one before; the book's key signs it.
// docs/FORMAT.md has the details. What the document should be is not known here:
// a [Pack] is an [eventstore.Log], which others replay.
//
// What is guaranteed: whoever has the public key and has read a pack with [Open]
// and, by an [eventstore.Walk] against its anchor, all of its blocks, has read
// exactly the bytes that [Write] wrote. Any other byte, or one more or less, is
// refused by the name of the member. No more than one block is in memory at a time.
// What is assumed: that nobody else has the private key; against who has it only
// an anchor helps that was kept elsewhere. TestEveryByteCounts and FuzzOpen show
// the first.
package pack

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"tollbook/eventstore"
	"tollbook/eventstore/block"
	"tollbook/eventstore/merkle"
)

// Limits of the members, in bytes, checked before anything is allocated. A block
// has that of the book.
const (
	// MaxManifestBytes is far more than the lines of a manifest can come to.
	MaxManifestBytes = 16 << 10
	// MaxDocumentBytes is the most an event can be in a block.
	MaxDocumentBytes = block.MaxRawBytes
)

// The members, in their order; the blocks follow.
const (
	nameManifest  = "manifest"
	namePublicKey = "public-key"
	nameAnchor    = "anchor"
	nameDocument  = "document.json"
	nameEnd       = "the end"
)

func nameOfBlock(n uint64) string { return fmt.Sprintf("blocks/%08d", n) }

// unit is what a tar is made of: headers are that long, members are padded to it,
// and two of zeros end it.
const unit = 512

// header is the only one that a member may have: what could be chosen is the same
// in every pack.
func header(name string, size int64) *tar.Header {
	return &tar.Header{Typeflag: tar.TypeReg, Name: name, Size: size, Mode: 0o644, ModTime: time.Unix(0, 0), Format: tar.FormatUSTAR}
}

// headerBytes is nil where no header can say it.
func headerBytes(name string, size int64) []byte {
	var b bytes.Buffer
	if err := tar.NewWriter(&b).WriteHeader(header(name, size)); err != nil {
		return nil
	}
	return b.Bytes()
}

// refused is the error about a member that is not what was written.
func refused(name, format string, args ...any) error {
	return fmt.Errorf("%w: %s: %s", eventstore.ErrUnproven, name, fmt.Sprintf(format, args...))
}

// A Manifest is what a pack says of itself.
type Manifest struct {
	Tenant, Month string
	Number        string          // of the document
	Position      uint64          // the document knows the events up to it
	Digest        string          // sha256:… of the document
	End           eventstore.Head // of the blocks

	// The program that wrote the pack.
	Version string
	Program string // sha256:… of its file
	Go      string

	publicKey, anchor string // sha256:… of the members
}

// heading is the first line of a manifest. It makes it no anchor, whose second
// line is a number.
const heading = "tollbook audit pack 1"

func (m *Manifest) text() string {
	return fmt.Sprintf("%s\ntenant %s\nmonth %s\nnumber %s\nposition %d\ndigest %s\nhead %s\nblocks %d\nevents %d\nversion %s\nprogram %s\ngo %s\npublic-key %s\nanchor %s\n",
		heading, m.Tenant, m.Month, m.Number, m.Position, m.Digest, m.End, m.End.Block, m.End.Events, m.Version, m.Program, m.Go, m.publicKey, m.anchor)
}

// parseManifest reads what text writes, and nothing else.
func parseManifest(text string) (m Manifest, err error) {
	first, rest, _ := strings.Cut(text, "\n")
	if first != heading {
		return m, fmt.Errorf("begins with %.60q, not with %q: it is no audit pack, or one that needs a newer tollbook", first, heading)
	}
	if !printable(rest) {
		return m, errors.New("has other characters than those of ASCII that can be seen")
	}
	said := map[string]string{}
	for line := range strings.Lines(rest) {
		name, value, _ := strings.Cut(strings.TrimSuffix(line, "\n"), " ")
		said[name] = value
	}
	number := func(name string) uint64 {
		n, _ := strconv.ParseUint(said[name], 10, 64)
		return n
	}
	m = Manifest{
		Tenant: said["tenant"], Month: said["month"], Number: said["number"], Position: number("position"), Digest: said["digest"],
		End:     eventstore.Head{Block: number("blocks"), Events: number("events")},
		Version: said["version"], Program: said["program"], Go: said["go"],
		publicKey: said["public-key"], anchor: said["anchor"],
	}
	sum, _ := hex.DecodeString(strings.TrimPrefix(said["head"], "sha256:"))
	copy(m.End.Hash[:], sum)
	// Whatever was not read, or in another spelling, is not what text writes.
	if m.text() != text {
		return m, errors.New("has not the lines of a manifest of this version")
	}
	return m, nil
}

// printable keeps what a pack says of itself from doing anything to a terminal.
func printable(text string) bool {
	return !strings.ContainsFunc(text, func(r rune) bool { return r != '\n' && (r < ' ' || r > '~') })
}

// digest is a SHA-256 as the manifest prints it.
func digest[T string | []byte](data T) string {
	sum := sha256.Sum256([]byte(data))
	return "sha256:" + hex.EncodeToString(sum[:])
}

// endOf is what an anchor says of a book that ends with a block.
func endOf(data []byte) (eventstore.Checkpoint, error) {
	h, err := block.DecodeHeader(data)
	if err != nil {
		return eventstore.Checkpoint{}, err
	}
	tree := merkle.Tree{Size: h.First - 1 + uint64(h.Count), Peaks: h.Tree}
	return eventstore.Checkpoint{
		Head: eventstore.Head{Block: h.Number, Hash: block.Hash(data), Events: tree.Size},
		Root: tree.Root(), SealedAt: h.SealedAt,
	}, nil
}
