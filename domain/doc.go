// Package domain is telephone billing itself: the events, plans, rate decks,
// licences and money of spec/events.md, and the rating of a month by the rules
// R1 to R10.
//
// The model is a set, not a stream: an [Account] is given the events of one
// tenant in any order, and a month's [Rating] depends only on which events were
// given. That is what makes a late record, a repeat or a restart harmless, and
// a replay exact. TestOrderNeverMatters and TestAgreesWithNaiveRating show it.
//
// Nothing here does I/O, reads the clock, starts a goroutine or knows JSON.
// Money and prices are integers or rationals, never floats.
package domain
