// Package forecast estimates how a month will end while it runs: when the buckets
// of its pools are used up, what they come to, and what that costs.
//
// The model: a bucket's calls come at a level of its own, which changes from month
// to month, times how busy an hour is: by its weekday, whether it is a holiday of
// the pool's country, and its place in the day. How busy hours are is learned from
// the tenant's calls, then from those of the country, then from the pool's own; the
// level from the pool's months before, then from this one. Each step begins from
// the one before and leaves it as far as the calls seen allow, so that little data
// is a wide interval and never nonsense. docs/FORECAST.md has the formulas, what
// the model can't know, and how far off it was on months made up for that.
//
// An estimate is no invoice: within this package, and nowhere else, seconds are
// floats until they are rounded to whole ones. The same book and the same instant
// give the same document on machines of a kind: sums of many are sums of integers,
// and floats are added in the order of the document. TestProperties shows it.
package forecast
