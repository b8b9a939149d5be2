// Package export writes a month as files for other programs and people: CSV, XLSX,
// PDF, Parquet and JSON.
//
// The model: an export is of one state of the book. It takes the month's statement,
// and for calls also page after page of them, as of the statement's position, and
// writes them as they are: nothing is added up here that a document shows. Its
// [Manifest] says which state that was, how many rows were written, what the lines
// come to before and after rounding, and the digest of the bytes.
//
// The guarantee: the same query of the same state gives the same bytes, whatever is
// booked later, by the same version of the program. Calls that do not make exactly
// the lines and counts of the statement are an error. TestAllFormatsAgree reads every
// format back and compares it with the statement; TestSameBytes exports months again
// after they have moved on.
//
// The assumption: who asks may see it. Calls name users and numbers called.
package export
