package cloudevents_test

import (
	"strconv"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/nats-io/nats.go"
	"pgregory.net/rapid"

	"tollbook/domain/cloudevents"
)

const voidData = `{"ref":{"source":"switch/mil-1","id":"17"},"reason":"test call"}`

// voidHeaders are the headers of an event in binary mode.
func voidHeaders(change ...string) nats.Header {
	h := nats.Header{}
	set := append([]string{
		"ce-specversion", "1.0", "ce-type", "tollbook.call.voided.v1", "ce-source", "mediation", "ce-id", "v1",
		"ce-time", "2026-10-02T02:00:00+02:00", "ce-tenant", "contoso", "ce-sequence", "007", "content-type", "application/json",
	}, change...)
	for i := 0; i < len(set); i += 2 {
		h.Set(set[i], set[i+1])
	}
	return h
}

// TestBinaryIsStructured: both modes make the same event.
func TestBinaryIsStructured(t *testing.T) {
	want := mustDecode(t, `{"specversion":"1.0","type":"tollbook.call.voided.v1","source":"mediation","id":"v1",
		"time":"2026-10-02T00:00:00Z","tenant":"contoso","sequence":"7","data":`+voidData+`}`)
	for _, tenant := range []string{"", "contoso"} {
		got, err := cloudevents.DecodeBinary(voidHeaders().Get, []byte(voidData), tenant)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, got, sameEvent); diff != "" {
			t.Errorf("tenant %q: %s", tenant, diff)
		}
	}
}

func TestBinaryRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		e := genEvent.Draw(t, "event")
		h := nats.Header{}
		for name, value := range map[string]string{
			"specversion": "1.0", "type": string(e.Data.Type()), "source": e.Source, "id": e.ID, "time": e.Time.String(), "tenant": e.Tenant,
		} {
			h.Set("ce-"+name, percentEncoded(value))
		}
		if e.Sequence.Has {
			h.Set("ce-sequence", strconv.FormatUint(e.Sequence.N, 10))
		}
		got, err := cloudevents.DecodeBinary(h.Get, cloudevents.AppendData(nil, e.Data), "")
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(e, got, sameEvent); diff != "" {
			t.Fatal(diff)
		}
	})
}

func percentEncoded(s string) string {
	var out []byte
	for _, ch := range []byte(s) {
		if ch <= ' ' || ch >= 0x7f || ch == '"' || ch == '%' {
			out = append(out, '%', "0123456789ABCDEF"[ch>>4], "0123456789abcdef"[ch&15])
			continue
		}
		out = append(out, ch)
	}
	return string(out)
}

func TestBinaryRefusals(t *testing.T) {
	for _, c := range []struct {
		change []string
		data   string
		tenant string
		want   string
	}{
		{[]string{"ce-specversion", "0.3"}, voidData, "", `ce-specversion: "0.3": must be "1.0": only CloudEvents 1.0 is taken`},
		{[]string{"ce-specversion", ""}, voidData, "", `ce-specversion: required`},
		{[]string{"ce-type", ""}, voidData, "", `ce-type: required`},
		{[]string{"ce-type", "x"}, voidData, "", `ce-type: "x": unknown type: this version of tollbook does not take it`},
		{[]string{"ce-type", "tollbook.pool.threshold.v1"}, voidData, "", `ce-type: "tollbook.pool.threshold.v1": is published by the engine on NATS only, and never taken in`},
		{[]string{"ce-source", ""}, voidData, "", `ce-source: required`},
		{[]string{"ce-source", "citt%C3%A0"}, voidData, "", `ce-source: "città": must be 1 to 128 bytes of visible ASCII`},
		{[]string{"ce-source", "a%20b"}, voidData, "", `ce-source: "a b": must be 1 to 128 bytes of visible ASCII`},
		{[]string{"ce-id", ""}, voidData, "", `ce-id: required`},
		{[]string{"ce-time", ""}, voidData, "", `ce-time: required`},
		{[]string{"ce-time", "yesterday"}, voidData, "", `ce-time: "yesterday": must be an RFC 3339 time with offset, such as 2026-10-01T08:30:00Z`},
		{[]string{"ce-tenant", ""}, voidData, "", `ce-tenant: required where no subject names it`},
		{[]string{"ce-tenant", "Contoso"}, voidData, "", `ce-tenant: "Contoso": must be 1 to 63 of a-z, 0-9 and -, not beginning with -`},
		{[]string{"ce-tenant", "acme"}, voidData, "contoso", `ce-tenant: "acme": is not the tenant of the subject, contoso`},
		{[]string{"ce-tenant", ""}, voidData, "-", `ce-tenant: "-": must be 1 to 63 of a-z, 0-9 and -, not beginning with -`},
		{[]string{"ce-sequence", "-1"}, voidData, "", `ce-sequence: "-1": must be a counter from 0 to 18446744073709551615, as a string of digits`},
		{[]string{"ce-datacontenttype", "text/plain"}, voidData, "", `ce-datacontenttype: "text/plain": must be application/json: the data of an event is JSON`},
		{nil, ``, "", `data: empty: an event is one JSON object`},
		{nil, `null`, "", `data: null: must be one JSON object`},
		{nil, `{"ref":{"source":"a","id":"1"}`, "", `data: not valid JSON at byte 30: ends in the middle`},
		{nil, `{"ref":{"source":"a","id":"1",}}`, "", `data.ref: not valid JSON at byte 30: invalid character '}' at start of string (expecting '"')`},
		{nil, `{}`, "", `data.ref: required`},
		{nil, `{"ref":{"source":"a"}}`, "", `data.ref.id: required`},
		{nil, `{"ref":{"source":"a","id":"1"},"reason":5}`, "", `data.reason: 5: must be text of at most 1024 bytes without control characters`},
		{[]string{"ce-tenant", ""}, voidData, "acme", ``},
		{[]string{"ce-source", "50%zz%"}, voidData, "", ``},
		{[]string{"ce-sequence", "", "ce-datacontenttype", "application/json"}, voidData, "", ``},
	} {
		got := ""
		if _, err := cloudevents.DecodeBinary(voidHeaders(c.change...).Get, []byte(c.data), c.tenant); err != nil {
			got = err.Error()
		}
		if got != c.want {
			t.Errorf("%q %s for %q:\ngot  %s\nwant %s", c.change, c.data, c.tenant, got, c.want)
		}
	}
}

func TestDecodeDataOfUnknownType(t *testing.T) {
	_, err := cloudevents.DecodeData("tollbook.month.reopened.v1", []byte(`{}`))
	const want = `type: "tollbook.month.reopened.v1": unknown type: this version of tollbook does not take it`
	if err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
}
