package leadgate_test

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	leadgate "leadgate.example/go"
	"leadgate.example/go/leadgatetest"
	"leadgate.example/go/leadgatev1"
)

// together runs n calls at the same time, and returns their errors and the longest time.
func together(n int, call func() error) ([]error, time.Duration) {
	errs := make([]error, n)
	start := time.Now()
	var group sync.WaitGroup
	for i := range n {
		group.Add(1)
		go func() {
			defer group.Done()
			errs[i] = call()
		}()
	}
	group.Wait()
	return errs, time.Since(start)
}

// emails counts the leads of the simulated LeadSquared by their email address.
func emails(t *testing.T, simulator string) map[string]int {
	t.Helper()
	var leads []map[string]any
	control(t, simulator, "GET", "leads", "", &leads)
	counts := map[string]int{}
	for _, lead := range leads {
		email, ok := lead["EmailAddress"].(string)
		if !ok {
			t.Fatalf("a lead without an email address: %v", lead)
		}
		counts[email]++
	}
	return counts
}

func TestAKilledGatewayLeavesOneLeadForEachCreate(t *testing.T) {
	t.Parallel()
	p := serve(t, `tenants.sim.limits = { calls = 10, window = "1s" }`, "--calls", "10", "--per", "1s", "--latency", "200ms")
	client := dial(t, p.address, leadgate.WithInsecure())
	const n = 20
	done := make(chan []error)
	go func() {
		errs, _ := together(n, func() error {
			_, err := client.Leads.CreateLead(context.Background(), create(newLead()))
			return err
		})
		done <- errs
	}()
	for len(emails(t, p.simulator)) == 0 {
		time.Sleep(5 * time.Millisecond)
	}
	p.kill(t)
	before := len(emails(t, p.simulator))
	p.start(t)
	for _, err := range <-done {
		if err != nil {
			t.Error(err)
		}
	}
	after := emails(t, p.simulator)
	if before == n || len(after) != n {
		t.Errorf("%d leads before the end, %d leads after it", before, len(after))
	}
	for email, count := range after {
		if count != 1 {
			t.Errorf("%d leads with %s", count, email)
		}
	}
}

func TestALostResponseIsReconciledByTheSameRequestID(t *testing.T) {
	t.Parallel()
	gateway := leadgatetest.Start(t, leadgatetest.Options{})
	client := gateway.Client(t)
	control(t, gateway.Simulator, "POST", "faults", `[{"on": "Lead.Create", "what": "commit-then-drop"},
		{"on": "Leads.GetByEmailaddress", "what": "empty500", "times": 8}]`, nil)
	lead := newLead()
	if _, err := client.Leads.CreateLead(ctx(t, time.Minute), create(lead)); err != nil {
		t.Error(err)
	}
	if counts := emails(t, gateway.Simulator); counts[lead.GetEmailAddress()] != 1 {
		t.Errorf("the leads are %v", counts)
	}
}

func TestCallsOnAFullQueueAreAllServedBeforeTheirDeadline(t *testing.T) {
	t.Parallel()
	p := serve(t, `tenants.sim.limits = { calls = 10, window = "1s", queue = 10, queue_per_caller = 10 }`, "--calls", "10", "--per", "1s")
	client := dial(t, p.address, leadgate.WithInsecure())
	errs, took := together(50, func() error {
		_, err := client.Leads.CreateLead(ctx(t, time.Minute), create(newLead()))
		return err
	})
	for _, err := range errs {
		if err != nil {
			t.Error(err)
		}
	}
	if took > 30*time.Second {
		t.Errorf("took %s", took)
	}
}

func TestCallsOnADailyBudgetThatIsExhaustedEndAtOnce(t *testing.T) {
	t.Parallel()
	p := serve(t, "tenants.sim.limits.daily = 20")
	client := dial(t, p.address, leadgate.WithInsecure())
	errs, took := together(50, func() error {
		_, err := client.Leads.CreateLead(ctx(t, time.Minute), create(newLead()))
		return err
	})
	refused := 0
	for _, err := range errs {
		var e *leadgate.Error
		if errors.As(err, &e) {
			if refused++; e.Reason != leadgatev1.ErrorReason_DAILY_BUDGET_EXHAUSTED || !e.HasRetryAfter || e.RetryAfter <= 0 || e.RequestID == "" {
				t.Errorf("%+v", e)
			}
		}
	}
	if refused < 30 || took > 10*time.Second {
		t.Errorf("%d of 50 calls were refused in %s", refused, took)
	}
}

func TestACallWhoseDeadlineIsTooEarlyFailsAtOnceAndIsServedAfterTheRetryTime(t *testing.T) {
	t.Parallel()
	p := serve(t, `tenants.sim.limits = { calls = 10, window = "3s" }`, "--calls", "10", "--per", "3s")
	client := dial(t, p.address, leadgate.WithInsecure())
	const timeout = 2 * time.Second
	var early, late, unserved atomic.Int32
	together(30, func() error {
		request := create(newLead())
		start := time.Now()
		_, err := client.Leads.CreateLead(ctx(t, timeout), request)
		if err == nil {
			return nil
		}
		e := leadgate.AsError(err)
		if e.Reason != leadgatev1.ErrorReason_DEADLINE_INFEASIBLE || !e.HasRetryAfter {
			t.Error(err)
			return nil
		}
		early.Add(1)
		if time.Since(start) > timeout/2 {
			late.Add(1)
		}
		time.Sleep(e.RetryAfter)
		request.RequestId = e.RequestID
		if _, err := client.Leads.CreateLead(ctx(t, timeout), request); err != nil {
			unserved.Add(1)
		}
		return nil
	})
	if early.Load() < 15 || late.Load() > 0 || unserved.Load() > 1 {
		t.Errorf("%d calls were refused, %d of them late, %d were refused twice", early.Load(), late.Load(), unserved.Load())
	}
}

func TestAMessageThatIsTooLargeNamesTheLimit(t *testing.T) {
	t.Parallel()
	_, err := shared.Client(t).Leads.CreateLead(ctx(t, time.Minute), create(&leadgatev1.LeadFields{Notes: proto.String(strings.Repeat("x", 5_000_000))}))
	e := leadgate.AsError(err)
	if e == nil || e.Reason != leadgatev1.ErrorReason_INVALID_FIELD || !strings.Contains(e.Error(), "4194304") {
		t.Error(err)
	}
}

func TestAShareIsWatchedUntilItIsActive(t *testing.T) {
	t.Parallel()
	gateway := leadgatetest.Start(t, leadgatetest.Options{Secure: true})
	client := gateway.Client(t)
	c := ctx(t, time.Minute)
	created, err := client.Leads.CreateLead(c, create(newLead()))
	if err != nil {
		t.Fatal(err)
	}
	shared, err := client.Shares.ShareLead(c, &leadgatev1.ShareLeadRequest{
		Lead:     &leadgatev1.ShareLeadRequest_LeadId{LeadId: created.GetLeadId()},
		User:     &leadgatev1.ShareLeadRequest_UserEmailAddress{UserEmailAddress: "sam@simulator.example"},
		Access:   leadgatev1.Access_ACCESS_READ,
		Duration: durationpb.New(30 * time.Minute),
	})
	if err != nil {
		t.Fatal(err)
	}
	id := shared.GetShare().GetShareId()
	watch, err := client.Shares.WatchShare(c, &leadgatev1.WatchShareRequest{ShareId: id})
	if err != nil {
		t.Fatal(err)
	}
	for active := false; !active; {
		update, err := watch.Recv()
		if err != nil {
			t.Fatal(err)
		}
		active = update.GetShare().GetState() == leadgatev1.ShareState_SHARE_STATE_ACTIVE
	}
	revoked, err := client.Shares.RevokeShare(c, &leadgatev1.RevokeShareRequest{
		Share: &leadgatev1.RevokeShareRequest_ShareId{ShareId: id}, WaitFor: leadgatev1.WaitFor_WAIT_FOR_ACTIVE,
	})
	if err != nil || revoked.GetShare().GetState() != leadgatev1.ShareState_SHARE_STATE_REVOKED {
		t.Error(revoked, err)
	}
	if _, err := client.Shares.GetShare(c, &leadgatev1.GetShareRequest{ShareId: "0197b3c6-0000-7000-8000-000000000001"}); leadgate.Reason(err) != leadgatev1.ErrorReason_SHARE_NOT_FOUND {
		t.Error(err)
	}
	// The error of a stream has its reason, too.
	watch, err = client.Shares.WatchShare(c, &leadgatev1.WatchShareRequest{ShareId: "0197b3c6-0000-7000-8000-000000000001"})
	if err == nil {
		_, err = watch.Recv()
	}
	if leadgate.Reason(err) != leadgatev1.ErrorReason_SHARE_NOT_FOUND {
		t.Error(err)
	}
}

// proxy forwards connections to an address. It counts them, and signals when the server has closed one.
func proxy(t *testing.T, address string) (listen string, connections *atomic.Int32, closed chan struct{}) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = listener.Close() })
	connections, closed = new(atomic.Int32), make(chan struct{}, 100)
	go func() {
		for {
			client, err := listener.Accept()
			if err != nil {
				return
			}
			connections.Add(1)
			server, err := net.Dial("tcp", address)
			if err != nil {
				_ = client.Close()
				continue
			}
			go func() {
				_, _ = io.Copy(server, client)
				_ = server.Close()
			}()
			go func() {
				_, _ = io.Copy(client, server)
				closed <- struct{}{}
				_ = client.Close()
			}()
		}
	}()
	return listener.Addr().String(), connections, closed
}

func TestTheIntervalOfPingsFitsTheDefaultOfTheGateway(t *testing.T) {
	t.Parallel()
	settings, err := os.ReadFile("../../config/default.toml")
	if err != nil {
		t.Fatal(err)
	}
	found := regexp.MustCompile(`(?m)^keepalive_min_interval = "(.*)"$`).FindSubmatch(settings)
	if found == nil {
		t.Fatal("config/default.toml has no keepalive_min_interval")
	}
	minimum, err := time.ParseDuration(string(found[1]))
	if err != nil || leadgate.KeepaliveInterval < 2*minimum {
		t.Errorf("the client sends a PING every %s, the gateway allows one in %s (%v)", leadgate.KeepaliveInterval, minimum, err)
	}
}

// The client sends a PING every 30 s, and the gateway allows one in 10 s. gRPC for Go has no shorter interval than 10 s, so here
// the gateway has 3 s. A second gateway allows one in 30 s: it closes the connection, so PINGs are sent on idle connections.
func TestAnIdleConnectionStaysOpen(t *testing.T) {
	t.Parallel()
	connect := func(interval string) (*leadgate.Client, *atomic.Int32, chan struct{}) {
		p := serve(t, `server.keepalive_min_interval = "`+interval+`"`)
		address, connections, closed := proxy(t, p.address)
		client := dial(t, address, leadgate.WithInsecure(), leadgate.WithKeepaliveInterval(10*time.Second))
		if err := quota(t, client, time.Minute); err != nil {
			t.Fatal(err)
		}
		return client, connections, closed
	}
	client, connections, closed := connect("3s")
	_, _, strictClosed := connect("30s")
	select {
	case <-strictClosed:
	case <-time.After(time.Minute):
		t.Error("no PINGs were sent on an idle connection")
	}
	select {
	case <-closed:
		t.Error("the idle connection was closed")
	default:
	}
	if err := quota(t, client, time.Minute); err != nil || connections.Load() != 1 {
		t.Errorf("%d connections: %v", connections.Load(), err)
	}
}

func TestAHelperThatFindsNoProgramSaysSo(t *testing.T) {
	t.Setenv("LEADGATE_BIN", "/nonexistent/leadgate")
	if _, err := leadgatetest.Run(leadgatetest.Options{}); err == nil || !strings.Contains(err.Error(), "/nonexistent/leadgate") {
		t.Error(err)
	}
	t.Setenv("LEADGATE_BIN", "")
	t.Setenv("PATH", "")
	if _, err := leadgatetest.Run(leadgatetest.Options{}); err == nil || !strings.Contains(err.Error(), "set LEADGATE_BIN") {
		t.Error(err)
	}
	t.Setenv("LEADGATE_BIN", "/bin/false")
	if _, err := leadgatetest.Run(leadgatetest.Options{}); err == nil || !strings.Contains(err.Error(), "did not start") {
		t.Error(err)
	}
}
