package projections_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/base64"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"

	"tollbook/api"
	"tollbook/domain"
	"tollbook/domain/cloudevents"
	"tollbook/eventstore"
	"tollbook/eventstore/block"
	"tollbook/eventstore/memlog"
	"tollbook/projections"
)

var update = flag.Bool("update", false, "make the golden books of testdata that are missing")

// TestIssuedLongAgo: documents are replayed byte for byte (R13) by every later
// version of the program. Each folder of testdata/issued has a story, the book that
// an engine made of it, block by block in base64, and the documents it issued. A
// folder is never edited; -update fills one that has only a story.
func TestIssuedLongAgo(t *testing.T) {
	stories, err := filepath.Glob("testdata/issued/*/story.txt")
	if err != nil || len(stories) == 0 {
		t.Fatalf("no stories in testdata/issued: %v", err)
	}
	for _, file := range stories {
		t.Run(filepath.Base(filepath.Dir(file)), func(t *testing.T) {
			dir := filepath.Dir(file)
			steps := readSteps(t, file)
			if _, err := os.Stat(filepath.Join(dir, "book.txt")); *update && os.IsNotExist(err) {
				makeGolden(t, dir, steps)
			}
			log := memlog.Of(t, readBlocks(t, filepath.Join(dir, "book.txt"))...)
			var booked []string
			_, err := eventstore.Walk{Log: log}.Run(context.Background(), func(b *block.Block, _ eventstore.Head, _ int) error {
				for i := range b.Events {
					booked = append(booked, told(&b.Events[i]))
				}
				return nil
			})
			if err != nil {
				t.Fatal(err)
			}
			var want []string
			for _, s := range steps {
				want = append(want, s.told())
			}
			if diff := gocmp.Diff(want, booked); diff != "" {
				t.Fatalf("the book does not tell the story (-story +book):\n%s", diff)
			}
			digests := strings.Fields(string(readFile(t, filepath.Join(dir, "digests.txt"))))
			for _, s := range steps {
				if s.closes == 0 {
					continue
				}
				issue, err := projections.Check(context.Background(), eventstore.Walk{Log: log}, goldenTenant, s.closes, nil)
				if err != nil {
					t.Fatal(err)
				}
				if err := issue.Check(); err != nil {
					t.Error(err)
				}
				document := readFile(t, filepath.Join(dir, issue.Number+".json"))
				if diff := gocmp.Diff(string(document), string(issue.Bytes)); diff != "" {
					t.Errorf("%s (-issued +replayed):\n%s", issue.Number, diff)
				}
				if len(digests) < 2 || digests[0] != issue.Number || digests[1] != projections.Digest(issue.Bytes) {
					t.Errorf("%s has digest %s, issued were %v", issue.Number, projections.Digest(issue.Bytes), digests)
				}
				digests = digests[min(2, len(digests)):]
			}
			if len(digests) > 0 {
				t.Errorf("issued, and not in the story: %v", digests)
			}
		})
	}
}

const goldenTenant = "contoso"

// A step of a story books an event or, if closes is not 0, closes a month.
type step struct {
	event  domain.Event
	closes domain.Month
	at     domain.Instant
}

// told is a step, or an event of the book, in one line.
func (s *step) told() string {
	if s.closes != 0 {
		return fmt.Sprintf("close %s at %s", s.closes, s.at)
	}
	return told(&s.event)
}

func told(e *domain.Event) string {
	if closed, ok := e.Data.(*domain.MonthClosed); ok {
		return fmt.Sprintf("close %s at %s", closed.Month, e.Time)
	}
	return string(cloudevents.Append(nil, e))
}

func readSteps(t *testing.T, file string) (steps []step) {
	for line := range strings.Lines(string(readFile(t, file))) {
		line = strings.TrimSpace(line)
		if line == "" || line[0] == '#' {
			continue
		}
		var s step
		if closes, ok := strings.CutPrefix(line, "close "); ok {
			m, at, _ := strings.Cut(closes, " at ")
			s.closes, s.at = month(m), instant(at)
		} else {
			event, err := cloudevents.Decode([]byte(line), "")
			if err != nil {
				t.Fatalf("%s: %v\n%s", file, err, line)
			}
			s.event = event
		}
		steps = append(steps, s)
	}
	return steps
}

// makeGolden tells the story to an engine's book and keeps what came of it.
func makeGolden(t *testing.T, dir string, steps []step) {
	now := instant("2026-09-01T00:00:00Z")
	clock := func() domain.Instant { return now }
	log := memlog.New(t)
	months := projections.NewMonths()
	book, err := eventstore.Open(context.Background(), t.TempDir(), func(string) (eventstore.Log, error) { return log, nil },
		eventstore.Options{Clock: clock, Follow: []eventstore.Follower{months.Follow}})
	if err != nil {
		t.Fatal(err)
	}
	closer := &api.Closer{Book: book, Months: months, Clock: clock}
	var digests, blocks bytes.Buffer
	for _, s := range steps {
		if s.closes == 0 {
			now += domain.Instant(time.Second)
			results, err := book.Submit(context.Background(), []eventstore.Record{{Event: s.event}})
			if err != nil || results[0].Status != eventstore.Booked {
				t.Fatalf("%s: %+v, %v", s.told(), results, err)
			}
			continue
		}
		now = s.at
		doc, err := closer.Close(context.Background(), api.CloseRequest{Tenant: goldenTenant, Month: s.closes.String()}, "ada")
		if err != nil || !doc.Closed {
			t.Fatalf("%s: %+v, %v", s.told(), doc, err)
		}
		issues := months.Issues(goldenTenant)
		fmt.Fprintln(&digests, doc.Number, doc.Digest)
		writeFile(t, filepath.Join(dir, doc.Number+".json"), issues[len(issues)-1].Document)
	}
	if err := book.Close(); err != nil {
		t.Fatal(err)
	}
	for _, b := range log.Blocks() {
		fmt.Fprintln(&blocks, base64.StdEncoding.EncodeToString(b))
	}
	writeFile(t, filepath.Join(dir, "digests.txt"), digests.Bytes())
	writeFile(t, filepath.Join(dir, "book.txt"), blocks.Bytes())
}

func readBlocks(t *testing.T, file string) (blocks [][]byte) {
	lines := bufio.NewScanner(bytes.NewReader(readFile(t, file)))
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		b, err := base64.StdEncoding.DecodeString(lines.Text())
		if err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		blocks = append(blocks, b)
	}
	if err := lines.Err(); err != nil {
		t.Fatalf("%s: %v", file, err)
	}
	return blocks
}

func readFile(t *testing.T, file string) []byte {
	t.Helper()
	data, err := os.ReadFile(file)
	if os.IsNotExist(err) {
		t.Fatalf("%v: make it with go test -update", err)
	}
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func writeFile(t *testing.T, file string, data []byte) {
	t.Helper()
	if err := os.WriteFile(file, data, 0o644); err != nil {
		t.Fatal(err)
	}
}
