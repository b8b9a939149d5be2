package consumers

import (
	"context"
	"fmt"
	"io"
	"strings"
	"sync"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"tollbook/consumers/cdr"
	"tollbook/domain"
	"tollbook/domain/cloudevents"
	"tollbook/eventstore"
)

// Switches are the configurations of all switches, as the book has them, and the
// records that wait for one. It is a fold of the book: an eventstore.Follower.
type Switches struct {
	mu      sync.RWMutex
	configs map[switchKey]*domain.SwitchConfig
	said    map[switchKey]domain.Event              // that had them
	waiting map[switchKey]map[string]*waitingRecord // suspended only because their switch was unknown: by id
	wake    chan struct{}
}

// A waitingRecord is in suspense.
type waitingRecord struct {
	position uint64
	tried    bool // by ready's caller, since this start
}

type switchKey struct{ tenant, name string }

// NewSwitches returns the fold of an empty book.
func NewSwitches() *Switches {
	return &Switches{
		configs: map[switchKey]*domain.SwitchConfig{}, said: map[switchKey]domain.Event{}, waiting: map[switchKey]map[string]*waitingRecord{},
		wake: make(chan struct{}, 1),
	}
}

// Follow takes in what comes next.
func (s *Switches) Follow(u eventstore.Update) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := range u.Events {
		s.add(u.First+uint64(i), &u.Events[i])
	}
}

// Load takes in a block that was there before; it is an eventstore.Loader.
func (s *Switches) Load(p *eventstore.Piece) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := range p.Others {
		s.add(p.Others[i].Position, &p.Others[i].Event)
	}
}

func (s *Switches) add(position uint64, e *domain.Event) {
	switch data := e.Data.(type) {
	case *domain.SwitchConfig:
		// The latest booked one holds for records that arrive after it.
		s.configs[switchKey{e.Tenant, data.Switch}], s.said[switchKey{e.Tenant, data.Switch}] = data, *e
		s.signal()
	case *domain.Suspended:
		if key, ok := waitingKey(e.Tenant, data); ok {
			s.wait(key, e.ID, position)
		}
	case *domain.Recycled:
		s.resolved(e.Tenant, data.Ref)
	case *domain.WrittenOff:
		s.resolved(e.Tenant, data.Ref)
	}
}

func (s *Switches) wait(key switchKey, id string, position uint64) {
	if s.waiting[key] == nil {
		s.waiting[key] = map[string]*waitingRecord{}
	}
	s.waiting[key][id] = &waitingRecord{position: position}
	s.signal() // its switch may be known by now
}

// switchesImage is what a snapshot of Switches has, as JSON.
type switchesImage struct {
	Configs []jsontext.Value // canonical events
	Waiting []waitingImage
}

type waitingImage struct {
	Tenant, Switch string
	Records        map[string]uint64 // by id, their positions
}

// Name is that of the snapshot; it is an eventstore.Resumer.
func (s *Switches) Name() string { return "switches-1" }

// Snapshot writes the configurations, and the records that wait for one.
func (s *Switches) Snapshot(bool) func(io.Writer) error {
	s.mu.RLock()
	defer s.mu.RUnlock()
	var img switchesImage
	for _, e := range s.said {
		img.Configs = append(img.Configs, cloudevents.Append(nil, &e))
	}
	for key, records := range s.waiting {
		one := waitingImage{key.tenant, key.name, map[string]uint64{}}
		for id, r := range records {
			one.Records[id] = r.position
		}
		img.Waiting = append(img.Waiting, one)
	}
	return func(w io.Writer) error { return json.MarshalWrite(w, &img) }
}

// Resume reads what Snapshot wrote.
func (s *Switches) Resume(in io.Reader) (accept func(), err error) {
	var img switchesImage
	if err := json.UnmarshalRead(in, &img); err != nil {
		return nil, err
	}
	events := make([]domain.Event, len(img.Configs))
	for i, raw := range img.Configs {
		if events[i], err = cloudevents.Decode(raw, ""); err != nil {
			return nil, err
		}
	}
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		for i := range events {
			s.add(0, &events[i]) // configurations need no position
		}
		for _, w := range img.Waiting {
			for id, position := range w.Records {
				s.wait(switchKey{w.Tenant, w.Switch}, id, position)
			}
		}
	}, nil
}

// resolved takes a record out that waits no more.
func (s *Switches) resolved(tenant string, ref domain.Ref) {
	for key, records := range s.waiting {
		if key.tenant != tenant {
			continue
		}
		if delete(records, ref.ID); len(records) == 0 {
			delete(s.waiting, key)
		}
	}
}

func (s *Switches) signal() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

func waitingKey(tenant string, data *domain.Suspended) (key switchKey, ok bool) {
	if data.Reason != eventstore.ReasonSwitch {
		return key, false
	}
	_, rest, err := parseSubject(data.Subject)
	if err != nil || len(rest) != 3 {
		return key, false
	}
	return switchKey{tenant, rest[2]}, true
}

// reader cuts and reads records that came on tollbook.<tenant>.cdr.<format>.<switch>.
func (s *Switches) reader(tenant string, rest []string) (splitter, reader) {
	split := cloudevents.Split
	refuse := func(reason, format string, args ...any) (splitter, reader) {
		err := fmt.Errorf(format, args...)
		return split, func([]byte) (domain.Event, string, error) { return domain.Event{}, reason, err }
	}
	if len(rest) != 3 {
		return refuse(eventstore.ReasonSubject, "subject tollbook.%s.%s: must be tollbook.<tenant>.cdr.<format>.<switch>", tenant, strings.Join(rest, "."))
	}
	if rest[1] == FormatCloudEvents {
		return split, ownCalls(tenant, rest[2])
	}
	format, ok := cdr.Lookup(rest[1])
	if !ok {
		return refuse(eventstore.ReasonFormat, "format %.40q is not one of %s", rest[1], strings.Join(append(cdr.Names(), FormatCloudEvents), ", "))
	}
	split = format.Split // also of a record that waits: each waits alone
	s.mu.RLock()
	config := s.configs[switchKey{tenant, rest[2]}]
	s.mu.RUnlock()
	if config == nil {
		return refuse(eventstore.ReasonSwitch, "switch %.128q of tenant %s is not configured: publish tollbook.switch.configured.v1 for it, and the record is taken up by itself", rest[2], tenant)
	}
	if config.Format != rest[1] {
		return refuse(eventstore.ReasonFormat, "switch %.128q is configured for format %s, not %s", rest[2], config.Format, rest[1])
	}
	return split, func(raw []byte) (domain.Event, string, error) {
		e, err := format.Read(raw, tenant, config)
		if err != nil {
			return e, reasonOf(err), err
		}
		e.Tenant = tenant
		return e, "", nil
	}
}

// FormatCloudEvents is the format of switches that publish events themselves: on
// a subject with the switch's name, which it may be confined to, and without a
// configuration, as there is nothing to translate.
const FormatCloudEvents = "cloudevents"

// ownCalls reads events in structured mode, and takes a switch's own calls only.
func ownCalls(tenant, sw string) reader {
	return func(raw []byte) (domain.Event, string, error) {
		e, err := cloudevents.Decode(raw, tenant)
		if err != nil {
			return e, eventstore.ReasonSyntax, err
		}
		return e, eventstore.ReasonSubject, ownCall(&e, sw)
	}
}

// ownCall refuses what is not a switch's to say: neither the source of its event
// nor a call it corrects may be another's.
func ownCall(e *domain.Event, sw string) error {
	own := "switch/" + sw
	isOwn := func(source string) bool { return source == own || strings.HasPrefix(source, own+"/") }
	changed := own // whose call is corrected or voided
	switch data := e.Data.(type) {
	case *domain.Call:
	case *domain.Correction:
		changed = data.Ref.Source
	case *domain.Void:
		changed = data.Ref.Source
	default:
		return fmt.Errorf("type: %s is not a switch's to publish: its subject takes calls, their corrections and voids", e.Data.Type())
	}
	const rule = "%s: %q is not the switch of the subject: must be %s or begin with %s/"
	if !isOwn(e.Source) {
		return fmt.Errorf(rule, "source", e.Source, own, own)
	}
	if !isOwn(changed) {
		return fmt.Errorf(rule, "data.ref.source", changed, own, own)
	}
	return nil
}

// TakeUp books the records that were suspended only because their switch was
// unknown, whenever it has become known, until ctx is done. An error is the
// book's.
func (in *Intake) TakeUp(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-in.switches.wake:
		}
		for key, positions := range in.switches.ready() {
			// What is refused for another reason than the switch stays in suspense.
			if _, err := in.Recycle(ctx, positions, Resolution{By: "tollbook", Reason: "switch " + key.name + " was configured"}); err != nil {
				if ctx.Err() != nil {
					return nil
				}
				return err
			}
		}
	}
}

// ready are the positions of the waiting records whose switch is configured now,
// each told once.
func (s *Switches) ready() map[switchKey][]uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	ready := map[switchKey][]uint64{}
	for key, records := range s.waiting {
		if s.configs[key] == nil {
			continue
		}
		for _, r := range records {
			if !r.tried {
				r.tried = true
				ready[key] = append(ready[key], r.position)
			}
		}
	}
	return ready
}
