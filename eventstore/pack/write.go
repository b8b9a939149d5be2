package pack

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"

	"tollbook/eventstore"
)

// Contents are what a pack is made of.
type Contents struct {
	Manifest // its Digest and End need not be set: they follow from the rest
	Document []byte
	Read     eventstore.ReadFunc // the book
	Last     uint64              // the last block of it that goes into the pack
}

var errEnough = errors.New("enough")

// Write writes a pack that key signs. The same contents and key make the same
// bytes. What of them reached w when an error is returned is no pack.
//
// Errors: those of Read and w; ErrCorrupt where the book has not the blocks, or
// one of them is damaged; it is up to the caller to have checked more of it.
func Write(ctx context.Context, w io.Writer, key *eventstore.SigningKey, c Contents) error {
	end, err := lastBlock(ctx, c.Read, c.Last)
	if err != nil {
		return err
	}
	anchor, err := key.Sign(end)
	if err != nil {
		return err
	}
	public := key.Public() + "\n"
	m := c.Manifest
	m.End, m.Digest, m.publicKey, m.anchor = end.Head, digest(c.Document), digest(public), digest(anchor.Note)
	if _, err := parseManifest(m.text()); err != nil {
		return fmt.Errorf("the manifest would be none: it %w", err)
	}
	manifest, err := key.SignText(m.text())
	if err != nil {
		return err
	}
	if len(manifest) > MaxManifestBytes || len(c.Document) > MaxDocumentBytes {
		return fmt.Errorf("manifest and document have %d and %d bytes, a pack takes %d and %d", len(manifest), len(c.Document), MaxManifestBytes, MaxDocumentBytes)
	}
	archive := tar.NewWriter(w)
	for _, member := range []struct {
		name string
		data []byte
	}{{nameManifest, manifest}, {namePublicKey, []byte(public)}, {nameAnchor, []byte(anchor.Note)}, {nameDocument, c.Document}} {
		if err := put(archive, member.name, member.data); err != nil {
			return err
		}
	}
	var last []byte
	err = c.Read(ctx, 1, func(n uint64, data []byte) error {
		if err := put(archive, nameOfBlock(n), data); err != nil {
			return err
		}
		if n < c.Last {
			return nil
		}
		last = bytes.Clone(data)
		return errEnough
	})
	if err != nil && !errors.Is(err, errEnough) {
		return err
	}
	if again, err := endOf(last); err != nil || again != end {
		return fmt.Errorf("%w: block %d has changed while it was read", eventstore.ErrCorrupt, c.Last)
	}
	return archive.Close()
}

func put(archive *tar.Writer, name string, data []byte) error {
	if err := archive.WriteHeader(header(name, int64(len(data)))); err != nil {
		return err
	}
	_, err := archive.Write(data)
	return err
}

// lastBlock is what the anchor of a pack says.
func lastBlock(ctx context.Context, read eventstore.ReadFunc, n uint64) (end eventstore.Checkpoint, err error) {
	err = read(ctx, n, func(_ uint64, data []byte) error {
		if end, err = endOf(data); err != nil {
			return fmt.Errorf("%w: block %d: %w", eventstore.ErrCorrupt, n, err)
		}
		return errEnough
	})
	switch {
	case err != nil && !errors.Is(err, errEnough):
		return end, err
	case end.Block != n || n == 0:
		return end, fmt.Errorf("%w: the book has no block %d", eventstore.ErrCorrupt, n)
	}
	return end, nil
}
