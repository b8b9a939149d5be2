package eventstore

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"

	"tollbook/domain"
)

// Sources of the events that the engine itself writes: about records it could not
// book, that they are suspended and what became of them then; about gaps; and about
// months.
const (
	SuspenseSource = "tollbook/suspense"
	GapsSource     = "tollbook/gaps"
	MonthsSource   = "tollbook/months"
)

// OwnSource reports whether nobody else may be the source of an event.
func OwnSource(source string) bool {
	return source == SuspenseSource || source == GapsSource || source == MonthsSource
}

// maxSuspendedRaw is how much of a suspended record is kept: 16 MiB, twice what
// the embedded NATS lets pass. In base64 it fits a block whatever it is.
const maxSuspendedRaw = 16 << 20

// Reasons of a suspended record: one word, for machines.
const (
	ReasonSyntax   = "syntax"   // not JSON, not CloudEvents, a field out of its range
	ReasonSubject  = "subject"  // the NATS subject names no tenant, or another than the event
	ReasonTooLarge = "size"     // more than an event may have
	ReasonConflict = "conflict" // (tenant, source, id) is booked with other content
	ReasonSwitch   = "switch"   // no configuration for the switch; taken up once there is one
	ReasonFormat   = "format"   // a CDR format this version does not read
	ReasonEvent    = "event"    // an event the book cannot hold
)

// Suspend makes the event that keeps a record which could not be booked. Its id
// is a hash of where the record came in and of its bytes, so that the same
// record refused again is a duplicate, not a second one.
func Suspend(tenant, subject string, raw []byte, reason, detail string, at domain.Instant) domain.Event {
	h := sha256.New()
	h.Write([]byte(subject))
	h.Write([]byte{0})
	h.Write(raw)
	if len(raw) > maxSuspendedRaw {
		detail = fmt.Sprintf("(the record has %d bytes, SHA-256 %x; its first %d are kept) %s", len(raw), sha256.Sum256(raw), maxSuspendedRaw, detail)
		raw = raw[:maxSuspendedRaw]
	}
	return domain.Event{
		Tenant: tenant, Source: SuspenseSource, ID: hex.EncodeToString(h.Sum(nil)), Time: at,
		Data: &domain.Suspended{Reason: reason, Detail: clean(detail), Subject: clean(subject), Raw: raw},
	}
}

// Cut reports whether only the beginning of a suspended record was kept.
func Cut(data *domain.Suspended) bool { return len(data.Raw) == maxSuspendedRaw }

// clean makes one printable line of text that somebody else may have chosen.
func clean(s string) string {
	s = strings.Map(func(r rune) rune {
		if unicode.IsControl(r) || r == utf8.RuneError {
			return '?'
		}
		return r
	}, s)
	if len(s) > domain.MaxReasonBytes {
		s = strings.ToValidUTF8(s[:domain.MaxReasonBytes], "")
	}
	return s
}
