package follow

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"
)

const (
	manyDone     = 10_000 // files left in a folder, from which on it is said what helps
	filesAtOnce  = 1024   // taken from a folder in one turn
	maxSameNames = 10_000 // of files moved into one folder
)

// A folder has files that come whole, and are read once.
type folder struct {
	c       *Config
	dir     string
	seen    map[string]sighting // by name
	done    map[string]bool     // by doneName
	refused map[string]bool     // by doneName: can't be cut, and are not tried again
	waiting bool                // a file is not settled yet
	dirty   bool
	said    string
	many    bool // it was said that there are many
}

// A sighting is how a file was when it was looked at, and since when.
type sighting struct {
	name  string // of this very content, see doneName
	since time.Time
}

// doneName stands for a file as it is: one that changes is another one.
func doneName(path string, info os.FileInfo) string {
	_, inode, _ := identity(info)
	sum := sha256.Sum256(fmt.Appendf(nil, "%s\x00%d %d %d", path, inode, info.Size(), info.ModTime().UnixNano()))
	return base64.RawURLEncoding.EncodeToString(sum[:12])
}

func newFolder(c *Config, dir string, done []string) *folder {
	d := &folder{c: c, dir: dir, seen: map[string]sighting{}, done: map[string]bool{}, refused: map[string]bool{}}
	for _, name := range done {
		d.done[name] = true
	}
	return d
}

// names are the files of a directory that match the patterns, with what they are.
// Links count as what they lead to.
func (c *Config) names(dir string) (map[string]os.FileInfo, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	found := map[string]os.FileInfo{}
	for _, e := range entries {
		if !c.matches(e.Name()) {
			continue
		}
		path := filepath.Join(dir, e.Name())
		info, err := os.Stat(path)
		if err == nil && info.Mode().IsRegular() && path != c.State && path != c.State+".new" && path != c.State+".lock" {
			found[e.Name()] = info
		}
	}
	return found, nil
}

func (c *Config) matches(name string) bool {
	if len(c.Patterns) == 0 {
		return name[0] != '.' && !slices.Contains([]string{".tmp", ".part", ".new", ".swp", ".filepart"}, filepath.Ext(name))
	}
	return slices.ContainsFunc(c.Patterns, func(pattern string) bool {
		ok, _ := filepath.Match(pattern, name) // checked when the follower was made
		return ok
	})
}

// poll returns the files that have settled, oldest first.
func (d *folder) poll(now time.Time) ([]step, error) {
	found, err := d.c.names(d.dir)
	if err != nil {
		if text := err.Error(); text != d.said {
			d.said = text
			d.c.Log.Warn("waiting for the folder", "folder", d.dir, "error", err)
		}
		return nil, nil
	}
	if d.said != "" {
		d.said = ""
		d.c.Log.Info("the folder is there", "folder", d.dir)
	}
	type settled struct {
		path, name string
		info       os.FileInfo
	}
	var ready []settled
	seen, present := make(map[string]sighting, len(found)), make(map[string]bool, len(found))
	d.waiting = false
	for base, info := range found {
		path := filepath.Join(d.dir, base)
		name := doneName(path, info)
		present[name] = true
		if d.done[name] || d.refused[name] || info.Size() == 0 {
			continue
		}
		s := d.seen[base]
		if s.name != name {
			s = sighting{name, now}
		}
		seen[base] = s
		if now.Sub(s.since) >= d.c.Settle {
			ready = append(ready, settled{path, name, info})
		} else {
			d.waiting = true
		}
	}
	d.seen = seen
	for name := range d.done {
		if !present[name] {
			delete(d.done, name)
			d.dirty = true
		}
	}
	if err := d.count(); err != nil {
		return nil, err
	}
	slices.SortFunc(ready, func(a, b settled) int {
		return cmp.Or(a.info.ModTime().Compare(b.info.ModTime()), cmp.Compare(a.path, b.path))
	})
	var steps []step
	for _, one := range ready[:min(len(ready), filesAtOnce)] {
		steps = append(steps, d.step(one.path, one.name))
	}
	return steps, nil
}

func (d *folder) count() error {
	if len(d.done) > maxDone {
		return fmt.Errorf("%s has more than %d files that are done: move them away, or give --move-to", d.dir, maxDone)
	}
	if len(d.done) > manyDone && !d.many {
		d.many = true
		d.c.Log.Warn("many files that are done are left in the folder, and each is looked at again every time: give --move-to, or remove them", "folder", d.dir, "files", len(d.done))
	}
	return nil
}

// errChanged is returned when a file was written to while it was read.
var errChanged = errors.New("the file has changed meanwhile")

// step sends all of a file. That it can't be cut is no reason to stop for.
func (d *folder) step(path, name string) step {
	var wrong error
	return step{
		send: func(ctx context.Context) error {
			var sending error
			wrong = d.read(path, name, func(payload []byte) error {
				sending = d.c.Send(ctx, payload)
				return sending
			})
			return sending
		},
		commit: func() {
			switch {
			case wrong == nil:
				d.finish(path, name)
			case !errors.Is(wrong, errChanged):
				d.refused[name] = true
				d.c.LeftOut++
				d.c.Log.Error("the file can't be read; it is left where it is, and not tried again until it changes or follow is started anew", "file", path, "error", wrong)
			}
		},
	}
}

func (d *folder) read(path, name string, send func([]byte) error) error {
	f, info, err := openRegular(path)
	if errors.Is(err, fs.ErrNotExist) {
		return errChanged
	}
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	if doneName(path, info) != name {
		return errChanged
	}
	err = d.c.Chunks(io.LimitReader(f, info.Size()), send)
	if info, after := f.Stat(); after != nil || doneName(path, info) != name {
		return errChanged // what was sent of it will be repeats
	}
	return err
}

// finish moves a file away, or remembers it.
func (d *folder) finish(path, name string) {
	d.dirty = true
	if d.c.MoveTo == "" {
		d.done[name] = true
		return
	}
	to := filepath.Join(d.c.MoveTo, filepath.Base(path))
	for n := 1; n < maxSameNames; n++ {
		if _, err := os.Lstat(to); errors.Is(err, os.ErrNotExist) {
			break
		}
		to = filepath.Join(d.c.MoveTo, fmt.Sprintf("%s.%d", filepath.Base(path), n))
	}
	if err := os.Rename(path, to); err != nil {
		d.done[name] = true
		d.c.Log.Warn("the file is booked but could not be moved", "file", path, "error", err)
	}
}
