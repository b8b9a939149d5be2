package eventstore_test

import (
	"bytes"
	"errors"
	"io/fs"
	"math/rand/v2"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"tollbook/eventstore"
	"tollbook/eventstore/merkle"
)

// seeded is randomness that is the same each time.
func seeded(seed byte) *rand.ChaCha8 { return rand.NewChaCha8([32]byte{seed}) }

// A fixed key, and what it is known by.
const (
	fixedPrivate = "PRIVATE+KEY+tollbook-00c0ffee+65d85661+AQABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZGhscHR4f"
	fixedPublic  = "tollbook-00c0ffee+65d85661+AQOhB7/zzhC+HXDdGOdLwJln5NYwm6UNXx3chmQSVTG4"
)

func fixedKey(t testing.TB) *eventstore.SigningKey {
	t.Helper()
	dir := t.TempDir()
	if err := os.WriteFile(eventstore.SigningKeyPath(dir), []byte(fixedPrivate+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	key, err := eventstore.ReadSigningKey(dir)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func publicKeys(t testing.TB, text string) eventstore.PublicKeys {
	t.Helper()
	keys, err := eventstore.ParsePublicKeys(text)
	if err != nil {
		t.Fatal(err)
	}
	return keys
}

func someCheckpoint() eventstore.Checkpoint {
	return eventstore.Checkpoint{
		Head: eventstore.Head{Block: 42, Hash: merkle.Leaf([]byte("block 42")), Events: 18231},
		Root: merkle.Leaf([]byte("the root")), SealedAt: started + 120_000_000,
	}
}

const goldenNote = `tollbook-00c0ffee
18231
gfmAy2kQIgCdWod0ZlCegzc2sn3LreRrptmqBiC+74Y=
block 42 sha256:5282e1ff303aba691c8144d224bc82f05dd8a9238dc72d5cafe2fdbf4362ab04
sealed 2026-10-01T08:00:00.12Z

— tollbook-00c0ffee ZdhWYUP8Aj+hZASRTZLCZleLF1VlPIiwtscesleMz/STQVBnkMlgEx7w0Kn56zSH/2ZKlhNcRAkCege7uVGhCryIBgc=
`

// TestNoteIsWhatTheFormatSays: an anchor that was kept must stay readable.
func TestNoteIsWhatTheFormatSays(t *testing.T) {
	key := fixedKey(t)
	if key.Name() != "tollbook-00c0ffee" || key.Public() != fixedPublic {
		t.Fatalf("the key is %s, %s", key.Name(), key.Public())
	}
	signed, err := key.Sign(someCheckpoint())
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(goldenNote, signed.Note); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	read, err := publicKeys(t, fixedPublic).Open([]byte(goldenNote))
	if diff := cmp.Diff(signed, read); diff != "" || err != nil {
		t.Errorf("read again: %v (-signed +read):\n%s", err, diff)
	}
	if _, err := key.Sign(eventstore.Checkpoint{}); err == nil {
		t.Error("an empty book was signed")
	}
}

// TestNotesOfOthers: a note that is not one of an anchor's form, or not of a
// known key, is not taken, whoever signed it.
func TestNotesOfOthers(t *testing.T) {
	signed, err := fixedKey(t).Sign(someCheckpoint())
	if err != nil {
		t.Fatal(err)
	}
	other, _, err := eventstore.OpenSigningKey(t.TempDir(), seeded(1))
	if err != nil {
		t.Fatal(err)
	}
	keys := publicKeys(t, fixedPublic)
	for _, c := range []struct {
		name, say string
		keys      eventstore.PublicKeys
		note      string
	}{
		{"unknown key", "give the --key", publicKeys(t, other.Public()), signed.Note},
		{"empty", "no signed note", keys, ""},
		{"no signature", "no signed note", keys, signed.Note[:strings.Index(signed.Note, "\n\n")+2]},
		{"other size", "was changed", keys, strings.Replace(signed.Note, "18231", "18232", 1)},
		{"size in another spelling", "lines of an anchor", keys, strings.Replace(signed.Note, "18231", "018231", 1)},
		{"a line more", "lines of an anchor", keys, strings.Replace(signed.Note, "sealed", "more\nsealed", 1)},
		{"no events", "which no book has", keys, strings.Replace(signed.Note, "18231", "0", 1)},
		{"too long", "at most 65536 bytes", keys, signed.Note + strings.Repeat("x", 1<<16)},
	} {
		if _, err := c.keys.Open([]byte(c.note)); !errors.Is(err, eventstore.ErrUnproven) || !strings.Contains(err.Error(), c.say) {
			t.Errorf("%s: %v", c.name, err)
		}
	}
	if read, err := publicKeys(t, other.Public()+"\n\n"+fixedPublic+"\n"+fixedPublic+"\n").Open([]byte(signed.Note)); err != nil || read != signed {
		t.Errorf("with the key among others: %v", err)
	}
}

func TestPublicKeysThatAreNone(t *testing.T) {
	for text, say := range map[string]string{
		"":                        "no key",
		"\n \n":                   "no key",
		fixedPrivate:              "private key",
		fixedPublic + "\nx":       `"x" is no public key`,
		fixedPublic[:60]:          "is no public key",
		"x" + fixedPublic:         "is no public key",
		strings.Repeat("x", 5000): "at most 4096",
	} {
		if _, err := eventstore.ParsePublicKeys(text); err == nil || !strings.Contains(err.Error(), say) {
			t.Errorf("%.40q: %v", text, err)
		}
	}
}

// TestSigningKeyOfADirectory: made once, kept, and its public half beside it.
func TestSigningKeyOfADirectory(t *testing.T) {
	dir := t.TempDir()
	if _, err := eventstore.ReadSigningKey(dir); !errors.Is(err, fs.ErrNotExist) {
		t.Fatalf("without a key: %v", err)
	}
	first, made, err := eventstore.OpenSigningKey(dir, seeded(1))
	if err != nil || !made {
		t.Fatalf("made %v, %v", made, err)
	}
	if info, err := os.Stat(eventstore.SigningKeyPath(dir)); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the private key: %v, %v", info.Mode(), err)
	}
	again, made, err := eventstore.OpenSigningKey(dir, bytes.NewReader(nil))
	if err != nil || made || again.Public() != first.Public() {
		t.Errorf("opened again: made %v, %v", made, err)
	}
	wantPublic := func(when string, want ...string) {
		t.Helper()
		data, err := os.ReadFile(eventstore.PublicKeyPath(dir))
		if diff := cmp.Diff(strings.Join(want, "\n")+"\n", string(data)); diff != "" || err != nil {
			t.Errorf("%s: public-key: %v (-want +got):\n%s", when, err, diff)
		}
	}
	wantPublic("at first", first.Public())

	// As after a restore: the private key is gone, the public one is not.
	if err := os.Remove(eventstore.SigningKeyPath(dir)); err != nil {
		t.Fatal(err)
	}
	second, made, err := eventstore.OpenSigningKey(dir, seeded(2))
	if err != nil || !made || second.Name() == first.Name() {
		t.Fatalf("made anew: %v, %v", made, err)
	}
	wantPublic("with a second key", second.Public(), first.Public())

	// The public file is lost, or damaged.
	for _, text := range []string{"", "x\n" + first.Public() + "\ny"} {
		if err := os.WriteFile(eventstore.PublicKeyPath(dir), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		if _, _, err := eventstore.OpenSigningKey(dir, nil); err != nil {
			t.Fatal(err)
		}
	}
	wantPublic("mended", second.Public(), first.Public())

	if _, _, err := eventstore.OpenSigningKey(t.TempDir(), strings.NewReader("short")); err == nil {
		t.Error("a key was made without randomness")
	}
}

// TestDamagedSigningKey: each bit of the file matters, or none of the key changes.
func TestDamagedSigningKey(t *testing.T) {
	dir := t.TempDir()
	good := []byte(fixedPrivate + "\n")
	for i := range good {
		for bit := range 8 {
			bad := bytes.Clone(good)
			bad[i] ^= 1 << bit
			if err := os.WriteFile(eventstore.SigningKeyPath(dir), bad, 0o600); err != nil {
				t.Fatal(err)
			}
			key, made, err := eventstore.OpenSigningKey(dir, seeded(1))
			switch {
			case err == nil && (made || key.Public() != fixedPublic):
				t.Errorf("bit %d of byte %d: the key is %s", bit, i, key.Public())
			case err != nil && (!strings.Contains(err.Error(), "is damaged") || strings.Contains(err.Error(), "\n")):
				t.Errorf("bit %d of byte %d: %v", bit, i, err)
			}
		}
	}
	if err := os.WriteFile(eventstore.SigningKeyPath(dir), make([]byte, 5000), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := eventstore.ReadSigningKey(dir); err == nil || !strings.Contains(err.Error(), "5000 bytes") {
		t.Errorf("a long file: %v", err)
	}
}
