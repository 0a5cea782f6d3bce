package transcoder_test

import (
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"time"

	"google.golang.org/genproto/googleapis/api/annotations"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"

	"leadgate.example/go/leadgatev1"
)

// withoutBinding are the RPCs that HTTP cannot transcode: the request is a stream.
var withoutBinding = map[protoreflect.FullName]bool{"leadgate.v1.LeadService.ImportLeads": true}

var files = []protoreflect.FileDescriptor{
	leadgatev1.File_leadgate_v1_activity_proto,
	leadgatev1.File_leadgate_v1_lead_proto,
	leadgatev1.File_leadgate_v1_quota_proto,
	leadgatev1.File_leadgate_v1_share_proto,
	leadgatev1.File_leadgate_v1_user_proto,
}

// binding is one HTTP method and path of an RPC.
type binding struct {
	rpc       protoreflect.MethodDescriptor
	method    string
	path      string
	body      string
	variables []protoreflect.FieldDescriptor
}

var variable = regexp.MustCompile(`\{([^}]*)\}`)

// read returns the binding of a rule, and checks it by itself.
func read(t *testing.T, rpc protoreflect.MethodDescriptor, rule *annotations.HttpRule) binding {
	t.Helper()
	b := binding{rpc: rpc, body: rule.GetBody()}
	switch pattern := rule.GetPattern().(type) {
	case *annotations.HttpRule_Get:
		b.method, b.path = http.MethodGet, pattern.Get
	case *annotations.HttpRule_Post:
		b.method, b.path = http.MethodPost, pattern.Post
	case *annotations.HttpRule_Patch:
		b.method, b.path = http.MethodPatch, pattern.Patch
	case *annotations.HttpRule_Delete:
		b.method, b.path = http.MethodDelete, pattern.Delete
	default:
		t.Errorf("%s: the rule is %v", rpc.FullName(), rule)
	}
	if !strings.HasPrefix(b.path, "/v1/") {
		t.Errorf("%s: the path %q does not begin with /v1/", rpc.FullName(), b.path)
	}
	switch b.method {
	case http.MethodGet, http.MethodDelete:
		if b.body != "" {
			t.Errorf("%s: %s has the body %q", rpc.FullName(), b.method, b.body)
		}
	default:
		if b.body != "*" {
			t.Errorf("%s: %s has the body %q, and must have *", rpc.FullName(), b.method, b.body)
		}
	}
	for _, match := range variable.FindAllStringSubmatch(b.path, -1) {
		field := rpc.Input().Fields().ByName(protoreflect.Name(match[1]))
		if field == nil || field.Kind() != protoreflect.StringKind || field.IsList() {
			t.Errorf("%s: the variable %s is not a text of %s", rpc.FullName(), match[1], rpc.Input().Name())
			continue
		}
		b.variables = append(b.variables, field)
	}
	return b
}

// bindings returns the bindings of all services, and checks that each RPC has one, and that all are different.
func bindings(t *testing.T) []binding {
	t.Helper()
	var all []binding
	taken := map[string]protoreflect.FullName{}
	for _, file := range files {
		for s := range file.Services().Len() {
			methods := file.Services().Get(s).Methods()
			for m := range methods.Len() {
				rpc := methods.Get(m)
				rule, _ := proto.GetExtension(rpc.Options(), annotations.E_Http).(*annotations.HttpRule)
				if rpc.IsStreamingClient() != withoutBinding[rpc.FullName()] {
					t.Errorf("%s: whether the request is a stream has changed", rpc.FullName())
				}
				if rpc.IsStreamingClient() {
					if rule != nil {
						t.Errorf("%s: the request is a stream, and there is the rule %v", rpc.FullName(), rule)
					}
					continue
				}
				if rule == nil {
					t.Errorf("%s has no rule", rpc.FullName())
					continue
				}
				for _, rule := range append([]*annotations.HttpRule{rule}, rule.GetAdditionalBindings()...) {
					b := read(t, rpc, rule)
					// The name of a variable makes no difference to a path.
					key := b.method + " " + variable.ReplaceAllString(b.path, "{}")
					if other, found := taken[key]; found {
						t.Errorf("%s and %s are both %s", rpc.FullName(), other, key)
					}
					taken[key] = rpc.FullName()
					all = append(all, b)
				}
			}
		}
	}
	if len(all) < 40 {
		t.Errorf("found %d bindings: are services missing?", len(all))
	}
	return all
}

// received is an RPC that the recorder got.
type received struct {
	method  protoreflect.FullName
	message protoreflect.Message
	timeout time.Duration // 0 if there is no deadline
}

// recorder is a gRPC server that reports each RPC and fails it with UNIMPLEMENTED.
func recorder(t *testing.T) (address string, rpcs chan received) {
	t.Helper()
	rpcs = make(chan received, 1)
	server := grpc.NewServer(grpc.UnknownServiceHandler(func(_ any, stream grpc.ServerStream) error {
		path, _ := grpc.MethodFromServerStream(stream)
		name := protoreflect.FullName(strings.ReplaceAll(strings.TrimPrefix(path, "/"), "/", "."))
		found, err := protoregistry.GlobalFiles.FindDescriptorByName(name)
		if err != nil {
			return status.Error(codes.Internal, err.Error())
		}
		kind, err := protoregistry.GlobalTypes.FindMessageByName(found.(protoreflect.MethodDescriptor).Input().FullName())
		if err != nil {
			return status.Error(codes.Internal, err.Error())
		}
		message := kind.New()
		if err := stream.RecvMsg(message.Interface()); err != nil {
			return err
		}
		timeout := time.Duration(0)
		if deadline, found := stream.Context().Deadline(); found {
			timeout = time.Until(deadline)
		}
		rpcs <- received{name, message, timeout}
		return status.Error(codes.Unimplemented, "recorded")
	}))
	listener := listen(t)
	go func() { _ = server.Serve(listener) }()
	t.Cleanup(server.Stop)
	return listener.Addr().String(), rpcs
}

// queryValues returns the texts of a field as a query parameter, and false if the field cannot be one.
func queryValues(field protoreflect.FieldDescriptor) ([]string, bool) {
	if field.IsMap() {
		return nil, false
	}
	values := map[protoreflect.Kind][]string{
		protoreflect.StringKind: {"first", "second"},
		protoreflect.Int32Kind:  {"7", "8"},
		protoreflect.Int64Kind:  {"7", "8"},
		protoreflect.BoolKind:   {"true", "true"},
	}[field.Kind()]
	switch field.Kind() {
	case protoreflect.EnumKind:
		name := string(field.Enum().Values().Get(1).Name())
		values = []string{name, name}
	case protoreflect.MessageKind:
		text := map[protoreflect.FullName]string{
			"google.protobuf.Timestamp": "2024-05-01T00:00:00Z",
			"google.protobuf.Duration":  "2.500s",
			"google.protobuf.FieldMask": "lead_id,fields.custom.mx_KYC",
		}[field.Message().FullName()]
		if text == "" || field.IsList() {
			return nil, false
		}
		values = []string{text}
	}
	if values == nil {
		return nil, false
	}
	if !field.IsList() {
		values = values[:1]
	}
	return values, true
}

func TestEachBindingIsTranscodedToItsRPCWithItsPathAndQuery(t *testing.T) {
	t.Parallel()
	address, rpcs := recorder(t)
	base := serve(t, address, insecure.NewCredentials())
	const id = "910a2dec-8902-5cc1-beeb-8da1658eec67"

	check := func(b binding, query string) (protoreflect.Message, bool) {
		body := ""
		if b.body == "*" {
			body = "{}"
		}
		response := call(t, b.method, base+variable.ReplaceAllString(b.path, id)+query, body)
		select {
		case got := <-rpcs:
			if got.method != b.rpc.FullName() {
				t.Errorf("%s %s was sent to %s, and not to %s", b.method, b.path, got.method, b.rpc.FullName())
				return nil, false
			}
			for _, field := range b.variables {
				if value := got.message.Get(field).String(); value != id {
					t.Errorf("%s %s: %s is %q", b.method, b.path, field.Name(), value)
				}
			}
			return got.message, true
		default:
			t.Errorf("%s %s%s was not sent: HTTP %d %s", b.method, b.path, query, response.status, response.body)
			return nil, false
		}
	}

	for _, b := range bindings(t) {
		if _, sent := check(b, ""); !sent || b.body != "" {
			continue
		}
		for f := range b.rpc.Input().Fields().Len() {
			field := b.rpc.Input().Fields().Get(f)
			if isBoundByPath(b, field) {
				continue
			}
			values, ok := queryValues(field)
			if !ok {
				t.Errorf("%s: %s cannot be a query parameter", b.rpc.FullName(), field.Name())
				continue
			}
			for _, name := range []string{string(field.Name()), field.JSONName()} {
				message, sent := check(b, "?"+url.Values{name: values}.Encode())
				if sent && (!message.Has(field) || field.IsList() && message.Get(field).List().Len() != len(values)) {
					t.Errorf("%s: the query parameter %s was lost: %v", b.rpc.FullName(), name, message.Interface())
				}
			}
		}
	}
}

// isBoundByPath says whether the path sets the field, or another field of its oneof.
func isBoundByPath(b binding, field protoreflect.FieldDescriptor) bool {
	for _, variable := range b.variables {
		if variable == field || variable.ContainingOneof() != nil && variable.ContainingOneof() == field.ContainingOneof() {
			return true
		}
	}
	return false
}

func TestAMaskInAQueryKeepsTheNamesOfCustomAttributes(t *testing.T) {
	t.Parallel()
	address, rpcs := recorder(t)
	base := serve(t, address, insecure.NewCredentials())
	call(t, http.MethodGet, base+"/v1/leads/1?read_mask=fields.custom.mx_KYC,read_only_fields.CreatedByName", "")
	request := (<-rpcs).message.Interface().(*leadgatev1.GetLeadRequest)
	if got := strings.Join(request.GetReadMask().GetPaths(), " "); got != "fields.custom.mx_KYC read_only_fields.CreatedByName" {
		t.Error(got)
	}
	// The JSON form of a mask has no such names.
	response := call(t, http.MethodPost, base+"/v1/leads:get", `{"leadId": "1", "readMask": "fields.custom.mx_KYC"}`)
	if response.status != http.StatusBadRequest {
		t.Error(response)
	}
	call(t, http.MethodPost, base+"/v1/leads:get", `{"leadId": "1", "readMask": "fields.custom,readOnlyFields"}`)
	request = (<-rpcs).message.Interface().(*leadgatev1.GetLeadRequest)
	if got := strings.Join(request.GetReadMask().GetPaths(), " "); got != "fields.custom read_only_fields" {
		t.Error(got)
	}
}

func TestATimeoutOfHTTPIsTheDeadlineOfTheRPC(t *testing.T) {
	t.Parallel()
	address, rpcs := recorder(t)
	base := serve(t, address, insecure.NewCredentials())
	call(t, http.MethodGet, base+"/v1/quota", "", "Grpc-Timeout", "50S")
	if timeout := (<-rpcs).timeout; timeout <= 0 || timeout > 50*time.Second {
		t.Errorf("the timeout is %s", timeout)
	}
	call(t, http.MethodGet, base+"/v1/quota", "")
	if timeout := (<-rpcs).timeout; timeout != 0 {
		t.Errorf("without a timeout of the request, it is %s", timeout)
	}
}
