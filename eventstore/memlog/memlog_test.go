package memlog_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"tollbook/eventstore"
	"tollbook/eventstore/logtest"
	"tollbook/eventstore/memlog"
)

func TestLog(t *testing.T) {
	logs := map[string]*memlog.Log{}
	logtest.Run(t, func(t *testing.T, dir string) eventstore.Log {
		if old, ok := logs[dir]; ok {
			logs[dir] = old.Reopen()
		} else {
			logs[dir] = memlog.New(t)
		}
		return logs[dir]
	})
}

// complaints is a test that fails.
type complaints []string

func (c *complaints) Helper() {}

func (c *complaints) Errorf(format string, args ...any) {
	*c = append(*c, fmt.Sprintf(format, args...))
}

var ctx = context.Background()

func TestPolices(t *testing.T) {
	ignore := func(uint64, []byte) error { return nil }
	for _, test := range []struct {
		complaint string // "": none
		run       func(l *memlog.Log)
	}{
		{"", func(l *memlog.Log) {
			block := []byte("block 3")
			_ = l.Append(ctx, 3, block)
			block[0] = 'B' // it is the caller's again
			_ = l.Read(ctx, 1, ignore)
			_ = l.Close()
		}},
		{"Append after Close", func(l *memlog.Log) { _ = l.Close(); _ = l.Append(ctx, 3, []byte("x")) }},
		{"Read after Close", func(l *memlog.Log) { _ = l.Close(); _ = l.Read(ctx, 1, ignore) }},
		{"Head after Close", func(l *memlog.Log) { _ = l.Close(); _, _ = l.Head(ctx) }},
		{"Close after Close", func(l *memlog.Log) { _ = l.Close(); _ = l.Close() }},
		{"Close while somebody reads", func(l *memlog.Log) {
			_ = l.Read(ctx, 2, func(uint64, []byte) error { return l.Close() })
		}},
		{"Append of block 3 after ErrUncertain", func(l *memlog.Log) {
			l.FailAppend(3, false)
			_ = l.Append(ctx, 3, []byte("x"))
			_ = l.Append(ctx, 3, []byte("x"))
		}},
		{"block 3 was changed while it was appended", func(l *memlog.Log) {
			block := []byte("block 3")
			l.Before = func(uint64) { block[2] = 'X' }
			_ = l.Append(ctx, 3, block)
		}},
		{"block 2 was changed by who read it", func(l *memlog.Log) {
			_ = l.Read(ctx, 2, func(_ uint64, block []byte) error { block[0]++; return nil })
		}},
		{"a block was written to after its turn", func(l *memlog.Log) {
			var kept []byte
			_ = l.Read(ctx, 2, func(_ uint64, block []byte) error { kept = block; return nil })
			kept[0]++
			_ = l.Close()
		}},
	} {
		t.Run(test.complaint, func(t *testing.T) {
			var got complaints
			test.run(memlog.Of(&got, []byte("block 1"), []byte("block 2")))
			switch {
			case test.complaint == "" && len(got) == 0:
			case test.complaint == "" || len(got) != 1 || !strings.Contains(got[0], test.complaint):
				t.Errorf("complaints %q", []string(got))
			}
		})
	}
}

// A block that was kept reads as no block at all.
func TestPoison(t *testing.T) {
	l := memlog.Of(t, []byte("block 1"))
	var kept []byte
	if err := l.Read(ctx, 1, func(_ uint64, block []byte) error { kept = block; return nil }); err != nil {
		t.Fatal(err)
	}
	if want := bytes.Repeat([]byte{0xdb}, 7); !bytes.Equal(kept, want) {
		t.Errorf("kept %q", kept)
	}
	if got := l.Blocks(); len(got) != 1 || string(got[0]) != "block 1" {
		t.Errorf("the log has %q", got)
	}
}

func TestFailAppend(t *testing.T) {
	for _, persisted := range []bool{false, true} {
		l := memlog.Of(t, []byte("block 1"))
		l.FailAppend(2, persisted)
		if err := l.Append(ctx, 3, []byte("x")); !errors.Is(err, eventstore.ErrConflict) {
			t.Errorf("append of another block: %v", err)
		}
		if err := l.Append(ctx, 2, []byte("block 2")); !errors.Is(err, eventstore.ErrUncertain) {
			t.Errorf("append that is to fail: %v", err)
		}
		next, head := l.Reopen(), uint64(1)
		if persisted {
			head = 2
		}
		if got, err := next.Head(ctx); got != head || err != nil {
			t.Errorf("persisted %v: head %d, %v", persisted, got, err)
		}
		if err := next.Append(ctx, head+1, []byte("y")); err != nil {
			t.Errorf("persisted %v: append after reopening: %v", persisted, err)
		}
	}
}

func TestMissing(t *testing.T) {
	l := memlog.Of(t, []byte("block 1"), nil, []byte("block 3"))
	read := 0
	err := l.Read(ctx, 0, func(uint64, []byte) error { read++; return nil })
	if !errors.Is(err, eventstore.ErrCorrupt) || !strings.Contains(err.Error(), "block 2") || read != 1 {
		t.Errorf("read %d blocks, %v", read, err)
	}
}
