package forecast

import (
	"slices"
	"time"

	"github.com/rickar/cal/v2"
	"github.com/rickar/cal/v2/ar"
	"github.com/rickar/cal/v2/at"
	"github.com/rickar/cal/v2/au"
	"github.com/rickar/cal/v2/be"
	"github.com/rickar/cal/v2/bg"
	"github.com/rickar/cal/v2/br"
	"github.com/rickar/cal/v2/ca"
	"github.com/rickar/cal/v2/ch"
	"github.com/rickar/cal/v2/cy"
	"github.com/rickar/cal/v2/cz"
	"github.com/rickar/cal/v2/de"
	"github.com/rickar/cal/v2/dk"
	"github.com/rickar/cal/v2/ee"
	"github.com/rickar/cal/v2/es"
	"github.com/rickar/cal/v2/fi"
	"github.com/rickar/cal/v2/fr"
	"github.com/rickar/cal/v2/gb"
	"github.com/rickar/cal/v2/gr"
	"github.com/rickar/cal/v2/hr"
	"github.com/rickar/cal/v2/hu"
	"github.com/rickar/cal/v2/ie"
	"github.com/rickar/cal/v2/is"
	"github.com/rickar/cal/v2/it"
	"github.com/rickar/cal/v2/jp"
	"github.com/rickar/cal/v2/ke"
	"github.com/rickar/cal/v2/lt"
	"github.com/rickar/cal/v2/lu"
	"github.com/rickar/cal/v2/lv"
	"github.com/rickar/cal/v2/mt"
	"github.com/rickar/cal/v2/mw"
	"github.com/rickar/cal/v2/mx"
	"github.com/rickar/cal/v2/nc"
	"github.com/rickar/cal/v2/nl"
	"github.com/rickar/cal/v2/no"
	"github.com/rickar/cal/v2/nz"
	"github.com/rickar/cal/v2/pl"
	"github.com/rickar/cal/v2/pt"
	"github.com/rickar/cal/v2/ro"
	"github.com/rickar/cal/v2/rs"
	"github.com/rickar/cal/v2/ru"
	"github.com/rickar/cal/v2/se"
	"github.com/rickar/cal/v2/si"
	"github.com/rickar/cal/v2/sk"
	"github.com/rickar/cal/v2/th"
	"github.com/rickar/cal/v2/ua"
	"github.com/rickar/cal/v2/us"
	"github.com/rickar/cal/v2/za"

	"tollbook/domain"
)

// national are the holidays of whole countries. Where the library has them by
// region, they are those that all regions have.
var national = map[string][]*cal.Holiday{
	"AR": ar.Holidays, "AT": at.Holidays, "BE": be.Holidays, "BG": bg.Holidays, "BR": br.Holidays, "CA": ca.Holidays, "CY": cy.Holidays,
	"CZ": cz.Holidays, "DE": de.Holidays, "DK": dk.Holidays, "EE": ee.Holidays, "ES": es.Holidays, "FI": fi.Holidays, "FR": fr.Holidays,
	"GB": gb.Holidays, "GR": gr.Holidays, "HR": hr.Holidays, "HU": hu.Holidays, "IE": ie.Holidays, "IS": is.Holidays, "IT": it.Holidays,
	"JP": jp.Holidays, "KE": ke.Holidays, "LT": lt.Holidays, "LU": lu.Holidays, "LV": lv.Holidays, "MT": mt.Holidays, "MW": mw.Holidays,
	"MX": mx.Holidays, "NC": nc.Holidays, "NL": nl.Holidays, "NO": no.Holidays, "NZ": nz.Holidays, "PL": pl.Holidays, "PT": pt.Holidays,
	"RO": ro.Holidays, "RS": rs.Holidays, "RU": ru.Holidays, "SE": se.Holidays, "SI": si.Holidays, "SK": sk.Holidays, "TH": th.Holidays,
	"UA": ua.Holidays, "US": us.Holidays, "ZA": za.Holidays,
	"PR": us.Holidays, // the federal ones, which hold there
	"AU": common(au.HolidaysACT, au.HolidaysNSW, au.HolidaysNT, au.HolidaysQLD, au.HolidaysSA, au.HolidaysTAS, au.HolidaysVIC, au.HolidaysWA),
	"CH": common(
		ch.HolidaysAG, ch.HolidaysAI, ch.HolidaysAR, ch.HolidaysBE, ch.HolidaysBL, ch.HolidaysBS, ch.HolidaysFR, ch.HolidaysGE, ch.HolidaysGL,
		ch.HolidaysGR, ch.HolidaysJU, ch.HolidaysLU, ch.HolidaysNE, ch.HolidaysNW, ch.HolidaysOW, ch.HolidaysSG, ch.HolidaysSH, ch.HolidaysSO,
		ch.HolidaysSZ, ch.HolidaysTG, ch.HolidaysTI, ch.HolidaysUR, ch.HolidaysVD, ch.HolidaysVS, ch.HolidaysZG, ch.HolidaysZH,
	),
}

func common(lists ...[]*cal.Holiday) (all []*cal.Holiday) {
	for _, h := range lists[0] {
		if !slices.ContainsFunc(lists[1:], func(list []*cal.Holiday) bool { return !slices.Contains(list, h) }) {
			all = append(all, h)
		}
	}
	return all
}

// holidaysIn are the days of a calendar month that are holidays in a country, by
// day of the month, each on the day it is kept on. known: the library has the
// country.
func holidaysIn(country string, year int, month time.Month) (days [32]bool, known bool) {
	list, known := national[country]
	for _, h := range list {
		// What is kept on another day may be so in another year than its own.
		for y := year - 1; y <= year+1; y++ {
			actual, observed := h.Calc(y)
			for _, t := range []time.Time{actual, observed} {
				if t.Year() == year && t.Month() == month {
					days[t.Day()] = true
				}
			}
		}
	}
	return days, known
}

// Holiday reports whether a day is one in a country. known: its holidays are.
func Holiday(country string, day time.Time) (is, known bool) {
	days, known := holidaysIn(country, day.Year(), day.Month())
	return days[day.Day()], known
}

// Kinds of days: weekdays by their number from Sunday on, and holidays.
const (
	holiday   = 7
	kindCount = 8
)

// free reports whether few work on such a day.
func free(kind uint8) int {
	if kind == uint8(time.Sunday) || kind == uint8(time.Saturday) || kind == holiday {
		return 1
	}
	return 0
}

type instant = domain.Instant

// A calendar is the tenant's days of a month: day n is from starts[n] until
// starts[n+1].
type calendar struct {
	zone      *time.Location
	starts    []instant
	countries map[string]*countryDays
}

// countryDays are what kind the days of a month are in a country.
type countryDays struct {
	kinds    []uint8
	known    bool
	holidays []string
}

func newCalendar(from, to instant, zone *time.Location) *calendar {
	c := &calendar{zone: zone, countries: map[string]*countryDays{}}
	first := from.Time().In(zone)
	for at := from; at < to; {
		c.starts = append(c.starts, at)
		// By date, as days of 23 and 25 hours are days.
		at = domain.InstantOf(time.Date(first.Year(), first.Month(), first.Day()+len(c.starts), 0, 0, 0, 0, zone))
	}
	c.starts = append(c.starts, to)
	return c
}

func (c *calendar) days() int     { return len(c.starts) - 1 }
func (c *calendar) from() instant { return c.starts[0] }
func (c *calendar) to() instant   { return c.starts[c.days()] }

// day is the number of the day that holds an instant of the month.
func (c *calendar) day(at instant) int {
	n, found := slices.BinarySearch(c.starts, at)
	if !found {
		n--
	}
	return min(max(n, 0), c.days()-1)
}

// of are the days in a country. A holiday on a weekend is a day of that weekend.
func (c *calendar) of(country string) *countryDays {
	d := c.countries[country]
	if d != nil {
		return d
	}
	d = &countryDays{kinds: make([]uint8, c.days()), holidays: []string{}}
	c.countries[country] = d
	var month time.Time
	var off [32]bool
	for n := range d.kinds {
		// Its middle, so that no change of the clock puts it into another day.
		at := (c.starts[n] + (c.starts[n+1]-c.starts[n])/2).Time().In(c.zone)
		if at.Month() != month.Month() || at.Year() != month.Year() {
			month = at
			off, d.known = holidaysIn(country, at.Year(), at.Month())
		}
		d.kinds[n] = uint8(at.Weekday())
		if off[at.Day()] && free(d.kinds[n]) == 0 {
			d.kinds[n] = holiday
			d.holidays = append(d.holidays, at.Format(time.DateOnly))
		}
	}
	return d
}
