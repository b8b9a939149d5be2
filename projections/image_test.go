package projections_test

import (
	"bytes"
	"encoding/binary"
	"io"
	"testing"

	"tollbook/domain"
	"tollbook/eventstore"
	"tollbook/projections"
)

// FuzzResume: bytes that are no snapshot, or one that was changed, are an error or
// the months of another book, never a panic, and an error leaves nothing behind.
// (A book resumes only what has its checksum; here everything has.)
func FuzzResume(f *testing.F) {
	months := projections.NewMonths()
	for _, events := range examples(f) {
		months.Follow(eventstore.Update{Head: eventstore.Head{Block: 1, Events: uint64(len(events))}, First: 1, Events: events})
	}
	var whole bytes.Buffer
	if err := months.Snapshot(true)(&whole); err != nil {
		f.Fatal(err)
	}
	f.Add(whole.Bytes())
	f.Add([]byte{})
	f.Add(binary.LittleEndian.AppendUint64(nil, 1<<62))
	for i := 0; i < whole.Len(); i += 1999 {
		changed := bytes.Clone(whole.Bytes())
		changed[i] ^= 0x11
		f.Add(changed)
		f.Add(changed[:i])
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		for _, r := range []eventstore.Resumer{projections.NewMonths(), projections.NewGaps(), projections.NewSuspense(func(*domain.Event, *domain.Suspended) domain.Glimpse { return domain.Glimpse{} })} {
			if accept, err := r.Resume(io.Reader(bytes.NewReader(data))); err == nil {
				accept()
			}
		}
	})
}
