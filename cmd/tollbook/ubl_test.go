package main

import (
	"encoding/xml"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"tollbook/domain"
	"tollbook/projections/ubl"
)

const partiesFile = `{
  "supplier": {"name": "Tollbook Telecom", "country": "IT", "vat_id": "IT01234567890"},
  "customers": {"contoso": {"name": "Contoso", "country": "IT", "payment_terms": "30 days net", "tax": {"category": "S", "percent": "22"}}}
}`

// TestUBL: an invoice in October, and in November its credit note, from the engine
// and from the book.
func TestUBL(t *testing.T) {
	r, clock := newRigAt(t, "2026-11-04T08:00:00Z")
	r.book(licensed("contoso")...)
	r.book(callAt("contoso", "1", "2026-10-05T09:00:00Z", 130*60))
	parties := writeFile(t, "parties.json", []byte(partiesFile))
	out := t.TempDir()
	args := func(month, out string, more ...string) []string {
		return append(monthArgs("ubl", "contoso", month, "--out", out), more...)
	}

	refused(t, exitFailed, "2026-10 of contoso is not closed: only what was issued is an invoice; tollbook close --tenant contoso --month 2026-10", args("2026-10", out, "--nats", r.NATSAddress)...)
	refused(t, exitFailed, "2026-10 of contoso is not closed", args("2026-10", out, "--data", r.dir)...)

	r.close("contoso", "2026-10")
	got := decoded[ublReport](t, r.ask(args("2026-10", out, "--parties", parties, "--format", "json")...))
	file := filepath.Join(out, "contoso-2026-0001-1-IT-DOMESTIC_120-EUR.xml")
	// 10 minutes at 0.016, and 22 %: 0.0352.
	want := ublReport{Tenant: "contoso", Month: "2026-10", Number: "2026-0001", IssuedAt: "2026-11-04T08:00:00Z", Empty: []ubl.Empty{}, Documents: []ublFile{{
		File: file, ID: "contoso/2026-0001/IT/DOMESTIC_120/EUR", Type: "Invoice", Country: "IT", Plan: "DOMESTIC_120", Currency: "EUR", Total: "0.16", Payable: "0.20", EN16931: true,
	}}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	var x struct {
		IssueDate string
		Payable   string `xml:"LegalMonetaryTotal>PayableAmount"`
		Name      string `xml:"AccountingCustomerParty>Party>PartyLegalEntity>RegistrationName"`
	}
	if err := xml.Unmarshal([]byte(readText(t, file)), &x); err != nil || x.IssueDate != "2026-11-04" || x.Payable != "0.20" || x.Name != "Contoso" {
		t.Errorf("%s says %+v, %v", file, x, err)
	}

	// From the book, while the engine runs, the same files.
	offline := t.TempDir()
	done(t, args("2026-10", offline, "--data", r.dir, "--parties", parties)...)
	if diff := cmp.Diff(files(t, out), files(t, offline)); diff != "" {
		t.Errorf("-from the engine +from the book:\n%s", diff)
	}

	// Again is the same; as for others nothing is replaced, and nothing else made.
	r.ask(args("2026-10", out, "--parties", parties)...)
	before := files(t, out)
	refused(t, exitFailed, file+" is there with other content", args("2026-10", out, "--nats", r.NATSAddress)...)
	if diff := cmp.Diff(before, files(t, out)); diff != "" {
		t.Errorf("what was refused changed the files (-before +after):\n%s", diff)
	}

	// The call was none: in November the customer gets it back.
	r.book(domain.Event{Tenant: "contoso", Source: "mediation", ID: "void", Time: instant("2026-11-10T09:00:00Z"), Data: &domain.Void{Ref: domain.Ref{Source: "switch/mil-1", ID: "1"}, Reason: "a test call"}})
	clock.set("2026-12-03T08:00:00Z")
	r.close("contoso", "2026-11")
	november := decoded[ublReport](t, r.ask(args("2026-11", out, "--parties", parties, "--format", "json")...))
	want = ublReport{Tenant: "contoso", Month: "2026-11", Number: "2026-0002", IssuedAt: "2026-12-03T08:00:00Z", Empty: []ubl.Empty{}, Documents: []ublFile{{
		File: filepath.Join(out, "contoso-2026-0002-1-IT-DOMESTIC_120-EUR.xml"), ID: "contoso/2026-0002/IT/DOMESTIC_120/EUR", Type: "CreditNote",
		Country: "IT", Plan: "DOMESTIC_120", Currency: "EUR", Total: "-0.16", Payable: "0.20", EN16931: true,
	}}}
	if diff := cmp.Diff(want, november); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}

	// December has nothing to bill.
	clock.set("2027-01-03T08:00:00Z")
	r.close("contoso", "2026-12")
	text := r.ask(args("2026-12", filepath.Join(out, "new", "directory"))...)
	if !strings.Contains(text, "\nIT DOMESTIC_120: nothing to bill, no file\n") || !strings.Contains(text, "No --parties: ") {
		t.Errorf("December prints:\n%s", text)
	}

	for line, change := range map[string][2]string{
		"unknown object member name":             {`"country"`, `"land"`},
		"customers has no contoso":               {`"contoso"`, `"acme"`},
		"customers.contoso.tax.percent":          {`"22"`, `"220"`},
		"supplier.vat_id: required, or legal_id": {`"IT01234567890"`, `""`},
	} {
		bad := writeFile(t, "bad.json", []byte(strings.Replace(partiesFile, change[0], change[1], 1)))
		refused(t, exitFailed, "--parties "+bad+": ", args("2026-10", t.TempDir(), "--parties", bad, "--data", r.dir)...)
		refused(t, exitFailed, line, args("2026-10", t.TempDir(), "--parties", bad, "--data", r.dir)...)
	}
	refused(t, exitFailed, "--out: ", args("2026-10", parties, "--data", r.dir)...)
}

// files are those of a directory, by name.
func files(t *testing.T, dir string) map[string]string {
	t.Helper()
	found := map[string]string{}
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		found[e.Name()] = readText(t, filepath.Join(dir, e.Name()))
	}
	if len(found) == 0 {
		t.Fatalf("%s has no files", dir)
	}
	return found
}
