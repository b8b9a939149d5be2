package eventstore

import (
	"bytes"
	"crypto/ed25519"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/mod/sumdb/note"

	"tollbook/domain"
	"tollbook/eventstore/merkle"
)

// ErrUnproven is returned when a signed anchor or a proof does not hold: it was
// changed, or is of another book, or signed with a key that is not known.
var ErrUnproven = errors.New("not proved")

func unproven(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrUnproven, fmt.Sprintf(format, args...))
}

// A Checkpoint is what a signed anchor says of a book: enough to tell it from
// any other book, with other events or in other blocks.
type Checkpoint struct {
	Head
	Root     merkle.Hash    // of the Merkle tree over all its events
	SealedAt domain.Instant // when the head block was sealed
}

// append writes the text that is signed: a checkpoint of c2sp.org/tlog-checkpoint
// whose origin is the name of the key. docs/FORMAT.md has it.
func (c *Checkpoint) append(dst []byte, origin string) []byte {
	dst = fmt.Appendf(dst, "%s\n%d\n%s\n", origin, c.Events, base64.StdEncoding.EncodeToString(c.Root[:]))
	return fmt.Appendf(dst, "block %d %s\nsealed %s\n", c.Block, c.Head, c.SealedAt)
}

// maxPosition is the highest position, and block, of format 1.
const maxPosition = 1 << 62

// parseCheckpoint reads what append writes, and nothing else.
func parseCheckpoint(text string) (c Checkpoint, origin string, err error) {
	lines := strings.Split(text, "\n")
	if len(lines) < 5 {
		return c, "", errors.New("has not the lines of an anchor")
	}
	origin = lines[0]
	c.Events, _ = strconv.ParseUint(lines[1], 10, 64)
	root, _ := base64.StdEncoding.DecodeString(lines[2])
	copy(c.Root[:], root)
	number, hash, _ := strings.Cut(strings.TrimPrefix(lines[3], "block "), " sha256:")
	c.Block, _ = strconv.ParseUint(number, 10, 64)
	sum, _ := hex.DecodeString(hash)
	copy(c.Hash[:], sum)
	sealed, _ := time.Parse(time.RFC3339Nano, strings.TrimPrefix(lines[4], "sealed "))
	c.SealedAt = domain.InstantOf(sealed)
	// Whatever was not read, or in another spelling, is not what append writes.
	if string(c.append(nil, origin)) != text {
		return c, "", errors.New("has not the lines of an anchor of this version")
	}
	if c.Events == 0 || c.Block == 0 || c.Events > maxPosition || c.Block > c.Events {
		return c, "", fmt.Errorf("names block %d at position %d, which no book has", c.Block, c.Events)
	}
	return c, origin, nil
}

// A SignedAnchor is a checkpoint with its signature.
type SignedAnchor struct {
	Checkpoint
	Key  string // name of the key
	Note string // the text and its signature lines, as it is kept
}

// check compares the anchor with the block at whose position it was made, and
// the root of the tree over all events up to it.
func (a *SignedAnchor) check(at Head, root merkle.Hash) error {
	switch {
	case at.Events == a.Events && root != a.Root:
		return fmt.Errorf("%w: block %d: the events 1 to %d are not those that %s signed (root %s, here %s): at least one was changed after that; an older anchor that still holds narrows down which",
			ErrCorrupt, at.Block, at.Events, a.Key, a.Root, root)
	case at.Block == a.Block && at != a.Head:
		return fmt.Errorf("%w: block %d has hash %s and ends at position %d, but the anchor that %s signed says %s and %d: the book was written anew after that, or is another one",
			ErrCorrupt, at.Block, at.Hash, at.Events, a.Key, a.Hash, a.Events)
	}
	return nil
}

// Limits of the files, in bytes.
const (
	MaxKeyBytes  = 4 << 10
	MaxNoteBytes = 64 << 10 // others may have signed it as well
)

// ReadNote reads a signed anchor without checking its signature, whose key may
// be unknown. Errors: ErrUnproven.
func ReadNote(data []byte) (SignedAnchor, error) {
	if len(data) > MaxNoteBytes {
		return SignedAnchor{}, unproven("an anchor has at most %d bytes, this one %d", MaxNoteBytes, len(data))
	}
	var unverified *note.UnverifiedNoteError
	if _, err := note.Open(data, note.VerifierList()); !errors.As(err, &unverified) {
		return SignedAnchor{}, unproven("the anchor is no signed note: take it anew from where it was kept, as 'tollbook anchor' printed it")
	}
	c, origin, err := parseCheckpoint(unverified.Note.Text)
	if err != nil {
		return SignedAnchor{}, unproven("the anchor %v", err)
	}
	return SignedAnchor{Checkpoint: c, Key: origin, Note: string(data)}, nil
}

// PublicKeys are what signatures are checked with.
type PublicKeys []note.Verifier

// ParsePublicKeys reads verifier keys of the note format, one a line.
func ParsePublicKeys(text string) (PublicKeys, error) {
	if len(text) > MaxKeyBytes {
		return nil, fmt.Errorf("has %d bytes: at most %d are keys", len(text), MaxKeyBytes)
	}
	var keys PublicKeys
	seen := []string{""}
	for line := range strings.Lines(text) {
		if line = strings.TrimSpace(line); slices.Contains(seen, line) {
			continue
		}
		seen = append(seen, line)
		if strings.HasPrefix(line, "PRIVATE+") {
			return nil, errors.New("is a private key: the public one is needed, and the private one should go nowhere")
		}
		key, err := note.NewVerifier(line)
		if err != nil {
			return nil, fmt.Errorf("%.100q is no public key (%w): must be NAME+HASH+KEY, as serve prints it", line, err)
		}
		keys = append(keys, key)
	}
	if keys == nil {
		return nil, errors.New("holds no key")
	}
	return keys, nil
}

func (keys PublicKeys) names() string {
	var names []string
	for _, key := range keys {
		names = append(names, key.Name())
	}
	return strings.Join(names, ", ")
}

// Open reads a signed anchor and checks its signature. Errors: ErrUnproven.
func (keys PublicKeys) Open(data []byte) (SignedAnchor, error) {
	a, err := ReadNote(data)
	if err != nil {
		return a, err
	}
	n, err := note.Open(data, note.VerifierList(keys...))
	var invalid *note.InvalidSignatureError
	switch {
	case errors.As(err, &invalid):
		return a, unproven("the signature of %s is not one of this anchor: it or the anchor was changed; take it anew from where it was kept", invalid.Name)
	case err != nil, !slices.ContainsFunc(n.Sigs, func(s note.Signature) bool { return s.Name == a.Key }):
		return a, unproven("the anchor says it is of %s, and no key of that name that is known (%s) has signed it: give the --key that belongs to it", a.Key, keys.names())
	}
	return a, nil
}

// A SigningKey signs the anchors of a book.
type SigningKey struct {
	signer note.Signer
	public string
}

// SigningKeyPath is where a data directory has its private key; no copy has it.
func SigningKeyPath(dir string) string { return filepath.Join(dir, "signing-key") }

// PublicKeyPath is where a data directory has its public keys: the first is that
// of the signing key, the others those before it, with which older anchors are checked.
func PublicKeyPath(dir string) string { return filepath.Join(dir, "public-key") }

// keyName is what the name of a key begins with; eight hexadecimal digits follow.
const keyName = "tollbook-"

// OpenSigningKey reads the key of a data directory that the caller has locked, or
// makes one with random; made says so. A crash in it leaves the key there or not,
// and the next call puts the public one beside it.
func OpenSigningKey(dir string, random io.Reader) (key *SigningKey, made bool, err error) {
	key, err = ReadSigningKey(dir)
	if errors.Is(err, fs.ErrNotExist) {
		made = true
		key, err = newSigningKey(dir, random)
	}
	if err != nil {
		return nil, false, err
	}
	return key, made, key.publish(dir)
}

// ReadSigningKey reads the key of a data directory; where there is none, the
// error is fs.ErrNotExist.
func ReadSigningKey(dir string) (*SigningKey, error) {
	path := SigningKeyPath(dir)
	data, err := readKeyFile(path)
	if err != nil {
		return nil, err
	}
	key, err := parseSigningKey(strings.TrimSpace(string(data)))
	if err != nil {
		return nil, fmt.Errorf("%s is damaged (%w): put back a copy of it, or move it away and a new key is made at the next start; %s checks what it signed before", path, err, PublicKeyPath(dir))
	}
	return key, nil
}

func parseSigningKey(text string) (*SigningKey, error) {
	signer, err := note.NewSigner(text)
	if err != nil {
		return nil, err
	}
	// NewSigner has made sure that there are five parts, of which the last is the
	// algorithm and the seed.
	seed, err := base64.StdEncoding.DecodeString(strings.SplitN(text, "+", 5)[4])
	if err != nil {
		return nil, err
	}
	pair := ed25519.NewKeyFromSeed(seed[1:])
	public, err := note.NewEd25519VerifierKey(signer.Name(), pair.Public().(ed25519.PublicKey))
	return &SigningKey{signer, public}, err
}

func newSigningKey(dir string, random io.Reader) (*SigningKey, error) {
	var name [4]byte
	if _, err := io.ReadFull(random, name[:]); err != nil {
		return nil, fmt.Errorf("signing key: %w", err)
	}
	private, _, err := note.GenerateKey(random, fmt.Sprintf("%s%x", keyName, name))
	if err != nil {
		return nil, fmt.Errorf("signing key: %w", err)
	}
	if err := writeKeyFile(SigningKeyPath(dir), private+"\n", 0o600); err != nil {
		return nil, fmt.Errorf("signing key: %w", err)
	}
	return parseSigningKey(private)
}

// publish has the key be the first of the directory's public ones. Lines that
// are no key are dropped then.
func (k *SigningKey) publish(dir string) error {
	path := PublicKeyPath(dir)
	data, err := readKeyFile(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if first, _, _ := bytes.Cut(data, []byte("\n")); string(first) == k.public {
		return nil
	}
	lines := []string{k.public}
	for line := range strings.Lines(string(data)) {
		line = strings.TrimSpace(line)
		if _, err := note.NewVerifier(line); err == nil && !slices.Contains(lines, line) {
			lines = append(lines, line)
		}
	}
	text := strings.Join(lines, "\n") + "\n"
	for len(text) > MaxKeyBytes {
		lines = lines[:len(lines)-1]
		text = strings.Join(lines, "\n") + "\n"
	}
	if err := writeKeyFile(path, text, 0o644); err != nil {
		return fmt.Errorf("public key: %w", err)
	}
	return nil
}

// Name is the name of the key, and so of the book.
func (k *SigningKey) Name() string { return k.signer.Name() }

// Public is the key with which others check what this one signs.
func (k *SigningKey) Public() string { return k.public }

// Sign makes the signed anchor of a book that has events.
func (k *SigningKey) Sign(c Checkpoint) (SignedAnchor, error) {
	if c.Events == 0 {
		return SignedAnchor{}, errors.New("the book is empty: there is nothing to sign yet")
	}
	signed, err := note.Sign(&note.Note{Text: string(c.append(nil, k.Name()))}, k.signer)
	if err != nil {
		return SignedAnchor{}, fmt.Errorf("signing the anchor: %w", err)
	}
	return SignedAnchor{c, k.Name(), string(signed)}, nil
}

// SignText signs lines that are no anchor, as a note.
func (k *SigningKey) SignText(text string) ([]byte, error) {
	return note.Sign(&note.Note{Text: text}, k.signer)
}

func readKeyFile(path string) ([]byte, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() || info.Size() > MaxKeyBytes {
		return nil, fmt.Errorf("%s is no key: it has %d bytes, a key at most %d", path, info.Size(), MaxKeyBytes)
	}
	return os.ReadFile(path)
}

// writeKeyFile makes or replaces a file, and has it and its name on disk.
func writeKeyFile(path, text string, mode fs.FileMode) error {
	_ = os.Remove(path + ".new") // of a crash; its mode would stay
	file, err := os.OpenFile(path+".new", os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
	if err != nil {
		return err
	}
	_, err = io.WriteString(file, text)
	if err := errors.Join(err, file.Sync(), file.Close()); err != nil {
		return errors.Join(err, os.Remove(path+".new"))
	}
	if err := os.Rename(path+".new", path); err != nil {
		return err
	}
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}
