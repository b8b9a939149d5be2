package main

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/mod/sumdb/note"

	"tollbook/domain"
	"tollbook/eventstore"
	"tollbook/eventstore/sqlite"
)

// restoreCmd puts a backup, or any other copy, in the place of a directory's
// book. Until all of the backup is checked nothing of the directory changes, and
// what was there is kept beside it in replaced-TIME. The streams of the embedded
// NATS stay: what is in them was not booked yet.
type restoreCmd struct {
	Data       string `required:"" type:"path" placeholder:"DIR" help:"Data directory; made if missing. No engine may run on it."`
	From       string `required:"" type:"path" placeholder:"DIR|FILE.tar" help:"A backup, a mirror, or another data directory."`
	Anchor     string `type:"existingfile" placeholder:"FILE" help:"The backup must reach this anchor, saved elsewhere, too: one of 'tollbook anchor', or a copy of a directory's."`
	Key        string `placeholder:"FILE|KEY" help:"Public key of whoever signed the anchor; without it, the directory's."`
	AcceptLoss bool   `help:"Restore even where the directory's book went further, or was another one."`
	format
}

// A restoreReport is what restore prints.
type restoreReport struct {
	copyReport
	Replaced string `json:"replaced,omitzero"` // where the old files are
	Warning  string `json:"warning,omitzero"`  // what the directory had and the backup has not
}

func (c *restoreCmd) Run(ctx context.Context, std Streams) error {
	report, err := c.restore(ctx, std, clock())
	if err != nil {
		return checkFailed(err)
	}
	return c.print(std, report, func(w writer) {
		fmt.Fprintf(w, "The book of %s is restored from %s: %v; every block and event was checked.\nhead %s\n", c.Data, c.From, report.copyReport, report.Head)
		if report.Replaced != "" {
			fmt.Fprintf(w, "What was there before is in %s.\n", report.Replaced)
		}
		if report.Warning != "" {
			fmt.Fprintln(w, newPaint(std.Out).warn(report.Warning))
		}
	})
}

func (c *restoreCmd) restore(ctx context.Context, std Streams, now domain.Instant) (report restoreReport, err error) {
	p, report, err := c.prepare(ctx, std, now)
	if p == nil {
		return report, err
	}
	defer func() { err = errors.Join(err, p.lock.Unlock()) }()
	for _, step := range p.steps() {
		if err := step.do(); err != nil {
			return report, fmt.Errorf("%s: %w; nothing is lost: mend that, and run restore again", step.name, err)
		}
	}
	if kept := filepath.Join(p.dir, p.kept); exists(kept) {
		report.Replaced = kept
	}
	return report, nil
}

// A replacement is a checked copy that is about to become the book of a
// directory, which it has locked.
type replacement struct {
	dir, staged string
	kept        string   // the directory in dir that what was there before goes to
	old         []string // what was: the names of files
	lock        interface{ Unlock() error }
}

// prepare copies the backup into the directory's restore.new and checks all of
// it. On an error, and then without a replacement, the directory is as it was.
func (c *restoreCmd) prepare(ctx context.Context, std Streams, now domain.Instant) (_ *replacement, report restoreReport, err error) {
	if resolved(c.From) == resolved(c.Data) {
		return nil, report, fmt.Errorf("--from and --data are the same directory, %s", c.Data)
	}
	p := &replacement{dir: c.Data, staged: filepath.Join(c.Data, "restore.new")}
	if apart(p.staged, "--from", c.From) != nil {
		return nil, report, fmt.Errorf("--from %s is what an earlier restore left half done: name the backup itself", c.From)
	}
	if err := os.MkdirAll(c.Data, 0o750); err != nil {
		return nil, report, fmt.Errorf("--data: %w", err)
	}
	lock, err := eventstore.LockDir(c.Data)
	if err != nil {
		return nil, report, err
	}
	p.lock = lock
	defer func() {
		if err != nil {
			err = errors.Join(err, os.RemoveAll(p.staged), lock.Unlock())
		}
	}()
	err = errors.Join(os.RemoveAll(p.staged), os.Mkdir(p.staged, 0o750))
	if err != nil {
		return nil, report, err
	}
	mirror, err := c.fill(ctx, std, p.staged)
	if err != nil {
		return nil, report, fmt.Errorf("the backup %s can't be used: %w", c.From, err)
	}
	report.copyReport = reportOf(mirror, c.Data)
	report.Copied = report.Blocks
	report.Warning, err = c.compare(ctx, mirror)
	if err = errors.Join(err, mirror.Close()); err != nil {
		return nil, report, err
	}
	if err := folded(p.staged); err != nil {
		return nil, report, err
	}
	if err = errors.Join(p.keepIn(now), ctx.Err()); err != nil {
		return nil, report, err
	}
	return p, report, nil
}

// fill makes a copy of the backup, every block and event of which is checked.
func (c *restoreCmd) fill(ctx context.Context, std Streams, staged string) (_ *eventstore.Mirror, err error) {
	from := c.From
	info, err := os.Stat(from)
	if err != nil {
		return nil, err
	}
	if !info.IsDir() {
		from = filepath.Join(staged, "unpacked")
		if err := unpack(c.From, info.Size(), from); err != nil {
			return nil, err
		}
		defer func() { err = errors.Join(err, os.RemoveAll(from)) }()
	}
	walk, closeLog, err := openCopy(from, "")
	if err != nil {
		return nil, err
	}
	defer closeLog()
	end, err := walk.Log.Head(ctx)
	if err != nil {
		return nil, err
	}
	mirror, err := eventstore.OpenMirror(ctx, staged, openLog)
	if err != nil {
		return nil, err
	}
	bar := newProgress(std, "restoring", int64(walk.Anchor.Events), "events")
	err = mirror.CatchUp(ctx, eventstore.Source{Read: walk.Log.Read, End: end, Anchor: walk.Anchor, Leaves: true},
		func(head eventstore.Head) { bar.set(head.Events) })
	bar.finish()
	if err == nil {
		err = mergeKeys(eventstore.PublicKeyPath(from), eventstore.PublicKeyPath(staged))
	}
	if err != nil {
		return nil, errors.Join(err, mirror.Close())
	}
	return mirror, nil
}

// unpack writes the files of a copy that a tar has into a new directory.
func unpack(path string, size int64, dir string) (err error) {
	in, err := os.Open(path)
	if err != nil {
		return err
	}
	defer func() { _ = in.Close() }()
	if err := os.Mkdir(dir, 0o750); err != nil {
		return err
	}
	archive := tar.NewReader(in)
	for {
		header, err := archive.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return notWhole(err)
		}
		if err := unpackFile(archive, header, size, dir); err != nil {
			return err
		}
	}
	for _, file := range copyFiles {
		if _, err := os.Stat(filepath.Join(dir, file.name)); err != nil && file.need {
			return fmt.Errorf("%w: it has no %s: it is no backup, or was cut", errCheck, file.name)
		}
	}
	return nil
}

func unpackFile(archive *tar.Reader, header *tar.Header, most int64, dir string) (err error) {
	known := false
	for _, file := range copyFiles {
		if header.Name == file.name {
			known = true
			if file.most > 0 {
				most = file.most
			}
		}
	}
	switch {
	case !known || header.Typeflag != tar.TypeReg:
		return fmt.Errorf("%w: it has an entry %q, which no backup has", errCheck, header.Name)
	case header.Size > most: // a hole can be longer than the file it is in
		return fmt.Errorf("%w: its %s has %d bytes, more than %d", errCheck, header.Name, header.Size, most)
	}
	out, err := os.OpenFile(filepath.Join(dir, header.Name), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("%w: it has %s twice", errCheck, header.Name)
	}
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, out.Close()) }()
	if _, err := io.Copy(out, archive); err != nil {
		return fmt.Errorf("%s: %w", header.Name, notWhole(err))
	}
	return nil
}

// notWhole is an error of reading a tar or of the disk.
func notWhole(err error) error {
	if errors.Is(err, tar.ErrHeader) || errors.Is(err, io.ErrUnexpectedEOF) {
		return fmt.Errorf("%w: it is no tar, or was cut: %w", errCheck, err)
	}
	return err
}

// compare holds the checked copy against the saved anchor, if there is one, and
// against what the directory has. The warning is of what gets lost.
func (c *restoreCmd) compare(ctx context.Context, mirror *eventstore.Mirror) (warning string, err error) {
	if c.Anchor != "" {
		saved, err := c.savedHead()
		if err == nil {
			err = mirror.Holds(ctx, eventstore.Anchor{Head: saved})
		}
		if err != nil {
			return "", fmt.Errorf("the backup %s against --anchor %s: %w", c.From, c.Anchor, err)
		}
	}
	warning = c.lost(ctx, mirror)
	if warning != "" && !c.AcceptLoss {
		return "", fmt.Errorf("%w: %s; nothing was changed; restore a copy that has them, such as a mirror, or give --accept-loss (what is there now is kept)", errCheck, warning)
	}
	return warning, nil
}

// savedHead is that of the anchor that was saved elsewhere, signed or not.
func (c *restoreCmd) savedHead() (eventstore.Head, error) {
	signed, err := savedAnchor(c.Anchor, c.Key, c.Data)
	switch {
	case err != nil:
		return eventstore.Head{}, err
	case signed != nil:
		return signed.Head, nil
	}
	plain, err := eventstore.ReadAnchor(c.Anchor)
	if err != nil {
		return eventstore.Head{}, err
	}
	return plain.Head, nil
}

// lost says what the directory's anchor or its log, as far as they can be read,
// have and the copy has not; "" where that is nothing.
func (c *restoreCmd) lost(ctx context.Context, mirror *eventstore.Mirror) string {
	var old eventstore.Head
	known := !exists(eventstore.AnchorPath(c.Data)) && !exists(eventstore.LogPath(c.Data))
	if anchor, err := eventstore.ReadAnchor(eventstore.AnchorPath(c.Data)); err == nil {
		old, known = anchor.Head, true
	}
	to := mirror.Head()
	another := ""
	differs := func(at eventstore.Head) {
		if at.Block <= to.Block && errors.Is(mirror.Holds(ctx, eventstore.Anchor{Head: at}), eventstore.ErrCorrupt) {
			another = fmt.Sprintf("block %d of the backup is not that of the book that %s has: they are different books", at.Block, c.Data)
		}
	}
	differs(old)
	// Damage is what a restore is for: of such a log the anchor alone counts.
	if log, err := sqlite.OpenReadOnly(eventstore.LogPath(c.Data)); err == nil && eventstore.CheckRestored(c.Data) == nil {
		end, _ := log.Head(ctx)
		if head, ok, err := eventstore.HeadAt(ctx, log.Read, end); ok && err == nil {
			known = true
			if head.Block > old.Block {
				old = head
			}
		}
		if head, ok, err := eventstore.HeadAt(ctx, log.Read, min(end, to.Block)); ok && err == nil {
			differs(head)
		}
		_ = log.Close()
	}
	switch {
	case !known:
		return fmt.Sprintf("neither the anchor nor the log of %s can be read, so nobody knows how much further its book went than the backup (position %d)", c.Data, to.Events)
	case another != "":
		return fmt.Sprintf("%s, and the backup has not the %d events of that one", another, old.Events)
	case old.Block > to.Block:
		return fmt.Sprintf("the book of %s went to position %d (block %d), the backup ends at %d (block %d): it lacks the last %d events",
			c.Data, old.Events, old.Block, to.Events, to.Block, old.Events-to.Events)
	}
	return ""
}

// oldFiles are those of a book, in the order in which they are moved away; the
// anchor, which is copied, apart.
var oldFiles = []string{"book.db-wal", "book.db-shm", "book.db"}

// keepIn finds out which files are old, and gives the directory they go to a
// name. Where a restore was begun and not ended, that has done so.
func (p *replacement) keepIn(now domain.Instant) error {
	mark := eventstore.RestoringPath(p.dir)
	begun, err := os.ReadFile(mark)
	if fields := strings.Fields(string(begun)); err == nil {
		if len(fields) == 0 || !strings.HasPrefix(fields[0], "replaced-") || fields[0] != filepath.Base(fields[0]) {
			return fmt.Errorf("%s does not say where the old files went: move them to a directory of your own, and remove it", mark)
		}
		p.kept, p.old = fields[0], fields[1:]
		return nil
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	base := "replaced-" + now.Time().Format("20060102T150405Z")
	p.kept = base
	for n := 2; exists(filepath.Join(p.dir, p.kept)); n++ {
		p.kept = fmt.Sprintf("%s-%d", base, n)
	}
	for _, name := range append(slices.Clone(oldFiles), anchorName) {
		if exists(filepath.Join(p.dir, name)) {
			p.old = append(p.old, name)
		}
	}
	return nil
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}

// mergeKeys adds the public keys of a file to those of another, of which the
// first belongs to the private key beside it. Either may be missing, and what is
// no key is left out.
func mergeKeys(from, to string) error {
	theirs, err := os.ReadFile(from)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	ours, err2 := os.ReadFile(to)
	if errors.Is(err2, fs.ErrNotExist) {
		err2 = nil
	}
	if err := errors.Join(err, err2); err != nil {
		return err
	}
	keys := strings.Fields(string(ours))
	for _, key := range strings.Fields(string(theirs)) {
		if _, err := note.NewVerifier(key); err == nil && !slices.Contains(keys, key) {
			keys = append(keys, key)
		}
	}
	text := strings.Join(keys, "\n") + "\n"
	for len(text) > eventstore.MaxKeyBytes {
		keys = keys[:len(keys)-1]
		text = strings.Join(keys, "\n") + "\n"
	}
	return writeDurably(to, strings.NewReader(text))
}

// A step is one change of the directory.
type step struct {
	name string
	do   func() error
}

// steps replace the book. A crash before the first leaves the directory as it
// was, with a restore.new that the next restore removes. From then on until the
// last but one the directory says that a restore was begun, and nobody opens it;
// all steps can be done again after any of them, and keep what is old where it
// is kept already.
func (p *replacement) steps() []step {
	in := func(name string) string { return filepath.Join(p.dir, name) }
	staged := func(name string) string { return filepath.Join(p.staged, name) }
	kept := func(name string) string { return filepath.Join(p.dir, p.kept, name) }
	// What is kept already was moved before a crash, and what has its name now is the copy.
	toKeep := func(name string) bool { return slices.Contains(p.old, name) && !exists(kept(name)) }
	key := filepath.Base(eventstore.PublicKeyPath(""))
	steps := []step{
		{"marking the directory", func() error {
			return writeDurably(eventstore.RestoringPath(p.dir), strings.NewReader(strings.Join(append([]string{p.kept}, p.old...), " ")+"\n"))
		}},
		{"keeping the anchor", func() error {
			if err := os.MkdirAll(in(p.kept), 0o750); err != nil || !toKeep(anchorName) {
				return err
			}
			return copyFile(in(anchorName), kept(anchorName))
		}},
	}
	for _, name := range oldFiles {
		steps = append(steps, step{"keeping " + name, func() error {
			if !toKeep(name) {
				return nil
			}
			return errors.Join(os.Rename(in(name), kept(name)), syncDir(in(p.kept)), syncDir(p.dir))
		}})
	}
	return append(steps,
		step{"putting the book in its place", func() error {
			return errors.Join(os.Rename(staged("book.db"), in("book.db")), syncDir(p.dir))
		}},
		step{"adding the public keys", func() error {
			return mergeKeys(staged(key), in(key))
		}},
		step{"putting the anchor in its place", func() error {
			return errors.Join(os.Rename(staged(anchorName), in(anchorName)), syncDir(p.dir))
		}},
		step{"ending", func() error {
			return errors.Join(os.Remove(eventstore.RestoringPath(p.dir)), syncDir(p.dir))
		}},
		step{"removing restore.new", func() error {
			_ = os.Remove(in(p.kept)) // which only succeeds if there was nothing to keep
			return os.RemoveAll(p.staged)
		}},
	)
}
