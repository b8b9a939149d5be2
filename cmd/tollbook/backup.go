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
	"strings"
	"time"

	"tollbook/eventstore"
)

// backupCmd copies the book of a directory, also while an engine runs on it: at
// least up to the anchor as it is now. Every block and event is checked on the
// way. A directory becomes a copy with which replay and verify work, and a
// second backup to it adds what has come since; a file is a tar of such a copy.
type backupCmd struct {
	Data    string `required:"" type:"existingdir" placeholder:"DIR" help:"Data directory."`
	To      string `required:"" type:"path" placeholder:"DIR|FILE.tar" help:"Directory, to which a later backup adds, or file."`
	Replace bool   `help:"Replace a file that exists."`
	format
}

// A copyReport is what backup and restore print of the copy that is there now.
type copyReport struct {
	Path     string `json:"path"`
	Blocks   uint64 `json:"blocks"`
	Position uint64 `json:"position"`
	Bytes    uint64 `json:"bytes"` // of all blocks
	Head     string `json:"head"`
	Copied   uint64 `json:"copied"` // blocks, this time
}

func (r copyReport) String() string {
	return fmt.Sprintf("%d blocks, %d events, %d bytes", r.Blocks, r.Position, r.Bytes)
}

func (c *backupCmd) Run(ctx context.Context, std Streams) error {
	if err := apart(c.Data, "--to", c.To); err != nil {
		return err
	}
	there, err := os.Stat(c.To)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("--to: %w", err)
	}
	var report copyReport
	if isFile := err == nil && !there.IsDir() || err != nil && strings.HasSuffix(c.To, ".tar"); isFile {
		if err == nil && !c.Replace {
			return fmt.Errorf("--to %s exists: name another file, or give --replace", c.To)
		}
		report, err = c.toFile(ctx, std)
	} else {
		report, err = c.toDir(ctx, std, c.To)
	}
	if err != nil {
		return checkFailed(err)
	}
	return c.print(std, report, func(w writer) {
		fmt.Fprintf(w, "The book is copied to %s: %v (%d blocks of them now); every block and event was checked on the way.\nhead %s\n",
			report.Path, report, report.Copied, report.Head)
	})
}

// toDir brings the copy in a directory up to date.
func (c *backupCmd) toDir(ctx context.Context, std Streams, to string) (report copyReport, err error) {
	walk, closeLog, err := openBook(ctx, c.Data, "") // reads the anchor before anything else
	if err != nil {
		return report, err
	}
	defer closeLog()
	end, err := walk.Log.Head(ctx)
	if err != nil {
		return report, err
	}
	if err := os.MkdirAll(to, 0o750); err != nil {
		return report, fmt.Errorf("--to: %w", err)
	}
	mirror, err := eventstore.OpenMirror(ctx, to, openLog)
	if err != nil {
		return report, err
	}
	before := mirror.Head().Block
	bar := newProgress(std, "copying", int64(walk.Anchor.Events), "events")
	source := eventstore.Source{Dir: c.Data, Read: walk.Log.Read, End: end, Anchor: walk.Anchor, Leaves: true}
	err = mirror.CatchUp(ctx, source, func(head eventstore.Head) { bar.set(head.Events) })
	bar.finish()
	report = reportOf(mirror, c.To)
	report.Copied = report.Blocks - before
	if err = errors.Join(err, mirror.Close()); err != nil {
		return report, err
	}
	return report, mergeKeys(eventstore.PublicKeyPath(c.Data), eventstore.PublicKeyPath(to))
}

func reportOf(m *eventstore.Mirror, path string) copyReport {
	head := m.Head()
	return copyReport{Path: path, Blocks: head.Block, Position: head.Events, Bytes: m.Bytes(), Head: head.String()}
}

// toFile makes a copy beside the file, puts it into a tar there, and gives that
// its name once it is on disk. A crash leaves a directory .NAME.*, of no use.
func (c *backupCmd) toFile(ctx context.Context, std Streams) (report copyReport, err error) {
	parent := filepath.Dir(c.To)
	temp, err := os.MkdirTemp(parent, "."+filepath.Base(c.To)+".*")
	if err != nil {
		return report, fmt.Errorf("--to: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(temp)) }()
	if report, err = c.toDir(ctx, std, temp); err != nil {
		return report, err
	}
	packed := filepath.Join(temp, "packed")
	if err := pack(temp, packed, clock().Time()); err != nil {
		return report, fmt.Errorf("--to %s: %w", c.To, err)
	}
	if _, err := os.Stat(c.To); err == nil && !c.Replace {
		return report, fmt.Errorf("--to %s has appeared meanwhile: name another file, or give --replace", c.To)
	}
	return report, errors.Join(os.Rename(packed, c.To), syncDir(parent))
}

// copyFiles are the files of a copy, in the order in which a tar has them, and
// how long each may be; 0: as long as the tar. The private key that is beside the
// public one is never copied.
var copyFiles = []struct {
	name string
	most int64
	need bool
}{
	{anchorName, maxAnchor, true},
	{filepath.Base(eventstore.PublicKeyPath("")), eventstore.MaxKeyBytes, false},
	{filepath.Base(eventstore.LogPath("")), 0, true},
}

var anchorName = filepath.Base(eventstore.AnchorPath(""))

// maxAnchor is the longest anchor file that a tar may have, in bytes.
const maxAnchor = 4096

// pack makes a tar of the copy in a directory that nobody else has, and has it on disk.
func pack(dir, path string, at time.Time) (err error) {
	out, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o640)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, out.Close()) }()
	if err := folded(dir); err != nil {
		return err
	}
	archive := tar.NewWriter(out)
	for _, file := range copyFiles {
		if err := packFile(archive, filepath.Join(dir, file.name), at); err != nil && (file.need || !errors.Is(err, fs.ErrNotExist)) {
			return err
		}
	}
	return errors.Join(archive.Close(), out.Sync())
}

// folded makes sure that the closed log of a directory is one file.
func folded(dir string) error {
	if wal, err := os.Stat(eventstore.LogPath(dir) + "-wal"); err == nil && wal.Size() > 0 {
		return fmt.Errorf("%s is not folded into its log: another program reads the copy; try again", filepath.Join(dir, wal.Name()))
	}
	return nil
}

func packFile(archive *tar.Writer, path string, at time.Time) error {
	in, err := os.Open(path)
	if err != nil {
		return err
	}
	defer func() { _ = in.Close() }()
	info, err := in.Stat()
	if err != nil {
		return err
	}
	header := &tar.Header{Typeflag: tar.TypeReg, Name: info.Name(), Size: info.Size(), Mode: 0o644, ModTime: at.UTC().Truncate(time.Second)}
	if err := archive.WriteHeader(header); err != nil {
		return err
	}
	_, err = io.Copy(archive, in)
	return err
}

// copyFile copies a file that may be missing, whole or not at all.
func copyFile(from, to string) error {
	in, err := os.Open(from)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer func() { _ = in.Close() }()
	return writeDurably(to, in)
}

// writeDurably makes or replaces a file, and has it and its name on disk.
func writeDurably(path string, content io.Reader) error {
	file, err := os.Create(path + ".new")
	if err != nil {
		return err
	}
	_, err = io.Copy(file, content)
	if err := errors.Join(err, file.Sync(), file.Close()); err != nil {
		return errors.Join(err, os.Remove(path+".new"))
	}
	return errors.Join(os.Rename(path+".new", path), syncDir(filepath.Dir(path)))
}

// syncDir has the names of a directory on disk.
func syncDir(path string) error {
	dir, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}

// apart refuses a copy that would be in the data directory itself: it would be
// lost with it.
func apart(data, flag, path string) error {
	in, err := filepath.Rel(resolved(data), resolved(path))
	if err == nil && (in == "." || in != ".." && !strings.HasPrefix(in, ".."+string(filepath.Separator))) {
		return fmt.Errorf("%s %s is in the data directory %s: name another place, at best on another disk", flag, path, data)
	}
	return nil
}

// resolved follows the symbolic links of as much of a path as there is.
func resolved(path string) string {
	rest := ""
	for at := path; ; at = filepath.Dir(at) {
		if real, err := filepath.EvalSymlinks(at); err == nil {
			return filepath.Join(real, rest)
		}
		if at == filepath.Dir(at) {
			return path
		}
		rest = filepath.Join(filepath.Base(at), rest)
	}
}
