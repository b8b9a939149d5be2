// Package whatif asks what a month would have been: with other licences, another
// plan for some users, another deck, another grant rule ([Evaluate]); and which
// licences would have been the cheapest ([RightSize]).
//
// The model: a scenario is events that nobody published. The book is folded as for
// a replay, the month is rated, then the scenario's events are added to the same
// ledger, each stamped later than any real one so that it stands, and the month is
// rated again. So every rule of rating is the domain's, a scenario without changes
// is the actual month byte for byte, and any other is what a book would say in
// which its events had been published: TestUnchanged and TestPublished show both on
// random histories.
//
// A scenario's events take effect at the month's first instant and end with the
// month, so no earlier month changes and a document keeps the adjustments it has.
package whatif
