package leadgate_test

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	leadgate "leadgate.example/go"
	"leadgate.example/go/leadgatev1"
)

func TestMetadataIsTheDefaultOfTheClientAndAnOptionOfACall(t *testing.T) {
	t.Parallel()
	var got metadata.MD
	f := &fake{get: func(ctx context.Context, _ *leadgatev1.GetLeadRequest) (*leadgatev1.GetLeadResponse, error) {
		got, _ = metadata.FromIncomingContext(ctx)
		return &leadgatev1.GetLeadResponse{}, nil
	}}
	client := f.start(t, leadgate.WithTenant("india"), leadgate.WithCaller("checkout"),
		leadgate.WithCriticality(leadgatev1.Criticality_CRITICALITY_CRITICAL_PLUS), leadgate.WithToken("secret"))
	expect := func(ctx context.Context, tenant, criticality string, opts ...grpc.CallOption) {
		t.Helper()
		if _, err := client.Leads.GetLead(ctx, &leadgatev1.GetLeadRequest{}, opts...); err != nil {
			t.Fatal(err)
		}
		for key, want := range map[string]string{
			"x-leadgate-tenant": tenant, "x-leadgate-caller": "checkout", "x-leadgate-criticality": criticality, "authorization": "Bearer secret",
		} {
			if values := got.Get(key); len(values) != 1 || values[0] != want {
				t.Errorf("%s is %q, expected %q", key, values, want)
			}
		}
		if agent := got.Get("user-agent"); len(agent) != 1 || !strings.HasPrefix(agent[0], "leadgate-go/0.1.0") {
			t.Errorf("user-agent is %q", agent)
		}
	}
	expect(context.Background(), "india", "critical-plus")
	expect(context.Background(), "us", "sheddable", leadgate.WithTenant("us"), leadgate.WithCriticality(leadgatev1.Criticality_CRITICALITY_SHEDDABLE))
	expect(metadata.AppendToOutgoingContext(context.Background(), "x-leadgate-tenant", "eu"), "eu", "critical-plus")
}

func TestTheGatewayAcceptsEachCriticality(t *testing.T) {
	t.Parallel()
	client := shared.Client(t)
	for value, name := range leadgatev1.Criticality_name {
		_, err := client.Quota.GetQuota(ctx(t, time.Minute), &leadgatev1.GetQuotaRequest{}, leadgate.WithCriticality(leadgatev1.Criticality(value)))
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestEachKindOfCallHasADeadline(t *testing.T) {
	t.Parallel()
	var left time.Duration // -1: none
	remember := func(ctx context.Context) {
		left = -1
		if deadline, ok := ctx.Deadline(); ok {
			left = time.Until(deadline)
		}
	}
	f := &fake{
		get: func(ctx context.Context, _ *leadgatev1.GetLeadRequest) (*leadgatev1.GetLeadResponse, error) {
			remember(ctx)
			return &leadgatev1.GetLeadResponse{}, nil
		},
		batchCreate: func(ctx context.Context, _ *leadgatev1.BatchCreateLeadsRequest) (*leadgatev1.BatchCreateLeadsResponse, error) {
			remember(ctx)
			return &leadgatev1.BatchCreateLeadsResponse{}, nil
		},
		share: func(ctx context.Context, _ *leadgatev1.ShareLeadRequest) (*leadgatev1.ShareLeadResponse, error) {
			remember(ctx)
			return &leadgatev1.ShareLeadResponse{}, nil
		},
		watch: func(_ *leadgatev1.WatchShareRequest, s leadgatev1.ShareService_WatchShareServer) error {
			remember(s.Context())
			return s.Send(&leadgatev1.WatchShareResponse{})
		},
		export: func(_ *leadgatev1.ExportLeadsRequest, s leadgatev1.LeadService_ExportLeadsServer) error {
			remember(s.Context())
			return s.Send(&leadgatev1.ExportLeadsResponse{})
		},
	}
	client := f.start(t)
	none := context.Background()
	five, cancel := context.WithTimeout(none, 5*time.Second)
	defer cancel()
	for name, test := range map[string]struct {
		want time.Duration
		call func() error
	}{
		"unary": {30 * time.Second, func() error { _, err := client.Leads.GetLead(none, &leadgatev1.GetLeadRequest{}); return err }},
		"batch": {2 * time.Minute, func() error {
			_, err := client.Leads.BatchCreateLeads(none, &leadgatev1.BatchCreateLeadsRequest{})
			return err
		}},
		"share": {2 * time.Minute, func() error { _, err := client.Shares.ShareLead(none, &leadgatev1.ShareLeadRequest{}); return err }},
		"watch": {-1, func() error {
			s, err := client.Shares.WatchShare(none, &leadgatev1.WatchShareRequest{})
			if err == nil {
				_, err = s.Recv()
			}
			return err
		}},
		"export": {time.Hour, func() error {
			for _, err := range client.Export(none, &leadgatev1.ExportLeadsRequest{}) {
				return err
			}
			return nil
		}},
		"stream": {time.Hour, func() error {
			s, err := client.Leads.ExportLeads(none, &leadgatev1.ExportLeadsRequest{})
			if err == nil {
				_, err = s.Recv()
			}
			return err
		}},
		"of the context": {5 * time.Second, func() error { _, err := client.Leads.GetLead(five, &leadgatev1.GetLeadRequest{}); return err }},
		"of the call": {7 * time.Second, func() error {
			_, err := client.Leads.GetLead(none, &leadgatev1.GetLeadRequest{}, leadgate.WithTimeouts(leadgate.Timeouts{Unary: 7 * time.Second}))
			return err
		}},
		"of the client": {9 * time.Minute, func() error {
			client := f.start(t, leadgate.WithTimeouts(leadgate.Timeouts{Stream: 9 * time.Minute}))
			for _, err := range client.Export(none, &leadgatev1.ExportLeadsRequest{}) {
				return err
			}
			return nil
		}},
	} {
		if err := test.call(); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if test.want < 0 && left >= 0 || test.want >= 0 && (left > test.want || left < test.want-4*time.Second) {
			t.Errorf("%s: the server sees %s, expected %s", name, left, test.want)
		}
	}
}

func TestARequestIDIsSetInACopyAndRepeated(t *testing.T) {
	t.Parallel()
	var ids []string
	f := &fake{create: func(_ context.Context, r *leadgatev1.CreateLeadRequest) (*leadgatev1.CreateLeadResponse, error) {
		ids = append(ids, r.GetRequestId())
		switch len(ids) {
		case 1:
			return nil, failure(codes.Aborted, "OUTCOME_UNKNOWN", 10*time.Millisecond, map[string]string{"retry_same_request_id": "true"})
		case 2:
			return nil, failure(codes.AlreadyExists, "LEAD_DUPLICATE", -1, nil)
		}
		return &leadgatev1.CreateLeadResponse{}, nil
	}}
	client := f.start(t)
	request := create(newLead())
	_, err := client.Leads.CreateLead(ctx(t, time.Minute), request)
	var e *leadgate.Error
	if !errors.As(err, &e) || e.Reason != leadgatev1.ErrorReason_LEAD_DUPLICATE {
		t.Fatal(err)
	}
	if request.GetRequestId() != "" {
		t.Error("the message of the caller was changed")
	}
	if id, err := uuid.Parse(ids[0]); err != nil || id.Version() != 7 || ids[1] != ids[0] || e.RequestID != ids[0] {
		t.Errorf("sent %q, the error has %q", ids, e.RequestID)
	}
	if _, err := client.Leads.CreateLead(ctx(t, time.Minute), request); err != nil || ids[2] == ids[0] {
		t.Errorf("another call has the same id %s (%v)", ids[2], err)
	}
	request.RequestId = "0197b3c6-0000-7000-8000-000000000001"
	if _, err := client.Leads.CreateLead(ctx(t, time.Minute), request); err != nil || ids[3] != request.RequestId {
		t.Errorf("the id of the caller became %s (%v)", ids[3], err)
	}
}

func TestARetryHappensOnlyAsTheErrorSays(t *testing.T) {
	t.Parallel()
	const soon = 20 * time.Millisecond
	same, other := map[string]string{"retry_same_request_id": "true"}, map[string]string{"retry_same_request_id": "false"}
	lost := status.Error(codes.Unavailable, "the connection was lost")
	for name, test := range map[string]struct {
		rpc     string
		err     error
		retried bool
	}{
		"write, safe":                        {"create", failure(codes.Aborted, "OUTCOME_UNKNOWN", soon, same), true},
		"write, at once":                     {"create", failure(codes.Unavailable, "OWNER_MOVED", -1, same), true},
		"write, not safe":                    {"create", failure(codes.Aborted, "OUTCOME_UNKNOWN", soon, other), false},
		"write, nothing executed":            {"create", failure(codes.ResourceExhausted, "QUEUE_FULL", soon, nil), true},
		"write, shutting down":               {"create", failure(codes.Unavailable, "SHUTTING_DOWN", 0, nil), true},
		"write, may have been executed":      {"create", failure(codes.Unavailable, "OWNER_MOVED", soon, nil), false},
		"write, unknown reason":              {"create", failure(codes.Unavailable, "NEW_REASON", soon, nil), false},
		"write, connection lost":             {"create", lost, true},
		"write, another code":                {"create", failure(codes.DeadlineExceeded, "DEADLINE_EXCEEDED", soon, same), false},
		"read, unavailable":                  {"get", failure(codes.Unavailable, "UPSTREAM_UNAVAILABLE", soon, nil), true},
		"read, unknown reason":               {"get", failure(codes.Unavailable, "NEW_REASON", soon, nil), true},
		"read, no retry time":                {"get", failure(codes.ResourceExhausted, "RESPONSE_TOO_LARGE", -1, nil), false},
		"read, connection lost":              {"get", lost, true},
		"read, refused by the gRPC library":  {"get", status.Error(codes.ResourceExhausted, "message larger than max"), false},
		"read, aborted by something else":    {"get", status.Error(codes.Aborted, "aborted"), false},
		"read, too late":                     {"get", failure(codes.ResourceExhausted, "DAILY_BUDGET_EXHAUSTED", time.Hour, nil), false},
		"read, this deadline is too early":   {"get", failure(codes.ResourceExhausted, "DEADLINE_INFEASIBLE", soon, nil), false},
		"write, the caller's limit":          {"create", failure(codes.ResourceExhausted, "CALLER_LIMIT", soon, same), false},
		"write without id, connection lost":  {"retryShare", lost, false},
		"write without id, nothing executed": {"retryShare", failure(codes.Unavailable, "SHUTTING_DOWN", 0, nil), true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var calls atomic.Int32
			respond := func() error {
				if calls.Add(1) == 1 {
					return test.err
				}
				return nil
			}
			f := &fake{
				create: func(context.Context, *leadgatev1.CreateLeadRequest) (*leadgatev1.CreateLeadResponse, error) {
					return &leadgatev1.CreateLeadResponse{}, respond()
				},
				get: func(context.Context, *leadgatev1.GetLeadRequest) (*leadgatev1.GetLeadResponse, error) {
					return &leadgatev1.GetLeadResponse{}, respond()
				},
				retryShare: func(context.Context, *leadgatev1.RetryShareRequest) (*leadgatev1.RetryShareResponse, error) {
					return &leadgatev1.RetryShareResponse{}, respond()
				},
			}
			client := f.start(t)
			start := time.Now()
			var err error
			switch test.rpc {
			case "create":
				_, err = client.Leads.CreateLead(context.Background(), create(newLead()))
			case "get":
				_, err = client.Leads.GetLead(context.Background(), &leadgatev1.GetLeadRequest{})
			case "retryShare":
				_, err = client.Shares.RetryShare(context.Background(), &leadgatev1.RetryShareRequest{})
			}
			if retried := calls.Load() == 2; retried != test.retried || retried != (err == nil) {
				t.Errorf("%d calls: %v", calls.Load(), err)
			}
			if wait := leadgate.AsError(test.err).RetryAfter; test.retried && time.Since(start) < wait {
				t.Errorf("retried after %s instead of %s", time.Since(start), wait)
			}
		})
	}
}

func TestRetriesAtOnceHaveGrowingPauses(t *testing.T) {
	t.Parallel()
	for _, code := range []codes.Code{codes.ResourceExhausted, codes.Aborted, codes.Unavailable} {
		var calls atomic.Int32
		f := &fake{create: func(context.Context, *leadgatev1.CreateLeadRequest) (*leadgatev1.CreateLeadResponse, error) {
			calls.Add(1)
			return nil, failure(code, "QUEUE_FULL", time.Millisecond, map[string]string{"retry_same_request_id": "true"})
		}}
		_, err := f.start(t).Leads.CreateLead(ctx(t, time.Second), create(newLead()))
		if status.Code(err) != code || calls.Load() < 2 || calls.Load() > 9 {
			t.Errorf("%s: %d calls: %v", code, calls.Load(), err)
		}
	}
}

func TestARetryPolicyOfGRPCHasNoEffect(t *testing.T) {
	t.Parallel()
	var calls atomic.Int32
	f := &fake{create: func(context.Context, *leadgatev1.CreateLeadRequest) (*leadgatev1.CreateLeadResponse, error) {
		calls.Add(1)
		return nil, failure(codes.Unavailable, "OWNER_MOVED", 0, map[string]string{"retry_same_request_id": "false"})
	}}
	client := f.start(t, leadgate.WithDialOptions(grpc.WithDefaultServiceConfig(`{"methodConfig": [{"name": [{}], "retryPolicy": {
		"maxAttempts": 3, "initialBackoff": "0.01s", "maxBackoff": "0.01s", "backoffMultiplier": 1, "retryableStatusCodes": ["UNAVAILABLE"]}}]}`)))
	if _, err := client.Leads.CreateLead(ctx(t, time.Minute), create(newLead())); err == nil || calls.Load() != 1 {
		t.Errorf("%d calls: %v", calls.Load(), err)
	}
}

func TestALongerDeadlineThanThatOfTheGatewayAllowsARetry(t *testing.T) {
	t.Parallel()
	var calls atomic.Int32
	f := &fake{get: func(context.Context, *leadgatev1.GetLeadRequest) (*leadgatev1.GetLeadResponse, error) {
		if calls.Add(1) == 1 {
			return nil, failure(codes.ResourceExhausted, "DEADLINE_INFEASIBLE", 20*time.Millisecond, nil)
		}
		return &leadgatev1.GetLeadResponse{}, nil
	}}
	if _, err := f.start(t).Leads.GetLead(ctx(t, 2*time.Minute), &leadgatev1.GetLeadRequest{}); err != nil {
		t.Error(err)
	}
}

func TestAGatewayThatCannotBeReachedIsAnErrorWithItsCauseAtTheDeadline(t *testing.T) {
	t.Parallel()
	client := dial(t, freeAddress(t), leadgate.WithInsecure())
	start := time.Now()
	_, err := client.Leads.CreateLead(ctx(t, time.Second), create(newLead()))
	e := leadgate.AsError(err)
	if e == nil || e.Code != codes.Unavailable || !strings.Contains(e.Message, "connection refused") || e.RequestID == "" || e.ReasonText != "" {
		t.Errorf("%+v", e)
	}
	if took := time.Since(start); took > 1500*time.Millisecond {
		t.Errorf("took %s", took)
	}
}

func TestACancelledCallEndsItsWait(t *testing.T) {
	t.Parallel()
	f := &fake{get: func(context.Context, *leadgatev1.GetLeadRequest) (*leadgatev1.GetLeadResponse, error) {
		return nil, failure(codes.Unavailable, "TENANT_PAUSED", 10*time.Second, nil)
	}}
	c, cancel := context.WithCancel(context.Background())
	cancelAfterAttempt := func(ctx context.Context, method string, req, reply any, cc *grpc.ClientConn, invoke grpc.UnaryInvoker, opts ...grpc.CallOption) error {
		defer cancel()
		return invoke(ctx, method, req, reply, cc, opts...)
	}
	client := f.start(t, leadgate.WithDialOptions(grpc.WithChainUnaryInterceptor(cancelAfterAttempt)))
	start := time.Now()
	_, err := client.Leads.GetLead(c, &leadgatev1.GetLeadRequest{})
	if !errors.Is(err, context.Canceled) || !strings.Contains(err.Error(), "TENANT_PAUSED") || time.Since(start) > 5*time.Second {
		t.Errorf("%v after %s", err, time.Since(start))
	}
}

func TestOtherServicesOnTheConnectionAreNotChanged(t *testing.T) {
	t.Parallel()
	calls := 0
	invoke := func(ctx context.Context, _ string, _, _ any, _ *grpc.ClientConn, _ ...grpc.CallOption) error {
		calls++
		if _, ok := ctx.Deadline(); ok {
			t.Error("the call has a deadline")
		}
		return status.Error(codes.Unavailable, "unavailable")
	}
	intercept := leadgate.UnaryInterceptor(leadgate.WithTenant("india"))
	err := intercept(context.Background(), "/other.v1.Service/CreateLead", create(newLead()), nil, nil, invoke)
	if _, typed := err.(*leadgate.Error); typed || calls != 1 {
		t.Errorf("%d calls: %v", calls, err)
	}
}

func TestInterceptorsWorkOnAConnectionOfTheCaller(t *testing.T) {
	t.Parallel()
	options, err := leadgate.DialOptions(shared.Options()...)
	if err != nil {
		t.Fatal(err)
	}
	conn, err := grpc.NewClient(shared.Address, options...)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_, err = leadgatev1.NewLeadServiceClient(conn).CreateLead(ctx(t, time.Minute), create(&leadgatev1.LeadFields{EmailAddress: proto.String("nobody")}))
	if leadgate.Reason(err) != leadgatev1.ErrorReason_INVALID_FIELD {
		t.Error(err)
	}
}
