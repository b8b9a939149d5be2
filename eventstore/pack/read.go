package pack

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"golang.org/x/mod/sumdb/note"

	"tollbook/eventstore"
	"tollbook/eventstore/block"
)

// A Pack is an audit pack whose signatures hold. Its blocks are yet to be read:
// it is a Log of them, that cannot be appended to.
type Pack struct {
	Manifest
	Key      string // the public key in the pack, with which its signatures were checked
	Anchor   eventstore.SignedAnchor
	Document []byte

	file  io.ReaderAt
	size  int64
	start int64 // of the first block's header
}

var _ eventstore.Log = (*Pack)(nil)

// Open reads all members of a pack up to its blocks, and checks that one of the
// keys signed it; without keys, the one in the pack, which shows no more than that
// the pack is whole. The file, of size bytes, is read until the Pack is closed.
//
// Errors: ErrUnproven, naming the member; those of reading.
func Open(file io.ReaderAt, size int64, keys eventstore.PublicKeys) (*Pack, error) {
	c := cursor{file: file, size: size}
	signed, err := c.next(nameManifest, MaxManifestBytes, nil)
	if err != nil {
		return nil, err
	}
	if keys != nil {
		if err := checkSigned(signed, keys, "the key given"); err != nil {
			return nil, err
		}
	}
	m, err := parseManifest(string(signed[:bytes.LastIndex(signed, []byte("\n\n"))+1]))
	if err != nil {
		return nil, refused(nameManifest, "%v", err)
	}
	p := &Pack{Manifest: m, file: file, size: size}
	own, err := p.readKey(&c)
	if err != nil {
		return nil, err
	}
	if err := checkSigned(signed, own, "the key in the pack"); err != nil {
		return nil, err
	}
	if err := p.readAnchor(&c, own); err != nil {
		return nil, err
	}
	if p.Document, err = c.named(nameDocument, MaxDocumentBytes, m.Digest); err != nil {
		return nil, err
	}
	p.start = c.at
	return p, nil
}

// checkSigned refuses a manifest that does not have exactly one signature, which
// is by one of the keys. The note package lets some bytes of it be chosen freely.
func checkSigned(signed []byte, keys eventstore.PublicKeys, whose string) error {
	n, err := note.Open(signed, note.VerifierList(keys...))
	var unknown *note.UnverifiedNoteError
	switch {
	case errors.As(err, &unknown):
		return refused(nameManifest, "%s, %s, has not signed it, but %q has: it is the pack of another book, or was signed anew by somebody else",
			whose, names(keys), unknown.Note.UnverifiedSigs[0].Name)
	case err != nil:
		return refused(nameManifest, "the signature is not one of this manifest by %s, %s: one of them was changed", whose, names(keys))
	}
	signature, err := base64.StdEncoding.DecodeString(n.Sigs[0].Base64)
	if err != nil || string(signed) != fmt.Sprintf("%s\n— %s %s\n", n.Text, n.Sigs[0].Name, base64.StdEncoding.EncodeToString(signature)) {
		return refused(nameManifest, "the line of the signature was changed")
	}
	return nil
}

func names(keys eventstore.PublicKeys) string {
	var list []string
	for _, key := range keys {
		list = append(list, key.Name())
	}
	return strings.Join(list, ", ")
}

func (p *Pack) readKey(c *cursor) (eventstore.PublicKeys, error) {
	data, err := c.named(namePublicKey, eventstore.MaxKeyBytes, p.publicKey)
	if err != nil {
		return nil, err
	}
	p.Key = strings.TrimSuffix(string(data), "\n")
	key, err := note.NewVerifier(p.Key)
	if err != nil || !printable(p.Key) || strings.Contains(p.Key, "\n") {
		return nil, refused(namePublicKey, "is not one line with a public key")
	}
	return eventstore.PublicKeys{key}, nil
}

func (p *Pack) readAnchor(c *cursor, keys eventstore.PublicKeys) error {
	data, err := c.named(nameAnchor, eventstore.MaxNoteBytes, p.anchor)
	if err != nil {
		return err
	}
	if p.Anchor, err = keys.Open(data); err != nil {
		return fmt.Errorf("%s: %w", nameAnchor, err)
	}
	if p.Anchor.Head != p.End {
		return refused(nameAnchor, "is of block %d (%s) at position %d, but the manifest says block %d (%s) at %d",
			p.Anchor.Block, p.Anchor.Head, p.Anchor.Events, p.End.Block, p.End, p.End.Events)
	}
	return nil
}

// Read calls each with the blocks, as [eventstore.Log] says; what is missing, was
// changed, or is beyond the last is ErrUnproven.
func (p *Pack) Read(ctx context.Context, from uint64, each func(n uint64, block []byte) error) error {
	c := cursor{file: p.file, size: p.size, at: p.start}
	var data []byte
	for n := uint64(1); n <= p.End.Block; n++ {
		if err := ctx.Err(); err != nil {
			return err
		}
		var err error
		if data, err = c.next(nameOfBlock(n), block.MaxBlockBytes, data); err != nil {
			return err
		}
		if n < from {
			continue
		}
		if err := each(n, data); err != nil {
			return err
		}
	}
	if end, err := endOf(data); err != nil || end != p.Anchor.Checkpoint {
		return refused(nameOfBlock(p.End.Block), "its hash, position, Merkle tree or time are not those of the anchor: one of them was changed")
	}
	return c.end()
}

// Head is the number of the last block.
func (p *Pack) Head(ctx context.Context) (uint64, error) { return p.End.Block, ctx.Err() }

// Append refuses.
func (p *Pack) Append(context.Context, uint64, []byte) error {
	return errors.New("an audit pack is not appended to")
}

// Close does nothing: the file is the caller's.
func (p *Pack) Close() error { return nil }

// A cursor reads a file member by member, and refuses every byte that is not the
// only one there may be.
type cursor struct {
	file     io.ReaderAt
	size, at int64
}

// next is the member of a name, in buf where that is large enough.
func (c *cursor) next(name string, most int64, buf []byte) ([]byte, error) {
	head, err := c.take(name, unit, nil)
	if err != nil {
		return nil, err
	}
	there, err := tar.NewReader(bytes.NewReader(head)).Next()
	switch {
	case err != nil:
		return nil, refused(name, "there is no header of a tar where its own should be: it was changed, or members are missing")
	case there.Name != name:
		return nil, refused(name, "is missing: %.60q is in its place", there.Name)
	case !bytes.Equal(head, headerBytes(name, there.Size)):
		return nil, refused(name, "its header is not as packs have it: it was changed")
	case there.Size > most:
		return nil, refused(name, "has %d bytes, more than %d", there.Size, most)
	}
	if buf, err = c.take(name, there.Size, buf); err != nil {
		return nil, err
	}
	return buf, c.zeros(name, -there.Size&(unit-1))
}

// named is a member that the manifest names by its hash.
func (c *cursor) named(name string, most int64, hash string) ([]byte, error) {
	data, err := c.next(name, most, nil)
	if err == nil && digest(data) != hash {
		err = refused(name, "has SHA-256 %s, but the manifest says %s: it or the manifest was changed", digest(data), hash)
	}
	return data, err
}

// end refuses whatever does not end where a pack does.
func (c *cursor) end() error {
	if rest := c.size - c.at; rest != 2*unit {
		return refused(nameEnd, "%d bytes are left where a pack ends with %d zeros: it was cut, or something was added", rest, 2*unit)
	}
	return c.zeros(nameEnd, 2*unit)
}

// zeros reads what has no meaning.
func (c *cursor) zeros(name string, n int64) error {
	var pad [2 * unit]byte
	data, err := c.take(name, n, pad[:])
	if err == nil && slices.Max(append(data, 0)) != 0 {
		err = refused(name, "there is something where only zeros may be: it was changed")
	}
	return err
}

// take reads the next n bytes, once it is known that there are as many.
func (c *cursor) take(name string, n int64, buf []byte) ([]byte, error) {
	if n > c.size-c.at {
		return nil, refused(name, "the file ends within it: it was cut")
	}
	buf = slices.Grow(buf[:0], int(n))[:n]
	if got, err := c.file.ReadAt(buf, c.at); got < len(buf) {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	c.at += n
	return buf, nil
}
