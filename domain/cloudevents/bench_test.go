package cloudevents_test

import (
	"bytes"
	"strconv"
	"testing"

	"tollbook/domain/cloudevents"
)

// benchCall is a call as a switch writes it, data last.
const benchCall = `{"specversion":"1.0","id":"7f3a-000123","source":"switch/mil-1","type":"tollbook.call.completed.v1",` +
	`"time":"2026-10-01T12:05:00.25+02:00","sequence":"123","data":{"user":"ada@contoso.example","direction":"outbound",` +
	`"calling":"+390281234567","called":"+393331234567","answered_at":"2026-10-01T12:00:00+02:00",` +
	`"ended_at":"2026-10-01T12:05:00+02:00","billable_ms":300000,"disposition":"answered","q850":16}}`

func perSecond(b *testing.B, calls int) {
	b.ReportMetric(float64(calls)*float64(b.N)/b.Elapsed().Seconds(), "calls/s")
}

func BenchmarkDecodeCall(b *testing.B) {
	asSent := []byte(benchCall)
	e, err := cloudevents.Decode(asSent, "contoso")
	if err != nil {
		b.Fatal(err)
	}
	for _, c := range []struct {
		name string
		raw  []byte
	}{{"sent", asSent}, {"canonical", cloudevents.Append(nil, &e)}} {
		b.Run(c.name, func(b *testing.B) {
			b.ReportAllocs()
			b.SetBytes(int64(len(c.raw)))
			for b.Loop() {
				if _, err := cloudevents.Decode(c.raw, "contoso"); err != nil {
					b.Fatal(err)
				}
			}
			perSecond(b, 1)
		})
	}
}

func BenchmarkAppendCall(b *testing.B) {
	e := mustDecode(b, benchCall[:len(benchCall)-1]+`,"tenant":"contoso"}`)
	b.ReportAllocs()
	var dst []byte
	for b.Loop() {
		dst = cloudevents.Append(dst[:0], &e)
	}
	perSecond(b, 1)
}

func BenchmarkSplit(b *testing.B) {
	const calls = 1000
	for _, c := range []struct{ name, before, between, after string }{{"lines", "", "\n", "\n"}, {"array", "[", ",", "]"}} {
		b.Run(c.name, func(b *testing.B) {
			payload := []byte(c.before)
			payload = append(payload, bytes.Repeat([]byte(benchCall+c.between), calls-1)...)
			payload = append(payload, benchCall+c.after...)
			b.ReportAllocs()
			b.SetBytes(int64(len(payload)))
			for b.Loop() {
				if err := cloudevents.Split(payload, func([]byte) error { return nil }); err != nil {
					b.Fatal(err)
				}
			}
			perSecond(b, calls)
		})
	}
}

func BenchmarkDecodeDeck(b *testing.B) {
	const rows = 10_000
	raw := []byte(`{"specversion":"1.0","id":"d1","source":"admin","type":"tollbook.deck.published.v1","time":"2026-09-30T12:00:00Z",` +
		`"data":{"deck":"standard","version":"2026-10","effective_from":"2026-10-01T00:00:00Z","currency":"EUR","rows":[`)
	for i := range rows {
		if i > 0 {
			raw = append(raw, ',')
		}
		raw = append(raw, `{"prefix":"39`...)
		raw = strconv.AppendInt(raw, int64(i), 10)
		raw = append(raw, `","country":"IT","name":"Italy","type":"mobile","price":"0.1250","connect_fee":"0","increment":"60/60"}`...)
	}
	raw = append(raw, `]}}`...)
	b.ReportAllocs()
	b.SetBytes(int64(len(raw)))
	for b.Loop() {
		if _, err := cloudevents.Decode(raw, "contoso"); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(rows*float64(b.N)/b.Elapsed().Seconds(), "rows/s")
}
