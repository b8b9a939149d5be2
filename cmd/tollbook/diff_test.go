package main

import (
	"os"
	"testing"
)

// TestDiffStory: a month is closed, and what comes late changes it again and again.
func TestDiffStory(t *testing.T) {
	r, clock := newRigAt(t, "2026-08-28T12:00:00Z")
	text, err := os.ReadFile("testdata/diff.txt")
	if err != nil {
		t.Fatal(err)
	}
	s := newStory(t, "testdata/diff", "TOLLBOOK_NATS="+r.NATSAddress, "DATA="+r.dir)
	s.clock = clock
	golden(t, "diff.txt", s.tell(string(text)))
}
