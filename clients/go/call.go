package leadgate

import (
	"context"
	"io"
	"math/rand/v2"
	"strings"
	"time"

	"github.com/google/uuid"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"leadgate.example/go/leadgatev1"
)

// Timeouts are the deadlines of calls whose context has none. A field that is not positive keeps its value.
// A watch has no deadline.
type Timeouts struct {
	Unary  time.Duration // Reads and writes. Default: 30 seconds.
	Share  time.Duration // RPCs with wait_for, which follow LeadSquared's procedure. Default: 2 minutes.
	Batch  time.Duration // RPCs with many leads in one message. Default: 2 minutes.
	Stream time.Duration // Imports, exports and RevokeShares, with all continuations. Default: 1 hour.
}

var defaultTimeouts = Timeouts{30 * time.Second, 2 * time.Minute, 2 * time.Minute, time.Hour}

// CallOption is an option of one call, in the place of a [grpc.CallOption], or of all calls of a client, as an [Option].
type CallOption struct {
	grpc.EmptyCallOption
	set func(*call)
}

func (o CallOption) apply(c *config) { o.set(&c.call) }

type call struct {
	tenant, caller, criticality string
	timeouts                    Timeouts
}

// WithTenant selects the account. Required if the caller may use more than one.
func WithTenant(name string) CallOption { return CallOption{set: func(c *call) { c.tenant = name }} }

// WithCaller names the caller. The gateway ignores it with auth.mode = "callers": then the credential decides.
func WithCaller(name string) CallOption { return CallOption{set: func(c *call) { c.caller = name }} }

// WithCriticality decides which calls go first if more calls wait than the quota allows.
func WithCriticality(criticality leadgatev1.Criticality) CallOption {
	name := ""
	if criticality != leadgatev1.Criticality_CRITICALITY_UNSPECIFIED {
		name = strings.ReplaceAll(strings.ToLower(strings.TrimPrefix(criticality.String(), "CRITICALITY_")), "_", "-")
	}
	return CallOption{set: func(c *call) { c.criticality = name }}
}

// WithTimeouts changes the deadlines of calls whose context has none.
func WithTimeouts(timeouts Timeouts) CallOption {
	return CallOption{set: func(c *call) {
		c.timeouts.Unary = positive(timeouts.Unary, c.timeouts.Unary)
		c.timeouts.Share = positive(timeouts.Share, c.timeouts.Share)
		c.timeouts.Batch = positive(timeouts.Batch, c.timeouts.Batch)
		c.timeouts.Stream = positive(timeouts.Stream, c.timeouts.Stream)
	}}
}

func positive(timeout, otherwise time.Duration) time.Duration {
	if timeout > 0 {
		return timeout
	}
	return otherwise
}

// with returns the options of one call.
func (c call) with(opts []grpc.CallOption) call {
	for _, o := range opts {
		if o, ok := o.(CallOption); ok && o.set != nil {
			o.set(&c)
		}
	}
	return c
}

// outgoing adds the metadata and the deadline. Metadata that ctx has already is kept.
func (c call) outgoing(ctx context.Context, timeout time.Duration) (context.Context, context.CancelFunc) {
	sent, _ := metadata.FromOutgoingContext(ctx)
	for key, value := range map[string]string{
		"x-leadgate-tenant": c.tenant, "x-leadgate-caller": c.caller, "x-leadgate-criticality": c.criticality,
	} {
		if value != "" && len(sent.Get(key)) == 0 {
			ctx = metadata.AppendToOutgoingContext(ctx, key, value)
		}
	}
	return withDefaultTimeout(ctx, timeout)
}

func withDefaultTimeout(ctx context.Context, timeout time.Duration) (context.Context, context.CancelFunc) {
	if _, ok := ctx.Deadline(); ok || timeout <= 0 {
		return context.WithCancel(ctx)
	}
	return context.WithTimeout(ctx, timeout)
}

// rpcName returns the name of an RPC of leadgate, or "" for an RPC of another service.
func rpcName(method string) string {
	if !strings.HasPrefix(method, "/leadgate.v1.") {
		return ""
	}
	return method[strings.LastIndexByte(method, '/')+1:]
}

// reads are the first words of the names of RPCs that change nothing. Other RPCs, also those of later versions, are mutations.
var reads = []string{"BatchGet", "Describe", "Export", "Get", "List", "QuickSearch", "Search", "Watch", "Validate"}

func isRead(rpc string) bool {
	for _, word := range reads {
		if strings.HasPrefix(rpc, word) {
			return true
		}
	}
	return false
}

func (c call) unaryTimeout(rpc string, request any) time.Duration {
	switch message, ok := request.(proto.Message); {
	case strings.HasPrefix(rpc, "Batch"):
		return c.timeouts.Batch
	case ok && message.ProtoReflect().Descriptor().Fields().ByName("wait_for") != nil:
		return c.timeouts.Share
	default:
		return c.timeouts.Unary
	}
}

func (c call) streamTimeout(rpc string) time.Duration {
	if strings.HasPrefix(rpc, "Watch") {
		return 0
	}
	return c.timeouts.Stream
}

// withRequestID returns the message and its request_id. If it has none, a copy of the message gets a new one. A UUID of version 7
// has its age, so that the gateway recognizes a repetition even if its store has lost the last second.
func withRequestID[M any](message M) (M, string) {
	m, ok := any(message).(proto.Message)
	if !ok {
		return message, ""
	}
	holder, field := requestIDField(m.ProtoReflect())
	if field == nil {
		return message, ""
	}
	if id := holder.Get(field).String(); id != "" {
		return message, id
	}
	m = proto.Clone(m)
	holder, _ = requestIDField(m.ProtoReflect())
	id := uuid.Must(uuid.NewV7()).String()
	holder.Set(field, protoreflect.ValueOfString(id))
	return m.(M), id
}

// requestIDField finds the request_id of a message, or of the operation of a row of ImportLeads.
func requestIDField(m protoreflect.Message) (protoreflect.Message, protoreflect.FieldDescriptor) {
	if row, ok := m.Interface().(*leadgatev1.ImportLeadsRequest); ok {
		operation := m.WhichOneof(m.Descriptor().Oneofs().ByName("operation"))
		if row == nil || operation == nil {
			return m, nil
		}
		m = m.Get(operation).Message()
	}
	if !m.IsValid() {
		return m, nil
	}
	field := m.Descriptor().Fields().ByName("request_id")
	if field == nil || field.Kind() != protoreflect.StringKind {
		return m, nil
	}
	return m, field
}

func (c config) unary(ctx context.Context, method string, req, reply any, cc *grpc.ClientConn, invoke grpc.UnaryInvoker, opts ...grpc.CallOption) error {
	rpc := rpcName(method)
	if rpc == "" {
		return invoke(ctx, method, req, reply, cc, opts...)
	}
	call := c.call.with(opts)
	ctx, cancel := call.outgoing(ctx, call.unaryTimeout(rpc, req))
	defer cancel()
	req, id := withRequestID(req)
	for attempt := 1; ; attempt++ {
		sent := time.Now()
		err := AsError(invoke(ctx, method, req, reply, cc, opts...))
		if err == nil {
			return nil
		}
		err.RequestID = id
		if !err.mayRepeat(isRead(rpc), id != "") {
			return err
		}
		if err := err.pause(ctx, sent, attempt); err != nil {
			return err
		}
	}
}

// mayRepeat says whether the same request, with the same request_id, may be sent again.
func (e *Error) mayRepeat(read, hasID bool) bool {
	switch e.Code {
	case codes.ResourceExhausted, codes.Unavailable, codes.Aborted:
	default:
		return false
	}
	same, known := e.Metadata["retry_same_request_id"]
	switch {
	case e.ReasonText == "": // not from leadgate: the connection was lost, or a proxy has responded
		return e.Code == codes.Unavailable && (read || hasID) && !e.final
	case known:
		return same == "true"
	case !e.HasRetryAfter:
		return false
	default:
		return read || nothingExecuted[e.Reason]
	}
}

// nothingExecuted has the reasons after which even a mutation without an effective request_id may be sent again.
var nothingExecuted = map[leadgatev1.ErrorReason]bool{
	leadgatev1.ErrorReason_DEADLINE_INFEASIBLE:    true,
	leadgatev1.ErrorReason_CALLER_LIMIT:           true,
	leadgatev1.ErrorReason_QUEUE_FULL:             true,
	leadgatev1.ErrorReason_DAILY_BUDGET_EXHAUSTED: true,
	leadgatev1.ErrorReason_UPSTREAM_UNAVAILABLE:   true,
	leadgatev1.ErrorReason_SHUTTING_DOWN:          true,
	leadgatev1.ErrorReason_TENANT_PAUSED:          true,
	leadgatev1.ErrorReason_AUDIT_UNAVAILABLE:      true,
	leadgatev1.ErrorReason_STORE_UNAVAILABLE:      true,
}

// maxServerDeadline is the default of server.max_deadline: the gateway sees no longer deadline of a unary RPC.
const maxServerDeadline = time.Minute

// pause waits until the request may be sent again. If the deadline does not allow that, it returns e at once.
func (e *Error) pause(ctx context.Context, sent time.Time, attempt int) *Error {
	delay := e.RetryAfter
	if e.Code == codes.Unavailable || delay < 50*time.Millisecond {
		// After a lost connection, and where errors say "at once" again and again: 50 ms, 100 ms, ... 2 s.
		delay = max(delay, min(2*time.Second, 25*time.Millisecond<<min(attempt, 10)))
	}
	jitter := min(delay/8, 500*time.Millisecond)
	if deadline, ok := ctx.Deadline(); ok {
		left := time.Until(deadline) - delay
		if e.Reason == leadgatev1.ErrorReason_DEADLINE_INFEASIBLE || e.Reason == leadgatev1.ErrorReason_CALLER_LIMIT {
			// RetryAfter holds for a new call with the same timeout, so that much time must remain.
			left -= min(deadline.Sub(sent), maxServerDeadline)
		}
		if left <= 0 {
			return e
		}
		jitter = min(jitter, left/2)
	}
	if jitter > 0 {
		delay += rand.N(jitter)
	}
	timer := time.NewTimer(delay)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		cancelled := fromStatus(status.FromContextError(ctx.Err()))
		cancelled.Message += " while waiting to send the request again after: " + e.Error()
		cancelled.RequestID = e.RequestID
		return cancelled
	}
}

func (c config) stream(ctx context.Context, desc *grpc.StreamDesc, cc *grpc.ClientConn, method string, open grpc.Streamer, opts ...grpc.CallOption) (grpc.ClientStream, error) {
	rpc := rpcName(method)
	if rpc == "" {
		return open(ctx, desc, cc, method, opts...)
	}
	call := c.call.with(opts)
	ctx, cancel := call.outgoing(ctx, call.streamTimeout(rpc))
	opened, err := open(ctx, desc, cc, method, opts...)
	if err != nil {
		cancel()
		return nil, AsError(err)
	}
	return &stream{opened, cancel}, nil
}

// stream sets request ids and returns typed errors.
type stream struct {
	grpc.ClientStream
	cancel context.CancelFunc
}

func (s *stream) SendMsg(message any) error {
	message, _ = withRequestID(message)
	return typed(s.ClientStream.SendMsg(message))
}

func (s *stream) RecvMsg(message any) error {
	err := s.ClientStream.RecvMsg(message)
	if err != nil {
		s.cancel()
	}
	return typed(err)
}

func typed(err error) error {
	if err == nil || err == io.EOF {
		return err
	}
	return AsError(err)
}
