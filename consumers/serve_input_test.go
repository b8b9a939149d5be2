package consumers_test

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/nats-io/nats.go"

	"tollbook/consumers"
	"tollbook/domain"
	"tollbook/domain/cloudevents"
)

// An odd message, or some, and what has to become of each: booked, suspended with
// its bytes, or refused by NATS so that its sender knows.
type odd struct {
	name      string
	messages  []*nats.Msg
	wire      *wireMessage // instead: as bytes
	booked    []string
	suspended []string // their bytes
	duplicate int
	refused   string // part of what the sender is told of all of them
}

// A wireMessage is published as its bytes, as no client library would.
type wireMessage struct{ header, payload string }

func message(header nats.Header, payload string) *nats.Msg {
	return &nats.Msg{Subject: callSubject, Header: header, Data: []byte(payload)}
}

// callInHeaders is a call in binary mode.
func callInHeaders(id string, change func(nats.Header)) *nats.Msg {
	var e struct {
		Data json.RawMessage `json:"data"`
	}
	if err := json.Unmarshal(call(id), &e); err != nil {
		panic(err)
	}
	h := nats.Header{
		"ce-specversion": {"1.0"}, "ce-id": {id}, "ce-source": {callSource}, "ce-type": {string(domain.TypeCall)}, "ce-time": {"2026-10-05T09:01:00Z"},
	}
	if change != nil {
		change(h)
	}
	return message(h, string(e.Data))
}

// binaryKept is how a message in binary mode is kept.
func binaryKept(m *nats.Msg, headers ...string) string {
	return "NATS/1.0\r\n" + strings.Join(headers, "\r\n") + "\r\n\r\n" + string(m.Data)
}

// padded is a call of so many bytes.
func padded(id string, size int) string {
	text := string(call(id))
	return text[:len(text)-1] + strings.Repeat(" ", size-len(text)) + "}"
}

// largestDeck is an event whose JSON is as long as a message may be.
func largestDeck(id string) string {
	deck := &domain.Deck{Deck: "standard", Version: id, EffectiveFrom: domain.MinInstant, Currency: "EUR", Part: 1, Parts: 1}
	e := domain.Event{Tenant: "contoso", Source: callSource, ID: id, Time: domain.MinInstant, Data: deck}
	row := func(i int) domain.Row {
		return domain.Row{Prefix: fmt.Sprint(1_000_000 + i), Country: "IT", Name: strings.Repeat("n", 128), RowType: strings.Repeat("t", 128), Price: 1, Increment: domain.DefaultIncrement}
	}
	deck.Rows = []domain.Row{row(0)}
	one := len(cloudevents.Append(nil, &e))
	deck.Rows = append(deck.Rows, row(1))
	each := len(cloudevents.Append(nil, &e)) - one
	for i := 2; one+each*i <= consumers.MaxPayload; i++ {
		deck.Rows = append(deck.Rows, row(i))
	}
	text := string(cloudevents.Append(nil, &e))
	return text + strings.Repeat(" ", consumers.MaxPayload-len(text))
}

func oddMessages(random *rand.Rand) []odd {
	var manyRecords []string
	for i := range cloudevents.MaxEventsPerMessage {
		manyRecords = append(manyRecords, fmt.Sprintf(`{"id":"%d"}`, i))
	}
	junk := make([]byte, 64<<10)
	for i := range junk {
		if junk[i] = byte(random.Uint32()); junk[i] == '\n' {
			junk[i] = 0 // one record
		}
	}
	headers := func(size int) nats.Header {
		h := nats.Header{}
		for i := 0; size > 0; i++ {
			const line = len("x-00000: \r\n") + 1000
			h.Set(fmt.Sprintf("x-%05d", i), strings.Repeat("h", 1000))
			size -= line
		}
		return h
	}
	many := nats.Header{}
	for i := range 7000 {
		many.Set(fmt.Sprint(i), "")
	}
	twice := callInHeaders("twice", func(h nats.Header) { h.Add("ce-id", "other") })
	cases := callInHeaders("cases", func(h nats.Header) { h["Ce-Id"] = []string{"other"} })
	injected := callInHeaders("injected", func(h nats.Header) { h.Set("ce-id", "x\r\nNats-Rollup: all\r\n\r\nbody") })
	bare := []string{"ce-specversion: 1.0", "ce-source: " + callSource, "ce-type: tollbook.call.completed.v1", "ce-time: 2026-10-05T09:01:00Z"}
	kept := func(ids ...string) []string { return slices.Insert(slices.Clone(bare), 1, ids...) }

	all := []odd{
		{name: "a header that is repeated", messages: []*nats.Msg{twice}, suspended: []string{binaryKept(twice, kept("ce-id: twice", "ce-id: other")...)}},
		{name: "a header in two cases", messages: []*nats.Msg{cases}, suspended: []string{binaryKept(cases, kept("ce-id: cases", "ce-id: other")...)}},
		{name: "a header that is repeated and means nothing", messages: []*nats.Msg{message(nats.Header{"x": {"1", "2", "1"}}, string(call("x-twice")))}, booked: []string{"x-twice"}},
		{name: "headers in odd cases", messages: []*nats.Msg{callInHeaders("odd", func(h nats.Header) {
			for name, values := range h {
				delete(h, name)
				h[strings.ToUpper(name[:4])+name[4:]] = values
			}
		})}, booked: []string{"odd"}},
		{name: "a line break in a header", messages: []*nats.Msg{injected}, suspended: []string{binaryKept(injected, kept("ce-id: x  Nats-Rollup: all    body")...)}},
		{name: "60 KiB of headers", messages: []*nats.Msg{message(headers(60<<10), string(call("60k")))}, booked: []string{"60k"}},
		{name: "70 KiB of headers", messages: []*nats.Msg{message(headers(70<<10), string(call("70k")))}, refused: "header size exceeds"},
		{name: "a megabyte of headers", messages: []*nats.Msg{message(headers(1<<20), string(call("1m")))}, refused: "header size exceeds"},
		{name: "a header that is repeated 12,000 times", messages: []*nats.Msg{message(nats.Header{"x": slices.Repeat([]string{""}, 12_000)}, string(call("many-values")))}, booked: []string{"many-values"}},
		{name: "7,000 headers", messages: []*nats.Msg{message(many, string(call("many-headers")))}, booked: []string{"many-headers"}},

		{name: "headers without a colon", wire: &wireMessage{"NATS/1.0\r\nce-id\r\n\r\n", string(call("no-colon"))}, booked: []string{"no-colon"}},
		{name: "headers of another protocol", wire: &wireMessage{"HTTP/1.1 200 OK\r\n\r\n", string(call("http"))}, booked: []string{"http"}},
		{name: "headers that do not end", wire: &wireMessage{"NATS/1.0\r\nce-id: x", string(call("no-end"))}, booked: []string{"no-end"}},
		{name: "headers with line feeds only", wire: &wireMessage{"NATS/1.0\nx: 1\n\n", string(call("line-feed"))}, booked: []string{"line-feed"}},
		{name: "headers with zero bytes", wire: &wireMessage{"NATS/1.0\r\n\x00\x00: \x00\r\n\r\n", string(call("zero"))}, booked: []string{"zero"}},
		{name: "a status and a payload", wire: &wireMessage{"NATS/1.0 503 No Responders\r\n\r\n", string(call("status"))}, booked: []string{"status"}},
		{name: "a status and nothing else", wire: &wireMessage{"NATS/1.0 408 Request Timeout\r\n\r\n", ""}, suspended: []string{""}},

		{name: "other statuses", messages: []*nats.Msg{
			message(nats.Header{"Status": {"100"}}, ""), message(nats.Header{"Status": {"409"}, "Description": {"Consumer Deleted"}}, ""),
			message(nats.Header{"Status": {"404"}}, ""), message(nats.Header{"Status": {"503"}}, ""), message(nats.Header{"Nats-Pin-Id": {"x"}}, ""),
		}, duplicate: 5}, // of the one before: no bytes on the same subject
		{name: "one Nats-Msg-Id for three records", messages: []*nats.Msg{
			message(nats.Header{"Nats-Msg-Id": {"same"}}, string(call("msg-id-1"))),
			message(nats.Header{"Nats-Msg-Id": {"same"}}, string(call("msg-id-2"))),
			message(nats.Header{"Nats-Msg-Id": {"same"}}, string(call("msg-id-3"))),
		}, booked: []string{"msg-id-1", "msg-id-2", "msg-id-3"}},
		{name: "the stream expected", messages: []*nats.Msg{message(nats.Header{"Nats-Expected-Stream": {consumers.StreamName}}, string(call("expected")))}, booked: []string{"expected"}},
		{name: "a header that says who wrote it", messages: []*nats.Msg{message(nats.Header{
			"_tollbook_subject": {"tollbook.victim.events"}, "_tollbook_stream_sequence": {"1"}, "_watermill_message_uuid": {"x"},
		}, string(call("forged")))}, booked: []string{"forged"}},

		{name: "an empty payload", messages: []*nats.Msg{message(nats.Header{"x": {"y"}}, "")}, duplicate: 1},
		{name: "an empty payload elsewhere", messages: []*nats.Msg{{Subject: "tollbook.contoso.call.corrected"}}, suspended: []string{""}},
		{name: "junk", messages: []*nats.Msg{message(nil, "\x00"+string(junk)+"\x00")}, suspended: []string{"\x00" + string(junk) + "\x00"}},
		{name: "a message one byte below the longest", messages: []*nats.Msg{message(nil, padded("below", consumers.MaxPayload-1))}, booked: []string{"below"}},
		{name: "the longest message", messages: []*nats.Msg{message(nil, padded("longest", consumers.MaxPayload))}, booked: []string{"longest"}},
		{name: "a message one byte above", messages: []*nats.Msg{message(nil, padded("above", consumers.MaxPayload+1))}, refused: nats.ErrMaxPayload.Error()},
		{name: "a message one byte above, with its headers", messages: []*nats.Msg{message(nats.Header{"x": {"y"}}, padded("above", consumers.MaxPayload))}, refused: nats.ErrMaxPayload.Error()},
		{name: "the longest message of junk", messages: []*nats.Msg{message(nil, strings.Repeat("\xff", consumers.MaxPayload))}, suspended: []string{strings.Repeat("\xff", consumers.MaxPayload)}},
		{name: "an event as long as a message", messages: []*nats.Msg{message(nil, largestDeck("deck"))}, booked: []string{"deck"}},
		{name: "100,000 records", messages: []*nats.Msg{message(nil, strings.Join(manyRecords, "\n"))}, suspended: manyRecords},
		{name: "100,001 records", messages: []*nats.Msg{message(nil, strings.Join(manyRecords, "\n")+"\n{}")}, suspended: []string{strings.Join(manyRecords, "\n") + "\n{}"}},
	}
	for header, value := range map[string]string{
		"Nats-Expected-Stream": "OTHER", "Nats-Expected-Last-Sequence": "1", "Nats-Expected-Last-Subject-Sequence": "1", "Nats-Expected-Last-Msg-Id": "other",
		"Nats-Stream-Source": "TOLLBOOK-NONE 99 > >", "Nats-Rollup": "all", "Nats-TTL": "1s", "Nats-Incr": "1", "Nats-Schedule": "@at 2026-10-05T09:01:00Z",
	} {
		all = append(all, odd{name: header, messages: []*nats.Msg{message(nats.Header{header: {value}}, string(call(header)))}, refused: "nats: API error"})
	}
	return all
}

// TestOddMessages: whatever a sender does with a message, its records are booked,
// or suspended with their bytes and a reason, or NATS tells the sender that it
// does not take it; and what comes next is booked.
func TestOddMessages(t *testing.T) {
	t.Logf("-seed=%d", *seed)
	b := startBroker(t)
	e := newEngine(t, b.url(), openSQLite)
	e.serve()
	e.serving()
	_, js := connect(t, b.url())
	for i, o := range oddMessages(rand.New(rand.NewPCG(*seed, 0))) {
		booked, duplicates, suspended := e.received()
		for _, m := range o.messages {
			_, err := js.PublishMsg(t.Context(), m)
			if o.refused == "" && err != nil || o.refused != "" && (err == nil || !strings.Contains(err.Error(), o.refused)) {
				t.Errorf("%s: the sender was told %v, want %q", o.name, err, o.refused)
			}
		}
		if o.wire != nil {
			publishWire(t, b.listen, *o.wire)
		}
		next := fmt.Sprintf("after-%d", i)
		publishCalls(t, js, []string{next})
		e.drained()
		for _, id := range append(o.booked, next) {
			e.mu.Lock()
			if n := e.tally.booked[callSource+" "+id]; n != 1 {
				t.Errorf("%s: %s is booked %d times", o.name, id, n)
			}
			e.mu.Unlock()
		}
		nowBooked, nowDuplicates, _ := e.received()
		if nowBooked-booked != len(o.booked)+1 || nowDuplicates-duplicates != o.duplicate {
			t.Errorf("%s: %d booked and %d duplicate, want %d and %d", o.name, nowBooked-booked, nowDuplicates-duplicates, len(o.booked)+1, o.duplicate)
		}
		var raw []string
		e.mu.Lock()
		for _, s := range e.tally.suspended[suspended:] {
			raw = append(raw, string(s.Raw))
			if s.Reason == "" || s.Detail == "" || s.Subject == "" {
				t.Errorf("%s: suspended without saying why: %.300v", o.name, s)
			}
		}
		e.mu.Unlock()
		if !cmp.Equal(o.suspended, raw, cmpopts.EquateEmpty()) {
			t.Errorf("%s: suspended %.500q\nwant %.500q", o.name, raw, o.suspended)
		}
	}
	if info, err := e.consumer(); err != nil || info.NumAckPending != 0 || info.NumRedelivered != 0 {
		t.Errorf("left at the consumer: %+v, %v", info, err)
	}
}

// publishWire publishes as bytes, and returns once JetStream has stored them.
func publishWire(t *testing.T, address string, m wireMessage) {
	t.Helper()
	conn, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	_ = conn.SetDeadline(time.Now().Add(patience))
	var out bytes.Buffer
	fmt.Fprintf(&out, "CONNECT {\"verbose\":false,\"pedantic\":false,\"headers\":true,\"no_responders\":true}\r\nSUB told 1\r\n")
	fmt.Fprintf(&out, "HPUB %s told %d %d\r\n%s%s\r\nPING\r\n", callSubject, len(m.header), len(m.header)+len(m.payload), m.header, m.payload)
	if _, err := conn.Write(out.Bytes()); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewReader(conn)
	for {
		said, err := lines.ReadString('\n')
		if err != nil {
			t.Fatalf("%q: %v", m.header, err)
		}
		if strings.HasPrefix(said, "{") { // the acknowledgement
			if !strings.Contains(said, `"seq":`) {
				t.Errorf("%q: NATS says %s", m.header, said)
			}
			return
		}
		if strings.HasPrefix(said, "-ERR") {
			t.Fatalf("%q: NATS says %s", m.header, said)
		}
	}
}
