package api

import (
	"bytes"
	"compress/gzip"
	"errors"
	"io"
	"mime"
	"net/http"
	"os"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/semaphore"

	"tollbook/consumers"
	"tollbook/consumers/jetstream"
)

// A content is what a body is, by its type.
type content int

const (
	plain      content = iota // a switch's records, or a form with one: its format knows
	structured                // one event
	batch                     // events
	binary                    // the data of an event, whose attributes are headers
)

// contentOf tells what the body is: of events by the HTTP binding of CloudEvents,
// of a switch's records by what switches send.
func contentOf(r *http.Request, events bool) (content, *problem) {
	said := r.Header.Get("Content-Type")
	kind, _, err := mime.ParseMediaType(said)
	wrong := func(rule string) (content, *problem) {
		return 0, refuse(http.StatusUnsupportedMediaType, "Content-Type %.80q: %s", said, rule)
	}
	if err != nil && said != "" {
		return wrong("is no media type")
	}
	if !events {
		switch {
		case strings.HasPrefix(kind, "application/cloudevents"):
			return wrong("events are posted to /v1/events, or with the format " + consumers.FormatCloudEvents)
		case strings.HasPrefix(kind, "multipart/"):
			return wrong("must be the records themselves")
		}
		return plain, nil
	}
	switch {
	case kind == "application/cloudevents+json":
		return structured, nil
	case kind == "application/cloudevents-batch+json", kind == "application/x-ndjson":
		return batch, nil
	case strings.HasPrefix(kind, "application/cloudevents"):
		return wrong("of the formats of events only JSON is taken: application/cloudevents+json or application/cloudevents-batch+json")
	case said != "" && kind != "application/json" && kind != "text/json" && !strings.HasSuffix(kind, "+json"):
		return wrong("the data of an event is JSON")
	}
	for name := range r.Header {
		if strings.HasPrefix(name, "Ce-") {
			return binary, nil
		}
	}
	return wrong("without ce- headers must be application/cloudevents+json, for many events application/cloudevents-batch+json or application/x-ndjson")
}

func noHeader(string) string { return "" }

// attributes are the headers of binary mode. What stands in double quotes is
// taken out of them here; DecodeBinary undoes the rest of the binding's encoding.
func attributes(headers http.Header) func(name string) string {
	return consumers.HeaderIn(func(yield func(string, string) bool) {
		for name, values := range headers {
			whole := make([]string, len(values))
			for i, value := range values {
				whole[i] = unquoted(value)
			}
			if !yield(name, strings.Join(whole, jetstream.RepeatSeparator)) {
				return
			}
		}
	})
}

// unquoted takes a quoted-string of RFC 7230 out of its quotes; text without them
// stays as it is.
func unquoted(value string) string {
	if len(value) < 2 || value[0] != '"' || value[len(value)-1] != '"' {
		return value
	}
	var b strings.Builder
	for i := 1; i < len(value)-1; i++ {
		if value[i] == '\\' && i+1 < len(value)-1 {
			i++
		}
		b.WriteByte(value[i])
	}
	return b.String()
}

// emptyBatch reports whether a batch is an array of nothing, which the binding allows.
func emptyBatch(body []byte) bool {
	rest, opened := bytes.CutPrefix(bytes.TrimSpace(body), []byte("["))
	return opened && string(bytes.TrimSpace(rest)) == "]"
}

// A hold is what a request has of the memory that all of them share.
type hold struct {
	of *semaphore.Weighted
	n  int64
}

// more takes n bytes, if there are.
func (h *hold) more(n int) bool {
	if !h.of.TryAcquire(int64(n)) {
		return false
	}
	h.n += int64(n)
	return true
}

func (h *hold) less(n int) {
	h.of.Release(int64(n))
	h.n -= int64(n)
}

func (h *hold) release() { h.less(int(h.n)) }

// How much room a body gets: before any of it is here, as some only say that it
// will come; and once something is, enough for nearly every record.
const (
	firstRoom = 4 << 10
	moreRoom  = 64 << 10
)

// body reads the body, undoing gzip. It holds what it has read, not what the
// sender announces.
func (h *httpIntake) body(w http.ResponseWriter, r *http.Request, memory *hold) ([]byte, *problem) {
	if r.ContentLength > MaxBody {
		return nil, tooLarge()
	}
	// Where the deadline can't be set, in tests without a connection, nothing is slow.
	_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(h.BodyTimeout))
	var from io.Reader = http.MaxBytesReader(w, r.Body, MaxBody)
	most := MaxBody + 1 // one more, to find the end without more room
	if r.ContentLength >= 0 {
		most = int(r.ContentLength) + 1
	}
	switch encoding := r.Header.Get("Content-Encoding"); strings.ToLower(encoding) {
	case "", "identity":
	case "gzip", "x-gzip":
		if !memory.more(gzipBytes) {
			return nil, busy()
		}
		z := gzips.Get().(*gzip.Reader)
		defer gzips.Put(z)
		if err := z.Reset(from); err != nil {
			return nil, h.unread(err)
		}
		from, most = z, MaxBody+1
	default:
		return nil, refuse(http.StatusUnsupportedMediaType, "Content-Encoding %.40q: only gzip is taken, or none", encoding)
	}
	return h.readAll(from, most, memory)
}

// readAll reads at most so many bytes, of which the last is one too many.
func (h *httpIntake) readAll(from io.Reader, most int, memory *hold) ([]byte, *problem) {
	var body []byte
	for {
		if len(body) == cap(body) {
			room := firstRoom
			if len(body) > 0 {
				room = max(moreRoom, 2*len(body))
			}
			room = min(room, most)
			if !memory.more(room) {
				return nil, busy()
			}
			before := cap(body)
			body = append(make([]byte, 0, room), body...)
			memory.less(before)
		}
		n, err := from.Read(body[len(body):cap(body)])
		body = body[:len(body)+n]
		switch {
		case len(body) > MaxBody:
			return nil, tooLarge()
		case err == io.EOF:
			return body, nil
		case err != nil:
			return nil, h.unread(err)
		}
	}
}

// gzipBytes is what undoing gzip takes, roughly.
const gzipBytes = 48 << 10

var gzips = sync.Pool{New: func() any { return new(gzip.Reader) }}

func tooLarge() *problem {
	return refuse(http.StatusRequestEntityTooLarge, "the body has more than %d bytes: send it in parts", MaxBody)
}

// unread is the problem with a body that did not come whole.
func (h *httpIntake) unread(err error) *problem {
	var long *http.MaxBytesError
	switch {
	case errors.As(err, &long):
		return tooLarge()
	case errors.Is(err, os.ErrDeadlineExceeded):
		return &problem{status: http.StatusServiceUnavailable, detail: "the body did not come within " + h.BodyTimeout.String() + ": send it again, or in parts", retry: soon}
	case errors.Is(err, gzip.ErrHeader), errors.Is(err, gzip.ErrChecksum), errors.Is(err, io.EOF):
		return refuse(http.StatusBadRequest, "the body is not gzip, though Content-Encoding says so")
	}
	return refuse(http.StatusBadRequest, "the body can't be read: %v", err)
}
