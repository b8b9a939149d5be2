// Package metrics shows a running engine to Prometheus, and says over HTTP whether
// it is ready. docs/METRICS.md lists every metric; a test compares it with what an
// engine exports.
//
// What is counted as it happens (records, latency, HTTP) is counted by the hooks
// [Metrics.Booking] and [Metrics.HTTP]. What has to be looked up is read every
// [readEvery] seconds at most, by [Metrics.Watch], and kept: a scrape copies it, and
// however often somebody scrapes, no question is asked of the months or of NATS.
//
// No label names a person, and labels are bounded: tenants beyond the first
// [maxTenants] and pools beyond the first [maxPools] are summed as [other].
package metrics
