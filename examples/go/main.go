// Command signup is a small service as a team would write it with leadgate's client package: it creates leads, imports leads,
// and shares a lead with a sales user.
package main

import (
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	leadgate "leadgate.example/go"
	"leadgate.example/go/leadgatev1"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:], os.Stdout); err != nil {
		if !errors.Is(err, flag.ErrHelp) {
			fmt.Fprintln(os.Stderr, err)
		}
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string, out io.Writer) error {
	flags := flag.NewFlagSet("signup", flag.ContinueOnError)
	addr := flags.String("addr", "127.0.0.1:50051", "address of the gateway")
	ca := flags.String("ca", "", "file of the certificate authorities; those of the system if empty")
	tokenFile := flags.String("token-file", "", "file of the token; the variable LEADGATE_TOKEN if empty")
	plaintext := flags.Bool("insecure", false, "no TLS")
	tenant := flags.String("tenant", "", "account; needed if the caller may use more than one")
	user := flags.String("user", "sam@simulator.example", "email address of the sales user")
	if err := flags.Parse(args); err != nil {
		return err
	}

	opts := []leadgate.Option{leadgate.WithTenant(*tenant), leadgate.WithCaller("signup"), leadgate.WithToken(os.Getenv("LEADGATE_TOKEN"))}
	if *tokenFile != "" {
		opts = append(opts, leadgate.WithTokenFile(*tokenFile))
	}
	if *ca != "" {
		opts = append(opts, leadgate.WithCA(*ca))
	}
	if *plaintext {
		opts = append(opts, leadgate.WithInsecure())
	}
	client, err := leadgate.Dial(*addr, opts...)
	if err != nil {
		return err
	}
	defer client.Close()

	service := signup{client: client, out: out, run: fmt.Sprint(time.Now().UnixNano())}
	id, err := service.register(ctx)
	if err != nil {
		return err
	}
	for _, step := range []func() error{
		func() error { return service.change(ctx, id) },
		func() error { return service.importLeads(ctx) },
		func() error { return service.share(ctx, id, *user) },
		func() error { return service.hurry(ctx) },
	} {
		if err := step(); err != nil {
			return err
		}
	}
	return nil
}

type signup struct {
	client *leadgate.Client
	out    io.Writer
	run    string // makes the email addresses of this run unique
}

func (s *signup) print(format string, values ...any) { fmt.Fprintf(s.out, format+"\n", values...) }

func (s *signup) email(name string) string { return name + "." + s.run + "@example.com" }

// register creates a lead. A second registration finds the lead of the first one.
func (s *signup) register(ctx context.Context) (string, error) {
	request := &leadgatev1.CreateLeadRequest{Lead: &leadgatev1.LeadFields{
		FirstName:    proto.String("Asha"),
		EmailAddress: proto.String(s.email("asha")),
	}}
	created, err := s.client.Leads.CreateLead(ctx, request)
	if err != nil {
		return "", fmt.Errorf("register: %w", err)
	}
	s.print("created: lead %s", created.GetLeadId())

	// The request has no request_id, so this is another registration and not a retry of the first one.
	_, err = s.client.Leads.CreateLead(ctx, request)
	var e *leadgate.Error
	switch {
	case errors.As(err, &e) && e.Reason == leadgatev1.ErrorReason_LEAD_DUPLICATE:
		// leadgate does not always know the other lead.
		s.print("duplicate: %s belongs to lead %s", e.Resource.GetDescription(), cmp.Or(e.Resource.GetResourceName(), "(unknown)"))
	case err != nil:
		return "", fmt.Errorf("register again: %w", err)
	default:
		s.print("created a second lead: this account does not require unique email addresses")
	}
	return created.GetLeadId(), nil
}

// change updates the lead by its email address, and reads it.
func (s *signup) change(ctx context.Context, id string) error {
	upserted, err := s.client.Leads.UpsertLead(ctx, &leadgatev1.UpsertLeadRequest{Lead: &leadgatev1.LeadFields{
		EmailAddress: proto.String(s.email("asha")),
		City:         proto.String("Pune"),
	}})
	if err != nil {
		return fmt.Errorf("upsert: %w", err)
	}
	s.print("upserted: lead %s", upserted.GetLeadId())

	read, err := s.client.Leads.GetLead(ctx, &leadgatev1.GetLeadRequest{Key: &leadgatev1.GetLeadRequest_LeadId{LeadId: id}})
	if err != nil {
		return fmt.Errorf("read: %w", err)
	}
	fields := read.GetLead().GetFields()
	s.print("read: number %s, %s from %s", read.GetLead().GetLeadNumber(), fields.GetFirstName(), fields.GetCity())
	return nil
}

// importLeads writes a stream of leads. One of them is invalid.
func (s *signup) importLeads(ctx context.Context) error {
	rows := func(yield func(*leadgatev1.ImportLeadsRequest) bool) {
		for n, email := range []string{s.email("ben"), s.email("chitra"), "nobody"} {
			upsert := &leadgatev1.UpsertLeadRequest{Lead: &leadgatev1.LeadFields{EmailAddress: proto.String(email)}}
			if !yield(&leadgatev1.ImportLeadsRequest{Sequence: int64(n + 1), Operation: &leadgatev1.ImportLeadsRequest_Upsert{Upsert: upsert}}) {
				return
			}
		}
	}
	written, failed := 0, 0
	for result, err := range s.client.Import(ctx, rows) {
		if err != nil {
			return fmt.Errorf("import: %w", err)
		}
		if result.Err != nil {
			failed++
			s.print("import: row %d failed: %v", result.Row.GetSequence(), result.Err)
			continue
		}
		written++
	}
	s.print("imported: %d rows written, %d failed", written, failed)
	return nil
}

// share gives a sales user access to the lead, waits until the user has it, and revokes it.
func (s *signup) share(ctx context.Context, id, user string) error {
	shared, err := s.client.Shares.ShareLead(ctx, &leadgatev1.ShareLeadRequest{
		Lead:     &leadgatev1.ShareLeadRequest_LeadId{LeadId: id},
		User:     &leadgatev1.ShareLeadRequest_UserEmailAddress{UserEmailAddress: user},
		Access:   leadgatev1.Access_ACCESS_READ,
		Duration: durationpb.New(30 * time.Minute),
	})
	if err != nil {
		return fmt.Errorf("share: %w", err)
	}
	share := shared.GetShare()
	s.print("shared with %s: share %s", user, share.GetShareId())

	// A watch has no deadline of its own.
	watching, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	watch, err := s.client.Shares.WatchShare(watching, &leadgatev1.WatchShareRequest{ShareId: share.GetShareId()})
	if err != nil {
		return fmt.Errorf("watch: %w", err)
	}
	for share.GetState() != leadgatev1.ShareState_SHARE_STATE_ACTIVE {
		update, err := watch.Recv()
		if err != nil {
			return fmt.Errorf("watch: %w", err)
		}
		share = update.GetShare()
		s.print("share: %s", share.GetState())
		if share.GetState() == leadgatev1.ShareState_SHARE_STATE_FAILED {
			return fmt.Errorf("share: %w", leadgate.FromProto(share.GetFailure()))
		}
	}
	s.print("active until %s", share.GetExpireTime().AsTime().Format(time.RFC3339))

	revoked, err := s.client.Shares.RevokeShare(ctx, &leadgatev1.RevokeShareRequest{
		Share:   &leadgatev1.RevokeShareRequest_ShareId{ShareId: share.GetShareId()},
		WaitFor: leadgatev1.WaitFor_WAIT_FOR_ACTIVE,
	})
	if err != nil {
		return fmt.Errorf("revoke: %w", err)
	}
	s.print("revoked: %s", revoked.GetShare().GetState())
	return nil
}

// hurry reads with a deadline that the quota cannot serve. Such a call fails at once, and its error has the time after which a
// call with the same timeout is served.
func (s *signup) hurry(ctx context.Context) error {
	const calls, timeout = 40, time.Second
	read := func(n int) error {
		short, cancel := context.WithTimeout(ctx, timeout)
		defer cancel()
		request := &leadgatev1.GetLeadRequest{Key: &leadgatev1.GetLeadRequest_EmailAddress{EmailAddress: s.email(fmt.Sprint("unknown", n))}}
		_, err := s.client.Leads.GetLead(short, request, leadgate.WithCriticality(leadgatev1.Criticality_CRITICALITY_SHEDDABLE))
		if leadgate.Reason(err) == leadgatev1.ErrorReason_LEAD_NOT_FOUND {
			return nil // it was served
		}
		return err
	}
	errs := make(chan error, calls)
	for n := range calls {
		go func() { errs <- read(n) }()
	}
	var refused *leadgate.Error
	count := 0
	for range calls {
		var e *leadgate.Error
		if err := <-errs; errors.As(err, &e) && e.Reason == leadgatev1.ErrorReason_DEADLINE_INFEASIBLE {
			refused = e
			count++
		} else if err != nil {
			return fmt.Errorf("read: %w", err)
		}
	}
	if refused == nil {
		s.print("%d reads at once were served in %s", calls, timeout)
		return nil
	}
	s.print("too early: %d of %d reads failed with %s, the last one with a retry time of %s",
		count, calls, refused.ReasonText, refused.RetryAfter.Round(time.Millisecond))
	select {
	case <-time.After(refused.RetryAfter):
	case <-ctx.Done():
		return ctx.Err()
	}
	if err := read(calls); err != nil {
		return fmt.Errorf("read after the retry time: %w", err)
	}
	s.print("served after the retry time")
	return nil
}
