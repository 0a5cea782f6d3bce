package leadgate_test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/protoadapt"
	"google.golang.org/protobuf/types/known/durationpb"

	leadgate "leadgate.example/go"
	"leadgate.example/go/leadgatetest"
	"leadgate.example/go/leadgatev1"
)

// shared is a gateway with TLS that tests use which need few calls of the quota.
var shared *leadgatetest.Gateway

func TestMain(m *testing.M) {
	var err error
	if shared, err = leadgatetest.Run(leadgatetest.Options{Secure: true}); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	code := m.Run()
	if err := shared.Stop(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

// fake is a server in this process. Tests set the RPCs that they need.
type fake struct {
	leadgatev1.UnimplementedLeadServiceServer
	leadgatev1.UnimplementedShareServiceServer
	create      func(context.Context, *leadgatev1.CreateLeadRequest) (*leadgatev1.CreateLeadResponse, error)
	get         func(context.Context, *leadgatev1.GetLeadRequest) (*leadgatev1.GetLeadResponse, error)
	batchCreate func(context.Context, *leadgatev1.BatchCreateLeadsRequest) (*leadgatev1.BatchCreateLeadsResponse, error)
	share       func(context.Context, *leadgatev1.ShareLeadRequest) (*leadgatev1.ShareLeadResponse, error)
	retryShare  func(context.Context, *leadgatev1.RetryShareRequest) (*leadgatev1.RetryShareResponse, error)
	watch       func(*leadgatev1.WatchShareRequest, leadgatev1.ShareService_WatchShareServer) error
	importLeads func(leadgatev1.LeadService_ImportLeadsServer) error
	export      func(*leadgatev1.ExportLeadsRequest, leadgatev1.LeadService_ExportLeadsServer) error
}

func (f *fake) CreateLead(ctx context.Context, r *leadgatev1.CreateLeadRequest) (*leadgatev1.CreateLeadResponse, error) {
	return f.create(ctx, r)
}

func (f *fake) GetLead(ctx context.Context, r *leadgatev1.GetLeadRequest) (*leadgatev1.GetLeadResponse, error) {
	return f.get(ctx, r)
}

func (f *fake) BatchCreateLeads(ctx context.Context, r *leadgatev1.BatchCreateLeadsRequest) (*leadgatev1.BatchCreateLeadsResponse, error) {
	return f.batchCreate(ctx, r)
}

func (f *fake) ShareLead(ctx context.Context, r *leadgatev1.ShareLeadRequest) (*leadgatev1.ShareLeadResponse, error) {
	return f.share(ctx, r)
}

func (f *fake) RetryShare(ctx context.Context, r *leadgatev1.RetryShareRequest) (*leadgatev1.RetryShareResponse, error) {
	return f.retryShare(ctx, r)
}

func (f *fake) WatchShare(r *leadgatev1.WatchShareRequest, s leadgatev1.ShareService_WatchShareServer) error {
	return f.watch(r, s)
}

func (f *fake) ImportLeads(s leadgatev1.LeadService_ImportLeadsServer) error { return f.importLeads(s) }

func (f *fake) ExportLeads(r *leadgatev1.ExportLeadsRequest, s leadgatev1.LeadService_ExportLeadsServer) error {
	return f.export(r, s)
}

// start serves the fake and returns a client of it.
func (f *fake) start(t *testing.T, opts ...leadgate.Option) *leadgate.Client {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := grpc.NewServer()
	leadgatev1.RegisterLeadServiceServer(server, f)
	leadgatev1.RegisterShareServiceServer(server, f)
	go func() { _ = server.Serve(listener) }()
	t.Cleanup(server.Stop)
	return dial(t, listener.Addr().String(), append([]leadgate.Option{leadgate.WithInsecure()}, opts...)...)
}

func dial(t testing.TB, addr string, opts ...leadgate.Option) *leadgate.Client {
	t.Helper()
	client, err := leadgate.Dial(addr, opts...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = client.Close() })
	return client
}

// failure is an error as leadgate sends it. A negative retry time is none.
func failure(code codes.Code, reason string, retry time.Duration, metadata map[string]string, details ...protoadapt.MessageV1) error {
	details = append(details, &errdetails.ErrorInfo{Domain: "leadgate", Reason: reason, Metadata: metadata})
	if retry >= 0 {
		details = append(details, &errdetails.RetryInfo{RetryDelay: durationpb.New(retry)})
	}
	s, err := status.New(code, "the message").WithDetails(details...)
	if err != nil {
		panic(err)
	}
	return s.Err()
}

// ctx returns a context with a deadline that ends a test which hangs.
func ctx(t testing.TB, timeout time.Duration) context.Context {
	t.Helper()
	c, cancel := context.WithTimeout(context.Background(), timeout)
	t.Cleanup(cancel)
	return c
}

var unique struct {
	sync.Mutex
	last int
}

// newLead returns the fields of a lead that no other test has.
func newLead() *leadgatev1.LeadFields {
	unique.Lock()
	defer unique.Unlock()
	unique.last++
	return &leadgatev1.LeadFields{
		FirstName:    proto.String("Asha"),
		EmailAddress: proto.String(fmt.Sprintf("asha.%d@example.com", unique.last)),
	}
}

func create(fields *leadgatev1.LeadFields) *leadgatev1.CreateLeadRequest {
	return &leadgatev1.CreateLeadRequest{Lead: fields}
}

// control sends a request to the control path of a simulator, and decodes the response.
func control(t testing.TB, simulator, method, path, body string, into any) {
	t.Helper()
	request, err := http.NewRequest(method, "http://"+simulator+"/_simulator/"+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil || response.StatusCode >= 300 {
		t.Fatalf("%s %s: %s %s %v", method, path, response.Status, text, err)
	}
	if into != nil {
		if err := json.Unmarshal(text, into); err != nil {
			t.Fatalf("%s: %v: %.300s", path, err, text)
		}
	}
}

// process is a gateway that a test can kill and start again on the same port, beside a simulator.
type process struct {
	address, simulator, config string
	gateway                    *exec.Cmd
}

// serve starts a simulator with the given flags, and a gateway with more settings.
func serve(t *testing.T, settings string, flags ...string) *process {
	t.Helper()
	p := &process{config: filepath.Join(t.TempDir(), "leadgate.toml")}
	_, line := p.run(t, regexp.MustCompile(`http://(\S+)`), append([]string{"simulate", "--listen", "127.0.0.1:0"}, flags...)...)
	p.simulator = line
	p.address = freeAddress(t)
	text := fmt.Sprintf(`
server.listen = %q
admin.listen = "127.0.0.1:0"
store.url = "sqlite://%s/leadgate.db"
tenants.sim.base_url = "http://%s"
tenants.sim.access_key = 'u$rSimulatorAccessKey'
tenants.sim.secret_key = "simulator-secret-key"
%s`, p.address, filepath.Dir(p.config), p.simulator, settings)
	if err := os.WriteFile(p.config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	p.start(t)
	return p
}

func (p *process) start(t *testing.T) {
	t.Helper()
	p.gateway, _ = p.run(t, regexp.MustCompile(`"message":"serving","grpc":"([^"]+)"`), "serve", "--config", p.config)
}

// kill ends the gateway as a crash does.
func (p *process) kill(t *testing.T) {
	t.Helper()
	if err := p.gateway.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = p.gateway.Wait()
}

// run starts a process and waits for a line. The process ends with the test.
func (p *process) run(t *testing.T, ready *regexp.Regexp, args ...string) (*exec.Cmd, string) {
	t.Helper()
	path := os.Getenv("LEADGATE_BIN")
	if path == "" {
		path = "leadgate"
	}
	command := exec.Command(path, args...)
	reader, writer, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	command.Stdout, command.Stderr = writer, writer
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	_ = writer.Close()
	t.Cleanup(func() {
		_ = command.Process.Signal(syscall.SIGTERM)
		_ = command.Wait()
	})
	found := make(chan []string, 1)
	go func() {
		lines := bufio.NewScanner(reader)
		lines.Buffer(nil, 1<<20)
		output := ""
		for lines.Scan() {
			if match := ready.FindStringSubmatch(lines.Text()); match != nil {
				found <- match
				_, _ = io.Copy(io.Discard, reader)
				return
			}
			output += lines.Text() + "\n"
		}
		found <- []string{output}
	}()
	select {
	case match := <-found:
		if len(match) == 1 {
			t.Fatalf("%v did not start:\n%s", args, match[0])
		}
		return command, match[1]
	case <-time.After(time.Minute):
		t.Fatalf("%v is not ready after a minute", args)
		return nil, ""
	}
}

// freeAddress returns an address that a process can listen on again after a restart.
func freeAddress(t *testing.T) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	return listener.Addr().String()
}
