package cloudevents_test

import (
	"bytes"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/go-json-experiment/json/jsontext"
	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"tollbook/domain"
	"tollbook/domain/cloudevents"
)

// sameEvent compares events, time zones by name.
var sameEvent = cmp.Comparer(func(a, b *time.Location) bool { return a.String() == b.String() })

// checkCanonical holds the canonical bytes of e against jsontext's, and reads them back.
func checkCanonical(t interface{ Fatalf(string, ...any) }, e domain.Event, canonical []byte) {
	want := jsontext.Value(bytes.Clone(canonical))
	if err := want.Canonicalize(); err != nil {
		t.Fatalf("not JSON: %v\n%s", err, canonical)
	}
	if !bytes.Equal(canonical, want) {
		t.Fatalf("not canonical:\n%s\nwant\n%s", canonical, want)
	}
	for _, tenant := range []string{"", e.Tenant} {
		back, err := cloudevents.Decode(canonical, tenant)
		if err != nil {
			t.Fatalf("does not decode: %v\n%s", err, canonical)
		}
		if diff := cmp.Diff(e, back, sameEvent); diff != "" {
			t.Fatalf("another event came back:\n%s\n%s", diff, canonical)
		}
	}
}

func TestRoundTrip(t *testing.T) {
	seen := map[domain.Type]int{}
	rapid.Check(t, func(t *rapid.T) {
		// Several at once, so that a check of a hundred has every type.
		for _, e := range rapid.SliceOfN(genEvent, 5, 5).Draw(t, "events") {
			seen[e.Data.Type()]++
			canonical := cloudevents.Append(nil, &e)
			checkCanonical(t, e, canonical)

			data, err := cloudevents.DecodeData(e.Data.Type(), cloudevents.AppendData(nil, e.Data))
			if err != nil {
				t.Fatalf("data alone: %v", err)
			}
			if diff := cmp.Diff(e.Data, data, sameEvent); diff != "" {
				t.Fatalf("other data came back:\n%s", diff)
			}
		}
	})
	for _, want := range bookedTypes {
		if seen[want] == 0 {
			t.Errorf("no event of type %s was drawn", want)
		}
	}
}

// TestAppendAppends: what is in dst stays.
func TestAppendAppends(t *testing.T) {
	e := genEvent.Example(1)
	alone := cloudevents.Append(nil, &e)
	if got := cloudevents.Append([]byte("before"), &e); string(got) != "before"+string(alone) {
		t.Errorf("got %s", got)
	}
}

// TestSpellingDoesNotCount: order, white space, escapes and unknown members
// leave the canonical bytes alone.
func TestSpellingDoesNotCount(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		e := genEvent.Draw(t, "event")
		canonical := cloudevents.Append(nil, &e)
		seed := rapid.Uint64().Draw(t, "seed")
		other := respell(rand.New(rand.NewPCG(seed, 0)), canonical)
		back, err := cloudevents.Decode(other, "")
		if err != nil {
			t.Fatalf("%v\n%s", err, other)
		}
		if got := cloudevents.Append(nil, &back); !bytes.Equal(got, canonical) {
			t.Fatalf("%s\ncame back as\n%s\nnot\n%s", other, got, canonical)
		}
	})
}

// respell writes the same JSON otherwise.
func respell(random *rand.Rand, value jsontext.Value) []byte {
	r := respeller{random, jsontext.NewDecoder(bytes.NewReader(value))}
	return r.next(nil)
}

// A respeller reads one value after another. It draws from a seed: a draw of
// rapid's for every character would take seconds.
type respeller struct {
	random *rand.Rand
	d      *jsontext.Decoder
}

func (r *respeller) blank(dst []byte) []byte {
	return append(dst, []string{"", "", " ", "\n", "\t\r\n  "}[r.random.IntN(5)]...)
}

func (r *respeller) next(dst []byte) []byte {
	dst = r.blank(dst)
	switch r.d.PeekKind() {
	case '{':
		r.d.ReadToken()
		var members [][]byte
		for r.d.PeekKind() != '}' {
			member := append(r.next(nil), ':')
			members = append(members, r.next(member))
		}
		r.d.ReadToken()
		if !r.countries() && r.random.IntN(2) == 0 {
			members = append(members, []byte(`"x-\u0041":[{"a":null},[],"]}\"\\",-1.5e3]`))
		}
		r.random.Shuffle(len(members), func(i, j int) { members[i], members[j] = members[j], members[i] })
		dst = append(append(append(dst, '{'), bytes.Join(members, []byte{','})...), '}')
	case '[':
		r.d.ReadToken()
		var elements [][]byte
		for r.d.PeekKind() != ']' {
			elements = append(elements, r.next(nil))
		}
		r.d.ReadToken()
		dst = append(append(append(dst, '['), bytes.Join(elements, []byte{','})...), ']')
	case '"':
		token, _ := r.d.ReadToken()
		dst = append(dst, '"')
		for _, char := range token.String() {
			if char < 0x80 && r.random.IntN(8) == 0 || char == '"' || char == '\\' {
				dst = append(dst, `\u00`...)
				dst = append(dst, "0123456789abcdef"[char>>4], "0123456789ABCDEF"[char&15])
				continue
			}
			dst = append(dst, string(char)...)
		}
		dst = append(dst, '"')
	default:
		value, _ := r.d.ReadValue()
		dst = append(dst, value...)
		if value.Kind() == '0' {
			spellings := []string{"", ".0", "e0", "E+00", ".00e-0", "0e-1", "00.0e-2"}
			if string(value) == "0" {
				spellings = []string{"", ".0", "e0", "E+999999999999999999999", ".00e-7"}
			}
			dst = append(dst, spellings[r.random.IntN(len(spellings))]...)
		}
	}
	return r.blank(dst)
}

// countries reports whether the object just read has countries for names, so
// that a name nobody knows is a fault.
func (r *respeller) countries() bool {
	switch r.d.StackPointer().LastToken() {
	case "minutes", "domestic", "shared_pools", "license_price", "decks", "options":
		return true
	}
	return false
}
