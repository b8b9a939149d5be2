package metrics

import "github.com/prometheus/client_golang/prometheus"

// descs are those of everything that is looked up.
var descs []*prometheus.Desc

func desc(name, help string, labels ...string) *prometheus.Desc {
	d := prometheus.NewDesc(prometheus.BuildFQName(namespace, "", name), help, labels, nil)
	descs = append(descs, d)
	return d
}

// Of the engine, as of the scrape.
var (
	descRunning  = desc("book_running", "1 while the book takes events; 0 while it is read, and once an append has failed: the engine ends then and has to be started again.")
	descLoaded   = desc("book_loaded_events", "Events of the book read at this start.")
	descEvents   = desc("book_events_total", "Events in the book: the position of its last one.")
	descBlocks   = desc("book_blocks_total", "Blocks in the book.")
	descAnchored = desc("anchor_timestamp_seconds", "When NATS last passed on a signed anchor of the book, in Unix time; not there before the first one of this process.")
	descBehind   = desc("mirror_behind_blocks", "Blocks that the mirror does not have yet; only with serve --mirror.")
	descFailing  = desc("mirror_failing", "1 while the mirror can't be written, and status says why; only with serve --mirror.")
)

// Of the engine, as of the last reading.
var (
	descHealthy     = desc("healthy", "1 if the engine can book what comes now, as /healthz and /readyz say.")
	descReadSeconds = desc("reading_duration_seconds", "Time that the last reading of months, suspense and gaps took.")
	descReadAt      = desc("reading_timestamp_seconds", "When the last reading was taken, in Unix time: at most 5 seconds ago unless readings are slow.")

	descTenants    = desc("tenants", "Tenants with anything in the book.")
	descRecords    = desc("tenant_records", "Records of the whole book and what became of them, as status has them: booked, duplicate, suspended (not recycled since); written_off are among the suspended.", "tenant", "state")
	descOpenMonths = desc("open_months", "Months with calls that are not closed.", "tenant")
	descExceptions = desc("exceptions", "Exceptions of all open months by reason (unlicensed, unrated, ungranted, dangling), without those waived: they keep a month from closing.", "tenant", "reason")

	descPools       = desc("pools", "Pools with this bucket in the last month that has begun and has calls: 1, or of plans with a pool for each user, how many.", "tenant", "month", "country", "plan", "bucket")
	descEnded       = desc("ended_pools", "Pools whose bucket is used up.", "tenant", "month", "country", "plan", "bucket")
	descPoolRatio   = desc("pool_used_ratio", "Share of the bucket's minutes that is used, 0 to 1; of several pools, the greatest.", "tenant", "month", "country", "plan", "bucket")
	descPoolGranted = desc("pool_granted_seconds", "Seconds that the licences grant, of all pools together.", "tenant", "month", "country", "plan", "bucket")
	descPoolUsed    = desc("pool_used_seconds", "Seconds used of the grant, of all pools together.", "tenant", "month", "country", "plan", "bucket")
	descPoolOverage = desc("pool_overage_seconds", "Seconds beyond the grant, which are charged, of all pools together.", "tenant", "month", "country", "plan", "bucket")

	descSuspenseAll = desc("suspense_open_records", "Records in suspense that nobody has recycled or written off, of all tenants.")
	descSuspense    = desc("suspense_records", "Records in suspense that nobody has recycled or written off, by the code of the reason.", "tenant", "reason")
	descSuspenseAge = desc("suspense_oldest_age_seconds", "How long the oldest record in suspense has been there.", "tenant", "reason")

	descGapSources    = desc("gap_sources", "Sources that number their records.", "tenant")
	descGapIncomplete = desc("gap_incomplete_sources", "Sources that number their records and miss some that nobody has waived.", "tenant")
	descGapMissing    = desc("gap_missing_records", "Numbers of all sources that never came and nobody has waived.", "tenant")

	descStreamWaiting  = desc("stream_waiting_messages", "Messages in the stream that the engine was not handed yet: its lag.")
	descStreamInFlight = desc("stream_in_flight_messages", "Messages that are being booked: handed over and not acknowledged.")
	descStreamAgain    = desc("stream_redelivered_messages", "Messages in flight that were handed over more than once.")
	descStreamBytes    = desc("stream_bytes", "Bytes in the stream: what is waiting or in flight.")
	descStreamAge      = desc("stream_oldest_age_seconds", "How long the oldest message in the stream has been there; 0 if there is none.")
	descRequests       = desc("nats_requests_total", "Requests to the NATS service since the start of the process, by endpoint.", "endpoint")

	descAlerts     = desc("alerts_total", "Alerts made since the start of the process, by kind: threshold (a pool has reached a share) or forecast (it will end this month).", "kind")
	descHookSent   = desc("webhook_delivered_alerts_total", "Alerts that a webhook has taken since the start of the process.", "webhook")
	descHookFailed = desc("webhook_failed_attempts_total", "Attempts to reach a webhook since the start of the process that failed; they are repeated.", "webhook")
	descHookLost   = desc("webhook_lost_alerts_total", "Alerts since the start of the process that a webhook will not get: given up after three days, refused as too many waited, or not wanted any more (410).", "webhook")
	descHookWaits  = desc("webhook_waiting_alerts", "Alerts that wait to be delivered to a webhook.", "webhook")

	descDiskFree = desc("disk_free_bytes", "Room on the disk of the data directory for the engine's user.")
	descDiskSize = desc("disk_size_bytes", "Size of the disk of the data directory.")
)

// looked collects what is looked up.
type looked struct{ *Metrics }

// Describe implements prometheus.Collector.
func (c looked) Describe(to chan<- *prometheus.Desc) {
	for _, d := range descs {
		to <- d
	}
}

// Collect implements prometheus.Collector. It asks nobody who may be busy.
func (c looked) Collect(to chan<- prometheus.Metric) {
	var now reading
	now.gauge(descLoaded, float64(c.loaded.Load()))
	if at := c.anchored.Load(); at != 0 {
		now.gauge(descAnchored, float64(at)/1e9)
	}
	s := c.sources.Load()
	running := false
	if s != nil {
		select {
		case <-s.Book.Done():
		default:
			running = true
		}
		head := s.Book.Head()
		now.counter(descEvents, float64(head.Events))
		now.counter(descBlocks, float64(head.Block))
		if s.Mirror != nil {
			mirror := s.Mirror()
			now.gauge(descBehind, float64(mirror.Behind))
			now.gauge(descFailing, oneIf(mirror.Error != ""))
		}
	}
	now.gauge(descRunning, oneIf(running))
	samples := now.samples
	if last := c.reading.Load(); last != nil {
		samples = append(samples, last.samples...)
	}
	for i := range samples {
		one := &samples[i]
		metric, err := prometheus.NewConstMetric(one.desc, one.kind, one.value, one.labels...)
		if err != nil { // a name that is no UTF-8 must not hide all others
			metric = prometheus.NewInvalidMetric(one.desc, err)
		}
		to <- metric
	}
}
