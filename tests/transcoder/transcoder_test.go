// Package transcoder_test calls leadgate as HTTP and JSON, through grpc-gateway: the google.api.http annotations of the contract.
package transcoder_test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/textproto"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/grpc-ecosystem/grpc-gateway/v2/runtime"
	_ "google.golang.org/genproto/googleapis/rpc/errdetails" // The types of the details of errors.
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"

	"leadgate.example/go/leadgatetest"
	gateway "leadgate.example/tests/transcoder/gen/leadgatev1"
)

const unknownID = "0197b3c6-0000-7000-8000-000000000001"

var (
	// plain is a gateway for tests that need few calls of the quota.
	plain *leadgatetest.Gateway
	// client ends a test that hangs.
	client = &http.Client{Timeout: time.Minute}
)

func TestMain(m *testing.M) {
	var err error
	if plain, err = leadgatetest.Run(leadgatetest.Options{}); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	code := m.Run()
	if err := plain.Stop(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

func listen(t *testing.T) net.Listener {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return listener
}

// metadata also passes the metadata of leadgate, which grpc-gateway leaves out by default.
func metadata(header string) (string, bool) {
	if name := textproto.CanonicalMIMEHeaderKey(header); strings.HasPrefix(name, "X-Leadgate-") {
		return strings.ToLower(name), true
	}
	return runtime.DefaultHeaderMatcher(header)
}

// serve starts a transcoder in front of a gRPC server and returns its URL.
func serve(t *testing.T, address string, transport credentials.TransportCredentials, options ...runtime.ServeMuxOption) string {
	t.Helper()
	conn, err := grpc.NewClient(address, grpc.WithTransportCredentials(transport))
	if err != nil {
		t.Fatal(err)
	}
	if options == nil {
		options = []runtime.ServeMuxOption{runtime.WithIncomingHeaderMatcher(metadata)}
	}
	mux := runtime.NewServeMux(options...)
	for _, register := range []func(context.Context, *runtime.ServeMux, *grpc.ClientConn) error{
		gateway.RegisterLeadServiceHandler,
		gateway.RegisterShareServiceHandler,
		gateway.RegisterActivityServiceHandler,
		gateway.RegisterUserServiceHandler,
		gateway.RegisterQuotaServiceHandler,
	} {
		if err := register(context.Background(), mux, conn); err != nil {
			t.Fatal(err)
		}
	}
	server := httptest.NewServer(mux) // on 127.0.0.1
	t.Cleanup(func() {
		server.Close()
		_ = conn.Close()
	})
	return server.URL
}

type response struct {
	status int
	body   string
}

// object is a JSON object.
type object = map[string]any

// send sends a request. headers are names, each followed by its value.
func send(method, url, body string, headers ...string) (*http.Response, error) {
	request, err := http.NewRequest(method, url, strings.NewReader(body))
	if err != nil {
		return nil, err
	}
	for n := 0; n < len(headers); n += 2 {
		request.Header.Set(headers[n], headers[n+1])
	}
	return client.Do(request)
}

// call sends a request and reads the response. It may be used in any goroutine: an error is a response with the status 0.
func call(t *testing.T, method, url, body string, headers ...string) response {
	t.Helper()
	got, err := send(method, url, body, headers...)
	if err != nil {
		t.Error(err)
		return response{body: err.Error()}
	}
	defer got.Body.Close()
	text, err := io.ReadAll(got.Body)
	if err != nil {
		t.Error(err)
		return response{body: err.Error()}
	}
	return response{got.StatusCode, string(text)}
}

// ok calls and expects HTTP 200 and a JSON object.
func ok(t *testing.T, method, url, body string, headers ...string) object {
	t.Helper()
	got := call(t, method, url, body, headers...)
	var decoded object
	if err := json.Unmarshal([]byte(got.body), &decoded); err != nil || got.status != http.StatusOK {
		t.Fatalf("%s %s: HTTP %d %s %v", method, url, got.status, got.body, err)
	}
	return decoded
}

// failed returns the details of an error by type, such as "ErrorInfo", and expects a status and a reason.
func failed(t *testing.T, got response, status int, reason string) map[string]object {
	t.Helper()
	var decoded struct {
		Details []object
		Error   struct{ Details []object } // of a stream
	}
	if err := json.Unmarshal([]byte(got.body), &decoded); err != nil {
		t.Fatalf("HTTP %d %s: %v", got.status, got.body, err)
	}
	details := map[string]object{}
	for _, detail := range append(decoded.Details, decoded.Error.Details...) {
		name, _ := detail["@type"].(string)
		details[name[strings.LastIndex(name, ".")+1:]] = detail
	}
	if got.status != status || details["ErrorInfo"]["reason"] != reason {
		t.Errorf("HTTP %d %s, and not %d %s", got.status, got.body, status, reason)
	}
	return details
}

// at returns a value in a JSON object by its path.
func at(value any, path ...string) any {
	for _, key := range path {
		fields, _ := value.(object)
		value = fields[key]
	}
	return value
}

// lines calls fn for each message of a stream until it returns false. It returns whether the stream ended by itself.
func lines(t *testing.T, method, url, body string, fn func(result any) bool) (ended bool) {
	t.Helper()
	got, err := send(method, url, body)
	if err != nil {
		t.Fatal(err)
	}
	defer got.Body.Close()
	if got.StatusCode != http.StatusOK {
		t.Fatalf("%s %s: %s", method, url, got.Status)
	}
	reader := bufio.NewScanner(got.Body)
	reader.Buffer(nil, 1<<20)
	for reader.Scan() {
		var message struct{ Result, Error any }
		if err := json.Unmarshal(reader.Bytes(), &message); err != nil || message.Error != nil {
			t.Fatalf("%s %s: %s %v", method, url, reader.Text(), err)
		}
		if !fn(message.Result) {
			return false
		}
	}
	if err := reader.Err(); err != nil {
		t.Fatalf("%s %s: %v", method, url, err)
	}
	return true
}

func email() string { return uuid.NewString() + "@example.com" }

func create(t *testing.T, base, email string) string {
	t.Helper()
	id, _ := ok(t, http.MethodPost, base+"/v1/leads", fmt.Sprintf(`{"lead": {"firstName": "Asha", "emailAddress": %q}}`, email))["leadId"].(string)
	return id
}

func TestALeadIsWrittenReadListedAndDeleted(t *testing.T) {
	t.Parallel()
	base := serve(t, plain.Address, insecure.NewCredentials())
	start := time.Now().Add(-time.Minute).UTC().Format(time.RFC3339)
	address := email()
	id := create(t, base, address)
	lead := base + "/v1/leads/" + id

	if rows := ok(t, http.MethodPatch, lead, `{"lead": {"city": "Pune", "lastName": "Rao"}}`)["affectedRows"]; rows != 1.0 {
		t.Errorf("%v rows", rows)
	}
	upserted := ok(t, http.MethodPost, base+"/v1/leads:upsert", fmt.Sprintf(`{"lead": {"emailAddress": %q, "company": "Acme"}}`, address))
	if upserted["leadId"] != id {
		t.Errorf("upserted %v, and not %s", upserted, id)
	}
	got := at(ok(t, http.MethodGet, lead+"?read_mask=lead_id,fields.city,fields.company", ""), "lead")
	if at(got, "leadId") != id || at(got, "fields", "city") != "Pune" || at(got, "fields", "company") != "Acme" || at(got, "fields", "lastName") != nil {
		t.Error(got)
	}
	got = ok(t, http.MethodPost, base+"/v1/leads:get", fmt.Sprintf(`{"emailAddress": %q, "readMask": "leadId,fields.lastName"}`, address))
	if at(got, "lead", "leadId") != id || at(got, "lead", "fields", "lastName") != "Rao" {
		t.Error(got)
	}
	contains := func(leads any) bool {
		list, _ := leads.([]any)
		for _, lead := range list {
			if at(lead, "leadId") == id {
				return true
			}
		}
		return false
	}
	if got := ok(t, http.MethodGet, base+"/v1/leads:listModified?pageSize=1000&read_mask=lead_id&start_time="+start, ""); !contains(got["leads"]) {
		t.Error(got)
	}
	exported := false
	ended := lines(t, http.MethodPost, base+"/v1/leads:export", fmt.Sprintf(`{"startTime": %q}`, start), func(part any) bool {
		exported = exported || contains(at(part, "leads"))
		return true
	})
	if !ended || !exported {
		t.Errorf("ended: %t, exported: %t", ended, exported)
	}
	failed(t, call(t, http.MethodDelete, lead, ""), http.StatusBadRequest, "UPSTREAM_FEATURE_DISABLED")
	call(t, http.MethodPatch, "http://"+plain.Simulator+"/_simulator/options", `{"delete_enabled": true}`)
	ok(t, http.MethodDelete, lead+"?request_id="+uuid.NewString(), "")
	failed(t, call(t, http.MethodGet, lead, ""), http.StatusNotFound, "LEAD_NOT_FOUND")
}

func TestErrorsHaveTheStatusOfTheirCodeAndTheirDetails(t *testing.T) {
	t.Parallel()
	base := serve(t, plain.Address, insecure.NewCredentials())
	address := email()
	id := create(t, base, address)

	failed(t, call(t, http.MethodPatch, base+"/v1/leads/"+unknownID, `{"lead": {"city": "Pune"}}`), http.StatusNotFound, "LEAD_NOT_FOUND")

	got := call(t, http.MethodPost, base+"/v1/leads", fmt.Sprintf(`{"lead": {"emailAddress": %q}}`, address))
	resource := failed(t, got, http.StatusConflict, "LEAD_DUPLICATE")["ResourceInfo"]
	if resource["resourceName"] != id || resource["description"] != "lead.email_address" {
		t.Error(resource)
	}

	got = call(t, http.MethodPost, base+"/v1/leads", `{"lead": {"emailAddress": "no address", "phone": "12"}}`)
	violations, _ := failed(t, got, http.StatusBadRequest, "INVALID_FIELD")["BadRequest"]["fieldViolations"].([]any)
	if len(violations) != 2 || at(violations[0], "field") != "lead.email_address" || at(violations[1], "field") != "lead.phone" {
		t.Error(violations)
	}
	if got := call(t, http.MethodGet, base+"/v1/shares?page_size=ten", ""); got.status != http.StatusBadRequest {
		t.Error(got)
	}
	// A stream that fails before its first message has a status, too.
	failed(t, call(t, http.MethodGet, base+"/v1/shares/"+unknownID+":watch", ""), http.StatusNotFound, "SHARE_NOT_FOUND")
}

func TestALeadIsSharedListedWatchedAndRevoked(t *testing.T) {
	t.Parallel()
	base := serve(t, plain.Address, insecure.NewCredentials())
	lead := create(t, base, email())
	user, _ := at(ok(t, http.MethodPost, base+"/v1/users:get", `{"emailAddress": "sam@simulator.example"}`), "user", "userId").(string)

	body := fmt.Sprintf(`{"leadId": %q, "userId": %q, "access": "ACCESS_READ", "duration": "1800s", "requestId": %q}`, lead, user, uuid.NewString())
	id, _ := at(ok(t, http.MethodPost, base+"/v1/shares:shareLead", body), "share", "shareId").(string)
	share := base + "/v1/shares/" + id
	lines(t, http.MethodGet, share+":watch", "", func(update any) bool {
		return at(update, "share", "state") != "SHARE_STATE_ACTIVE"
	})
	if got := ok(t, http.MethodGet, share, ""); at(got, "share", "leadId") != lead || at(got, "share", "state") != "SHARE_STATE_ACTIVE" {
		t.Error(got)
	}
	list := func(states string) int {
		shares, _ := ok(t, http.MethodGet, base+"/v1/shares?lead_id="+lead+states, "")["shares"].([]any)
		return len(shares)
	}
	if all, active, others := list(""), list("&states=SHARE_STATE_ACTIVE&states=SHARE_STATE_FAILED"), list("&states=SHARE_STATE_FAILED"); all != 1 || active != 1 || others != 0 {
		t.Errorf("listed %d, %d and %d shares", all, active, others)
	}
	if used := ok(t, http.MethodGet, base+"/v1/users/"+user+"/shareUsage", "")["used"]; used != 1.0 {
		t.Errorf("%v leads are shared", used)
	}
	if got := ok(t, http.MethodPost, share+":revoke", `{"waitFor": "WAIT_FOR_ACTIVE"}`); at(got, "share", "state") != "SHARE_STATE_REVOKED" {
		t.Error(got)
	}
	states := []any{}
	ended := lines(t, http.MethodGet, share+":watch", "", func(update any) bool {
		states = append(states, at(update, "share", "state"))
		return true
	})
	if !ended || len(states) != 1 || states[0] != "SHARE_STATE_REVOKED" {
		t.Errorf("ended: %t, %v", ended, states)
	}
}

func TestTheQuotaIsReadAndWatched(t *testing.T) {
	t.Parallel()
	base := serve(t, plain.Address, insecure.NewCredentials())
	if limit := at(ok(t, http.MethodGet, base+"/v1/quota", ""), "quota", "calls", "limit"); limit != 25.0 {
		t.Errorf("the limit is %v", limit)
	}
	messages := 0
	lines(t, http.MethodGet, base+"/v1/quota:watch?interval=0.1s", "", func(update any) bool {
		if at(update, "quota", "calls", "limit") != 25.0 {
			t.Error(update)
		}
		messages++
		return messages < 3
	})
	if messages != 3 {
		t.Errorf("%d messages", messages)
	}
	failed(t, call(t, http.MethodGet, base+"/v1/quota:watch?interval=0.001s", ""), http.StatusBadRequest, "INVALID_FIELD")
}

func TestACallThatTheQuotaCannotServeInTimeIsRateLimited(t *testing.T) {
	t.Parallel()
	own := leadgatetest.Start(t, leadgatetest.Options{})
	base := serve(t, own.Address, insecure.NewCredentials())
	// Reads of different activities are not merged: each needs one of the 25 calls in 5 seconds.
	responses := make(chan response)
	for range 60 {
		go func() {
			responses <- call(t, http.MethodGet, base+"/v1/activities/"+uuid.NewString(), "", "Grpc-Timeout", "2S")
		}()
	}
	limited := 0
	for range 60 {
		if got := <-responses; got.status == http.StatusTooManyRequests {
			limited++
			if delay, _ := failed(t, got, http.StatusTooManyRequests, "DEADLINE_INFEASIBLE")["RetryInfo"]["retryDelay"].(string); !strings.HasSuffix(delay, "s") {
				t.Error(got)
			}
		}
	}
	if limited < 10 {
		t.Errorf("%d of 60 calls were rate limited", limited)
	}
}

func TestMetadataOfLeadgateIsPassedIfConfigured(t *testing.T) {
	t.Parallel()
	configured := serve(t, plain.Address, insecure.NewCredentials())
	ok(t, http.MethodGet, configured+"/v1/quota", "", "x-leadgate-tenant", plain.Tenant, "x-leadgate-criticality", "critical", "x-leadgate-caller", "crm-sync")
	failed(t, call(t, http.MethodGet, configured+"/v1/quota", "", "x-leadgate-tenant", "unknown"), http.StatusForbidden, "CALLER_NOT_ALLOWED")
	got := call(t, http.MethodGet, configured+"/v1/quota", "", "x-leadgate-criticality", "highest")
	if details := failed(t, got, http.StatusBadRequest, "INVALID_FIELD"); !strings.Contains(got.body, "x-leadgate-criticality") {
		t.Error(details)
	}
	// By default, grpc-gateway passes them with a prefix only.
	byDefault := serve(t, plain.Address, insecure.NewCredentials(), runtime.WithIncomingHeaderMatcher(runtime.DefaultHeaderMatcher))
	ok(t, http.MethodGet, byDefault+"/v1/quota", "", "x-leadgate-tenant", "unknown")
	failed(t, call(t, http.MethodGet, byDefault+"/v1/quota", "", "Grpc-Metadata-x-leadgate-tenant", "unknown"), http.StatusForbidden, "CALLER_NOT_ALLOWED")
}

func TestTheCredentialOfTheHTTPRequestIsThatOfTheRPC(t *testing.T) {
	t.Parallel()
	secure := leadgatetest.Start(t, leadgatetest.Options{Secure: true})
	transport, err := credentials.NewClientTLSFromFile(secure.CAFile, "")
	if err != nil {
		t.Fatal(err)
	}
	base := serve(t, secure.Address, transport)
	ok(t, http.MethodGet, base+"/v1/quota", "", "Authorization", "Bearer "+secure.Token)
	failed(t, call(t, http.MethodGet, base+"/v1/quota", ""), http.StatusUnauthorized, "CALLER_UNKNOWN")
}
