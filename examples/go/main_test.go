package main

import (
	"bytes"
	"context"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"leadgate.example/go/leadgatetest"
)

func TestADuplicateWhoseLeadIsUnknown(t *testing.T) {
	gateway := leadgatetest.Start(t, leadgatetest.Options{})
	// The look-up for the error fails.
	fault := strings.NewReader(`{"on": "Leads.GetByEmailaddress", "what": "empty500"}`)
	response, err := http.Post("http://"+gateway.Simulator+"/_simulator/faults", "application/json", fault)
	if err != nil || response.StatusCode >= 300 {
		t.Fatal(response, err)
	}
	_ = response.Body.Close()
	var out bytes.Buffer
	service := signup{client: gateway.Client(t), out: &out, run: "unknown"}
	if _, err := service.register(context.Background()); err != nil || !strings.Contains(out.String(), "belongs to lead (unknown)") {
		t.Errorf("%v\n%s", err, out.String())
	}
}

func TestTheServiceWithTLSAndAToken(t *testing.T) {
	gateway := leadgatetest.Start(t, leadgatetest.Options{Secure: true})
	token := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(token, []byte(gateway.Token), 0o600); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	var out bytes.Buffer
	if err := run(ctx, []string{"-addr", gateway.Address, "-ca", gateway.CAFile, "-token-file", token}, &out); err != nil {
		t.Fatalf("%v\n%s", err, out.String())
	}
	const id = `[0-9a-f-]{36}`
	expected := regexp.MustCompile(`^created: lead (` + id + `)
duplicate: lead.email_address belongs to lead (` + id + `)
upserted: lead (` + id + `)
read: number \d+, Asha from Pune
import: row 3 failed: leadgate: InvalidArgument \(INVALID_FIELD\): .*email_address.*
imported: 2 rows written, 1 failed
shared with sam@simulator.example: share ` + id + `
(?:share: SHARE_STATE_[A-Z]+
)*active until \d{4}-\S+Z
revoked: SHARE_STATE_REVOKED
too early: \d+ of 40 reads failed with DEADLINE_INFEASIBLE, the last one with a retry time of [0-9.]+m?s
served after the retry time
$`)
	found := expected.FindStringSubmatch(out.String())
	if found == nil || found[1] != found[2] || found[1] != found[3] {
		t.Errorf("the output is\n%s", out.String())
	}
	if err := run(ctx, []string{"-addr", gateway.Address, "-ca", gateway.CAFile}, &out); err == nil {
		t.Error("it works without a token")
	}
}
