package main

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"time"

	"tollbook/api"
	"tollbook/eventstore"
)

// How long a mirror that failed is left alone: a second, then twice as long each
// time, up to a minute. Opening it reads all of it.
const (
	mirrorRetry     = time.Second
	mirrorRetryMost = time.Minute
)

// mirrorLast is how long a stop waits for the mirror to have the last blocks.
const mirrorLast = 5 * time.Second

// A mirroring keeps a standing second copy of the book. It follows behind the
// book's back: a mirror that fails, or hangs, is left behind and tried again,
// and booking goes on.
type mirroring struct {
	dir, data string // of the mirror, and of the book
	openLog   func(path string) (eventstore.Log, error)
	log       *slog.Logger

	retry time.Duration // mirrorRetry
	last  time.Duration // mirrorLast

	book   *eventstore.Book
	mirror *eventstore.Mirror // the goroutine's; nil: has to be opened again

	poked    chan struct{} // holds one: the book has moved on
	stopping chan struct{}
	done     chan struct{}
	cancel   context.CancelFunc

	mu    sync.Mutex // guards what status tells
	block uint64
	error string // why it is behind; "" while it works
}

func newMirroring(dir, data string, log *slog.Logger) *mirroring {
	return &mirroring{
		dir: dir, data: data, openLog: openLog, log: log, retry: mirrorRetry, last: mirrorLast,
		poked: make(chan struct{}, 1), stopping: make(chan struct{}), done: make(chan struct{}),
	}
}

// follow is an eventstore.Follower that waits for nobody.
func (m *mirroring) follow(eventstore.Update) {
	select {
	case m.poked <- struct{}{}:
	default:
	}
}

// start compares the mirror with the book and refuses a difference, before
// anything is booked; what the mirror lacks is copied while the engine runs.
func (m *mirroring) start(ctx context.Context, book *eventstore.Book) error {
	if err := apart(m.data, "--mirror", m.dir); err != nil {
		return err
	}
	if err := os.MkdirAll(m.dir, 0o750); err != nil {
		return fmt.Errorf("--mirror: %w", err)
	}
	mirror, err := eventstore.OpenMirror(ctx, m.dir, m.openLog)
	if err != nil {
		return fmt.Errorf("--mirror: %w", err)
	}
	if mirror.Head().Block == 0 && book.Head().Block > 0 {
		m.log.Warn("the mirror is empty and begins anew: is its disk mounted?", "dir", m.dir)
	}
	m.book, m.mirror, m.block = book, mirror, mirror.Head().Block
	if err := mirror.Compare(ctx, m.source()); err != nil {
		_ = mirror.Close()
		return fmt.Errorf("--mirror: %w", err)
	}
	// It ends with stop, which comes after the end of ctx and still has blocks to copy.
	ctx, m.cancel = context.WithCancel(context.WithoutCancel(ctx))
	go m.run(ctx)
	return nil
}

// source is the book as it is now: what nobody was told of is not copied, so
// that the mirror is never ahead.
func (m *mirroring) source() eventstore.Source {
	head := m.book.Head()
	return eventstore.Source{Dir: m.data, Read: m.book.Blocks, End: head.Block, Anchor: &eventstore.Anchor{Head: head}}
}

func (m *mirroring) run(ctx context.Context) {
	defer close(m.done)
	defer m.close()
	var wait time.Duration // until the next try; 0: it works
	for {
		err := m.catchUp(ctx)
		if err == nil && !exists(eventstore.PublicKeyPath(m.dir)) {
			err = mergeKeys(eventstore.PublicKeyPath(m.data), eventstore.PublicKeyPath(m.dir))
		}
		if ctx.Err() != nil {
			return
		}
		m.tell(err)
		poked, again := m.poked, (<-chan time.Time)(nil)
		if err == nil {
			wait = 0
		} else {
			wait = min(max(2*wait, m.retry), mirrorRetryMost)
			poked, again = nil, time.After(wait)
		}
		select {
		case <-poked:
		case <-again:
		case <-m.stopping:
			if err = m.catchUp(ctx); ctx.Err() == nil {
				m.tell(err)
			}
			return
		}
	}
}

func (m *mirroring) catchUp(ctx context.Context) error {
	if m.mirror == nil {
		mirror, err := eventstore.OpenMirror(ctx, m.dir, m.openLog)
		if err != nil {
			return err
		}
		m.mirror = mirror
		if at, was := mirror.Head().Block, m.status().Block; at < was {
			m.close()
			return fmt.Errorf("the copy in %s went to block %d and ends at block %d now: is its disk mounted? To have a new one made, start serve again", m.dir, was, at)
		}
	}
	err := m.mirror.CatchUp(ctx, m.source(), func(head eventstore.Head) {
		m.mu.Lock()
		m.block = head.Block
		m.mu.Unlock()
	})
	if err != nil {
		m.close()
	}
	return err
}

func (m *mirroring) close() {
	if m.mirror != nil {
		if err := m.mirror.Close(); err != nil {
			m.log.Warn("mirror", "dir", m.dir, "error", err)
		}
		m.mirror = nil
	}
}

// tell logs what has changed: not every try.
func (m *mirroring) tell(err error) {
	text := ""
	if err != nil {
		text = err.Error()
	}
	m.mu.Lock()
	before := m.error
	m.error = text
	m.mu.Unlock()
	switch {
	case text == before:
	case text != "":
		m.log.Warn("the mirror falls behind; booking goes on, and it catches up by itself once this is mended", "dir", m.dir, "behind", m.status().Behind, "error", err)
	default:
		m.log.Info("the mirror has caught up", "dir", m.dir, "block", m.status().Block)
	}
}

func (m *mirroring) status() api.MirrorStatus {
	m.mu.Lock()
	defer m.mu.Unlock()
	s := api.MirrorStatus{Dir: m.dir, Block: m.block, Error: m.error}
	if head := m.book.Head().Block; head > s.Block {
		s.Behind = head - s.Block
	}
	return s
}

// stop lets the mirror have the last blocks, for a while. It comes when nothing
// is booked any more, and before the book is closed.
func (m *mirroring) stop() {
	if m.cancel == nil {
		return
	}
	defer m.cancel()
	close(m.stopping)
	time.AfterFunc(m.last, m.cancel)
	select {
	case <-m.done:
	case <-time.After(m.last + m.last/4): // it hangs in its disk
	}
	if s := m.status(); s.Behind > 0 {
		m.log.Warn("stopped with a mirror that is behind: it catches up after the next start", "dir", s.Dir, "block", s.Block, "behind", s.Behind, "error", s.Error)
	}
}

func printMirror(w writer, s *api.MirrorStatus, p paint) {
	switch {
	case s == nil:
	case s.Error != "":
		fmt.Fprintln(w, p.bad(fmt.Sprintf("mirror %s: block %d, %d behind: %s", s.Dir, s.Block, s.Behind, s.Error)))
	default:
		fmt.Fprintf(w, "mirror %s: block %d, %d behind\n", s.Dir, s.Block, s.Behind)
	}
}
