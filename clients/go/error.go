package leadgate

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	rpcstatus "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"leadgate.example/go/leadgatev1"
)

// Error is an error of a call. [status.FromError] and [status.Code] work with it. [errors.Is] finds [context.DeadlineExceeded]
// and [context.Canceled] by the code. The gateway's documentation of errors says what each reason means.
type Error struct {
	Code    codes.Code
	Message string
	// Reason is ERROR_REASON_UNSPECIFIED if this package does not know ReasonText, or if leadgate did not send the error.
	Reason leadgatev1.ErrorReason
	// ReasonText is empty if leadgate did not send the error: for example, the connection was lost.
	ReasonText string
	// Metadata is that of google.rpc.ErrorInfo, such as "attempts", "place", "share_id" and "exception_type".
	Metadata map[string]string
	// Violations are the invalid fields of the request.
	Violations []*errdetails.BadRequest_FieldViolation
	// Resource is what the error is about: with LEAD_DUPLICATE the other lead, with the field in Description. May be nil.
	Resource *errdetails.ResourceInfo
	// RetryAfter is how long to wait before the request is sent again. Only if HasRetryAfter.
	RetryAfter    time.Duration
	HasRetryAfter bool
	// RequestID is the request_id of the mutation. Send the same message with it to continue. Empty for reads and streams.
	RequestID string
	// ServerRequestID is the x-request-id of the RPC, its name in the gateway's log.
	ServerRequestID string

	status *status.Status
	advice string
	final  bool
}

// AsError returns err as an [*Error], or nil for nil. It also accepts errors of connections without the interceptors.
func AsError(err error) *Error {
	if err == nil {
		return nil
	}
	var e *Error
	if errors.As(err, &e) {
		return e
	}
	s, ok := status.FromError(err)
	if !ok {
		s = status.FromContextError(err)
	}
	return fromStatus(s)
}

// FromProto returns the error in a result of a batch, a row of an import, or a share, or nil for OK and nil.
func FromProto(s *rpcstatus.Status) *Error {
	if s.GetCode() == int32(codes.OK) {
		return nil
	}
	return fromStatus(status.FromProto(s))
}

// tlsProblems are the texts of gRPC for a connection whose options do not fit the gateway. final: no retry helps.
var tlsProblems = []struct {
	text, advice string
	final        bool
}{
	{"tls: failed to verify certificate", "the certificate of the gateway is not valid for this client, see WithCA and the address", true},
	{"tls: first record does not look like a TLS handshake", "the gateway has no TLS at this address, see WithInsecure", true},
	// This is also a gateway that ends.
	{"error reading server preface: unexpected EOF", "the gateway may have TLS at this address, see WithInsecure", false},
}

func fromStatus(s *status.Status) *Error {
	e := &Error{Code: s.Code(), Message: s.Message(), status: s}
	for _, detail := range s.Details() {
		switch d := detail.(type) {
		case *errdetails.ErrorInfo:
			if d.GetDomain() == "leadgate" {
				e.ReasonText, e.Metadata = d.GetReason(), d.GetMetadata()
				e.Reason = leadgatev1.ErrorReason(leadgatev1.ErrorReason_value[d.GetReason()])
			}
		case *errdetails.BadRequest:
			e.Violations = d.GetFieldViolations()
		case *errdetails.ResourceInfo:
			e.Resource = d
		case *errdetails.RetryInfo:
			e.RetryAfter, e.HasRetryAfter = max(0, d.GetRetryDelay().AsDuration()), true
		case *errdetails.RequestInfo:
			e.ServerRequestID = d.GetRequestId()
		}
	}
	for _, problem := range tlsProblems {
		if e.Code == codes.Unavailable && e.ReasonText == "" && strings.Contains(e.Message, problem.text) {
			e.advice, e.final = problem.advice, problem.final
		}
	}
	return e
}

// Reason returns the reason of err, or ERROR_REASON_UNSPECIFIED if it has none.
func Reason(err error) leadgatev1.ErrorReason {
	var e *Error
	if errors.As(err, &e) {
		return e.Reason
	}
	return leadgatev1.ErrorReason_ERROR_REASON_UNSPECIFIED
}

func (e *Error) Error() string {
	var text strings.Builder
	fmt.Fprintf(&text, "leadgate: %s", e.Code)
	if e.ReasonText != "" && e.ReasonText != e.Code.String() {
		fmt.Fprintf(&text, " (%s)", e.ReasonText)
	}
	fmt.Fprintf(&text, ": %s", e.Message)
	for _, v := range e.Violations {
		fmt.Fprintf(&text, "; %s: %s", v.GetField(), v.GetDescription())
	}
	if e.HasRetryAfter {
		fmt.Fprintf(&text, "; retry after %s", e.RetryAfter)
	}
	if e.advice != "" {
		fmt.Fprintf(&text, "; %s", e.advice)
	}
	return text.String()
}

// GRPCStatus returns the status with all details.
func (e *Error) GRPCStatus() *status.Status {
	if e.status == nil {
		return status.New(e.Code, e.Message)
	}
	return e.status
}

// Is matches the errors of package context.
func (e *Error) Is(target error) bool {
	return e.Code == codes.DeadlineExceeded && target == context.DeadlineExceeded ||
		e.Code == codes.Canceled && target == context.Canceled
}
