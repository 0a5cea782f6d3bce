// Package leadgate is a client of leadgate, a gRPC gateway in front of the LeadSquared CRM.
//
// [Dial] connects. The fields of [Client] are the generated clients of package leadgatev1. For each call, this package
//
//   - sends the token, the tenant, the caller and the criticality;
//   - sets a deadline, if the context has none, see [Timeouts];
//   - gives each mutation a request_id, if it has none. The id is set in a copy: the caller's message does not change;
//   - sends the request again, with the same request_id, if the error says that this is safe and the deadline allows it;
//   - returns each error as an [*Error].
//
// [Client.Import] and [Client.Export] continue over lost connections.
package leadgate

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/keepalive"

	"leadgate.example/go/leadgatev1"
)

// Version is the version of this package.
const Version = "0.1.0"

// Client has the clients of all services on one connection. It is safe for concurrent use. Create one per process, and keep it.
type Client struct {
	Leads      leadgatev1.LeadServiceClient
	Shares     leadgatev1.ShareServiceClient
	Activities leadgatev1.ActivityServiceClient
	Users      leadgatev1.UserServiceClient
	Quota      leadgatev1.QuotaServiceClient
	Rest       leadgatev1.RestServiceClient

	config config
	close  func() error
}

// Dial creates a client of the gateway at addr, such as "leadgate.internal:443". The connection uses TLS with the certificate
// authorities of the system, unless [WithCA] or [WithInsecure] is given. Dial does not wait for the connection: a gateway that
// cannot be reached is an error of the first call.
func Dial(addr string, opts ...Option) (*Client, error) {
	dial, err := DialOptions(opts...)
	if err != nil {
		return nil, err
	}
	conn, err := grpc.NewClient(addr, dial...)
	if err != nil {
		return nil, fmt.Errorf("leadgate: %w", err)
	}
	client := New(conn, opts...)
	client.close = conn.Close
	return client, nil
}

// New creates a client on a connection of your own, such as one to a server in the same process. The connection should have the
// options of [DialOptions], or at least the interceptors. The options here apply to [Client.Import] and [Client.Export] only.
// Close does not close the connection.
func New(conn grpc.ClientConnInterface, opts ...Option) *Client {
	return &Client{
		Leads:      leadgatev1.NewLeadServiceClient(conn),
		Shares:     leadgatev1.NewShareServiceClient(conn),
		Activities: leadgatev1.NewActivityServiceClient(conn),
		Users:      leadgatev1.NewUserServiceClient(conn),
		Quota:      leadgatev1.NewQuotaServiceClient(conn),
		Rest:       leadgatev1.NewRestServiceClient(conn),
		config:     newConfig(opts),
		close:      func() error { return nil },
	}
}

// Close closes the connection. Calls in progress fail.
func (c *Client) Close() error { return c.close() }

// DialOptions returns the options that [Dial] gives to [grpc.NewClient], for programs that create the connection themselves.
func DialOptions(opts ...Option) ([]grpc.DialOption, error) {
	c := newConfig(opts)
	transport, err := c.transport()
	if err != nil {
		return nil, fmt.Errorf("leadgate: %w", err)
	}
	dial := []grpc.DialOption{
		grpc.WithTransportCredentials(transport),
		grpc.WithChainUnaryInterceptor(c.unary),
		grpc.WithChainStreamInterceptor(c.stream),
		grpc.WithUserAgent("leadgate-go/" + Version),
		// Retries of gRPC ignore RetryInfo. Requests that were never sent are still sent again.
		grpc.WithDisableRetry(),
		grpc.WithDisableServiceConfig(),
		grpc.WithKeepaliveParams(c.keepalive),
		grpc.WithConnectParams(grpc.ConnectParams{
			Backoff:           backoff.Config{BaseDelay: 100 * time.Millisecond, Multiplier: 1.6, Jitter: 0.2, MaxDelay: 3 * time.Second},
			MinConnectTimeout: 5 * time.Second,
		}),
	}
	if c.token != nil {
		dial = append(dial, grpc.WithPerRPCCredentials(bearer{c.token, !c.insecure}))
	}
	return append(dial, c.dial...), nil
}

// UnaryInterceptor does for each unary call what the documentation of the package says. Options of the connection have no effect.
func UnaryInterceptor(opts ...Option) grpc.UnaryClientInterceptor { return newConfig(opts).unary }

// StreamInterceptor sends the metadata, sets deadlines and request ids, and returns typed errors. It does not open a stream again:
// [Client.Import] and [Client.Export] do.
func StreamInterceptor(opts ...Option) grpc.StreamClientInterceptor { return newConfig(opts).stream }

// Option is an option of a client. A [CallOption] is one too.
type Option interface{ apply(*config) }

type option func(*config)

func (o option) apply(c *config) { o(c) }

type config struct {
	call              call
	token             func(context.Context) (string, error)
	insecure          bool
	caFile            string
	certFile, keyFile string
	keepalive         keepalive.ClientParameters
	dial              []grpc.DialOption
}

// The gateway closes connections with more than one PING in 10 seconds (server.keepalive_min_interval).
var defaultKeepalive = keepalive.ClientParameters{Time: 30 * time.Second, Timeout: 10 * time.Second, PermitWithoutStream: true}

func newConfig(opts []Option) config {
	c := config{call: call{timeouts: defaultTimeouts}, keepalive: defaultKeepalive}
	for _, o := range opts {
		o.apply(&c)
	}
	return c
}

// WithToken sends a fixed API key or JSON Web Token. An empty token sends none.
func WithToken(token string) Option {
	if strings.TrimSpace(token) == "" {
		return option(func(c *config) { c.token = nil })
	}
	return WithTokenFunc(func(context.Context) (string, error) { return token, nil })
}

// WithTokenFile sends the API key or JSON Web Token in a file. The file is read for each call, so a new token needs no restart.
// If the file is empty or cannot be read, as while it is replaced, the former token is sent.
func WithTokenFile(path string) Option {
	var mutex sync.Mutex
	var last string
	return WithTokenFunc(func(context.Context) (string, error) {
		text, err := os.ReadFile(path)
		token := strings.TrimSpace(string(text))
		mutex.Lock()
		defer mutex.Unlock()
		if token != "" {
			last = token
		}
		switch {
		case last != "":
			return last, nil
		case err != nil:
			return "", fmt.Errorf("token file: %w", err)
		default:
			return "", fmt.Errorf("token file %s is empty", path)
		}
	})
}

// WithTokenFunc sends the API key or JSON Web Token that f returns. f is called for each call and for each retry, and must be
// safe for concurrent use.
func WithTokenFunc(f func(context.Context) (string, error)) Option {
	return option(func(c *config) { c.token = f })
}

// WithCA trusts the certificate authorities in a PEM file, and no others.
func WithCA(file string) Option { return option(func(c *config) { c.caFile = file }) }

// WithClientCertificate identifies the client by a certificate. The PEM files are read for each new connection.
func WithClientCertificate(certFile, keyFile string) Option {
	return option(func(c *config) { c.certFile, c.keyFile = certFile, keyFile })
}

// WithInsecure connects without TLS, and sends the token, if there is one, in plaintext. For local work.
func WithInsecure() Option { return option(func(c *config) { c.insecure = true }) }

// WithDialOptions adds options of gRPC, such as a stats handler for traces. They win over the options of this package.
func WithDialOptions(opts ...grpc.DialOption) Option {
	return option(func(c *config) { c.dial = append(c.dial, opts...) })
}

func (c *config) transport() (credentials.TransportCredentials, error) {
	if c.insecure {
		if c.caFile != "" || c.certFile != "" {
			return nil, errors.New("WithInsecure excludes WithCA and WithClientCertificate")
		}
		return insecure.NewCredentials(), nil
	}
	settings := &tls.Config{MinVersion: tls.VersionTLS12}
	if c.caFile != "" {
		pem, err := os.ReadFile(c.caFile)
		if err != nil {
			return nil, fmt.Errorf("certificate authorities: %w", err)
		}
		settings.RootCAs = x509.NewCertPool()
		if !settings.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("certificate authorities: %s has no PEM certificate", c.caFile)
		}
	}
	if c.certFile != "" {
		load := func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			pair, err := tls.LoadX509KeyPair(c.certFile, c.keyFile)
			return &pair, err
		}
		if _, err := load(nil); err != nil {
			return nil, fmt.Errorf("client certificate: %w", err)
		}
		settings.GetClientCertificate = load
	}
	return credentials.NewTLS(settings), nil
}

// bearer sends a token with each call.
type bearer struct {
	token  func(context.Context) (string, error)
	secure bool
}

func (b bearer) GetRequestMetadata(ctx context.Context, _ ...string) (map[string]string, error) {
	token, err := b.token(ctx)
	if err != nil {
		return nil, err
	}
	// gRPC does not check the token. The gateway closes the connection, with all of its calls, after an invalid header.
	token = strings.TrimSpace(token)
	if token == "" || strings.ContainsFunc(token, func(r rune) bool { return r <= ' ' || r > '~' }) {
		return nil, errors.New("the token is empty, or has characters other than printable ASCII")
	}
	return map[string]string{"authorization": "Bearer " + token}, nil
}

// RequireTransportSecurity makes gRPC refuse to send the token over plaintext.
func (b bearer) RequireTransportSecurity() bool { return b.secure }
