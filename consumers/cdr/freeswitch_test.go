package cdr

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"maps"
	"net/url"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"tollbook/domain"
)

// freeswitchRig is the switch that wrote testdata/freeswitch. All its calls came
// into the context public; a SIP header says their direction.
func freeswitchRig(format string) *domain.SwitchConfig {
	return &domain.SwitchConfig{
		Switch: "fs-a", Format: format, Country: "CH", NationalPrefix: "0",
		InternationalPrefixes: []string{"00", "011"}, InternalDigits: []int{3, 4},
		TimeZone: "Europe/Zurich", User: "{sip_from_user}@{accountcode}|{sip_P-Asserted-Identity}@{accountcode}",
		Options: map[string]string{"direction": "sip_h_X-Rig-Dir"},
	}
}

// TestFreeSWITCHGolden: legs.jsonl and *.cdr.xml are what a FreeSWITCH 1.10.12
// wrote, without what nothing reads; full.json is whole.
func TestFreeSWITCHGolden(t *testing.T) {
	for _, file := range []string{"legs.jsonl", "full.json"} {
		goldenRecords(t, "testdata/freeswitch/"+file, freeswitchRig("freeswitch"))
	}
	for _, file := range []string{"a_leg.cdr.xml", "b_leg.cdr.xml"} {
		goldenRecords(t, "testdata/freeswitch/"+file, freeswitchRig("freeswitch-xml"))
	}
}

// TestFreeSWITCHBilledOnce: a call has a record for each leg, and one of them can cost.
func TestFreeSWITCHBilledOnce(t *testing.T) {
	type sum struct {
		records, repeats   int
		correlated         int   // legs whose call has another leg here
		talkMS, billableMS int64 // of both legs, and of what rule R6 does not class as free
	}
	var got sum
	legs := map[domain.Ref]bool{}
	calls := map[string]int{}
	for _, record := range freeswitchRecords(t) {
		e, err := readAs(t, record, freeswitchRig("freeswitch"))
		if err != nil {
			t.Fatal(err)
		}
		got.records++
		if ref := (domain.Ref{Source: e.Source, ID: e.ID}); legs[ref] {
			got.repeats++
			continue
		} else {
			legs[ref] = true
		}
		c := e.Data.(*domain.Call)
		calls[c.Correlation]++
		got.talkMS += c.BillableMS
		if c.Direction == domain.Outbound && c.Disposition == domain.Answered {
			got.billableMS += c.BillableMS
		}
		if wantLeg := bytes.Contains(record, []byte(`"channel_data":{"state":"CS_REPORTING","direction":"outbound"}`)); wantLeg != (c.Kind == kindLeg) || wantLeg && c.Direction == domain.Outbound {
			t.Errorf("%s is %s %s", e.ID, c.Kind, c.Direction)
		}
	}
	for _, n := range calls {
		if n > 1 {
			got.correlated += n
		}
	}
	const a, anonymous, timeout, umlaut, unencoded = 1119, 522, 3039, 2159, 1120
	const b, repeated = 1139, 839
	want := sum{
		records: 12, repeats: 1, correlated: 2,
		talkMS:     a + anonymous + timeout + umlaut + unencoded + b + repeated,
		billableMS: a + anonymous + timeout + umlaut + unencoded,
	}
	if got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
}

// freeswitchRecords are the legs of legs.jsonl.
func freeswitchRecords(t testing.TB) [][]byte {
	t.Helper()
	return recordsOf(t, "freeswitch", "testdata/freeswitch/legs.jsonl")
}

// TestFreeSWITCHEncodeValues: a record is the same event whether its variables
// are encoded or not, and whichever module wrote it.
func TestFreeSWITCHEncodeValues(t *testing.T) {
	cfg := freeswitchRig("freeswitch")
	cfg.User = "{sip_from_display}|{sip_full_from}|{sip_to_uri}" // texts that are encoded
	asXML := freeswitchRig("freeswitch-xml")
	asXML.User = cfg.User
	for i, record := range freeswitchRecords(t) {
		want, err := readAs(t, record, cfg)
		if err != nil {
			t.Fatal(err)
		}
		plain := parseLeg(t, record)
		for name, value := range plain.Variables {
			plain.Variables[name] = freeswitchDecoded(value)
		}
		encoded := parseLeg(t, record)
		for name, value := range plain.Variables {
			encoded.Variables[name] = switchURLEncode(value, false)
		}
		for name, written := range map[string]struct {
			record []byte
			cfg    *domain.SwitchConfig
		}{
			"encode-values=false": {plain.json(t), cfg},
			"encode-values=true":  {encoded.json(t), cfg},
			"mod_xml_cdr":         {encoded.xml(t), asXML},
		} {
			got, err := readAs(t, written.record, written.cfg)
			if err != nil || !reflect.DeepEqual(got, want) {
				t.Errorf("record %d by %s: %v\n%s", i, name, err, cmp.Diff(want, got))
			}
		}
	}
}

// TestFreeSWITCHDecoding: what FreeSWITCH's encoder leaves alone is decoded alike
// in a text that was never encoded.
func TestFreeSWITCHDecoding(t *testing.T) {
	for text, want := range map[string]string{
		"": "", "3001": "3001", "%": "%", "%2": "%2", "%%41": "%A", "%4%41": "%4A", "a%20b": "a b", "%2b": "%2b", "%2B41": "+41",
		"*31%230443120000": "*31#0443120000", "%252B": "%2B", "M%FCller": "M\uFFFDller", "M\xfcller": "M\xfcller", "%C3%BC": "ü",
	} {
		if got := freeswitchDecoded(text); got != want {
			t.Errorf("%q: got %q, want %q", text, got, want)
		}
	}
	rapid.Check(t, func(t *rapid.T) {
		text := rapid.StringOf(rapid.SampledFrom([]rune("%%%0123456789ABCDEFabcdef+# üx"))).Draw(t, "text")
		if plain, encoded := freeswitchDecoded(text), freeswitchDecoded(switchURLEncode(text, false)); plain != encoded {
			t.Fatalf("%q: %q as it is, %q encoded", text, plain, encoded)
		}
	})
}

// switchURLEncode encodes as FreeSWITCH's switch_url_encode_opt does.
func switchURLEncode(s string, double bool) string {
	const hexadecimal = "0123456789ABCDEF"
	var b strings.Builder
	for i := range len(s) {
		isHex := func(j int) bool { return j < len(s) && strings.IndexByte(hexadecimal, s[j]) >= 0 }
		already := !double && s[i] == '%' && isHex(i+1) && isHex(i+2)
		if !already && (s[i] < ' ' || s[i] > '~' || strings.IndexByte("\r\n #%&+:;<=>?@[\\]^`{|}\"", s[i]) >= 0) {
			fmt.Fprintf(&b, "%%%02X", s[i])
			continue
		}
		b.WriteByte(s[i])
	}
	return b.String()
}

// A legRecord is a record to write with other content.
type legRecord struct {
	CoreUUID    string            `json:"core-uuid,omitempty"`
	ChannelData map[string]string `json:"channel_data,omitempty"`
	Variables   map[string]string `json:"variables"`
	Callflow    []legFlow         `json:"callflow"`
}

type legFlow struct {
	Profile legProfile `json:"caller_profile"`
}

type legProfile struct {
	Caller     string    `json:"caller_id_number"`
	Called     string    `json:"destination_number"`
	UUID       string    `json:"uuid"`
	Context    string    `json:"context,omitempty"`
	Originator *legMaker `json:"originator,omitempty"`
}

type legMaker struct {
	Profiles []legProfile `json:"originator_caller_profiles"`
}

func parseLeg(t testing.TB, record []byte) *legRecord {
	t.Helper()
	var r legRecord
	if err := json.Unmarshal(record, &r); err != nil {
		t.Fatal(err)
	}
	return &r
}

func (r *legRecord) json(t testing.TB) []byte {
	t.Helper()
	record, err := json.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	return record
}

// xml writes the record as mod_xml_cdr does.
func (r *legRecord) xml(t testing.TB) []byte {
	t.Helper()
	var b bytes.Buffer
	b.WriteString(`<?xml version="1.0"?>` + "\n<cdr")
	if r.CoreUUID != "" {
		fmt.Fprintf(&b, " core-uuid=%q", r.CoreUUID)
	}
	b.WriteString(" switchname=\"fs-a\">\n")
	element := func(name, value string) {
		fmt.Fprintf(&b, "<%s>", name)
		if err := xml.EscapeText(&b, []byte(value)); err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(&b, "</%s>\n", name)
	}
	group := func(name string, texts map[string]string) {
		fmt.Fprintf(&b, "<%s>\n", name)
		for _, text := range slices.Sorted(maps.Keys(texts)) {
			element(text, texts[text])
		}
		fmt.Fprintf(&b, "</%s>\n", name)
	}
	group("channel_data", r.ChannelData)
	group("variables", r.Variables)
	var profile func(name string, p *legProfile)
	profile = func(name string, p *legProfile) {
		fmt.Fprintf(&b, "<%s>\n", name)
		element("caller_id_number", p.Caller)
		element("destination_number", p.Called)
		element("uuid", p.UUID)
		element("context", p.Context)
		if p.Originator != nil {
			b.WriteString("<originator>\n")
			for i := range p.Originator.Profiles {
				profile("originator_caller_profile", &p.Originator.Profiles[i])
			}
			b.WriteString("</originator>\n")
		}
		fmt.Fprintf(&b, "</%s>\n", name)
	}
	for i := range r.Callflow {
		b.WriteString("<callflow>\n")
		profile("caller_profile", &r.Callflow[i].Profile)
		b.WriteString("</callflow>\n")
	}
	b.WriteString("</cdr>\n")
	return b.Bytes()
}

// TestFreeSWITCHRules changes one thing in a record, and shows what it becomes.
func TestFreeSWITCHRules(t *testing.T) {
	const aLeg, bLeg, busy = 0, 1, 4
	set := func(name, value string) func(*legRecord, *domain.SwitchConfig) {
		return func(r *legRecord, _ *domain.SwitchConfig) {
			if value == "-" {
				delete(r.Variables, name)
				return
			}
			r.Variables[name] = value
		}
	}
	flow := func(callers ...legProfile) func(*legRecord, *domain.SwitchConfig) {
		return func(r *legRecord, cfg *domain.SwitchConfig) {
			cfg.Options = nil
			r.Callflow = nil
			for _, p := range callers {
				r.Callflow = append(r.Callflow, legFlow{p})
			}
		}
	}
	for _, c := range []struct {
		name   string
		record int
		change func(*legRecord, *domain.SwitchConfig)
		want   string // in the summary
	}{
		{"a user's context is outbound", aLeg, flow(legProfile{Caller: "1001", Called: "117", Context: "default"}), "7 outbound answered 200 3001@initech.example: +12125550100 -> 117"},
		{"the trunk's context is inbound", aLeg, flow(legProfile{Caller: "0443120000", Called: "0445551000", Context: "public"}), "7 inbound answered 200 +41793740681@initech.example: +12125550100 -> +41445551000"},
		{"a transferred call came in where it came in", aLeg, flow(
			legProfile{Caller: "+41443120000", Called: "1001", Context: "default"},
			legProfile{Caller: "+41443120000", Called: "+41445551000", Context: "public"},
		), "inbound answered 200 +41793740681@initech.example: +12125550100 -> +41445551000"},
		{"a user's call goes where the dialplan sent it", aLeg, flow(
			legProfile{Caller: "1001", Called: "0041443120000", Context: "carriers"},
			legProfile{Caller: "1001", Called: "90443120000", Context: "default"},
		), "outbound answered 200 3001@initech.example: +12125550100 -> +41443120000"},
		{"other contexts of trunks", aLeg, func(r *legRecord, cfg *domain.SwitchConfig) {
			cfg.Options = map[string]string{"inbound_contexts": "public, carrier-a"}
			r.Callflow[0].Profile.Context = "carrier-a"
		}, "7 inbound answered"},
		{"public is the users' where the option leaves it out", aLeg, func(_ *legRecord, cfg *domain.SwitchConfig) {
			cfg.Options = map[string]string{"inbound_contexts": "carrier-a"}
		}, "7 outbound answered"},
		{"the variable comes first", aLeg, set("sip_h_X-Rig-Dir", "inbound"), "7 inbound answered"},
		{"the variable is tollbook_direction", aLeg, func(r *legRecord, cfg *domain.SwitchConfig) {
			cfg.Options, r.Variables["tollbook_direction"] = nil, "outbound"
		}, "7 outbound answered"},
		{"a word that is no direction", aLeg, set("sip_h_X-Rig-Dir", "out"), `REFUSED field: sip_h_X-Rig-Dir "out": outbound or inbound`},
		{"no context and no variable", aLeg, flow(legProfile{Called: "117"}), `REFUSED field: callflow.context "": the context`},
		{"no callflow", aLeg, func(r *legRecord, _ *domain.SwitchConfig) { r.Callflow = []legFlow{} }, `REFUSED number: callflow.destination_number "": the record has no callflow`},
		{"an exported variable bills no B leg", bLeg, set("sip_h_X-Rig-Dir", "outbound"), "8 inbound answered 0 +12125550100@initech.example: +12125550100 -> +41793740681, 1139 ms"},
		{"a leg made for nobody", bLeg, func(r *legRecord, cfg *domain.SwitchConfig) {
			cfg.Options = nil
			set("originator", "-")(r, cfg)
			set("originating_leg_uuid", "-")(r, cfg)
			r.Callflow[0].Profile.Originator = nil
		}, "8 inbound answered"},
		{"a leg made for nobody, which the dialplan bills", bLeg, func(r *legRecord, cfg *domain.SwitchConfig) {
			set("originator", "-")(r, cfg)
			set("originating_leg_uuid", "-")(r, cfg)
			r.Callflow[0].Profile.Originator = nil
		}, "8 outbound answered"},
		{"a leg whose profile alone says whose it is", bLeg, func(r *legRecord, cfg *domain.SwitchConfig) {
			set("originator", "-")(r, cfg)
			set("originating_leg_uuid", "-")(r, cfg)
		}, "8 inbound answered"},
		{"a call that was connected to another by hand", aLeg, func(r *legRecord, _ *domain.SwitchConfig) {
			r.Callflow[0].Profile.Originator = &legMaker{[]legProfile{{UUID: "x"}}}
		}, "7 outbound answered"},
		{"half of a loopback", aLeg, set("is_loopback", "1"), "7 inbound answered"},
		{"a B leg to a telephone by its name", bLeg, func(r *legRecord, _ *domain.SwitchConfig) {
			r.Callflow[0].Profile.Called, r.Callflow[0].Profile.Caller = "k3s9x", "alice"
		}, "anonymous -> +41793740681"},
		{"a B leg without a user", bLeg, func(_ *legRecord, cfg *domain.SwitchConfig) { cfg.User = "{user_name}" }, "8 inbound answered 0 : +12125550100"},
		{"an outbound call without a user", aLeg, func(_ *legRecord, cfg *domain.SwitchConfig) { cfg.User = "{user_name}" }, `REFUSED user: user "{user_name}"`},
		{"an inbound call without a user", aLeg, func(r *legRecord, cfg *domain.SwitchConfig) {
			cfg.User, r.Variables["sip_h_X-Rig-Dir"] = "{user_name}", "inbound"
		}, "7 inbound answered 200 : "},
		{"a user's name that is no UTF-8", aLeg, func(r *legRecord, cfg *domain.SwitchConfig) {
			cfg.User, r.Variables["user_name"] = "{user_name}|{accountcode}", "m%FCller"
		}, "answered 200 initech.example:"},
		{"a variable with several values is nobody", aLeg, func(r *legRecord, cfg *domain.SwitchConfig) {
			cfg.User, r.Variables["user_name"] = "{user_name}|{accountcode}", "ARRAY%3A%3Aa%7C%3Ab"
		}, "answered 200 initech.example:"},
		{"the tenant in the template", aLeg, func(_ *legRecord, cfg *domain.SwitchConfig) {
			cfg.User = "{caller_id_number}/{destination_number}@{tenant}"
		}, "+12125550100/+41793740681@contoso:"},
		{"anonymous without P-Asserted-Identity", aLeg, func(r *legRecord, cfg *domain.SwitchConfig) {
			r.Callflow[0].Profile.Caller = "anonymous"
			set("sip_P-Asserted-Identity", "-")(r, cfg)
		}, "3001@initech.example: anonymous -> "},
		{"P-Asserted-Identity as a header", aLeg, set("sip_P-Asserted-Identity", `%22Alice%22%20%3Csip%3A%2B12125550199%40x%3E`), ": +12125550100 -> "},
		{"a caller that is no number", aLeg, func(r *legRecord, cfg *domain.SwitchConfig) {
			r.Callflow[0].Profile.Caller = "alice"
			set("sip_P-Asserted-Identity", "-")(r, cfg)
		}, `REFUSED number: callflow.caller_id_number "alice"`},
		{"a called text", aLeg, func(r *legRecord, _ *domain.SwitchConfig) { r.Callflow[0].Profile.Called = "voicemail" }, `REFUSED number: callflow.destination_number "voicemail"`},
		{"a number that is no UTF-8", aLeg, func(r *legRecord, _ *domain.SwitchConfig) { r.Callflow[0].Profile.Called = "+4179\uFFFD740681" }, "REFUSED number: callflow.destination_number"},
		{"a number encoded with small letters", aLeg, func(r *legRecord, _ *domain.SwitchConfig) { r.Callflow[0].Profile.Called = "%2b41793740681" }, "-> +41793740681"},
		{"no core-uuid", aLeg, func(r *legRecord, _ *domain.SwitchConfig) { r.CoreUUID = "" }, "- outbound answered"},
		{"no session_id", aLeg, set("session_id", "-"), "- outbound answered"},
		{"a session_id that is none", aLeg, set("session_id", "7\uFFFD"), "REFUSED field: session_id"},
		{"no uuid", aLeg, set("uuid", "-"), `REFUSED field: uuid "": the field is missing`},
		{"a uuid that is no UTF-8", aLeg, set("uuid", "7e40%FCb3c1"), "REFUSED field: uuid"},
		{"an originator that is no UTF-8", bLeg, set("originating_leg_uuid", "7e40%FCb3c1"), "REFUSED field: originating_leg_uuid"},
		{"no leg's direction", aLeg, func(r *legRecord, _ *domain.SwitchConfig) { r.ChannelData = nil }, `REFUSED field: channel_data.direction ""`},
		{"no answer_uepoch is not unanswered", busy, set("answer_uepoch", "-"), `REFUSED time: answer_uepoch "": the field is missing`},
		{"no billusec", aLeg, set("billusec", "-"), `REFUSED time: billusec "": the field is missing`},
		{"a negative billusec", aLeg, set("billusec", "-1"), `REFUSED time: billusec "-1": microseconds`},
		{"talk that is not between answer and end", aLeg, set("billusec", "9119955"), "REFUSED time: billusec \"91199**\": differs"},
		{"talk without an answer", busy, set("billusec", "1"), "REFUSED time: billusec \"1\": the leg has talk time"},
		{"a clock of 1970", aLeg, set("start_uepoch", "1048267438"), "REFUSED time: start_uepoch \"10482*****\": not between"},
		{"less than a millisecond", aLeg, func(r *legRecord, cfg *domain.SwitchConfig) {
			set("end_uepoch", "1795384048464413")(r, cfg)
			set("billusec", "999")(r, cfg)
		}, "+41793740681, 0 ms,"},
		{"no end", busy, set("end_uepoch", "0"), `REFUSED time: end_uepoch "0": the time the leg ended is missing`},
		{"no such cause", aLeg, set("hangup_cause_q850", "700"), "REFUSED field: hangup_cause_q850 \"700\": a number from 1 to 127"},
		{"an attempt that failed before the answer", aLeg, func(r *legRecord, cfg *domain.SwitchConfig) {
			set("sip_term_status", "-")(r, cfg)
			set("sip_invite_failure_status", "503")(r, cfg)
		}, "outbound answered 0 "},
	} {
		cfg := freeswitchRig("freeswitch")
		r := parseLeg(t, freeswitchRecords(t)[c.record])
		c.change(r, cfg)
		if err := Check(cfg); err != nil {
			t.Fatal(err)
		}
		e, err := readAs(t, r.json(t), cfg)
		if err == nil {
			mustBeCanonical(t, e)
		}
		got := summary(e, err)
		if !strings.Contains(got, c.want) {
			t.Errorf("%s:\n got %s\nwant %s", c.name, got, c.want)
		}
		asXML := *cfg
		asXML.Format = "freeswitch-xml"
		eXML, err := readAs(t, r.xml(t), &asXML)
		if other := summary(eXML, err); other != got {
			t.Errorf("%s:\nJSON %s\n XML %s", c.name, got, other)
		}
	}
}

func TestFreeSWITCHUnanswered(t *testing.T) {
	for _, c := range []struct {
		cause        string
		q850, status int32
		want         domain.Disposition
	}{
		{"USER_BUSY", 17, 486, domain.Busy},
		{"CALL_REJECTED", 21, 603, domain.Busy},
		{"CALL_REJECTED", 21, 403, domain.Failed},
		{"ORIGINATOR_CANCEL", 16, 487, domain.Cancelled},
		{"LOSE_RACE", 16, 487, domain.Cancelled},
		{"NO_ANSWER", 19, 0, domain.NoAnswer},
		{"NO_USER_RESPONSE", 18, 480, domain.NoAnswer},
		{"RECOVERY_ON_TIMER_EXPIRE", 102, 408, domain.NoAnswer},
		{"NORMAL_CLEARING", 16, 487, domain.Cancelled},
		{"NORMAL_CLEARING", 16, 0, domain.Failed},
		{"UNALLOCATED_NUMBER", 1, 404, domain.Failed},
		{"NORMAL_TEMPORARY_FAILURE", 41, 503, domain.Failed},
		{"", 17, 0, domain.Busy},
		{"", 0, 480, domain.NoAnswer},
		{"", 0, 0, domain.Failed},
	} {
		if got := freeswitchUnanswered(c.cause, c.q850, c.status); got != c.want {
			t.Errorf("%s %d %d: got %s, want %s", c.cause, c.q850, c.status, got, c.want)
		}
	}
}

// TestFreeSWITCHSyntax: what is no record of the module is refused, as is what
// a caller may have written into one.
func TestFreeSWITCHSyntax(t *testing.T) {
	leg := parseLeg(t, freeswitchRecords(t)[0])
	good, goodXML := string(leg.json(t)), string(leg.xml(t))
	for _, c := range []struct{ format, record, want string }{
		{"freeswitch", "", "unexpected EOF"},
		{"freeswitch", "[]", "an object is expected"},
		{"freeswitch", "{}", "channel_data.direction"},
		{"freeswitch", good + "{}", "something follows"},
		{"freeswitch", strings.Replace(good, `"variables":{`, `"variables":{"uuid":"x",`, 1), `"/variables/uuid" comes twice`},
		{"freeswitch", strings.Replace(good, `"variables":{`, `"variables":{},"variables":{`, 1), `"/variables" comes twice`},
		{"freeswitch", strings.Replace(good, `"context":`, `"context":"x","context":`, 1), `"/callflow/0/caller_profile/context" comes twice`},
		{"freeswitch", strings.Replace(good, `"variables":{`, `"variables":{"x":{},`, 1), "a text is expected"},
		{"freeswitch", strings.Replace(good, `"callflow":[`, `"callflow":[0,`, 1), "an object is expected"},
		{"freeswitch", "cdr=" + url.QueryEscape(good), "set encode to false"},
		{"freeswitch-xml", "", "empty"},
		{"freeswitch-xml", "<x></x>", "<cdr> is expected"},
		{"freeswitch-xml", goodXML + "<cdr/>", "something follows"},
		{"freeswitch-xml", strings.Replace(goodXML, "<variables>", "<variables></variables><variables>", 1), "two <variables>"},
		{"freeswitch-xml", strings.Replace(goodXML, "<variables>", "<variables><x><y/></x>", 1), "where a text is expected"},
		{"freeswitch-xml", strings.Replace(goodXML, "<uuid>", "<uuid><!---->", 1), "a caller may have written"},
		{"freeswitch-xml", `<!DOCTYPE cdr [<!ENTITY a "b">]>` + goodXML, "a caller may have written"},
		{"freeswitch-xml", strings.Replace(goodXML, "<uuid>", "<uuid>x</uuid><uuid>", 1), `uuid "ARRAY::x"`},
	} {
		_, err := readAs(t, []byte(c.record), freeswitchRig(c.format))
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%.60s: got %v, want %s", c.record, err, c.want)
		}
	}
}

// TestFormRecord: the forms in which FreeSWITCH's modules post, by their setting encode.
func TestFormRecord(t *testing.T) {
	leg := parseLeg(t, freeswitchRecords(t)[0])
	asJSON, asXML := string(leg.json(t)), strings.TrimSpace(string(leg.xml(t)))
	for _, c := range []struct{ name, body, want, wrong string }{
		{name: "no form", body: asJSON, want: asJSON},
		{name: "nothing", body: "", want: ""},
		{name: "mod_xml_cdr, false", body: "cdr=" + asXML, want: asXML},
		{name: "mod_xml_cdr, true", body: "cdr=" + switchURLEncode(asXML, true), want: asXML},
		{name: "mod_xml_cdr, base64", body: "cdr=" + base64.StdEncoding.EncodeToString([]byte(asXML)), want: asXML},
		{name: "mod_json_cdr, base64", body: "cdr=" + base64.StdEncoding.EncodeToString([]byte(asJSON)) + "\r\n", want: asJSON},
		{name: "base64 that was encoded", body: "cdr=" + url.QueryEscape(base64.StdEncoding.EncodeToString([]byte(asJSON))) + "&uuid=a_1", want: asJSON},
		{name: "base64 without padding", body: "cdr=" + base64.RawStdEncoding.EncodeToString([]byte(asJSON)), want: asJSON},
		{name: "a form of another encoder", body: "cdr=" + url.QueryEscape(asXML) + "&uuid=a_1", want: asXML},
		{name: "mod_json_cdr, true", body: "cdr=" + switchURLEncode(asJSON, false), wrong: "set encode to false in json_cdr.conf.xml"},
		{name: "an empty field", body: "cdr=", wrong: "no record"},
		{name: "a field that is none", body: "cdr=%zz", wrong: "no record"},
		{name: "base64 of something else", body: "cdr=aGVsbG8=", wrong: "no record"},
	} {
		got, err := FormRecord([]byte(c.body))
		if c.wrong != "" {
			if err == nil || !strings.Contains(err.Error(), c.wrong) {
				t.Errorf("%s: got %v, want %s", c.name, err, c.wrong)
			}
			continue
		}
		if err != nil || string(got) != c.want {
			t.Errorf("%s: %v\n%s", c.name, err, cmp.Diff(c.want, string(got)))
		}
	}
	for format, body := range map[string]string{"freeswitch": base64.StdEncoding.EncodeToString([]byte(asJSON)), "freeswitch-xml": asXML} {
		if _, err := readAs(t, []byte("cdr="+body), freeswitchRig(format)); err != nil {
			t.Errorf("%s: %v", format, err)
		}
	}
}

// TestFormRecordForged shows why percent-encoded JSON is refused: a caller's name
// with a quote in SIP's own encoding becomes a field of the record.
func TestFormRecordForged(t *testing.T) {
	leg := parseLeg(t, freeswitchRecords(t)[0])
	leg.Variables["sip_from_display"] = switchURLEncode(`x","is_loopback":"1`, false)
	body := "cdr=" + switchURLEncode(string(leg.json(t)), false)
	decoded, err := url.QueryUnescape(strings.TrimPrefix(body, "cdr="))
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(decoded, `"sip_from_display":"x","is_loopback":"1"`) {
		t.Errorf("the form is as safe as JSON: %s", decoded)
	}
	if record, err := FormRecord([]byte(body)); err == nil {
		t.Errorf("taken as %s", record)
	}
}

func TestFreeSWITCHOptions(t *testing.T) {
	for _, c := range []struct {
		name, value string
		ok          bool
	}{
		{"direction", "sip_h_X-Dir", true}, {"direction", "", false}, {"direction", "a b", false},
		{"inbound_contexts", "public", true}, {"inbound_contexts", "public, carrier-a", true}, {"inbound_contexts", "public,", false}, {"inbound_contexts", "", false},
		{"context", "public", false},
	} {
		for _, format := range []string{"freeswitch", "freeswitch-xml"} {
			cfg := freeswitchRig(format)
			cfg.Options = map[string]string{c.name: c.value}
			if err := Check(cfg); (err == nil) != c.ok {
				t.Errorf("%s %s=%q: %v", format, c.name, c.value, err)
			}
		}
	}
}

// freeswitchFiles are all records of testdata/freeswitch by format.
func freeswitchFiles(t testing.TB) map[string][][]byte {
	t.Helper()
	records := map[string][][]byte{}
	for format, pattern := range map[string]string{"freeswitch": "testdata/freeswitch/*.jsonl", "freeswitch-xml": "testdata/freeswitch/*.xml"} {
		files, err := filepath.Glob(pattern)
		if err != nil || len(files) == 0 {
			t.Fatalf("found %v, %v", files, err)
		}
		for _, file := range files {
			records[format] = append(records[format], recordsOf(t, format, file)...)
		}
	}
	return records
}

// TestFreeSWITCHChanged: a record that was cut is refused, and one that was
// changed is refused or an event like any other.
func TestFreeSWITCHChanged(t *testing.T) {
	for format, records := range freeswitchFiles(t) {
		cfg := freeswitchRig(format)
		for _, record := range records {
			record = bytes.TrimSpace(record)
			for i := range record {
				if _, err := readAs(t, record[:i], cfg); err == nil {
					t.Fatalf("%s: the first %d bytes of %d were taken", format, i, len(record))
				}
				changed := bytes.Clone(record)
				changed[i] ^= 1
				mustBeSound(t, changed, cfg)
			}
		}
	}
}

// TestFreeSWITCHRepaired: whatever byte is no UTF-8, what becomes of the record is
// an event of the same leg, number and length, or a refusal.
func TestFreeSWITCHRepaired(t *testing.T) {
	for format, records := range freeswitchFiles(t) {
		cfg := freeswitchRig(format)
		for _, record := range records {
			want, err := readAs(t, record, cfg)
			if err != nil {
				t.Fatal(err)
			}
			repaired := 0
			for i := range record {
				changed := bytes.Clone(record)
				changed[i] = 0xfc
				mustBeSound(t, changed, cfg)
				got, err := readAs(t, changed, cfg)
				if err != nil {
					continue
				}
				repaired++
				w, g := want.Data.(*domain.Call), got.Data.(*domain.Call)
				if got.ID != want.ID || got.Source != want.Source && got.Sequence.Has || g.Called != w.Called || g.BillableMS != w.BillableMS {
					t.Fatalf("%s, byte %d:\n%s", format, i, cmp.Diff(summary(want, nil), summary(got, nil)))
				}
			}
			if repaired == 0 {
				t.Errorf("%s: no byte of %d may be Latin-1", format, len(record))
			}
		}
	}
}

// FuzzFreeSWITCH: no record and no configuration makes the reader panic.
func FuzzFreeSWITCH(f *testing.F) { fuzzFreeSWITCH(f, "freeswitch") }

// FuzzFreeSWITCHXML: the same of mod_xml_cdr.
func FuzzFreeSWITCHXML(f *testing.F) { fuzzFreeSWITCH(f, "freeswitch-xml") }

func fuzzFreeSWITCH(f *testing.F, format string) {
	for _, record := range freeswitchFiles(f)[format] {
		f.Add(record, "{sip_from_user}@{tenant}|{accountcode}", "", "public")
		f.Add(append([]byte("cdr="), record...), "{destination_number}", "tollbook_direction", "default")
	}
	f.Fuzz(func(t *testing.T, record []byte, template, variable, inbound string) {
		cfg := freeswitchRig(format)
		cfg.User, cfg.Options = template, map[string]string{"direction": variable, "inbound_contexts": inbound}
		mustBeSound(t, record, cfg)
	})
}

func BenchmarkFreeSWITCH(b *testing.B) {
	benchmarkRecords(b, "testdata/freeswitch/full.json", freeswitchRig("freeswitch"))
}

func BenchmarkFreeSWITCHXML(b *testing.B) {
	benchmarkRecords(b, "testdata/freeswitch/a_leg.cdr.xml", freeswitchRig("freeswitch-xml"))
}

// TestFreeSWITCHAllowsUnknownShape: what newer versions add beside what is read is passed over.
func TestFreeSWITCHAllowsUnknownShape(t *testing.T) {
	text, err := os.ReadFile("testdata/freeswitch/full.json")
	if err != nil {
		t.Fatal(err)
	}
	cfg := freeswitchRig("freeswitch")
	want, err := readAs(t, text, cfg)
	if err != nil {
		t.Fatal(err)
	}
	for _, place := range []string{`{"core-uuid"`, `"channel_data":{`, `"caller_profile":{`, `"callflow":[{`} {
		added := strings.Replace(string(text), place, place[:strings.LastIndex(place, "{")+1]+`"new":{"a":[{}]},`+place[strings.LastIndex(place, "{")+1:], 1)
		got, err := readAs(t, []byte(added), cfg)
		var refusal *Refusal
		if errors.As(err, &refusal) || !reflect.DeepEqual(got, want) {
			t.Errorf("%s: %v", place, err)
		}
	}
}
