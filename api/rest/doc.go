// Package rest is the HTTP API of the finance desk, described by the OpenAPI
// document that it makes of its own operations.
//
// Each operation asks the [finance.Desk] and answers with the document that the
// command of the same question prints. Errors are problem details (RFC 9457) with
// the same one line as the command's.
package rest
