// Package api is how others ask a running engine: a NATS service (micro) with
// request and reply, the client that the command line uses, the page, and the
// intake over HTTP.
//
// Subjects, all with JSON:
//
//	tollbook-api.publish.<tenant>.<what>  the payload of tollbook.<tenant>.<what>; answers once it is booked: [Receipt]
//	tollbook-api.pools                    [MonthRequest] → projections.PoolsDocument
//	tollbook-api.invoice                  [MonthRequest] → projections.InvoiceDocument
//	tollbook-api.statement                [StatementRequest] → projections.Statement: a month with its pools, also as of a position
//	tollbook-api.forecast                 [MonthRequest] → forecast.Document: how the month will probably end
//	tollbook-api.calls                    [CallsRequest] → projections.CallsDocument: a page of a month's calls
//	tollbook-api.status                   → [Status]
//	tollbook-api.suspense.list            [SuspenseRequest] → [SuspenseDocument]
//	tollbook-api.suspense.show            {"position":18231} → [RecordDocument]
//	tollbook-api.gaps                     [GapsRequest] → projections.GapsDocument
//	tollbook-api.documents                {"tenant":"contoso"} → [IssuesDocument]
//	tollbook-api.alerts                   alerts.Request → alerts.Document: the last alerts, and what became of them
//	tollbook-api.anchor                   the signed anchor of now
//	tollbook-api.explain                  [ExplainRequest] → [ExplainDocument]: one event, with a proof; of a call, why it costs what it does
//	tollbook-api.explain.line             [ExplainLineRequest] → projections.LineDocument
//	tollbook-api.explain.pool             [ExplainPoolRequest] → projections.GrantDocument
//
// Below as.<who>. the book is changed in that name, which NATS lets only that
// user publish under, where it has users:
//
//	tollbook-api.as.<who>.suspense.recycle    [ResolveRequest] → [ResolveDocument]
//	tollbook-api.as.<who>.suspense.write-off  [ResolveRequest] → [ResolveDocument]
//	tollbook-api.as.<who>.gaps.waive          [WaiveRequest] → [WaiveDocument]
//	tollbook-api.as.<who>.exceptions.waive    [ExceptionRequest] → [ExceptionDocument]
//	tollbook-api.as.<who>.close               [CloseRequest] → [CloseDocument]
//
// Replies must be inboxes (_INBOX.… or _INBOX_<user>.…).
// A refusal has the headers Nats-Service-Error-Code (400 wrong request, 503 the
// engine takes no more) and Nats-Service-Error, one line that says what to do.
// Answers of more than [gzipFrom] bytes are gzip, with the header Content-Encoding.
//
// Over HTTP records are posted, and answered with a [Receipt] too:
//
//	POST /v1/events                          CloudEvents in the HTTP binding: structured, batch, binary; or one a line (application/x-ndjson)
//	POST /v1/cdr/{tenant}/{format}/{switch}  records of the switch's own format: the payload of tollbook.<tenant>.cdr.<format>.<switch>
//
// 200 says that every record is booked, suspended or a repeat, and on disk: what
// can't be read is kept, not refused. 429 and 503, with Retry-After, ask for the
// same again, which is safe: what was booked already is a repeat. Any other
// status says that sending it again can't help. All but 200 come with one line of
// RFC 9457 (application/problem+json). A body has at most [MaxBody] bytes, also
// once its gzip is undone. With users of serve --auth, a switch posts its own
// records only, as on NATS; TestHTTPUsers shows it, TestKillHTTP that nothing is
// lost, and TestHTTPSlowBook and TestHTTPMemory that nothing piles up.
package api
