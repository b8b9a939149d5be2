package consumers

import (
	"context"
	"fmt"
	"iter"
	"slices"
	"strings"

	"github.com/go-json-experiment/json"

	"tollbook/consumers/cdr"
	"tollbook/consumers/jetstream"
	"tollbook/domain"
	"tollbook/domain/cloudevents"
	"tollbook/eventstore"
)

// SubjectPrefix begins every subject that is intake: tollbook.<tenant>.…
const SubjectPrefix = "tollbook."

// A Message is what came in, however it came.
type Message struct {
	Subject string                   // tollbook.<tenant>.…
	Header  func(name string) string // never nil; "" for an absent header; several values joined by jetstream.RepeatSeparator
	Payload []byte                   // must not change any more

	// AnyTenant lets the tenant be [domain.NoTenant] in the subject, which leaves it
	// to each event's own attribute: how files come, whose sender may speak for all.
	AnyTenant bool
}

// Intake turns messages into records of the book. It is safe for concurrent use.
type Intake struct {
	// Observe, if not nil, is called when records are taken to the book, and what it
	// returns once their senders may be told. It is set before anything is booked.
	Observe func() (booked func([]eventstore.Record, []eventstore.Result, error))

	book     *eventstore.Book
	switches *Switches
	clock    func() domain.Instant
}

// NewIntake returns an Intake for the book; switches must follow that book.
func NewIntake(book *eventstore.Book, switches *Switches, clock func() domain.Instant) *Intake {
	return &Intake{book: book, switches: switches, clock: clock}
}

// Receive books every record of a message and returns what became of each, in
// their order. On an error the message must not be acknowledged; handling it
// again is safe.
func (in *Intake) Receive(ctx context.Context, m Message) ([]eventstore.Result, error) {
	return in.Book(ctx, in.Records(m))
}

// Book books records, with a result for each.
func (in *Intake) Book(ctx context.Context, records []eventstore.Record) ([]eventstore.Result, error) {
	if in.Observe == nil {
		return in.book.Submit(ctx, records)
	}
	booked := in.Observe()
	results, err := in.book.Submit(ctx, records)
	booked(records, results, err)
	return results, err
}

// Records decodes a message. What can't be read is a record too: one that
// suspends its bytes.
func (in *Intake) Records(m Message) []eventstore.Record {
	tenant, rest, err := parseSubject(m.Subject)
	said := tenant // by the subject; "": by each event itself
	if m.AnyTenant && strings.HasPrefix(m.Subject, SubjectPrefix+domain.NoTenant+".") {
		tenant, said, rest, err = domain.NoTenant, "", []string{"events"}, nil
	}
	if err != nil {
		return []eventstore.Record{in.suspend(domain.NoTenant, m.Subject, m.Payload, eventstore.ReasonSubject, err)}
	}
	cdrs := rest[0] == "cdr"
	events := !cdrs || len(rest) == 3 && rest[1] == FormatCloudEvents
	if events && m.binary() {
		e, err := cloudevents.DecodeBinary(m.Header, m.Payload, said)
		reason := eventstore.ReasonSyntax
		if err == nil && cdrs {
			reason, err = eventstore.ReasonSubject, ownCall(&e, rest[2])
		}
		return []eventstore.Record{in.record(m, tenant, binaryRaw(m), e, reason, err)}
	}
	if cdrs {
		split, read := in.switches.reader(tenant, rest)
		return in.each(m, tenant, split, read)
	}
	return in.each(m, tenant, cloudevents.Split, func(raw []byte) (domain.Event, string, error) {
		e, err := cloudevents.Decode(raw, said)
		return e, eventstore.ReasonSyntax, err
	})
}

// attributes are the headers of binary mode that mean something.
var attributes = [...]string{
	"ce-specversion", "ce-id", "ce-source", "ce-type", "ce-time", "ce-tenant", "ce-sequence", "ce-datacontenttype",
}

// HeaderIn finds attributes of binary mode among headers whatever their case, as
// senders differ in it; a header that occurs in two cases counts as repeated.
func HeaderIn(headers iter.Seq2[string, string]) func(name string) string {
	found := map[string][]string{}
	for name, value := range headers {
		if name = strings.ToLower(name); strings.HasPrefix(name, "ce-") && value != "" {
			found[name] = append(found[name], value)
		}
	}
	return func(name string) string {
		slices.Sort(found[name])
		return strings.Join(found[name], jetstream.RepeatSeparator)
	}
}

// binary reports whether the message has any attribute as a header. One that has
// some but not all is refused with them, not read as if it had none.
func (m *Message) binary() bool {
	return slices.ContainsFunc(attributes[:], func(name string) bool { return m.Header(name) != "" })
}

// wireHeader begins the headers of a message as NATS has them on the wire.
const wireHeader = "NATS/1.0\r\n"

// binaryRaw is a message in binary mode in one piece, as NATS has it on the wire.
// Without the attributes, a record that is refused would be worth little, and
// another one with the same data would pass for its repeat.
func binaryRaw(m Message) []byte {
	raw := []byte(wireHeader)
	for _, name := range attributes {
		if values := m.Header(name); values != "" {
			for value := range strings.SplitSeq(values, jetstream.RepeatSeparator) {
				raw = fmt.Appendf(raw, "%s: %s\r\n", name, value)
			}
		}
	}
	return append(append(raw, "\r\n"...), m.Payload...)
}

// reader reads one record: an event, or why not, with the reason's code.
type reader func(raw []byte) (domain.Event, string, error)

// splitter cuts a payload into its records.
type splitter func(payload []byte, each func(raw []byte) error) error

func (in *Intake) each(m Message, tenant string, split splitter, read reader) []eventstore.Record {
	var records []eventstore.Record
	err := split(m.Payload, func(raw []byte) error {
		e, reason, err := read(raw)
		records = append(records, in.record(m, tenant, raw, e, reason, err))
		return nil
	})
	if err == nil && len(records) == 0 {
		err = fmt.Errorf("the message is empty: send one record, such as a JSON object, or one a line")
	}
	if err != nil {
		// As a whole: of a message that has no clear ends, parts are worth nothing.
		return []eventstore.Record{in.suspend(tenant, m.Subject, m.Payload, eventstore.ReasonSyntax, err)}
	}
	return records
}

func (in *Intake) record(m Message, tenant string, raw []byte, e domain.Event, reason string, err error) eventstore.Record {
	if err == nil {
		err = acceptable(&e)
		reason = eventstore.ReasonSyntax
	}
	if err != nil {
		if tenant == domain.NoTenant {
			tenant = namedTenant(m, raw)
		}
		return in.suspend(tenant, m.Subject, raw, reason, err)
	}
	return eventstore.Record{Event: e, Raw: raw, Subject: m.Subject}
}

// namedTenant is whose desk a refused event of a file goes to: the tenant it
// names, where that much of it can be read.
func namedTenant(m Message, raw []byte) string {
	var named struct {
		Tenant string `json:"tenant"`
	}
	if m.binary() {
		named.Tenant = m.Header("ce-tenant")
	} else if json.Unmarshal(raw, &named) != nil {
		return domain.NoTenant
	}
	if !ValidTenant(named.Tenant) {
		return domain.NoTenant
	}
	return named.Tenant
}

// acceptable refuses what only the engine itself may write, and a configuration
// that its format can do nothing with.
func acceptable(e *domain.Event) error {
	if e.Data.Type().Own() {
		return fmt.Errorf("type: %s is written by the engine itself and can't be published", e.Data.Type())
	}
	if eventstore.OwnSource(e.Source) {
		return fmt.Errorf("source: %s is the engine's own; use another", e.Source)
	}
	if config, ok := e.Data.(*domain.SwitchConfig); ok {
		return cdr.Check(config)
	}
	return nil
}

func (in *Intake) suspend(tenant, subject string, raw []byte, reason string, err error) eventstore.Record {
	e := eventstore.Suspend(tenant, subject, raw, reason, err.Error(), in.clock())
	if refusal, ok := err.(*cdr.Refusal); ok && refusal.Sequence.Has {
		data := e.Data.(*domain.Suspended)
		data.Source, data.Sequence = refusal.Source, refusal.Sequence
	}
	return eventstore.Record{Event: e, Subject: subject}
}

// parseSubject splits tollbook.<tenant>.<rest…>.
func parseSubject(subject string) (tenant string, rest []string, err error) {
	tokens := strings.Split(strings.TrimPrefix(subject, SubjectPrefix), ".")
	if !strings.HasPrefix(subject, SubjectPrefix) || len(tokens) < 2 {
		return "", nil, fmt.Errorf("subject %.80q: must be tollbook.<tenant>.<what>, such as tollbook.contoso.call.completed", domain.MaskNumbers(subject))
	}
	if !ValidTenant(tokens[0]) {
		return "", nil, fmt.Errorf("subject %.80q: the tenant must be 1 to 63 of a-z, 0-9 and -, not beginning with -", domain.MaskNumbers(subject))
	}
	return tokens[0], tokens[1:], nil
}

// ValidTenant reports whether s can be a tenant: [a-z0-9][a-z0-9-]{0,62}.
func ValidTenant(s string) bool {
	return s != "" && len(s) <= 63 && s[0] != '-' && strings.Trim(s, "abcdefghijklmnopqrstuvwxyz0123456789-") == ""
}

// announced are the events that the engine itself publishes, and where: below
// tollbook.<tenant>.
var announced = map[domain.Type]string{domain.TypeThresholdReached: "pool.threshold", domain.TypePoolForecast: "pool.forecast"}

// AnnouncementSubject is where the engine publishes its events of a type.
func AnnouncementSubject(tenant string, t domain.Type) string {
	return SubjectPrefix + tenant + "." + announced[t]
}

// Announcement reports whether a message is one the engine itself published
// (tollbook.<tenant>.pool.threshold, .pool.forecast): it comes back through the
// stream and is not intake. Anything else on those subjects is.
func Announcement(subject string, payload []byte) bool {
	tenant, what, _ := strings.Cut(strings.TrimPrefix(subject, SubjectPrefix), ".")
	if what != "pool.threshold" && what != "pool.forecast" || !ValidTenant(tenant) {
		return false
	}
	var e struct {
		Type domain.Type `json:"type"`
	}
	return json.Unmarshal(payload, &e) == nil && announced[e.Type] == what
}

// CDRSubject is where the records of a switch's own format are published.
func CDRSubject(tenant, format, sw string) string {
	return SubjectPrefix + tenant + ".cdr." + format + "." + sw
}

// reasonOf is the code of a CDR's refusal.
func reasonOf(err error) string {
	if r, ok := err.(*cdr.Refusal); ok {
		return r.Code
	}
	return eventstore.ReasonSyntax
}
