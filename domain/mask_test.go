package domain_test

import (
	"strings"
	"testing"
	"unicode"

	"pgregory.net/rapid"

	"tollbook/domain"
)

func TestMaskNumbers(t *testing.T) {
	for _, c := range []struct{ text, want string }{
		{"", ""},
		{"+393471234567", "+39347*******"},
		{"393471234567", "39347*******"},
		{"00393471234567", "00393*********"},
		{"%2B393471234567", "%2B39347*******"},
		{"%2b393471234567", "%2b39347*******"},
		{`\u002b393471234567`, `\u002b39347*******`},
		{`\u0033\u0039\u0033\u0034\u0037\u0031\u0032`, `\u0033\u0039\u0033\u0034\u0037**`},
		{"%33%39%33%34%37%31%32", "%33%39%33%34%37**"},
		{"+39 347 123 4567", "+39 347 *** ****"},
		{"+39.347.123.4567", "+39.347.***.****"},
		{"+39-347-123-4567", "+39-347-***-****"},
		{"+39 (0) 6 1234567", "+39 (0) 6 1******"},
		{"(06) - 1234567", "(06) - 123****"},
		{"06/1234567", "06/123****"},
		{"+39%20347%201234567", "+39%20347%20*******"},
		{`39\t3471234567`, `39\t347*******`},
		{"+39 347 123–4567", "+39 347 ***–****"},
		{"\u202a+39\u00a0347\u00a01234567\u202c", "\u202a+39\u00a0347\u00a0*******\u202c"},
		{"٠٣٩٠٦١٢٣٤٥٦٧", "٠٣٩٠٦*******"},
		{"50%4412345678", "50%44123*****"},
		{`\u4412345678`, `\u44123*****`},
		{"sip:+393471234567@10.0.0.1;x", "sip:+39347*******@10.0.0.1;x"},
		{"x393471234567y", "x39347*******y"},
		{"*31#0441516204", "*31#04415*****"},
		{"+393471****", "+39347*****"},
		{"+39347*******", "+39347*******"},
		{"+393471234567,+390612345678", "+39347*******,+39061*******"},
		{"+393471234567 +390612345678", "+39347******* +39061*******"},
		{"1795383635.500", "17953*****.***"},
		{"1e4000000000", "1e40000*****"},
		{"x-2026-10-011234567", "x-2026-1*-*********"},
		{"2026-10-05 555", "2026-1*-** ***"},
		{"39-2026-10-05", "39-202*-**-**"},
		{"+2026-10-05", "+2026-1*-**"},
		{"0661-23-45", "0661-2*-**"},
		{"2026-10-05T10:00:00Z 0612345678", "2026-10-05T10:00:00Z 06123*****"},
		{"2026-10-05T10:00:00.0000000001Z", "2026-10-05T10:00:00.00000*****Z"},
		{"2026-10-05T393471234567", "2026-10-05T39347*******"},
		{"39347123-4567-8901-2345", "39347***-****-****-****"},
		{strings.Repeat("1", 32), "11111" + strings.Repeat("*", 27)},

		// Short runs, times, UUIDs and digests stay.
		{"112", "112"},
		{"123456", "123456"},
		{"12 34 56", "12 34 56"},
		{"+39347*", "+39347*"},
		{"100%", "100%"},
		{`\`, `\`},
		{"2026-10-05T10:00:00Z", "2026-10-05T10:00:00Z"},
		{"2026-10-05t10:00:00.123456789z", "2026-10-05t10:00:00.123456789z"},
		{"2026-10-05T10:00:00.5+02:00", "2026-10-05T10:00:00.5+02:00"},
		{"2026-10-05T10:00:00+0200", "2026-10-05T10:00:00+0200"},
		{"2026-10-05 10:00:00", "2026-10-05 10:00:00"},
		{`"9999-12-31T23:59:60Z"`, `"9999-12-31T23:59:60Z"`},
		{"2026-10-05", "2026-10-05"},
		{"2026-02-30", "2026-02-30"},
		{"2026-10-05T10", "2026-10-05T10"},
		{"a1234567-1234-4234-9234-123456789012", "a1234567-1234-4234-9234-123456789012"},
		{"12345678-1234-4234-9234-123456789012", "12345678-1234-4234-9234-123456789012"},
		{"sha256-4e72a75447c372cb6c7d87854e8db44d8360c11ad0545a3a5cdfe815c8bfd114", "sha256-4e72a75447c372cb6c7d87854e8db44d8360c11ad0545a3a5cdfe815c8bfd114"},
		{"e1007f3786fb08729c96d7ee3d73943f", "e1007f3786fb08729c96d7ee3d73943f"},
		{"7f3a-000123", "7f3a-000123"},
		{"\xff\xfe1234", "\xff\xfe1234"},
	} {
		if got := domain.MaskNumbers(c.text); got != c.want {
			t.Errorf("%q: got %q, want %q", c.text, got, c.want)
		}
	}
}

// Whatever stands around and between its digits, of a number no six digits in a
// row are left; everything that is no digit stays, and masking again changes nothing.
func TestMaskNumbersShowsFive(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		// Only these digits are drawn for the number, and none of them around it.
		digits := rapid.StringOfN(rapid.RuneFrom([]rune("6789")), domain.MaskedFrom, 40, -1).Draw(t, "digits")
		gap := rapid.SampledFrom([]string{"", "", "", " ", ".", "-", "(", ")", ") ", "/", "%20", `\u0020`, "\u00a0", "\u200b", `\t`, "–"})
		around := rapid.StringOf(rapid.RuneFrom([]rune("0123 .-+%:Tabz\"\\u(é")))
		// %2 before an 8 would make a bracket of it.
		text := around.Filter(func(s string) bool { return len(s) < 2 || s[len(s)-2] != '%' }).Draw(t, "before")
		for i, digit := range digits {
			if i > 0 {
				text += gap.Draw(t, "gap")
			}
			text += string(digit)
		}
		text += around.Draw(t, "after")
		got := domain.MaskNumbers(text)
		left := strings.Map(func(r rune) rune {
			if r < '6' || r > '9' {
				return -1
			}
			return r
		}, got)
		if len(left) > domain.ShownDigits || !strings.HasPrefix(digits, left) {
			t.Fatalf("%q became %q", text, got)
		}
		if again := domain.MaskNumbers(got); again != got {
			t.Fatalf("%q became %q, and then %q", text, got, again)
		}
	})
}

// FuzzMaskNumbers: nothing but digits changes, and masked text is left alone.
func FuzzMaskNumbers(f *testing.F) {
	for _, s := range []string{"+393471234567", "%2B39 347%", `\u0033\u00`, "2026-10-05T10:00:00.1234567890Z", "\xff1234567\xff", "٠٣٩٠٦١٢٣"} {
		f.Add(s)
	}
	plain := func(s string) string {
		var b strings.Builder
		for _, r := range s {
			if !unicode.IsDigit(r) && !strings.ContainsRune("*%\\uabcdefABCDEF", r) { // letters of spelled out digits go with them
				b.WriteRune(r)
			}
		}
		return b.String()
	}
	f.Fuzz(func(t *testing.T, s string) {
		got := domain.MaskNumbers(s)
		if plain(got) != plain(s) {
			t.Fatalf("%q became %q", s, got)
		}
		if again := domain.MaskNumbers(got); again != got {
			t.Fatalf("%q became %q, and then %q", s, got, again)
		}
	})
}
