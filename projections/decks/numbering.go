package decks

import (
	"encoding/binary"
	"regexp/syntax"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/nyaruka/phonenumbers"
)

// A callingPlan is what the numbering plans of a calling code's countries say.
type callingPlan struct {
	countries []string // the main one first
	regions   []region
}

// A region is one of them.
type region struct {
	country string
	leading *syntax.Prog // of the numbers that are its own; nil: all that are no other's
	numbers *syntax.Prog // all its numbers, without the calling code
	fixed   *syntax.Prog // those of fixed lines
}

// maxCallingCode is how many digits a calling code has at most.
const maxCallingCode = 3

// callingPlans are those of all calling codes.
var callingPlans = sync.OnceValue(func() map[string]*callingPlan {
	plans := map[string]*callingPlan{}
	all, err := phonenumbers.MetadataCollection()
	if err != nil {
		return plans // the library's own data; its init has read them before
	}
	patterns := map[string]*phonenumbers.PhoneMetadata{}
	for _, m := range all.GetMetadata() {
		patterns[m.GetId()+strconv.Itoa(int(m.GetCountryCode()))] = m
	}
	for code := range phonenumbers.GetSupportedCallingCodes() {
		text := strconv.Itoa(code)
		p := &callingPlan{countries: phonenumbers.GetRegionCodesForCountryCode(code)}
		for _, country := range p.countries {
			m := patterns[country+text]
			p.regions = append(p.regions, region{country, compiled(m.GetLeadingDigits()), compiled(numbersOf(m)), compiled(m.GetFixedLine().GetNationalNumberPattern())})
		}
		plans[text] = p
	}
	return plans
})

// numbersOf is a pattern of all numbers of a country: those of any type.
func numbersOf(m *phonenumbers.PhoneMetadata) string {
	var all []string
	for _, kind := range []*phonenumbers.PhoneNumberDesc{
		m.GetFixedLine(), m.GetMobile(), m.GetTollFree(), m.GetPremiumRate(), m.GetSharedCost(), m.GetVoip(),
		m.GetPersonalNumber(), m.GetPager(), m.GetUan(), m.GetVoicemail(),
	} {
		if pattern := kind.GetNationalNumberPattern(); pattern != "" && pattern != "NA" {
			all = append(all, "(?:"+pattern+")")
		}
	}
	return strings.Join(all, "|")
}

func compiled(pattern string) *syntax.Prog {
	if pattern == "" {
		return nil
	}
	tree, err := syntax.Parse(pattern, syntax.Perl)
	if err != nil {
		return nil // what the plan does not say in this way, it does not say here
	}
	prog, err := syntax.Compile(tree.Simplify())
	if err != nil {
		return nil
	}
	return prog
}

// CallingCode is the country's, or network's, of which a prefix is; "": there is
// none, or the prefix is shorter than it.
func CallingCode(prefix string) string {
	plans := callingPlans()
	for n := 1; n <= min(maxCallingCode, len(prefix)); n++ {
		if _, ok := plans[prefix[:n]]; ok {
			return prefix[:n]
		}
	}
	return ""
}

// A fit says how digits go with a pattern.
type fit uint8

const (
	dead    fit = iota // nothing that begins so matches
	begun              // something that begins so may
	matched            // the digits, or their first ones, match
)

// A numbering remembers how digits went through patterns: half a million prefixes
// take the same few ways. It is not for two goroutines at once.
type numbering map[*syntax.Prog]*automaton

// An automaton is a pattern as far as digits have been through it.
type automaton struct {
	prog   *syntax.Prog
	states []state
	ids    map[string]int32 // of states, by what they are of the pattern's
}

type state struct {
	of   []uint32 // the pattern's that it may be in
	fit  fit
	next [10]int32 // by digit; unknown: nobody has been there
}

const unknown = -1

func (n numbering) fits(p *syntax.Prog, digits string) fit {
	a := n[p]
	if a == nil {
		a = &automaton{prog: p, ids: map[string]int32{}}
		a.state(closure(p, nil, uint32(p.Start)))
		n[p] = a
	}
	at := int32(0)
	for i := 0; i < len(digits) && a.states[at].fit == begun; i++ {
		next := a.states[at].next[digits[i]-'0']
		if next == unknown {
			next = a.step(at, digits[i])
		}
		at = next
	}
	return a.states[at].fit
}

// step is where a digit leads for the first time.
func (a *automaton) step(at int32, digit byte) int32 {
	var of []uint32
	for _, s := range a.states[at].of {
		if inst := &a.prog.Inst[s]; inst.MatchRune(rune(digit)) {
			of = closure(a.prog, of, inst.Out)
		}
	}
	next := a.state(of)
	a.states[at].next[digit-'0'] = next
	return next
}

// state is the one of these states of the pattern.
func (a *automaton) state(of []uint32) int32 {
	slices.Sort(of)
	var name []byte
	for _, s := range of {
		name = binary.LittleEndian.AppendUint32(name, s)
	}
	if id, ok := a.ids[string(name)]; ok {
		return id
	}
	one := state{of: of, fit: begun}
	for i := range one.next {
		one.next[i] = unknown
	}
	if len(of) == 0 {
		one.fit = dead
	}
	for _, s := range of {
		if a.prog.Inst[s].Op == syntax.InstMatch {
			one.fit = matched
		}
	}
	id := int32(len(a.states))
	a.states = append(a.states, one)
	a.ids[string(name)] = id
	return id
}

// closure adds a state and what is reached from it without a digit.
func closure(p *syntax.Prog, states []uint32, s uint32) []uint32 {
	switch inst := &p.Inst[s]; inst.Op {
	case syntax.InstAlt, syntax.InstAltMatch:
		return closure(p, closure(p, states, inst.Out), inst.Arg)
	case syntax.InstCapture, syntax.InstNop, syntax.InstEmptyWidth:
		return closure(p, states, inst.Out)
	case syntax.InstFail:
		return states
	}
	if !slices.Contains(states, s) {
		states = append(states, s)
	}
	return states
}

// owners are the countries whose numbers may begin with the digits after the
// calling code.
func (n numbering) owners(p *callingPlan, national string) []string {
	var owners []string
	for _, r := range p.regions {
		if r.leading != nil {
			switch n.fits(r.leading, national) {
			case matched:
				return []string{r.country}
			case begun:
				owners = append(owners, r.country)
			}
			continue
		}
		if r.numbers == nil || n.fits(r.numbers, national) != dead {
			owners = append(owners, r.country)
		}
	}
	if len(owners) == 0 {
		return p.countries
	}
	return owners
}

// exists reports whether any number of the calling code begins with the digits
// after it.
func (n numbering) exists(p *callingPlan, national string) bool {
	for _, r := range p.regions {
		if r.numbers == nil || n.fits(r.numbers, national) != dead {
			return true
		}
	}
	return false
}

// lostZero is the national part with the zero that its country's fixed lines keep
// and a spreadsheet may have dropped; "": that would be no number either.
func (n numbering) lostZero(p *callingPlan, national string) string {
	if national == "" || national[0] == '0' || n.exists(p, national) {
		return ""
	}
	for _, r := range p.regions {
		if r.fixed != nil && n.fits(r.fixed, "0"+national) != dead {
			return "0" + national
		}
	}
	return ""
}
