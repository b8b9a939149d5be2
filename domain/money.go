package domain

import (
	"errors"
	"fmt"
	"math/big"
	"strconv"
	"strings"
)

// Micros is a price or fee in millionths of the currency's unit.
type Micros int64

// MaxMicros is the highest price or fee taken: a million units.
const MaxMicros = Micros(1_000_000_000_000)

var errPrice = errors.New("must be a decimal string from 0 to 1000000 with at most six decimals, such as \"0.0160\"")

// ParseMicros reads a decimal such as 0.0160 exactly.
func ParseMicros(s string) (Micros, error) {
	whole, frac, dot := strings.Cut(s, ".")
	if whole == "" || len(whole) > 7 || dot && frac == "" || len(frac) > 6 {
		return 0, errPrice
	}
	var v int64
	for _, c := range []byte(whole + frac) {
		if c < '0' || c > '9' {
			return 0, errPrice
		}
		v = v*10 + int64(c-'0')
	}
	for i := len(frac); i < 6; i++ {
		v *= 10
	}
	if Micros(v) > MaxMicros {
		return 0, errPrice
	}
	return Micros(v), nil
}

// Append adds the price without trailing zeros: 0.125, 0.
func (p Micros) Append(dst []byte) []byte {
	dst = strconv.AppendInt(dst, int64(p)/1_000_000, 10)
	if frac := int64(p) % 1_000_000; frac > 0 {
		dst = append(dst, '.')
		dst = append(dst, strings.TrimRight(fmt.Sprintf("%06d", frac), "0")...)
	}
	return dst
}

func (p Micros) String() string { return string(p.Append(nil)) }

// An Increment is the billing step of R2: the first First seconds whole, then
// steps of Step seconds.
type Increment struct{ First, Step int32 }

// DefaultIncrement is 60/60.
var DefaultIncrement = Increment{60, 60}

// MaxIncrement is the longest increment taken: a day, in seconds.
const MaxIncrement = 86400

var errIncrement = errors.New("must be seconds/seconds from 1 to 86400, such as 60/60")

// ParseIncrement reads 60/60.
func ParseIncrement(s string) (Increment, error) {
	first, step, ok := strings.Cut(s, "/")
	f, err1 := strconv.ParseUint(first, 10, 32)
	n, err2 := strconv.ParseUint(step, 10, 32)
	if !ok || err1 != nil || err2 != nil || f < 1 || n < 1 || f > MaxIncrement || n > MaxIncrement {
		return Increment{}, errIncrement
	}
	return Increment{int32(f), int32(n)}, nil
}

func (i Increment) String() string { return fmt.Sprintf("%d/%d", i.First, i.Step) }

// Seconds is what a call of that talk time is billed, by R2.
func (i Increment) Seconds(billableMS int64) int64 {
	s := (billableMS + 999) / 1000
	switch {
	case s == 0:
		return 0
	case s <= int64(i.First):
		return int64(i.First)
	}
	step := int64(i.Step)
	return int64(i.First) + (s-int64(i.First)+step-1)/step*step
}

// A Currency is an ISO 4217 code.
type Currency string

// NoCurrency is XXX, what a tenant has that never said.
const NoCurrency = Currency("XXX")

var errCurrency = errors.New("must be an ISO 4217 code of three capitals, such as EUR")

// ParseCurrency reads EUR.
func ParseCurrency(s string) (Currency, error) {
	if len(s) != 3 || strings.Trim(s, "ABCDEFGHIJKLMNOPQRSTUVWXYZ") != "" {
		return "", errCurrency
	}
	return Currency(s), nil
}

// minorDigits holds the currencies of ISO 4217 (list one, 2024-06-25) whose minor unit is not
// two digits. The tables of x/text follow CLDR, which differs from it (ALL, RSD, IQD, …).
var minorDigits = map[Currency]int{
	"BIF": 0, "CLP": 0, "DJF": 0, "GNF": 0, "ISK": 0, "JPY": 0, "KMF": 0, "KRW": 0, "PYG": 0, "RWF": 0,
	"UGX": 0, "UYI": 0, "VND": 0, "VUV": 0, "XAF": 0, "XOF": 0, "XPF": 0,
	"BHD": 3, "IQD": 3, "JOD": 3, "KWD": 3, "LYD": 3, "OMR": 3, "TND": 3,
	"CLF": 4, "UYW": 4,
}

// Digits is how many minor digits amounts in c have; 2 where ISO 4217 names none.
func (c Currency) Digits() int {
	if d, ok := minorDigits[c]; ok {
		return d
	}
	return 2
}

// An Amount is money in minor units of a currency.
type Amount struct {
	Minor  big.Int
	Digits int
}

// Charge is R8 summed over a line and rounded once, half away from zero (R9):
// seconds × price ÷ 60 + calls × fee, in a currency of that many minor digits.
func Charge(price, fee Micros, calls, seconds int64, digits int) Amount {
	num := new(big.Int).Mul(big.NewInt(seconds), big.NewInt(int64(price)))
	fees := new(big.Int).Mul(big.NewInt(calls*60), big.NewInt(int64(fee)))
	num.Add(num, fees)
	num.Mul(num, new(big.Int).Exp(big.NewInt(10), big.NewInt(int64(digits)), nil))
	a := Amount{Digits: digits}
	roundHalfAway(&a.Minor, num, big.NewInt(60_000_000))
	return a
}

// roundHalfAway sets z to num ÷ den rounded half away from zero; den > 0.
func roundHalfAway(z, num, den *big.Int) {
	abs := new(big.Int).Abs(num)
	abs.Lsh(abs, 1).Add(abs, den)
	z.Quo(abs, new(big.Int).Lsh(den, 1))
	if num.Sign() < 0 {
		z.Neg(z)
	}
}

// Add adds b, of the same currency, to a.
func (a *Amount) Add(b Amount) {
	a.Minor.Add(&a.Minor, &b.Minor)
	a.Digits = b.Digits
}

// String is the amount with exactly the currency's minor digits: 9.50, -0.13.
func (a Amount) String() string {
	text := new(big.Int).Abs(&a.Minor).String()
	for len(text) <= a.Digits {
		text = "0" + text
	}
	if a.Digits > 0 {
		cut := len(text) - a.Digits
		text = text[:cut] + "." + text[cut:]
	}
	if a.Minor.Sign() < 0 {
		text = "-" + text
	}
	return text
}
