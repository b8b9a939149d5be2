package cloudevents_test

import (
	"slices"
	"time"

	"pgregory.net/rapid"

	"tollbook/domain"
)

// genEvent draws an event of any type, with every field anywhere in its range.
var genEvent = rapid.Custom(func(t *rapid.T) domain.Event {
	e := domain.Event{
		Tenant: genTenant.Draw(t, "tenant"),
		Source: genVisible.Draw(t, "source"),
		ID:     genVisible.Draw(t, "id"),
		Time:   genInstant.Draw(t, "time"),
		Data:   genData.Draw(t, "data"),
	}
	if rapid.Bool().Draw(t, "has sequence") {
		e.Sequence = domain.Sequence{N: rapid.Uint64().Draw(t, "sequence"), Has: true}
	}
	if _, ok := e.Data.(*domain.Suspended); ok && rapid.Bool().Draw(t, "nobody's") {
		e.Tenant = domain.NoTenant
	}
	return e
})

var genData = rapid.OneOf(
	data(func(t *rapid.T) *domain.Call { return new(genCall(t)) }),
	data(func(t *rapid.T) *domain.Correction {
		return &domain.Correction{Ref: genRef(t), Call: genCall(t), Reason: optional(t, genReason)}
	}),
	data(func(t *rapid.T) *domain.Void { return &domain.Void{Ref: genRef(t), Reason: optional(t, genReason)} }),
	data(func(t *rapid.T) *domain.Assignment {
		return &domain.Assignment{User: genName.Draw(t, "user"), Plan: genName.Draw(t, "plan"), Country: genCountry.Draw(t, "country"), EffectiveAt: genInstant.Draw(t, "at")}
	}),
	data(func(t *rapid.T) *domain.Removal {
		return &domain.Removal{User: genName.Draw(t, "user"), Plan: genName.Draw(t, "plan"), EffectiveAt: genInstant.Draw(t, "at")}
	}),
	data(genPlan), data(genDeck), data(genTenantConfig), data(genSwitchConfig),
	data(func(t *rapid.T) *domain.Suspended {
		s := &domain.Suspended{Reason: genName.Draw(t, "reason"), Detail: optional(t, genReason), Subject: optional(t, genReason)}
		if raw := rapid.SliceOf(rapid.Byte()).Draw(t, "raw"); len(raw) > 0 {
			s.Raw = raw
		}
		if rapid.Bool().Draw(t, "numbered") {
			s.Source, s.Sequence = genVisible.Draw(t, "source"), domain.Sequence{N: rapid.Uint64().Draw(t, "number"), Has: true}
		}
		return s
	}),
	data(func(t *rapid.T) *domain.Recycled {
		r := &domain.Recycled{Ref: genRef(t), Booked: genRef(t), By: optional(t, genName), Reason: optional(t, genReason)}
		r.Tenant, r.Subject = optional(t, genTenant), optional(t, genReason)
		if edited := rapid.SliceOf(rapid.Byte()).Draw(t, "edited"); len(edited) > 0 {
			r.Edited = edited
		}
		return r
	}),
	data(func(t *rapid.T) *domain.WrittenOff {
		return &domain.WrittenOff{Ref: genRef(t), By: genName.Draw(t, "by"), Reason: genReason.Draw(t, "reason")}
	}),
	data(func(t *rapid.T) *domain.MonthClosed {
		return &domain.MonthClosed{
			Month: genMonth(t), Number: genVisible.Draw(t, "number"), Position: rapid.Uint64().Draw(t, "position"),
			Head: genHash(t), Digest: genHash(t), Document: []byte(genReason.Draw(t, "document")), By: genName.Draw(t, "by"),
		}
	}),
	data(func(t *rapid.T) *domain.ExceptionWaived {
		return &domain.ExceptionWaived{
			Month: genMonth(t), Exception: genName.Draw(t, "exception"), Count: rapid.Int64Range(1, 1<<53).Draw(t, "count"),
			By: genName.Draw(t, "by"), Reason: genReason.Draw(t, "reason"),
		}
	}),
	data(func(t *rapid.T) *domain.GapWaived {
		from := rapid.Uint64().Draw(t, "from")
		return &domain.GapWaived{Source: genVisible.Draw(t, "source"), From: from, To: rapid.Uint64Min(from).Draw(t, "to"), By: genName.Draw(t, "by"), Reason: genReason.Draw(t, "reason")}
	}),
)

func genMonth(t *rapid.T) domain.Month {
	return domain.Month(rapid.IntRange(1678*12, 2262*12).Draw(t, "month"))
}

func genHash(t *rapid.T) string {
	return "sha256:" + rapid.StringMatching(`[0-9a-f]{64}`).Draw(t, "hash")
}

func data[D domain.Data](draw func(t *rapid.T) D) *rapid.Generator[domain.Data] {
	return rapid.Custom(func(t *rapid.T) domain.Data { return draw(t) })
}

var (
	genTenant  = rapid.StringMatching(`[a-z0-9][a-z0-9-]{0,62}`)
	genVisible = rapid.StringOfN(rapid.SampledFrom(visible), 1, 128, 128)
	genName    = genText(domain.MaxNameBytes)
	genReason  = genText(domain.MaxReasonBytes)
	genCountry = rapid.OneOf(rapid.SampledFrom([]string{"IT", "US"}), rapid.StringMatching(`[A-Z]{2}`))
	genDigits  = rapid.StringMatching(`[0-9]{1,15}`)
	genInstant = rapid.Custom(func(t *rapid.T) domain.Instant {
		v := domain.Instant(rapid.Int64Range(int64(domain.MinInstant), int64(domain.MaxInstant)).Draw(t, "instant"))
		unit := rapid.SampledFrom([]time.Duration{1, time.Millisecond, time.Second, 24 * time.Hour}).Draw(t, "unit")
		return max(v-v%domain.Instant(unit), domain.MinInstant)
	})
	genMicros    = rapid.Map(rapid.Int64Range(0, int64(domain.MaxMicros)), func(v int64) domain.Micros { return domain.Micros(v) })
	genCurrency  = rapid.Map(rapid.StringMatching(`[A-Z]{3}`), func(s string) domain.Currency { return domain.Currency(s) })
	genIncrement = rapid.Custom(func(t *rapid.T) domain.Increment {
		step := rapid.Int32Range(1, domain.MaxIncrement)
		return rapid.OneOf(rapid.Just(domain.DefaultIncrement),
			rapid.Just(domain.Increment{First: step.Draw(t, "first"), Step: step.Draw(t, "step")})).Draw(t, "increment")
	})
	genDate = rapid.Map(genInstant, func(i domain.Instant) domain.Date {
		y, m, d := i.Time().Date()
		return domain.Date(y*10000 + int(m)*100 + d)
	})
	genZone = rapid.SampledFrom([]string{"UTC", "Europe/Rome", "Asia/Kathmandu", "America/Argentina/Buenos_Aires"})
)

var visible = func() (v []rune) {
	for r := rune(0x21); r < 0x7f; r++ {
		v = append(v, r)
	}
	return v
}()

func genText(max int) *rapid.Generator[string] {
	runes := rapid.OneOf(rapid.SampledFrom(visible), rapid.SampledFrom([]rune{' ', '"', '\\', '/', 'é', '\u00a0', '€', '\u2028', '😀', '\ufffd'}))
	return rapid.StringOfN(runes, 1, -1, max)
}

func optional(t *rapid.T, g *rapid.Generator[string]) string {
	return rapid.OneOf(rapid.Just(""), g).Draw(t, "optional")
}

func index[E any](t *rapid.T, of []E) int { return rapid.IntRange(0, len(of)-1).Draw(t, "index") }

// genSet is sorted, each once, nil where empty.
func genSet(t *rapid.T, of *rapid.Generator[string]) []string {
	list := rapid.SliceOfN(of, 0, 5).Draw(t, "set")
	if len(list) == 0 {
		return nil
	}
	slices.Sort(list)
	return slices.Compact(list)
}

func genMap[V any](t *rapid.T, keys *rapid.Generator[string], values *rapid.Generator[V]) map[string]V {
	m := rapid.MapOfN(keys, values, 0, 5).Draw(t, "map")
	if len(m) == 0 {
		return nil
	}
	return m
}

func genRef(t *rapid.T) domain.Ref {
	return domain.Ref{Source: genVisible.Draw(t, "source"), ID: genVisible.Draw(t, "id")}
}

var genE164 = rapid.Map(rapid.OneOf(rapid.StringMatching(`\+[0-9]{2,15}`), rapid.StringMatching(`\+[0-9]{0,7}\*{2,8}`), rapid.StringMatching(`[0-9]{2,6}`)),
	func(s string) domain.Number {
		n, err := domain.ParseNumber(s)
		if err != nil {
			panic(err)
		}
		return n
	})

func genCall(t *rapid.T) domain.Call {
	c := domain.Call{
		User:        genName.Draw(t, "user"),
		Direction:   domain.Direction(index(t, domain.Directions[:])),
		Kind:        rapid.OneOf(rapid.SampledFrom([]string{domain.KindUser, domain.KindConference, domain.KindForward, domain.KindTransfer}), genName).Draw(t, "kind"),
		Calling:     rapid.OneOf(rapid.Just(domain.Number{}), genE164).Draw(t, "calling"),
		Called:      genE164.Draw(t, "called"),
		BillableMS:  rapid.Int64Range(0, domain.MaxBillableMS).Draw(t, "billable_ms"),
		Disposition: domain.Disposition(index(t, domain.Dispositions[:])),
		Q850:        rapid.Int32Range(0, 127).Draw(t, "q850"),
		SIPStatus:   rapid.OneOf(rapid.Just(int32(0)), rapid.Int32Range(100, 699)).Draw(t, "sip_status"),
		Correlation: optional(t, genName),
	}
	if c.Direction == domain.Inbound {
		c.User = optional(t, genName)
	}
	if c.Disposition == domain.Answered || rapid.Bool().Draw(t, "rung") {
		c.AnsweredAt = genInstant.Draw(t, "answered_at")
	}
	if rapid.Bool().Draw(t, "started") {
		c.StartedAt = genInstant.Draw(t, "started_at")
	}
	switch {
	case c.AnsweredAt == 0 && rapid.Bool().Draw(t, "ended"):
		c.EndedAt = genInstant.Draw(t, "ended_at")
	case c.AnsweredAt != 0 && rapid.Bool().Draw(t, "ended"):
		skew := rapid.Int64Range(-int64(2*time.Second), int64(2*time.Second)).Draw(t, "skew")
		end := c.AnsweredAt + domain.Instant(c.BillableMS)*domain.Instant(time.Millisecond) + domain.Instant(skew)
		if end >= domain.MinInstant && end <= domain.MaxInstant {
			c.EndedAt = end
		}
	}
	return c
}

func genPlan(t *rapid.T) *domain.Plan {
	p := &domain.Plan{
		Plan:          genName.Draw(t, "plan"),
		Name:          optional(t, genName),
		Family:        domain.Family(index(t, domain.Families[:])),
		EffectiveFrom: genDate.Draw(t, "from"),
		Scope:         domain.Scope(index(t, domain.Scopes[:])),
		Kinds:         genSet(t, genName),
		Linked:        rapid.Bool().Draw(t, "linked"),
		SharedPools:   genMap(t, genCountry, genCountry),
		Increment:     genIncrement.Draw(t, "increment"),
		Grant:         domain.Grant(index(t, domain.Grants[:])),
		Deck:          optional(t, genName),
	}
	p.Domestic = genMap(t, genCountry, rapid.Custom(func(t *rapid.T) []string { return genSet(t, genCountry) }))
	p.LicencePrice = genMap(t, rapid.OneOf(rapid.Just(domain.AnyCountry), genCountry), rapid.Custom(func(t *rapid.T) domain.LicencePrice {
		return domain.LicencePrice{Price: genMicros.Draw(t, "price"), Currency: genCurrency.Draw(t, "currency")}
	}))
	for range rapid.IntRange(0, domain.MaxBuckets).Draw(t, "buckets") {
		minutes := rapid.Int64Range(0, domain.MaxMinutes)
		p.Buckets = append(p.Buckets, domain.Bucket{
			Name:         genName.Draw(t, "name"),
			Zone:         domain.Zone(index(t, domain.Zones[:])),
			Destinations: genSet(t, genCountry),
			Minutes:      genMap(t, rapid.OneOf(rapid.Just(domain.AnyCountry), genCountry), minutes),
		})
	}
	return p
}

func genDeck(t *rapid.T) *domain.Deck {
	d := &domain.Deck{
		Deck:          genName.Draw(t, "deck"),
		Version:       genName.Draw(t, "version"),
		EffectiveFrom: genInstant.Draw(t, "from"),
		Currency:      genCurrency.Draw(t, "currency"),
		Parts:         rapid.IntRange(1, domain.MaxDeckParts).Draw(t, "parts"),
	}
	d.Part = rapid.IntRange(1, d.Parts).Draw(t, "part")
	names := rapid.OneOf(rapid.SampledFrom([]string{"Italy", "mobile", domain.RowOnNet}), genName)
	for range rapid.IntRange(0, 8).Draw(t, "rows") {
		d.Rows = append(d.Rows, domain.Row{
			Prefix:     rapid.OneOf(genDigits, rapid.StringMatching(`=[0-9]{2,6}`)).Draw(t, "prefix"),
			Country:    genCountry.Draw(t, "country"),
			Name:       names.Draw(t, "name"),
			RowType:    names.Draw(t, "type"),
			Price:      genMicros.Draw(t, "price"),
			ConnectFee: genMicros.Draw(t, "fee"),
			Increment:  genIncrement.Draw(t, "increment"),
		})
	}
	return d
}

func genTenantConfig(t *rapid.T) *domain.TenantConfig {
	zone, err := time.LoadLocation(genZone.Draw(t, "zone"))
	if err != nil {
		panic(err)
	}
	return &domain.TenantConfig{
		TimeZone: zone.String(), Zone: zone,
		Currency:       genCurrency.Draw(t, "currency"),
		Decks:          genMap(t, genCountry, genName),
		CloseAfterDays: rapid.IntRange(0, 366).Draw(t, "days"),
		EffectiveFrom:  genDate.Draw(t, "from"),
	}
}

func genOptions(t *rapid.T) map[string]string {
	return genMap(t, rapid.StringMatching(`[a-z0-9_.-]{1,20}`), rapid.StringMatching(`[ -~]{1,40}|[à-ÿ]{1,9}`))
}

func genSwitchConfig(t *rapid.T) *domain.SwitchConfig {
	token := rapid.StringMatching(`[!-),+-\-0-=?-~]{1,128}`)
	s := &domain.SwitchConfig{
		Switch:                token.Draw(t, "switch"),
		Format:                token.Draw(t, "format"),
		Country:               genCountry.Draw(t, "country"),
		InternationalPrefixes: genSet(t, genDigits),
		NationalPrefix:        optional(t, genDigits),
		TimeZone:              genZone.Draw(t, "zone"),
		User:                  optional(t, genName),
		Options:               genOptions(t),
	}
	for n := 2; n <= 6; n++ {
		if rapid.Bool().Draw(t, "internal") {
			s.InternalDigits = append(s.InternalDigits, n)
		}
	}
	return s
}
