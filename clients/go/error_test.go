package leadgate_test

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	_ "google.golang.org/genproto/googleapis/api/annotations"
	_ "google.golang.org/genproto/googleapis/api/httpbody"
	"google.golang.org/genproto/googleapis/rpc/code"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	rpcstatus "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/known/anypb"

	leadgate "leadgate.example/go"
	"leadgate.example/go/leadgatev1"
)

func TestADuplicateNamesTheOtherLead(t *testing.T) {
	t.Parallel()
	client := shared.Client(t)
	lead := newLead()
	created, err := client.Leads.CreateLead(ctx(t, time.Minute), create(lead))
	if err != nil {
		t.Fatal(err)
	}
	_, err = client.Leads.CreateLead(ctx(t, time.Minute), create(lead))
	err = fmt.Errorf("signup: %w", err)
	var e *leadgate.Error
	if !errors.As(err, &e) {
		t.Fatal(err)
	}
	if e.Reason != leadgatev1.ErrorReason_LEAD_DUPLICATE || e.ReasonText != "LEAD_DUPLICATE" || e.Code != codes.AlreadyExists {
		t.Errorf("%+v", e)
	}
	if e.Resource.GetResourceName() != created.GetLeadId() || e.Resource.GetDescription() != "lead.email_address" || e.Metadata["tenant"] != "demo" {
		t.Errorf("the resource is %v, the metadata %v", e.Resource, e.Metadata)
	}
	if e.RequestID == "" || e.ServerRequestID == "" || e.HasRetryAfter {
		t.Errorf("%+v", e)
	}
	if leadgate.Reason(err) != e.Reason {
		t.Error("Reason does not find a wrapped error")
	}
	if s, ok := status.FromError(err); !ok || s.Code() != codes.AlreadyExists || len(s.Details()) < 3 {
		t.Errorf("status.FromError: %v, %v", s, ok)
	}
}

func TestEveryInvalidFieldIsListed(t *testing.T) {
	t.Parallel()
	client := shared.Client(t)
	custom := map[string]*leadgatev1.FieldValue{}
	for n := range 70 {
		custom[fmt.Sprintf("mx_Unknown_%d_%s", n, strings.Repeat("x", 100))] = &leadgatev1.FieldValue{Value: &leadgatev1.FieldValue_Flag{Flag: true}}
	}
	_, err := client.Leads.CreateLead(ctx(t, time.Minute), create(&leadgatev1.LeadFields{EmailAddress: proto.String("nobody"), Custom: custom}))
	e := leadgate.AsError(err)
	if e == nil || e.Reason != leadgatev1.ErrorReason_INVALID_FIELD || len(e.Violations) < 10 {
		t.Fatalf("%v", err)
	}
	fields := ""
	for _, v := range e.Violations {
		fields += v.GetField() + " "
	}
	if !strings.Contains(fields, "lead.email_address") || !strings.Contains(fields, "mx_Unknown_") || !strings.Contains(e.Error(), "lead.email_address: ") {
		t.Errorf("%s\n%v", fields, e)
	}
}

func TestMistakesOfCallersNameTheField(t *testing.T) {
	t.Parallel()
	client := shared.Client(t)
	c := ctx(t, time.Minute)
	created, err := client.Leads.CreateLead(c, create(newLead()))
	if err != nil {
		t.Fatal(err)
	}
	for field, call := range map[string]func() error{
		"request_id": func() error {
			_, err := client.Leads.CreateLead(c, &leadgatev1.CreateLeadRequest{Lead: newLead(), RequestId: "00000000-0000-0000-0000-000000000000"})
			return err
		},
		"clear_fields[0]": func() error {
			_, err := client.Leads.UpdateLead(c, &leadgatev1.UpdateLeadRequest{LeadId: created.GetLeadId(), ClearFields: []string{"mx_Unknown"}})
			return err
		},
		"lead.phone": func() error {
			_, err := client.Leads.CreateLead(c, create(&leadgatev1.LeadFields{Phone: proto.String("abc")}))
			return err
		},
	} {
		e := leadgate.AsError(call())
		if e == nil || e.Reason != leadgatev1.ErrorReason_INVALID_FIELD || len(e.Violations) != 1 || e.Violations[0].GetField() != field {
			t.Errorf("%s: %v", field, e)
		}
	}
}

func TestALeadThatWasReadCanBeWritten(t *testing.T) {
	t.Parallel()
	client := shared.Client(t)
	c := ctx(t, time.Minute)
	created, err := client.Leads.CreateLead(c, create(newLead()))
	if err != nil {
		t.Fatal(err)
	}
	read, err := client.Leads.GetLead(c, &leadgatev1.GetLeadRequest{Key: &leadgatev1.GetLeadRequest_LeadId{LeadId: created.GetLeadId()}})
	if err != nil {
		t.Fatal(err)
	}
	fields := read.GetLead().GetFields()
	fields.City = proto.String("Pune")
	if _, err := client.Leads.UpdateLead(c, &leadgatev1.UpdateLeadRequest{LeadId: created.GetLeadId(), Lead: fields}); err != nil {
		t.Error(err)
	}
}

func TestAnErrorOfANewerGatewayIsReadable(t *testing.T) {
	t.Parallel()
	unknown := &anypb.Any{TypeUrl: "type.googleapis.com/leadgate.v9.NewDetail", Value: []byte{8, 1}}
	s := status.Convert(failure(codes.FailedPrecondition, "MOON_IN_THE_WRONG_PHASE", -1, map[string]string{"new_key": "value"})).Proto()
	s.Details = append([]*anypb.Any{unknown}, s.Details...)
	f := &fake{get: func(context.Context, *leadgatev1.GetLeadRequest) (*leadgatev1.GetLeadResponse, error) {
		return nil, status.FromProto(s).Err()
	}}
	_, err := f.start(t).Leads.GetLead(ctx(t, time.Minute), &leadgatev1.GetLeadRequest{})
	var e *leadgate.Error
	if !errors.As(err, &e) || e.Code != codes.FailedPrecondition || e.Reason != leadgatev1.ErrorReason_ERROR_REASON_UNSPECIFIED ||
		e.ReasonText != "MOON_IN_THE_WRONG_PHASE" || e.Metadata["new_key"] != "value" {
		t.Fatalf("%+v", err)
	}
	if want := "leadgate: FailedPrecondition (MOON_IN_THE_WRONG_PHASE): the message"; err.Error() != want {
		t.Errorf("%q", err)
	}
	if details := e.GRPCStatus().Proto().GetDetails(); len(details) != 2 || !proto.Equal(details[0], unknown) {
		t.Errorf("the details are %v", details)
	}
}

func TestErrorsOfResultsAndOfOtherSources(t *testing.T) {
	t.Parallel()
	if leadgate.FromProto(nil) != nil || leadgate.FromProto(&rpcstatus.Status{}) != nil || leadgate.AsError(nil) != nil {
		t.Error("success is an error")
	}
	if leadgate.Reason(nil) != 0 || leadgate.Reason(errors.New("x")) != 0 {
		t.Error("another error has a reason")
	}
	s := status.Convert(failure(codes.AlreadyExists, "LEAD_DUPLICATE", -1, nil, &errdetails.ResourceInfo{ResourceName: "lead"})).Proto()
	if e := leadgate.FromProto(s); e.Reason != leadgatev1.ErrorReason_LEAD_DUPLICATE || e.Resource.GetResourceName() != "lead" {
		t.Errorf("%+v", e)
	}
	foreign, err := status.New(codes.NotFound, "m").WithDetails(&errdetails.ErrorInfo{Domain: "other.example", Reason: "LEAD_DUPLICATE"})
	if err != nil {
		t.Fatal(err)
	}
	if e := leadgate.AsError(foreign.Err()); e.Reason != 0 || e.ReasonText != "" {
		t.Errorf("another domain: %+v", e)
	}
	for code, target := range map[codes.Code]error{codes.DeadlineExceeded: context.DeadlineExceeded, codes.Canceled: context.Canceled} {
		if !errors.Is(leadgate.AsError(status.Error(code, "")), target) || errors.Is(leadgate.AsError(status.Error(codes.Internal, "")), target) {
			t.Errorf("errors.Is with %v", target)
		}
		if e := leadgate.AsError(target); e.Code != code {
			t.Errorf("AsError(%v) is %v", target, e)
		}
	}
	if s, _ := status.FromError(&leadgate.Error{Code: codes.NotFound, Message: "for a test"}); s.Code() != codes.NotFound {
		t.Errorf("an error without a status is %v", s)
	}
}

// This test program imports Google's own packages beside leadgatev1. If both registered a file, it would not start.
func TestFilesOfGoogleComeFromGenproto(t *testing.T) {
	t.Parallel()
	_ = code.Code_OK
	own := map[string]bool{}
	protoregistry.GlobalFiles.RangeFilesByPackage("leadgate.v1", func(file protoreflect.FileDescriptor) bool {
		own[file.Path()] = true
		return true
	})
	if !own["leadgate/v1/lead.proto"] || !own["leadgate/v1/error_reason.proto"] {
		t.Errorf("the files of leadgate are %v", own)
	}
	message, err := protoregistry.GlobalTypes.FindMessageByName("google.rpc.Status")
	if err != nil {
		t.Fatal(err)
	}
	if path := reflect.TypeOf(message.Zero().Interface()).Elem().PkgPath(); path != "google.golang.org/genproto/googleapis/rpc/status" {
		t.Error(path)
	}
}
