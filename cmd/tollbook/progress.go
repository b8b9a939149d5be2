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
type progress struct {
	out     io.Writer
	title   string
	unit    string
	total   int64
	started time.Time
	bar     *progressbar.ProgressBar
}

// newProgress begins something of total units; 0: nobody knows how many.
func newProgress(std Streams, title string, total int64, unit string) *progress {
	p := &progress{title: title, unit: unit, total: total, started: time.Now()}
	if terminal(std.Err) {
		p.out = std.Err
	}
	return p
}

// set says how many units are done.
func (p *progress) set(done uint64) {
	if p.out == nil || time.Since(p.started) < progressAfter {
		return
	}
	if p.bar == nil {
		total := p.total
		if total == 0 {
			total = -1
		}
		p.bar = progressbar.NewOptions64(total,
			progressbar.OptionSetWriter(p.out), progressbar.OptionSetDescription(p.title),
			progressbar.OptionShowCount(), progressbar.OptionShowIts(), progressbar.OptionSetItsString(p.unit),
			progressbar.OptionThrottle(100*time.Millisecond), progressbar.OptionClearOnFinish(),
			progressbar.OptionSetPredictTime(true))
	}
	_ = p.bar.Set64(int64(done)) // a bar that can't be drawn is no reason to stop
}

func (p *progress) finish() {
	if p.bar != nil {
		_ = p.bar.Finish()
	}
}
