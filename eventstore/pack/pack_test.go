package pack_test

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"tollbook/domain"
	"tollbook/eventstore"
	"tollbook/eventstore/block"
	"tollbook/eventstore/pack"
	"tollbook/eventstore/sqlite"
)

var ctx = context.Background()

// A shelf is a small book, and the key that signs its packs.
type shelf struct {
	key    *eventstore.SigningKey
	blocks [][]byte
	pack   []byte
}

// newShelf books that many events, one a block, and packs all of them but the last.
// The seed makes events and key.
func newShelf(t testing.TB, events int, seed byte) shelf {
	t.Helper()
	dir := t.TempDir()
	sealed := domain.Instant(1_790_000_000_000_000_000)
	book, err := eventstore.Open(ctx, dir, func(path string) (eventstore.Log, error) { return sqlite.Open(path) },
		eventstore.Options{Clock: func() domain.Instant { sealed++; return sealed }})
	if err != nil {
		t.Fatal(err)
	}
	for i := range events {
		_, err := book.Submit(ctx, []eventstore.Record{{Event: domain.Event{
			Tenant: "contoso", Source: "desk", ID: fmt.Sprint(seed, "-", i), Time: 1_780_000_000_000_000_000, Data: &domain.Void{Ref: domain.Ref{Source: "switch/mil-1", ID: "1"}, Reason: "a test"},
		}}})
		if err != nil {
			t.Fatal(err)
		}
	}
	s := shelf{}
	err = book.Blocks(ctx, 1, func(_ uint64, data []byte) error {
		s.blocks = append(s.blocks, bytes.Clone(data))
		return nil
	})
	if err := errors.Join(err, book.Close()); err != nil {
		t.Fatal(err)
	}
	if s.key, _, err = eventstore.OpenSigningKey(dir, rand.NewChaCha8([32]byte{seed})); err != nil {
		t.Fatal(err)
	}
	s.pack = s.write(t, nil)
	return s
}

func (s shelf) read(_ context.Context, from uint64, each func(uint64, []byte) error) error {
	for n := max(from, 1); n <= uint64(len(s.blocks)); n++ {
		if err := each(n, s.blocks[n-1]); err != nil {
			return err
		}
	}
	return nil
}

// contents are a pack of all blocks but the last.
func (s shelf) contents() pack.Contents {
	return pack.Contents{
		Manifest: pack.Manifest{Tenant: "contoso", Month: "2026-10", Number: "2026-0001", Position: 2, Version: "0.1.0", Program: "sha256:00", Go: "go1.26.0"},
		Document: []byte(`{"total":"0.16"}`), Read: s.read, Last: uint64(len(s.blocks) - 1),
	}
}

func (s shelf) write(t testing.TB, change func(*pack.Contents)) []byte {
	t.Helper()
	c := s.contents()
	if change != nil {
		change(&c)
	}
	var b bytes.Buffer
	if err := pack.Write(ctx, &b, s.key, c); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func (s shelf) public(t testing.TB) eventstore.PublicKeys {
	t.Helper()
	keys, err := eventstore.ParsePublicKeys(s.key.Public())
	if err != nil {
		t.Fatal(err)
	}
	return keys
}

// read is what an audit does before it replays.
func read(data []byte, keys eventstore.PublicKeys) (*pack.Pack, [][]byte, error) {
	p, err := pack.Open(bytes.NewReader(data), int64(len(data)), keys)
	if err != nil {
		return nil, nil, err
	}
	var blocks [][]byte
	tap := tapped{p, func(data []byte) { blocks = append(blocks, bytes.Clone(data)) }}
	walk := eventstore.Walk{Log: tap, Anchor: &eventstore.Anchor{Head: p.Anchor.Head}, Leaves: true}
	_, err = walk.Run(ctx, func(*block.Block, eventstore.Head, int) error { return nil })
	return p, blocks, err
}

// tapped shows somebody what is read of a log.
type tapped struct {
	eventstore.Log
	tap func([]byte)
}

func (t tapped) Read(ctx context.Context, from uint64, each func(uint64, []byte) error) error {
	return t.Log.Read(ctx, from, func(n uint64, data []byte) error {
		t.tap(data)
		return each(n, data)
	})
}

func TestPack(t *testing.T) {
	s := newShelf(t, 4, 1)
	for name, keys := range map[string]eventstore.PublicKeys{"the key": s.public(t), "the pack's own": nil} {
		p, blocks, err := read(s.pack, keys)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		want := s.contents().Manifest
		want.Digest, want.End = p.Digest, p.Anchor.Head
		got := p.Manifest
		if got.Tenant != want.Tenant || got.Month != want.Month || got.Number != want.Number || got.Position != want.Position || got.End != want.End ||
			got.Version != want.Version || got.Program != want.Program || got.Go != want.Go {
			t.Errorf("%s: %+v, want %+v", name, got, want)
		}
		if p.Key != s.key.Public() || p.Anchor.Key != s.key.Name() || string(p.Document) != `{"total":"0.16"}` || p.End.Block != 3 || p.End.Events != 3 {
			t.Errorf("%s: %+v", name, p)
		}
		if diff := cmp.Diff(s.blocks[:3], blocks); diff != "" {
			t.Errorf("%s: blocks, -book +pack:\n%s", name, diff)
		}
	}
	if !bytes.Equal(s.pack, s.write(t, nil)) {
		t.Error("the same contents make another pack")
	}
	// As a log, it can be read from anywhere, often, and not be written.
	p, _, err := read(s.pack, nil)
	if err != nil {
		t.Fatal(err)
	}
	for from := range uint64(5) {
		var got []uint64
		err := p.Read(ctx, from, func(n uint64, data []byte) error {
			if got = append(got, n); !bytes.Equal(data, s.blocks[n-1]) {
				t.Errorf("block %d is another one", n)
			}
			return nil
		})
		want := []uint64{1, 2, 3}[min(max(from, 1), 4)-1:]
		if !slices.Equal(got, want) || err != nil {
			t.Errorf("from %d: %v, %v; want %v", from, got, err, want)
		}
	}
	ended, cancel := context.WithCancel(ctx)
	cancel()
	if err := p.Read(ended, 1, nil); !errors.Is(err, context.Canceled) {
		t.Errorf("reading with a context that has ended: %v", err)
	}
	if head, err := p.Head(ctx); head != 3 || err != nil {
		t.Errorf("head %d, %v", head, err)
	}
	if p.Append(ctx, 4, s.blocks[3]) == nil || p.Close() != nil {
		t.Error("a pack was appended to, or can't be closed")
	}
}

// A span is a member's place in the file.
type span struct {
	name     string
	from, to int
}

func spans(t testing.TB, data []byte) (all []span) {
	t.Helper()
	archive := tar.NewReader(bytes.NewReader(data))
	at := 0
	for {
		h, err := archive.Next()
		if err == io.EOF {
			return append(all, span{"the end", at, len(data)})
		}
		if err != nil {
			t.Fatal(err)
		}
		end := at + 512 + (int(h.Size)+511)/512*512
		all = append(all, span{h.Name, at, end})
		at = end
	}
}

// TestEveryByteCounts flips a bit of each byte of a pack, and cuts it at each: all
// of that is refused, in one line that names the member.
func TestEveryByteCounts(t *testing.T) {
	s := newShelf(t, 4, 1)
	keys, members := s.public(t), spans(t, s.pack)
	counts := map[string]int{}
	check := func(at int, how string, data []byte) {
		t.Helper()
		in := members[slices.IndexFunc(members, func(m span) bool { return at < m.to })]
		name := strings.Replace(in.name, "blocks/0000000", "block", 1)
		for _, keys := range []eventstore.PublicKeys{keys, nil} {
			_, _, err := read(data, keys)
			switch {
			case err == nil || !errors.Is(err, eventstore.ErrUnproven) && !errors.Is(err, eventstore.ErrCorrupt):
				t.Fatalf("byte %d (%s) %s: %v", at, in.name, how, err)
			case !strings.Contains(err.Error(), in.name) && !strings.Contains(strings.ReplaceAll(err.Error(), "block ", "block"), name), strings.Contains(err.Error(), "\n"):
				t.Fatalf("byte %d %s: the error does not name %s: %v", at, how, in.name, err)
			}
		}
		counts[how+" in "+in.name]++
	}
	for at := range s.pack {
		flipped := bytes.Clone(s.pack)
		flipped[at] ^= 1 << (at % 8)
		check(at, "flipped", flipped)
		check(at, "cut", s.pack[:at])
	}
	for _, m := range members {
		t.Logf("%s: of %d bytes %d flips and %d cuts are refused", m.name, m.to-m.from, counts["flipped in "+m.name], counts["cut in "+m.name])
	}
}

// memberOf is a member with its header, contentOf without.
func memberOf(t testing.TB, data []byte, name string) []byte {
	t.Helper()
	for _, m := range spans(t, data) {
		if m.name == name {
			return data[m.from:m.to]
		}
	}
	t.Fatalf("there is no %s", name)
	return nil
}

func contentOf(t testing.TB, data []byte, name string) []byte {
	t.Helper()
	data = memberOf(t, data, name)
	h, err := tar.NewReader(bytes.NewReader(data)).Next()
	if err != nil {
		t.Fatal(err)
	}
	return data[512 : 512+h.Size]
}

// forgedAnchor is the pack's, changed and signed again.
func forgedAnchor(t testing.TB, s shelf, change func(*eventstore.Checkpoint)) string {
	t.Helper()
	p, _, err := read(s.pack, nil)
	if err != nil {
		t.Fatal(err)
	}
	end := p.Anchor.Checkpoint
	change(&end)
	anchor, err := s.key.Sign(end)
	if err != nil {
		t.Fatal(err)
	}
	return anchor.Note
}

// TestAltered: what somebody makes of a pack who knows its format well.
func TestAltered(t *testing.T) {
	s := newShelf(t, 5, 1)
	other, stranger := newShelf(t, 6, 1), newShelf(t, 5, 2)
	keys := s.public(t)
	members := spans(t, s.pack)
	// made puts a pack together of members of this one, or of others.
	made := func(parts ...any) []byte {
		var data []byte
		for _, part := range parts {
			switch part := part.(type) {
			case string:
				data = append(data, memberOf(t, s.pack, part)...)
			case []byte:
				data = append(data, part...)
			}
		}
		return data
	}
	member := func(name string, data []byte, change func(*tar.Header)) []byte {
		var b bytes.Buffer
		h, err := tar.NewReader(bytes.NewReader(s.pack)).Next()
		if err != nil {
			t.Fatal(err)
		}
		h.Name, h.Size = name, int64(len(data))
		if change != nil {
			change(h)
		}
		archive := tar.NewWriter(&b)
		if err := archive.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		if _, err := archive.Write(data); err != nil {
			t.Fatal(err)
		}
		if err := archive.Flush(); err != nil {
			t.Fatal(err)
		}
		return b.Bytes()
	}
	replaced := func(name, old, with string) []byte {
		text := string(contentOf(t, s.pack, name))
		if !strings.Contains(text, old) {
			t.Fatalf("%s has no %q", name, old)
		}
		return member(name, []byte(strings.Replace(text, old, with, 1)), nil)
	}
	// signed has another manifest, with the signature of the key; resigned another anchor.
	text, _, _ := strings.Cut(string(contentOf(t, s.pack, "manifest")), "\n\n")
	text += "\n"
	signed := func(old, with string) []byte {
		if !strings.Contains(text, old) {
			t.Fatalf("the manifest has no %q", old)
		}
		manifest, err := s.key.SignText(strings.Replace(text, old, with, 1))
		if err != nil {
			t.Fatal(err)
		}
		return made(member("manifest", manifest, nil), "public-key", "anchor", "document.json", "blocks/00000001", "blocks/00000002", "blocks/00000003", "blocks/00000004", "the end")
	}
	resigned := func(anchor string) []byte {
		hash := func(anchor string) string { return fmt.Sprintf("anchor sha256:%x", sha256.Sum256([]byte(anchor))) }
		pack := signed(hash(string(contentOf(t, s.pack, "anchor"))), hash(anchor))
		return bytes.Replace(pack, memberOf(t, pack, "anchor"), member("anchor", []byte(anchor), nil), 1)
	}
	const b1, b2, b3, b4, end = "blocks/00000001", "blocks/00000002", "blocks/00000003", "blocks/00000004", "the end"
	rest := made(b1, b2, b3, b4, end)
	if !bytes.Equal(made("manifest", "public-key", "anchor", "document.json", rest), s.pack) || len(members) != 9 {
		t.Fatal("the pack put together again is another one")
	}
	// The signature's last bits are no part of it, and base64 may be broken by \r.
	signature := string(contentOf(t, s.pack, "manifest"))
	loose := strings.TrimSuffix(signature, "=\n")
	last := loose[len(loose)-1]
	const letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
	loose = loose[:len(loose)-1] + string(letters[strings.IndexByte(letters, last)^1]) + "=\n"
	line := signature[strings.LastIndex(signature, "— "):]
	foreign := string(memberOf(t, stranger.pack, "manifest"))
	foreign = foreign[strings.LastIndex(foreign, "— "):]
	foreign = foreign[:strings.Index(foreign, "\n")+1]

	for name, c := range map[string]struct {
		data []byte
		want string
	}{
		"nothing":                     {nil, "manifest: the file ends"},
		"another tar":                 {member("book.db", []byte("x"), nil), `manifest: is missing: "book.db"`},
		"no tar":                      {bytes.Repeat([]byte("no tar "), 1000), "manifest: there is no header"},
		"members swapped":             {made("manifest", "anchor", "public-key", "document.json", rest), `public-key: is missing: "anchor" is in its place`},
		"blocks swapped":              {made("manifest", "public-key", "anchor", "document.json", b1, b3, b2, b4, end), `blocks/00000002: is missing: "blocks/00000003"`},
		"blocks swapped and renamed":  {made("manifest", "public-key", "anchor", "document.json", b1, member(b2, contentOf(t, s.pack, b3), nil), member(b3, contentOf(t, s.pack, b2), nil), b4, end), "block 2: "},
		"a block dropped":             {made("manifest", "public-key", "anchor", "document.json", b1, b3, b4, end), "blocks/00000002: is missing"},
		"the last block dropped":      {made("manifest", "public-key", "anchor", "document.json", b1, b2, b3, end), "blocks/00000004: there is no header"},
		"a block twice":               {made("manifest", "public-key", "anchor", "document.json", b1, b1, b2, b3, b4, end), "blocks/00000002: is missing"},
		"a block added":               {made("manifest", "public-key", "anchor", "document.json", b1, b2, b3, b4, memberOf(t, other.pack, "blocks/00000005"), end), "the end: "},
		"a member added":              {made("manifest", "public-key", "anchor", "document.json", member("notes.txt", nil, nil), rest), "is missing"},
		"a document dropped":          {made("manifest", "public-key", "anchor", rest), "document.json: is missing"},
		"another document":            {made("manifest", "public-key", "anchor", replaced("document.json", "0.16", "0.17"), rest), "document.json: has SHA-256"},
		"another amount in both":      {made(replaced("manifest", "contoso", "fabrikam"), "public-key", "anchor", "document.json", rest), "manifest: the signature"},
		"another key":                 {made("manifest", memberOf(t, stranger.pack, "public-key"), "anchor", "document.json", rest), "public-key: has SHA-256"},
		"another anchor":              {made("manifest", "public-key", memberOf(t, other.pack, "anchor"), "document.json", rest), "anchor: has SHA-256"},
		"no signature":                {made(member("manifest", []byte(strings.TrimSuffix(signature, line)), nil), "public-key", "anchor", "document.json", rest), "manifest: "},
		"loose bits of the signature": {made(member("manifest", []byte(loose), nil), "public-key", "anchor", "document.json", rest), "manifest: the line of the signature"},
		"a signature twice":           {made(member("manifest", []byte(signature+line), nil), "public-key", "anchor", "document.json", rest), "manifest: the line of the signature"},
		"a signature more":            {made(member("manifest", []byte(signature+foreign), nil), "public-key", "anchor", "document.json", rest), "manifest: the line of the signature"},
		"a mode":                      {made(member("manifest", []byte(signature), func(h *tar.Header) { h.Mode = 0o600 }), "public-key", "anchor", "document.json", rest), "manifest: its header"},
		"a symbolic link":             {made(member("manifest", nil, func(h *tar.Header) { h.Typeflag, h.Linkname = tar.TypeSymlink, "/etc/passwd" }), rest), "manifest: its header"},
		"a long manifest":             {made(member("manifest", make([]byte, pack.MaxManifestBytes+1), nil), rest), "manifest: has 16385 bytes, more than 16384"},
		"a size beyond the file":      {made("manifest", "public-key", "anchor", member("document.json", make([]byte, 1<<20), nil)[:512]), "document.json: the file ends within it"},
		"a gigantic block":            {made("manifest", "public-key", "anchor", "document.json", member(b1, make([]byte, block.MaxBlockBytes+1), nil)), "blocks/00000001: has 33554433 bytes"},
		"an empty block":              {made("manifest", "public-key", "anchor", "document.json", member(b1, nil, nil), b2, b3, b4, end), "block 1: "},
		"zeros after the end":         {append(bytes.Clone(s.pack), make([]byte, 512)...), "the end: 1536 bytes are left"},
		"something after the end":     {append(bytes.Clone(s.pack), s.pack...), "the end: "},
		"another book's blocks":       {made("manifest", "public-key", "anchor", "document.json", b1, b2, b3, memberOf(t, stranger.pack, b4), end), "block 4"},
		"signed by somebody else":     {stranger.pack, "has not signed it"},
		// What only whoever has the key can make.
		"a newer format":     {signed("tollbook audit pack 1", "tollbook audit pack 2"), "needs a newer tollbook"},
		"a line more":        {signed("go go1.26.0\n", "go go1.26.0\nnote none\n"), "manifest: has not the lines"},
		"an empty line":      {signed("go go1.26.0\n", "go go1.26.0\n\n"), "manifest: has not the lines"},
		"another spelling":   {signed("blocks 4", "blocks 04"), "manifest: has not the lines"},
		"a colour":           {signed("go1.26.0", "\u009b31m"), "manifest: has other characters"},
		"an anchor of later": {resigned(string(contentOf(t, other.pack, "anchor"))), "anchor: is of block 5"},
		"another root":       {resigned(forgedAnchor(t, s, func(c *eventstore.Checkpoint) { c.Root[0]++ })), "blocks/00000004: its hash, position, Merkle tree or time"},
		"another time":       {resigned(forgedAnchor(t, s, func(c *eventstore.Checkpoint) { c.SealedAt++ })), "blocks/00000004: its hash, position, Merkle tree or time"},
	} {
		t.Run(name, func(t *testing.T) {
			_, _, err := read(c.data, keys)
			if err == nil || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "\n") {
				t.Errorf("%v; want one line with %q", err, c.want)
			}
		})
	}
}

// TestWriteRefuses what would be no pack, or can't be written.
func TestWriteRefuses(t *testing.T) {
	s := newShelf(t, 3, 1)
	damaged := bytes.Clone(s.blocks[1])
	damaged[len(damaged)/2] ^= 1
	for name, c := range map[string]struct {
		change func(*pack.Contents)
		want   string
	}{
		"no block":        {func(c *pack.Contents) { c.Last = 0 }, "the book has no block 0"},
		"not so many":     {func(c *pack.Contents) { c.Last = 4 }, "the book has no block 4"},
		"a damaged block": {func(c *pack.Contents) { c.Read = shelf{blocks: [][]byte{s.blocks[0], damaged}}.read }, "block 2: block is damaged"},
		"a line too many": {func(c *pack.Contents) { c.Version = "0.1.0\nblocks 1" }, "the manifest would be none"},
		"a long line":     {func(c *pack.Contents) { c.Version = strings.Repeat("0", pack.MaxManifestBytes) }, "a pack takes"},
		"a book that changes": {func(c *pack.Contents) {
			reads := 0
			c.Read = func(ctx context.Context, from uint64, each func(uint64, []byte) error) error {
				if reads++; reads == 1 {
					return s.read(ctx, from, each)
				}
				return each(2, s.blocks[2])
			}
		}, "block 2 has changed"},
		"a book that ends": {func(c *pack.Contents) {
			reads := 0
			c.Read = func(ctx context.Context, from uint64, each func(uint64, []byte) error) error {
				if reads++; reads == 1 {
					return s.read(ctx, from, each)
				}
				return each(1, s.blocks[0])
			}
		}, "block 2 has changed"},
	} {
		contents := s.contents()
		c.change(&contents)
		if err := pack.Write(ctx, io.Discard, s.key, contents); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v; want %q", name, err, c.want)
		}
	}
	for room := range len(s.pack) {
		if err := pack.Write(ctx, &full{room}, s.key, s.contents()); !errors.Is(err, errFull) {
			t.Fatalf("with room for %d of %d bytes: %v", room, len(s.pack), err)
		}
	}
}

var errFull = errors.New("no space left")

// full takes so many bytes.
type full struct{ room int }

func (f *full) Write(p []byte) (int, error) {
	if len(p) > f.room {
		return f.room, errFull
	}
	f.room -= len(p)
	return len(p), nil
}

// FuzzOpen reads anything as a pack. What is accepted with the key is the one that
// the key has signed.
func FuzzOpen(f *testing.F) {
	s := newShelf(f, 3, 1)
	keys := s.public(f)
	f.Add(s.pack)
	f.Add(newShelf(f, 3, 2).pack)
	for _, m := range spans(f, s.pack) {
		f.Add(s.pack[:m.from])
		f.Add(s.pack[m.from:])
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		if _, _, err := read(data, nil); err != nil && (strings.Contains(err.Error(), "\n") || len(err.Error()) > 1000) {
			t.Errorf("no line: %q", err)
		}
		if _, _, err := read(data, keys); err == nil && !bytes.Equal(data, s.pack) {
			t.Error("another pack is taken for the one that was signed")
		}
	})
}
