FROM golang:1.26 AS build
WORKDIR /src
COPY go.mod go.sum ./
RUN go mod download
COPY . .
RUN CGO_ENABLED=0 go build -trimpath -buildvcs=false -ldflags '-s -w' -o /out/tollbook ./cmd/tollbook \
 && mkdir /out/data

# Has the time zones months are reckoned in, and certificates for NATS over TLS; no shell.
FROM gcr.io/distroless/static-debian12:nonroot
COPY --from=build /out/tollbook /tollbook
# A new volume takes the owner of the directory it covers.
COPY --from=build --chown=nonroot:nonroot /out/data /data
USER nonroot:nonroot
VOLUME /data
# NATS (clients and switches); HTTP (page, health).
EXPOSE 4222 8080
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s --retries=3 CMD ["/tollbook", "health"]
ENTRYPOINT ["/tollbook"]
CMD ["serve", "--data", "/data", "--nats-listen", "0.0.0.0:4222", "--http", "0.0.0.0:8080"]
