package jetstream

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/nats-io/nats.go"
)

// Metadata keys the subscriber sets on every message. A header of the same name
// is overwritten, so that no sender can forge them; the publisher drops them.
const (
	// SubjectKey holds the NATS subject the message was published to.
	SubjectKey = "_tollbook_subject"
	// SequenceKey holds the message's stream sequence, decimal, from 1.
	SequenceKey = "_tollbook_stream_sequence"
)

// UUIDHeader is the NATS header that carries Message.UUID, named as Watermill's
// own NATS adapter names it. It does not appear in the metadata.
const UUIDHeader = "_watermill_message_uuid"

// RepeatSeparator joins the values of a header that occurs more than once. A
// newline cannot occur inside a NATS header value, so nothing is lost, and a
// repeated attribute can never be taken for a single one.
const RepeatSeparator = "\n"

// serverHeaderPrefix marks headers that instruct the server. Republishing a
// received Nats-Msg-Id would make JetStream drop the message as a duplicate, and
// a Nats-Rollup would purge the stream.
const serverHeaderPrefix = "nats-"

// Subject returns the NATS subject of a message received from a [Subscriber],
// or "" for any other message.
func Subject(msg *message.Message) string { return msg.Metadata[SubjectKey] }

// Sequence returns the stream sequence of a message received from a
// [Subscriber], or 0 for any other message.
func Sequence(msg *message.Message) uint64 {
	seq, err := strconv.ParseUint(msg.Metadata[SequenceKey], 10, 64)
	if err != nil {
		return 0
	}
	return seq
}

// newMessage shares data with the caller: nats.go allocates it per message and
// never touches it again. A message without a UUID, or where its sender's does not
// count, gets "stream:sequence".
func newMessage(stream string, seq uint64, ownUUID bool, subject string, header nats.Header, data []byte) *message.Message {
	sequence := strconv.FormatUint(seq, 10)
	uuid := ""
	if values := header[UUIDHeader]; len(values) > 0 && !ownUUID {
		uuid = values[0]
	}
	if uuid == "" {
		uuid = stream + ":" + sequence
	}
	msg := message.NewMessage(uuid, data)
	msg.Metadata = make(message.Metadata, len(header)+2)
	for key, values := range header {
		switch {
		case key == UUIDHeader:
		case len(values) == 1:
			msg.Metadata[key] = values[0]
		default:
			msg.Metadata[key] = strings.Join(values, RepeatSeparator)
		}
	}
	msg.Metadata[SubjectKey] = subject
	msg.Metadata[SequenceKey] = sequence
	return msg
}

// newHeader is the reverse of newMessage. Headers that instruct the server and
// the reserved keys are left out.
func newHeader(msg *message.Message) (nats.Header, error) {
	header := make(nats.Header, len(msg.Metadata)+1)
	for key, value := range msg.Metadata {
		if key == SubjectKey || key == SequenceKey || key == UUIDHeader || instructsServer(key) {
			continue
		}
		if !validHeaderName(key) {
			return nil, fmt.Errorf("metadata key %q cannot be a NATS header: use visible ASCII without a colon", key)
		}
		header[key] = strings.Split(value, RepeatSeparator)
	}
	if msg.UUID != "" {
		header[UUIDHeader] = []string{msg.UUID}
	}
	return header, nil
}

func instructsServer(key string) bool {
	n := len(serverHeaderPrefix)
	return len(key) >= n && strings.EqualFold(key[:n], serverHeaderPrefix)
}

// validHeaderName keeps a line break or a colon in a key from becoming another
// header on the wire: nats.go writes keys as they are.
func validHeaderName(key string) bool {
	for i := 0; i < len(key); i++ {
		if key[i] <= ' ' || key[i] > '~' || key[i] == ':' {
			return false
		}
	}
	return key != ""
}
