// Package web is the page: what finance people look at and decide, made on the
// server, with a little script that nothing depends on.
//
// The model: a page is a template filled from documents of api/finance, in one of
// the languages of one catalogue. Every figure is a document's own, as the language
// writes it; nothing is rounded or added up here. Addresses are stable, and a form
// changes the book by the same decisions as the commands, in the name of who sent
// it, then leads to the page that shows what came of it.
//
//	/                                   the tenants
//	/{tenant}                           its months
//	/{tenant}/{month}                   pools, what needs attention first; live
//	/{tenant}/{month}/pool?country=&plan=&user=
//	/{tenant}/{month}/invoice           as printed; ?at=POSITION, ?from=&to=: what changed
//	/{tenant}/{month}/line?…            a line and its calls
//	/{tenant}/{month}/call?source=&id=  a call's passport, its proof with &proof=1
//	/{tenant}/{month}/close             what keeps the month open; closing it
//	/{tenant}/{month}/what-if?…         the month with something otherwise
//	/{tenant}/{month}/export?format=    files, as api/export has them
//	/{tenant}/suspense, gaps, exceptions, decks, documents, search
//	/events?tenant=                     the book's position whenever it has grown
//
// The guarantee: a page uses nothing that this server does not have, and runs
// nothing that is not in the binary, whatever names calls and users have:
// TestEveryPage walks all of them, TestAmounts compares them with the documents, and
// TestPageInBrowser drives a browser through a month's end with axe beside it.
//
// The assumption: Config.Who knows who asks. A form is taken from this site only.
package web
