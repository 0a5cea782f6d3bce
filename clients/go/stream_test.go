package leadgate_test

import (
	"context"
	"fmt"
	"io"
	"iter"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	leadgate "leadgate.example/go"
	"leadgate.example/go/leadgatev1"
)

type row = leadgatev1.ImportLeadsRequest

// rows yields n upserts, and counts those that were taken.
func rows(n int, taken *atomic.Int32) iter.Seq[*row] {
	return func(yield func(*row) bool) {
		for range n {
			taken.Add(1)
			upsert := &leadgatev1.UpsertLeadRequest{Lead: newLead()}
			if !yield(&row{Sequence: 7, Operation: &leadgatev1.ImportLeadsRequest_Upsert{Upsert: upsert}}) {
				return
			}
		}
	}
}

func imported(r *row) *leadgatev1.ImportLeadsResponse {
	return &leadgatev1.ImportLeadsResponse{
		Sequence: r.GetSequence(),
		Result:   &leadgatev1.ImportLeadsResponse_Response{Response: &leadgatev1.ImportedLead{LeadId: r.GetUpsert().GetLead().GetEmailAddress()}},
	}
}

func TestAnImportYieldsAResultForEachRow(t *testing.T) {
	t.Parallel()
	p := serve(t, bulk(1000), "--calls", "1000", "--bulk", "1000", "--per", "1s")
	client := dial(t, p.address, leadgate.WithInsecure())
	source := func(yield func(*row) bool) {
		for n, email := range []string{"one@example.com", "two@example.com", "nobody", "three@example.com"} {
			upsert := &leadgatev1.UpsertLeadRequest{Lead: &leadgatev1.LeadFields{EmailAddress: proto.String(email)}}
			if !yield(&row{Sequence: int64(n), Operation: &leadgatev1.ImportLeadsRequest_Upsert{Upsert: upsert}}) {
				return
			}
		}
	}
	sequences := []int64{}
	for result, err := range client.Import(context.Background(), source) {
		if err != nil {
			t.Fatal(err)
		}
		sequences = append(sequences, result.Row.GetSequence())
		if invalid := result.Row.GetUpsert().GetLead().GetEmailAddress() == "nobody"; invalid {
			if result.Err == nil || result.Err.Reason != leadgatev1.ErrorReason_INVALID_FIELD || len(result.Err.Violations) == 0 || result.Lead != nil {
				t.Errorf("%+v", result)
			}
		} else if result.Err != nil || result.Lead.GetLeadId() == "" || result.Row.GetUpsert().GetRequestId() == "" {
			t.Errorf("%+v", result)
		}
	}
	slices.Sort(sequences)
	if !slices.Equal(sequences, []int64{0, 1, 2, 3}) {
		t.Errorf("results of %v", sequences)
	}
}

func bulk(n int) string {
	return fmt.Sprintf("tenants.sim.limits = { calls = 1000, bulk = %d, window = \"1s\" }", n)
}

func TestManySmallRowsDoNotEndOtherCalls(t *testing.T) {
	t.Parallel()
	p := serve(t, bulk(1000)+"\ntenants.sim.batching.upserts = true", "--calls", "1000", "--bulk", "1000", "--per", "1s")
	client := dial(t, p.address, leadgate.WithInsecure())
	var taken atomic.Int32
	const n = 5000
	results := 0
	for result, err := range client.Import(ctx(t, 2*time.Minute), rows(n, &taken)) {
		if err != nil || result.Err != nil {
			t.Fatal(err, result.Err)
		}
		if results++; results%500 == 0 {
			if err := quota(t, client, time.Minute); err != nil {
				t.Error(err)
			}
		}
	}
	if results != n {
		t.Errorf("%d results", results)
	}
}

func TestAnImportSendsRowsWithoutAResultAgain(t *testing.T) {
	t.Parallel()
	const n = 60
	var mutex sync.Mutex
	streams, executed, ids := 0, map[string]string{}, map[string]int{}
	f := &fake{importLeads: func(s leadgatev1.LeadService_ImportLeadsServer) error {
		mutex.Lock()
		streams++
		stream := streams
		mutex.Unlock()
		for count := 1; ; count++ {
			r, err := s.Recv()
			if err == io.EOF {
				return nil
			}
			if err != nil {
				return err
			}
			id, email := r.GetUpsert().GetRequestId(), r.GetUpsert().GetLead().GetEmailAddress()
			mutex.Lock()
			if former, ok := executed[email]; ok && former != id {
				t.Errorf("%s was sent again with another id", email)
			}
			executed[email] = id
			ids[id]++
			mutex.Unlock()
			// In the fourth stream, one response is that of a gateway that ends.
			if stream == 4 && count == 10 {
				ending := status.Convert(failure(codes.Unavailable, "SHUTTING_DOWN", 0, nil)).Proto()
				_ = s.Send(&leadgatev1.ImportLeadsResponse{Sequence: r.GetSequence(), Result: &leadgatev1.ImportLeadsResponse_Error{Error: ending}})
				continue
			}
			// Every third row of the first three streams has no response before the stream ends.
			if stream <= 3 && count%3 == 0 {
				continue
			}
			if stream <= 3 && count == 20 {
				return []error{
					status.Error(codes.Unavailable, "lost"),
					failure(codes.Unavailable, "SHUTTING_DOWN", 0, nil),
					failure(codes.Unauthenticated, "CALLER_UNKNOWN", -1, nil),
				}[stream-1]
			}
			if err := s.Send(imported(r)); err != nil {
				return err
			}
		}
	}}
	var taken atomic.Int32
	results := map[string]bool{}
	for result, err := range f.start(t).Import(ctx(t, time.Minute), rows(n, &taken)) {
		if err != nil || result.Err != nil {
			t.Fatal(err, result.Err)
		}
		if email := result.Row.GetUpsert().GetLead().GetEmailAddress(); result.Lead.GetLeadId() != email || result.Row.GetSequence() != 7 {
			t.Errorf("the result of %s is %v", email, result)
		} else if results[email] {
			t.Errorf("two results of %s", email)
		} else {
			results[email] = true
		}
	}
	if streams != 5 || len(results) != n || len(executed) != n || len(ids) != n || taken.Load() != n {
		t.Errorf("%d streams, %d results, %d rows, %d ids, %d taken", streams, len(results), len(executed), len(ids), taken.Load())
	}
}

func TestAnImportTakesRowsOnlyAsFastAsResultsAreRead(t *testing.T) {
	t.Parallel()
	f := &fake{importLeads: func(s leadgatev1.LeadService_ImportLeadsServer) error {
		for {
			r, err := s.Recv()
			if err != nil {
				return nil
			}
			if err := s.Send(imported(r)); err != nil {
				return err
			}
		}
	}}
	client := f.start(t)
	c := ctx(t, time.Minute)
	var taken atomic.Int32
	results, most := int32(0), int32(0)
	for _, err := range client.Import(c, rows(20_000, &taken)) {
		if err != nil {
			t.Fatal(err)
		}
		results++
		if results == 1 {
			// The loop does not go on until the rows have stopped.
			for before := int32(0); c.Err() == nil && (taken.Load() < 1000 || before != taken.Load()); time.Sleep(50 * time.Millisecond) {
				before = taken.Load()
			}
		}
		if most = max(most, taken.Load()-results); results == 5000 {
			break
		}
	}
	if most > 1001 || most < 900 {
		t.Errorf("%d rows were taken before their turn", most)
	}
	after := taken.Load()
	if after > 5000+1001 {
		t.Errorf("%d rows were taken", after)
	}
}

func TestAnEmptyRowHasAResult(t *testing.T) {
	t.Parallel()
	source := func(yield func(*row) bool) {
		_ = yield(nil) && yield(&row{Operation: &leadgatev1.ImportLeadsRequest_Upsert{}})
	}
	results := 0
	for result, err := range shared.Client(t).Import(ctx(t, time.Minute), source) {
		if results++; err != nil || result.Err == nil || result.Err.Reason != leadgatev1.ErrorReason_INVALID_FIELD {
			t.Error(err, result)
		}
	}
	if results != 2 {
		t.Errorf("%d results", results)
	}
}

func TestAnErrorEndsAnImport(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		err  error
		code codes.Code
	}{
		"not allowed":           {failure(codes.PermissionDenied, "CALLER_NOT_ALLOWED", -1, nil), codes.PermissionDenied},
		"no valid token":        {failure(codes.Unauthenticated, "CALLER_UNKNOWN", -1, nil), codes.Unauthenticated},
		"not before a deadline": {failure(codes.Unavailable, "STORE_UNAVAILABLE", time.Hour, nil), codes.Unavailable},
		"results are missing":   {nil, codes.Internal},
	} {
		var streams atomic.Int32
		f := &fake{importLeads: func(leadgatev1.LeadService_ImportLeadsServer) error {
			streams.Add(1)
			return test.err
		}}
		var taken atomic.Int32
		var last error
		values := 0
		for _, err := range f.start(t).Import(ctx(t, time.Minute), rows(10, &taken)) {
			last = err
			values++
		}
		if leadgate.AsError(last) == nil || status.Code(last) != test.code || values != 1 || streams.Load() != 1 {
			t.Errorf("%s: %v, %d values, %d streams", name, last, values, streams.Load())
		}
	}
}

func TestAnExportContinuesAndYieldsEachLeadOnce(t *testing.T) {
	t.Parallel()
	var tokens []string
	f := &fake{export: func(r *leadgatev1.ExportLeadsRequest, s leadgatev1.LeadService_ExportLeadsServer) error {
		tokens = append(tokens, r.GetResumeToken())
		page := 0
		_, _ = fmt.Sscanf(r.GetResumeToken(), "page-%d", &page)
		for ; page < 4; page++ {
			for lead := range 5 {
				// Only the last part of a page has the token of the next page.
				part := &leadgatev1.ExportLeadsResponse{ResumeToken: fmt.Sprintf("page-%d", page+lead/4)}
				part.Leads = []*leadgatev1.Lead{{LeadId: fmt.Sprint(page, lead)}}
				if err := s.Send(part); err != nil {
					return err
				}
				switch {
				case page == 0 && lead == 2 && len(tokens) == 1, page == 2 && lead == 0 && len(tokens) == 2:
					return status.Error(codes.Unavailable, "lost")
				case page == 2 && lead == 4 && len(tokens) == 3:
					return failure(codes.ResourceExhausted, "QUEUE_FULL", 20*time.Millisecond, nil)
				}
			}
		}
		return nil
	}}
	request := &leadgatev1.ExportLeadsRequest{StartTime: timestamppb.Now()}
	var got, want []string
	for part, err := range f.start(t).Export(ctx(t, time.Minute), request) {
		if err != nil {
			t.Fatal(err)
		}
		if len(part.GetLeads()) != 1 {
			t.Fatalf("a part without a new lead: %v", part)
		}
		got = append(got, part.GetLeads()[0].GetLeadId())
	}
	for page := range 4 {
		for lead := range 5 {
			want = append(want, fmt.Sprint(page, lead))
		}
	}
	if !slices.Equal(got, want) || strings.Join(tokens, ",") != ",page-0,page-2,page-3" || request.GetResumeToken() != "" {
		t.Errorf("%q with the tokens %q", got, tokens)
	}
}

func TestAnExportEndsWithAnErrorThatNoRetryHelps(t *testing.T) {
	t.Parallel()
	f := &fake{export: func(*leadgatev1.ExportLeadsRequest, leadgatev1.LeadService_ExportLeadsServer) error {
		return failure(codes.InvalidArgument, "INVALID_FIELD", -1, nil)
	}}
	var got []error
	for part, err := range f.start(t).Export(ctx(t, time.Minute), &leadgatev1.ExportLeadsRequest{}) {
		if part != nil {
			t.Error(part)
		}
		got = append(got, err)
	}
	if len(got) != 1 || leadgate.Reason(got[0]) != leadgatev1.ErrorReason_INVALID_FIELD {
		t.Error(got)
	}
}

func TestAnExportReadsOnlyAsFastAsTheLoop(t *testing.T) {
	t.Parallel()
	var sent atomic.Int32
	stopped := make(chan struct{})
	f := &fake{export: func(_ *leadgatev1.ExportLeadsRequest, s leadgatev1.LeadService_ExportLeadsServer) error {
		defer close(stopped)
		part := &leadgatev1.ExportLeadsResponse{ResumeToken: strings.Repeat("x", 100_000)}
		for range 10_000 {
			if err := s.Send(part); err != nil {
				return err
			}
			sent.Add(1)
		}
		return nil
	}}
	for _, err := range f.start(t).Export(ctx(t, time.Minute), &leadgatev1.ExportLeadsRequest{}) {
		if err != nil {
			t.Fatal(err)
		}
		for before := int32(-1); before != sent.Load(); time.Sleep(50 * time.Millisecond) {
			before = sent.Load()
		}
		break
	}
	<-stopped // the break has ended the stream
	if n := sent.Load(); n > 200 {
		t.Errorf("%d parts of 100 kB were sent to a loop that read one", n)
	}
}

func TestAnImportAndAnExportSurviveKills(t *testing.T) {
	t.Parallel()
	p := serve(t, bulk(1000)+"\ntenants.sim.batching.upserts = true", "--calls", "1000", "--bulk", "1000", "--per", "1s", "--latency", "20ms")
	client := dial(t, p.address, leadgate.WithInsecure())
	start := timestamppb.New(time.Now().Add(-time.Hour))
	const n = 3000
	var taken atomic.Int32
	results := 0
	for result, err := range client.Import(ctx(t, 2*time.Minute), rows(n, &taken)) {
		if err != nil || result.Err != nil {
			t.Fatal(err, result.Err)
		}
		if results++; results == 500 || results == 1500 {
			p.kill(t)
			p.start(t)
		}
	}
	var leads []map[string]any
	control(t, p.simulator, "GET", "leads", "", &leads)
	if results != n || len(leads) != n {
		t.Errorf("%d results, %d leads", results, len(leads))
	}
	ids, parts, twice := map[string]bool{}, 0, 0
	for part, err := range client.Export(ctx(t, 2*time.Minute), &leadgatev1.ExportLeadsRequest{StartTime: start, EndTime: timestamppb.New(time.Now().Add(time.Hour))}) {
		if err != nil {
			t.Fatal(err)
		}
		for _, lead := range part.GetLeads() {
			if ids[lead.GetLeadId()] {
				twice++
			}
			ids[lead.GetLeadId()] = true
		}
		if parts++; parts == 1 {
			p.kill(t)
			p.start(t)
		}
	}
	if len(ids) != n || twice > 0 {
		t.Errorf("%d leads were exported, %d of them twice", len(ids), twice)
	}
}
