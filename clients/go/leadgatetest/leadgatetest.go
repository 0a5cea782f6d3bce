// Package leadgatetest starts a gateway with a simulated LeadSquared for tests: the command `leadgate demo`.
//
// The environment variable LEADGATE_BIN is the path of the leadgate program. Without it, leadgate is searched on PATH. If there is
// none, the test fails.
package leadgatetest

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"syscall"
	"testing"
	"time"

	leadgate "leadgate.example/go"
)

const (
	startTimeout = time.Minute
	stopTimeout  = 30 * time.Second
)

// Options are the options of a gateway.
type Options struct {
	// Secure uses TLS and requires a credential.
	Secure bool
}

// Gateway is a running gateway. It has one account with a simulated LeadSquared.
type Gateway struct {
	Address   string `json:"address"`    // The gRPC address.
	Admin     string `json:"admin"`      // The address of the metrics and the status page.
	Simulator string `json:"simulator"`  // The address of the simulated LeadSquared. Its control path is http://ADDRESS/_simulator/.
	Tenant    string `json:"tenant"`     // The name of the account.
	AccessKey string `json:"access_key"` // The keys of the simulated LeadSquared.
	SecretKey string `json:"secret_key"`

	// Only with Secure. Files are deleted when the gateway stops.
	CAFile   string `json:"ca_file"`
	Token    string `json:"token"`
	APIKey   string `json:"api_key"`
	CertFile string `json:"cert_file"`
	KeyFile  string `json:"key_file"`

	process *exec.Cmd
	exited  chan struct{}
	failure error // after exited
}

// Start starts a gateway, and stops it at the end of the test. It uses free ports, so that tests may run in parallel.
func Start(t testing.TB, options Options) *Gateway {
	t.Helper()
	gateway, err := Run(options)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := gateway.Stop(); err != nil {
			t.Error(err)
		}
	})
	return gateway
}

// Run starts a gateway for several tests, in TestMain. Call Stop before [os.Exit].
func Run(options Options) (*Gateway, error) {
	path := os.Getenv("LEADGATE_BIN")
	if path == "" {
		var err error
		if path, err = exec.LookPath("leadgate"); err != nil {
			return nil, fmt.Errorf("leadgatetest: set LEADGATE_BIN to the path of the leadgate program: %w", err)
		}
	}
	args := []string{"demo", "--quiet"}
	if options.Secure {
		args = append(args, "--secure")
	}
	process := exec.Command(path, args...)
	var log bytes.Buffer
	process.Stderr = &log
	stdout, err := process.StdoutPipe()
	if err != nil {
		return nil, fmt.Errorf("leadgatetest: %w", err)
	}
	if err := process.Start(); err != nil {
		return nil, fmt.Errorf("leadgatetest: %w", err)
	}
	gateway := &Gateway{process: process, exited: make(chan struct{})}
	ready := make(chan error, 1)
	go func() {
		lines := bufio.NewReader(stdout)
		line, err := lines.ReadBytes('\n')
		if err == nil {
			err = json.Unmarshal(line, gateway)
		}
		ready <- err
		_, _ = io.Copy(io.Discard, lines)
		gateway.failure = process.Wait()
		close(gateway.exited)
	}()
	select {
	case err = <-ready:
	case <-time.After(startTimeout):
		err = fmt.Errorf("not ready after %s", startTimeout)
	}
	if err != nil {
		_ = process.Process.Kill()
		<-gateway.exited
		return nil, fmt.Errorf("leadgatetest: %s %v did not start: %w\n%s", path, args, err, log.Bytes())
	}
	return gateway, nil
}

// Stop ends the gateway with SIGTERM, and waits for its end. It may be called more than once.
func (g *Gateway) Stop() error {
	if err := g.process.Process.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("leadgatetest: %w", err)
	}
	select {
	case <-g.exited:
		if g.failure != nil {
			return fmt.Errorf("leadgatetest: the gateway failed: %w", g.failure)
		}
		return nil
	case <-time.After(stopTimeout):
		_ = g.process.Process.Kill()
		<-g.exited
		return fmt.Errorf("leadgatetest: the gateway did not stop in %s", stopTimeout)
	}
}

// Options returns the options to connect: the certificate authority and the token, or WithInsecure.
func (g *Gateway) Options() []leadgate.Option {
	if g.CAFile == "" {
		return []leadgate.Option{leadgate.WithInsecure()}
	}
	return []leadgate.Option{leadgate.WithCA(g.CAFile), leadgate.WithToken(g.Token)}
}

// Client returns a client of the gateway, and closes it at the end of the test. opts are added to those of [Gateway.Options].
func (g *Gateway) Client(t testing.TB, opts ...leadgate.Option) *leadgate.Client {
	t.Helper()
	client, err := leadgate.Dial(g.Address, append(g.Options(), opts...)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = client.Close() })
	return client
}
