package consumers

import (
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
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

	Log *slog.Logger // optional: the server's warnings and errors

	TLS *tls.Config // optional: with it nobody is let in without

	// Access says who may do what; nil: everybody everything, so that only this
	// machine may be listened to.
	Access    *Access
	API       API    // with Access: where the service listens
	EngineKey string // with Access: the public nkey of the engine itself, which may do all
}

// Check refuses to listen where strangers could do everything. It is for whoever
// wants to know before long work; StartServer checks too.
func (c ServerConfig) Check() error {
	host, port, err := net.SplitHostPort(c.Listen)
	if err != nil {
		return fmt.Errorf("--nats-listen %q: must be host:port, such as 127.0.0.1:4222", c.Listen)
	}
	if _, err := strconv.ParseUint(port, 10, 16); err != nil {
		return fmt.Errorf("--nats-listen %q: the port must be a number from 0 to 65535", c.Listen)
	}
	if c.Access == nil && !Loopback(host) {
		return fmt.Errorf("--nats-listen %s: without --auth only this machine may be let in (127.0.0.1:%s); make a file of users with 'tollbook access add-switch' and give it with --auth", c.Listen, port)
	}
	if c.Access != nil && c.EngineKey == "" {
		return errors.New("the embedded NATS server has users, but no key of the engine")
	}
	return nil
}

// Loopback reports whether only this machine reaches what listens on the host.
func Loopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

// StartServer starts a NATS server with JetStream in this process. It keeps its
// streams in the data directory; two servers on one directory would both
// acknowledge and lose, so the caller holds the directory's lock.
func StartServer(c ServerConfig) (*server.Server, error) {
	if err := c.Check(); err != nil {
		return nil, err
	}
	host, port, _ := net.SplitHostPort(c.Listen)
	number, _ := strconv.Atoi(port)
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
	if c.TLS != nil {
		options.TLS, options.TLSConfig = true, c.TLS
	}
	if c.Access != nil {
		c.Access.apply(options, c.API, c.EngineKey)
	}
	s, err := server.NewServer(options)
	if err != nil {
		return nil, fmt.Errorf("embedded NATS server: %w", err)
	}
	if c.Log != nil {
		s.SetLoggerV2(natsLog{c.Log}, false, false, false)
	}
	s.Start()
	if !s.ReadyForConnections(10 * time.Second) {
		s.Shutdown()
		return nil, fmt.Errorf("embedded NATS server: not listening on %s after 10 s", c.Listen)
	}
	return s, nil
}

// natsLog passes on what the server has to say that somebody should look at.
type natsLog struct{ log *slog.Logger }

func (l natsLog) Noticef(string, ...any) {}
func (l natsLog) Debugf(string, ...any)  {}
func (l natsLog) Tracef(string, ...any)  {}
func (l natsLog) Warnf(format string, v ...any) {
	l.log.Warn("NATS server", "says", fmt.Sprintf(format, v...))
}
func (l natsLog) Errorf(format string, v ...any) {
	l.log.Error("NATS server", "says", fmt.Sprintf(format, v...))
}
func (l natsLog) Fatalf(format string, v ...any) {
	l.log.Error("NATS server", "says", fmt.Sprintf(format, v...))
}

// free asks at once what the server would find out without saying why.
func free(address string) error {
	probe, err := net.Listen("tcp", address)
	if err != nil {
		return fmt.Errorf("--nats-listen %s: %w", address, err)
	}
	return probe.Close()
}
