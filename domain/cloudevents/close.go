package cloudevents

import (
	"encoding/hex"
	"strings"

	"tollbook/domain"
)

const (
	ruleMonth    = "must be a month such as 2026-10"
	ruleHash     = "must be sha256: and 64 hexadecimal digits"
	ruleDocument = "must be the document's text"
	ruleCount    = "must be an integer of at least 1"
)

func (c *cursor) monthClosed(v *domain.MonthClosed) {
	here := c.i
	var position domain.Sequence
	if !c.object() {
		return
	}
	for {
		name, ok := c.member()
		if !ok {
			break
		}
		switch string(name) {
		case "month":
			v.Month = c.month()
		case "number":
			v.Number = c.visible()
		case "position":
			position = c.sequence()
		case "head":
			v.Head = c.hash()
		case "digest":
			v.Digest = c.hash()
		case "document":
			if _, b := c.bytes(ruleDocument); b != nil {
				v.Document = append([]byte(nil), b...)
			}
		case "by":
			v.By = c.name()
		default:
			c.skip()
		}
	}
	v.Position = position.N
	switch {
	case v.Month == 0:
		c.missing(here, "month", ruleRequired)
	case v.Number == "":
		c.missing(here, "number", ruleRequired)
	case !position.Has:
		c.missing(here, "position", ruleRequired)
	case v.Head == "":
		c.missing(here, "head", ruleRequired)
	case v.Digest == "":
		c.missing(here, "digest", ruleRequired)
	case len(v.Document) == 0:
		c.missing(here, "document", ruleRequired)
	case v.By == "":
		c.missing(here, "by", ruleRequired)
	}
}

func (c *cursor) exceptionWaived(v *domain.ExceptionWaived) {
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
		case "month":
			v.Month = c.month()
		case "exception":
			v.Exception = c.name()
		case "count":
			v.Count, _ = c.integer(1, 1<<53, ruleCount)
		case "by":
			v.By = c.name()
		case "reason":
			v.Reason = c.text(domain.MaxReasonBytes, ruleReason)
		default:
			c.skip()
		}
	}
	switch {
	case v.Month == 0:
		c.missing(here, "month", ruleRequired)
	case v.Exception == "":
		c.missing(here, "exception", ruleRequired)
	case v.Count == 0:
		c.missing(here, "count", ruleRequired)
	}
	c.signed(here, v.By, v.Reason)
}

func (c *cursor) month() domain.Month {
	at := c.i
	m := parsed(c, ruleMonth, domain.ParseMonth)
	if c.err == nil && m < 0 {
		c.fail(at, ruleMonth)
	}
	return m
}

// hash reads a hash as documents print it; "" at null.
func (c *cursor) hash() string {
	at, b := c.bytes(ruleHash)
	if b == nil || c.err != nil {
		return ""
	}
	digits, ok := strings.CutPrefix(string(b), "sha256:")
	if raw, err := hex.DecodeString(digits); !ok || err != nil || len(raw) != 32 || digits != strings.ToLower(digits) {
		c.fail(at, ruleHash)
	}
	return string(b)
}
