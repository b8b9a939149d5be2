package cdr

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/nyaruka/phonenumbers"

	"tollbook/domain"
)

// A DialPlan reads telephone numbers as the users of one switch dial them and
// as its trunks deliver them. It is immutable.
//
// The order in which a number is decided, the first that fits:
//
//  1. words for a withheld number (calling side only); separators, a SIP or tel
//     scheme, a host and parameters are dropped;
//  2. feature codes: *31#0441516204 is the number behind the code, and so is
//     *670441516204 (a code of two digits where seven or more stand together);
//     *86 is the short number 86; *21*0791234567# orders a service of the switch
//     and is the short number 21, not a call to the number in it;
//  3. + and digits: E.164 as it is, whether or not somebody holds such a number;
//  4. 2 to 6 digits: emergency, service and internal numbers, as they are;
//     except where the whole numbers of a country are that short, as in Andorra;
//  5. a national number, if the country's numbering plan has it;
//  6. an international prefix and E.164 digits, the longest prefix first;
//  7. a national number of a length the country has (before 6 if the length fits
//     no country there);
//  8. the country's own calling code without a prefix, if the length fits.
//
// 5 stands before 6 because a prefix such as 011 also begins the numbers of
// Turin and of Leicester. 7 is there because new ranges of numbers appear sooner
// in the networks than in the tables.
type DialPlan struct {
	country       string
	callingCode   string // 41; empty: the country is unknown
	international []string
	trunk         string // national prefix, may be empty
	bare          bool   // a national number may come without the prefix
	closed        bool   // the country has no national prefix at all
	internal      []int
}

// NewDialPlan takes the country and the prefixes of cfg. Prefixes that cfg does
// not say are those of its country; where a country has several international
// prefixes by carrier and prefers none (Brazil, South Korea), it has none here
// until they are configured.
func NewDialPlan(cfg *domain.SwitchConfig) *DialPlan {
	p := &DialPlan{
		country:       cfg.Country,
		international: slices.Clone(cfg.InternationalPrefixes),
		trunk:         cfg.NationalPrefix,
		bare:          cfg.NationalPrefix == "",
		internal:      cfg.InternalDigits,
	}
	if code := phonenumbers.GetCountryCodeForRegion(cfg.Country); code != 0 {
		p.callingCode = strconv.Itoa(code)
		own := phonenumbers.GetNddPrefixForRegion(cfg.Country, true)
		p.closed = own == ""
		p.bare = p.bare || p.closed || code == 1 // 2125550100 and 12125550100 are both dialled
		if p.trunk == "" {
			p.trunk = own
		}
		if prefix := internationalPrefixes()[cfg.Country]; prefix != "" && len(p.international) == 0 {
			p.international = []string{prefix}
		}
	}
	p.international = slices.DeleteFunc(p.international, func(s string) bool { return s == "" })
	slices.SortFunc(p.international, func(a, b string) int { return len(b) - len(a) })
	return p
}

// internationalPrefixes is the prefix for calls abroad by country.
var internationalPrefixes = sync.OnceValue(func() map[string]string {
	prefixes := make(map[string]string)
	all, err := phonenumbers.MetadataCollection()
	if err != nil {
		return prefixes // the library's own data; its init has read them before
	}
	for _, m := range all.GetMetadata() {
		prefix := m.GetPreferredInternationalPrefix()
		if prefix == "" {
			prefix = m.GetInternationalPrefix()
		}
		prefix = strings.ReplaceAll(prefix, "~", "") // a pause for the dialling tone
		if digits(prefix) {
			prefixes[m.GetId()] = prefix
		}
	}
	return prefixes
})

// Called reads the number that was called. The error says what was tried.
func (p *DialPlan) Called(dialled string) (domain.Number, error) {
	n, err := p.read(clean(dialled))
	if err == nil && n.Anonymous() {
		err = errors.New("the called number cannot be withheld")
	}
	return n, err
}

// withheld are the words switches put where the caller keeps the number secret
// or none came.
var withheld = []string{"", "anonymous", "restricted", "private", "withheld", "unavailable", "unknown"}

// Calling reads the number of the caller. Carriers also deliver foreign ones
// without + or prefix; such a number is taken if some country's numbering plan
// has it and the switch's own country does not read it otherwise.
func (p *DialPlan) Calling(given string) (domain.Number, error) {
	s := clean(given)
	if slices.Contains(withheld, strings.ToLower(s)) {
		return domain.Number{}, nil
	}
	n, err := p.read(s)
	if err == nil || !digits(s) {
		return n, err
	}
	if foreign, parseErr := phonenumbers.Parse("+"+s, ""); parseErr == nil && phonenumbers.IsValidNumber(foreign) {
		return domain.ParseNumber("+" + s)
	}
	return n, err
}

// separators has no dot: 10.0.0.1 is no number.
var separators = strings.NewReplacer(" ", "", "-", "", "(", "", ")", "")

// clean drops what is around a number: tel:+41-44-151-62-04;phone-context=x, sip:0441516204@host.
func clean(s string) string {
	s = strings.TrimSpace(s)
	for _, scheme := range []string{"sip:", "sips:", "tel:"} {
		if len(s) > len(scheme) && strings.EqualFold(s[:len(scheme)], scheme) {
			s = s[len(scheme):]
			break
		}
	}
	s, _, _ = strings.Cut(s, "@")
	s, _, _ = strings.Cut(s, ";")
	if strings.HasPrefix(s, "+") {
		s = strings.ReplaceAll(s, "(0)", "") // +41 (0)44 151 62 04
	}
	return separators.Replace(s)
}

func (p *DialPlan) read(s string) (domain.Number, error) {
	if strings.HasPrefix(s, "*") || strings.HasPrefix(s, "#") {
		return p.feature(s)
	}
	return p.plain(s)
}

// feature reads what begins with a feature code.
func (p *DialPlan) feature(s string) (domain.Number, error) {
	code, rest := leadingDigits(strings.TrimLeft(s, "*#"))
	switch {
	case code == "":
		return domain.Number{}, errors.New("a feature code begins with * or # and digits")
	case rest == "" || strings.Trim(rest, "#") == "": // *86, *86#, *670441516204
		const codeDigits = 2
		if len(code) > codeDigits {
			if number := code[codeDigits:]; len(code) > shortDigits || phonenumbers.IsEmergencyNumber(number, p.country) {
				return p.plain(number)
			}
		}
		return short(code)
	case rest[0] == '#' || rest[0] == '+':
		return p.plain(strings.TrimPrefix(rest, "#"))
	case strings.Trim(rest, "*#0123456789") == "": // *21*0791234567#
		return short(code)
	}
	return domain.Number{}, errors.New("has characters that no feature code has")
}

// shortDigits is the longest short number.
const shortDigits = 6

func short(s string) (domain.Number, error) {
	if len(s) < 2 || len(s) > shortDigits {
		return domain.Number{}, fmt.Errorf("a short number or feature code has 2 to %d digits, this one %d", shortDigits, len(s))
	}
	return domain.ParseNumber(s)
}

// plain reads a number without a feature code.
func (p *DialPlan) plain(s string) (domain.Number, error) {
	s = strings.TrimSuffix(s, "#") // ends dialling on some telephones
	for _, prefix := range p.international {
		if rest, ok := strings.CutPrefix(s, prefix); ok && strings.HasPrefix(rest, "+") {
			s = rest
			break
		}
	}
	if rest, ok := strings.CutPrefix(s, "+"); ok {
		return p.plus(rest)
	}
	readable, tail := leadingDigits(s)
	if strings.Trim(tail, "*") != "" || readable == "" {
		return domain.Number{}, errors.New("has characters that no telephone number has; digits are expected, with + before or * instead of the last ones")
	}
	switch {
	case len(s) <= shortDigits:
		if tail != "" {
			return domain.Number{}, errors.New("a short number cannot be masked")
		}
		if p.wholeThoughShort(s) {
			return e164(p.callingCode + s)
		}
		return short(s)
	case tail == "" && slices.Contains(p.internal, len(s)):
		return domain.Number{}, fmt.Errorf("is an internal number of the switch (internal_digits has %d), and internal numbers have at most %d digits", len(s), shortDigits)
	}
	return p.long(s)
}

// plus reads the digits after a +.
func (p *DialPlan) plus(s string) (domain.Number, error) {
	if strings.HasPrefix(s, "0") {
		for _, prefix := range p.international {
			if rest, ok := strings.CutPrefix(s, prefix); ok && !strings.HasPrefix(rest, "0") {
				return e164(rest)
			}
		}
		return domain.Number{}, errors.New("no calling code begins with 0")
	}
	return e164(s)
}

// wholeThoughShort reports whether s, of at most six digits, is a subscriber's
// whole number rather than a service of the country or an internal number.
func (p *DialPlan) wholeThoughShort(s string) bool {
	if !p.closed || p.callingCode == "" || slices.Contains(p.internal, len(s)) || phonenumbers.IsEmergencyNumber(s, p.country) {
		return false
	}
	n := p.national(s)
	if phonenumbers.IsValidShortNumberForRegion(n, p.country) || !phonenumbers.IsValidNumberForRegion(n, p.country) {
		return false
	}
	switch phonenumbers.GetNumberType(n) {
	case phonenumbers.FIXED_LINE, phonenumbers.MOBILE, phonenumbers.FIXED_LINE_OR_MOBILE:
		return true
	}
	return false
}

// long reads seven or more digits without +; the last may be masked.
func (p *DialPlan) long(s string) (domain.Number, error) {
	var nationals []string // without prefix, the likelier first
	if p.callingCode != "" {
		stripped, ok := strings.CutPrefix(s, p.trunk)
		if p.bare {
			nationals = append(nationals, s)
		}
		if ok && p.trunk != "" {
			nationals = append(nationals, stripped)
		}
	}
	for _, n := range nationals {
		if phonenumbers.IsValidNumber(p.national(n)) {
			return e164(p.callingCode + n)
		}
	}
	prefixed := "" // the digits behind the national prefix, if the country has numbers of that length
	if n := len(nationals); n > 0 && len(nationals[n-1]) < len(s) && p.possible(nationals[n-1]) {
		prefixed = nationals[n-1]
	}
	for _, prefix := range p.international {
		if rest, ok := strings.CutPrefix(s, prefix); ok && rest != "" && rest[0] >= '1' && rest[0] <= '9' {
			if prefixed != "" && !possibleAbroad(rest) {
				break
			}
			return e164(rest)
		}
	}
	if prefixed != "" {
		return e164(p.callingCode + prefixed)
	}
	own, ownCode := strings.CutPrefix(s, p.callingCode)
	ownCode = ownCode && p.callingCode != ""
	switch {
	case ownCode && phonenumbers.IsValidNumber(p.national(own)):
		return e164(s)
	case p.callingCode != "" && (p.closed || p.callingCode == "1") && p.possible(s):
		return e164(p.callingCode + s)
	case ownCode && p.possible(own):
		return e164(s)
	}
	return domain.Number{}, errors.New(p.tried())
}

// possibleAbroad reports whether some country has numbers of that length behind its calling code.
func possibleAbroad(s string) bool {
	n, err := phonenumbers.Parse("+"+strings.ReplaceAll(s, "*", "0"), "")
	return err == nil && phonenumbers.IsPossibleNumberWithReason(n) == phonenumbers.IS_POSSIBLE
}

// national builds the number of the switch's country with these digits after
// the calling code; masked ones count as 0.
func (p *DialPlan) national(s string) *phonenumbers.PhoneNumber {
	s = strings.ReplaceAll(s, "*", "0")
	code, _ := strconv.ParseInt(p.callingCode, 10, 32)
	value, _ := strconv.ParseUint(s, 10, 64) // too long for 64 bits: the greatest, which no plan has
	n := &phonenumbers.PhoneNumber{CountryCode: new(int32(code)), NationalNumber: new(value)}
	if zeros := len(s) - len(strings.TrimLeft(s, "0")); zeros > 0 {
		n.ItalianLeadingZero, n.NumberOfLeadingZeros = new(true), new(int32(zeros))
	}
	return n
}

// possible reports whether the country has numbers of that length. A leading
// zero only counts where the plan has such numbers, and there they are valid.
func (p *DialPlan) possible(s string) bool {
	return !strings.HasPrefix(s, "0") && phonenumbers.IsPossibleNumberWithReason(p.national(s)) == phonenumbers.IS_POSSIBLE
}

// tried says what a number is not.
func (p *DialPlan) tried() string {
	if p.callingCode == "" {
		return fmt.Sprintf("not international (+, %s) nor short, and the switch's configuration has no country to read a national number by", p.prefixes())
	}
	national := p.trunk
	if national == "" {
		national = "no prefix"
	}
	return fmt.Sprintf("not short (2 to %d digits), not a number of %s (%s, %s), not international (+, %s); see the switch's country and prefixes",
		shortDigits, p.country, national, p.callingCode, p.prefixes())
}

func (p *DialPlan) prefixes() string {
	if len(p.international) == 0 {
		return "no prefix configured"
	}
	return strings.Join(p.international, ", ")
}

// e164 reads digits that begin with a calling code.
func e164(s string) (domain.Number, error) {
	n, err := domain.ParseNumber("+" + s)
	if err == nil && n.Len == 0 {
		err = errors.New("all digits are masked")
	}
	return n, err
}

// leadingDigits cuts s behind its leading digits.
func leadingDigits(s string) (number, rest string) {
	i := strings.IndexFunc(s, func(r rune) bool { return r < '0' || r > '9' })
	if i < 0 {
		return s, ""
	}
	return s[:i], s[i:]
}

func digits(s string) bool {
	_, rest := leadingDigits(s)
	return s != "" && rest == ""
}
