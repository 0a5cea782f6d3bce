package leadgate_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"io"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	leadgate "leadgate.example/go"
	"leadgate.example/go/leadgatev1"
)

func quota(t *testing.T, client *leadgate.Client, timeout time.Duration) error {
	t.Helper()
	_, err := client.Quota.GetQuota(ctx(t, timeout), &leadgatev1.GetQuotaRequest{})
	return err
}

func TestEachKindOfCredentialIsAcceptedOverTLS(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "key")
	if err := os.WriteFile(file, []byte(shared.Token+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, credential := range map[string]leadgate.Option{
		"API key":     leadgate.WithToken(shared.APIKey),
		"token":       leadgate.WithToken(shared.Token),
		"file":        leadgate.WithTokenFile(file),
		"function":    leadgate.WithTokenFunc(func(context.Context) (string, error) { return shared.Token, nil }),
		"certificate": leadgate.WithClientCertificate(shared.CertFile, shared.KeyFile),
	} {
		if err := quota(t, dial(t, shared.Address, leadgate.WithCA(shared.CAFile), credential), time.Minute); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	for name, opts := range map[string][]leadgate.Option{
		"no credential":   {leadgate.WithCA(shared.CAFile)},
		"a wrong token":   {leadgate.WithCA(shared.CAFile), leadgate.WithToken("wrong")},
		"an empty token":  {leadgate.WithCA(shared.CAFile), leadgate.WithToken("")},
		"a failing token": {leadgate.WithCA(shared.CAFile), leadgate.WithTokenFunc(func(context.Context) (string, error) { return "", errors.New("no token") })},
	} {
		if err := quota(t, dial(t, shared.Address, opts...), time.Minute); status.Code(err) != codes.Unauthenticated {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestACertificateOfAnUnknownAuthorityIsRefused(t *testing.T) {
	t.Parallel()
	client := dial(t, shared.Address, leadgate.WithToken(shared.Token))
	start := time.Now()
	check := func(err error) {
		t.Helper()
		if status.Code(err) != codes.Unavailable || !strings.Contains(err.Error(), "unknown authority") || !strings.Contains(err.Error(), "WithCA") {
			t.Error(err)
		}
	}
	check(quota(t, client, time.Minute))
	for _, err := range client.Export(ctx(t, time.Minute), &leadgatev1.ExportLeadsRequest{}) {
		check(err)
	}
	for _, err := range client.Import(ctx(t, time.Minute), rows(1, new(atomic.Int32))) {
		check(err)
	}
	if took := time.Since(start); took > 30*time.Second {
		t.Errorf("the calls were repeated: %s", took)
	}
}

func TestOptionsThatDoNotFitTheGatewayAreNamed(t *testing.T) {
	t.Parallel()
	plaintext := serve(t, "")
	for _, test := range []struct {
		client  *leadgate.Client
		timeout time.Duration
		text    string
	}{
		{dial(t, shared.Address, leadgate.WithCA(shared.CAFile), leadgate.WithDialOptions(grpc.WithAuthority("elsewhere.example"))), time.Minute, "WithCA and the address"},
		{dial(t, plaintext.address), time.Minute, "no TLS at this address, see WithInsecure"},
		{dial(t, shared.Address, leadgate.WithInsecure()), time.Second, "may have TLS at this address, see WithInsecure"},
	} {
		start := time.Now()
		if err := quota(t, test.client, test.timeout); status.Code(err) != codes.Unavailable || !strings.Contains(err.Error(), test.text) {
			t.Error(err)
		}
		if took := time.Since(start); took > 20*time.Second {
			t.Errorf("%s: the call was repeated: %s", test.text, took)
		}
	}
}

func TestAnInvalidTokenIsNotSent(t *testing.T) {
	t.Parallel()
	for _, token := range []string{"two words", "two\nlines", "t\u00f6ken", " "} {
		invalid := leadgate.WithTokenFunc(func(context.Context) (string, error) { return token, nil })
		err := quota(t, dial(t, shared.Address, leadgate.WithCA(shared.CAFile), invalid), time.Second)
		if status.Code(err) != codes.Unauthenticated || !strings.Contains(err.Error(), "the token is empty, or has") {
			t.Errorf("%q: %v", token, err)
		}
	}
	line := leadgate.WithTokenFunc(func(context.Context) (string, error) { return shared.Token + "\n", nil })
	if err := quota(t, dial(t, shared.Address, leadgate.WithCA(shared.CAFile), line), time.Minute); err != nil {
		t.Error(err)
	}
}

func TestATokenIsNeverSentOverPlaintext(t *testing.T) {
	t.Parallel()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	var mutex sync.Mutex
	var received bytes.Buffer
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				// The settings of an HTTP/2 server, so that a client in plaintext goes on.
				_, _ = conn.Write([]byte{0, 0, 0, 4, 0, 0, 0, 0, 0})
				buffer := make([]byte, 4096)
				for {
					n, err := conn.Read(buffer)
					mutex.Lock()
					received.Write(buffer[:n])
					mutex.Unlock()
					if err != nil {
						return
					}
				}
			}()
		}
	}()
	contents := func() []byte {
		mutex.Lock()
		defer mutex.Unlock()
		return bytes.Clone(received.Bytes())
	}
	// Calls until the server has received what it should, or for half a minute. No call succeeds.
	callUntil := func(client *leadgate.Client, part string) []byte {
		for end := time.Now().Add(30 * time.Second); ; {
			if err := quota(t, client, 500*time.Millisecond); err == nil {
				t.Error("a call succeeded")
			}
			if got := contents(); len(got) > 0 && bytes.Contains(got, []byte(part)) || time.Now().After(end) {
				return got
			}
		}
	}
	secret := strings.Repeat("!", 40) // HPACK does not compress this character
	token := leadgate.WithToken(secret)
	if got := callUntil(dial(t, listener.Addr().String(), token), ""); len(got) == 0 || bytes.Contains(got, []byte("PRI * HTTP/2")) || bytes.Contains(got, []byte(secret)) {
		t.Errorf("sent %q", got)
	}
	// With another transport in plaintext, gRPC refuses the credentials.
	_, err = leadgate.Dial(listener.Addr().String(), token, leadgate.WithDialOptions(grpc.WithTransportCredentials(insecure.NewCredentials())))
	if err == nil || !strings.Contains(err.Error(), "transport level security") {
		t.Error(err)
	}
	// Only if it is asked for by name.
	insecurely := dial(t, listener.Addr().String(), token, leadgate.WithInsecure())
	if got := callUntil(insecurely, "Bearer "+secret); !bytes.Contains(got, []byte("Bearer "+secret)) {
		t.Errorf("WithInsecure did not send plaintext: %q", got)
	}
}

func TestATokenFileIsReadAgain(t *testing.T) {
	t.Parallel()
	var got []string
	f := &fake{get: func(ctx context.Context, _ *leadgatev1.GetLeadRequest) (*leadgatev1.GetLeadResponse, error) {
		md, _ := metadata.FromIncomingContext(ctx)
		got = append(got, md.Get("authorization")...)
		return &leadgatev1.GetLeadResponse{}, nil
	}}
	file := filepath.Join(t.TempDir(), "token")
	client := f.start(t, leadgate.WithTokenFile(file))
	call := func() error {
		_, err := client.Leads.GetLead(ctx(t, time.Minute), &leadgatev1.GetLeadRequest{})
		return err
	}
	if err := call(); status.Code(err) != codes.Unauthenticated || !strings.Contains(err.Error(), "token file") {
		t.Errorf("without the file: %v", err)
	}
	for _, content := range []string{"first\n", "second", "", "third"} {
		if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := call(); err != nil {
			t.Fatal(err)
		}
	}
	if want := "Bearer first,Bearer second,Bearer second,Bearer third"; strings.Join(got, ",") != want {
		t.Errorf("sent %q", got)
	}
}

func TestAClientCertificateIsReadAgainForEachConnection(t *testing.T) {
	t.Parallel()
	directory := t.TempDir()
	cert, key := filepath.Join(directory, "tls.crt"), filepath.Join(directory, "tls.key")
	replace := func(certPEM, keyPEM []byte) {
		for path, text := range map[string][]byte{cert: certPEM, key: keyPEM} {
			if err := os.WriteFile(path, text, 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	replace(selfSigned(t))
	client := dial(t, shared.Address, leadgate.WithCA(shared.CAFile), leadgate.WithClientCertificate(cert, key))
	if err := quota(t, client, 500*time.Millisecond); err == nil {
		t.Error("a certificate of another authority was accepted")
	}
	var pair [2][]byte
	for n, path := range []string{shared.CertFile, shared.KeyFile} {
		var err error
		if pair[n], err = os.ReadFile(path); err != nil {
			t.Fatal(err)
		}
	}
	replace(pair[0], pair[1])
	if err := quota(t, client, time.Minute); err != nil {
		t.Error(err)
	}
}

func selfSigned(t *testing.T) (cert, key []byte) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, private.Public(), private)
	if err != nil {
		t.Fatal(err)
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8})
}

func TestWrongOptionsAreErrorsOfDial(t *testing.T) {
	t.Parallel()
	empty := filepath.Join(t.TempDir(), "empty")
	if err := os.WriteFile(empty, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for name, opts := range map[string][]leadgate.Option{
		"excludes":           {leadgate.WithInsecure(), leadgate.WithCA(shared.CAFile)},
		"no such file":       {leadgate.WithCA(empty + ".missing")},
		"has no PEM":         {leadgate.WithCA(empty)},
		"client certificate": {leadgate.WithClientCertificate(empty, empty)},
	} {
		if _, err := leadgate.Dial("localhost:1", opts...); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: %v", name, err)
		}
	}
	client := dial(t, "localhost:1")
	if err := client.Close(); err != nil {
		t.Error(err)
	}
	if _, err := client.Leads.GetLead(ctx(t, time.Minute), &leadgatev1.GetLeadRequest{}); status.Code(err) != codes.Canceled {
		t.Errorf("after Close: %v", err)
	}
}

var _ io.Closer = (*leadgate.Client)(nil)
