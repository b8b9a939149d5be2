package block

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"tollbook/domain"
	"tollbook/domain/cloudevents"
	"tollbook/eventstore/merkle"
)

var update = flag.Bool("update", false, "write golden files that are missing; those that exist are never changed")

const goldenDir = "testdata/format1"

// goldenEvents are the events of three blocks with every form of every column.
func goldenEvents() [][]domain.Event {
	const at = domain.Instant(1_793_000_000) * 1_000_000_000
	event := func(tenant, source, id string, t domain.Instant, data domain.Data) domain.Event {
		return domain.Event{Tenant: tenant, Source: source, ID: id, Time: t, Data: data}
	}
	call := func(user, calling, called string) *domain.Call {
		return &domain.Call{User: user, Kind: domain.KindUser, Calling: number(calling), Called: number(called),
			Disposition: domain.NoAnswer}
	}
	answered := call("anna@contoso.example", "+390212345678", "+3906123456")
	answered.Disposition, answered.BillableMS, answered.AnsweredAt = domain.Answered, 61_500, at-61_500*milli
	answered.StartedAt, answered.EndedAt = answered.AnsweredAt-9_250*milli, at+20*milli
	answered.Q850, answered.SIPStatus = 16, 200
	answered.Correlation = "a2b1f6de-7b8e-4f6e-9d55-2f6f0f5b9a01"
	inbound := call("anna@contoso.example", "anonymous", "+390212345678")
	inbound.Direction, inbound.Disposition, inbound.SIPStatus = domain.Inbound, domain.Busy, 486
	inbound.Correlation = answered.Correlation
	unknown := call("", "+4477009001**", "+390212349999")
	unknown.Direction, unknown.Correlation = domain.Inbound, "sip:leg-7"
	emergency := call("marco@contoso.example", "+390212345679", "112")
	emergency.Disposition, emergency.BillableMS, emergency.AnsweredAt = domain.Answered, 7, at+1_000_001
	emergency.Correlation = "41"
	masked := call("marco@contoso.example", "+390212345679", "+39061234****")
	masked.Kind, masked.Disposition, masked.Q850 = domain.KindForward, domain.Failed, 127
	far := call("eve@fabrikam.example", "+12125550100", "+999999999999999")
	far.Disposition, far.BillableMS, far.AnsweredAt = domain.Answered, domain.MaxBillableMS, domain.MinInstant
	far.StartedAt, far.EndedAt, far.SIPStatus = domain.MaxInstant, domain.MinInstant, 699

	uuid := "0f8fad5b-d9cb-469f-a165-70867728950e"
	first := []domain.Event{
		event("contoso", "switch/mil-1", uuid, at, answered),
		event("contoso", "switch/mil-1", "7c9e6679-7425-40de-944b-e07fc1f90ae7", at+5*milli, inbound),
		event("contoso", "admin", "a1", at, &domain.Assignment{User: "anna@contoso.example", Plan: "DOMESTIC", Country: "IT", EffectiveAt: at}),
		event("contoso", "switch/mil-2", "40", at-milli, unknown),
		event("contoso", "switch/mil-2", "41", at+1_000_008, emergency),
		event("catalog", "admin", "deck-1", at, &domain.Deck{Deck: "standard", Version: "2026-10", EffectiveFrom: at, Currency: "EUR", Part: 1, Parts: 1,
			Rows: []domain.Row{{Prefix: "39", Country: "IT", Name: "Italy", RowType: "landline", Price: 16000, Increment: domain.DefaultIncrement}}}),
		event("contoso", "switch/mil-2", "1700000000.17", at+2*milli, masked),
		event("fabrikam", "switch/nyc-1", strings.ToUpper(uuid), domain.MaxInstant, far),
	}
	first[0].Sequence = domain.Sequence{N: 0, Has: true}
	first[1].Sequence = domain.Sequence{N: 1, Has: true}
	first[4].Sequence = domain.Sequence{N: 1<<64 - 1, Has: true}
	again := *masked
	again.Called = number("+12125550199")
	second := []domain.Event{
		event("contoso", "switch/mil-2", "42", at+60_000*milli, &again),
		event("contoso", "admin", "v1", at, &domain.Void{Ref: domain.Ref{Source: "switch/mil-1", ID: uuid}, Reason: "test call"}),
		event(domain.NoTenant, "intake", "s1", at, &domain.Suspended{Reason: "subject", Detail: "no tenant in the subject", Subject: "tollbook", Raw: []byte{0xFF, 0, '{'}}),
	}
	source := newTraffic(20261001, 60)
	return [][]domain.Event{first, second, append(source.calls(200), event("contoso", "admin", "r1", at,
		&domain.Removal{User: "anna@contoso.example", Plan: "DOMESTIC", EffectiveAt: at}))}
}

// headerText is what a block says beside its events, for people and for comparing.
func headerText(b *Block) string {
	var s strings.Builder
	fmt.Fprintf(&s, "number %d\nprev %v\nfirst %d\ncount %d\nsealed_at %v\n", b.Number, b.Prev, b.First, b.Count, b.SealedAt)
	for _, peak := range b.Tree {
		fmt.Fprintf(&s, "peak %v\n", peak)
	}
	for _, d := range b.Duplicates {
		fmt.Fprintf(&s, "duplicates %s %s %d\n", d.Tenant, d.Source, d.N)
	}
	return s.String()
}

func ndjson(b *Block) []byte {
	var text []byte
	for i := range b.Events {
		text = append(cloudevents.Append(text, &b.Events[i]), '\n')
	}
	return text
}

func writeGolden(t *testing.T) {
	w, c := new(Symbols), chain{leaves: true, sealedAt: 1_793_000_060_000_000_000}
	if err := os.MkdirAll(goldenDir, 0o755); err != nil {
		t.Fatal(err)
	}
	for i, events := range goldenEvents() {
		var repeats []Duplicates
		if i == 1 {
			repeats = []Duplicates{{"contoso", "switch/mil-1", 3}, {"fabrikam", "switch/nyc-2", 1<<64 - 1}}
		}
		if i == 2 {
			w.Limits.Symbols = 1
		}
		b := c.seal(events, repeats...)
		data, staged, err := w.Encode(nil, b)
		if err != nil {
			t.Fatal(err)
		}
		staged.Commit()
		c.appended(b, data)
		name := filepath.Join(goldenDir, fmt.Sprintf("%04d", b.Number))
		for suffix, content := range map[string][]byte{".block": data, ".ndjson": ndjson(b), ".header": []byte(headerText(b))} {
			f, err := os.OpenFile(name+suffix, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
			if os.IsExist(err) {
				continue
			}
			if err != nil {
				t.Fatal(err)
			}
			if _, err := f.Write(content); err != nil {
				t.Fatal(err)
			}
			if err := f.Close(); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// TestGolden reads the blocks that were once written as format 1, and proves
// their chain and their tree.
func TestGolden(t *testing.T) {
	if *update {
		writeGolden(t)
	}
	names, err := filepath.Glob(filepath.Join(goldenDir, "*.block"))
	if err != nil {
		t.Fatal(err)
	}
	if len(names) < 3 {
		t.Fatalf("%d golden blocks in %s", len(names), goldenDir)
	}
	var s Symbols
	var tree merkle.Tree
	var prev merkle.Hash
	for _, name := range names {
		data := read(t, name)
		b, err := Decode(data, &s)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		base := strings.TrimSuffix(name, ".block")
		if want := read(t, base+".header"); headerText(b) != string(want) {
			t.Errorf("%s: header\n%s\nwant\n%s", name, headerText(b), want)
		}
		lines := read(t, base+".ndjson")
		if got := ndjson(b); !bytes.Equal(got, lines) {
			t.Errorf("%s: events\n%s\nwant\n%s", name, got, lines)
		}
		for line := range bytes.Lines(lines) {
			tree.Append(merkle.Leaf(bytes.TrimSuffix(line, []byte("\n"))))
		}
		if want := (merkle.Tree{Size: tree.Size, Peaks: b.Tree}); tree.Root() != want.Root() {
			t.Errorf("%s: the events are not those of the tree", name)
		}
		if b.Prev != prev {
			t.Errorf("%s: names %v as the block before, not %v", name, b.Prev, prev)
		}
		prev = Hash(data)
	}
}

func read(t *testing.T, name string) []byte {
	t.Helper()
	data, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return data
}
