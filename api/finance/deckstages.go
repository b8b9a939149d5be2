package finance

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
	"slices"
	"strings"

	"github.com/go-json-experiment/json"

	"tollbook/domain"
	"tollbook/projections/decks"
)

// MaxDeckBytes is the largest file staged.
const MaxDeckBytes = 64 << 20

// MaxStages is how many stages of a tenant are kept, so that nobody fills the disk:
// the last ones.
const MaxStages = 20

// A DeckRequest says of which version a file is.
type DeckRequest struct {
	Tenant        string `json:"tenant"`
	Deck          string `json:"deck"`
	Version       string `json:"version"`
	EffectiveFrom string `json:"effective_from"`
	Currency      string `json:"currency,omitzero"` // where the file has no such column
	Time          string `json:"time,omitzero"`     // of the events; when it was staged first, where empty
	File          string `json:"file,omitzero"`     // its name, to tell it again
}

// Options are the request as a reader takes it.
func (q *DeckRequest) Options(now domain.Instant) (decks.Options, error) {
	o := decks.Options{Tenant: q.Tenant, Deck: q.Deck, Version: q.Version, Currency: domain.Currency(q.Currency), Time: now}
	var err error
	if o.EffectiveFrom, err = timeOf("effective_from", q.EffectiveFrom); err != nil {
		return o, err
	}
	if q.Time != "" {
		if o.Time, err = timeOf("time", q.Time); err != nil {
			return o, err
		}
	}
	return o, o.Check()
}

// A DeckStage is a version that was looked at and waits to be activated.
type DeckStage struct {
	ID string `json:"id"` // SHA-256 of request and file
	DeckRequest
	Bytes     int64           `json:"bytes"`
	By        string          `json:"by"`
	At        string          `json:"at"`
	Report    *decks.Report   `json:"report"`
	Activated *DeckActivation `json:"activated"` // nil: not yet
}

// A DeckActivation says that a stage's events were published.
type DeckActivation struct {
	By        string `json:"by"`
	At        string `json:"at"`
	Forced    bool   `json:"forced,omitzero"` // in spite of errors
	Booked    int    `json:"booked"`
	Duplicate int    `json:"duplicate"`
	Position  uint64 `json:"position"` // of the book, behind them
}

// DeckStages keeps stages in a directory: the report as ID.json and the file as
// ID.csv. A report is there only once its file is. It may be used by many at once.
type DeckStages struct {
	Dir  string // made when something is staged
	Read decks.Reader
}

// StagesOf are the stages of a data directory.
func StagesOf(dir string, read decks.Reader) DeckStages {
	return DeckStages{filepath.Join(dir, "staged"), read}
}

// ReadDeck reads a file to be staged.
func ReadDeck(in io.Reader) ([]byte, error) {
	file, err := io.ReadAll(io.LimitReader(in, MaxDeckBytes+1))
	if err == nil && len(file) > MaxDeckBytes {
		err = refused(fmt.Errorf("the file has more than %d MiB; import it with 'tollbook import-deck'", MaxDeckBytes>>20))
	}
	return file, err
}

// Put reads a file, has it judged and keeps it. The same again is the same stage,
// judged anew.
func (d DeckStages) Put(file []byte, q DeckRequest, who string, now domain.Instant, judge func(*decks.Sheet) *decks.Report) (DeckStage, error) {
	s := DeckStage{ID: stageID(q, file), DeckRequest: q, Bytes: int64(len(file)), By: who, At: now.String()}
	old, err := d.Stage(s.ID)
	there := err == nil
	if there {
		s.By, s.At, s.Activated = old.By, old.At, old.Activated
	}
	sheet, err := d.read(&s, file)
	if err != nil {
		return DeckStage{}, refused(err)
	}
	s.Report = judge(sheet)
	if !there {
		if err := d.makeRoom(q.Tenant); err != nil {
			return s, err
		}
	}
	if err := os.MkdirAll(d.Dir, 0o750); err != nil {
		return s, err
	}
	if err := replaceFile(d.path(s.ID, "csv"), file); err != nil {
		return s, err
	}
	return s, d.write(&s)
}

// read reads a stage's file.
func (d DeckStages) read(s *DeckStage, file []byte) (*decks.Sheet, error) {
	at, err := timeOf("at", s.At)
	if err != nil {
		return nil, err
	}
	o, err := s.Options(at)
	if err != nil {
		return nil, err
	}
	return d.Read(bytes.NewReader(file), o)
}

// makeRoom removes a tenant's oldest stages, until there is room for one more.
func (d DeckStages) makeRoom(tenant string) error {
	stages, err := d.Of(tenant)
	if err != nil {
		return err
	}
	for _, s := range stages[min(MaxStages-1, len(stages)):] {
		// The report goes first: what has none is no stage.
		err = errors.Join(err, os.Remove(d.path(s.ID, "json")), os.Remove(d.path(s.ID, "csv")))
	}
	return err
}

// stageID names a stage by all that decides its events.
func stageID(q DeckRequest, file []byte) string {
	q.File = ""
	sum := sha256.New()
	for _, text := range []string{q.Tenant, q.Deck, q.Version, q.EffectiveFrom, q.Currency, q.Time} {
		fmt.Fprintf(sum, "%d %s\n", len(text), text)
	}
	sum.Write(file)
	return hex.EncodeToString(sum.Sum(nil))
}

func (d DeckStages) path(id, extension string) string {
	return filepath.Join(d.Dir, id+"."+extension)
}

func (d DeckStages) write(s *DeckStage) error {
	text, err := json.Marshal(s)
	if err != nil {
		return err
	}
	return replaceFile(d.path(s.ID, "json"), text)
}

// replaceFile writes a file whole or not at all.
func replaceFile(path string, data []byte) error {
	file, err := os.CreateTemp(filepath.Dir(path), ".writing-*")
	if err != nil {
		return err
	}
	_, err = file.Write(data)
	err = errors.Join(err, file.Sync(), file.Close())
	if err == nil {
		err = os.Rename(file.Name(), path)
	}
	if err != nil {
		err = errors.Join(err, os.Remove(file.Name()))
	}
	return err
}

// Stage is one by its id.
func (d DeckStages) Stage(id string) (s DeckStage, err error) {
	if len(id) != 2*sha256.Size || strings.Trim(id, "0123456789abcdef") != "" {
		return s, noStage()
	}
	text, err := os.ReadFile(d.path(id, "json"))
	if errors.Is(err, fs.ErrNotExist) {
		return s, noStage()
	}
	if err != nil {
		return s, err
	}
	if err := json.Unmarshal(text, &s); err != nil || s.ID != id {
		return s, fmt.Errorf("%s is damaged; stage the file again", d.path(id, "json"))
	}
	return s, nil
}

// Open reads a stage's file again, which must be what was staged.
func (d DeckStages) Open(id string) (DeckStage, *decks.Sheet, error) {
	s, err := d.Stage(id)
	if err != nil {
		return s, nil, err
	}
	file, err := os.ReadFile(d.path(id, "csv"))
	if err == nil && stageID(s.DeckRequest, file) != id {
		err = errors.New("it is not what was staged")
	}
	if err != nil {
		return s, nil, fmt.Errorf("%s: %w; stage the file again", d.path(id, "csv"), err)
	}
	sheet, err := d.read(&s, file)
	return s, sheet, err
}

// Note keeps what became of a stage. What was activated once stays noted so.
func (d DeckStages) Note(s DeckStage, a DeckActivation) (DeckStage, error) {
	if s.Activated != nil && a.Booked == 0 {
		return s, nil
	}
	s.Activated = &a
	return s, d.write(&s)
}

func (d DeckStages) ids() (ids []string, err error) {
	entries, err := os.ReadDir(d.Dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	for _, e := range entries {
		if id, ok := strings.CutSuffix(e.Name(), ".json"); ok {
			ids = append(ids, id)
		}
	}
	return ids, err
}

// Resolve is the id that begins so.
func (d DeckStages) Resolve(start string) (string, error) {
	ids, err := d.ids()
	if err != nil {
		return "", err
	}
	ids = slices.DeleteFunc(ids, func(id string) bool { return !strings.HasPrefix(id, start) })
	switch {
	case len(ids) == 0 || start == "":
		return "", noStage()
	case len(ids) > 1:
		return "", fmt.Errorf("%d stages begin with %s; write more of the id", len(ids), start)
	}
	return ids[0], nil
}

// Of are a tenant's stages, the last one first.
func (d DeckStages) Of(tenant string) ([]DeckStage, error) {
	ids, err := d.ids()
	if err != nil {
		return nil, err
	}
	all := []DeckStage{}
	for _, id := range ids {
		s, err := d.Stage(id)
		if err != nil {
			continue // it has gone meanwhile, or is damaged, which who opens it is told: it may be another's
		}
		if s.Tenant == tenant {
			all = append(all, s)
		}
	}
	slices.SortFunc(all, func(a, b DeckStage) int { return strings.Compare(b.At+b.ID, a.At+a.ID) })
	return all, nil
}
