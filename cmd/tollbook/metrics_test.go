package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/nats-io/nats.go"
	natsjs "github.com/nats-io/nats.go/jetstream"
	"github.com/prometheus/client_golang/prometheus/testutil/promlint"
	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
	"go.yaml.in/yaml/v3"

	"tollbook/api"
	"tollbook/api/alerts"
	"tollbook/consumers"
	"tollbook/domain"
)

// get asks an engine over HTTP.
func get(t tester, url string, change ...func(*http.Request)) (status int, text string) {
	t.Helper()
	request, err := http.NewRequest(http.MethodGet, url, nil)
	if err != nil {
		t.Fatalf("%v", err)
	}
	for _, c := range change {
		c(request)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatalf("%v", err)
	}
	defer func() { _ = response.Body.Close() }()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatalf("%v", err)
	}
	return response.StatusCode, string(body)
}

// scraped is what an engine exports now, by name.
func scraped(t tester, e *Engine) (families map[string]*dto.MetricFamily, text string) {
	t.Helper()
	status, text := get(t, e.HTTPAddress+"/metrics")
	if status != http.StatusOK {
		t.Fatalf("%d: %s", status, text)
	}
	parser := expfmt.NewTextParser(model.LegacyValidation)
	families, err := parser.TextToMetricFamilies(strings.NewReader(text))
	if err != nil {
		t.Fatalf("%v", err)
	}
	return families, text
}

// samples are a family's values, as name{label="value",…}; of a histogram, how many it has.
func samples(families map[string]*dto.MetricFamily, name string) map[string]float64 {
	all := map[string]float64{}
	for _, m := range families[name].GetMetric() {
		var labels []string
		for _, l := range m.GetLabel() {
			labels = append(labels, fmt.Sprintf("%s=%q", l.GetName(), l.GetValue()))
		}
		all[strings.Join(labels, ",")] = m.GetCounter().GetValue() + m.GetGauge().GetValue() + float64(m.GetHistogram().GetSampleCount())
	}
	return all
}

// oneEach is a plan that gives each user ten minutes of their own.
func oneEach(tenant string, users ...string) (events []domain.Event) {
	plan := licensed(tenant)[0]
	plan.ID = "plan-each"
	plan.Data = &domain.Plan{
		Plan: "EACH_10", Name: "Ten each", EffectiveFrom: 20260101, Kinds: []string{domain.KindUser}, Scope: domain.ScopeUser,
		Buckets:   []domain.Bucket{{Name: "domestic", Minutes: map[string]int64{domain.AnyCountry: 10}}},
		Increment: domain.DefaultIncrement, Deck: "standard",
	}
	events = append(events, plan)
	for _, user := range users {
		e := licensed(tenant)[2]
		e.ID, e.Data = "licence-"+user, &domain.Assignment{User: user, Plan: "EACH_10", Country: "IT", EffectiveAt: instant("2026-09-30T22:00:00Z")}
		events = append(events, e)
	}
	return events
}

// newBusyRig is an engine to which everything has happened that a metric shows.
func newBusyRig(t *testing.T) *rig {
	t.Helper()
	dir := t.TempDir()
	config := mirroredConfig(dir, filepath.Join(t.TempDir(), "mirror"))
	config.HTTPListen = "127.0.0.1:0"
	hooks, err := alerts.ReadWebhooks(startListening(t).file)
	if err != nil {
		t.Fatal(err)
	}
	config.Webhooks = hooks
	engine, err := StartEngine(context.Background(), config)
	if err != nil {
		t.Fatal(err)
	}
	r := &rig{t: t, dir: dir, Engine: engine}
	t.Cleanup(r.stop)
	if r.nc, err = nats.Connect(engine.NATSAddress); err != nil {
		t.Fatal(err)
	}
	if r.js, err = natsjs.New(r.nc); err != nil {
		t.Fatal(err)
	}
	r.client = api.NewClient(r.nc)

	r.book(licensed("contoso")...)
	r.book(oneEach("contoso", "bob@contoso.example", "eve@contoso.example")...)
	r.book(
		someCall("contoso", "c-1", "user000@contoso.example", 5400),
		someCall("contoso", "c-2", "bob@contoso.example", 300),
		someCall("contoso", "c-3", "eve@contoso.example", 900),
		someCall("contoso", "c-4", "nobody@contoso.example", 60),
	)
	again := r.request("tollbook.-.events", ndjson([]domain.Event{someCall("contoso", "c-1", "user000@contoso.example", 5400)}))
	if again.Duplicate != 1 {
		t.Fatalf("%+v", again)
	}
	r.book(countedCalls("switch/rom-1", 1, 2, 5)...)
	if refused := r.request("tollbook.contoso.call.completed", []byte(`{"specversion":"1.0"}`)); refused.Suspended != 1 {
		t.Fatalf("%+v", refused)
	}
	one := post(t, http.DefaultClient, r.HTTPAddress+"/v1/events", jsonEvent, string(ndjson([]domain.Event{someCall("acme", "c-1", "ada@acme.example", 60)})))
	if one.receipt.Booked != 1 {
		t.Fatalf("%+v", one)
	}
	get(t, r.HTTPAddress+"/no/such/path/393331234567")
	r.drained()
	r.until("an anchor went out and the mirror has all", func() bool {
		families, _ := scraped(t, r.Engine)
		return len(samples(families, "tollbook_anchor_timestamp_seconds")) == 1 && samples(families, "tollbook_mirror_behind_blocks")[""] == 0
	})
	r.until("alerts were delivered", func() bool { return r.alerts.Totals().Webhooks["finance"].Delivered == 3 })
	r.metrics.Read(context.Background())
	return r
}

// TestMetrics: what an engine exports is what happened to it, clean by promlint,
// and what docs/METRICS.md lists; dashboard and alerts ask for nothing else.
func TestMetrics(t *testing.T) {
	r := newBusyRig(t)
	families, text := scraped(t, r.Engine)

	pool := func(plan string) string {
		return fmt.Sprintf(`bucket="domestic",country="IT",month="2026-10",plan=%q,tenant="contoso"`, plan)
	}
	of := func(tenant, label, value string) string {
		return fmt.Sprintf("%s=%q,tenant=%q", label, value, tenant)
	}
	for name, want := range map[string]map[string]float64{
		"tollbook_records_total": {
			`result="booked",tenant="contoso"`: 13, `result="duplicate",tenant="contoso"`: 1, `result="suspended",tenant="contoso"`: 1,
			`result="booked",tenant="acme"`: 1, `result="duplicate",tenant="acme"`: 0, `result="suspended",tenant="acme"`: 0,
		},
		"tollbook_tenant_records": {
			`state="booked",tenant="contoso"`: 13, `state="duplicate",tenant="contoso"`: 1, `state="suspended",tenant="contoso"`: 1, `state="written_off",tenant="contoso"`: 0,
			`state="booked",tenant="acme"`: 1, `state="duplicate",tenant="acme"`: 0, `state="suspended",tenant="acme"`: 0, `state="written_off",tenant="acme"`: 0,
		},
		"tollbook_booking_errors_total":   {"": 0},
		"tollbook_tenants":                {"": 2},
		"tollbook_book_events_total":      {"": 15},
		"tollbook_book_running":           {"": 1},
		"tollbook_healthy":                {"": 1},
		"tollbook_pools":                  {pool("DOMESTIC_120"): 1, pool("EACH_10"): 2},
		"tollbook_ended_pools":            {pool("DOMESTIC_120"): 0, pool("EACH_10"): 1},
		"tollbook_pool_used_ratio":        {pool("DOMESTIC_120"): 0.775, pool("EACH_10"): 1},
		"tollbook_pool_granted_seconds":   {pool("DOMESTIC_120"): 7200, pool("EACH_10"): 1200},
		"tollbook_pool_used_seconds":      {pool("DOMESTIC_120"): 5580, pool("EACH_10"): 900},
		"tollbook_pool_overage_seconds":   {pool("DOMESTIC_120"): 0, pool("EACH_10"): 300},
		"tollbook_suspense_open_records":  {"": 1},
		"tollbook_suspense_records":       {of("contoso", "reason", "syntax"): 1},
		"tollbook_gap_sources":            {`tenant="contoso"`: 1},
		"tollbook_gap_incomplete_sources": {`tenant="contoso"`: 1},
		"tollbook_gap_missing_records":    {`tenant="contoso"`: 2},
		"tollbook_open_months":            {`tenant="contoso"`: 1, `tenant="acme"`: 1},
		"tollbook_exceptions": {
			of("contoso", "reason", "unlicensed"): 1, of("contoso", "reason", "unrated"): 0, of("contoso", "reason", "ungranted"): 0, of("contoso", "reason", "dangling"): 0,
			of("acme", "reason", "unlicensed"): 1, of("acme", "reason", "unrated"): 0, of("acme", "reason", "ungranted"): 0, of("acme", "reason", "dangling"): 0,
		},
		"tollbook_stream_waiting_messages":     {"": 0},
		"tollbook_stream_in_flight_messages":   {"": 0},
		"tollbook_stream_redelivered_messages": {"": 0},
		"tollbook_stream_bytes":                {"": 0},
		"tollbook_stream_oldest_age_seconds":   {"": 0},
		"tollbook_mirror_failing":              {"": 0},

		"tollbook_alerts_total":                   {`kind="threshold"`: 3, `kind="forecast"`: 0},
		"tollbook_webhook_delivered_alerts_total": {`webhook="finance"`: 3},
		"tollbook_webhook_failed_attempts_total":  {`webhook="finance"`: 0},
		"tollbook_webhook_lost_alerts_total":      {`webhook="finance"`: 0},
		"tollbook_webhook_waiting_alerts":         {`webhook="finance"`: 0},
	} {
		if diff := cmp.Diff(want, samples(families, name)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
	for what, holds := range map[string]bool{
		"a block for each request":   samples(families, "tollbook_book_blocks_total")[""] == 6,
		"each request took its time": samples(families, "tollbook_booking_duration_seconds")[""] == 7,
		"requests by route":          samples(families, "tollbook_http_requests_total")[`code="200",method="POST",route="/v1/events"`] == 1,
		"what no route takes":        samples(families, "tollbook_http_requests_total")[`code="404",method="GET",route="/"`] == 1,
		"requests over NATS":         samples(families, "tollbook_nats_requests_total")[`endpoint="publish"`] == 6,
		"some disk is free":          samples(families, "tollbook_disk_free_bytes")[""] > 0,
		"the book was empty":         samples(families, "tollbook_book_loaded_events")[""] == 0,
	} {
		if !holds {
			t.Errorf("%s does not hold:\n%s", what, text)
		}
	}
	if personal := regexp.MustCompile(`.*(@|39333).*`).FindString(text); personal != "" {
		t.Errorf("names a person: %s", personal)
	}

	t.Run("lint", func(t *testing.T) {
		problems, err := promlint.New(strings.NewReader(text)).Lint()
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range problems {
			t.Errorf("%s: %s", p.Metric, p.Text)
		}
	})
	t.Run("documented", func(t *testing.T) { checkMetricsPage(t, families) })
	t.Run("dashboard", func(t *testing.T) {
		for where, expression := range dashboard(t) {
			checkExpression(t, families, where, expression)
		}
	})
	t.Run("alerts", func(t *testing.T) {
		for where, expression := range alertRules(t) {
			checkExpression(t, families, where, expression)
		}
	})
}

// units are what the last word of a metric's name, without _total, says it counts in.
var units = map[string]string{
	"seconds": "seconds", "bytes": "bytes", "ratio": "0 to 1", "info": "1", "running": "0 or 1", "healthy": "0 or 1", "failing": "0 or 1",
}

// checkMetricsPage compares the table of docs/METRICS.md, or makes it with -update.
func checkMetricsPage(t *testing.T, families map[string]*dto.MetricFamily) {
	const path, before, after = "../../docs/METRICS.md", "-update -->\n", "\n## Logs\n"
	var table strings.Builder
	table.WriteString("\n| metric | type | labels | unit | is |\n|---|---|---|---|---|\n")
	for _, name := range slices.Sorted(maps.Keys(families)) {
		if !strings.HasPrefix(name, "tollbook_") {
			continue
		}
		f := families[name]
		labels := map[string]bool{}
		for _, m := range f.GetMetric() {
			for _, l := range m.GetLabel() {
				labels["`"+l.GetName()+"`"] = true
			}
		}
		words := strings.Split(strings.TrimSuffix(name, "_total"), "_")
		unit := words[len(words)-1]
		if u, ok := units[unit]; ok {
			unit = u
		}
		fmt.Fprintf(&table, "| `%s` | %s | %s | %s | %s |\n", name, strings.ToLower(f.GetType().String()), strings.Join(slices.Sorted(maps.Keys(labels)), ", "), unit, f.GetHelp())
	}
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	head, rest, ok := strings.Cut(string(data), before)
	_, tail, ok2 := strings.Cut(rest, after)
	if !ok || !ok2 {
		t.Fatalf("%s has no place for the table", path)
	}
	want := head + before + table.String() + after + tail
	if *update {
		if err := os.WriteFile(path, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
	} else if diff := cmp.Diff(want, string(data)); diff != "" {
		t.Errorf("%s is not what the engine exports (-want +got; -update makes it):\n%s", path, diff)
	}
}

// dashboard are the expressions of the Grafana dashboard by their panels.
func dashboard(t *testing.T) map[string]string {
	t.Helper()
	type panel struct {
		ID      int    `json:"id"`
		Type    string `json:"type"`
		Title   string `json:"title"`
		GridPos struct{ X, Y, W, H int }
		Targets []struct {
			RefID string `json:"refId"`
			Expr  string `json:"expr"`
		} `json:"targets"`
	}
	data, err := os.ReadFile("../../docs/grafana/tollbook.json")
	if err != nil {
		t.Fatal(err)
	}
	page := decoded[struct {
		SchemaVersion int     `json:"schemaVersion"`
		Panels        []panel `json:"panels"`
		Templating    struct {
			List []struct {
				Name       string `json:"name"`
				Definition string `json:"definition"`
			} `json:"list"`
		} `json:"templating"`
	}](t, string(data))
	if page.SchemaVersion < 39 {
		t.Errorf("schemaVersion %d", page.SchemaVersion)
	}
	all, ids := map[string]string{}, map[int]bool{}
	for _, p := range page.Panels {
		if ids[p.ID] {
			t.Errorf("%s: id %d is there twice", p.Title, p.ID)
		}
		ids[p.ID] = true
		if (p.Type == "row") != (len(p.Targets) == 0) {
			t.Errorf("%s: a %s with %d expressions", p.Title, p.Type, len(p.Targets))
		}
		for _, target := range p.Targets {
			all[fmt.Sprintf("panel %d, %s, %s", p.ID, p.Title, target.RefID)] = target.Expr
		}
	}
	for _, v := range page.Templating.List {
		if metric, _, ok := strings.Cut(strings.TrimPrefix(v.Definition, "label_values("), ", "); ok {
			all["variable "+v.Name] = metric
		}
	}
	return all
}

// alertRules are the expressions of the alert rules by their names.
func alertRules(t *testing.T) map[string]string {
	t.Helper()
	file, err := os.Open("../../docs/grafana/alerts.yaml")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = file.Close() }()
	var rules struct {
		Groups []struct {
			Name  string
			Rules []struct {
				Alert, Expr         string
				For                 string
				Labels, Annotations map[string]string
			}
		}
	}
	decoder := yaml.NewDecoder(file)
	decoder.KnownFields(true)
	if err := decoder.Decode(&rules); err != nil {
		t.Fatal(err)
	}
	all := map[string]string{}
	for _, group := range rules.Groups {
		for _, rule := range group.Rules {
			if rule.For != "" {
				if _, err := model.ParseDuration(rule.For); err != nil {
					t.Errorf("%s: for: %v", rule.Alert, err)
				}
			}
			if rule.Labels["severity"] == "" || rule.Annotations["summary"] == "" || rule.Annotations["description"] == "" || all[rule.Alert] != "" {
				t.Errorf("%s has no severity, summary or description, or is there twice", rule.Alert)
			}
			all[rule.Alert] = rule.Expr
		}
	}
	return all
}

var (
	promText     = regexp.MustCompile(`"[^"]*"`)
	promDuration = regexp.MustCompile(`\[[^\]]*\]`)
	promGrouping = regexp.MustCompile(`\b(?:by|without|on|ignoring)\s*\(([^)]*)\)`)
	promMetric   = regexp.MustCompile(`([a-zA-Z_:][a-zA-Z0-9_:]*)(?:\{([^}]*)\}|\s*(\())?`)
	promLabel    = regexp.MustCompile(`([a-zA-Z_][a-zA-Z0-9_]*)\s*(?:=~|!~|!=|=)`)
	promWords    = []string{"and", "or", "unless", "bool", "offset"}
	// promOwn are of Prometheus itself: labels and metrics that it adds to every scrape.
	promOwn = []string{"up", "job", "instance", "le"}
)

// checkExpression reports whether every metric and label of an expression exists.
func checkExpression(t *testing.T, families map[string]*dto.MetricFamily, where, expression string) {
	t.Helper()
	labels := map[string]bool{}
	known := func(name string) bool {
		f := families[name]
		for _, part := range []string{"_bucket", "_sum", "_count"} {
			if base, ok := strings.CutSuffix(name, part); ok && f == nil && families[base].GetType() == dto.MetricType_HISTOGRAM {
				f = families[base]
			}
		}
		for _, l := range f.GetMetric()[:min(1, len(f.GetMetric()))] {
			for _, l := range l.GetLabel() {
				labels[l.GetName()] = true
			}
		}
		return f != nil
	}
	bare := promDuration.ReplaceAllString(promText.ReplaceAllString(expression, ""), "")
	var grouped []string
	for _, m := range promGrouping.FindAllStringSubmatch(bare, -1) {
		grouped = append(grouped, strings.FieldsFunc(m[1], func(r rune) bool { return r == ',' || r == ' ' })...)
	}
	bare = promGrouping.ReplaceAllString(bare, " ")
	metrics := 0
	for _, m := range promMetric.FindAllStringSubmatch(bare, -1) {
		name, matchers, call := m[1], m[2], m[3]
		if call != "" || slices.Contains(promWords, name) {
			continue
		}
		metrics++
		if !slices.Contains(promOwn, name) && !known(name) {
			t.Errorf("%s: no metric is called %s: %s", where, name, expression)
		}
		for _, l := range promLabel.FindAllStringSubmatch(matchers, -1) {
			grouped = append(grouped, l[1])
		}
	}
	if metrics == 0 {
		t.Errorf("%s asks for no metric: %s", where, expression)
	}
	for _, label := range grouped {
		if !labels[label] && !slices.Contains(promOwn, label) {
			t.Errorf("%s: no metric in it has the label %s: %s", where, label, expression)
		}
	}
}

// TestMetricsOverTime: counts begin at 0 with each process, and what the book has does not.
func TestMetricsOverTime(t *testing.T) {
	r := newHTTPRig(t)
	r.book(licensed("contoso")...)
	r.restart()
	r.metrics.Read(context.Background())
	families, _ := scraped(t, r.Engine)
	if n := samples(families, "tollbook_records_total")[`result="booked",tenant="contoso"`]; n != 0 {
		t.Errorf("%v records in a process that took none", n)
	}
	if n := samples(families, "tollbook_tenant_records")[`state="booked",tenant="contoso"`]; n != 3 {
		t.Errorf("%v records booked", n)
	}
	if n := samples(families, "tollbook_book_loaded_events")[""]; n != 3 {
		t.Errorf("%v events read", n)
	}
}

// TestMetricsGuarded: where users have to say who they are, no stranger scrapes.
func TestMetricsGuarded(t *testing.T) {
	engine, err := StartEngine(context.Background(), EngineConfig{
		Dir: t.TempDir(), NATSListen: "127.0.0.1:0", NATSSync: time.Minute, HTTPListen: "127.0.0.1:0", Access: &consumers.Access{}, Clock: clock, Log: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	if status, text := get(t, engine.HTTPAddress+"/metrics"); status != http.StatusUnauthorized || strings.Contains(text, "tollbook_") {
		t.Errorf("%d %s", status, text)
	}
	if status, _ := get(t, engine.HTTPAddress+"/readyz"); status != http.StatusOK {
		t.Errorf("/readyz: %d", status)
	}
	if err := engine.Stop(); err != nil {
		t.Error(err)
	}
}

// TestLoading: while the book is read, HTTP says how far that is, and whoever
// asks goes on asking the same port.
func TestLoading(t *testing.T) {
	dir := aBook(t, "a", 4)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := listener.Addr().String()
	if err := listener.Close(); err != nil {
		t.Fatal(err)
	}
	asked := 0
	engine, err := StartEngine(context.Background(), EngineConfig{
		Dir: dir, NATSListen: "127.0.0.1:0", NATSSync: time.Minute, HTTPListen: address, Clock: clock, Log: slog.New(slog.DiscardHandler),
		Loading: func(events uint64) {
			asked++
			for _, path := range []string{"/readyz", "/healthz", "/", "/v1/events"} {
				if status, text := get(t, "http://"+address+path); status != http.StatusServiceUnavailable || !strings.Contains(text, fmt.Sprintf(`"detail":"loading, %d events`, events)) {
					t.Errorf("%s while the book is read: %d %s", path, status, text)
				}
			}
			if status, text := get(t, "http://"+address+"/metrics"); status != http.StatusOK || !strings.Contains(text, fmt.Sprintf("\ntollbook_book_loaded_events %d\n", events)) || !strings.Contains(text, "\ntollbook_book_running 0\n") {
				t.Errorf("/metrics while the book is read: %d %s", status, text)
			}
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	if asked == 0 {
		t.Error("the book was read and nobody was told")
	}
	if engine.HTTPAddress != "http://"+address {
		t.Errorf("the engine listens on %s, not %s", engine.HTTPAddress, address)
	}
	if status, text := get(t, engine.HTTPAddress+"/readyz"); status != http.StatusOK || text != "ready\n" {
		t.Errorf("ready: %d %s", status, text)
	}
	if err := engine.Stop(); err != nil {
		t.Error(err)
	}

	// Nothing is left of an engine that does not start.
	change(t, dir, "DELETE FROM blocks WHERE n = 2")
	if _, err := StartEngine(context.Background(), EngineConfig{
		Dir: dir, NATSListen: "127.0.0.1:0", HTTPListen: address, Clock: clock, Log: slog.New(slog.DiscardHandler),
	}); err == nil {
		t.Fatal("a damaged book was taken")
	}
	if listener, err = net.Listen("tcp", address); err != nil {
		t.Fatalf("the engine that did not start still listens: %v", err)
	}
	_ = listener.Close()
}

// TestUnready: /readyz and the metrics say that nothing can be booked.
func TestUnready(t *testing.T) {
	r := newHTTPRig(t)
	r.stuck.Store(new(fmt.Errorf("NATS stores no messages any more")))
	if status, text := get(t, r.HTTPAddress+"/readyz"); status != http.StatusServiceUnavailable || text != "NATS stores no messages any more\n" {
		t.Errorf("%d %s", status, text)
	}
	r.metrics.Read(context.Background())
	if families, _ := scraped(t, r.Engine); samples(families, "tollbook_healthy")[""] != 0 {
		t.Error("tollbook_healthy is 1")
	}
}
