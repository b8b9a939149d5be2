package consumers

import (
	"fmt"
	"net"
	"path/filepath"
	"strconv"
	"time"

	"github.com/nats-io/nats-server/v2/server"
)

// MaxPayload is the longest NATS message taken, in bytes: what nats-server itself
// recommends not to exceed, and room for thousands of events in one message.
const MaxPayload = 8 << 20

// ServerConfig is of the embedded NATS server.
type ServerConfig struct {
	Dir    string // the engine's data directory, locked by its book
	Listen string // host:port; port 0: any free one
	// SyncInterval is how long a message that JetStream has acknowledged may stay
	// out of reach of a power cut; 0: it is on disk before it is acknowledged.
	SyncInterval time.Duration
}

// StartServer starts a NATS server with JetStream in this process. It keeps its
// streams in the data directory; two servers on one directory would both
// acknowledge and lose, so the caller holds the directory's lock.
func StartServer(c ServerConfig) (*server.Server, error) {
	host, port, err := net.SplitHostPort(c.Listen)
	if err != nil {
		return nil, fmt.Errorf("--nats-listen %q: must be host:port, such as 127.0.0.1:4222", c.Listen)
	}
	number, err := strconv.Atoi(port)
	if err != nil {
		return nil, fmt.Errorf("--nats-listen %q: the port must be a number", c.Listen)
	}
	if number == 0 {
		number = server.RANDOM_PORT
	} else if err := free(c.Listen); err != nil {
		return nil, err
	}
	options := &server.Options{
		ServerName: "tollbook",
		Host:       host,
		Port:       number,
		MaxPayload: MaxPayload,
		JetStream:  true,
		StoreDir:   filepath.Join(c.Dir, "nats"),
		NoSigs:     true,
		NoLog:      true,
		SyncAlways: c.SyncInterval == 0,
	}
	if c.SyncInterval > 0 {
		options.SyncInterval = c.SyncInterval
	}
	s, err := server.NewServer(options)
	if err != nil {
		return nil, fmt.Errorf("embedded NATS server: %w", err)
	}
	s.Start()
	if !s.ReadyForConnections(10 * time.Second) {
		s.Shutdown()
		return nil, fmt.Errorf("embedded NATS server: not listening on %s after 10 s", c.Listen)
	}
	return s, nil
}

// free asks at once what the server would find out without saying why.
func free(address string) error {
	probe, err := net.Listen("tcp", address)
	if err != nil {
		return fmt.Errorf("--nats-listen %s: %w", address, err)
	}
	return probe.Close()
}
