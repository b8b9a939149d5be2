package cloudevents

import (
	"encoding/base64"
	"maps"
	"slices"
	"strconv"

	"github.com/go-json-experiment/json/jsontext"

	"tollbook/domain"
)

// Append adds the canonical event to dst: RFC 8785 JSON with defaults written
// out and what is absent left out. The event must be one that Decode could have
// made; lists that mean sets must be sorted.
func Append(dst []byte, e *domain.Event) []byte {
	dst = append(dst, `{"data":`...)
	dst = AppendData(dst, e.Data)
	dst = append(dst, `,"id":`...)
	dst = appendText(dst, e.ID)
	if e.Sequence.Has {
		dst = append(dst, `,"sequence":"`...)
		dst = strconv.AppendUint(dst, e.Sequence.N, 10)
		dst = append(dst, '"')
	}
	dst = append(dst, `,"source":`...)
	dst = appendText(dst, e.Source)
	dst = append(dst, `,"specversion":"1.0","tenant":`...)
	dst = appendText(dst, e.Tenant)
	dst = append(dst, `,"time":"`...)
	dst = e.Time.Append(dst)
	dst = append(dst, `","type":"`...)
	dst = append(dst, e.Data.Type()...)
	return append(dst, `"}`...)
}

// AppendData adds the data alone, as Append writes it and DecodeData reads it.
func AppendData(dst []byte, data domain.Data) []byte {
	switch v := data.(type) {
	case *domain.Call:
		return appendCall(dst, v)
	case *domain.Correction:
		dst = append(dst, `{"call":`...)
		dst = appendCall(dst, &v.Call)
		dst = appendOptional(dst, `,"reason":`, v.Reason)
		dst = append(dst, `,"ref":`...)
		return append(appendRef(dst, v.Ref), '}')
	case *domain.Void:
		w := object{dst: dst}
		w.optional("reason", v.Reason)
		w.dst = appendRef(w.name("ref"), v.Ref)
		return w.end()
	case *domain.Assignment:
		w := object{dst: dst}
		w.text("country", v.Country)
		w.instant("effective_at", v.EffectiveAt)
		w.text("plan", v.Plan)
		w.text("user", v.User)
		return w.end()
	case *domain.Removal:
		w := object{dst: dst}
		w.instant("effective_at", v.EffectiveAt)
		w.text("plan", v.Plan)
		w.text("user", v.User)
		return w.end()
	case *domain.Plan:
		return appendPlan(dst, v)
	case *domain.Deck:
		return appendDeck(dst, v)
	case *domain.TenantConfig:
		w := object{dst: dst}
		w.integer("close_after_days", int64(v.CloseAfterDays))
		w.text("currency", string(v.Currency))
		w.texts("decks", v.Decks)
		w.text("effective_from", v.EffectiveFrom.String())
		w.text("time_zone", v.TimeZone)
		return w.end()
	case *domain.SwitchConfig:
		return appendSwitch(dst, v)
	case *domain.Suspended:
		w := object{dst: dst}
		w.optional("detail", v.Detail)
		w.dst = append(w.name("raw"), '"')
		w.dst = append(base64.StdEncoding.AppendEncode(w.dst, v.Raw), '"')
		w.text("reason", v.Reason)
		if v.Sequence.Has {
			w.text("sequence", strconv.FormatUint(v.Sequence.N, 10))
		}
		w.optional("source", v.Source)
		w.optional("subject", v.Subject)
		return w.end()
	case *domain.Recycled:
		w := object{dst: dst}
		w.dst = appendRef(w.name("booked"), v.Booked)
		w.optional("by", v.By)
		if len(v.Edited) > 0 {
			w.dst = append(w.name("edited"), '"')
			w.dst = append(base64.StdEncoding.AppendEncode(w.dst, v.Edited), '"')
		}
		w.optional("reason", v.Reason)
		w.dst = appendRef(w.name("ref"), v.Ref)
		w.optional("subject", v.Subject)
		w.optional("tenant", v.Tenant)
		return w.end()
	case *domain.WrittenOff:
		w := object{dst: dst}
		w.text("by", v.By)
		w.text("reason", v.Reason)
		w.dst = appendRef(w.name("ref"), v.Ref)
		return w.end()
	case *domain.MonthClosed:
		w := object{dst: dst}
		w.text("by", v.By)
		w.text("digest", v.Digest)
		w.text("document", string(v.Document))
		w.text("head", v.Head)
		w.text("month", v.Month.String())
		w.text("number", v.Number)
		w.text("position", strconv.FormatUint(v.Position, 10))
		return w.end()
	case *domain.ExceptionWaived:
		w := object{dst: dst}
		w.text("by", v.By)
		w.integer("count", v.Count)
		w.text("exception", v.Exception)
		w.text("month", v.Month.String())
		w.text("reason", v.Reason)
		return w.end()
	case *domain.GapWaived:
		w := object{dst: dst}
		w.text("by", v.By)
		w.text("from", strconv.FormatUint(v.From, 10))
		w.text("reason", v.Reason)
		w.text("source", v.Source)
		w.text("to", strconv.FormatUint(v.To, 10))
		return w.end()
	}
	panic("cloudevents: no canonical form of " + string(data.Type())) // a type of domain this package forgot
}

func appendCall(dst []byte, v *domain.Call) []byte {
	dst = append(dst, '{')
	if v.AnsweredAt != 0 {
		dst = append(dst, `"answered_at":"`...)
		dst = v.AnsweredAt.Append(dst)
		dst = append(dst, `",`...)
	}
	dst = append(dst, `"billable_ms":`...)
	dst = strconv.AppendInt(dst, v.BillableMS, 10)
	dst = append(dst, `,"called":"`...)
	dst = v.Called.Append(dst)
	dst = append(dst, `","calling":"`...)
	dst = v.Calling.Append(dst)
	dst = append(dst, '"')
	dst = appendOptional(dst, `,"correlation":`, v.Correlation)
	dst = append(dst, `,"direction":"`...)
	dst = append(dst, v.Direction.String()...)
	dst = append(dst, `","disposition":"`...)
	dst = append(dst, v.Disposition.String()...)
	dst = append(dst, '"')
	if v.EndedAt != 0 {
		dst = append(dst, `,"ended_at":"`...)
		dst = v.EndedAt.Append(dst)
		dst = append(dst, '"')
	}
	dst = append(dst, `,"kind":`...)
	dst = appendText(dst, v.Kind)
	if v.Q850 != 0 {
		dst = append(dst, `,"q850":`...)
		dst = strconv.AppendInt(dst, int64(v.Q850), 10)
	}
	if v.SIPStatus != 0 {
		dst = append(dst, `,"sip_status":`...)
		dst = strconv.AppendInt(dst, int64(v.SIPStatus), 10)
	}
	if v.StartedAt != 0 {
		dst = append(dst, `,"started_at":"`...)
		dst = v.StartedAt.Append(dst)
		dst = append(dst, '"')
	}
	dst = appendOptional(dst, `,"user":`, v.User)
	return append(dst, '}')
}

func appendPlan(dst []byte, v *domain.Plan) []byte {
	w := object{dst: dst}
	if len(v.Buckets) > 0 {
		w.name("buckets")
		for i := range v.Buckets {
			w.dst = appendBucket(append(w.dst, "[,"[min(i, 1)]), &v.Buckets[i])
		}
		w.dst = append(w.dst, ']')
	}
	w.optional("deck", v.Deck)
	if len(v.Domestic) > 0 {
		inner := object{dst: w.name("domestic")}
		for _, country := range slices.Sorted(maps.Keys(v.Domestic)) {
			inner.list(country, v.Domestic[country])
		}
		w.dst = inner.end()
	}
	w.text("effective_from", v.EffectiveFrom.String())
	w.text("family", v.Family.String())
	w.text("grant", v.Grant.String())
	w.text("increment", v.Increment.String())
	w.list("kinds", v.Kinds)
	if len(v.LicencePrice) > 0 {
		inner := object{dst: w.name("license_price")}
		for _, country := range slices.Sorted(maps.Keys(v.LicencePrice)) {
			one := object{dst: inner.name(country)}
			one.text("currency", string(v.LicencePrice[country].Currency))
			one.text("price", v.LicencePrice[country].Price.String())
			inner.dst = one.end()
		}
		w.dst = inner.end()
	}
	w.dst = strconv.AppendBool(w.name("linked"), v.Linked)
	w.optional("name", v.Name)
	w.text("plan", v.Plan)
	w.text("scope", v.Scope.String())
	w.texts("shared_pools", v.SharedPools)
	return w.end()
}

func appendBucket(dst []byte, b *domain.Bucket) []byte {
	w := object{dst: dst}
	if len(b.Destinations) > 0 {
		w.list("destinations", b.Destinations)
	}
	inner := object{dst: w.name("minutes")}
	for _, country := range slices.Sorted(maps.Keys(b.Minutes)) {
		inner.integer(country, b.Minutes[country])
	}
	w.dst = inner.end()
	w.text("name", b.Name)
	w.text("zone", b.Zone.String())
	return w.end()
}

func appendDeck(dst []byte, v *domain.Deck) []byte {
	w := object{dst: dst}
	w.text("currency", string(v.Currency))
	w.text("deck", v.Deck)
	w.instant("effective_from", v.EffectiveFrom)
	w.integer("part", int64(v.Part))
	w.integer("parts", int64(v.Parts))
	w.dst = append(w.name("rows"), '[')
	for i := range v.Rows {
		if i > 0 {
			w.dst = append(w.dst, ',')
		}
		w.dst = appendRow(w.dst, &v.Rows[i])
	}
	w.dst = append(w.dst, ']')
	w.text("version", v.Version)
	return w.end()
}

func appendRow(dst []byte, v *domain.Row) []byte {
	dst = append(dst, `{"connect_fee":"`...)
	dst = v.ConnectFee.Append(dst)
	dst = append(dst, `","country":"`...)
	dst = append(dst, v.Country...)
	dst = append(dst, `","increment":"`...)
	dst = strconv.AppendInt(dst, int64(v.Increment.First), 10)
	dst = append(dst, '/')
	dst = strconv.AppendInt(dst, int64(v.Increment.Step), 10)
	dst = append(dst, `","name":`...)
	dst = appendText(dst, v.Name)
	dst = append(dst, `,"prefix":"`...)
	dst = append(dst, v.Prefix...)
	dst = append(dst, `","price":"`...)
	dst = v.Price.Append(dst)
	dst = append(dst, `","type":`...)
	dst = appendText(dst, v.RowType)
	return append(dst, '}')
}

func appendSwitch(dst []byte, v *domain.SwitchConfig) []byte {
	w := object{dst: dst}
	w.text("country", v.Country)
	w.text("format", v.Format)
	if len(v.InternalDigits) > 0 {
		w.name("internal_digits")
		for i, n := range v.InternalDigits {
			w.dst = strconv.AppendInt(append(w.dst, "[,"[min(i, 1)]), int64(n), 10)
		}
		w.dst = append(w.dst, ']')
	}
	if len(v.InternationalPrefixes) > 0 {
		w.list("international_prefixes", v.InternationalPrefixes)
	}
	w.optional("national_prefix", v.NationalPrefix)
	if len(v.Options) > 0 {
		w.texts("options", v.Options)
	}
	w.text("switch", v.Switch)
	w.text("time_zone", v.TimeZone)
	w.optional("user", v.User)
	return w.end()
}

func appendRef(dst []byte, v domain.Ref) []byte {
	dst = append(dst, `{"id":`...)
	dst = appendText(dst, v.ID)
	dst = append(dst, `,"source":`...)
	return append(appendText(dst, v.Source), '}')
}

// appendOptional adds a member unless it is empty; name comes with its comma and colon.
func appendOptional(dst []byte, name, value string) []byte {
	if value == "" {
		return dst
	}
	return appendText(append(dst, name...), value)
}

// appendText adds s as a JSON string with the fewest escapes. Bytes that are not
// UTF-8 become U+FFFD; nothing that was decoded has any.
func appendText(dst []byte, s string) []byte {
	for _, ch := range []byte(s) {
		if ch < ' ' || ch >= 0x80 || ch == '"' || ch == '\\' {
			dst, _ = jsontext.AppendQuote(dst, s)
			return dst
		}
	}
	dst = append(dst, '"')
	dst = append(dst, s...)
	return append(dst, '"')
}

// An object is being written, member by member in the order of their names.
type object struct {
	dst    []byte
	opened bool
}

// name begins a member and returns dst for its value.
func (w *object) name(name string) []byte {
	if w.opened {
		w.dst = append(w.dst, ',')
	} else {
		w.dst = append(w.dst, '{')
		w.opened = true
	}
	w.dst = append(append(append(w.dst, '"'), name...), '"', ':')
	return w.dst
}

func (w *object) end() []byte {
	if !w.opened {
		w.dst = append(w.dst, '{')
	}
	return append(w.dst, '}')
}

func (w *object) text(name, value string) { w.dst = appendText(w.name(name), value) }

func (w *object) optional(name, value string) {
	if value != "" {
		w.text(name, value)
	}
}

func (w *object) integer(name string, v int64) { w.dst = strconv.AppendInt(w.name(name), v, 10) }

func (w *object) instant(name string, t domain.Instant) {
	w.dst = append(t.Append(append(w.name(name), '"')), '"')
}

// list writes an array, also an empty one.
func (w *object) list(name string, values []string) {
	w.dst = append(w.name(name), '[')
	for i, value := range values {
		if i > 0 {
			w.dst = append(w.dst, ',')
		}
		w.dst = appendText(w.dst, value)
	}
	w.dst = append(w.dst, ']')
}

// texts writes an object, unless it is empty.
func (w *object) texts(name string, values map[string]string) {
	if len(values) == 0 {
		return
	}
	inner := object{dst: w.name(name)}
	for _, key := range slices.Sorted(maps.Keys(values)) {
		inner.text(key, values[key])
	}
	w.dst = inner.end()
}
