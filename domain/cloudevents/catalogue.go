package cloudevents

import (
	"bytes"
	"slices"
	"strconv"
	"strings"
	"time"

	"tollbook/domain"
)

// MaxRows is how many rows one event of a deck may have: twice a deck of normal
// size. Rows are counted as they are read.
const MaxRows = 1_000_000

// MaxCloseAfterDays bounds close_after_days: a year.
const MaxCloseAfterDays = 366

const (
	ruleScope    = "must be country, tenant or user"
	ruleFamily   = "must be calling or conferencing"
	ruleGrant    = "must be peak, any, start or prorated"
	ruleZoneKind = "must be domestic, listed or all"
	ruleMinutes  = "must be an integer from 0 to 10000000 minutes"
	rulePrefix   = "must be 1 to 15 digits, or = and a short number of 2 to 6 digits"
	rulePart     = "must be an integer from 1 to 10000"
	ruleInternal = "must be an integer from 2 to 6, the length of an internal number"
	ruleToken    = "must be 1 to 128 bytes of visible ASCII without . * > / as it stands in subjects and sources"
	ruleKind     = "must be a kind of call, such as user"
)

func (c *cursor) plan(v *domain.Plan) {
	here, kinds := c.i, false
	v.Increment = domain.DefaultIncrement
	if !c.object() {
		return
	}
	for {
		name, ok := c.member()
		if !ok {
			break
		}
		var index uint8
		switch string(name) {
		case "plan":
			v.Plan = c.name()
		case "name":
			v.Name = c.name()
		case "family":
			index, _ = c.enum(domain.Families[:], ruleFamily)
			v.Family = domain.Family(index)
		case "effective_from":
			v.EffectiveFrom = c.date()
		case "scope":
			index, _ = c.enum(domain.Scopes[:], ruleScope)
			v.Scope = domain.Scope(index)
		case "kinds":
			kinds = c.next() != 'n'
			v.Kinds = c.set(c.name, ruleKind)
		case "buckets":
			c.buckets(v)
		case "linked":
			v.Linked = c.boolean()
		case "domestic":
			v.Domestic = c.domestic()
		case "shared_pools":
			v.SharedPools = c.countryMap(c.country, ruleCountry)
		case "increment":
			v.Increment = c.increment()
		case "grant":
			index, _ = c.enum(domain.Grants[:], ruleGrant)
			v.Grant = domain.Grant(index)
		case "deck":
			v.Deck = c.name()
		case "license_price":
			v.LicencePrice = c.licencePrices()
		default:
			c.skip()
		}
	}
	if !kinds {
		v.Kinds = []string{domain.KindForward, domain.KindTransfer, domain.KindUser}
		if v.Family == domain.Conferencing {
			v.Kinds = []string{domain.KindConference}
		}
	}
	if v.Plan == "" {
		c.missing(here, "plan", ruleRequired)
	}
	if v.EffectiveFrom == 0 {
		c.missing(here, "effective_from", ruleRequired)
	}
}

func (c *cursor) buckets(v *domain.Plan) {
	at := c.i
	c.list(func(here int) {
		if len(v.Buckets) == domain.MaxBuckets {
			c.fail(at, "has more than "+strconv.Itoa(domain.MaxBuckets)+" buckets")
			return
		}
		if c.next() == 'n' {
			c.fail(here, "must be an object")
			return
		}
		v.Buckets = append(v.Buckets, c.bucket())
	})
}

func (c *cursor) bucket() domain.Bucket {
	var (
		b              domain.Bucket
		here           = c.i
		zoned, minutes bool
	)
	c.object()
	for {
		name, ok := c.member()
		if !ok {
			break
		}
		switch string(name) {
		case "name":
			b.Name = c.name()
		case "zone":
			var index uint8
			index, zoned = c.enum(domain.Zones[:], ruleZoneKind)
			b.Zone = domain.Zone(index)
		case "destinations":
			b.Destinations = c.set(c.country, ruleCountry)
		case "minutes":
			minutes = c.byCountry(true, func(country string) {
				at := c.i
				n, has := c.integer(0, domain.MaxMinutes, ruleMinutes)
				if !has {
					c.fail(at, ruleMinutes)
					return
				}
				if b.Minutes == nil {
					b.Minutes = map[string]int64{}
				}
				b.Minutes[country] = n
			})
		default:
			c.skip()
		}
	}
	if b.Name == "" {
		c.missing(here, "name", ruleRequired)
	}
	if !zoned {
		c.missing(here, "zone", ruleRequired)
	}
	if !minutes {
		c.missing(here, "minutes", ruleRequired)
	}
	return b
}

// domestic reads lists of countries by country; nil where there is none.
func (c *cursor) domestic() map[string][]string {
	var m map[string][]string
	c.byCountry(false, func(country string) {
		if c.next() == 'n' {
			c.skip()
			return
		}
		if m == nil {
			m = map[string][]string{}
		}
		m[country] = c.set(c.country, ruleCountry)
	})
	return m
}

// licencePrices reads prices by country; nil where there is none. A null is no member.
func (c *cursor) licencePrices() map[string]domain.LicencePrice {
	var m map[string]domain.LicencePrice
	c.byCountry(true, func(country string) {
		here := c.i
		if !c.object() {
			return
		}
		var one domain.LicencePrice
		priced := false
		for {
			name, ok := c.member()
			if !ok {
				break
			}
			switch string(name) {
			case "price":
				one.Price, priced = c.micros()
			case "currency":
				one.Currency = c.currency()
			default:
				c.skip()
			}
		}
		switch {
		case !priced:
			c.missing(here, "price", ruleRequired)
		case one.Currency == "":
			c.missing(here, "currency", ruleRequired)
		}
		if m == nil {
			m = map[string]domain.LicencePrice{}
		}
		m[country] = one
	})
	return m
}

// countryMap reads text by country; nil where there is none. A null is no member.
func (c *cursor) countryMap(one func() string, rule string) map[string]string {
	var m map[string]string
	c.byCountry(false, func(country string) {
		at := c.i
		if c.next() == 'n' {
			c.skip()
			return
		}
		value := one()
		if value == "" {
			c.fail(at, rule)
			return
		}
		if m == nil {
			m = map[string]string{}
		}
		m[country] = value
	})
	return m
}

func (c *cursor) deck(v *domain.Deck) {
	here, rows, partAt := c.i, false, c.i
	v.Part, v.Parts = 1, 1
	if !c.object() {
		return
	}
	for {
		name, ok := c.member()
		if !ok {
			break
		}
		switch string(name) {
		case "deck":
			v.Deck = c.name()
		case "version":
			v.Version = c.name()
		case "effective_from":
			v.EffectiveFrom = c.instant()
		case "currency":
			v.Currency = c.currency()
		case "part":
			partAt = c.i
			if n, has := c.integer(1, domain.MaxDeckParts, rulePart); has {
				v.Part = int(n)
			}
		case "parts":
			if n, has := c.integer(1, domain.MaxDeckParts, rulePart); has {
				v.Parts = int(n)
			}
		case "rows":
			rows = c.next() != 'n'
			v.Rows = c.rows()
		default:
			c.skip()
		}
	}
	switch {
	case v.Deck == "":
		c.missing(here, "deck", ruleRequired)
	case v.Version == "":
		c.missing(here, "version", ruleRequired)
	case v.EffectiveFrom == 0:
		c.missing(here, "effective_from", ruleRequired)
	case v.Currency == "":
		c.missing(here, "currency", ruleRequired)
	case !rows:
		c.missing(here, "rows", ruleRequired)
	case v.Part > v.Parts:
		c.fail(partAt, "must not be above parts, "+strconv.Itoa(v.Parts))
	}
}

func (c *cursor) rows() (rows []domain.Row) {
	at := c.i
	if !c.array() {
		return nil
	}
	var before domain.Row
	for c.element() {
		if len(rows) == MaxRows {
			c.fail(at, "has more than "+strconv.Itoa(MaxRows)+" rows: send the deck in parts")
			return nil
		}
		before = c.row(&before)
		rows = append(rows, before)
	}
	return rows
}

// row reads a row, and shares the text that is the same in the one before.
func (c *cursor) row(before *domain.Row) domain.Row {
	var (
		v      = domain.Row{Increment: domain.DefaultIncrement}
		here   = c.i
		priced bool
	)
	if !c.object() {
		c.fail(here, "must be an object")
		return v
	}
	for {
		name, ok := c.member()
		if !ok {
			break
		}
		switch string(name) {
		case "prefix":
			v.Prefix = c.prefix()
		case "country":
			v.Country = c.countryLike(before.Country)
		case "name":
			v.Name = c.nameLike(before.Name)
		case "type":
			v.RowType = c.nameLike(before.RowType)
		case "price":
			v.Price, priced = c.micros()
		case "connect_fee":
			v.ConnectFee, _ = c.micros()
		case "increment":
			v.Increment = c.increment()
		default:
			c.skip()
		}
	}
	switch {
	case v.Prefix == "":
		c.missing(here, "prefix", ruleRequired)
	case v.Country == "":
		c.missing(here, "country", ruleRequired)
	case v.Name == "":
		c.missing(here, "name", ruleRequired)
	case v.RowType == "":
		c.missing(here, "type", ruleRequired)
	case !priced:
		c.missing(here, "price", ruleRequired)
	}
	return v
}

// prefix reads 39 or =4242; "" at null.
func (c *cursor) prefix() string {
	at, b := c.bytes(rulePrefix)
	if b == nil || c.err != nil {
		return ""
	}
	digits, short := bytes.CutPrefix(b, []byte("="))
	if !allDigits(digits) || len(digits) > domain.MaxDigits || short && (len(digits) < 2 || len(digits) > 6) {
		c.fail(at, rulePrefix)
	}
	return string(b)
}

func (c *cursor) tenantConfig(v *domain.TenantConfig) {
	here := c.i
	v.Currency = domain.NoCurrency
	v.TimeZone, v.Zone = "UTC", time.UTC
	if !c.object() {
		return
	}
	for {
		name, ok := c.member()
		if !ok {
			break
		}
		switch string(name) {
		case "time_zone":
			v.TimeZone, v.Zone = c.zone()
		case "currency":
			if code := c.currency(); code != "" {
				v.Currency = code
			}
		case "decks":
			v.Decks = c.countryMap(c.name, "must be the name of a deck")
		case "close_after_days":
			n, _ := c.integer(0, MaxCloseAfterDays, "must be an integer from 0 to "+strconv.Itoa(MaxCloseAfterDays)+" days")
			v.CloseAfterDays = int(n)
		case "effective_from":
			v.EffectiveFrom = c.date()
		default:
			c.skip()
		}
	}
	if v.EffectiveFrom == 0 {
		c.missing(here, "effective_from", ruleRequired)
	}
}

func (c *cursor) switchConfig(v *domain.SwitchConfig) {
	here := c.i
	v.TimeZone = "UTC"
	if !c.object() {
		return
	}
	for {
		name, ok := c.member()
		if !ok {
			break
		}
		switch string(name) {
		case "switch":
			v.Switch = c.token()
		case "format":
			v.Format = c.token()
		case "country":
			v.Country = c.country()
		case "international_prefixes":
			v.InternationalPrefixes = c.set(c.digits, ruleDigits)
		case "national_prefix":
			v.NationalPrefix = c.digits()
		case "internal_digits":
			c.list(func(at int) {
				n, has := c.integer(2, 6, ruleInternal)
				if !has {
					c.fail(at, ruleInternal)
				}
				v.InternalDigits = append(v.InternalDigits, int(n))
			})
			slices.Sort(v.InternalDigits)
			v.InternalDigits = slices.Compact(v.InternalDigits)
		case "time_zone":
			v.TimeZone, _ = c.zone()
		case "user":
			v.User = c.name()
		case "options":
			v.Options = c.options()
		default:
			c.skip()
		}
	}
	switch {
	case v.Switch == "":
		c.missing(here, "switch", ruleRequired)
	case v.Format == "":
		c.missing(here, "format", ruleRequired)
	case v.Country == "":
		c.missing(here, "country", ruleRequired)
	}
}

const optionCharacters = "abcdefghijklmnopqrstuvwxyz0123456789_.-"

// options reads texts by name; nil where there is none, an option of null not being one.
func (c *cursor) options() map[string]string {
	here := c.i
	if !c.object() {
		return nil
	}
	var options map[string]string
	for {
		key, ok := c.member()
		if !ok {
			break
		}
		name := string(key)
		if name == "" || len(name) > domain.MaxNameBytes || strings.Trim(name, optionCharacters) != "" {
			c.fail(here, "the name of an option must be 1 to "+strconv.Itoa(domain.MaxNameBytes)+" of a-z, 0-9, _, . and -")
		}
		text := c.text(domain.MaxOptionBytes, "must be a text of at most "+strconv.Itoa(domain.MaxOptionBytes)+" bytes")
		if c.err != nil {
			return nil
		}
		if text == "" {
			continue
		}
		if options == nil {
			options = map[string]string{}
		}
		if options[name] = text; len(options) > domain.MaxOptions {
			c.fail(here, "must be at most "+strconv.Itoa(domain.MaxOptions)+" options")
			return nil
		}
	}
	return options
}

// token reads a name that can be a token of a NATS subject and a part of a
// source; "" at null.
func (c *cursor) token() string {
	at, b := c.bytes(ruleToken)
	if b == nil || c.err != nil {
		return ""
	}
	if !visibleASCII(b) || bytes.ContainsAny(b, ".*>/") {
		c.fail(at, ruleToken)
	}
	return string(b)
}

func (c *cursor) suspended(v *domain.Suspended) {
	here := c.i
	if !c.object() {
		return
	}
	for {
		name, ok := c.member()
		if !ok {
			break
		}
		switch string(name) {
		case "reason":
			v.Reason = c.name()
		case "detail":
			v.Detail = c.text(domain.MaxReasonBytes, ruleReason)
		case "subject":
			v.Subject = c.text(domain.MaxReasonBytes, ruleReason)
		case "raw":
			v.Raw = c.base64()
		case "source":
			v.Source = c.visible()
		case "sequence":
			v.Sequence = c.sequence()
		default:
			c.skip()
		}
	}
	if v.Reason == "" {
		c.missing(here, "reason", ruleRequired)
	}
}

func (c *cursor) recycled(v *domain.Recycled) {
	here := c.i
	if !c.object() {
		return
	}
	for {
		name, ok := c.member()
		if !ok {
			break
		}
		switch string(name) {
		case "ref":
			c.ref(&v.Ref)
		case "booked":
			c.ref(&v.Booked)
		case "by":
			v.By = c.name()
		case "reason":
			v.Reason = c.text(domain.MaxReasonBytes, ruleReason)
		case "edited":
			v.Edited = c.base64()
		case "subject":
			v.Subject = c.text(domain.MaxReasonBytes, ruleReason)
		case "tenant":
			at := c.i
			if v.Tenant = c.visible(); v.Tenant != "" && !validTenant(v.Tenant, domain.TypeCall) {
				c.fail(at, ruleTenant)
			}
		default:
			c.skip()
		}
	}
	if v.Ref.Source == "" {
		c.missing(here, "ref", ruleRequired)
	}
	if v.Booked.Source == "" {
		c.missing(here, "booked", ruleRequired)
	}
}

func (c *cursor) writtenOff(v *domain.WrittenOff) {
	here := c.i
	if !c.object() {
		return
	}
	for {
		name, ok := c.member()
		if !ok {
			break
		}
		switch string(name) {
		case "ref":
			c.ref(&v.Ref)
		case "by":
			v.By = c.name()
		case "reason":
			v.Reason = c.text(domain.MaxReasonBytes, ruleReason)
		default:
			c.skip()
		}
	}
	if v.Ref.Source == "" {
		c.missing(here, "ref", ruleRequired)
	}
	c.signed(here, v.By, v.Reason)
}

// signed refuses a decision without a person or a reason.
func (c *cursor) signed(at int, by, reason string) {
	switch {
	case by == "":
		c.missing(at, "by", ruleRequired)
	case reason == "":
		c.missing(at, "reason", ruleRequired)
	}
}

func (c *cursor) gapWaived(v *domain.GapWaived) {
	here, end := c.i, 0
	var from, to domain.Sequence
	if !c.object() {
		return
	}
	for {
		name, ok := c.member()
		if !ok {
			break
		}
		switch string(name) {
		case "source":
			v.Source = c.visible()
		case "from":
			from = c.sequence()
		case "to":
			end = c.i
			to = c.sequence()
		case "by":
			v.By = c.name()
		case "reason":
			v.Reason = c.text(domain.MaxReasonBytes, ruleReason)
		default:
			c.skip()
		}
	}
	v.From, v.To = from.N, to.N
	switch {
	case v.Source == "":
		c.missing(here, "source", ruleRequired)
	case !from.Has:
		c.missing(here, "from", ruleRequired)
	case !to.Has:
		c.missing(here, "to", ruleRequired)
	case v.From > v.To:
		c.fail(end, "must not be less than from")
	}
	c.signed(here, v.By, v.Reason)
}
