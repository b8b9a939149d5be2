package export

import (
	"context"
	"fmt"
	"math/big"
	"strings"
	"time"
	"unicode"

	"codeberg.org/go-pdf/fpdf"
	"golang.org/x/image/font/gofont/gobold"
	"golang.org/x/image/font/gofont/goregular"
	"golang.org/x/image/font/sfnt"

	"tollbook/domain"
	"tollbook/projections"
)

// maxPDFRows is how many lines and adjustments a PDF has at most: some 500 pages.
const maxPDFRows = 20_000

// pdf writes the month's document on A4 paper: what is owed in all, then each
// invoice and credit note with its lines and adjustments, whose sums are carried
// from page to page. What neither font has a sign for is printed as □.
func (e *Export) pdf(ctx context.Context, w *writer) error {
	font, err := sfnt.Parse(goregular.TTF)
	if err != nil {
		return fmt.Errorf("pdf: %w", err)
	}
	draw := func(pages int) *paper {
		p := newPaper(e, font, pages)
		p.document(w)
		return p
	}
	// Twice: how many pages there are is on each of them.
	first := draw(0)
	if err := first.Error(); err != nil {
		return fmt.Errorf("pdf: %w", err)
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	w.rows = nil
	p := draw(first.PageCount())
	if err := p.Output(w); err != nil {
		return fmt.Errorf("pdf: %w", err)
	}
	return nil
}

// Measures, in millimetres.
const (
	pageWidth, pageHeight = 210, 297
	margin                = 18
	textWidth             = pageWidth - 2*margin
	topFirst, top         = 16, 22
	bottom                = pageHeight - 24 // below is the footer
	rowHeight             = 5.2
	lineHeight            = 4.2
)

type colour [3]int

var (
	ink    = colour{28, 36, 44}
	accent = colour{31, 58, 77}
	grey   = colour{110, 118, 126}
	rule   = colour{205, 211, 216}
	shade  = colour{243, 246, 248}
	faint  = colour{233, 236, 239}
)

// A paper is a document that is being drawn.
type paper struct {
	*fpdf.Fpdf
	words
	font   *sfnt.Font
	signs  sfnt.Buffer
	s      *projections.Statement
	digest string
	pages  int // of which the page numbers say so; 0: not known yet

	carried func(brought bool) // draws the sum so far where a table goes on; nil: no table
}

func newPaper(e *Export, font *sfnt.Font, pages int) *paper {
	p := &paper{
		Fpdf: fpdf.New("P", "mm", "A4", ""), words: wordsOf(e.query.Lang), font: font,
		s: &e.statement, digest: e.manifest(nil).Document, pages: pages,
	}
	p.AddUTF8FontFromBytes("go", "", goregular.TTF)
	p.AddUTF8FontFromBytes("go", "B", gobold.TTF)
	p.SetMargins(margin, topFirst, margin)
	p.SetAutoPageBreak(false, 0)
	// The file has no time of its own: it would be other bytes each time.
	month, _ := domain.ParseMonth(p.s.Month) // a statement's is one
	made := month.Start(time.UTC).Time()
	p.SetCreationDate(made)
	p.SetModificationDate(made)
	p.SetCatalogSort(true)
	p.SetProducer("tollbook", true)
	p.SetTitle(p.title+" "+e.title(), true)
	p.SetLang(p.lang)
	p.SetHeaderFunc(p.header)
	p.SetFooterFunc(p.footer)
	return p
}

func (p *paper) draft() bool { return p.s.Status != projections.StatusIssued }

// known is text with □ for what the font has no sign for, and for what would turn
// the direction of the text.
func (p *paper) known(text string) string {
	return strings.Map(func(r rune) rune {
		if i, err := p.font.GlyphIndex(&p.signs, r); err != nil || i == 0 || !unicode.IsGraphic(r) {
			return '□'
		}
		return r
	}, text)
}

func (p *paper) pen(style string, size float64, c colour) {
	p.SetFont("go", style, size)
	p.SetTextColor(c[0], c[1], c[2])
}

// say prints one line of text in a box: smaller, if it is too long.
func (p *paper) say(x, y, width float64, align, text string) {
	size, _ := p.GetFontSize()
	if long := p.GetStringWidth(text) + 2*p.GetCellMargin(); long > width {
		p.SetFontSize(size * width / long)
		defer p.SetFontSize(size)
	}
	p.SetXY(x, y)
	p.CellFormat(width, rowHeight, text, "", 0, align+"M", false, 0, "")
}

func (p *paper) line(y, thickness float64, c colour) {
	p.SetDrawColor(c[0], c[1], c[2])
	p.SetLineWidth(thickness)
	p.Line(margin, y, pageWidth-margin, y)
}

func (p *paper) fill(x, y, width, height float64, c colour) {
	p.SetFillColor(c[0], c[1], c[2])
	p.Rect(x, y, width, height, "F")
}

// header begins each page: the mark of a draft, and from the second on what it is of.
func (p *paper) header() {
	if p.draft() {
		p.pen("B", 120, faint)
		p.TransformBegin()
		p.TransformRotate(45, pageWidth/2, pageHeight/2)
		p.SetXY(0, pageHeight/2-30)
		p.CellFormat(pageWidth, 60, p.draftMark, "", 0, "CM", false, 0, "")
		p.TransformEnd()
	}
	if p.PageNo() == 1 {
		p.SetY(topFirst)
		return
	}
	p.pen("", 8, grey)
	p.say(margin, 11, textWidth, "L", p.known(p.s.Tenant)+" · "+p.month(p.s.Month))
	p.say(margin, 11, textWidth, "R", p.name())
	p.line(17, .2, rule)
	p.SetY(top)
}

// name is the document's number, or that it is a draft.
func (p *paper) name() string {
	if p.s.Number != nil {
		return p.document1 + " " + *p.s.Number
	}
	return p.draftName
}

func (p *paper) footer() {
	y := float64(pageHeight - 20)
	p.line(y, .2, rule)
	p.pen("", 6.5, grey)
	p.say(margin, y+1, textWidth, "L", fmt.Sprintf("%s %s · %s %s", p.position, p.grouped(int64(p.s.Position)), p.head, p.s.Head))
	p.say(margin, y+4.5, textWidth, "L", p.digestOf+" "+p.digest)
	p.pen("", 8, ink)
	p.say(margin, y+9, textWidth, "R", fmt.Sprintf(p.page, p.PageNo(), p.pages))
	p.pen("", 6.5, grey)
	p.say(margin, y+9, textWidth, "L", p.noVAT)
}

// room makes sure that height is left on the page.
func (p *paper) room(height float64) {
	if p.GetY()+height <= bottom {
		return
	}
	if p.carried != nil {
		p.carried(false)
	}
	p.AddPage()
	if p.carried != nil {
		p.carried(true)
	}
}

func (p *paper) document(w *writer) {
	p.AddPage()
	p.letterhead()
	p.overview()
	p.attention()
	lines, adjustments := 0, 0
	for i := range p.s.Invoices {
		one := &p.s.Invoices[i]
		lines += len(one.Lines)
		adjustments += len(one.Adjustments)
		if len(one.Lines)+len(one.Adjustments) > 0 {
			p.invoice(one)
		}
	}
	w.wrote("invoices", int64(len(p.s.Invoices)))
	w.wrote("lines", int64(lines))
	w.wrote("adjustments", int64(adjustments))
}

// letterhead names the tenant and the document.
func (p *paper) letterhead() {
	p.fill(0, 0, pageWidth, 5, accent)
	p.pen("B", 20, accent)
	p.say(margin, 15, textWidth, "L", p.title)
	p.pen("", 10, grey)
	p.say(margin, 23, textWidth, "L", p.month(p.s.Month))
	p.pen("", 8, grey)
	p.say(margin, 36, 80, "L", p.customer)
	p.pen("B", 13, ink)
	p.say(margin, 41, 90, "L", p.known(p.s.Tenant))

	x, y := float64(118), float64(36)
	fields := [][2]string{{p.document1, p.draftName}, {p.period, p.month(p.s.Month)}, {p.status, p.statusOf(p.s.Status)}, {p.position, p.grouped(int64(p.s.Position))}}
	if p.s.Number != nil {
		fields[0][1] = *p.s.Number
	}
	for _, f := range fields {
		p.pen("", 9, grey)
		p.say(x, y, 30, "L", f[0])
		p.pen("B", 9, ink)
		p.say(x+30, y, pageWidth-margin-x-30, "R", f[1])
		y += rowHeight
	}
	p.SetY(y + 8)
}

// A grid is the columns of a table of the paper.
type grid struct {
	titles []string
	widths []float64 // together textWidth
	align  string    // L or R by column
}

func (p *paper) titles(g *grid) {
	y := p.GetY()
	p.fill(margin, y, textWidth, rowHeight+1, accent)
	p.pen("B", 8, colour{255, 255, 255})
	x := float64(margin)
	for i, title := range g.titles {
		p.say(x+1, y+.5, g.widths[i]-2, g.align[i:i+1], title)
		x += g.widths[i]
	}
	p.SetY(y + rowHeight + 1)
}

// parts are the lines of a cell. Text is broken, a number never.
func (p *paper) parts(g *grid, i int, cell string) []string {
	if g.align[i] == 'R' {
		return []string{cell}
	}
	return p.SplitText(cell, g.widths[i]-2)
}

// height is how high a row gets.
func (p *paper) height(g *grid, cells []string) float64 {
	lines := 1
	for i, cell := range cells {
		lines = max(lines, len(p.parts(g, i, cell)))
	}
	return rowHeight + float64(lines-1)*lineHeight
}

// row draws cells, for which there is room.
func (p *paper) row(g *grid, shaded bool, cells []string) {
	y, height := p.GetY(), p.height(g, cells)
	if shaded {
		p.fill(margin, y, textWidth, height, shade)
	}
	x := float64(margin)
	for i, cell := range cells {
		for n, part := range p.parts(g, i, cell) {
			p.say(x+1, y+float64(n)*lineHeight, g.widths[i]-2, g.align[i:i+1], part)
		}
		x += g.widths[i]
	}
	p.SetY(y + height)
}

// sum draws a row of a label and an amount.
func (p *paper) sum(style, label, value string) {
	y := p.GetY()
	p.pen(style, 9, ink)
	p.say(margin+1, y, textWidth-45, "R", label)
	p.say(pageWidth-margin-43, y, 42, "R", value)
	p.SetY(y + rowHeight)
}

// overview lists the invoices, and what they come to by currency.
func (p *paper) overview() {
	if len(p.s.Invoices) == 0 {
		p.pen("", 10, ink)
		p.say(margin, p.GetY(), textWidth, "L", p.nothing)
		p.SetY(p.GetY() + 8)
		return
	}
	g := &grid{
		titles: []string{p.country, p.plan, p.kind, p.lines, p.adjustments, p.currency, p.total},
		widths: []float64{15, 52, 28, 14, 21, 14, 30}, align: "LLLRRLR",
	}
	p.titles(g)
	p.carried = func(brought bool) {
		if brought {
			p.titles(g)
		}
	}
	sums := map[string]*big.Rat{}
	var currencies []string
	for i := range p.s.Invoices {
		one := &p.s.Invoices[i]
		if sums[one.Currency] == nil {
			sums[one.Currency] = new(big.Rat)
			currencies = append(currencies, one.Currency)
		}
		add(sums[one.Currency], one.Total)
		cells := []string{
			orDash(one.Country), p.known(one.Plan), p.typeOf(one), p.grouped(int64(len(one.Lines))), p.grouped(int64(len(one.Adjustments))), one.Currency, p.money(one.Total),
		}
		p.pen("", 8.5, ink)
		p.room(p.height(g, cells))
		p.pen("", 8.5, ink)
		p.row(g, i%2 == 1, cells)
	}
	p.carried = nil
	p.room(3 + float64(len(currencies))*7)
	p.line(p.GetY()+1, .4, accent)
	p.SetY(p.GetY() + 2)
	for _, currency := range currencies {
		p.sum("B", p.totalOf+" "+currency, p.money(sums[currency].FloatString(domain.Currency(currency).Digits())))
	}
	p.SetY(p.GetY() + 4)
}

func orDash(s string) string {
	if s == "" {
		return "–"
	}
	return s
}

// add adds a decimal of a document, which account has read before.
func add(sum *big.Rat, text string) {
	if v, ok := new(big.Rat).SetString(text); ok {
		sum.Add(sum, v)
	}
}

// attention says what became of the month's calls, and what was not charged.
func (p *paper) attention() {
	p.room(14 + float64(len(p.s.Exceptions))*rowHeight)
	c := p.s.Counts
	p.pen("", 8.5, grey)
	p.say(margin, p.GetY(), textWidth, "L", fmt.Sprintf(p.counts, p.grouped(c.Calls), p.grouped(c.Free), p.grouped(c.InPool), p.grouped(c.Overage), p.grouped(c.Outside)))
	p.SetY(p.GetY() + rowHeight)
	for _, x := range p.s.Exceptions {
		p.pen("", 8.5, colour{150, 60, 20})
		p.say(margin, p.GetY(), textWidth, "L", fmt.Sprintf(p.exception, p.reason(x.Reason), p.grouped(x.Count), p.minutes(x.Seconds)))
		p.SetY(p.GetY() + rowHeight)
	}
	p.SetY(p.GetY() + 4)
}

// pools says how far the pool of an invoice went. Pools of one user are too many.
func (p *paper) pools(i *projections.Invoice) {
	for n := range p.s.Pools {
		pool := &p.s.Pools[n]
		if pool.Country != i.Country || pool.Plan != i.Plan || pool.User != "" {
			continue
		}
		for _, b := range pool.Buckets {
			p.room(rowHeight)
			p.pen("", 8.5, grey)
			p.say(margin, p.GetY(), textWidth, "L", fmt.Sprintf(p.pool, p.known(b.Name), p.minutes(b.Granted), p.minutes(b.Used), p.minutes(b.Overage)))
			p.SetY(p.GetY() + rowHeight)
		}
	}
}

// invoice draws one invoice or credit note.
func (p *paper) invoice(i *projections.Invoice) {
	p.room(34 + 2*rowHeight)
	y := p.GetY()
	p.pen("B", 12, accent)
	p.say(margin, y, textWidth, "L", p.typeOf(i)+"  "+p.known(strings.TrimSpace(i.Country+"  "+i.Plan)))
	p.pen("", 9, grey)
	p.say(margin, y, textWidth, "R", i.Currency)
	p.SetY(y + 7.5)
	p.pools(i)
	g := &grid{
		titles: []string{p.destination, p.deck, p.price, p.fee, p.calls, p.time, p.amount},
		widths: []float64{50, 29, 20, 15, 17, 18, 25}, align: "LLRRRRR",
	}
	digits := domain.Currency(i.Currency).Digits()
	sum := new(big.Rat)
	carry := func(brought bool) {
		if brought {
			p.titles(g)
			p.sum("", p.brought, p.money(sum.FloatString(digits)))
			return
		}
		p.sum("", p.carriedOver, p.money(sum.FloatString(digits)))
	}
	row := func(n, of int, name string, l *projections.Line) {
		cells := []string{
			p.known(name), p.known(l.Deck + " " + l.DeckVersion), p.money(l.Price), p.money(l.ConnectFee), p.grouped(l.Calls), p.minutes(l.Seconds), p.money(l.Amount),
		}
		p.pen("", 8.5, ink)
		room := p.height(g, cells) + rowHeight // and for what is carried over
		if n == of-1 {
			room += rowHeight // the total does not stand alone on a page
		}
		p.room(room)
		p.pen("", 8.5, ink)
		p.row(g, n%2 == 1, cells)
		add(sum, l.Amount)
	}
	p.titles(g)
	p.carried = carry
	for n := range i.Lines {
		l := &i.Lines[n]
		row(n, len(i.Lines), fmt.Sprintf("%s %s, %s", l.DestinationCountry, l.Destination, l.Type), l)
	}
	if len(i.Adjustments) > 0 {
		p.room(4 * rowHeight)
		if len(i.Lines) > 0 {
			p.line(p.GetY()+.5, .2, rule)
			p.SetY(p.GetY() + 1)
			p.sum("", p.linesSum, p.money(sum.FloatString(digits)))
		}
		p.pen("B", 8.5, accent)
		p.say(margin+1, p.GetY(), textWidth, "L", p.adjustmentsOf)
		p.SetY(p.GetY() + rowHeight)
		for n := range i.Adjustments {
			a := &i.Adjustments[n]
			row(n, len(i.Adjustments), fmt.Sprintf("%s: %s %s, %s", p.month(a.Month), a.DestinationCountry, a.Destination, a.Type), &a.Line)
		}
	}
	p.room(rowHeight + 3)
	p.carried = nil
	p.line(p.GetY()+1, .4, accent)
	p.SetY(p.GetY() + 2)
	p.sum("B", p.total+" "+i.Currency, p.money(i.Total))
	p.SetY(p.GetY() + 8)
}
