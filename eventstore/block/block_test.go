package block

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"tollbook/domain"
	"tollbook/domain/cloudevents"
)

// equal compares blocks; rows by their canonical form, which is what is kept.
var equal = cmp.Options{
	cmp.Comparer(func(a, b domain.Event) bool {
		x, ok := a.Data.(*domain.Call)
		y, also := b.Data.(*domain.Call)
		if !ok || !also {
			return ok == also && bytes.Equal(cloudevents.Append(nil, &a), cloudevents.Append(nil, &b))
		}
		a.Data, b.Data = nil, nil
		return a == b && *x == *y
	}),
}

// from picks one of some values, or draws any other.
func from[T any](t *rapid.T, label string, other *rapid.Generator[T], some ...T) T {
	return rapid.OneOf(rapid.SampledFrom(some), other).Draw(t, label)
}

var anyText = rapid.StringN(0, 40, MaxTextBytes)

func anyInstant(t *rapid.T, label string) domain.Instant {
	unit := rapid.SampledFrom([]int64{1, 1e3, 1e6, 1e9}).Draw(t, label+" unit")
	v := rapid.Int64Range(int64(domain.MinInstant), int64(domain.MaxInstant)).Draw(t, label)
	return domain.Instant(v / unit * unit)
}

func perhapsInstant(t *rapid.T, label string) domain.Instant {
	if rapid.Bool().Draw(t, label+" said") {
		return anyInstant(t, label)
	}
	return 0
}

var anyNumber = rapid.Custom(func(t *rapid.T) domain.Number {
	text := rapid.OneOf(
		rapid.StringMatching(`\+[0-9]{2,15}`), rapid.StringMatching(`\+39[0-9]{5}\*{0,8}`),
		rapid.StringMatching(`\+\*{2,15}`), rapid.StringMatching(`[0-9]{2,6}`), rapid.Just("anonymous"),
	).Draw(t, "number")
	return number(text)
})

func anyCall(t *rapid.T) *domain.Call {
	return &domain.Call{
		User:        from(t, "user", anyText, "", "anna@contoso.example", "marco@contoso.example"),
		Direction:   domain.Direction(rapid.IntRange(0, 1).Draw(t, "direction")),
		Kind:        from(t, "kind", anyText, "user", "forward", ""),
		Calling:     from(t, "calling", anyNumber, number("+390212345678"), number("+39061234****")),
		Called:      from(t, "called", anyNumber, number("+390212345678"), number("112")),
		AnsweredAt:  perhapsInstant(t, "answered"),
		BillableMS:  from(t, "billable", rapid.Int64Range(0, domain.MaxBillableMS), 0, 60_000),
		Disposition: domain.Disposition(rapid.IntRange(0, 4).Draw(t, "disposition")),
		StartedAt:   perhapsInstant(t, "started"),
		EndedAt:     perhapsInstant(t, "ended"),
		Q850:        from(t, "q850", rapid.Int32Range(0, 127), 0, 16),
		SIPStatus:   from(t, "sip", rapid.Int32Range(100, 699), 0, 200),
		Correlation: from(t, "correlation", anyText, "", "leg-1", "a2b1f6de-7b8e-4f6e-9d55-2f6f0f5b9a01"),
	}
}

var anyEvent = rapid.Custom(func(t *rapid.T) domain.Event {
	e := domain.Event{
		Tenant: rapid.SampledFrom([]string{"contoso", "fabrikam", "n"}).Draw(t, "tenant"),
		Source: rapid.SampledFrom([]string{"switch/mil-1", "switch/mil-2", "admin"}).Draw(t, "source"),
		ID: rapid.OneOf(rapid.StringMatching(`[!-~]{1,128}`), rapid.StringMatching(`[0-9]{1,22}`),
			rapid.StringMatching(`[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}`),
			rapid.SampledFrom([]string{"A2B1F6DE-7B8E-4F6E-9D55-2F6F0F5B9A01", "007", "0", "leg-1"}),
		).Draw(t, "id"),
		Time: anyInstant(t, "time"),
	}
	if rapid.Bool().Draw(t, "has sequence") {
		e.Sequence = domain.Sequence{N: from(t, "sequence", rapid.Uint64(), 0, 1, 2, 3), Has: true}
	}
	switch rapid.IntRange(0, 7).Draw(t, "what") {
	case 0:
		e.Data = &domain.Assignment{User: "anna@contoso.example", Plan: "DOMESTIC", Country: "IT", EffectiveAt: anyInstant(t, "at")}
	case 1:
		e.Data = &domain.Deck{Deck: "standard", Version: "2026-10", EffectiveFrom: anyInstant(t, "from"), Currency: "EUR",
			Part: 1, Parts: 1, Rows: []domain.Row{{Prefix: "39", Country: "IT", Name: "Italy", RowType: "landline", Price: 16000, Increment: domain.DefaultIncrement}}}
	case 2:
		e.Data = &domain.Void{Ref: domain.Ref{Source: "switch/mil-1", ID: "17"}, Reason: "test call"}
	default:
		e.Data = anyCall(t)
	}
	return e
})

func anyRepeats(t *rapid.T) []Duplicates {
	list := rapid.SliceOfN(rapid.Custom(func(t *rapid.T) Duplicates {
		return Duplicates{
			Tenant: rapid.SampledFrom([]string{"contoso", "z"}).Draw(t, "tenant"),
			Source: from(t, "source", anyText, "switch/mil-1"),
			N:      from(t, "n", rapid.Uint64Min(1), 1, 2),
		}
	}), 0, 3).Draw(t, "duplicates")
	return slices.Clip(append([]Duplicates(nil), list...))
}

// TestAnyEvents is the package's guarantee: whatever a book is made of, each of
// its blocks is read as it was written, by a reader that follows and by one that
// comes back, also when appends fail and generations change.
func TestAnyEvents(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := &Symbols{Limits: Limits{Symbols: rapid.IntRange(0, 40).Draw(t, "limit")}}
		reader := new(Symbols)
		var c chain
		var blocks []*Block
		var encoded [][]byte
		for range rapid.IntRange(1, 6).Draw(t, "blocks") {
			for rapid.IntRange(0, 3).Draw(t, "append fails") == 0 {
				lost := c.seal(rapid.SliceOfN(anyEvent, 1, 4).Draw(t, "lost"))
				if _, _, err := w.Encode(nil, lost); err != nil {
					t.Fatal(err)
				}
			}
			b := c.seal(rapid.SliceOfN(anyEvent, 1, 12).Draw(t, "events"), anyRepeats(t)...)
			before := []byte("before")
			data, staged, err := w.Encode(before, b)
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.HasPrefix(data, before) {
				t.Fatal("Encode did not append")
			}
			data = data[len(before):]
			staged.Commit()
			c.appended(b, data)
			blocks, encoded = append(blocks, b), append(encoded, data)

			got, err := Decode(data, reader)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(b, got, equal); diff != "" {
				t.Fatal(diff)
			}
			if rapid.IntRange(0, 3).Draw(t, "restart") == 0 {
				w = &Symbols{Limits: w.Limits}
				loadGeneration(t, w, encoded, b.Number)
			}
		}
		at := rapid.IntRange(0, len(blocks)-1).Draw(t, "again")
		s := new(Symbols)
		until := rapid.IntRange(at, len(blocks)-1).Draw(t, "loaded")
		loadAll(t, s, encoded, uint64(until+1))
		got, err := Decode(encoded[at], s.Clone())
		switch r, rerr := NewReader(encoded[at]); {
		case rerr != nil:
			t.Fatal(rerr)
		case r.SymbolsFrom() != s.From():
			if !errors.Is(err, ErrSymbols) {
				t.Fatalf("a block of another generation: %v", err)
			}
		case err != nil:
			t.Fatal(err)
		default:
			if diff := cmp.Diff(blocks[at], got, equal); diff != "" {
				t.Fatal(diff)
			}
		}
	})
}

// loadGeneration makes symbols as a restarted writer does: from where the generation of
// the last block starts.
func loadGeneration(t *rapid.T, s *Symbols, encoded [][]byte, last uint64) {
	r, err := NewReader(encoded[last-1])
	if err != nil {
		t.Fatal(err)
	}
	for n := r.SymbolsFrom(); n <= last; n++ {
		if r, err = NewReader(encoded[n-1]); err != nil {
			t.Fatal(err)
		}
		if err := r.Load(s); err != nil {
			t.Fatal(err)
		}
	}
}

// loadAll loads from the first block on, through all generations.
func loadAll(t *rapid.T, s *Symbols, encoded [][]byte, last uint64) {
	for n := uint64(1); n <= last; n++ {
		r, err := NewReader(encoded[n-1])
		if err != nil {
			t.Fatal(err)
		}
		if err := r.Load(s); err != nil {
			t.Fatal(err)
		}
	}
}

// TestSomeFields reads every set of fields and compares those asked for.
func TestSomeFields(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var w, s Symbols
		var c chain
		b := c.seal(rapid.SliceOfN(anyEvent, 1, 12).Draw(t, "events"))
		data, _, err := w.Encode(nil, b)
		if err != nil {
			t.Fatal(err)
		}
		need := Fields(rapid.Uint32Range(0, AllFields).Draw(t, "fields"))
		r, err := NewReader(data)
		if err != nil {
			t.Fatal(err)
		}
		calls := 0
		err = r.Calls(&s, need, func(position uint64, e *domain.Event, call *domain.Call) error {
			want := b.Events[position-b.First]
			wantCall, ok := want.Data.(*domain.Call)
			if !ok {
				return fmt.Errorf("position %d is no call", position)
			}
			calls++
			got, expected := only(need, e, call), only(need, &want, wantCall)
			if got != expected {
				return fmt.Errorf("position %d, fields %b: %s, want %s", position, need, got, expected)
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		err = r.Rows(func(position uint64, e *domain.Event) error {
			calls++
			if !cmp.Equal(*e, b.Events[position-b.First], equal) {
				return fmt.Errorf("row at %d differs", position)
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		if calls != len(b.Events) {
			t.Fatalf("%d events, not %d", calls, len(b.Events))
		}
	})
}

// only is the text of the fields asked for.
func only(need Fields, e *domain.Event, c *domain.Call) string {
	all := []any{e.Tenant, e.Source, e.ID, e.Time, e.Sequence, c.User, c.Kind, c.Calling, c.Called, c.BillableMS,
		c.AnsweredAt, c.StartedAt, c.EndedAt, [2]int32{c.Q850, c.SIPStatus}, c.Correlation}
	text := fmt.Sprint(c.Direction, c.Disposition)
	for i, v := range all {
		if need&(1<<i) != 0 {
			text += fmt.Sprintf(" %v", v)
		}
	}
	return text
}

func TestIntsOfAnySize(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		values := rapid.SliceOf(rapid.OneOf(rapid.Int64(), rapid.Int64Range(-9, 9), rapid.SampledFrom(
			[]int64{1<<63 - 1, -1 << 63, 1 << 62, -1 << 62, 1e9, 3e6, -2e3}))).Draw(t, "values")
		codes, low := appendInts(nil, nil, values, scaleOf(values))
		if len(low) != lowBytes(codes) {
			t.Fatalf("%d low bytes, not %d", len(low), lowBytes(codes))
		}
		got := make([]int64, len(values))
		readInts(got, codes, append(low, make([]byte, lowPadding)...))
		if !slices.Equal(got, values) {
			t.Fatalf("%d, want %d", got, values)
		}
	})
}
