package finance

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"
)

// Stream tells of the book's position whenever it has grown, as server-sent events,
// until the client goes or closed is.
func (d *Desk) Stream(w http.ResponseWriter, r *http.Request, closed <-chan struct{}) {
	w.Header().Set("Content-Type", "text/event-stream")
	w.Header().Set("Cache-Control", "no-store")
	out := http.NewResponseController(w)
	// Half a minute without a word, and a proxy may think nobody is there.
	beat := time.NewTicker(25 * time.Second)
	defer beat.Stop()
	positions := d.Watch(r.Context())
	for {
		// Each word has a time limit of its own; the stream has none.
		if err := out.SetWriteDeadline(time.Now().Add(10 * time.Second)); err != nil && !errors.Is(err, http.ErrNotSupported) {
			return
		}
		if out.Flush() != nil {
			return
		}
		var err error
		select {
		case <-closed:
			return
		case <-r.Context().Done():
			return
		case <-beat.C:
			_, err = io.WriteString(w, ":\n\n")
		case position, more := <-positions:
			if !more {
				return
			}
			_, err = fmt.Fprintf(w, "data: %d\n\n", position)
		}
		if err != nil {
			return
		}
	}
}
