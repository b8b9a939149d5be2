package projections

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"maps"
	"runtime"
	"sync"

	"github.com/go-json-experiment/json"
	"golang.org/x/sync/errgroup"

	"tollbook/domain"
	"tollbook/domain/cloudevents"
	"tollbook/eventstore"
)

// monthsImage is what a snapshot of Months begins with, as JSON; then come the
// terms, each a canonical event after its length, and of each month the texts
// and the calls in chunks. Integers are little-endian, lengths and counts 8 bytes.
type monthsImage struct {
	Head   eventstore.Head
	Intake map[string]Intake
	Issues map[string][]issueImage
	Terms  int
	Ledger *domain.Image
}

// An issueImage is what of an Issue its month.closed does not have.
type issueImage struct {
	Replayed Statement
	Bytes    []byte `json:",omitzero"` // nil: the document
	Turn     string `json:",omitzero"`
}

// Name is that of the snapshot; it is an eventstore.Resumer.
func (m *Months) Name() string { return "months-1" }

// Snapshot writes all of the months. Calls are written in chunks, between which
// the months go on.
func (m *Months) Snapshot(bool) func(io.Writer) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	img := monthsImage{Head: m.head, Intake: map[string]Intake{}, Issues: map[string][]issueImage{}, Ledger: m.ledger.Image()}
	img.Terms = len(img.Ledger.Terms)
	for tenant, in := range m.intake {
		img.Intake[tenant] = *in
	}
	issues := maps.Clone(m.issues) // lists of them only grow
	return func(w io.Writer) error {
		for tenant, list := range issues {
			for _, i := range list {
				one := issueImage{Replayed: i.Replayed}
				if !bytes.Equal(i.Bytes, i.Document) {
					one.Bytes = i.Bytes
				}
				if i.turn != nil {
					one.Turn = i.turn.Error()
				}
				img.Issues[tenant] = append(img.Issues[tenant], one)
			}
		}
		return img.write(w, &m.mu)
	}
}

func (img *monthsImage) write(w io.Writer, using sync.Locker) error {
	header, err := json.Marshal(img)
	if err != nil {
		return err
	}
	out := func(parts ...[]byte) {
		for _, part := range parts {
			if err == nil {
				_, err = w.Write(part)
			}
		}
	}
	length := func(n int) []byte { return binary.LittleEndian.AppendUint64(nil, uint64(n)) }
	out(length(len(header)), header)
	var buffer []byte
	for i := range img.Ledger.Terms {
		buffer = cloudevents.Append(buffer[:0], &img.Ledger.Terms[i])
		out(length(len(buffer)), buffer)
	}
	for i := range img.Ledger.Accounts {
		for j := range img.Ledger.Accounts[i].Months {
			month := &img.Ledger.Accounts[i].Months[j]
			out(length(len(month.Texts)), month.Texts)
			var extra []domain.ImageExtra
			for chunk := uint32(0); chunk*domain.ImageChunk < month.Calls && err == nil; chunk++ {
				using.Lock()
				buffer, extra = month.AppendCalls(buffer[:0], chunk, extra)
				using.Unlock()
				out(buffer)
			}
			buffer = buffer[:0]
			for _, x := range extra {
				buffer = binary.LittleEndian.AppendUint32(buffer, x.Index)
				buffer = binary.LittleEndian.AppendUint32(buffer, x.Source)
				buffer = binary.LittleEndian.AppendUint64(buffer, uint64(x.Said))
			}
			out(length(len(extra)), buffer)
		}
	}
	return err
}

const extraBytes = 16

// Resume reads what Snapshot wrote. Followers are told of what comes later.
func (m *Months) Resume(in io.Reader) (accept func(), err error) {
	img, ledger, err := readMonths(in)
	if err != nil {
		return nil, err
	}
	issues := map[string][]*Issue{}
	for tenant, list := range img.Issues {
		closed := ledger.Closings(tenant)
		if len(closed) != len(list) {
			return nil, fmt.Errorf("%s has %d documents and %d closed months", tenant, len(list), len(closed))
		}
		for n, one := range list {
			if one.Replayed.Number == nil {
				return nil, fmt.Errorf("a document of %s has no number", tenant)
			}
			data := closed[n]
			i := &Issue{Number: data.Number, Digest: data.Digest, Position: data.Position, Head: data.Head, Document: data.Document, Replayed: one.Replayed, Bytes: one.Bytes}
			if i.Bytes == nil {
				i.Bytes = i.Document
			}
			if one.Turn != "" {
				i.turn = errors.New(one.Turn)
			}
			issues[tenant] = append(issues[tenant], i)
		}
	}
	return func() {
		m.mu.Lock()
		defer m.mu.Unlock()
		m.ledger, m.head, m.issues, m.feed = ledger, img.Head, issues, nil
		for tenant, in := range img.Intake {
			*m.intakeOf(tenant) = in
			m.changed[tenant] = struct{}{}
		}
	}, nil
}

func readMonths(in io.Reader) (*monthsImage, *domain.Ledger, error) {
	length := func() (int64, error) {
		var n [8]byte
		_, err := io.ReadFull(in, n[:])
		return int64(binary.LittleEndian.Uint64(n[:])), err
	}
	// part reads so many bytes; memory grows with what is there, not with what is said.
	part := func(n int64) ([]byte, error) {
		var b bytes.Buffer
		_, err := io.CopyN(&b, in, n)
		return b.Bytes(), err
	}
	counted := func() ([]byte, error) {
		n, err := length()
		if err != nil {
			return nil, err
		}
		return part(n)
	}
	header, err := counted()
	if err != nil {
		return nil, nil, err
	}
	img := &monthsImage{}
	if err := json.Unmarshal(header, img); err != nil {
		return nil, nil, err
	}
	if img.Ledger == nil {
		return nil, nil, errors.New("has no ledger")
	}
	if img.Ledger.Terms, err = readTerms(img.Terms, counted); err != nil {
		return nil, nil, err
	}
	restored, err := domain.Restore(img.Ledger)
	if err != nil {
		return nil, nil, err
	}
	restored.Ledger.Run = inParallel
	var fills errgroup.Group
	fills.SetLimit(runtime.GOMAXPROCS(0))
	var buffers sync.Pool
	months := func(each func(*domain.MonthImage) error) error {
		for i := range img.Ledger.Accounts {
			for j := range img.Ledger.Accounts[i].Months {
				if err := each(&img.Ledger.Accounts[i].Months[j]); err != nil {
					return err
				}
			}
		}
		return nil
	}
	extra := map[*domain.MonthImage][]domain.ImageExtra{}
	err = months(func(month *domain.MonthImage) error {
		texts, err := counted()
		if err != nil {
			return err
		}
		month.SetTexts(texts)
		for left := int(month.Calls); left > 0; left -= domain.ImageChunk {
			buffer, _ := buffers.Get().(*[]byte)
			if buffer == nil {
				buffer = new(make([]byte, domain.ImageChunk*domain.ImageCallBytes))
			}
			rows := (*buffer)[:min(left, domain.ImageChunk)*domain.ImageCallBytes]
			if _, err := io.ReadFull(in, rows); err != nil {
				return err
			}
			fill, err := month.AddCalls(rows)
			if err != nil {
				return err
			}
			fills.Go(func() error {
				defer buffers.Put(buffer)
				return fill()
			})
		}
		n, err := length()
		if err != nil {
			return err
		}
		for range n {
			var x [extraBytes]byte
			if _, err := io.ReadFull(in, x[:]); err != nil {
				return err
			}
			extra[month] = append(extra[month], domain.ImageExtra{
				Index: binary.LittleEndian.Uint32(x[:]), Source: binary.LittleEndian.Uint32(x[4:]), Said: domain.Instant(binary.LittleEndian.Uint64(x[8:])),
			})
		}
		return nil
	})
	if err := errors.Join(err, fills.Wait()); err != nil {
		return nil, nil, err
	}
	// Nothing is worked out of bytes that are not what was written.
	if n, err := in.Read(make([]byte, 1)); n > 0 || err != io.EOF {
		return nil, nil, fmt.Errorf("does not end where it should: %w", err)
	}
	err = months(func(month *domain.MonthImage) error { return month.Finish(extra[month]) })
	if err == nil {
		err = restored.Done()
	}
	return img, restored.Ledger, err
}

// termsAtOnce is how many terms one goroutine decodes at a time.
const termsAtOnce = 1024

// readTerms reads so many events, each by next.
func readTerms(n int, next func() ([]byte, error)) ([]domain.Event, error) {
	var group errgroup.Group
	group.SetLimit(runtime.GOMAXPROCS(0))
	var batches [][]domain.Event
	for n > 0 {
		raw := make([][]byte, 0, min(n, termsAtOnce))
		for range min(n, termsAtOnce) {
			data, err := next()
			if err != nil {
				return nil, errors.Join(err, group.Wait())
			}
			raw = append(raw, data)
		}
		n -= len(raw)
		events := make([]domain.Event, len(raw))
		batches = append(batches, events)
		group.Go(func() (err error) {
			for i := range events {
				if events[i], err = cloudevents.Decode(raw[i], ""); err != nil {
					return err
				}
			}
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		return nil, err
	}
	var terms []domain.Event
	for _, events := range batches {
		terms = append(terms, events...)
	}
	return terms, nil
}
