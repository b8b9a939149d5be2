//go:build browser

package main

import (
	"bytes"
	"context"
	"encoding/csv"
	"fmt"
	"io"
	"log/slog"
	"math/big"
	"math/rand/v2"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/chromedp"
	"github.com/go-json-experiment/json"
	"github.com/google/go-cmp/cmp"
	"github.com/ledongthuc/pdf"
	"github.com/parquet-go/parquet-go"
	"github.com/xuri/excelize/v2"

	"tollbook/api/export"
	"tollbook/domain"
	"tollbook/eventstore"
	"tollbook/projections"
)

// chromium is the browser; on Debian a package of that name has it.
const chromium = "chromium"

// A visitor looks at the page with a browser.
type visitor struct {
	t   *testing.T
	rig *rig
	ctx context.Context
	axe string // its script
	dir string // of screenshots
}

func newVisitor(t *testing.T, r *rig) *visitor {
	t.Helper()
	path, err := exec.LookPath(chromium)
	if err != nil {
		t.Fatalf("%v: install it with 'apt-get install chromium'", err)
	}
	axe, err := os.ReadFile("testdata/axe/axe.min.js")
	if err != nil {
		t.Fatal(err)
	}
	v := &visitor{t: t, rig: r, axe: string(axe), dir: os.Getenv("TOLLBOOK_SCREENSHOTS")}
	if v.dir == "" {
		v.dir = t.ArtifactDir()
	}
	if err := os.MkdirAll(v.dir, 0o755); err != nil {
		t.Fatal(err)
	}
	options := append(chromedp.DefaultExecAllocatorOptions[:], chromedp.ExecPath(path), chromedp.UserDataDir(t.TempDir()), chromedp.Env("TMPDIR="+t.TempDir()))
	if os.Geteuid() == 0 {
		options = append(options, chromedp.NoSandbox) // which root can't have; it sees only our own pages
	}
	allocator, stop := chromedp.NewExecAllocator(context.Background(), options...)
	t.Cleanup(stop)
	ctx, stop := chromedp.NewContext(allocator)
	t.Cleanup(stop)
	v.ctx = ctx
	v.do(chromedp.EmulateViewport(desktop, 900))
	return v
}

// Widths of a screen, in pixels.
const (
	desktop = 1280
	phone   = 360
)

func (v *visitor) do(steps ...chromedp.Action[chromedp.Void]) {
	v.t.Helper()
	if err := chromedp.Do(v.ctx, steps...); err != nil {
		v.t.Fatalf("at %s: %v", v.path(), err)
	}
}

func eval[T any](v *visitor, script string) T {
	v.t.Helper()
	value, err := chromedp.Run(v.ctx, chromedp.Evaluate[T](script, chromedp.EvalAwaitPromise))
	if err != nil {
		v.t.Fatalf("%.200s: %v", script, err)
	}
	return value
}

// path is where the browser is.
func (v *visitor) path() string {
	at, err := chromedp.Run(v.ctx, chromedp.Location())
	if err != nil {
		return err.Error()
	}
	return strings.TrimPrefix(at, v.rig.HTTPAddress)
}

// open goes to a page, and looks at it.
func (v *visitor) open(path string) {
	v.t.Helper()
	v.do(chromedp.Navigate(v.rig.HTTPAddress + path))
	v.look()
}

// follow clicks what leads to another page, and looks at that.
func (v *visitor) follow(selector string) {
	v.t.Helper()
	v.do(chromedp.WaitVisible(chromedp.CSS(selector)))
	ctx, cancel := context.WithTimeout(v.ctx, patience)
	defer cancel()
	if _, err := chromedp.RunResponse(ctx, chromedp.Click(chromedp.CSS(selector))); err != nil {
		v.t.Fatalf("at %s: %s: %v", v.path(), selector, err)
	}
	v.look()
}

func (v *visitor) fill(selector, text string) {
	v.t.Helper()
	v.do(chromedp.SetValue(chromedp.CSS(selector), text))
}

func (v *visitor) text(selector string) string {
	v.t.Helper()
	return eval[string](v, fmt.Sprintf(`[...document.querySelectorAll(%q)].map(e => e.innerText.trim()).join("\n")`, selector))
}

// says fails unless the page says so.
func (v *visitor) says(words string) {
	v.t.Helper()
	if text := v.text("main"); !strings.Contains(text, words) {
		v.t.Fatalf("%s does not say %q, but:\n%.2000s", v.path(), words, text)
	}
}

// look checks what has to hold of every page, however it is looked at.
func (v *visitor) look() {
	v.t.Helper()
	for _, scheme := range []string{"light", "dark"} {
		v.media("", scheme)
		v.accessible(scheme)
	}
	v.media("", "light")
	v.do(chromedp.EmulateViewport(phone, 740))
	v.accessible("phone")
	if wide := eval[string](v, `document.documentElement.scrollWidth <= document.documentElement.clientWidth ? "" :
		[...document.querySelectorAll("body *")].filter(e => e.getBoundingClientRect().right > document.documentElement.clientWidth && !e.closest(".scroll"))
		.slice(0, 5).map(e => e.outerHTML.slice(0, 80)).join("\n")`); wide != "" {
		v.t.Errorf("%s is wider than a phone:\n%s", v.path(), wide)
	}
	v.do(chromedp.EmulateViewport(desktop, 900))
}

func (v *visitor) media(media, scheme string) {
	v.t.Helper()
	if _, err := chromedp.Call(v.ctx, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{
		Media: media, Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: scheme}},
	}); err != nil {
		v.t.Fatal(err)
	}
}

// accessible fails with what axe finds.
func (v *visitor) accessible(how string) {
	v.t.Helper()
	if !eval[bool](v, `"axe" in window`) {
		eval[bool](v, v.axe+"; true")
	}
	type violation struct {
		ID    string   `json:"id"`
		Help  string   `json:"help"`
		Nodes []string `json:"nodes"`
	}
	for _, found := range eval[[]violation](v, `axe.run().then(r => r.violations.map(v => ({id: v.id, help: v.help,
		nodes: v.nodes.slice(0, 3).map(n => n.html.slice(0, 160) + " " + n.any.concat(n.all, n.none).map(c => c.message).join("; "))})))`) {
		v.t.Errorf("%s, %s: axe: %s: %s\n%s", v.path(), how, found.ID, found.Help, strings.Join(found.Nodes, "\n"))
	}
}

// picture keeps the page as it looks: on a screen, at night, on a phone and on paper.
func (v *visitor) picture(name string) {
	v.t.Helper()
	for _, c := range []struct {
		suffix, media, scheme string
		width                 int64
	}{{"", "", "light", desktop}, {"-dark", "", "dark", desktop}, {"-phone", "", "light", phone}, {"-print", "print", "light", desktop}} {
		v.do(chromedp.EmulateViewport(c.width, 900))
		v.media(c.media, c.scheme)
		image, err := chromedp.Run(v.ctx, chromedp.FullScreenshot(100))
		if err == nil {
			err = os.WriteFile(filepath.Join(v.dir, name+c.suffix+".png"), image, 0o644)
		}
		if err != nil {
			v.t.Fatal(err)
		}
	}
	v.do(chromedp.EmulateViewport(desktop, 900))
	v.media("", "light")
}

// TestPageInBrowser is a day of somebody in finance: from the month to a call and
// its proof, then what keeps the month before open, then closing it. Every page has
// to please axe, by day, by night and on a phone.
func TestPageInBrowser(t *testing.T) {
	r, _ := newPageRig(t)
	v := newVisitor(t, r)
	t.Run("read", func(t *testing.T) { v.t = t; v.read() })
	t.Run("live", func(t *testing.T) { v.t = t; v.live() })
	t.Run("languages", func(t *testing.T) { v.t = t; v.italian() })
	t.Run("keyboard", func(t *testing.T) { v.t = t; v.keyboard() })
	t.Run("what if", func(t *testing.T) { v.t = t; v.whatIf() })
	t.Run("suspense", func(t *testing.T) { v.t = t; v.suspense() })
	t.Run("decks", func(t *testing.T) { v.t = t; v.decks() })
	t.Run("close", func(t *testing.T) { v.t = t; v.close() })
	t.Run("downloads", func(t *testing.T) { v.t = t; v.downloads("2026-09"); v.downloads("2026-10") })
	t.Run("sign in", signIn)
}

// signIn: where there is an access file, people say who they are first, see what
// they came for then, and only what is their tenants'.
func signIn(t *testing.T) {
	auth := filepath.Join(t.TempDir(), "access.json")
	token := shownToken.FindString(done(t, "access", "add-reader", "rita", "--token", "--tenants", "contoso", "--auth", auth))
	now := new(setClock)
	now.set("2026-10-23T12:00:00Z")
	engine := startGuarded(t, t.TempDir(), auth, now.now, slog.New(slog.DiscardHandler))
	t.Cleanup(func() {
		if err := engine.Stop(); err != nil {
			t.Error(err)
		}
	})
	v := newVisitor(t, &rig{Engine: engine})
	v.open("/contoso/2026-10?lang=it")
	v.picture("sign-in")
	v.fill("#token", "tb_guess")
	v.follow("main button")
	v.says("this token is not known")
	v.fill("#token", token)
	v.follow("main button")
	v.says("Ottobre 2026")
	v.open("/?lang=en")
	if text := v.text("main"); !strings.Contains(text, "contoso") || strings.Contains(text, "fabrikam") {
		t.Errorf("rita sees %s", text)
	}
	v.follow(`form[action="/sign-out"] button`)
	v.open("/contoso/2026-10")
	v.says("Token")
}

// read goes from the month to a call's proof, which is checked without the book.
func (v *visitor) read() {
	v.open("/")
	v.picture("tenants")
	v.follow(`main a[href="/contoso/2026-10"]`)
	v.says("IT DOMESTIC_120")
	v.picture("month")
	v.follow(`main table a[href*="/pool?"]`)
	v.says("IT DOMESTIC_120")
	v.picture("pool")
	v.follow(`nav.tabs a[href$="/invoice"]`)
	v.picture("invoice")
	statement := v.statement("2026-10")
	var totals []string
	for _, i := range statement.Invoices {
		totals = append(totals, i.Currency+"\u00a0"+i.Total)
	}
	if diff := cmp.Diff(strings.Join(totals, "\n"), v.text(".paper .total")); diff != "" {
		v.t.Errorf("totals (-document +page):\n%s", diff)
	}
	v.follow(`main a[href*="/line?"][href*="plan=DOMESTIC_120&"][href*="type=mobile"]`)
	v.says("once for the line, half away from zero")
	v.picture("line")
	v.follow(`main a[href*="/call?"]`)
	v.says("over the pool")
	v.picture("call")
	href := eval[string](v, `document.querySelector("a[download]").href`)
	proof := v.download(href)
	done(v.t, "verify", "--proof", writeFile(v.t, "proof.json", proof), "--key", filepath.Join(v.rig.dir, "public-key"))
	if p, err := eventstore.ParseProof(proof); err != nil || !strings.Contains(p.Event, "tollbook.call.completed.v1") {
		v.t.Errorf("%v, %+v", err, p)
	}
}

func (v *visitor) statement(month string) projections.Statement {
	v.t.Helper()
	statement, err := v.rig.desk.Month(context.Background(), "contoso", month, 0)
	if err != nil {
		v.t.Fatal(err)
	}
	return statement
}

// live: what is booked shows without anybody doing anything.
func (v *visitor) live() {
	v.open("/contoso/2026-10")
	before := v.text("#live-words")
	v.rig.book(demoEvent("switch/rom-1", "live-1", time.Date(2026, 10, 22, 9, 5, 0, 0, time.UTC), &domain.Call{
		User: pageUser(0, 0), Kind: domain.KindUser, Called: mustNumber("+393481234567"),
		AnsweredAt: instant("2026-10-22T09:00:00Z"), BillableMS: 300_000,
	}))
	v.rig.until("the page shows the call", func() bool { return v.text("#live-words") != before })
	want := fmt.Sprint(v.statement("2026-10").Counts.Calls)
	if got := strings.ReplaceAll(v.text("#live-words"), ",", ""); !strings.Contains(got, want) {
		v.t.Errorf("%q does not say %s", got, want)
	}
}

// italian: every page in the other language, which is kept.
func (v *visitor) italian() {
	v.open("/contoso/2026-10?lang=it")
	v.says("Ottobre 2026")
	v.picture("month-it")
	v.open("/contoso/2026-10/invoice")
	v.says("Prezzo al minuto")
	v.picture("invoice-it")
	v.follow(`.tongues a[lang="en"]`)
	v.says("Price per minute")
}

// keyboard: a slash goes to the search, the first tab to what skips to the content.
func (v *visitor) keyboard() {
	v.open("/contoso/2026-10")
	v.do(chromedp.KeyEvent("/"))
	if got := eval[string](v, `document.activeElement.id`); got != "q" {
		v.t.Errorf("/ goes to %q", got)
	}
	v.open("/contoso/2026-10")
	v.do(chromedp.KeyEvent("\t"))
	if got := eval[string](v, `document.activeElement.className`); got != "skip" {
		v.t.Errorf("the first tab goes to %q", got)
	}
	v.do(chromedp.KeyEvent("\r"))
	if got := eval[string](v, `document.activeElement.id`); got != "main" {
		v.t.Errorf("skipping goes to %q", got)
	}
	v.do(chromedp.SendKeys(chromedp.CSS("#q"), pageUser(0, 3)))
	v.follow(".find button")
	v.says(pageUser(0, 3))
	v.picture("search")
}

// whatIf: more licences, and the month costs less.
func (v *visitor) whatIf() {
	v.open("/contoso/2026-10")
	v.follow(`nav.tabs a[href$="/what-if"]`)
	v.fill("#add", "20")
	v.fill("#add_plan", "DOMESTIC_120")
	v.fill("#add_country", "IT")
	v.follow("#otherwise ~ form button")
	v.says("What it would have been")
	v.says("7,200:00")
	v.picture("what-if")
}

// suspense: a record is inspected, tried, edited and recycled.
func (v *visitor) suspense() {
	v.open("/contoso/suspense")
	v.picture("suspense")
	v.follow(`main a[href*="position="]`)
	v.follow(`button[value="try"]`)
	v.says("stays in suspense")
	v.picture("record")
	v.fill("#edit", strings.ReplaceAll(eval[string](v, `document.getElementById("edit").value`), "0612345678", "+390612345678"))
	v.fill("#why", "a plus was missing")
	v.follow(`button[value="recycle"]`)
	v.says("1 booked.")
	v.says("a plus was missing")
	v.open("/contoso/suspense")
	v.says("Nothing is in suspense.")
}

// decks: a deck of the tenant's own is staged and published, and its next version
// compared with it.
func (v *visitor) decks() {
	stage := func(version, from, price string) {
		file := writeFile(v.t, version+".csv", []byte("prefix,country,destination,type,price,connect_fee\n39,IT,Italy,landline,"+price+",0\n393,IT,Italy mobile,mobile,0.4,0\n"))
		v.open("/contoso/decks")
		v.fill("#deck", "contoso-own")
		v.fill("#version", version)
		v.fill("#from", from)
		v.fill("#currency", "USD")
		v.do(chromedp.SetUploadFiles(chromedp.CSS("#file"), []string{file}))
		v.follow(`form[enctype] button`)
		v.says("nothing is priced by it yet")
	}
	stage("2026-11", "2026-11-01T00:00", "0.02")
	v.follow(`form[action*="stage="] button`)
	v.says("contoso-own 2026-11 is published.")
	stage("2026-12", "2026-12-01T00:00", "0.07")
	v.says("much dearer")
	v.picture("deck-stage")
	v.follow(`main a[href*="impact=1"]`)
	v.says("September 2026")
	v.open("/contoso/decks")
	v.says("waits")
	v.picture("decks")
	v.follow(`main a[href*="diff=1"][href*="2026-11"]`)
}

// close: the month before is refused, its gap given up, its exceptions accepted, and
// it is closed, replayed, and said to be so everywhere.
func (v *visitor) close() {
	v.open("/contoso/2026-09/close")
	v.says("numbers 900 to 902 never came")
	v.picture("close")
	v.follow("form[action$='/close'] button")
	v.says("The month is not closed: see the checklist.")
	v.follow(`.checks a[href$="/gaps"]`)
	v.picture("gaps")
	v.fill(`input[name="why"]`, "the switch was replaced that morning")
	v.follow(`form[action$="/gaps"] button`)
	v.says("900 to 902 of switch/mil-1 are given up.")
	v.open("/contoso/2026-09/close")
	v.follow(`.checks a[href$="/exceptions"]`)
	v.picture("exceptions")
	v.do(chromedp.SetValue(chromedp.CSS(`form:has(input[value="2026-09"]) input[name="why"]`), "visitors, not ours"))
	v.follow(`form:has(input[value="2026-09"]) button`)
	v.says("accepted.")
	v.open("/contoso/2026-09/close")
	v.says("What is issued")
	v.follow("form[action$='/close'] button")
	v.says("September 2026 is closed, by document")
	v.picture("issued")
	if s := v.statement("2026-09"); s.Status != projections.StatusIssued || s.Number == nil || !strings.Contains(v.text("main"), *s.Number) {
		v.t.Errorf("the page does not have the document's number: %+v", s.Number)
	}
	v.open("/contoso/documents")
	v.follow(`form[action$="/documents"] button`)
	v.says("was made again from the book: the same bytes.")
	v.picture("documents")
	v.open("/contoso")
	v.picture("tenant")
	v.open("/contoso/2026-12")
}

func (v *visitor) download(href string) []byte {
	v.t.Helper()
	response, err := http.Get(href)
	if err != nil {
		v.t.Fatal(err)
	}
	defer func() { _ = response.Body.Close() }()
	data, err := io.ReadAll(response.Body)
	if err != nil || response.StatusCode != http.StatusOK || !strings.Contains(response.Header.Get("Content-Disposition"), "attachment") {
		v.t.Fatalf("%s: %v, %s, %v, %.200s", href, err, response.Status, response.Header, data)
	}
	return data
}

// downloads: every file that the invoice offers is read by somebody else's reader,
// and comes to what the page says.
func (v *visitor) downloads(month string) {
	v.open("/contoso/" + month + "/invoice")
	statement := v.statement(month)
	want := map[string]*big.Rat{}
	add := func(sums map[string]*big.Rat, key, amount string) {
		v.t.Helper()
		n, ok := new(big.Rat).SetString(amount)
		if !ok {
			v.t.Fatalf("%s: %q is no amount", key, amount)
		}
		if sums[key] == nil {
			sums[key] = new(big.Rat)
		}
		sums[key].Add(sums[key], n)
	}
	plain := strings.NewReplacer(",", "", "\u2212", "-")
	for _, total := range strings.Split(v.text(".paper .total"), "\n") {
		currency, amount, _ := strings.Cut(plain.Replace(total), "\u00a0")
		add(want, currency, amount)
	}
	same := func(what string, got map[string]*big.Rat) {
		v.t.Helper()
		if diff := cmp.Diff(want, got, cmp.Comparer(func(a, b *big.Rat) bool { return a.Cmp(b) == 0 })); diff != "" {
			v.t.Errorf("%s of %s (-page +file):\n%s", what, month, diff)
		}
	}
	rows := func(what string, records [][]string, column string) {
		v.t.Helper()
		got := map[string]*big.Rat{}
		for _, record := range records[1:] {
			cells := map[string]string{}
			for i, name := range records[0] {
				if i < len(record) {
					cells[name] = record[i]
				}
			}
			add(got, cells["currency"], cells[column])
		}
		same(what, got)
	}
	seen := map[string]bool{}
	for _, href := range eval[[]string](v, `[...document.querySelectorAll("#export-links a.button")].map(a => a.href)`) {
		at, err := url.Parse(href)
		if err != nil {
			v.t.Fatal(err)
		}
		what := at.Query().Get("format") + " " + at.Query().Get("what")
		seen[what] = true
		data := v.download(href)
		switch what {
		case "csv invoices", "csv invoice", "csv lines", "csv pools", "csv calls":
			records, err := csv.NewReader(bytes.NewReader(data)).ReadAll()
			if err != nil || len(records) < 2 {
				v.t.Fatalf("%s: %v, %d rows", what, err, len(records))
			}
			switch what {
			case "csv invoice":
				rows(what, records, "total")
			case "csv lines":
				rows(what, records, "amount")
			case "csv pools":
				if len(records)-1 < len(statement.Pools) {
					v.t.Errorf("%s: %d rows of %d pools", what, len(records)-1, len(statement.Pools))
				}
			case "csv calls":
				if int64(len(records)-1) != statement.Counts.Calls {
					v.t.Errorf("%s: %d rows of %d calls", what, len(records)-1, statement.Counts.Calls)
				}
			}
		case "xlsx invoice":
			book, err := excelize.OpenReader(bytes.NewReader(data))
			if err != nil {
				v.t.Fatalf("%s: %v", what, err)
			}
			found := false
			for _, sheet := range book.GetSheetList() {
				records, err := book.GetRows(sheet, excelize.Options{RawCellValue: true})
				if err != nil {
					v.t.Fatalf("%s: %v", what, err)
				}
				if strings.EqualFold(sheet, "invoices") {
					rows(what, records, "total")
					found = true
				}
			}
			if !found {
				v.t.Errorf("%s has sheets %v", what, book.GetSheetList())
			}
		case "pdf invoice":
			reader, err := pdf.NewReader(bytes.NewReader(data), int64(len(data)))
			if err != nil {
				v.t.Fatalf("%s: %v", what, err)
			}
			text, err := reader.GetPlainText()
			if err != nil {
				v.t.Fatalf("%s: %v", what, err)
			}
			all, err := io.ReadAll(text)
			if err != nil {
				v.t.Fatalf("%s: %v", what, err)
			}
			for _, i := range statement.Invoices {
				if got := strings.ReplaceAll(string(all), ",", ""); !strings.Contains(got, i.Total) {
					v.t.Errorf("%s does not say %s", what, i.Total)
				}
			}
		case "parquet calls":
			calls, err := parquet.Read[export.ParquetCall](bytes.NewReader(data), int64(len(data)))
			if err != nil || int64(len(calls)) != statement.Counts.Calls {
				v.t.Errorf("%s: %v, %d rows of %d calls", what, err, len(calls), statement.Counts.Calls)
			}
		case "json invoice":
			var doc projections.InvoiceDocument
			if err := json.Unmarshal(data, &doc); err != nil {
				v.t.Fatalf("%s: %v", what, err)
			}
			got := map[string]*big.Rat{}
			for _, i := range doc.Invoices {
				add(got, i.Currency, i.Total)
			}
			same(what, got)
		default:
			v.t.Errorf("nobody reads %s", what)
		}
	}
	if len(seen) < 8 {
		v.t.Errorf("only %v are offered", seen)
	}
}

// newPageRig is an engine with a page, and with what finance people meet: a month
// that is over and has a gap, exceptions and a record in suspense, and one that
// runs, in which some pools have ended and others will.
func newPageRig(t *testing.T) (*rig, *setClock) {
	t.Helper()
	clock := new(setClock)
	clock.set("2026-10-23T10:00:00Z")
	r := &rig{t: t, dir: t.TempDir(), clock: clock.now, http: "127.0.0.1:0"}
	r.start()
	t.Cleanup(r.stop)
	r.book(builtinCatalog()...)
	r.book(pageLicences()...)
	calls := pageCalls(1)
	for part := range 10 {
		r.book(calls[part*len(calls)/10 : (part+1)*len(calls)/10]...)
	}
	r.request("tollbook.contoso.call.completed", suspendedCall("mistyped"))
	return r, clock
}

// A pagePool is users of one plan in one country, how many calls each makes a
// day on average, and where to.
type pagePool struct {
	plan, country string
	users         int
	calls         float64
	numbers       []string // the first digits
}

var pagePools = []pagePool{
	{"DOMESTIC_120", "IT", 40, 2.9, []string{"+3906", "+3902", "+39348", "+39320", "+4420"}},
	{"DOMESTIC_240", "DE", 12, 3.1, []string{"+4989", "+4930", "+49151"}},
	{"DOMESTIC_INTERNATIONAL", "GB", 8, 5, []string{"+4420", "+3906", "+1212", "+4989"}},
	{"DOMESTIC_120", "US", 20, 1.1, []string{"+1212", "+1415"}},
	{"DOMESTIC_120_USER", "FR", 3, 2.2, []string{"+331", "+336"}},
}

func pageUser(pool, i int) string {
	return fmt.Sprintf("user%02d.%s@contoso.example", i, pagePools[pool].country)
}

func pageLicences() []domain.Event {
	rome, err := time.LoadLocation("Europe/Rome")
	if err != nil {
		panic(err) // time/tzdata is in the binary
	}
	september := time.Date(2026, 9, 1, 0, 0, 0, 0, rome)
	events := []domain.Event{demoEvent("licence-desk", "tenant", september.AddDate(0, 0, -9), &domain.TenantConfig{
		TimeZone: "Europe/Rome", Zone: rome, Currency: "EUR", EffectiveFrom: 20260901,
	})}
	for p, pool := range pagePools {
		for i := range pool.users {
			from := september
			if i%7 == 6 { // some come later
				from = september.AddDate(0, 1, 4+i%9)
			}
			events = append(events, demoEvent("licence-desk", fmt.Sprintf("licence-%d-%d", p, i), september.AddDate(0, 0, -9), &domain.Assignment{
				User: pageUser(p, i), Plan: pool.plan, Country: pool.country, EffectiveAt: domain.InstantOf(from),
			}))
		}
	}
	return events
}

// pageCalls are those of September and of October until the 23rd, in their order.
// Of the switch's numbers three never came, and two users have no licence.
func pageCalls(seed uint64) []domain.Event {
	r := rand.New(rand.NewPCG(seed, 9))
	var events []domain.Event
	sequence := uint64(0)
	call := func(user, called string, answered time.Time, seconds float64) {
		sequence++
		if sequence >= 900 && sequence <= 902 {
			return
		}
		e := demoEvent("switch/mil-1", fmt.Sprintf("call-%d", sequence), answered.Add(time.Duration(seconds)*time.Second), &domain.Call{
			User: user, Kind: domain.KindUser, Disposition: domain.Answered,
			Calling: mustNumber("+390281234567"), Called: mustNumber(called), AnsweredAt: domain.InstantOf(answered), BillableMS: 1000 + int64(seconds*1000),
		})
		e.Sequence = domain.Sequence{N: sequence, Has: true}
		events = append(events, e)
	}
	for day := time.Date(2026, 9, 1, 6, 0, 0, 0, time.UTC); day.Before(time.Date(2026, 10, 23, 0, 0, 0, 0, time.UTC)); day = day.AddDate(0, 0, 1) {
		if day.Weekday() == time.Saturday || day.Weekday() == time.Sunday {
			continue
		}
		busy := 1.0
		if day.Month() == time.October {
			busy = 1.25
		}
		for p, pool := range pagePools {
			for range int(pool.calls * busy * float64(pool.users) * (0.8 + 0.4*r.Float64())) {
				to := pool.numbers[r.IntN(len(pool.numbers))]
				call(pageUser(p, r.IntN(pool.users)), fmt.Sprintf("%s%07d", to, r.IntN(10_000_000)),
					day.Add(time.Duration(r.Int64N(int64(11*time.Hour))).Truncate(time.Millisecond)), r.ExpFloat64()*150)
			}
		}
	}
	for i := range 4 {
		call(fmt.Sprintf("visitor%d@contoso.example", i%2), "+390612345678", time.Date(2026, 9, 15+i, 9, 0, 0, 0, time.UTC), 95)
	}
	return events
}
