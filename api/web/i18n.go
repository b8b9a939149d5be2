package web

import (
	"fmt"
	"html/template"
	"math/big"
	"net/http"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/feature/plural"
	"golang.org/x/text/language"
	"golang.org/x/text/message"
	"golang.org/x/text/message/catalog"

	"tollbook/domain"
	"tollbook/projections"
	"tollbook/projections/decks"
)

// The languages of the page, the default first.
var languages = []language.Tag{language.English, language.Italian}

var matcher = language.NewMatcher(languages)

// A locale writes in one language. It is not changed once it is made.
type locale struct {
	tag     language.Tag
	printer *message.Printer
	group   string // between thousands
	decimal string // before the fraction
	months  []string
}

// locales are by their position in languages.
var locales = makeLocales()

// pluralMark separates what is said of one from what is said of any other number.
const pluralMark = "|"

func makeLocales() []*locale {
	b := catalog.NewBuilder(catalog.Fallback(language.English))
	for english, italian := range italian {
		for tag, text := range map[language.Tag]string{language.English: english, language.Italian: italian} {
			var err error
			if one, other, has := strings.Cut(text, pluralMark); has {
				err = b.Set(tag, english, plural.Selectf(1, "%d", plural.One, one, plural.Other, other))
			} else {
				err = b.SetString(tag, english, text)
			}
			if err != nil {
				panic(fmt.Sprintf("message %q: %v", english, err))
			}
		}
	}
	var made []*locale
	for _, tag := range languages {
		l := &locale{tag: tag, printer: message.NewPrinter(tag, message.Catalog(b))}
		// As the library writes numbers, exact decimals are written too.
		l.group = strings.Trim(l.printer.Sprintf("%d", 1000), "10")
		l.decimal = strings.Trim(l.printer.Sprintf("%.1f", 1.5), "15")
		l.months = strings.Fields(l.t(englishMonths))
		made = append(made, l)
	}
	return made
}

// untranslated marks what the catalogue lacks, which a test looks for on every page.
const untranslated = "⟦"

// t is a message in the language; english is its text in English, and its name.
func (l *locale) t(english string, args ...any) string {
	if _, has := italian[english]; !has {
		return untranslated + english + "⟧"
	}
	return l.printer.Sprintf(english, args...)
}

// num is a whole number with its thousands apart.
func (l *locale) num(n any) string {
	switch n := n.(type) {
	case string:
		return l.exact(n)
	case fmt.Stringer:
		return l.exact(n.String())
	}
	return l.printer.Sprintf("%d", n)
}

// exact is a decimal of a document as the language writes it: every digit stays.
func (l *locale) exact(text string) string {
	sign, digits := "", text
	if rest, negative := strings.CutPrefix(text, "-"); negative {
		sign, digits = "\u2212", rest
	}
	whole, fraction, has := strings.Cut(digits, ".")
	if whole == "" || strings.Trim(whole+fraction, "0123456789") != "" {
		return text // no decimal: it stays as it is
	}
	var b strings.Builder
	b.WriteString(sign)
	for i, digit := range whole {
		if i > 0 && (len(whole)-i)%3 == 0 {
			b.WriteString(l.group)
		}
		b.WriteRune(digit)
	}
	if has {
		b.WriteString(l.decimal + fraction)
	}
	return b.String()
}

// money is an exact amount with its currency.
func (l *locale) money(amount, currency any) string {
	return text(currency) + "\u00a0" + l.exact(text(amount))
}

// text is a string, or what is one: null is none.
func text(v any) string {
	switch v := v.(type) {
	case string:
		return v
	case *string:
		if v == nil {
			return ""
		}
		return *v
	}
	return fmt.Sprint(v)
}

// fraction is an exact rational such as 61/480.
func (l *locale) fraction(text string) string {
	numerator, denominator, has := strings.Cut(text, "/")
	if !has {
		return l.exact(text)
	}
	return l.exact(numerator) + "/" + l.exact(denominator)
}

// worth is a rational as a decimal: = where it is exactly that, ≈ where it is not.
// A whole number needs none.
func (l *locale) worth(text string) string {
	r, ok := new(big.Rat).SetString(text)
	if !ok || r.IsInt() {
		return ""
	}
	const digits = 6
	if n, exact := r.FloatPrec(); exact && n <= digits {
		return "= " + l.exact(r.FloatString(n))
	}
	return "≈ " + l.exact(r.FloatString(digits))
}

// heading begins with a capital, which not every language's months do.
func heading(text string) string {
	first, size := utf8.DecodeRuneInString(text)
	return string(unicode.ToUpper(first)) + text[size:]
}

// minutes are seconds as m:ss, which is how minutes are granted and charged.
func (l *locale) minutes(seconds int64) string {
	sign := ""
	if seconds < 0 {
		sign, seconds = "\u2212", -seconds
	}
	return fmt.Sprintf("%s%s:%02d", sign, l.num(seconds/60), seconds%60)
}

// share is part of whole in percent, rounded down; all of nothing is 100.
func share(part, whole int64) int64 {
	switch {
	case whole <= 0 && part <= 0:
		return 0
	case whole <= 0:
		return 100
	}
	return part * 100 / whole
}

// instant reads a time of a document; "", or null, is the zero time.
func instant(at any) time.Time {
	var text string
	switch at := at.(type) {
	case time.Time:
		return at
	case domain.Instant:
		return at.Time()
	case string:
		text = at
	case *string:
		if at != nil {
			text = *at
		}
	}
	t, err := time.Parse(time.RFC3339Nano, text)
	if err != nil {
		return time.Time{}
	}
	return t
}

// day is a date in words: 29 October.
func (l *locale) day(zone *time.Location, at any) string {
	t := instant(at).In(zone)
	return strconv.Itoa(t.Day()) + " " + l.months[t.Month()-1]
}

// when is a time to the second where the tenant is, as a time element that has
// the document's own.
func (l *locale) when(zone *time.Location, at any) template.HTML {
	t := instant(at)
	if t.IsZero() {
		return ""
	}
	local := t.In(zone)
	text := fmt.Sprintf("%d %s %d, %s", local.Day(), l.months[local.Month()-1], local.Year(), local.Format("15:04:05"))
	exact := template.HTMLEscapeString(t.UTC().Format(time.RFC3339Nano))
	return template.HTML(fmt.Sprintf(`<time datetime="%s" title="%s">%s</time>`, exact, exact, template.HTMLEscapeString(text)))
}

// short is a time in a narrow column: day, month and minute.
func (l *locale) short(zone *time.Location, at any) template.HTML {
	t := instant(at)
	if t.IsZero() {
		return ""
	}
	local := t.In(zone)
	name := []rune(l.months[local.Month()-1])
	text := fmt.Sprintf("%d %s %s", local.Day(), string(name[:3]), local.Format("15:04"))
	exact := template.HTMLEscapeString(t.UTC().Format(time.RFC3339Nano))
	return template.HTML(fmt.Sprintf(`<time datetime="%s" title="%s">%s</time>`, exact, exact, template.HTMLEscapeString(text)))
}

// month is a month in words: October 2026.
func (l *locale) month(name string) string {
	m, err := domain.ParseMonth(name)
	if err != nil {
		return name
	}
	return l.months[m%12] + " " + strconv.Itoa(int(m/12))
}

// languageCookie keeps the language that was chosen.
const languageCookie = "lang"

// languageOf is the language of a request: what it asks for, what was chosen
// before, what the browser prefers. chosen: it asks for one.
func languageOf(r *http.Request) (number int, chosen bool) {
	asked := r.URL.Query().Get("lang")
	said := asked
	if c, err := r.Cookie(languageCookie); said == "" && err == nil {
		said = c.Value
	}
	for i, tag := range languages {
		if tag.String() == said {
			return i, asked != ""
		}
	}
	_, i := language.MatchStrings(matcher, r.Header.Get("Accept-Language"))
	return i, false
}

// said is a time in a sentence.
func (l *locale) said(zone *time.Location, at any) string {
	t := instant(at).In(zone)
	return l.day(zone, t) + ", " + t.Format("15:04")
}

// code is what a code of the documents means; one that is not known, itself.
func (l *locale) code(of map[string]string) func(any) string {
	return func(code any) string {
		if english, has := of[fmt.Sprint(code)]; has {
			return l.t(english)
		}
		return fmt.Sprint(code)
	}
}

// funcs are what templates write with.
func (l *locale) funcs() template.FuncMap {
	return template.FuncMap{
		"t": l.t, "num": l.num, "exact": l.exact, "money": l.money, "fraction": l.fraction, "worth": l.worth, "heading": heading, "minutes": l.minutes,
		"day": l.day, "when": l.when, "short": l.short, "said": l.said, "monthname": l.month, "lang": l.tag.String,
		"class": l.code(classes), "reason": l.code(reasons), "exception": l.code(exceptions), "remedy": l.code(remedies), "outcome": l.code(outcomes), "word": l.code(words),
		"deckstate": l.code(deckStates), "deckchange": l.code(deckChanges), "finding": l.code(findings), "deckof": deckQuery,
		"severity": func(s decks.Severity) string {
			return map[decks.Severity]string{decks.SevereError: stateBad, decks.SevereWarning: stateWarn}[s]
		},
		"call": callQuery, "searchin": func(text, month string) template.URL { return query("q", text, "month", month) }, "pool": poolQuery, "lineof": lineOfQuery, "linekey": lineQuery, "anchor": anchor,
		"open":      func(s projections.SourceGaps) int64 { return int64(s.MissingCount) - int64(s.WaivedCount) },
		"grantrule": l.code(grants), "grantrules": func() []string { return domain.Grants[:] },
		"text": func(v []byte) string { return string(v) },
		"part": share,
		"pair": func(a, b any) [2]any { return [2]any{a, b} },
	}
}
