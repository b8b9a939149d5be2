package jetstream

import "sync"

// flight is the set of messages in flight, bounded by count and bytes.
type flight struct {
	maxCount, maxBytes int
	room               chan struct{}  // gets a token when a message left
	queue              chan *delivery // members to hand out; holds maxCount, so it is never full

	mu      sync.Mutex
	members map[*delivery]struct{}
	bytes   int
	ticks   uint64
	closed  bool
	idle    chan struct{} // if not nil, closed when the last member leaves
}

// enter waits until d fits in, and queues it. It reports false once stop is
// closed or the flight is.
func (f *flight) enter(d *delivery, stop <-chan struct{}) bool {
	for {
		entered, closed := f.tryEnter(d)
		if entered || closed {
			return entered
		}
		select {
		case <-f.room:
		case <-stop:
			return false
		}
	}
}

func (f *flight) tryEnter(d *delivery) (entered, closed bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.closed {
		return false, true
	}
	// A message larger than the whole budget passes alone.
	if len(f.members) >= f.maxCount || len(f.members) > 0 && f.bytes+d.size > f.maxBytes {
		return false, false
	}
	d.tick = f.ticks
	f.members[d] = struct{}{}
	f.bytes += d.size
	f.queue <- d
	return true, false
}

func (f *flight) leave(d *delivery) {
	f.mu.Lock()
	delete(f.members, d)
	f.bytes -= d.size
	if len(f.members) == 0 && f.idle != nil {
		close(f.idle)
		f.idle = nil
	}
	f.mu.Unlock()
	select {
	case f.room <- struct{}{}:
	default:
	}
}

// tick returns the messages that have been in flight for more than one tick.
func (f *flight) tick() []*delivery {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.ticks++
	var old []*delivery
	for d := range f.members {
		if d.tick+2 <= f.ticks {
			old = append(old, d)
		}
	}
	return old
}

// empty returns a channel that is closed when no message is in flight. Only one
// such channel is live at a time.
func (f *flight) empty() <-chan struct{} {
	f.mu.Lock()
	defer f.mu.Unlock()
	idle := make(chan struct{})
	if len(f.members) == 0 {
		close(idle)
	} else {
		f.idle = idle
	}
	return idle
}

// close lets no further message in.
func (f *flight) close() {
	f.mu.Lock()
	f.closed = true
	f.mu.Unlock()
}
