FROM golang:1.26 AS build
WORKDIR /src
COPY go.mod go.sum ./
RUN go mod download
COPY . .
RUN CGO_ENABLED=0 go build -trimpath -buildvcs=false -ldflags '-s -w' -o /out/tollbook ./cmd/tollbook \
 && mkdir /out/data /out/access

# Has the time zones months are reckoned in, and certificates for NATS over TLS; no shell.
FROM gcr.io/distroless/static-debian12:nonroot
COPY --from=build /out/tollbook /tollbook
# A new volume takes the owner of the directory it covers.
COPY --from=build --chown=nonroot:nonroot /out/data /data
COPY --from=build --chown=nonroot:nonroot /out/access /etc/tollbook
USER nonroot:nonroot
VOLUME /data
# NATS (clients and switches); HTTP (page, health).
EXPOSE 4222 8080
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s --retries=3 CMD ["/tollbook", "health"]
ENTRYPOINT ["/tollbook"]
# Both ports are open to the container's network, so NATS lets in known users only:
#
#   docker run --rm -v tollbook-access:/etc/tollbook tollbook access add-operator NAME --auth /etc/tollbook/auth.json
#   docker run -v tollbook-access:/etc/tollbook -v tollbook:/data -p 127.0.0.1:4222:4222 -p 127.0.0.1:8080:8080 tollbook
#
# The page asks nobody who they are: publish its port on loopback, as here.
CMD ["serve", "--data", "/data", "--nats-listen", "0.0.0.0:4222", "--auth", "/etc/tollbook/auth.json", "--http", "0.0.0.0:8080", "--http-open"]
