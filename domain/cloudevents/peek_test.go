package cloudevents_test

import (
	"bytes"
	"strconv"
	"strings"
	"testing"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	"pgregory.net/rapid"

	"tollbook/domain"
	"tollbook/domain/cloudevents"
)

func TestPeek(t *testing.T) {
	for name, c := range map[string]struct {
		raw, source, id string
		sequence        string // "": none
	}{
		"whole":                      {`{"specversion":"1.0","source":"switch/a","id":"c-1","sequence":"7","data":{}}`, "switch/a", "c-1", "7"},
		"a number":                   {`{"specversion":"1.0","source":"switch/a","id":"c-1","sequence":7e1}`, "switch/a", "c-1", "70"},
		"the largest":                {`{"specversion":"1.0","source":"switch/a","id":"c-1","sequence":18446744073709551615}`, "switch/a", "c-1", "18446744073709551615"},
		"too large":                  {`{"specversion":"1.0","source":"switch/a","id":"c-1","sequence":"18446744073709551616"}`, "switch/a", "c-1", ""},
		"below 0":                    {`{"specversion":"1.0","source":"switch/a","id":"c-1","sequence":-1}`, "switch/a", "c-1", ""},
		"a fraction":                 {`{"specversion":"1.0","source":"switch/a","id":"c-1","sequence":1.5}`, "switch/a", "c-1", ""},
		"null":                       {`{"specversion":"1.0","source":"switch/a","id":"c-1","sequence":null}`, "switch/a", "c-1", ""},
		"escapes":                    {`{"specversion":"1.0","source":"switch\u002fa","id":"c-1","\u0073equence":"7"}`, "switch/a", "c-1", "7"},
		"another version":            {`{"specversion":"2.0","source":"switch/a","id":"c-1","sequence":"7"}`, "switch/a", "c-1", "7"},
		"no CloudEvent":              {`{"source":"switch/a","id":"c-1","sequence":"7"}`, "", "", ""},
		"a source out of its rule":   {`{"specversion":"1.0","source":"switch a","id":"","sequence":"7"}`, "", "", "7"},
		"a source too long":          {`{"specversion":"1.0","source":"` + strings.Repeat("s", 129) + `","id":"c-1","sequence":"7"}`, "", "c-1", "7"},
		"a source of a megabyte":     {`{"specversion":"1.0","source":"` + strings.Repeat("s", 1<<20) + `","id":"c-1","sequence":"7"}`, "", "c-1", "7"},
		"a source that is no string": {`{"specversion":"1.0","source":{"id":"x","sequence":"9"},"id":["c"],"sequence":"7"}`, "", "", "7"},
		"data that break":            {`{"specversion":"1.0","source":"switch/a","id":"c-1","sequence":"7","data":{"user":`, "switch/a", "c-1", "7"},
		"broken before":              {`{"specversion":"1.0","data":{"user":}},"source":"switch/a","id":"c-1","sequence":"7"}`, "", "", ""},
		"not UTF-8":                  {"{\"specversion\":\"1.0\",\"data\":{\"user\":\"\xff\"},\"source\":\"switch/a\",\"id\":\"c-1\",\"sequence\":\"7\"}", "switch/a", "c-1", "7"},
		"names that come twice":      {`{"specversion":"1.0","data":{"a":1,"a":2},"source":"switch/a","id":"c-1","sequence":"7","source":"switch/a","sequence":"8"}`, "", "c-1", ""},
		"an array":                   {`[{"specversion":"1.0","source":"switch/a","id":"c-1","sequence":"7"}]`, "", "", ""},
		"no JSON":                    {"INVITE sip:+390612345678", "", "", ""},
		"nothing":                    {"", "", "", ""},
		"binary mode":                {"NATS/1.0\r\nce-specversion: 1.0\r\nCe-Source: switch/%61\r\nce-id: c-1\r\nce-sequence: 7\r\n\r\n{", "switch/a", "c-1", "7"},
		"binary mode, twice":         {"NATS/1.0\r\nce-specversion: 1.0\r\nce-source: switch/a\r\nce-source: switch/b\r\nce-id: c-1\r\nce-sequence: 7\r\n\r\n{}", "", "c-1", "7"},
		"binary mode, in the data":   {"NATS/1.0\r\nce-specversion: 1.0\r\n\r\nce-source: switch/a\r\nce-sequence: 7", "", "", ""},
		"binary mode, cut":           {"NATS/1.0\r\nce-specversion: 1.0\r\nce-source: switch/a\r\nce-sequence", "switch/a", "", ""},
		"binary mode, a long header": {"NATS/1.0\r\nce-specversion: 1.0\r\nce-source: switch/a\r\nce-id: " + strings.Repeat("x", 1<<20) + "\r\nce-sequence: 7\r\n\r\n", "switch/a", "", "7"},
	} {
		source, id, _, sequence := cloudevents.Peek([]byte(c.raw))
		number := ""
		if sequence.Has {
			number = strconv.FormatUint(sequence.N, 10)
		}
		if source != c.source || id != c.id || number != c.sequence {
			t.Errorf("%s: source %q, id %q, sequence %q; want %q, %q, %q", name, source, id, number, c.source, c.id, c.sequence)
		}
	}
}

// Of what Decode takes, Peek sees the same, and still does when the data breaks off.
func TestPeekAgreesWithDecode(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		e := genEvent.Draw(t, "event")
		canonical := cloudevents.Append(nil, &e)
		checkPeek(t, e, canonical)

		var members map[string]jsontext.Value
		if err := json.Unmarshal(canonical, &members); err != nil {
			t.Fatal(err)
		}
		data := members["data"]
		delete(members, "data")
		envelope, err := json.Marshal(members)
		if err != nil {
			t.Fatal(err)
		}
		raw := append(envelope[:len(envelope)-1], `,"data":`...)
		checkPeek(t, e, append(raw, data[:rapid.IntRange(0, len(data)).Draw(t, "cut")]...))
	})
}

func checkPeek(t interface {
	Helper()
	Fatalf(string, ...any)
}, e domain.Event, raw []byte) {
	t.Helper()
	if source, id, at, sequence := cloudevents.Peek(raw); source != e.Source || id != e.ID || at != e.Time || sequence != e.Sequence {
		t.Fatalf("source %q, id %q, time %v, sequence %v of %s", source, id, at, sequence, raw)
	}
}

// FuzzPeek: whatever comes, what is read keeps the rules of its attribute, and
// agrees with Decode where that reads the record.
func FuzzPeek(f *testing.F) {
	for _, event := range seeds(f) {
		f.Add([]byte(event))
		f.Add([]byte(event[:len(event)*2/3]))
	}
	f.Add([]byte("NATS/1.0\r\nce-specversion: 1.0\r\nce-source: switch/%61\r\nce-id: c-1\r\nce-sequence: 7\r\n\r\n{}"))
	f.Fuzz(func(t *testing.T, raw []byte) {
		before := bytes.Clone(raw)
		source, id, at, sequence := cloudevents.Peek(raw)
		if !bytes.Equal(raw, before) {
			t.Fatal("the input was changed")
		}
		for _, text := range []string{source, id} {
			if len(text) > domain.MaxSourceBytes || strings.ContainsFunc(text, func(r rune) bool { return r <= ' ' || r >= 0x7f }) {
				t.Fatalf("%q is no source or id", text)
			}
		}
		if at != 0 && (at < domain.MinInstant || at > domain.MaxInstant) {
			t.Fatalf("time %v", at)
		}
		if !sequence.Has && sequence.N != 0 {
			t.Fatalf("no sequence, but %d", sequence.N)
		}
		if e, err := cloudevents.Decode(raw, "contoso"); err == nil {
			checkPeek(t, e, raw)
		}
	})
}
