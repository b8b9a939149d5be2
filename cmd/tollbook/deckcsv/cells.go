package deckcsv

import (
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"

	"tollbook/domain"
	"tollbook/projections/decks"
)

// Limits of a prefix, in digits. No country code of E.164 begins with 0.
const (
	maxPrefixDigits = domain.MaxDigits
	minShortDigits  = 2
	maxShortDigits  = 6
)

// maxRange is how many prefixes a range may be.
const maxRange = 1000

var errPrefix = errors.New("must be 1 to 15 leading digits of an E.164 number (no country code begins with 0), or = and the 2 to 6 digits of a short number")

// isPrefix reports whether s is 39, or =4242.
func isPrefix(s string) bool {
	digits, short := strings.CutPrefix(s, "=")
	least, most := minShortDigits, maxShortDigits
	if !short {
		least, most = 1, maxPrefixDigits
	}
	return len(digits) >= least && len(digits) <= most && isDigits(digits) && (short || digits[0] != '0')
}

func isDigits(s string) bool {
	for i := 0; i < len(s); i++ {
		if s[i] < '0' || s[i] > '9' {
			return false
		}
	}
	return true
}

// What Excel makes of prefixes. A day and a month are two numbers and a name, or
// three numbers of which one is a year.
var (
	excelDate     = regexp.MustCompile(`(?i)^(\d{1,4}[-./ ])?(jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec|gen|mag|giu|lug|ago|set|ott|dic|mär|mai|okt|dez)[a-zäò]*\.?([-./ ]\d{1,4})?$|^\d{4}[-./]\d{1,2}[-./]\d{1,2}( .*)?$|^\d{1,2}[-./]\d{1,2}[-./]\d{2,4}( .*)?$`)
	excelExponent = regexp.MustCompile(`^(\d)(?:[.,](\d+))?[eE]\+?(\d{1,2})$`)
	excelDecimal  = regexp.MustCompile(`^(\+?\d+)[.,]00?$`)
	excelText     = regexp.MustCompile(`^(?:="([^"]*)"|'(.*))$`)
)

var (
	errExcelDate = errors.New("is a date that Excel has made of something else, which is lost; format the column as text in the original and save it again")
	errSpace     = errors.New("may be one prefix or two; write it without spaces, or as a list with commas")
	errGrouped   = errors.New("may be one prefix with its digits grouped, or a list of several countries' prefixes; write one prefix a row")
)

// listed are the separators of prefixes in one cell.
const listed = ",;/|&\n\r"

// prefixes reads the prefixes of a cell into f.list: mostly one. code is the
// calling code they follow; "": they are whole.
func (f *file) prefixes(cell, code string) error {
	f.list = f.list[:0]
	// Most cells are plain, and need none of what follows.
	switch plain, signed := strings.CutPrefix(cell, "+"); {
	case code == "" && isPrefix(plain):
		if signed {
			f.noteCell(notedSign, cell, plain)
		}
		f.list = append(f.list, strings.Clone(plain))
		return nil
	case code != "" && cell != "" && isDigits(cell) && isPrefix(code+cell):
		f.noteCell(notedCode, cell, code+cell)
		f.list = append(f.list, code+cell)
		return nil
	}
	s := cell
	if m := excelText.FindStringSubmatch(s); m != nil {
		s = m[1] + m[2]
		f.noteCell(notedExcel, cell, s)
	}
	if excelDate.MatchString(s) {
		return errExcelDate
	}
	items := []string{s}
	if strings.ContainsAny(s, listed) && !excelDecimal.MatchString(s) && !excelExponent.MatchString(s) {
		items = strings.FieldsFunc(s, func(r rune) bool { return strings.ContainsRune(listed, r) })
	}
	for _, item := range items {
		if err := f.prefixItem(strings.TrimSpace(item), code); err != nil {
			if len(items) > 1 {
				return fmt.Errorf("%.40q in the list: %w", item, err)
			}
			return err
		}
	}
	if code == "" && len(items) > 1 && looksGrouped(s) && !sameCallingCode(f.list) {
		return errGrouped
	}
	if len(items) == 0 {
		return errPrefix
	}
	if len(items) > 1 {
		f.noteCell(notedList, cell, fmt.Sprintf("%d prefixes", len(f.list)))
	}
	return nil
}

// prefixItem reads one of a list: a prefix, or a range of them.
func (f *file) prefixItem(item, code string) error {
	from, to, isRange := strings.Cut(strings.ReplaceAll(item, "–", "-"), "-")
	if !isRange {
		digits, err := f.prefix(item, code)
		if err == nil {
			err = f.room(1)
		}
		if err == nil {
			f.list = append(f.list, digits)
		}
		return err
	}
	first, err := f.prefix(strings.TrimSpace(from), code)
	if err != nil {
		return err
	}
	last, err := f.prefix(strings.TrimSpace(to), code)
	if err != nil {
		return err
	}
	if strings.HasPrefix(first, "=") || len(first) != len(last) || first >= last {
		return fmt.Errorf("must be two prefixes of as many digits, the lower first, to be a range such as 390-395")
	}
	low, _ := strconv.ParseUint(first, 10, 64) // both are digits, 15 at most
	high, _ := strconv.ParseUint(last, 10, 64)
	if high-low >= maxRange {
		return fmt.Errorf("the range has %d prefixes; at most %d are taken: write the shorter prefix that they share", high-low+1, maxRange)
	}
	if err := f.room(int(high - low + 1)); err != nil {
		return err
	}
	for n := low; n <= high; n++ {
		f.list = append(f.list, strconv.FormatUint(n, 10))
	}
	f.noteCell(notedRange, item, fmt.Sprintf("%d prefixes from %s to %s", high-low+1, first, last))
	return nil
}

// prefix reads one prefix, behind its calling code if there is one.
func (f *file) prefix(s, code string) (string, error) {
	given := s
	if m := excelExponent.FindStringSubmatch(s); m != nil {
		exponent, _ := strconv.Atoi(m[3])
		digits := m[1] + m[2]
		if exponent > len(digits)-1 {
			return "", fmt.Errorf("has only %d of its %d digits left by Excel; format the column as text in the original and save it again", len(digits), exponent+1)
		}
		s = digits[:exponent+1]
		if strings.Trim(digits[exponent+1:], "0") != "" {
			return "", errPrefix
		}
	}
	if m := excelDecimal.FindStringSubmatch(s); m != nil {
		s = m[1]
	}
	if s != given {
		f.noteCell(notedExcel, given, s)
	}
	switch {
	case strings.ContainsAny(s, " \u00a0"):
		return "", errSpace
	case code != "":
		whole := code + s
		if !isDigits(s) || !isPrefix(whole) {
			return "", fmt.Errorf("must be the digits that follow the calling code %s, 15 with it at most", code)
		}
		f.noteCell(notedCode, given, whole)
		return whole, nil
	}
	plain, signed := strings.CutPrefix(s, "+")
	if !signed {
		plain, signed = strings.CutPrefix(s, "00")
	}
	if !isPrefix(plain) {
		return "", errPrefix
	}
	if signed {
		f.noteCell(notedSign, given, plain)
	}
	return strings.Clone(plain), nil
}

// room refuses more rows than a deck may have, before there is memory for them.
func (f *file) room(n int) error {
	if len(f.rows)+len(f.list)+n > f.max {
		return fmt.Errorf("the deck has more than %d rows; split it into decks of fewer", f.max)
	}
	return nil
}

// looksGrouped reports whether a list may be one number with its digits in groups
// of three.
func looksGrouped(s string) bool {
	parts := strings.Split(s, ",")
	for _, p := range parts[1:] {
		if len(p) != 3 || !isDigits(p) {
			return false
		}
	}
	return len(parts) > 1 && len(parts[0]) <= 3 && isDigits(parts[0])
}

// sameCallingCode reports whether all prefixes are of one calling code.
func sameCallingCode(list []string) bool {
	for _, p := range list {
		if code := decks.CallingCode(p); code == "" || code != decks.CallingCode(list[0]) {
			return false
		}
	}
	return true
}

// callingCode reads the cell of a calling code: 39, +39 or 0039.
func callingCode(s string) (string, error) {
	if m := excelDecimal.FindStringSubmatch(s); m != nil {
		s = m[1]
	}
	s = strings.TrimPrefix(strings.TrimPrefix(s, "+"), "00")
	if !isPrefix(s) || len(s) > 7 {
		return "", errors.New("must be the calling code of a country, such as 39")
	}
	return s, nil
}

var errPrice = errors.New("must be a decimal from 0 to 1000000 with at most six decimals, such as 0.0160")

// moneySigns are those that prices may have, where they are the deck's currency.
var moneySigns = []struct {
	sign     string
	currency domain.Currency
}{{"€", "EUR"}, {"£", "GBP"}, {"$", "USD"}}

// priceExponent is a price that Excel writes as 1.6E-02.
var priceExponent = regexp.MustCompile(`^(\d+)(?:[.,](\d+))?[eE]([-+]?\d{1,2})$`)

// price reads a price exactly, however it is spelled; the decimal mark must be the
// same in the whole file.
func (f *file) price(cell string) (domain.Micros, error) {
	if m, err := domain.ParseMicros(cell); err == nil {
		if strings.Contains(cell, ".") {
			return m, f.mark('.')
		}
		return m, nil
	}
	s := cell
	for _, m := range moneySigns {
		plain, signed := strings.CutPrefix(s, m.sign)
		if !signed {
			if plain, signed = strings.CutSuffix(s, m.sign); !signed {
				continue
			}
		}
		plain = strings.TrimSpace(plain)
		if m.currency != f.currency {
			return 0, fmt.Errorf("is in %s, and the deck in %s; make them one", m.currency, f.currency)
		}
		s = plain
		f.noteCell(notedSigned, cell, s)
	}
	point, comma := strings.LastIndexByte(s, '.'), strings.LastIndexByte(s, ',')
	decimal := byte('.')
	if comma > point && strings.Count(s, ",") == 1 || point >= 0 && strings.Count(s, ".") > 1 {
		decimal = ','
	}
	if comma >= 0 || point >= 0 {
		if err := f.mark(decimal); err != nil {
			return 0, err
		}
	}
	group := byte(',')
	if decimal == ',' {
		group = '.'
	}
	plain := s
	if strings.IndexByte(s, group) >= 0 {
		var ok bool
		if plain, ok = ungrouped(s, group, decimal); !ok {
			return 0, errPrice
		}
	}
	plain = strings.Replace(plain, string(decimal), ".", 1)
	if m := priceExponent.FindStringSubmatch(plain); m != nil {
		exponent, _ := strconv.Atoi(m[3])
		plain = shifted(m[1], m[2], exponent)
	}
	if whole, frac, ok := strings.Cut(plain, "."); ok {
		if whole == "" {
			whole = "0"
		}
		if len(frac) > 6 {
			frac = frac[:6] + strings.TrimRight(frac[6:], "0")
		}
		plain = whole + "." + frac
	}
	m, err := domain.ParseMicros(plain)
	if err != nil {
		return 0, errPrice
	}
	if decimal == ',' && comma >= 0 || strings.IndexByte(s, group) >= 0 || strings.ContainsAny(s, "eE") {
		f.noteCell(notedDecimal, cell, m.String())
	}
	return m, nil
}

// mark holds the file to its first decimal mark.
func (f *file) mark(decimal byte) error {
	if f.decimal == 0 {
		f.decimal, f.decimalAt = decimal, f.number
	}
	if f.decimal != decimal {
		return fmt.Errorf("line %d has a decimal %s, so this is no price; write all of them in one way", f.decimalAt, markNames[f.decimal])
	}
	return nil
}

var markNames = map[byte]string{0: "none", '.': "point", ',': "comma"}

// ungrouped removes the marks between thousands: 1.234,56.
func ungrouped(s string, group, decimal byte) (string, bool) {
	whole, frac, _ := strings.Cut(s, string(decimal))
	groups := strings.Split(whole, string(group))
	for i, g := range groups {
		if !isDigits(g) || i > 0 && len(g) != 3 || len(g) == 0 || len(g) > 3 {
			return "", false
		}
	}
	if strings.IndexByte(frac, group) >= 0 {
		return "", false
	}
	if frac == "" {
		return strings.Join(groups, ""), true
	}
	return strings.Join(groups, "") + string(decimal) + frac, true
}

// shifted is digits with an exponent as a plain decimal.
func shifted(whole, frac string, exponent int) string {
	digits, point := whole+frac, len(whole)+exponent
	if point <= 0 {
		digits, point = strings.Repeat("0", 1-point)+digits, 1
	}
	if point > len(digits) {
		digits += strings.Repeat("0", point-len(digits))
	}
	whole = strings.TrimLeft(digits[:point], "0")
	if whole == "" {
		whole = "0"
	}
	if frac = strings.TrimRight(digits[point:], "0"); frac == "" {
		return whole
	}
	return whole + "." + frac
}

var errIncrement = errors.New("must be seconds/seconds from 1 to 86400, such as 60/60")

// increment reads 60/60, however the two are parted, or one number for both.
func (f *file) increment(cell string) (domain.Increment, error) {
	if i, err := domain.ParseIncrement(cell); err == nil {
		return i, nil
	}
	if excelDate.MatchString(cell) {
		return domain.Increment{}, errExcelDate
	}
	first, step := cell, cell
	if at := strings.IndexAny(cell, "/+-:|;"); at >= 0 {
		first, step = strings.TrimSpace(cell[:at]), strings.TrimSpace(cell[at+1:])
	}
	i, err := domain.ParseIncrement(first + "/" + step)
	if err != nil {
		return i, errIncrement
	}
	f.noteCell(notedIncrement, cell, i.String())
	return i, nil
}
