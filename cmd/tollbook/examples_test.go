package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/go-json-experiment/json/jsontext"
	"github.com/nats-io/nats.go"

	"tollbook/consumers"
	"tollbook/domain"
	"tollbook/domain/cloudevents"
)

// An example is a worked month whose expected numbers were computed by hand.
type example struct {
	name   string
	file   string
	events []domain.Event
	want   map[string]any
}

func (x *example) month() []string {
	return []string{"--tenant", x.want["tenant"].(string), "--month", x.want["month"].(string), "--format", "json"}
}

func examples(t *testing.T) []example {
	t.Helper()
	files, err := filepath.Glob("../../domain/testdata/examples/*.events.ndjson")
	if err != nil || len(files) < 4 {
		t.Fatalf("there are %d examples (%v), at least 4 are expected", len(files), err)
	}
	var all []example
	for _, file := range files {
		prefix := strings.TrimSuffix(file, ".events.ndjson")
		expected, err := os.ReadFile(prefix + ".expected.json")
		if err != nil {
			t.Fatal(err)
		}
		x := example{name: filepath.Base(prefix), file: file, want: decoded[map[string]any](t, string(expected))}
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for line := range bytes.Lines(text) {
			e, err := cloudevents.Decode(bytes.TrimSpace(line), "")
			if err != nil {
				t.Fatalf("%s: %v", file, err)
			}
			x.events = append(x.events, e)
		}
		all = append(all, x)
	}
	return all
}

// TestExamples publishes the worked months as a file and asks for them in every
// way there is: of the engine, of its book beside it, after a restart, and offline.
func TestExamples(t *testing.T) {
	for _, x := range examples(t) {
		t.Run(x.name, func(t *testing.T) {
			r := newRig(t)
			report := r.publishFile(x.file)
			if n := len(x.events); report.Received != n || report.Booked != n || report.Position != uint64(n) {
				t.Errorf("of %d events: %+v", n, report)
			}
			again := r.publishFile(x.file)
			if again.Duplicate != len(x.events) || again.Received != len(x.events) {
				t.Errorf("published again, all are duplicates: %+v", again)
			}
			pools, invoice := r.documents(&x)
			expect(t, &x, pools, invoice)

			replay := done(t, append([]string{"replay", "--data", r.dir}, x.month()...)...)
			same := func(when, pools2, invoice2 string) {
				t.Helper()
				if pools2 != pools || invoice2 != invoice {
					t.Errorf("%s:\n got %s%s\nwant %s%s", when, pools2, invoice2, pools, invoice)
				}
			}
			sameReplay := func(when, replay string) {
				t.Helper()
				if got, want := canonical(t, replay, "pools"), canonical(t, invoice); got != want {
					t.Errorf("%s: replay without its pools is not the invoice:\n got %s\nwant %s", when, got, want)
				}
				if got, want := canonical(t, replay, "status", "number", "head", "invoices", "exceptions", "counts"), canonical(t, pools); got != want {
					t.Errorf("%s: replay's pools:\n got %s\nwant %s", when, got, want)
				}
			}
			sameReplay("beside the engine", replay)
			pools2, invoice2 := r.offline(&x)
			same("offline beside the engine", pools2, invoice2)
			r.restart()
			pools2, invoice2 = r.documents(&x)
			same("after a restart", pools2, invoice2)
			r.stop()
			pools2, invoice2 = r.offline(&x)
			same("offline", pools2, invoice2)
			sameReplay("offline", done(t, append([]string{"replay", "--data", r.dir}, x.month()...)...))
		})
	}
}

func (r *rig) documents(x *example) (pools, invoice string) {
	r.t.Helper()
	return r.ask(append([]string{"pools"}, x.month()...)...), r.ask(append([]string{"invoice"}, x.month()...)...)
}

func (r *rig) offline(x *example) (pools, invoice string) {
	r.t.Helper()
	args := append([]string{"--data", r.dir}, x.month()...)
	return done(r.t, append([]string{"pools"}, args...)...), done(r.t, append([]string{"invoice"}, args...)...)
}

// expect compares both documents with the example's.
func expect(t *testing.T, x *example, pools, invoice string) {
	t.Helper()
	got := decoded[map[string]any](t, invoice)
	got["pools"] = decoded[map[string]any](t, pools)["pools"]
	if where := missing(x.want, got, ""); where != "" {
		t.Errorf("%s\npools %sinvoice %s", where, pools, invoice)
	}
}

// missing says where got lacks something of want; fields that want does not have
// may be anything.
func missing(want, got any, at string) string {
	switch want := want.(type) {
	case map[string]any:
		object, ok := got.(map[string]any)
		if !ok {
			return fmt.Sprintf("%s is %v, not an object", at, got)
		}
		for name, value := range want {
			if _, ok := object[name]; !ok {
				return fmt.Sprintf("%s.%s is missing", at, name)
			}
			if where := missing(value, object[name], at+"."+name); where != "" {
				return where
			}
		}
		return ""
	case []any:
		list, ok := got.([]any)
		if !ok || len(list) != len(want) {
			return fmt.Sprintf("%s is %v, want %v", at, got, want)
		}
		for i := range want {
			if where := missing(want[i], list[i], fmt.Sprintf("%s[%d]", at, i)); where != "" {
				return where
			}
		}
		return ""
	}
	if !reflect.DeepEqual(want, got) {
		return fmt.Sprintf("%s is %v, want %v", at, got, want)
	}
	return ""
}

// TestExamplesThroughTheStream sends the worked months as switches do: in all
// modes that a message may have.
func TestExamplesThroughTheStream(t *testing.T) {
	modes := map[string]func(r *rig, events []domain.Event) int{
		"one message an event": (*rig).streamSingly,
		"one array a tenant":   func(r *rig, events []domain.Event) int { return r.streamTogether(events, array) },
		"one NDJSON a tenant":  func(r *rig, events []domain.Event) int { return r.streamTogether(events, ndjson) },
		"binary mode":          (*rig).streamBinary,
	}
	for _, x := range examples(t) {
		for mode, send := range modes {
			t.Run(x.name+"/"+mode, func(t *testing.T) {
				r := newRig(t)
				messages := send(r, x.events)
				r.drained()
				pools, invoice := r.documents(&x)
				expect(t, &x, pools, invoice)
				stream, err := r.js.Stream(t.Context(), consumers.StreamName)
				if err != nil {
					t.Fatal(err)
				}
				// The engine's own announcements of thresholds come through it too.
				if n := stream.CachedInfo().State.LastSeq; n < uint64(messages) {
					t.Errorf("the stream had %d messages, %d were sent", n, messages)
				}
				booked := uint64(0)
				for _, tenant := range r.status().Tenants {
					booked += tenant.Booked
					if tenant.Received != tenant.Booked {
						t.Errorf("of %s: %+v", tenant.Tenant, tenant)
					}
				}
				if booked != uint64(len(x.events)) {
					t.Errorf("%d events are booked, want %d", booked, len(x.events))
				}
			})
		}
	}
}

func (r *rig) streamSingly(events []domain.Event) (messages int) {
	r.t.Helper()
	for i := range events {
		r.stream(&nats.Msg{Subject: subjectOf(&events[i]), Data: cloudevents.Append(nil, &events[i])})
	}
	return len(events)
}

func (r *rig) streamTogether(events []domain.Event, encode func([]domain.Event) []byte) (messages int) {
	r.t.Helper()
	byTenant := map[string][]domain.Event{}
	for _, e := range events {
		byTenant[e.Tenant] = append(byTenant[e.Tenant], e)
	}
	for tenant, events := range byTenant {
		r.stream(&nats.Msg{Subject: consumers.SubjectPrefix + tenant + ".events", Data: encode(events)})
	}
	return len(byTenant)
}

func array(events []domain.Event) []byte {
	text := []byte("[\n")
	for i := range events {
		if i > 0 {
			text = append(text, ",\n"...)
		}
		text = cloudevents.Append(text, &events[i])
	}
	return append(text, "\n]\n"...)
}

func (r *rig) streamBinary(events []domain.Event) (messages int) {
	r.t.Helper()
	for i := range events {
		r.stream(binaryMode(r.t, &events[i]))
	}
	return len(events)
}

// binaryMode has the attributes in headers and the data as the body.
func binaryMode(t tester, e *domain.Event) *nats.Msg {
	t.Helper()
	whole := decoded[struct {
		Time string         `json:"time"`
		Data jsontext.Value `json:"data"`
	}](t, string(cloudevents.Append(nil, e)))
	header := nats.Header{}
	for name, value := range map[string]string{
		"ce-specversion": "1.0", "ce-id": e.ID, "ce-source": e.Source, "ce-type": string(e.Data.Type()),
		"ce-time": whole.Time, "ce-tenant": e.Tenant, "content-type": "application/json",
	} {
		header.Set(name, value)
	}
	if e.Sequence.Has {
		header.Set("ce-sequence", fmt.Sprint(e.Sequence.N))
	}
	return &nats.Msg{Subject: subjectOf(e), Header: header, Data: whole.Data}
}
