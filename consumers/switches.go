package consumers

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"

	"tollbook/consumers/cdr"
	"tollbook/domain"
	"tollbook/eventstore"
)

// Switches are the configurations of all switches, as the book has them, and the
// records that wait for one. It is a fold of the book: an eventstore.Follower.
type Switches struct {
	mu      sync.RWMutex
	configs map[switchKey]*domain.SwitchConfig
	waiting map[switchKey][]waitingRecord // suspended only because their switch was unknown
	wake    chan struct{}
}

type switchKey struct{ tenant, name string }

// waitingRecord is where a suspended record stands in the book, and its id.
type waitingRecord struct {
	position uint64
	id       string
}

// NewSwitches returns the fold of an empty book.
func NewSwitches() *Switches {
	return &Switches{
		configs: map[switchKey]*domain.SwitchConfig{}, waiting: map[switchKey][]waitingRecord{},
		wake: make(chan struct{}, 1),
	}
}

// Follow takes in what comes next.
func (s *Switches) Follow(u eventstore.Update) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := range u.Events {
		switch e := &u.Events[i]; data := e.Data.(type) {
		case *domain.SwitchConfig:
			// The latest booked one holds for records that arrive after it.
			s.configs[switchKey{e.Tenant, data.Switch}] = data
			s.signal()
		case *domain.Suspended:
			if key, ok := waitingKey(e.Tenant, data); ok {
				s.waiting[key] = append(s.waiting[key], waitingRecord{u.First + uint64(i), e.ID})
				s.signal() // its switch may be known by now
			}
		case *domain.Recycled:
			for key, list := range s.waiting {
				if key.tenant == e.Tenant {
					s.waiting[key] = slices.DeleteFunc(list, func(w waitingRecord) bool { return w.id == data.Ref.ID })
				}
			}
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

// reader reads records that came on tollbook.<tenant>.cdr.<format>.<switch>.
func (s *Switches) reader(tenant string, rest []string) reader {
	refuse := func(reason, format string, args ...any) reader {
		err := fmt.Errorf(format, args...)
		return func([]byte) (domain.Event, string, error) { return domain.Event{}, reason, err }
	}
	if len(rest) != 3 {
		return refuse(eventstore.ReasonSubject, "subject tollbook.%s.%s: must be tollbook.<tenant>.cdr.<format>.<switch>", tenant, strings.Join(rest, "."))
	}
	format, ok := cdr.Lookup(rest[1])
	if !ok {
		return refuse(eventstore.ReasonFormat, "format %.40q is not one of %s", rest[1], strings.Join(cdr.Names(), ", "))
	}
	s.mu.RLock()
	config := s.configs[switchKey{tenant, rest[2]}]
	s.mu.RUnlock()
	if config == nil {
		return refuse(eventstore.ReasonSwitch, "switch %.128q of tenant %s is not configured: publish tollbook.switch.configured.v1 for it, and the record is taken up by itself", rest[2], tenant)
	}
	if config.Format != rest[1] {
		return refuse(eventstore.ReasonFormat, "switch %.128q is configured for format %s, not %s", rest[2], config.Format, rest[1])
	}
	return func(raw []byte) (domain.Event, string, error) {
		e, err := format.Read(raw, tenant, config)
		if err != nil {
			return e, reasonOf(err), err
		}
		e.Tenant = tenant
		return e, "", nil
	}
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
		for key, list := range in.switches.ready() {
			if err := in.takeUp(ctx, key, list); err != nil {
				if ctx.Err() != nil {
					return nil
				}
				return err
			}
		}
	}
}

// ready takes out the waiting records whose switch is configured now.
func (s *Switches) ready() map[switchKey][]waitingRecord {
	s.mu.Lock()
	defer s.mu.Unlock()
	ready := map[switchKey][]waitingRecord{}
	for key, list := range s.waiting {
		if s.configs[key] != nil && len(list) > 0 {
			ready[key] = list
			delete(s.waiting, key)
		}
	}
	return ready
}

// takeUpBatch is how many records are booked together.
const takeUpBatch = 1000

func (in *Intake) takeUp(ctx context.Context, key switchKey, list []waitingRecord) error {
	positions := make([]uint64, len(list))
	for i, w := range list {
		positions[i] = w.position
	}
	var suspended []domain.Event
	err := in.book.Events(ctx, positions, func(_ uint64, e *domain.Event) error {
		suspended = append(suspended, *e)
		if len(suspended) < takeUpBatch {
			return nil
		}
		batch := suspended
		suspended = nil
		return in.bookAgain(ctx, key, batch)
	})
	if err != nil {
		return err
	}
	return in.bookAgain(ctx, key, suspended)
}

// bookAgain reads suspended records anew and notes those that are booked now.
func (in *Intake) bookAgain(ctx context.Context, key switchKey, suspended []domain.Event) error {
	var records, notes []eventstore.Record
	for i := range suspended {
		e := &suspended[i]
		data := e.Data.(*domain.Suspended)
		again := in.Records(Message{Subject: data.Subject, Header: noHeader, Payload: data.Raw})
		if len(again) != 1 {
			continue
		}
		if _, refused := again[0].Event.Data.(*domain.Suspended); refused {
			continue // for another reason than the switch: it stays in suspense
		}
		records = append(records, again[0])
		notes = append(notes, eventstore.Record{Event: domain.Event{
			Tenant: e.Tenant, Source: eventstore.SuspenseSource, ID: "recycled/" + e.ID, Time: in.clock(),
			Data: &domain.Recycled{
				Ref:    domain.Ref{Source: e.Source, ID: e.ID},
				Booked: domain.Ref{Source: again[0].Event.Source, ID: again[0].Event.ID},
				By:     "tollbook, once switch " + key.name + " was configured",
			},
		}})
	}
	results, err := in.book.Submit(ctx, records)
	if err != nil {
		return err
	}
	taken := notes[:0]
	for i, r := range results {
		if r.Status != eventstore.Suspended {
			taken = append(taken, notes[i])
		}
	}
	// A crash here leaves calls booked and records suspended; the next start
	// finds the calls to be duplicates and notes them then.
	_, err = in.book.Submit(ctx, taken)
	return err
}

func noHeader(string) string { return "" }
