package consumers_test

import (
	"maps"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	"pgregory.net/rapid"

	"tollbook/consumers"
	"tollbook/domain"
	"tollbook/domain/cloudevents"
	"tollbook/eventstore"
)

// kamA describes the switch kam-a of contoso.
func kamA() domain.Event {
	return domain.Event{Tenant: "contoso", Source: "ops", ID: "kam-a", Time: domain.MinInstant, Data: &domain.SwitchConfig{
		Switch: "kam-a", Format: "kamailio", Country: "CH", InternationalPrefixes: []string{"00"}, NationalPrefix: "0", TimeZone: "Europe/Zurich",
		User: "{caller}@{tenant}",
	}}
}

// A number as somebody writes it. Its digits are 6 to 9, so that those of rules,
// limits and positions are not taken for it.
type written struct{ digits, text string }

var writtenNumber = rapid.Custom(func(t *rapid.T) written {
	digits := rapid.StringOfN(rapid.RuneFrom([]rune("6789")), domain.MaskedFrom, 20, -1).Draw(t, "digits")
	text := rapid.SampledFrom([]string{"", "+", "00", "%2B", "*31#", "sip:+", "x", "(0)"}).Draw(t, "prefix")
	gap := rapid.SampledFrom([]string{"", "", " ", ".", "-", "/", ") ", "\u00a0", "%20", "\t"}).Draw(t, "gap")
	every := rapid.IntRange(1, 4).Draw(t, "every")
	for i, digit := range digits {
		if i > 0 && i%every == 0 {
			text += gap
		}
		text += string(digit)
	}
	return written{digits, text + rapid.SampledFrom([]string{"", "", "x", "*", "@host", ";phone-context=x", strings.Repeat("y", 100)}).Draw(t, "suffix")}
})

// oneNumber is a message that has one number, somewhere it may be refused.
func oneNumber(t *rapid.T, n written) consumers.Message {
	record := map[string]any{
		"specversion": "1.0", "id": "x", "source": "switch/mil-1", "type": string(domain.TypeCall), "time": "2026-10-05T09:01:00Z",
		"data": map[string]any{
			"user": "ada@contoso.example", "direction": "outbound", "calling": "+390281234567", "called": "+390612345678",
			"answered_at": "2026-10-05T09:00:00Z", "billable_ms": 60000, "disposition": "answered",
		},
	}
	subject := "tollbook.contoso.call.completed"
	fields := record
	cdr := rapid.Bool().Draw(t, "cdr")
	if cdr {
		subject = "tollbook.contoso.cdr.kamailio.kam-a"
		record = map[string]any{
			"callid": "c", "from_tag": "f", "direction": "outbound", "sip_code": "200", "caller": "1001", "called": "0441516204", "boot": "1", "seq": "1",
			"start_time": "1795383635.709", "answer_time": "1795383635.701959", "end_time": "1795383636.106", "duration": "0.397",
		}
		fields = record
	} else if rapid.Bool().Draw(t, "in data") {
		fields = record["data"].(map[string]any)
	}
	names := slices.Sorted(maps.Keys(fields))
	if !cdr {
		names = slices.DeleteFunc(names, func(name string) bool { return name == "data" })
		names = append(names, "tenant", "sequence", "datacontenttype", "data_base64", "kind", "started_at", "ended_at", "q850", "correlation")
	}
	name := rapid.SampledFrom(names).Draw(t, "field")
	m := consumers.Message{Subject: subject, Header: func(string) string { return "" }}
	how := rapid.SampledFrom([]string{"text", "number", "name", "twice", "array", "object", "cut", "header", "subject"}).Draw(t, "how")
	switch how {
	case "text", "cut", "twice":
		fields[name] = n.text
	case "number":
		if fields[name] = jsontext.Value(n.digits); strings.Contains(n.text, "x") {
			fields[name] = jsontext.Value("-" + n.digits + ".5e1")
		}
	case "name":
		delete(fields, name)
		fields[n.text] = jsontext.Value(`{"x":[1,2}`)
	case "array":
		fields[name] = []any{"a", n.text}
	case "object":
		fields[name] = map[string]any{n.text: 1}
	case "header":
		header := map[string]string{
			"ce-specversion": "1.0", "ce-id": "x", "ce-source": "switch/mil-1", "ce-type": string(domain.TypeCall), "ce-time": "2026-10-05T09:01:00Z",
		}
		header[rapid.SampledFrom([]string{"ce-specversion", "ce-id", "ce-source", "ce-type", "ce-time", "ce-tenant", "ce-sequence", "ce-datacontenttype"}).Draw(t, "header")] = n.text
		m.Header = func(name string) string { return header[name] }
	case "subject":
		m.Subject = "tollbook." + n.text + ".events"
	}
	m.Payload = marshalLoosely(record)
	switch how {
	case "cut":
		m.Payload = m.Payload[:rapid.IntRange(1, len(m.Payload)).Draw(t, "length")]
	case "twice":
		text, again := string(m.Payload), strconv.Quote(n.digits)
		m.Payload = []byte(text[:len(text)-1] + "," + again + ":1," + again + ":2}")
	}
	return m
}

// marshalLoosely writes JSON that may be broken where a jsontext.Value is.
func marshalLoosely(v any) []byte {
	switch v := v.(type) {
	case map[string]any:
		var parts []string
		for _, name := range slices.Sorted(maps.Keys(v)) {
			parts = append(parts, string(marshalLoosely(name))+":"+string(marshalLoosely(v[name])))
		}
		return []byte("{" + strings.Join(parts, ",") + "}")
	case jsontext.Value:
		return v
	}
	text, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return text
}

// TestRefusalsMaskNumbers: wherever in a record a telephone number is, and for
// whatever reason the record is refused, what is said of it shows five digits at
// most, and the record is kept whole.
func TestRefusalsMaskNumbers(t *testing.T) {
	switches := consumers.NewSwitches()
	switches.Follow(eventstore.Update{First: 1, Events: []domain.Event{kamA()}})
	in := consumers.NewIntake(nil, switches, func() domain.Instant { return domain.MinInstant })
	refused := map[string]int{}
	rapid.Check(t, func(t *rapid.T) {
		n := writtenNumber.Draw(t, "number")
		m := oneNumber(t, n)
		for _, r := range in.Records(m) {
			suspended, ok := r.Event.Data.(*domain.Suspended)
			if !ok {
				continue
			}
			refused[suspended.Reason]++
			checkMasked(t, suspended.Detail, n.digits)
			if !strings.Contains(string(suspended.Raw), strings.Trim(string(m.Payload), " \t\r\n")) {
				t.Fatalf("of %q only %q is kept", m.Payload, suspended.Raw)
			}
			if _, err := cloudevents.Decode(m.Payload, "contoso"); err != nil {
				checkMasked(t, err.Error(), n.digits)
			}
		}
	})
	for _, reason := range []string{"syntax", "subject", "field", "number", "time"} {
		if refused[reason] == 0 {
			t.Errorf("nothing was refused for its %s: %v", reason, refused)
		}
	}
}

func checkMasked(t *rapid.T, text, digits string) {
	shown := strings.Map(func(r rune) rune {
		if r >= '0' && r <= '9' || r == '*' || r == ':' { // a colon is before each rule
			return r
		}
		return -1
	}, text)
	for i := range len(digits) - domain.ShownDigits {
		if part := digits[i : i+domain.ShownDigits+1]; strings.Contains(shown, part) {
			t.Fatalf("%s of %s is shown: %s", part, digits, text)
		}
	}
}
