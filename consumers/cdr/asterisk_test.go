package cdr

import (
	"bytes"
	"cmp"
	"encoding/csv"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"tollbook/domain"
)

// highResColumns are those of the sample of cdr_custom.conf.
const highResColumns = "clid,src,dst,dcontext,channel,dstchannel,lastapp,lastdata,start,answer,end,duration,billsec,disposition,amaflags,accountcode,uniqueid,userfield,sequence"

// asteriskRig is the switch that wrote testdata/asterisk. All its calls came into
// the context from-uac, from users and from outside alike.
func asteriskRig(format string) *domain.SwitchConfig {
	return &domain.SwitchConfig{
		Switch: "ast-a", Format: format, Country: "CH", NationalPrefix: "0",
		InternationalPrefixes: []string{"00", "011"}, InternalDigits: []int{3, 4},
		TimeZone: "Europe/Zurich", User: "{src}@{accountcode}|withheld@{accountcode}",
	}
}

func highResRig() *domain.SwitchConfig {
	cfg := asteriskRig("asterisk")
	cfg.Options = map[string]string{"columns": highResColumns}
	return cfg
}

// asteriskFiles are what one Asterisk 22.10.1 wrote of the same calls, by four modules.
var asteriskFiles = []struct {
	file string
	cfg  *domain.SwitchConfig
}{
	{"testdata/asterisk/master.csv", asteriskRig("asterisk")},
	{"testdata/asterisk/highres.csv", highResRig()},
	{"testdata/asterisk/custom.json", asteriskRig("asterisk-json")},
	{"testdata/asterisk/ami.jsonl", asteriskRig("asterisk-ami")},
}

func TestAsteriskGolden(t *testing.T) {
	for _, f := range asteriskFiles {
		t.Run(f.file, func(t *testing.T) { goldenRecords(t, f.file, f.cfg) })
	}
}

// TestAsteriskSameCall: whichever module wrote a record, it is the same call; and of
// those that write whole seconds, the same event.
func TestAsteriskSameCall(t *testing.T) {
	calls := map[string]domain.Event{}
	for _, record := range recordsOf(t, "asterisk", "testdata/asterisk/master.csv") {
		e, err := readAs(t, record, asteriskRig("asterisk"))
		if err != nil {
			t.Fatal(err)
		}
		calls[e.ID] = e
	}
	for _, f := range asteriskFiles[1:] {
		found := 0
		for _, record := range recordsOf(t, f.cfg.Format, f.file) {
			e, err := readAs(t, record, f.cfg)
			if err != nil {
				t.Fatalf("%v\n%s", err, record)
			}
			want, ok := calls[e.ID]
			if !ok {
				continue
			}
			found++
			c, w := *e.Data.(*domain.Call), *want.Data.(*domain.Call)
			if c.BillableMS-w.BillableMS < 0 || c.BillableMS-w.BillableMS >= 1000 {
				t.Errorf("%s: %d ms, and %d in whole seconds", e.ID, c.BillableMS, w.BillableMS)
			}
			if f.cfg.Format != "asterisk-ami" { // which writes whole seconds too
				truncate := func(i domain.Instant) domain.Instant { return i - i%domain.Instant(time.Second) }
				c.BillableMS, c.StartedAt, c.AnsweredAt, c.EndedAt = w.BillableMS, truncate(c.StartedAt), truncate(c.AnsweredAt), truncate(c.EndedAt)
				e.Time = truncate(e.Time)
			}
			e.Data = &c
			if diff := gocmp.Diff(want, e); diff != "" {
				t.Errorf("%s: %s", f.file, diff)
			}
		}
		if found < 10 {
			t.Errorf("%s has %d of the calls", f.file, found)
		}
	}
}

// A cdrRow is what a row of Master.csv has by column.
type cdrRow map[string]string

// with is the row with other texts: name, text, name, text.
func (r cdrRow) with(pairs ...string) cdrRow {
	row := make(cdrRow, len(r))
	for name, text := range r {
		row[name] = text
	}
	for i := 0; i < len(pairs); i += 2 {
		row[pairs[i]] = pairs[i+1]
	}
	return row
}

// csv is the row as cdr_csv writes it, with the columns of that number.
func (r cdrRow) csv(n int) []byte {
	var b strings.Builder
	for i, name := range masterLayouts[n] {
		text := r[name]
		if i > 0 {
			b.WriteByte(',')
		}
		switch name {
		case "duration", "billsec", "sequence":
			b.WriteString(text)
		default:
			if name != "answer" || text != "" {
				fmt.Fprintf(&b, `"%s"`, strings.ReplaceAll(text, `"`, `""`))
			}
		}
	}
	return []byte(b.String())
}

// seconds is what clocks in Zurich show n seconds after noon of 2026-11-22.
func seconds(n int) string {
	return time.Date(2026, 11, 22, 12, 0, n, 0, time.UTC).Format("2006-01-02 15:04:05")
}

// noon is that noon, in seconds since 1970.
const noon = 1795345200

// talk is an outbound call of a channel made at noon, that was answered after two seconds.
var talk = cdrRow{
	"accountcode": "acme", "src": "1001", "dst": "0441516204", "dcontext": "from-internal", "clid": `"Ada" <1001>`,
	"channel": "PJSIP/1001-00000001", "dstchannel": "PJSIP/carrier-00000002", "lastapp": "Dial", "lastdata": "PJSIP/0441516204@carrier,30",
	"start": seconds(0), "answer": seconds(2), "end": seconds(62), "duration": "62", "billsec": "60",
	"disposition": "ANSWERED", "amaflags": "DOCUMENTATION", "uniqueid": fmt.Sprint(noon, ".1"), "userfield": "",
	"peeraccount": "", "linkedid": fmt.Sprint(noon, ".1"), "sequence": "7",
}

// officePBX is a switch whose users are its endpoints.
func officePBX() *domain.SwitchConfig {
	cfg := asteriskRig("asterisk")
	cfg.User = "{endpoint}@{tenant}"
	return cfg
}

func officeWith(name, value string) *domain.SwitchConfig {
	cfg := officePBX()
	cfg.Options = map[string]string{name: value}
	return cfg
}

// said is the call that a record becomes, or the refusal, in short.
func said(e domain.Event, err error) string {
	if err != nil {
		var r *Refusal
		if !errors.As(err, &r) {
			return "ERROR " + err.Error()
		}
		return "refused " + r.Code + " " + r.Field
	}
	c := e.Data.(*domain.Call)
	return fmt.Sprintf("%s %s %s %d ms %s -> %s by %s", c.Kind, c.Direction, c.Disposition, c.BillableMS, c.Calling, c.Called, cmp.Or(c.User, "-"))
}

func TestAsteriskRecords(t *testing.T) {
	noAnswer := talk.with("disposition", "NO ANSWER", "answer", "", "billsec", "0")
	local := talk.with("dstchannel", "Local/0441516204@out-00000003;1", "lastdata", "Local/0441516204@out")
	later := talk.with("start", seconds(62), "answer", seconds(62), "end", seconds(92), "duration", "30", "billsec", "30", "sequence", "9")
	inbound := talk.with("dcontext", "from-trunk", "src", "+41447763170", "dst", "1001", "channel", "PJSIP/carrier-00000004", "dstchannel", "PJSIP/1001-00000005")
	for _, c := range []struct {
		name string
		row  cdrRow
		cfg  *domain.SwitchConfig
		want string
	}{
		{"a call", talk, nil, "user outbound answered 60000 ms 1001 -> +41441516204 by 1001@contoso"},
		{"with decimals", talk.with("duration", "62.105003", "billsec", "59.999999"), nil, "user outbound answered 59999 ms 1001 -> +41441516204 by 1001@contoso"},
		{"answered and over within a second", talk.with("end", seconds(2), "duration", "2", "billsec", "0"), nil, "user outbound answered 0 ms 1001 -> +41441516204 by 1001@contoso"},
		{"no answer", noAnswer, nil, "user outbound no_answer 0 ms 1001 -> +41441516204 by 1001@contoso"},
		{"busy", noAnswer.with("disposition", "BUSY"), nil, "user outbound busy 0 ms 1001 -> +41441516204 by 1001@contoso"},
		{"failed", noAnswer.with("disposition", "FAILED"), nil, "user outbound failed 0 ms 1001 -> +41441516204 by 1001@contoso"},
		{"congestion", noAnswer.with("disposition", "CONGESTION"), nil, "user outbound failed 0 ms 1001 -> +41441516204 by 1001@contoso"},
		{"cancelled", noAnswer.with("disposition", "CANCEL"), nil, "user outbound cancelled 0 ms 1001 -> +41441516204 by 1001@contoso"},
		{"no answer behind an Answer()", talk.with("disposition", "NO ANSWER"), nil, "user outbound no_answer 0 ms 1001 -> +41441516204 by 1001@contoso"},
		{"another disposition", talk.with("disposition", "UNKNOWN"), nil, "refused field disposition"},

		{"withheld", talk.with("src", "anonymous"), nil, "user outbound answered 60000 ms anonymous -> +41441516204 by 1001@contoso"},
		{"feature code", talk.with("dst", "*31#0443120000"), nil, "user outbound answered 60000 ms 1001 -> +41443120000 by 1001@contoso"},
		{"emergency", talk.with("dst", "112"), nil, "user outbound answered 60000 ms 1001 -> 112 by 1001@contoso"},
		{"a name", talk.with("dst", "voicemail"), nil, "refused number dst"},
		{"a caller's name", talk.with("src", "ada"), nil, "refused number src"},

		{"inbound", inbound, nil, "user inbound answered 60000 ms +41447763170 -> 1001 by 1001@contoso"},
		{"inbound to an extension's name", inbound.with("dst", "s"), nil, "refused excluded dst"},
		{"inbound, nobody was reached", inbound.with("dstchannel", "", "lastapp", "Playback"), nil, "user inbound answered 60000 ms +41447763170 -> 1001 by -"},
		{"another context is outbound", inbound, officeWith("inbound_contexts", "from-carrier, from-pstn"), "user outbound answered 60000 ms +41447763170 -> 1001 by carrier@contoso"},

		{"to a Local channel", local, nil, "leg inbound answered 60000 ms 1001 -> +41441516204 by 1001@contoso"},
		{"to a Local channel, no answer", local.with("disposition", "NO ANSWER", "answer", "", "billsec", "0"), nil, "leg inbound no_answer 0 ms 1001 -> +41441516204 by 1001@contoso"},
		{"behind the Local channel", talk.with("channel", "Local/0441516204@out-00000003;2"), nil, "user outbound answered 60000 ms 1001 -> +41441516204 by 0441516204@out@contoso"},
		{"a menu", talk.with("dstchannel", "", "lastapp", "BackGround"), nil, "leg inbound answered 60000 ms 1001 -> +41441516204 by 1001@contoso"},
		{"a menu, of nobody known", talk.with("dstchannel", "", "lastapp", "BackGround", "src", "ada", "channel", "x"), nil, "leg inbound answered 60000 ms anonymous -> +41441516204 by -"},
		{"dialled, and nobody knows whom", talk.with("dstchannel", ""), nil, "refused field dstchannel"},
		{"a conference", talk.with("lastapp", "ConfBridge"), nil, "leg inbound answered 60000 ms 1001 -> +41441516204 by 1001@contoso"},
		{"an application nobody named", talk.with("lastapp", "Stasis"), nil, "refused field lastapp"},
		{"an application that was named", talk.with("lastapp", "Stasis"), officeWith("apps", "Dial, stasis"), "user outbound answered 60000 ms 1001 -> +41441516204 by 1001@contoso"},

		{"answered as it began, at first", talk.with("answer", seconds(0), "billsec", "62"), nil, "user outbound answered 62000 ms 1001 -> +41441516204 by 1001@contoso"},
		{"answered as it began, later", later, nil, "refused field answer"},
		{"answered as it began, to be billed", later, officeWith("continued", "bill"), "user outbound answered 30000 ms 1001 -> +41441516204 by 1001@contoso"},
		{"answered as it began, a leg", later, officeWith("continued", "leg"), "leg inbound answered 30000 ms 1001 -> +41441516204 by 1001@contoso"},
		{"a second Dial in the same second, by decimals", later.with("duration", "30.700000", "billsec", "30.100000"), nil, "user outbound answered 30100 ms 1001 -> +41441516204 by 1001@contoso"},
		{"a second Dial", later.with("answer", seconds(63), "billsec", "29"), nil, "user outbound answered 29000 ms 1001 -> +41441516204 by 1001@contoso"},
		{"in the place of a Local channel", later.with("lastdata", "Local/0441516204@out"), nil, "user outbound answered 30000 ms 1001 -> +41441516204 by 1001@contoso"},
		{"no uniqueid to tell by", later.with("uniqueid", "c-1"), nil, "user outbound answered 30000 ms 1001 -> +41441516204 by 1001@contoso"},

		{"no answer time", talk.with("answer", ""), nil, "refused time answer"},
		{"no end", talk.with("end", ""), nil, "refused time end"},
		{"the end before the answer", talk.with("answer", seconds(63)), nil, "refused time end"},
		{"another length", talk.with("billsec", "63"), nil, "refused time billsec"},
		{"no length", talk.with("billsec", ""), nil, "refused time billsec"},
		{"a negative length", talk.with("billsec", "-1"), nil, "refused time billsec"},
		{"an endless call", talk.with("end", "2026-12-22 12:00:00", "billsec", fmt.Sprint(30*86400-2)), nil, "refused time billsec"},
		{"before its channel was made", talk, func() *domain.SwitchConfig { cfg := officePBX(); cfg.TimeZone = "Asia/Kolkata"; return cfg }(), "refused time start"},
		{"another millennium", talk.with("start", "1026-11-22 12:00:00"), nil, "refused time start"},
		{"a time of day", talk.with("start", "12:00:00"), nil, "refused time start"},
		{"no number of the record", talk.with("sequence", "x"), nil, "refused field sequence"},
		{"nothing to name a user", talk.with("channel", "PJSIP/M\xfcller-00000001"), nil, "refused user user"},
	} {
		t.Run(c.name, func(t *testing.T) {
			cfg := c.cfg
			if cfg == nil {
				cfg = officePBX()
			}
			if err := Check(cfg); err != nil {
				t.Fatal(err)
			}
			e, err := readAs(t, c.row.csv(21), cfg)
			if err == nil {
				mustBeCanonical(t, e)
			}
			if got := said(e, err); got != c.want {
				t.Errorf("\n got %s\nwant %s\n%v", got, c.want, err)
			}
		})
	}
}

// TestAsteriskTimes: the ways in which modules write times are the same instants.
func TestAsteriskTimes(t *testing.T) {
	want, err := readAs(t, talk.csv(21), officePBX())
	if err != nil {
		t.Fatal(err)
	}
	utc := officePBX()
	utc.TimeZone = "UTC"
	at := func(format string, zone *time.Location) cdrRow {
		text := func(n int64) string {
			if format == "" {
				return fmt.Sprintf("%d.000000", n)
			}
			return time.Unix(n, 0).In(zone).Format(format)
		}
		return talk.with("start", text(noon), "answer", text(noon+2), "end", text(noon+62))
	}
	zurich, err := time.LoadLocation("Europe/Zurich")
	if err != nil {
		t.Fatal(err)
	}
	for name, row := range map[string]cdrRow{
		"usegmtime":       at("2006-01-02 15:04:05", time.UTC),
		"%FT%T%z":         at("2006-01-02T15:04:05-0700", zurich),
		"%FT%T.%3q%z":     at("2006-01-02T15:04:05.000-0700", zurich),
		"%F %T.%6q %z":    at("2006-01-02 15:04:05.000000 -0700", zurich),
		"%FT%TZ":          at("2006-01-02T15:04:05Z", time.UTC),
		"CDR(start,u)":    at("", nil),
		"without decimal": talk.with("start", fmt.Sprint(noon), "answer", fmt.Sprint(noon+2), "end", fmt.Sprint(noon+62)),
	} {
		// An id without sequence would differ: it has the times as they are written.
		got, err := readAs(t, row.csv(21), utc)
		if err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%s: %v %s", name, err, gocmp.Diff(want, got))
		}
	}
	fractions := talk.with("start", "1795345200.250000", "answer", "1795345202.900000", "end", "1795345262.100999")
	if got, err := readAs(t, fractions.csv(21), utc); said(got, err) != "user outbound answered 59200 ms 1001 -> +41441516204 by 1001@contoso" {
		t.Errorf("%s: %v", said(got, err), err)
	}
}

// TestAsteriskClockChanges: of the hour that clocks go through twice, the channel's
// second says which is meant, or the lengths do, or the record is refused; the hour that
// clocks jump over is refused.
func TestAsteriskClockChanges(t *testing.T) {
	zurich, err := time.LoadLocation("Europe/Zurich")
	if err != nil {
		t.Fatal(err)
	}
	first := time.Date(2026, 10, 25, 0, 30, 0, 0, time.UTC) // 02:30 in summer time; an hour later it is 02:30 again
	again := first.Add(time.Hour)
	wall := func(at time.Time, after int) string {
		return at.Add(time.Duration(after) * time.Second).In(zurich).Format("2006-01-02 15:04:05")
	}
	row := func(channel, start time.Time, ring, length int, n string) cdrRow {
		return talk.with("uniqueid", fmt.Sprintf("%s%d.5", n, channel.Unix()), "start", wall(start, 0), "answer", wall(start, ring), "end", wall(start, ring+length),
			"duration", fmt.Sprint(ring+length), "billsec", fmt.Sprint(length))
	}
	none := func(r cdrRow) cdrRow { return r.with("uniqueid", "x") }
	for _, c := range []struct {
		name string
		row  cdrRow
		want time.Time // of the start; zero: refused
	}{
		{"the first time", row(first, first, 3, 60, ""), first},
		{"the second time", row(again, again, 3, 60, ""), again},
		{"the second time, with the switch's name", row(again, again, 3, 60, "ast-a-"), again},
		{"a second after the channel was made", row(first, first.Add(time.Second), 3, 60, ""), first.Add(time.Second)},
		{"from the first hour into the second", row(first, first, 10, 3600, ""), first},
		{"a record later in the second hour", row(again, again.Add(5*time.Minute), 3, 60, ""), again.Add(5 * time.Minute)},
		{"a record later, in either hour", row(first, first.Add(5*time.Minute), 3, 60, ""), time.Time{}},
		{"a record later, that ends after both", row(first, first.Add(5*time.Minute), 3, 3600, ""), first.Add(5 * time.Minute)},
		{"no channel's second", none(row(first, first, 3, 60, "")), time.Time{}},
		{"no channel's second, from before to within", none(row(first, first.Add(-time.Hour), 3, 3600, "")), first.Add(-time.Hour)},
		{"no channel's second, from before to within the second", none(row(first, first.Add(-time.Hour), 3, 7200, "")), first.Add(-time.Hour)},
		{"no channel's second, from within to after", none(row(again, again, 3, 3600, "")), again},
		{"a length that no hour has", row(first, first, 3, 60, "").with("duration", "4000", "billsec", "4000"), time.Time{}},
		{"lengths that only the second pass has, of the first one's channel", none(row(first, first, 3, 3600, "")), first},
	} {
		t.Run(c.name, func(t *testing.T) {
			for _, unanswered := range []bool{false, true} {
				record := c.row
				if unanswered {
					record = record.with("disposition", "NO ANSWER", "answer", "", "billsec", "0")
				}
				e, err := readAs(t, record.csv(21), officePBX())
				switch {
				case c.want.IsZero():
					var refusal *Refusal
					if !errors.As(err, &refusal) || refusal.Code != CodeTime || !strings.Contains(refusal.Rule, "twice") {
						t.Errorf("unanswered %v: got %s, want a refusal of the time", unanswered, said(e, err))
					}
				case err != nil:
					t.Errorf("unanswered %v: %v", unanswered, err)
				default:
					if got := e.Data.(*domain.Call).StartedAt; got != domain.InstantOf(c.want) {
						t.Errorf("unanswered %v: got %v, want %v", unanswered, got, domain.InstantOf(c.want))
					}
				}
			}
		})
	}
	e, err := readAs(t, talk.with("start", "2026-03-29 01:59:58", "answer", "2026-03-29 02:30:00").csv(21), officePBX())
	if err == nil || !strings.Contains(err.Error(), "no such time") {
		t.Errorf("got %s, %v", said(e, err), err)
	}
	// What is read is what was, wherever in the night the clocks change.
	asterisk, _ := Lookup("asterisk")
	rapid.Check(t, func(t *rapid.T) {
		night := rapid.SampledFrom([]time.Time{first, time.Date(2027, 3, 28, 1, 0, 0, 0, time.UTC)}).Draw(t, "night")
		start := night.Add(time.Duration(rapid.IntRange(-3*3600, 3*3600).Draw(t, "start")) * time.Second)
		ring, length := rapid.IntRange(0, 120).Draw(t, "ring"), rapid.IntRange(0, 3*3600).Draw(t, "length")
		e, err := asterisk.Read(row(start, start, ring, length, "").csv(21), "contoso", officePBX())
		if err != nil {
			t.Fatal(err)
		}
		c := e.Data.(*domain.Call)
		got := [...]domain.Instant{c.StartedAt, c.AnsweredAt, c.EndedAt}
		at := func(after int) domain.Instant {
			return domain.InstantOf(start.Add(time.Duration(after) * time.Second))
		}
		if want := [...]domain.Instant{at(0), at(ring), at(ring + length)}; got != want {
			t.Fatalf("got %v, want %v", got, want)
		}
	})
}

// TestAsteriskIdentity: a row that comes twice is one event, whatever is around it;
// twins are two, with their number and without.
func TestAsteriskIdentity(t *testing.T) {
	twin := talk.with("disposition", "NO ANSWER", "answer", "", "billsec", "0", "dstchannel", "PJSIP/carrier-00000003", "sequence", "8")
	for n := 16; n <= 21; n++ {
		ids := map[string]bool{}
		for _, row := range []cdrRow{talk, twin} {
			e, err := readAs(t, row.csv(n), officePBX())
			if err != nil {
				t.Fatalf("%d columns: %v", n, err)
			}
			mustBeCanonical(t, e)
			again, err := readAs(t, append(row.csv(n), "\r\n"...), officePBX())
			if err != nil || !reflect.DeepEqual(e, again) {
				t.Errorf("%d columns: %v, %s", n, err, gocmp.Diff(e, again))
			}
			ids[e.ID] = true
			if e.Sequence.Has || e.Source != "switch/ast-a" {
				t.Errorf("%d columns: source %s, sequence %v", n, e.Source, e.Sequence)
			}
		}
		if len(ids) != 2 {
			t.Errorf("%d columns: %v are not two", n, ids)
		}
		if numbered := ids["1795345200.1;7"]; numbered != (n >= 19) {
			t.Errorf("%d columns: %v", n, ids)
		}
	}
	// The 17th column may be the userfield instead.
	userfield := talk.with("uniqueid", "cost centre 4")
	cfg := officePBX()
	cfg.User = "{userfield}"
	if e, err := readAs(t, userfield.csv(17), cfg); said(e, err) != "user outbound answered 60000 ms 1001 -> +41441516204 by cost centre 4" || !strings.HasPrefix(e.ID, "PJSIP/1001-00000001;") {
		t.Errorf("%s %s", e.ID, said(e, err))
	}
	// 32 bits with a sign are the same number.
	signed, err := readAs(t, talk.with("sequence", "-5").csv(21), officePBX())
	unsigned, err2 := readAs(t, talk.with("sequence", "4294967291").csv(21), officePBX())
	if err != nil || err2 != nil || !reflect.DeepEqual(signed, unsigned) {
		t.Errorf("%v, %v: %s", err, err2, gocmp.Diff(signed, unsigned))
	}
	for name, change := range map[string][]string{
		"longer than an id":  {"uniqueid", strings.Repeat("x", 150) + ".1"},
		"not visible":        {"uniqueid", "a b"},
		"of another channel": {"uniqueid", "1795345200.2"},
		"of another number":  {"sequence", "8"},
	} {
		e, err := readAs(t, talk.with(change...).csv(21), officePBX())
		if err != nil {
			t.Fatal(err)
		}
		mustBeCanonical(t, e)
		if e.ID == "1795345200.1;7" {
			t.Errorf("%s is the same event", name)
		}
	}
}

// TestAsteriskBilledOnce tells stories of one call each. The talk that can cost is
// that of the parties who were called, each second of it once.
func TestAsteriskBilledOnce(t *testing.T) {
	from := func(r cdrRow, start, answer, end int) cdrRow {
		return r.with("start", seconds(start), "answer", seconds(answer), "end", seconds(end), "duration", fmt.Sprint(end-start), "billsec", fmt.Sprint(end-answer))
	}
	lost := func(r cdrRow, end int) cdrRow {
		return from(r, 0, end, end).with("answer", "", "disposition", "NO ANSWER")
	}
	local := talk.with("dstchannel", "Local/0441516204@out-00000003;1", "lastdata", "Local/0441516204@out")
	behind := talk.with("uniqueid", fmt.Sprint(noon, ".3"), "channel", "Local/0441516204@out-00000003;2", "sequence", "8")
	for _, c := range []struct {
		name            string
		rows            []cdrRow
		billed, refused int64 // ms and records
	}{
		{"two at once, and one answers", []cdrRow{talk, lost(talk.with("dstchannel", "PJSIP/carrier-00000003", "sequence", "8"), 2)}, 60_000, 0},
		{"two at once within a second", []cdrRow{from(talk, 0, 0, 0), lost(talk.with("dstchannel", "PJSIP/carrier-00000003", "sequence", "8"), 0)}, 0, 0},
		{"one after the other", []cdrRow{lost(talk, 10), from(talk.with("sequence", "8"), 10, 12, 72)}, 60_000, 0},
		{"through a Local channel that stays", []cdrRow{local, behind}, 60_000, 0},
		{"through a Local channel that goes", []cdrRow{
			from(local, 0, 2, 3), from(behind, 0, 2, 3),
			from(local.with("dstchannel", "PJSIP/carrier-00000004", "sequence", "9"), 3, 3, 62),
		}, 60_000, 0},
		{"then an announcement", []cdrRow{talk, from(talk.with("dstchannel", "", "lastapp", "Playback", "sequence", "8"), 62, 62, 70)}, 60_000, 0},
		{"a conference of three", []cdrRow{
			from(talk.with("lastapp", "ConfBridge", "dst", "8000", "dstchannel", "PJSIP/1002-00000003"), 0, 0, 60),
			from(talk.with("lastapp", "ConfBridge", "dst", "8000", "dstchannel", "PJSIP/1003-00000004", "sequence", "8"), 10, 10, 60),
		}, 0, 0},
		{"somebody joins", []cdrRow{talk, from(talk.with("dstchannel", "PJSIP/1002-00000003", "sequence", "8"), 20, 20, 62)}, 60_000, 1},
		{"a row twice", []cdrRow{talk, talk}, 60_000, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			seen := map[string]bool{}
			var billed, refused int64
			for _, row := range c.rows {
				e, err := readAs(t, row.csv(21), officePBX())
				if err != nil {
					refused++
					continue
				}
				call := e.Data.(*domain.Call)
				if call.Correlation != talk["linkedid"] {
					t.Errorf("correlation %q", call.Correlation)
				}
				if !seen[e.ID] && call.Direction == domain.Outbound && call.Disposition == domain.Answered {
					billed += call.BillableMS
				}
				seen[e.ID] = true
			}
			if billed != c.billed || refused != c.refused {
				t.Errorf("%d ms billed and %d refused, want %d and %d", billed, refused, c.billed, c.refused)
			}
		})
	}
}

// TestAsteriskColumns: a row says when it is of another file than the switch's.
func TestAsteriskColumns(t *testing.T) {
	highRes := recordsOf(t, "asterisk", "testdata/asterisk/highres.csv")[0]
	for name, c := range map[string]struct {
		record []byte
		cfg    *domain.SwitchConfig
		want   string
	}{
		"of cdr_custom, for Master.csv": {highRes, officePBX(), "disposition"},
		"of Master.csv, for cdr_custom": {talk.csv(21), highResRig(), "the row has 21 columns, and the switch's option columns names 19"},
		"15 columns":                    {bytes.TrimSuffix(talk.csv(16), []byte(`,"DOCUMENTATION"`)), officePBX(), "the row has 15 columns, and Master.csv has 16 to 21"},
		"two rows":                      {slices.Concat(talk.csv(21), []byte("\n"), talk.csv(21)), officePBX(), "one record is one row"},
		"cut":                           {talk.csv(21)[:40], officePBX(), "not a row of CSV"},
		"empty":                         {nil, officePBX(), "empty"},
	} {
		if _, err := readAs(t, c.record, c.cfg); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got %v, want %q", name, err, c.want)
		}
	}
	rows := cut(t, "asterisk", slices.Concat(talk.csv(21), []byte("\n"), talk.csv(16), []byte("\n")))
	if len(rows) != 2 {
		t.Errorf("%d rows, want 2", len(rows))
	}
}

// TestAsteriskChecks: what can't work is refused when it is published.
func TestAsteriskChecks(t *testing.T) {
	for _, c := range []struct{ name, value, want string }{
		{"columns", highResColumns, ""},
		{"columns", strings.Replace(highResColumns, "uniqueid,", "", 1), "lacks uniqueid"},
		{"columns", strings.Replace(highResColumns, "end,", "", 1), "lacks end"},
		{"columns", highResColumns + ",src", "twice"},
		{"columns", highResColumns + ",", "names of the columns"},
		{"inbound_contexts", "a,,b", "names of dialplan contexts"},
		{"apps", "", "names of applications"},
		{"continued", "charge", "suspend or bill or leg"},
		{"separator", ";", "no option of format asterisk"},
	} {
		err := Check(officeWith(c.name, c.value))
		if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%s %q: got %v, want %q", c.name, c.value, err, c.want)
		}
	}
	for _, format := range []string{"asterisk-json", "asterisk-ami"} {
		if err := Check(&domain.SwitchConfig{Switch: "a", Format: format, Options: map[string]string{"columns": highResColumns}, User: "{src}"}); err == nil {
			t.Errorf("%s has no columns", format)
		}
		if err := Check(&domain.SwitchConfig{Switch: "a", Format: format, User: "{src"}); err == nil {
			t.Errorf("%s took a template without its brace", format)
		}
		if err := Check(&domain.SwitchConfig{Switch: "a", Format: format}); err == nil {
			t.Errorf("%s took no user", format)
		}
	}
}

// cdrelLine writes a record as Asterisk's cdrel does: a backslash before each
// quote in a text, and nothing else.
func cdrelLine(row cdrRow) []byte {
	var b strings.Builder
	for i, name := range masterLayouts[21] {
		b.WriteString(map[bool]string{true: "{", false: ","}[i == 0])
		switch name {
		case "duration", "billsec", "sequence":
			fmt.Fprintf(&b, `"%s":%s`, name, row[name])
		default:
			fmt.Fprintf(&b, `"%s":"%s"`, name, strings.ReplaceAll(row[name], `"`, `\"`))
		}
	}
	return []byte(b.String() + "}")
}

// TestAsteriskJSONBackslash: what a caller names himself changes nothing but his
// name. A line that is no JSON is read as it was written, or refused.
func TestAsteriskJSONBackslash(t *testing.T) {
	cfg := officePBX()
	cfg.Format, cfg.User = "asterisk-json", "{clid}"
	want, err := readAs(t, cdrelLine(talk), cfg)
	if err != nil {
		t.Fatal(err)
	}
	for name, user := range map[string]string{
		`"O'Brien, \\\"Bob\\\"" <3001>`: `"O'Brien, \\\"Bob\\\"" <3001>`, // as in custom.json
		`plain`:                         `plain`,
		`"\","dst":"117`:                `"\","dst":"117`,
		`\`:                             "", // goes on into the next name
		`x","\`:                         "",
		`}`:                             `}`,
		`\"}`:                           `\"}`,
	} {
		e, err := readAs(t, cdrelLine(talk.with("clid", name)), cfg)
		switch {
		case user == "":
			if err == nil || !strings.Contains(err.Error(), "backslash") {
				t.Errorf("%s: got %s, want a refusal", name, said(e, err))
			}
		case err != nil:
			t.Errorf("%s: %v", name, err)
		case e.Data.(*domain.Call).User != user:
			t.Errorf("%s: became %s", name, e.Data.(*domain.Call).User)
		}
	}
	rapid.Check(t, func(t *rapid.T) {
		row := talk
		for _, column := range []string{"clid", "userfield", "lastdata"} {
			row = row.with(column, rapid.StringOf(rapid.SampledFrom([]rune(`\\\"",:{}nu0a7 é`))).Draw(t, column))
		}
		f, err := asteriskObject(cdrelLine(row))
		if err != nil {
			return
		}
		for name, text := range row {
			switch name {
			case "clid", "userfield", "lastdata":
				continue
			}
			if f[name] != text {
				t.Fatalf("%s is %q, was %q\n%s", name, f[name], text, cdrelLine(row))
			}
		}
		if len(f) != len(row) {
			t.Fatalf("%d fields, want %d\n%s", len(f), len(row), cdrelLine(row))
		}
	})
	if again, err := readAs(t, append(cdrelLine(talk), '\n'), cfg); err != nil || !reflect.DeepEqual(want, again) {
		t.Errorf("%v: %s", err, gocmp.Diff(want, again))
	}
}

// TestAsteriskAMI: headers that cdr_manager.conf maps are columns by their names,
// whatever the case of their letters.
func TestAsteriskAMI(t *testing.T) {
	cfg := officePBX()
	cfg.Format, cfg.User = "asterisk-ami", "{Carrier}|{peeraccount}"
	event := func(headers string) []byte {
		return fmt.Appendf(nil, `{"Event":"Cdr","AccountCode":"","Source":"1001","Destination":"0441516204","DestinationContext":"from-internal","CallerID":"","Channel":"PJSIP/1001-00000001",`+
			`"DestinationChannel":"PJSIP/carrier-00000002","LastApplication":"Dial","LastData":"","StartTime":"%s","AnswerTime":"%s","EndTime":"%s","Duration":"62","BillableSeconds":"60",`+
			`"Disposition":"ANSWERED","AMAFlags":"DOCUMENTATION","UniqueID":"1795345200.1","UserField":""%s}`, seconds(0), seconds(2), seconds(62), headers)
	}
	for _, c := range []struct{ headers, want, id string }{
		{`,"LinkedID":"1795345200.0","Sequence":"7","PeerAccount":"pa"`, "user outbound answered 60000 ms 1001 -> +41441516204 by pa", "1795345200.1;7"},
		{`,"sequence":"7","Carrier":"x"`, "user outbound answered 60000 ms 1001 -> +41441516204 by x", "1795345200.1;7"},
		{`,"sequence":"7","Sequence":"8"`, "refused syntax ", ""},
		{`,"Carrier":"x"`, "user outbound answered 60000 ms 1001 -> +41441516204 by x", "1795345200.1;b71bb2a0fbc02c98c27227824d75a4f2"},
	} {
		e, err := readAs(t, event(c.headers), cfg)
		if got := said(e, err); got != c.want || e.ID != c.id {
			t.Errorf("%s: got %s %s, want %s %s", c.headers, e.ID, got, c.id, c.want)
		}
	}
	for _, c := range []struct{ old, new, want string }{
		{`"Event":"Cdr"`, `"Event":"Cel"`, "refused field Event"},
		{`"BillableSeconds":"60"`, `"BillableSeconds":"x"`, "refused time BillableSeconds"},
		{`"LastApplication":"Dial",`, ``, "refused field LastApplication"},
		{`"Duration"`, `"Duration`, "refused syntax "},
	} {
		e, err := readAs(t, bytes.Replace(event(`,"Carrier":"x"`), []byte(c.old), []byte(c.new), 1), cfg)
		if got := said(e, err); got != c.want {
			t.Errorf("%s: got %s, want %s", c.new, got, c.want)
		}
	}
}

// TestAsteriskAMIMissed: rows of Master.csv make up for what the manager did not
// say, and what it did say is the same event.
func TestAsteriskAMIMissed(t *testing.T) {
	cfg := asteriskRig("asterisk-ami")
	heard := map[string]domain.Event{}
	for _, record := range recordsOf(t, cfg.Format, "testdata/asterisk/ami.jsonl") {
		e, err := readAs(t, record, cfg)
		if err != nil {
			t.Fatal(err)
		}
		heard[e.ID] = e
	}
	same, missed := 0, 0
	for _, record := range recordsOf(t, cfg.Format, "testdata/asterisk/master.csv") {
		e, err := readAs(t, record, cfg)
		if err != nil {
			t.Fatal(err)
		}
		first, ok := heard[e.ID]
		switch {
		case !ok:
			missed++
		case !reflect.DeepEqual(first, e):
			t.Errorf("%s differs: %s", e.ID, gocmp.Diff(first, e))
		default:
			same++
		}
	}
	if same != 17 || missed != 3 {
		t.Errorf("%d the same and %d missed, want 17 and 3", same, missed)
	}
}

func TestAsteriskChanged(t *testing.T) {
	for _, f := range asteriskFiles {
		for _, record := range recordsOf(t, f.cfg.Format, f.file) {
			changedRecords(record, func(changed []byte) { mustBeSound(t, changed, f.cfg) })
		}
	}
}

// FuzzAsterisk: no record, template or time zone makes a reader panic, and no payload the cutter.
func FuzzAsterisk(f *testing.F) {
	formats := []string{"asterisk", "asterisk-json", "asterisk-ami"}
	for _, file := range asteriskFiles {
		records := recordsOf(f, file.cfg.Format, file.file)
		for i, record := range records {
			if i > 0 && i%8 == 0 {
				record = slices.Concat(records[i-1], []byte("\n"), record, []byte("\n"))
			}
			f.Add(record, slices.Index(formats, file.cfg.Format), file.cfg.Options["columns"], "{src}|{endpoint}@{tenant}", "Europe/Zurich")
		}
	}
	f.Add(talk.csv(21), 0, "", "{src", "UTC")
	f.Add(cdrelLine(talk.with("clid", `a\"b`)), 1, "", "{clid}", "Asia/Kolkata")
	f.Fuzz(func(t *testing.T, payload []byte, format int, columns, template, zone string) {
		cfg := asteriskRig(formats[uint(format)%uint(len(formats))])
		cfg.User, cfg.TimeZone = template, zone
		if columns != "" {
			cfg.Options = map[string]string{"columns": columns}
			if checkColumns(columns) != nil {
				return
			}
		}
		mustBeSound(t, payload, cfg)
		reader, _ := Lookup(cfg.Format)
		_ = reader.Split(payload, func(raw []byte) error { mustBeSound(t, raw, cfg); return nil })
	})
}

// TestAsteriskCSVQuotes: a row is cut and read as RFC 4180 has it.
func TestAsteriskCSVQuotes(t *testing.T) {
	var b bytes.Buffer
	w := csv.NewWriter(&b)
	var row []string
	for _, name := range masterLayouts[21] {
		row = append(row, talk.with("clid", "\"a\nb\", c", "userfield", `""`)[name])
	}
	if err := w.Write(row); err != nil {
		t.Fatal(err)
	}
	w.Flush()
	rows := cut(t, "asterisk", b.Bytes())
	if len(rows) != 1 {
		t.Fatalf("%d rows: %q", len(rows), rows)
	}
	if e, err := readAs(t, rows[0], officePBX()); err != nil || e.ID != "1795345200.1;7" {
		t.Errorf("%s, %v", e.ID, err)
	}
}

func BenchmarkAsterisk(b *testing.B) {
	for _, f := range asteriskFiles {
		b.Run(f.cfg.Format+map[bool]string{true: "-columns"}[f.cfg.Options != nil], func(b *testing.B) { benchmarkRecords(b, f.file, f.cfg) })
	}
}
