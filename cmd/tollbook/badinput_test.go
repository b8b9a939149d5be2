package main

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"github.com/nats-io/nats.go"

	"tollbook/api"
	"tollbook/consumers"
	"tollbook/domain"
	"tollbook/domain/cloudevents"
)

// A badMessage is one that cannot be booked, or not all of it.
type badMessage struct {
	name    string
	subject string // default: tollbook.contoso.call.completed
	header  nats.Header
	payload []byte
	records []string // what of it is suspended; default: the payload, whole
	booked  int      // records beside it that are good
}

// goodCall is a call in the words a sender would use, with some of it replaced.
func goodCall(id string, replace ...string) string {
	e := someCall("contoso", id, "user000@contoso.example", 60)
	text := string(cloudevents.Append(nil, &e))
	for i := 0; i < len(replace); i += 2 {
		if !strings.Contains(text, replace[i]) {
			panic(replace[i] + " is not in " + text)
		}
		text = strings.Replace(text, replace[i], replace[i+1], 1)
	}
	return text
}

// of is an event of any type with the data given.
func of(id, eventType, data string) string {
	return fmt.Sprintf(`{"specversion":"1.0","id":%q,"source":"admin","type":%q,"time":"2026-10-01T00:00:00Z","data":%s}`, id, eventType, data)
}

func badMessages(t *testing.T) []badMessage {
	one := func(name, payload string) badMessage { return badMessage{name: name, payload: []byte(payload)} }
	on := func(subject string, b badMessage) badMessage { b.subject = subject; return b }
	deck := func(row string) string {
		return of("deck-2", "tollbook.deck.published.v1", `{"deck":"standard","version":"2","effective_from":"2026-10-01T00:00:00Z","currency":"EUR","rows":[`+row+`]}`)
	}
	cdr := `{"callid":"c1"}`
	binary := func(name string, change func(nats.Header)) badMessage {
		e := someCall("contoso", "x", "user000@contoso.example", 60)
		m := binaryMode(t, &e)
		change(m.Header)
		raw := "NATS/1.0\r\n"
		for _, attribute := range []string{"ce-specversion", "ce-id", "ce-source", "ce-type", "ce-time", "ce-tenant", "ce-sequence", "ce-datacontenttype"} {
			for _, value := range m.Header.Values(attribute) {
				raw += attribute + ": " + value + "\r\n"
			}
		}
		return badMessage{name: name, header: m.Header, payload: m.Data, records: []string{raw + "\r\n" + string(m.Data)}}
	}
	bad, alsoBad := goodCall("bad", `"user":"user000@contoso.example"`, `"user":""`), goodCall("bad", `"60000"`[1:6], `-1`)
	return []badMessage{
		one("nothing", ""),
		one("white space", " \r\n\t\n"),
		one("not JSON", "hello"),
		one("an object that ends in the middle", `{"specversion":"1.0","id":"x`),
		one("an object over several lines that ends in the middle", "{\n \"specversion\": \"1.0\",\n \"id\": \"x\""),
		one("two objects on one line", `{} {}`),
		one("a name twice", goodCall("x", `"id":"x"`, `"id":"x","id":"x"`)),
		one("null", "null"),
		one("a number", "12"),
		one("a string", `"tollbook"`),
		one("an empty object", "{}"),
		one("an empty array", "[]"),
		one("an array that ends in the middle", "["+goodCall("x")+","+goodCall("y")[:40]),
		{name: "an array in an array", payload: []byte("[[" + goodCall("x") + "]]"), records: []string{"[" + goodCall("x") + "]"}},
		{name: "a bad line between good ones", payload: []byte(goodCall("good-1") + "\n" + bad + "\n\n" + goodCall("good-2") + "\n"), records: []string{bad}, booked: 2},
		{name: "a bad element between good ones", payload: []byte("[" + goodCall("good-3") + ", " + alsoBad + " ," + goodCall("good-4") + "]"), records: []string{alsoBad}, booked: 2},
		one("100,001 events", strings.Repeat("{}\n", 100_001)),
		one("100,001 events in an array", "["+strings.Repeat("{},", 100_000)+"{}]"),
		one("100,000 times [", strings.Repeat("[", 100_000)),
		one("100,000 times { in an event", `{"specversion":"1.0","data":`+strings.Repeat(`{"a":`, 100_000)),
		one("the longest message", `{"specversion":"1.0","id":"`+strings.Repeat("x", consumers.MaxPayload-29)+`"}`),
		one("bytes that are not UTF-8", goodCall("x", `user000@contoso`, "J\xf6rg@contoso")),
		one("UTF-16", "\xff\xfe{\x00}\x00"),
		one("zero bytes", strings.Repeat("\x00", 100)),

		one("another CloudEvents", goodCall("x", `"1.0"`, `"0.3"`)),
		one("no CloudEvents", `{"user":"user000@contoso.example"}`),
		one("no id", goodCall("x", `"id":"x",`, ``)),
		one("an id with a space", goodCall("x", `"id":"x"`, `"id":"x y"`)),
		one("an id too long", goodCall("x", `"id":"x"`, `"id":"`+strings.Repeat("x", 129)+`"`)),
		one("a source too long", goodCall("x", `switch/mil-1`, strings.Repeat("s", 129))),
		one("unknown type", goodCall("x", `call.completed.v1`, `call.exploded.v1`)),
		one("a later version of a type", goodCall("x", `call.completed.v1`, `call.completed.v2`)),
		one("time without offset", goodCall("x", `09:01:00Z`, `09:01:00`)),
		one("a day that does not exist", goodCall("x", `2026-10-05T09:01:00Z`, `2026-02-30T09:01:00Z`)),
		one("the attribute names another tenant", goodCall("x", `"tenant":"contoso"`, `"tenant":"acme"`)),
		one("a negative sequence", goodCall("x", `"id":"x"`, `"id":"x","sequence":"-1"`)),
		one("data in base64", goodCall("x", `"data":`, `"data_base64":"e30=","data2":`)),

		one("a call of ten years", goodCall("x", `60000`, `315360000000`)),
		one("a call of less than nothing", goodCall("x", `60000`, `-1`)),
		one("half a millisecond", goodCall("x", `60000`, `0.5`)),
		one("a length as text", goodCall("x", `60000`, `"60000"`)),
		one("a user too long", goodCall("x", `user000@contoso.example`, strings.Repeat("u", 129))),
		one("a user over two lines", goodCall("x", `user000`, `user\n000`)),
		one("no user", goodCall("x", `,"user":"user000@contoso.example"`, ``)),
		one("a number of 16 digits", goodCall("x", `+390612345678`, `+3906123456789012`)),
		one("a number that is none", goodCall("x", `+390612345678`, `ROME`)),
		one("unknown disposition", goodCall("x", `"answered"`, `"perhaps"`)),
		one("answered at no time", goodCall("x", `"answered_at":"2026-10-05T09:00:00Z",`, ``)),
		one("ended long after the talk", goodCall("x", `"billable_ms"`, `"ended_at":"2026-10-05T09:05:00Z","billable_ms"`)),
		one("a correction of nothing", of("x", "tollbook.call.corrected.v1", `{"reason":"wrong trunk"}`)),
		one("a licence in no country", of("x", "tollbook.license.assigned.v1", `{"user":"u","plan":"p","country":"Italy","effective_at":"2026-10-01T00:00:00Z"}`)),
		one("a price as a float", deck(`{"prefix":"39","country":"IT","name":"Italy","type":"landline","price":0.016}`)),
		one("a price with seven decimals", deck(`{"prefix":"39","country":"IT","name":"Italy","type":"landline","price":"0.0160001"}`)),
		one("a negative price", deck(`{"prefix":"39","country":"IT","name":"Italy","type":"landline","price":"-0.016"}`)),
		one("minutes without end", of("x", "tollbook.plan.published.v1", `{"plan":"P","name":"P","effective_from":"2026-10-01","buckets":[{"name":"b","zone":"all","minutes":{"*":1e30}}]}`)),
		one("an unknown time zone", of("x", "tollbook.tenant.configured.v1", `{"time_zone":"Europe/Atlantis","currency":"EUR","effective_from":"2026-10-01"}`)),

		binary("binary mode without an id", func(h nats.Header) { h.Del("ce-id") }),
		binary("binary mode with two ids", func(h nats.Header) { h.Add("ce-id", "y") }),
		binary("binary mode of another tenant", func(h nats.Header) { h.Set("ce-tenant", "acme") }),
		binary("binary mode of an unknown type", func(h nats.Header) { h.Set("ce-type", "tollbook.call.exploded.v1") }),
		binary("binary mode with an encoded space", func(h nats.Header) { h.Set("ce-source", "switch%20mil-1") }),
		binary("binary mode with XML", func(h nats.Header) { h.Set("ce-datacontenttype", "application/xml") }),

		one("what the engine writes: suspended", of("x", "tollbook.record.suspended.v1", `{"reason":"syntax","detail":"d","subject":"s","raw":"e30="}`)),
		one("what the engine writes: recycled", of("x", "tollbook.record.recycled.v1", `{"ref":{"source":"tollbook/suspense","id":"a"},"booked":{"source":"s","id":"b"},"by":"me"}`)),
		one("what the engine announces", of("x", "tollbook.pool.threshold.v1", `{}`)),
		one("the engine's own source", goodCall("x", `switch/mil-1`, `tollbook/suspense`)),
		one("other content under an id that is booked", goodCall("first", `60000`, `61000`)),
		one("the same once more, differently", goodCall("first", `60000`, `62000`)),

		on("tollbook.contoso.pool.threshold", one("no announcement", "hello")),
		on("tollbook.Contoso.call.completed", one("a tenant with a capital", goodCall("x"))),
		on("tollbook.-contoso.events", one("a tenant that begins with a hyphen", goodCall("x"))),
		on("tollbook."+strings.Repeat("t", 64)+".events", one("a tenant too long", goodCall("x"))),
		on("tollbook.t\xffo.events", one("a tenant that is not UTF-8", goodCall("x"))),
		on("tollbook.contoso", one("a subject without a kind", goodCall("x"))),
		on("tollbook.Contoso."+strings.Repeat("x", 2000), one("a subject of 2,000 bytes", goodCall("x"))),

		on("tollbook.contoso.cdr.kamailio.kam-b", one("a CDR of an unknown switch", cdr)),
		on("tollbook.contoso.cdr.kamailio.k\xff", one("a CDR of a switch that is not UTF-8", cdr)),
		on("tollbook.contoso.cdr.asterisk.kam-a", one("a CDR of an unknown format", cdr)),
		on("tollbook.contoso.cdr.kamailio", one("a CDR of no switch", cdr)),
		on("tollbook.contoso.cdr.kamailio.kam-a.1", one("a CDR with too much of a subject", cdr)),
		on("tollbook.contoso.cdr.kamailio.kam-a", one("a CDR without its fields", cdr)),
		on("tollbook.contoso.cdr.kamailio.kam-a", one("a CDR that is not JSON", "callid=c1")),
		on("tollbook.contoso.cdr.kamailio.kam-a", one("a CDR too long", `{"callid":"`+strings.Repeat("c", 300_000)+`"}`)),
	}
}

// TestBadInput: whatever comes, however it comes, is kept with its bytes and the
// reason, and what comes after it is booked.
func TestBadInput(t *testing.T) {
	ways := map[string]func(r *rig, b *badMessage){
		"stream":  func(r *rig, b *badMessage) { r.stream(b.message()); r.drained() },
		"request": (*rig).requestBad,
	}
	var text string
	for way, send := range ways {
		t.Run(way, func(t *testing.T) {
			got := badInput(t, send)
			if text != "" && got != text {
				t.Errorf("differs from the other way:\n%s", got)
			}
			text = got
		})
	}
	golden(t, "badinput.txt", text)
}

func (b *badMessage) message() *nats.Msg {
	subject := b.subject
	if subject == "" {
		subject = "tollbook.contoso.call.completed"
	}
	return &nats.Msg{Subject: subject, Header: b.header, Data: b.payload}
}

func (b *badMessage) suspended() []string {
	if b.records == nil {
		return []string{string(b.payload)}
	}
	return b.records
}

// requestBad sends through the service, which says what becomes of each record.
func (r *rig) requestBad(b *badMessage) {
	r.t.Helper()
	m := b.message()
	m.Subject = api.Prefix + "publish." + strings.TrimPrefix(m.Subject, consumers.SubjectPrefix)
	answer, err := r.nc.RequestMsg(m, patience)
	if err != nil {
		r.t.Fatalf("%s: %v", b.name, err)
	}
	receipt := decoded[api.Receipt](r.t, string(answer.Data))
	if want := len(b.suspended()); receipt.Suspended != want || receipt.Booked != b.booked || receipt.Received != want+b.booked || len(receipt.Records) != want {
		r.t.Errorf("%s: %+v", b.name, receipt)
		return
	}
	last := receipt.Records[len(receipt.Records)-1]
	if last.Status != "suspended" || last.Reason == "" || last.Detail == "" {
		r.t.Errorf("%s: %+v", b.name, last)
	}
}

// badInput sends everything bad with good calls between, and describes what the
// book says of it.
func badInput(t *testing.T, send func(r *rig, b *badMessage)) string {
	r := newRig(t)
	r.book(append(licensed("contoso"), someCall("contoso", "first", "user000@contoso.example", 60), domain.Event{
		Tenant: "contoso", Source: "admin", ID: "kam-a", Time: instant("2026-10-01T00:00:00Z"),
		Data: &domain.SwitchConfig{Switch: "kam-a", Format: "kamailio", Country: "CH", TimeZone: "UTC", User: "{caller_pai}"},
	})...)
	const good = 5 // booked so far
	messages := badMessages(t)
	calls, suspended := good, 0
	for i := range messages {
		b := &messages[i]
		send(r, b)
		suspended += len(b.suspended())
		calls += b.booked + 1
		r.book(someCall("contoso", fmt.Sprintf("after-%d", i), "user000@contoso.example", 60))
	}

	r.checkCounts(calls, suspended, 0)
	repeats := 0
	for i := range messages {
		r.stream(messages[i].message())
		repeats += len(messages[i].suspended()) + messages[i].booked
	}
	r.drained()
	r.checkCounts(calls, suspended, repeats)
	r.stop()

	var inBook []domain.Event
	for _, e := range booked(t, r.dir) {
		if _, ok := e.Data.(*domain.Suspended); ok {
			inBook = append(inBook, e)
		}
	}
	if len(inBook) != suspended {
		t.Fatalf("%d records are suspended in the book, want %d", len(inBook), suspended)
	}
	var text strings.Builder
	for i := range messages {
		for _, raw := range messages[i].suspended() {
			e := inBook[0]
			inBook = inBook[1:]
			data := e.Data.(*domain.Suspended)
			if !bytes.Equal(data.Raw, []byte(raw)) {
				t.Errorf("%s: the book has %d bytes %.100q, %d were sent %.100q", messages[i].name, len(data.Raw), data.Raw, len(raw), raw)
			}
			if data.Detail == "" || len(data.Detail) > domain.MaxReasonBytes || !utf8.ValidString(data.Detail) || strings.ContainsFunc(data.Detail, unicode.IsControl) {
				t.Errorf("%s: not a line for people: %q", messages[i].name, data.Detail)
			}
			fmt.Fprintf(&text, "case:   %s\ntenant: %s\nstatus: suspended\nreason: %s\ndetail: %s\n\n", messages[i].name, e.Tenant, data.Reason, data.Detail)
		}
	}
	return text.String()
}

// checkCounts compares what status says with what was sent.
func (r *rig) checkCounts(calls, suspended, repeats int) {
	r.t.Helper()
	var sum api.TenantStatus
	for _, one := range r.status().Tenants {
		sum.Received += one.Received
		sum.Booked += one.Booked
		sum.Duplicate += one.Duplicate
		sum.Suspended += one.Suspended
		if one.Received != one.Booked+one.Duplicate+one.Suspended {
			r.t.Errorf("does not add up: %+v", one)
		}
	}
	if sum.Booked != uint64(calls) || sum.Suspended != uint64(suspended) || sum.Duplicate != uint64(repeats) || sum.Received != uint64(calls+suspended+repeats) {
		r.t.Errorf("%d good records, %d bad ones and %d repeats: %+v", calls, suspended, repeats, sum)
	}
}
