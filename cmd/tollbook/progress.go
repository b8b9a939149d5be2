package main

import (
	"io"
	"time"

	"github.com/schollz/progressbar/v3"
)

// progressAfter is how long something may take before a bar is shown.
const progressAfter = time.Second

// progress is a bar with rate and time left on anything over a second; on what
// is no terminal it is nothing.
type progress struct{ bar *progressbar.ProgressBar }

// newProgress begins something of total units; 0: nobody knows how many. The
// unit "B" is printed as kB, MB and so on.
func newProgress(std Streams, title string, total int64, unit string) *progress {
	if !terminal(std.Err) {
		return &progress{}
	}
	if total == 0 {
		total = -1
	}
	options := []progressbar.Option{
		progressbar.OptionSetWriter(&late{std.Err, time.Now().Add(progressAfter)}),
		progressbar.OptionSetDescription(title), progressbar.OptionSetWidth(20),
		progressbar.OptionShowCount(),
		progressbar.OptionThrottle(100 * time.Millisecond), progressbar.OptionClearOnFinish(),
		progressbar.OptionSetPredictTime(true),
	}
	if unit == "B" {
		options = append(options, progressbar.OptionShowBytes(true))
	} else {
		options = append(options, progressbar.OptionShowIts(), progressbar.OptionSetItsString(unit))
	}
	return &progress{progressbar.NewOptions64(total, options...)}
}

// set says how many units are done.
func (p *progress) set(done uint64) {
	if p.bar != nil {
		_ = p.bar.Set64(int64(done)) // a bar that can't be drawn is no reason to stop
	}
}

func (p *progress) finish() {
	if p.bar != nil {
		_ = p.bar.Finish()
	}
}

// late drops what is written before its time.
type late struct {
	out  io.Writer
	from time.Time
}

func (l *late) Write(p []byte) (int, error) {
	if time.Now().Before(l.from) {
		return len(p), nil
	}
	return l.out.Write(p)
}
