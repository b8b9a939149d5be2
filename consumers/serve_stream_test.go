package consumers_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	natsjs "github.com/nats-io/nats.go/jetstream"

	"tollbook/consumers"
)

// TestEnsureStreamKeepsSettings: what an operator has set on the stream stays, but
// for what could make a record disappear; doing it again changes nothing.
func TestEnsureStreamKeepsSettings(t *testing.T) {
	_, js := connect(t, startBroker(t).url())
	operators := natsjs.StreamConfig{
		Name: consumers.StreamName, Subjects: []string{"tollbook.>"}, Retention: natsjs.WorkQueuePolicy,
		MaxMsgs: 5000, MaxBytes: 1 << 30, MaxMsgSize: 1 << 20, MaxMsgsPerSubject: 4000, MaxConsumers: 7,
		Replicas: 1, Storage: natsjs.FileStorage, Compression: natsjs.S2Compression, Metadata: map[string]string{"owner": "ops"},
		// What follows is not kept.
		Discard: natsjs.DiscardOld, MaxAge: time.Hour, Duplicates: time.Minute, AllowRollup: true,
	}
	if _, err := js.CreateStream(t.Context(), operators); err != nil {
		t.Fatal(err)
	}
	want := operators
	want.Discard, want.DiscardNewPerSubject, want.MaxAge, want.Duplicates, want.AllowRollup = natsjs.DiscardNew, true, 0, 0, false
	for range 2 {
		if err := consumers.EnsureStream(t.Context(), js); err != nil {
			t.Fatal(err)
		}
		stream, err := js.Stream(t.Context(), consumers.StreamName)
		if err != nil {
			t.Fatal(err)
		}
		got := stream.CachedInfo().Config
		if got.Metadata["owner"] != "ops" {
			t.Errorf("metadata: %v", got.Metadata)
		}
		if diff := cmp.Diff(want, got, cmpopts.IgnoreFields(natsjs.StreamConfig{}, "Description", "Sources", "Metadata"), cmpopts.EquateEmpty()); diff != "" {
			t.Errorf("stream (-want +got):\n%s", diff)
		}
		if len(got.Sources) != 1 {
			t.Errorf("%d sources", len(got.Sources))
		}
	}
}

// TestFullStreamRefuses: a sender is told when the stream is full, and what was
// taken before is booked.
func TestFullStreamRefuses(t *testing.T) {
	b := startBroker(t)
	_, js := connect(t, b.url())
	if _, err := js.CreateStream(t.Context(), natsjs.StreamConfig{Name: consumers.StreamName, Subjects: []string{"tollbook.>"}, Retention: natsjs.WorkQueuePolicy, MaxMsgs: 3}); err != nil {
		t.Fatal(err)
	}
	if err := consumers.EnsureStream(t.Context(), js); err != nil {
		t.Fatal(err)
	}
	ids := callIDs("call", 3)
	publishCalls(t, js, ids)
	_, err := js.Publish(t.Context(), callSubject, call("late"))
	var refused *natsjs.APIError
	if !errors.As(err, &refused) || !strings.Contains(refused.Description, "maximum messages exceeded") {
		t.Errorf("publishing to a full stream: %v", err)
	}
	e := newEngine(t, b.url(), openMemlog(t, nil))
	e.serve()
	e.drained()
	e.wantOnce(ids)
}
