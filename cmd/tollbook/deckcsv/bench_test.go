package deckcsv

import (
	"fmt"
	"strings"
	"testing"

	"tollbook/projections/decks"
)

// large is a deck of n rows as they are in trade: operators' ranges of some
// countries, with prices of their own.
func large(n int) string {
	var b strings.Builder
	b.WriteString("prefix,destination,country,type,rate_per_min,connect_fee,increment,currency\n")
	countries := []struct{ code, iso string }{{"39", "IT"}, {"49", "DE"}, {"44", "GB"}, {"1", "US"}, {"55", "BR"}}
	rows := 0
	for i := 0; rows < n; i++ {
		for _, c := range countries {
			if rows++; rows > n {
				break
			}
			fmt.Fprintf(&b, "%s%06d,%s - Operator %d,%s,mobile,0.%04d,0,60/60,EUR\n", c.code, 300_000+i*7, c.iso, i%400, c.iso, 100+i%900)
		}
	}
	return b.String()
}

const largeRows = 500_000

// perRow reports how many rows a second were done.
func perRow(b *testing.B) { b.ReportMetric(largeRows*float64(b.N)/b.Elapsed().Seconds(), "rows/s") }

func BenchmarkParse(b *testing.B) {
	text := large(largeRows)
	for b.Loop() {
		if _, err := Parse(strings.NewReader(text), options()); err != nil {
			b.Fatal(err)
		}
	}
	perRow(b)
}

func BenchmarkParseDecimalCommas(b *testing.B) {
	text := strings.NewReplacer(",0.", ";0,", ",", ";").Replace(large(largeRows))
	for b.Loop() {
		if _, err := Parse(strings.NewReader(text), options()); err != nil {
			b.Fatal(err)
		}
	}
	perRow(b)
}

func sheet(b *testing.B) *decks.Sheet {
	s, err := Parse(strings.NewReader(large(largeRows)), options())
	if err != nil {
		b.Fatal(err)
	}
	return s
}

func BenchmarkEvents(b *testing.B) {
	s := sheet(b)
	for b.Loop() {
		if _, err := s.Events(); err != nil {
			b.Fatal(err)
		}
	}
	perRow(b)
}

func BenchmarkLint(b *testing.B) {
	s := sheet(b)
	for b.Loop() {
		decks.Lint(s, decks.Terms{})
	}
	perRow(b)
}

func BenchmarkLintInForce(b *testing.B) {
	s, before := sheet(b), sheet(b)
	for b.Loop() {
		decks.Lint(s, decks.Terms{Book: true, InForce: before})
	}
	perRow(b)
}

func BenchmarkCompare(b *testing.B) {
	s, before := sheet(b), sheet(b)
	for b.Loop() {
		decks.Compare(before, s, decks.DiffPage{})
	}
	perRow(b)
}
