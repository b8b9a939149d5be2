package cloudevents_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"tollbook/domain/cloudevents"
)

func split(t testing.TB, payload string) []string {
	t.Helper()
	var got []string
	if err := cloudevents.Split([]byte(payload), func(raw []byte) error {
		got = append(got, string(raw))
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	return got
}

func TestSplit(t *testing.T) {
	pretty := "{\n  \"id\": \"1\",\n  \"data\": {\n    \"rows\": [\n      {\"prefix\": \"39\"},\n      {\"prefix\": \"44\"}\n    ]\n  }\n}"
	for _, c := range []struct {
		name, payload string
		want          []string
	}{
		{"nothing", "", nil},
		{"empty lines", "\r\n \n\t\n", nil},
		{"a mark alone", "\ufeff", nil},
		{"one event", `{"id":"1"}`, []string{`{"id":"1"}`}},
		{"one event, a line", "{\"id\":\"1\"}\n", []string{`{"id":"1"}`}},
		{"one event after a mark", "\ufeff {\"id\":\"1\"}", []string{`{"id":"1"}`}},
		{"one pretty event", pretty, []string{pretty}},
		{"one pretty event, CRLF", "\ufeff" + strings.ReplaceAll(pretty, "\n", "\r\n") + "\r\n", []string{strings.ReplaceAll(pretty, "\n", "\r\n")}},
		{"one broken pretty event", strings.Replace(pretty, "},", "}", 1), []string{strings.Replace(pretty, "},", "}", 1)}},
		{"half a pretty event", pretty[:60] + "\n", []string{pretty[:60]}},
		{"one broken event", `{"id":`, []string{`{"id":`}},
		{"lines", "{\"a\":1}\n{\"b\":2}\n", []string{`{"a":1}`, `{"b":2}`}},
		{"lines without the last end", "{\"a\":1}\n\n {\"b\":2} \r\n{\"c\":3}", []string{`{"a":1}`, `{"b":2}`, `{"c":3}`}},
		{"lines after a mark", "\ufeff{\"a\":1}\n{\"b\":2}", []string{`{"a":1}`, `{"b":2}`}},
		{"a broken line first", "{\"a\":\n{\"b\":2}\n{\"c\":3}", []string{`{"a":`, `{"b":2}`, `{"c":3}`}},
		{"a broken line between", "{\"a\":1}\n{\"b\n{\"c\":3}", []string{`{"a":1}`, `{"b`, `{"c":3}`}},
		{"a broken line last", "{\"a\":1}\n{\"b", []string{`{"a":1}`, `{"b`}},
		{"lines that are no JSON", "a,b,c\n1,2,3\n", []string{`a,b,c`, `1,2,3`}},
		{"a line that is no JSON first", "# calls\n{\"a\":1}", []string{`# calls`, `{"a":1}`}},
		{"lines with faults of their own", "{\"a\":\"\xff\"}\n{\"a\":1,\"a\":2}", []string{"{\"a\":\"\xff\"}", `{"a":1,"a":2}`}},
		{"an empty array", "[ ]\n", nil},
		{"an array", `[{"a":[1,{"b":"]"}]} , {"c":"\"]"},3,"x",null]`, []string{`{"a":[1,{"b":"]"}]}`, `{"c":"\"]"}`, `3`, `"x"`, `null`}},
		{"an array over lines", "\ufeff[\n{\"a\":1},\n{\n\"b\":2}\n]\n", []string{`{"a":1}`, "{\n\"b\":2}"}},
		{"an array with faults of its elements", "[{\"a\":\"\xff\"},{\"a\":1,\"a\":2},{}]", []string{"{\"a\":\"\xff\"}", `{"a":1,"a":2}`, `{}`}},
		{"a broken array", "[{\"a\":1},\n{\"b\":2},]", []string{"[{\"a\":1},\n{\"b\":2},]"}},
		{"half an array", `[{"a":1},{"b"`, []string{`[{"a":1},{"b"`}},
		{"an array and more", `[{"a":1}] {"b":2}`, []string{`[{"a":1}] {"b":2}`}},
	} {
		if got := split(t, c.payload); !slices.Equal(got, c.want) {
			t.Errorf("%s: got %q, want %q", c.name, got, c.want)
		}
	}
}

// TestSplitForms: events come out as they went in, in every form.
func TestSplitForms(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var want [][]byte
		for range rapid.IntRange(1, 5).Draw(t, "events") {
			e := genEvent.Draw(t, "event")
			want = append(want, cloudevents.Append(nil, &e))
		}
		var pretty bytes.Buffer
		if err := json.Indent(&pretty, want[0], "", "  "); err != nil {
			t.Fatal(err)
		}
		for form, payload := range map[string][]byte{
			"lines":    append(bytes.Join(want, []byte("\n")), '\n'),
			"array":    append(append([]byte{'['}, bytes.Join(want, []byte(",\n"))...), ']'),
			"indented": pretty.Bytes(),
		} {
			var got [][]byte
			if err := cloudevents.Split(payload, func(raw []byte) error {
				got = append(got, raw)
				return nil
			}); err != nil {
				t.Fatal(err)
			}
			wanted := want
			if form == "indented" {
				wanted = [][]byte{pretty.Bytes()}
			}
			if !slices.EqualFunc(got, wanted, bytes.Equal) {
				t.Fatalf("%s: got %q, want %q", form, got, wanted)
			}
		}
	})
}

func TestSplitStops(t *testing.T) {
	stop := errors.New("stop")
	for _, payload := range []string{"{}\n{}\n{}", "[{},{},{}]"} {
		n := 0
		err := cloudevents.Split([]byte(payload), func([]byte) error {
			if n++; n == 2 {
				return stop
			}
			return nil
		})
		if err != stop || n != 2 {
			t.Errorf("%q: %v after %d calls", payload, err, n)
		}
	}
}

// TestSplitLimit: one event too many, and none is handed over.
func TestSplitLimit(t *testing.T) {
	const most = cloudevents.MaxEventsPerMessage
	lines := strings.Repeat("{}\n\n", most)
	array := "[" + strings.Repeat("{},", most-1) + "{}]"
	for _, c := range []struct {
		payload string
		want    int
	}{
		{lines, most}, {lines + "{}", 0},
		{array, most}, {array[:len(array)-1] + ",{}]", 0},
	} {
		n := 0
		err := cloudevents.Split([]byte(c.payload), func([]byte) error { n++; return nil })
		if n != c.want {
			t.Errorf("%d events handed over, want %d", n, c.want)
		}
		const wantErr = "more than 100000 events: send them in several messages"
		if c.want == 0 && (err == nil || err.Error() != wantErr) || c.want > 0 && err != nil {
			t.Errorf("got %v", err)
		}
	}
}
