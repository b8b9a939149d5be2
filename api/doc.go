// Package api is how others ask a running engine: a NATS service (micro) with
// request and reply, the client that the command line uses, and the page.
//
// Subjects, all with JSON:
//
//	tollbook-api.publish.<tenant>.<what>  the payload of tollbook.<tenant>.<what>; answers once it is booked: [Receipt]
//	tollbook-api.pools                    [MonthRequest] → projections.PoolsDocument
//	tollbook-api.invoice                  [MonthRequest] → projections.InvoiceDocument
//	tollbook-api.status                   → [Status]
//	tollbook-api.suspense.list            [SuspenseRequest] → [SuspenseDocument]
//	tollbook-api.suspense.show            {"position":18231} → [RecordDocument]
//	tollbook-api.gaps                     [GapsRequest] → projections.GapsDocument
//	tollbook-api.documents                {"tenant":"contoso"} → [IssuesDocument]
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
package api
