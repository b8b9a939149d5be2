package forecast

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"tollbook/domain"
)

// TestHolidays: the days of a year that are no working days of their weekday, as
// calendars have them. Holidays on weekends are days of the weekend.
func TestHolidays(t *testing.T) {
	for _, c := range []struct {
		country string
		year    int
		want    string
	}{
		{"IT", 2026, "01-01 01-06 04-06 05-01 06-02 12-08 12-25"},
		{"DE", 2026, "01-01 04-03 04-06 05-01 05-14 05-25 12-25"},
		{"FR", 2026, "01-01 04-06 05-01 05-08 05-14 05-25 07-14 11-11 12-25"},
		{"GB", 2026, "01-01 04-03 04-06 05-04 05-25 08-31 12-25 12-28"}, // Boxing Day is a Saturday, and kept on Monday
		{"US", 2026, "01-01 01-19 02-16 05-25 06-19 07-03 09-07 10-12 11-11 11-26 12-25"},
		{"PR", 2026, "01-01 01-19 02-16 05-25 06-19 07-03 09-07 10-12 11-11 11-26 12-25"},
		{"US", 2022, "01-17 02-21 05-30 06-20 07-04 09-05 10-10 11-11 11-24 12-26"}, // New Year's Day of 2022 was kept in 2021
		{"US", 2021, "01-01 01-18 02-15 05-31 06-18 07-05 09-06 10-11 11-11 11-25 12-24 12-31"},
		{"CH", 2026, "01-01 05-14 12-25"}, // those of every canton
	} {
		var days []string
		for m := range domain.Month(12) {
			id := domain.Month(c.year*12) + m
			cal := newCalendar(id.Start(time.UTC), (id + 1).Start(time.UTC), time.UTC)
			of := cal.of(c.country)
			if !of.known {
				t.Errorf("%s: not known", c.country)
			}
			for _, day := range of.holidays {
				days = append(days, strings.TrimPrefix(day, fmt.Sprint(c.year, "-")))
			}
		}
		if diff := cmp.Diff(c.want, strings.Join(days, " ")); diff != "" {
			t.Errorf("%s %d: -want +got:\n%s", c.country, c.year, diff)
		}
	}
}

// TestCountries: the countries that the built-in catalogue has licences of, and
// those of them whose holidays nobody has told.
func TestCountries(t *testing.T) {
	licences := strings.Fields("AT BE BR CA CH CZ DE DK EE ES FI FR GB HR HU IE IT LT LU LV MX NL NO NZ PL PR PT RO SE SG SI SK US ZA")
	var unknown []string
	for _, country := range licences {
		if _, known := Holiday(country, time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)); !known {
			unknown = append(unknown, country)
		}
	}
	if !slices.Equal(unknown, []string{"SG"}) {
		t.Errorf("no holidays known of %v", unknown)
	}
}

// TestCalendar: days begin at midnight where the tenant is, whatever the clock does.
func TestCalendar(t *testing.T) {
	rome, err := time.LoadLocation("Europe/Rome")
	if err != nil {
		t.Fatal(err)
	}
	id := month("2026-10")
	c := newCalendar(id.Start(rome), (id + 1).Start(rome), rome)
	if c.days() != 31 || c.starts[25]-c.starts[24] != 25*instant(time.Hour) {
		t.Fatalf("%d days, the 25th of %s", c.days(), time.Duration(c.starts[25]-c.starts[24]))
	}
	hours := c.slots(time.Hour)
	if len(hours) != 31*24+1 || hours[0] != (place{}) || hours[len(hours)-1] != (place{30, 23}) {
		t.Errorf("%d hours from %v to %v", len(hours), hours[0], hours[len(hours)-1])
	}
	p := newPace(c, c.of("IT"), anyShape(), nil)
	for at := c.from(); at < c.to(); at += 17 * minute {
		if back := p.when(p.at(at)); back < at-minute || back > at+minute {
			t.Fatalf("%s is of weight %f, which is reached at %s", at, p.at(at), back)
		}
	}
}
