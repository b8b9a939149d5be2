//go:build faults

package main

import (
	"fmt"
	"hash/fnv"
	"maps"
	"math/rand/v2"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"

	"tollbook/domain"
)

// TestRealFaults has serve run where the kernel itself fails it: its writes and
// fsyncs fail or are slow, it dies at each of them, its disk is full, and its
// disk loses power. After each fault an engine starts on what is left, which has
// to stand senders' audit.
//
// It needs root, strace, and a kernel that mounts loop devices; .ci/run faults
// installs what Debian has.
func TestRealFaults(t *testing.T) {
	needs(t)
	r := &realFaults{seed: flipSeed(t), counts: map[string]int{}}
	t.Run("all", func(t *testing.T) {
		for name, test := range map[string]func(*realFaults, *testing.T){
			"errors":       (*realFaults).errors,
			"kill points":  (*realFaults).killPoints,
			"slow disk":    (*realFaults).slowDisk,
			"stuck stream": (*realFaults).stuckStream,
			"disk full":    (*realFaults).diskFull,
			"power points": (*realFaults).powerPoints,
			"power cuts":   (*realFaults).powerCuts,
			"control":      (*realFaults).control,
		} {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				test(r, t)
			})
		}
	})
	t.Log(r)
	if left, err := exec.Command("losetup", "--list", "--noheadings", "--output", "BACK-FILE").Output(); err != nil || strings.Contains(string(left), t.Name()) {
		t.Errorf("loop devices are left: %v\n%s", err, left)
	}
}

// tools are the programs that are needed, and the Debian packages they are in.
var tools = [...][2]string{
	{"strace", "strace"}, {"mkfs.ext4", "e2fsprogs"}, {"mount", "mount"}, {"umount", "mount"}, {"losetup", "mount"}, {"fsfreeze", "util-linux"},
}

func needs(t *testing.T) {
	t.Helper()
	for _, tool := range tools {
		if _, err := exec.LookPath(tool[0]); err != nil {
			t.Errorf("%s is missing: apt-get install %s", tool[0], tool[1])
		}
	}
	if os.Geteuid() != 0 {
		t.Error("mounting file systems needs root: sudo .ci/run faults")
	}
	if t.Failed() {
		t.FailNow()
	}
	if out, err := exec.Command("strace", "-qq", "-e", "trace=none", "true").CombinedOutput(); err != nil {
		t.Fatalf("strace: %v: %s: this needs ptrace; in a container, run it with --cap-add SYS_PTRACE", err, out)
	}
}

// run runs a program that has to succeed.
func run(t tester, name string, args ...string) {
	t.Helper()
	if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
		t.Fatalf("%s %s: %v: %s", name, strings.Join(args, " "), err, out)
	}
}

// realFaults are a run of all of them, and count what was done and what came of it.
type realFaults struct {
	seed uint64

	mu     sync.Mutex
	counts map[string]int
	found  findings
}

func (r *realFaults) add(what string, n int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.counts[what] += n
}

func (r *realFaults) count(what string) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.counts[what]
}

func (r *realFaults) String() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	var text strings.Builder
	for _, what := range slices.Sorted(maps.Keys(r.counts)) {
		fmt.Fprintf(&text, "%s %d, ", what, r.counts[what])
	}
	fmt.Fprintf(&text, "lost %d, doubled %d, undetected %d; FAULTS_SEED=%d", r.found.lost, r.found.doubled, r.found.undetected, r.seed)
	return text.String()
}

// audit audits a directory and adds up what was found.
func (r *realFaults) audit(t tester, s *senders, dir string, told map[string]bool) {
	t.Helper()
	defer func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.found.lost += s.found.lost
		r.found.doubled += s.found.doubled
		r.found.undetected += s.found.undetected
		s.found = findings{}
	}()
	r.add("events that came again", int(s.audit(t, dir, told)))
}

// drawing is the randomness of one part of a test, whatever ran before it.
func (r *realFaults) drawing(name string) *rand.Rand {
	h := fnv.New64a()
	_, _ = h.Write([]byte(name))
	return rand.New(rand.NewPCG(r.seed, h.Sum64()))
}

// A scenario is short, and writes each of an engine's files: the terms, then
// some calls, one after the other.
func scenario(calls int) []domain.Event {
	return append(licensed("contoso"), roundCalls(0, calls)...)
}

// A witness is a tester that notes what a test would fail with: for runs that
// have to fail.
type witness struct {
	testing.TB
	mu       sync.Mutex
	failures []string
}

// failuresOf are those of f.
func failuresOf(t *testing.T, f func(t tester)) []string {
	w := &witness{TB: t}
	done := make(chan struct{})
	go func() {
		defer close(done)
		f(w)
	}()
	<-done
	return w.failures
}

func (w *witness) Errorf(format string, args ...any) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.failures = append(w.failures, fmt.Sprintf(format, args...))
}

func (w *witness) Fatalf(format string, args ...any) {
	w.Errorf(format, args...)
	runtime.Goexit()
}
