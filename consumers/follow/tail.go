package follow

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"tollbook/consumers/cdr"
)

// Limits of what is kept of one path's rotated files.
const (
	maxOld      = 8      // read to their end and still open, as their writer may not have noticed
	maxKnown    = 16     // read to their end and closed
	maxSiblings = 10_000 // names that are looked at for a file
)

// A tail follows one path: the file that has the name, those that had it, and those
// that had it while nobody looked.
type tail struct {
	c       *Config
	path    string
	current *file // nil: the path has had no file yet
	old     []*file
	lost    []lost     // are looked for
	known   []position // were read to their end
	places  []string   // paths whose neighbours may be rotated files: this one, and what it linked to

	looking  time.Time       // until then neighbours that were never read are taken
	since    time.Time       // if they were changed since
	rejected map[string]bool // neighbours that are none of those
	followed func(path string) bool
	again    bool   // known files may have grown
	dirty    bool   // the positions have changed
	said     string // the last trouble
}

// A lost file was not read to its end, and is not where it was.
type lost struct {
	position
	since time.Time
}

// A step is something to be sent, and what it means that it was answered.
type step struct {
	send   func(ctx context.Context) error
	commit func()
}

// newTail goes on where the positions of the path say.
func newTail(c *Config, path string, positions []position, followed func(string) bool, now time.Time) *tail {
	t := &tail{c: c, path: path, followed: followed, places: []string{path}, rejected: map[string]bool{}}
	o, err := openFile(path, path, now)
	at := -1
	for i := range positions {
		if err == nil && o.extends(&positions[i]) && (at < 0 || positions[i].Offset > positions[at].Offset) {
			at = i
		}
	}
	for i, p := range positions {
		switch {
		case i == at && o.resume(&p):
		case p.Done:
			t.known = append(t.known, p)
			t.again = true
		default:
			t.lose(p, now)
		}
		if !p.Rotated { // nobody looked since
			t.look(p.Changed, now)
		}
		if !p.Since.IsZero() { // and what was looked for then may not have been found
			t.look(p.Since, now)
		}
	}
	if err == nil {
		if o.Offset == 0 {
			o.Header = t.header()
		}
		t.take(o)
	}
	return t
}

// take makes a file the one that has the name.
func (t *tail) take(o *file) {
	t.current, t.dirty = o, true
	if real, err := filepath.EvalSymlinks(t.path); err == nil && !slices.Contains(t.places, real) {
		t.places = append(t.places[:min(len(t.places), 8)], real)
	}
}

// header is that of the latest file of a table.
func (t *tail) header() []byte {
	for _, o := range t.open() {
		if o.Header != nil {
			return o.Header
		}
	}
	for _, l := range t.lost {
		if l.Header != nil {
			return l.Header
		}
	}
	for _, p := range slices.Backward(t.known) {
		if p.Header != nil {
			return p.Header
		}
	}
	return nil
}

func (t *tail) lose(p position, now time.Time) {
	p.Rotated = true
	t.lost, t.dirty = append(t.lost, lost{p, now}), true
	clear(t.rejected)
}

func (t *tail) look(since, now time.Time) {
	if t.looking.Before(now) || since.Before(t.since) {
		t.since = since
	}
	t.looking = now.Add(t.c.Search)
	clear(t.rejected)
}

// positions are the tail's part of the state.
func (t *tail) positions(now time.Time) []position {
	var all []position
	for _, o := range t.open() {
		all = append(all, o.position)
	}
	for _, l := range t.lost {
		all = append(all, l.position)
	}
	all = append(all, t.known...)
	for i := range all {
		if all[i].Since = (time.Time{}); now.Before(t.looking) {
			all[i].Since = t.since
		}
	}
	return all
}

func (t *tail) open() []*file {
	if t.current == nil {
		return t.old
	}
	return append([]*file{t.current}, t.old...)
}

// pending reports whether something is left to do that needs no new record.
func (t *tail) pending() bool {
	return len(t.lost) > 0 || t.again || slices.ContainsFunc(t.old, func(o *file) bool { return !o.Done })
}

// idle reports whether the path and its files are gone, and all was read.
func (t *tail) idle() bool { return t.current == nil && len(t.old) == 0 && len(t.lost) == 0 }

// poll looks at what has changed and returns what is to be sent.
func (t *tail) poll(now time.Time) (steps []step) {
	t.refresh(now)
	if len(t.lost) > 0 || t.again || now.Before(t.looking) {
		t.again = false
		t.search(now)
	}
	for _, o := range t.open() {
		s, err := t.step(o, now)
		switch {
		case errors.Is(err, errMoved):
			t.moved(o, now)
		case err != nil:
			t.trouble(err)
		case s != nil:
			steps = append(steps, *s)
		}
	}
	t.retire(now)
	return steps
}

// refresh notices that the name has another file.
func (t *tail) refresh(now time.Time) {
	info, err := os.Stat(t.path)
	if errors.Is(err, fs.ErrNotExist) {
		if t.current == nil {
			t.trouble(fmt.Errorf("%s is not there yet", t.path))
		} else if t.current.links == 0 { // and will not be again
			t.current.Rotated = true
			t.old, t.current = append(t.old, t.current), nil
		}
		return
	}
	if err == nil && t.is(t.current, info) {
		t.well()
		return
	}
	var o *file
	if err == nil {
		o, err = openFile(t.path, t.path, now)
	}
	if err != nil {
		t.trouble(err)
		return
	}
	t.well()
	if before := t.current; before != nil {
		if before.Device == o.Device && before.Inode == o.Inode {
			o.close() // it was exchanged and is back
			return
		}
		before.Rotated = true
		t.old = append(t.old, before)
		t.look(before.Changed, now)
	}
	for i, was := range t.old {
		if was.Device == o.Device && was.Inode == o.Inode && !was.static {
			o.close() // it has its name again
			t.old = slices.Delete(t.old, i, i+1)
			was.Rotated, was.Done = false, false
			t.take(was)
			return
		}
	}
	for i := range t.lost {
		if o.resume(&t.lost[i].position) {
			t.lost = slices.Delete(t.lost, i, i+1)
			t.take(o)
			return
		}
	}
	o.Header = t.header()
	t.take(o)
}

func (t *tail) is(o *file, info os.FileInfo) bool {
	device, inode, _ := identity(info)
	return o != nil && o.Device == device && o.Inode == inode
}

// trouble says once what is in the way.
func (t *tail) trouble(err error) {
	if text := err.Error(); text != t.said {
		t.said = text
		t.c.Log.Warn("waiting for the file", "file", t.path, "error", err)
	}
}

func (t *tail) well() {
	if t.said != "" {
		t.c.Log.Info("the file is there", "file", t.path)
		t.said = ""
	}
}

// step reads the next piece of a file. What is no record is passed over at once.
func (t *tail) step(o *file, now time.Time) (*step, error) {
	most := t.c.MaxRecord - len(o.Header) - 1
	for limit := min(pieceBytes, most); ; {
		data, end, err := o.read(limit, now)
		if err != nil {
			return nil, err
		}
		t.dirty = o.note(t.c.Framing == cdr.Table) || t.dirty
		over := end && (o.static || o.Rotated && now.Sub(o.quiet) >= t.c.Settle) // its last line needs no end
		if done := over && len(data) == 0; done != o.Done {
			o.Done, t.dirty = done, true
		}
		if o.Inside && len(data) > 0 {
			n := bytes.IndexByte(data, '\n') + 1
			o.Inside = n == 0
			if n == 0 {
				n = len(data)
			}
			t.pass(o, data[:n])
			continue
		}
		p := t.c.cutter().next(data, o.Header, o.Begun, over)
		switch {
		case p.more && len(data) >= most:
			t.c.Log.Warn("a line is longer than can be sent and is left out", "file", o.name, "byte", o.Offset, "longest", most)
			t.c.LeftOut++
			o.Inside = true
			t.pass(o, data)
		case p.more && !end:
			limit = most
		case p.payload != nil:
			return &step{
				send: func(ctx context.Context) error { return t.c.Send(ctx, p.payload) },
				commit: func() {
					o.Begun, o.Header = p.begun, p.header
					t.pass(o, data[:p.size])
				},
			}, nil
		case p.size == 0:
			return nil, nil
		default:
			o.Begun, o.Header = p.begun, p.header
			t.pass(o, data[:p.size])
		}
	}
}

// pass moves behind what is answered, or is no record.
func (t *tail) pass(o *file, data []byte) {
	o.advance(data)
	t.dirty = true
}

// moved begins a file anew that does not have any more what was read, and looks for
// a copy of what it had.
func (t *tail) moved(o *file, now time.Time) {
	t.lose(o.position, now)
	t.look(o.Changed, now)
	fresh := &file{name: o.name, f: o.f, static: o.static, quiet: now, links: o.links}
	fresh.Path, fresh.Device, fresh.Inode, fresh.Rotated, fresh.Changed = o.Path, o.Device, o.Inode, o.Rotated, o.Changed
	fresh.Header = o.Header
	if o == t.current {
		t.current = fresh
		return
	}
	t.old[slices.Index(t.old, o)] = fresh
}

// retire closes what was read to its end and will not grow, and gives up what is
// not found.
func (t *tail) retire(now time.Time) {
	open := len(t.old)
	t.old = slices.DeleteFunc(t.old, func(o *file) bool {
		if !o.Done || !o.static && o.links > 0 && open <= maxOld {
			return false
		}
		open--
		o.close()
		if o.links > 0 {
			t.known = append(t.known, o.position)
		}
		t.dirty = true
		return true
	})
	t.known = t.known[max(0, len(t.known)-maxKnown):]
	t.lost = slices.DeleteFunc(t.lost, func(l lost) bool {
		if now.Sub(l.since) < t.c.Search {
			return false
		}
		next := "nothing is there now"
		if t.current != nil {
			next = "the file that is there now, last changed " + stamp(t.current.Changed)
		}
		t.c.Log.Warn("records may be missing: a file was rotated away, cut or deleted before it was known to be read to its end, and is not found beside it; publish what you have of it, repeats do no harm",
			"file", t.path, "from byte", l.Offset, "last changed", stamp(l.Changed), "until", next)
		t.dirty = true
		return true
	})
}

func stamp(at time.Time) string { return at.UTC().Format(time.RFC3339) }

// search looks at the neighbours for files that were lost, and for those that had
// the name while nobody looked.
func (t *tail) search(now time.Time) {
	for _, o := range t.old { // a copy of one that was lost may be read already
		t.lost = slices.DeleteFunc(t.lost, func(l lost) bool {
			if o.Offset < l.Offset {
				return o.resume(&l.position)
			}
			return o.extends(&l.position)
		})
	}
	for _, place := range t.places {
		dir, err := os.Open(filepath.Dir(place))
		if err != nil {
			continue // the path's own trouble says so
		}
		names, _ := dir.Readdirnames(maxSiblings)
		_ = dir.Close()
		slices.Sort(names)
		for _, name := range names {
			t.consider(filepath.Join(filepath.Dir(place), name), rotatedName(filepath.Base(place), name), now)
		}
	}
}

func (t *tail) consider(name string, sibling bool, now time.Time) {
	info, err := os.Lstat(name)
	if err != nil || !info.Mode().IsRegular() || name == t.path || t.followed(name) {
		return
	}
	device, inode, _ := identity(info)
	for _, o := range t.open() {
		if o.Device == device && o.Inode == inode {
			return
		}
	}
	same := slices.ContainsFunc(t.lost, func(l lost) bool { return l.Device == device && l.Inode == inode })
	key := fmt.Sprint(device, " ", inode, " ", info.Size(), " ", info.ModTime().UnixNano())
	if !sibling && !same || t.rejected[key] || len(t.rejected) > maxSiblings {
		return
	}
	o, err := openFile(t.path, name, now)
	if err != nil || !t.adopt(o, sibling && now.Before(t.looking) && !info.ModTime().Before(t.since)) {
		t.rejected[key] = true // a compressed file that is still being written gets another key
		if err == nil {
			o.close()
		}
	}
}

// adopt reads on in a file that is a lost one, or one that is not known at all.
func (t *tail) adopt(o *file, unknown bool) bool {
	o.Rotated = true
	t.dirty = true
	at := -1
	for i := range t.lost {
		if o.extends(&t.lost[i].position) && (at < 0 || t.lost[i].Offset > t.lost[at].Offset) {
			at = i
		}
	}
	if at >= 0 {
		if !o.resume(&t.lost[at].position) {
			return false
		}
		t.lost = slices.Delete(t.lost, at, at+1)
		t.old = append(t.old, o)
		t.c.Log.Info("found the file that was rotated", "file", t.path, "as", o.name, "byte", o.Offset)
		return true
	}
	for _, other := range t.open() {
		if o.extends(&other.position) { // a copy of what is being read
			return false
		}
	}
	for i := range t.known {
		if p := &t.known[i]; o.extends(p) {
			if o.at(p.Offset, 1) == nil || !o.resume(p) {
				return false
			}
			t.known = slices.Delete(t.known, i, i+1)
			t.old = append(t.old, o)
			return true
		}
	}
	if !unknown {
		return false
	}
	o.Header = t.header()
	t.old = append(t.old, o)
	for i := range t.lost { // of which nothing was read: this is what it was, or its copy
		if !t.lost[i].Telling {
			t.lost = slices.Delete(t.lost, i, i+1)
			break
		}
	}
	t.c.Log.Info("found a file that was rotated before it was seen", "file", t.path, "as", o.name)
	return true
}

// rotatedName reports whether a name is one that rotating base gives: base.1,
// base-20261122.gz, or with base x.csv, x-20261122.csv.
func rotatedName(base, name string) bool {
	separated := func(rest string) bool { return rest != "" && strings.ContainsRune(".-_", rune(rest[0])) }
	if rest, ok := strings.CutPrefix(name, base); ok && separated(rest) {
		return true
	}
	extension := filepath.Ext(base)
	rest, ok := strings.CutPrefix(name, strings.TrimSuffix(base, extension))
	rest = strings.TrimSuffix(rest, ".gz")
	return ok && extension != "" && separated(rest) && strings.HasSuffix(rest, extension) && rest != extension
}
