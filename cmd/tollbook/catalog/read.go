package catalog

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/url"
	"slices"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"tollbook/domain"
	"tollbook/domain/cloudevents"
)

// MaxFileBytes is the largest catalogue file taken. A plan that lists every
// country in every bucket is some 10 KiB, so it holds well over a thousand.
const MaxFileBytes = 16 << 20

// ReadPlans reads a catalogue file and gives its plans as the tenant's events.
// The file is a JSON array, or one JSON value after another, each value either
// the data of a tollbook.plan.published.v1 or such an event whole, which must
// be of the same tenant. Plans without an envelope are published by source at
// an instant, under an id made of plan, effective_from and content: the same
// file again is all duplicates, and a plan put right for the same day is
// another event, which stands if it is published later (spec rating R1).
//
// The file is taken whole or not at all. An error is one line that names the
// line its plan begins on.
func ReadPlans(r io.Reader, tenant, source string, at domain.Instant) ([]domain.Event, error) {
	return readPlans(r, tenant, source, at, digested)
}

// An identify makes the id of a plan that came without an envelope.
type identify func(*domain.Plan) string

// dated names the built-in plans: their content is this package's.
func dated(plan *domain.Plan) string {
	return "plan/" + url.PathEscape(plan.Plan) + "/" + plan.EffectiveFrom.String()
}

func digested(plan *domain.Plan) string {
	sum := sha256.Sum256(cloudevents.AppendData(nil, plan))
	return dated(plan) + "-" + hex.EncodeToString(sum[:8])
}

func readPlans(r io.Reader, tenant, source string, at domain.Instant, name identify) ([]domain.Event, error) {
	file, err := io.ReadAll(io.LimitReader(r, MaxFileBytes+1))
	switch {
	case err != nil:
		return nil, err
	case len(file) > MaxFileBytes:
		return nil, fmt.Errorf("the catalogue has more than %d bytes; split it into files of fewer", MaxFileBytes)
	}
	file = bytes.TrimPrefix(file, []byte("\xef\xbb\xbf"))
	c := catalogue{tenant: tenant, source: source, at: at, name: name, versions: map[version]int{}}
	dec := jsontext.NewDecoder(bytes.NewReader(file))
	for {
		err := c.next(dec, file)
		if err == io.EOF {
			break
		}
		if err != nil {
			return nil, err
		}
	}
	if len(c.events) == 0 {
		return nil, errors.New("the catalogue has no plans")
	}
	return c.events, nil
}

// A catalogue is a file being read.
type catalogue struct {
	tenant, source string
	at             domain.Instant
	name           identify
	events         []domain.Event
	versions       map[version]int // of plans without an envelope: the line
}

// next reads one value, or an end of the array around the values.
func (c *catalogue) next(dec *jsontext.Decoder, file []byte) error {
	line := func(offset int64) int { return 1 + bytes.Count(file[:min(offset, int64(len(file)))], []byte("\n")) }
	kind := dec.PeekKind()
	var value jsontext.Value
	var err error
	if kind == jsontext.KindBeginArray && dec.StackDepth() == 0 || kind == jsontext.KindEndArray {
		_, err = dec.ReadToken()
	} else if value, err = dec.ReadValue(); err == nil {
		return c.add(value, line(dec.InputOffset()-int64(len(value))))
	}
	var bad *jsontext.SyntacticError
	if errors.As(err, &bad) {
		return fmt.Errorf("line %d: %w", line(bad.ByteOffset), err)
	}
	return err
}

type version struct {
	plan string
	from domain.Date
}

func (c *catalogue) add(value jsontext.Value, line int) error {
	if value.Kind() != jsontext.KindBeginObject {
		return fmt.Errorf("line %d: must be a plan, an object; found %.40q", line, value)
	}
	var members map[string]jsontext.Value
	if err := json.Unmarshal(value, &members); err != nil {
		return fmt.Errorf("line %d: %w", line, err)
	}
	event, data := c.bare, value
	if _, whole := members["specversion"]; whole {
		event, data = c.whole, members["data"]
	}
	e, err := event(value, line)
	if err != nil {
		return fmt.Errorf("line %d: %w", line, err)
	}
	if err := known(data, cloudevents.AppendData(nil, e.Data)); err != nil {
		return fmt.Errorf("line %d: %w", line, err)
	}
	c.events = append(c.events, e)
	return nil
}

// whole is the event of a value with an envelope.
func (c *catalogue) whole(value jsontext.Value, _ int) (domain.Event, error) {
	e, err := cloudevents.Decode(value, c.tenant)
	if err != nil {
		return e, err
	}
	if _, ok := e.Data.(*domain.Plan); !ok {
		return e, fmt.Errorf("is a %s; a catalogue has plans only, publish other events as they are", e.Data.Type())
	}
	return e, nil
}

// bare is the event of a plan alone.
func (c *catalogue) bare(value jsontext.Value, line int) (domain.Event, error) {
	data, err := cloudevents.DecodeData(domain.TypePlan, value)
	if err != nil {
		return domain.Event{}, err
	}
	plan := data.(*domain.Plan)
	v := version{plan.Plan, plan.EffectiveFrom}
	if other, twice := c.versions[v]; twice {
		return domain.Event{}, fmt.Errorf("plan %s from %s is on line %d already; give one of them another effective_from", v.plan, v.from, other)
	}
	c.versions[v] = line
	e := domain.Event{Tenant: c.tenant, Source: c.source, ID: c.name(plan), Time: c.at, Data: plan}
	if over := len(e.ID) - domain.MaxIDBytes; over > 0 {
		return e, fmt.Errorf("plan %q: shorten the name by %d bytes; it is part of the event's id, and an id has at most %d", v.plan, over, domain.MaxIDBytes)
	}
	// Tenant, source and time are the caller's and may be what intake refuses.
	return cloudevents.Decode(cloudevents.Append(nil, &e), "")
}

// known refuses a field of a plan that means nothing. Intake passes over such
// fields, for they may be a later version's; in a file somebody wrote one is a
// slip, and its plan would bill by a default. Canonical JSON has every field
// there is, but for those that are absent or empty.
func known(data, canonical jsontext.Value) error {
	got, err := fields(data)
	if err != nil {
		return err
	}
	all, err := fields(canonical)
	if err != nil {
		return err
	}
	for _, path := range slices.Sorted(maps.Keys(got)) {
		if _, ok := all[path]; !ok && !empty(got[path]) {
			return fmt.Errorf("%s: a plan has no such field", path)
		}
	}
	return nil
}

// fields are a plan's and its buckets' by their path.
func fields(plan jsontext.Value) (map[string]jsontext.Value, error) {
	var paths map[string]jsontext.Value
	if err := json.Unmarshal(plan, &paths); err != nil {
		return nil, err
	}
	var buckets []map[string]jsontext.Value
	if list := paths["buckets"]; list != nil {
		if err := json.Unmarshal(list, &buckets); err != nil {
			return nil, err
		}
	}
	for i, bucket := range buckets {
		for name, value := range bucket {
			paths[fmt.Sprintf("buckets[%d].%s", i, name)] = value
		}
	}
	return paths, nil
}

func empty(v jsontext.Value) bool {
	text := v.Clone()
	if err := text.Compact(); err != nil {
		return false
	}
	return slices.Contains([]string{"null", `""`, "{}", "[]"}, string(text))
}
