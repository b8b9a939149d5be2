package follow

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/go-json-experiment/json"
)

// Limits of a state file. A position has about 0.4 KiB, a table's header more; a
// file of a folder 20 bytes.
const (
	maxStateBytes = 64 << 20
	maxPositions  = 100_000
	maxDone       = 1_000_000
)

// stateMagic begins a state file: what it is, its version and, behind it, the
// SHA-256 of all that follows the line.
const stateMagic = "tollbook-follow 1 "

// state is what a follower knows of a run before.
type state struct {
	Of        string     `json:"of"` // whose records: what the state of another switch is told by
	Positions []position `json:"positions,omitzero"`
	Done      []string   `json:"done,omitzero"`  // names of files of folders, see doneName
	Heard     time.Time  `json:"heard,omitzero"` // of a manager: all it sent until then is answered
}

// A position says how far a file was read, and how the file is known again.
type position struct {
	Path    string    `json:"path"` // which is followed; the file may have another name by now
	Device  uint64    `json:"device"`
	Inode   uint64    `json:"inode"`
	Offset  int64     `json:"offset"`           // all before it is answered
	Seen    int64     `json:"seen,omitzero"`    // how many of its first bytes were seen, at most printBytes
	Head    string    `json:"head,omitzero"`    // their hash
	Last    string    `json:"last,omitzero"`    // hash of the bytes before Offset, at most printBytes
	Telling bool      `json:"telling,omitzero"` // Head has a whole record, so is of no other file
	Header  []byte    `json:"header,omitzero"`  // of a table
	Begun   bool      `json:"begun,omitzero"`   // a row of the file is before Offset
	Inside  bool      `json:"inside,omitzero"`  // Offset is in a line too long to be sent
	Rotated bool      `json:"rotated,omitzero"` // the path has another file since
	Done    bool      `json:"done,omitzero"`    // it was read to its end after that
	Changed time.Time `json:"changed"`          // by the file system, when it was last looked at
	Since   time.Time `json:"since,omitzero"`   // files beside it that changed since then were still being looked for
}

// printBytes is how much of each end of what was read is hashed: more than the
// header of a table, which other files have too.
const printBytes = 8 << 10

func printOf(b []byte) string {
	if len(b) == 0 {
		return ""
	}
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:16])
}

// appendState is the content of a state file.
func appendState(dst []byte, s *state) ([]byte, error) {
	body, err := json.Marshal(s)
	if err != nil {
		return nil, err
	}
	body = append(body, '\n')
	sum := sha256.Sum256(body)
	dst = append(append(append(dst, stateMagic...), hex.EncodeToString(sum[:])...), '\n')
	return append(dst, body...), nil
}

var errStateDamaged = errors.New("the state file is damaged")

// parseState refuses whatever appendState did not write, all of it.
func parseState(data []byte) (*state, error) {
	line, body, ok := bytes.Cut(data, []byte{'\n'})
	said, is := bytes.CutPrefix(line, []byte(stateMagic))
	if !ok || !is {
		return nil, errors.New("this is no state file of 'tollbook follow' that this version reads")
	}
	sum := sha256.Sum256(body)
	if string(said) != hex.EncodeToString(sum[:]) {
		return nil, errStateDamaged
	}
	var s state
	if err := json.Unmarshal(body, &s, json.RejectUnknownMembers(true)); err != nil {
		return nil, fmt.Errorf("%w: %w", errStateDamaged, err)
	}
	if len(s.Positions) > maxPositions || len(s.Done) > maxDone {
		return nil, fmt.Errorf("%w: %d positions and %d files", errStateDamaged, len(s.Positions), len(s.Done))
	}
	for _, p := range s.Positions {
		if p.Offset < 0 || p.Seen < min(p.Offset, printBytes) || p.Seen > printBytes || len(p.Header) > maxHeaderBytes || p.Path == "" {
			return nil, fmt.Errorf("%w: a position of %.80q", errStateDamaged, p.Path)
		}
	}
	return &s, nil
}

// readState is the state in a file, or an empty one where there is no file.
func readState(path, of string) (*state, error) {
	file, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return &state{Of: of}, nil
	}
	if err != nil {
		return nil, err
	}
	defer func() { _ = file.Close() }()
	data, err := io.ReadAll(io.LimitReader(file, maxStateBytes+1))
	if err == nil && len(data) > maxStateBytes {
		err = fmt.Errorf("has more than %d bytes, and no state has", maxStateBytes)
	}
	var s *state
	if err == nil {
		s, err = parseState(data)
	}
	if err == nil && s.Of != of {
		err = fmt.Errorf("it is the state of %s, not of %s: give another --state", s.Of, of)
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w; move it away to begin anew: files that are still there are read from their beginning, and what is booked already is a duplicate", path, err)
	}
	return s, nil
}

// writeState has the state on disk, in place of the one before. A crash leaves
// either of them.
func writeState(path string, s *state) error {
	data, err := appendState(nil, s)
	if err != nil {
		return err
	}
	if len(data) > maxStateBytes {
		return fmt.Errorf("the state would have %d bytes, more than %d: move the files that are done out of their folder (--move-to)", len(data), maxStateBytes)
	}
	file, err := os.OpenFile(path+".new", os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = file.Write(data)
	if err := errors.Join(err, file.Sync(), file.Close()); err != nil {
		return err
	}
	if err := os.Rename(path+".new", path); err != nil {
		return err
	}
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}
