package follow

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/fsnotify/fsnotify"
	"github.com/gofrs/flock"
	"golang.org/x/sync/errgroup"

	"tollbook/consumers/cdr"
)

// Limits of a follower.
const (
	maxTails    = 1000 // files that grow; each is held open
	sendsAtOnce = 8
	// gather is how long a change is left alone, so that those after it are read with it.
	gather = 20 * time.Millisecond
)

// A Config says what is followed, and where its records go.
type Config struct {
	Of      string // whose records, in words: a state file is of one
	Framing cdr.Framing
	Split   Splitter
	// Chunks cuts a whole file into payloads; an error of send ends it.
	Chunks func(in io.Reader, send func(payload []byte) error) error
	// Send returns nil once what became of each record of the payload is on disk.
	// It is called by several goroutines at once and tries again by itself: an
	// error of it ends the follower.
	Send      func(ctx context.Context, payload []byte) error
	MaxRecord int // bytes of the longest payload

	Files    []string // that grow
	Folders  []string
	Patterns []string // of names in folders; none: all but hidden and temporary ones
	Grow     bool     // the files in folders grow, each like one of Files
	MoveTo   string   // a directory for the files of folders that are done; "": they stay
	State    string   // its file

	Settle time.Duration // how long what seems whole must stay as it is
	Poll   time.Duration // how often is looked, whether or not a change is announced
	Search time.Duration // how long a file that was rotated away is looked for
	Once   bool          // to the end, and no further

	Clock func() time.Time
	Log   *slog.Logger

	LeftOut int // counts lines and files that could not be sent
}

func (c *Config) cutter() cutter { return cutter{c.Framing, c.Split} }

// A Follower has its state file to itself. It is used by one goroutine.
type Follower struct {
	c       *Config
	lock    *flock.Flock
	rest    []position // of paths that are not followed this time
	tails   map[string]*tail
	folders []*folder
	unsaved bool
	said    string // why the state can't be saved
}

// Open reads the state of a run before, and checks the configuration.
func Open(c *Config) (*Follower, error) {
	if err := c.check(); err != nil {
		return nil, err
	}
	lock, err := lockState(c.State)
	if err != nil {
		return nil, err
	}
	f := &Follower{c: c, lock: lock, tails: map[string]*tail{}}
	s, err := readState(c.State, c.Of)
	if err == nil {
		err = writeState(c.State, s) // better now than when records are booked
	}
	if err != nil {
		return nil, errors.Join(err, lock.Unlock())
	}
	byPath := map[string][]position{}
	for _, p := range s.Positions {
		byPath[p.Path] = append(byPath[p.Path], p)
	}
	for _, path := range c.Files {
		f.follow(path, byPath[path])
		delete(byPath, path)
	}
	for path, positions := range byPath {
		if c.Grow && slices.Contains(c.Folders, filepath.Dir(path)) {
			f.follow(path, positions)
			continue
		}
		f.rest = append(f.rest, positions...)
	}
	if !c.Grow {
		for _, dir := range c.Folders {
			f.folders = append(f.folders, newFolder(c, dir, s.Done))
		}
	}
	return f, nil
}

// lockState takes a state for this process, however that ends.
func lockState(path string) (*flock.Flock, error) {
	lock := flock.New(path + ".lock")
	ok, err := lock.TryLock()
	if err == nil && !ok {
		holder := "another process"
		if pid, _ := os.ReadFile(path + ".lock"); len(pid) > 0 {
			holder = "process " + strings.TrimSpace(string(pid))
		}
		return nil, fmt.Errorf("%s has the state %s: stop it, or give another --state", holder, path)
	}
	if err == nil {
		err = os.WriteFile(path+".lock", []byte(strconv.Itoa(os.Getpid())+"\n"), 0o600)
	}
	if err != nil {
		return nil, fmt.Errorf("lock of the state: %w", err)
	}
	return lock, nil
}

func (c *Config) check() error {
	for _, pattern := range c.Patterns {
		if _, err := filepath.Match(pattern, "x"); err != nil || pattern == "" || strings.Contains(pattern, "/") {
			return fmt.Errorf("--pattern %q: must be a name with * and ?, such as *.cdr.json", pattern)
		}
	}
	grows := len(c.Files) > 0 || c.Grow
	switch {
	case grows && c.Framing == cdr.Whole, grows && c.Framing == cdr.Pages:
		return errors.New("a record of this format is a whole file: follow its folder, without --grow")
	case c.Grow && len(c.Patterns) == 0:
		return errors.New("--grow needs --pattern, such as '*.csv': a rotated file in the folder is not one that grows")
	case len(c.Files) > maxTails:
		return fmt.Errorf("%d files: at most %d are followed at once", len(c.Files), maxTails)
	}
	for _, path := range c.Files {
		if strings.HasSuffix(path, ".gz") {
			return fmt.Errorf("%s is compressed and does not grow: unpack it and publish it", path)
		}
	}
	if c.MoveTo == "" {
		return nil
	}
	if c.Grow || len(c.Folders) == 0 {
		return errors.New("--move-to goes with folders whose files come whole")
	}
	if slices.Contains(c.Folders, c.MoveTo) {
		return fmt.Errorf("--move-to %s is a folder that is followed", c.MoveTo)
	}
	info, err := os.Stat(c.MoveTo)
	if err == nil && !info.IsDir() {
		err = fmt.Errorf("%s is not a folder", c.MoveTo)
	}
	if err != nil {
		return fmt.Errorf("--move-to: %w", err)
	}
	to, _, _ := identity(info)
	for _, dir := range c.Folders {
		if info, err := os.Stat(dir); err == nil {
			if from, _, _ := identity(info); from != to {
				return fmt.Errorf("--move-to %s is on another file system than %s: a file can't be moved there in one step", c.MoveTo, dir)
			}
		}
	}
	return nil
}

func (f *Follower) follow(path string, positions []position) {
	f.tails[path] = newTail(f.c, path, positions, func(other string) bool { return f.tails[other] != nil || f.follows(other) }, f.c.Clock())
}

// follows reports whether a path is one of a folder of files that grow.
func (f *Follower) follows(path string) bool {
	return f.c.Grow && slices.Contains(f.c.Folders, filepath.Dir(path)) && f.c.matches(filepath.Base(path))
}

// Close leaves the state to the next one.
func (f *Follower) Close() error {
	for _, t := range f.tails {
		for _, o := range t.open() {
			o.close()
		}
	}
	return f.lock.Unlock()
}

// Run reads and sends until ctx ends, or with Once to the end of everything.
func (f *Follower) Run(ctx context.Context) error {
	wake, done := f.watch()
	defer done()
	for {
		steps, pending, err := f.poll()
		f.save() // how a file begins is known before it is read: it may be rotated while this is away
		if err == nil {
			err = f.send(ctx, steps)
		}
		f.save()
		switch {
		case ctx.Err() != nil:
			return f.unsavedError()
		case err != nil:
			return err
		case len(steps) > 0:
			continue // there may be more
		case f.c.Once && !pending:
			return f.unsavedError()
		}
		timer := time.NewTimer(f.c.Poll)
		select {
		case <-ctx.Done():
		case <-timer.C:
		case <-wake():
			select {
			case <-ctx.Done():
			case <-time.After(gather):
			}
		}
		timer.Stop()
	}
}

// poll collects what is to be sent; pending: something will be soon, even if no
// record comes.
func (f *Follower) poll() (steps []step, pending bool, err error) {
	now := f.c.Clock()
	if f.c.Grow {
		if err := f.discover(); err != nil {
			return nil, false, err
		}
	}
	for path, t := range f.tails {
		steps = append(steps, t.poll(now)...)
		pending = pending || t.pending()
		f.unsaved = f.unsaved || t.dirty
		t.dirty = false
		if t.idle() && !slices.Contains(f.c.Files, path) {
			f.unsaved = true
			delete(f.tails, path)
		}
	}
	for _, d := range f.folders {
		more, err := d.poll(now)
		if err != nil {
			return nil, false, err
		}
		steps = append(steps, more...)
		pending = pending || d.waiting
	}
	return steps, pending, nil
}

// discover begins with files that have come to a folder of files that grow.
func (f *Follower) discover() error {
	for _, dir := range f.c.Folders {
		found, err := f.c.names(dir)
		if err != nil {
			continue // each of its files says so, and a folder may come later
		}
		for name := range found {
			path := filepath.Join(dir, name)
			if f.tails[path] != nil {
				continue
			}
			if len(f.tails) >= maxTails {
				return fmt.Errorf("%s has more than %d files that grow: give a narrower --pattern, or move old ones away", dir, maxTails)
			}
			f.follow(path, nil)
		}
	}
	return nil
}

// send sends the steps, several at once, and notes those that were answered.
func (f *Follower) send(ctx context.Context, steps []step) error {
	var group errgroup.Group
	group.SetLimit(sendsAtOnce)
	answered := make([]bool, len(steps))
	for i, s := range steps {
		group.Go(func() error {
			if err := ctx.Err(); err != nil {
				return err
			}
			err := s.send(ctx)
			answered[i] = err == nil
			return err
		})
	}
	err := group.Wait()
	for i, s := range steps {
		if answered[i] {
			s.commit()
			f.unsaved = true
		}
	}
	return err
}

// save has the state on disk. That it can't is no reason to stop: a crash would
// only repeat more.
func (f *Follower) save() {
	for _, t := range f.tails {
		f.unsaved = f.unsaved || t.dirty
		t.dirty = false
	}
	for _, d := range f.folders {
		f.unsaved = f.unsaved || d.dirty
		d.dirty = false
	}
	if !f.unsaved {
		return
	}
	now, s := f.c.Clock(), state{Of: f.c.Of, Positions: slices.Clone(f.rest)}
	for _, t := range f.tails {
		s.Positions = append(s.Positions, t.positions(now)...)
	}
	for _, d := range f.folders {
		for name := range d.done {
			s.Done = append(s.Done, name)
		}
	}
	err := writeState(f.c.State, &s)
	f.unsaved = err != nil
	switch {
	case err == nil && f.said != "":
		f.said = ""
		f.c.Log.Info("the state is saved again")
	case err != nil && err.Error() != f.said:
		f.said = err.Error()
		f.c.Log.Error("the state can't be saved; reading goes on, and after a stop what was read since is sent again", "error", err)
	}
}

func (f *Follower) unsavedError() error {
	if f.unsaved {
		return fmt.Errorf("the state was not saved (%s): the next run sends again what this one sent since", f.said)
	}
	return nil
}

// watch returns what to wait for besides the time. On file systems of a network
// nothing is announced, and where nothing can be watched it is only slower.
func (f *Follower) watch() (wake func() <-chan struct{}, done func()) {
	w, err := fsnotify.NewWatcher()
	if err != nil {
		f.c.Log.Warn("changes are not announced; files are looked at from time to time", "every", f.c.Poll, "error", err)
		return func() <-chan struct{} { return nil }, func() {}
	}
	changed := make(chan struct{}, 1)
	go func() {
		for events, errs := w.Events, w.Errors; events != nil || errs != nil; {
			var ok bool
			select {
			case _, ok = <-events:
				if !ok {
					events = nil
				}
			case _, ok = <-errs: // too many at once: there was a change
				if !ok {
					errs = nil
				}
			}
			if ok {
				select {
				case changed <- struct{}{}:
				default:
				}
			}
		}
	}()
	return func() <-chan struct{} {
		for _, dir := range f.watched() {
			_ = w.Add(dir) // what is watched already stays; a folder may come again
		}
		return changed
	}, func() { _ = w.Close() }
}

func (f *Follower) watched() []string {
	dirs := slices.Clone(f.c.Folders)
	for _, t := range f.tails {
		for _, place := range t.places {
			dirs = append(dirs, filepath.Dir(place))
		}
	}
	slices.Sort(dirs)
	return slices.Compact(dirs)
}
