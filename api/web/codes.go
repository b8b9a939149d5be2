package web

// What codes of the documents mean, as messages of the catalogue.

var classes = map[string]string{
	"voided": "voided", "free": "free", "unlicensed": "without a licence", "unrated": "without a price",
	"in_pool": "in the pool", "overage": "over the pool", "outside": "outside the pool",
}

var reasons = map[string]string{
	"syntax": "Cannot be read", "subject": "Tenant does not match", "size": "Too large", "conflict": "Same identity, other content",
	"switch": "Unknown switch", "format": "Unknown format", "event": "Not bookable", "resolved": "Resolved already", "position": "No such record",
}

var exceptions = map[string]string{
	"unlicensed": "Calls of users without a licence", "unrated": "Calls without a price", "ungranted": "Licences without minutes", "dangling": "Corrections without their call",
}

var remedies = map[string]string{
	"dangling": "Publish the call that was corrected or voided.", "ungranted": "Publish the plan, or its minutes for the licence's country.",
	"unlicensed": "Assign the users a licence from before their calls.", "unrated": "Publish a deck with the destination, or its missing parts.",
}

var outcomes = map[string]string{
	"booked": "booked", "duplicate": "a repeat of what is booked", "written-off": "written off", "refused": "stays in suspense",
}

// words are those of calls.
var words = map[string]string{
	"outbound": "outbound", "inbound": "inbound", "user": "from a user", "conference": "from a conference", "forward": "forwarded", "transfer": "transferred",
	"answered": "answered", "no_answer": "not answered", "busy": "busy", "failed": "failed", "cancelled": "cancelled",
}

var deckStates = map[string]string{
	"valid": "valid", "incomplete": "parts are missing", "invalid": "invalid", "other_currency": "another currency",
}

var deckChanges = map[string]string{
	"added": "new", "removed": "gone", "changed": "changed", "dearer": "dearer", "cheaper": "cheaper", "increment": "increment",
	"name": "name", "rated": "has a price now", "unrated": "has no price any more",
}

var findings = map[string]string{
	"currency": "another currency", "version": "version is published already", "closed_month": "in a closed month", "past": "in the past",
	"hides": "hides everybody's deck", "later": "a later version is in force", "superseded": "another version takes over", "missing_parent": "shorter prefix is missing",
	"wrong_country": "wrong country", "no_calling_code": "no calling code", "lost_zero": "lost zero", "no_numbers": "no such numbers",
	"zero_price": "price of zero", "free_priced": "price is never charged", "free_spelling": "type is misspelt", "increment": "odd increment",
	"price_jump_up": "much dearer", "price_jump_down": "much cheaper", "dropped": "row is gone", "dropped_bare": "has no price any more",
}

var grants = map[string]string{
	"peak": "the most that were held at the same instant count", "any": "each user who held one counts once",
	"start": "those held at the month's first instant count", "prorated": "each counts for the time it was held",
}
