package leadgate

import (
	"context"
	"io"
	"iter"
	"maps"
	"slices"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"leadgate.example/go/leadgatev1"
)

// importWindow is the maximum number of rows without a result. It is below the gateway's own limit (batching.import_window).
const importWindow = 1000

// ImportResult is the result of one row of [Client.Import].
type ImportResult struct {
	// Row is the row with its request_id. Import it again if Err says so.
	Row *leadgatev1.ImportLeadsRequest
	// Lead is the written lead, or nil if the row failed.
	Lead *leadgatev1.ImportedLead
	// Err is nil if the row was written.
	Err *Error
}

// Import writes rows and yields one result per row, in any order. The error is not nil if the import itself ends early: it is
// the last value. Rows are taken only while less than 1,000 rows are without a result, so a slow loop slows rows down.
//
// If the connection is lost or the gateway restarts, Import opens a new stream and sends the rows without a result again, with
// the same request ids: each row has one effect. It ends with an error at the deadline. A row that fails is not sent again.
//
// rows runs in a goroutine of its own. The loop waits for it to return, also after a break: then rows gets false from its yield
// at the next row. The sequence of a row may have any value.
func (c *Client) Import(ctx context.Context, rows iter.Seq[*leadgatev1.ImportLeadsRequest], opts ...grpc.CallOption) iter.Seq2[ImportResult, error] {
	return func(yield func(ImportResult, error) bool) {
		ctx, cancel := withDefaultTimeout(ctx, c.config.call.with(opts).timeouts.Stream)
		i := importing{
			rows:   make(chan *leadgatev1.ImportLeadsRequest),
			window: make(chan struct{}, importWindow),
			sent:   map[int64]*leadgatev1.ImportLeadsRequest{},
		}
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			i.read(ctx, rows)
		}()
		defer func() {
			cancel()
			<-ended
		}()
		for attempt := 1; ; attempt++ {
			progress, proceed, err := i.run(ctx, c.Leads, opts, yield)
			if !proceed {
				return
			}
			if progress {
				attempt = 1
			}
			if err := err.resume(ctx, attempt, progress); err != nil {
				yield(ImportResult{}, err)
				return
			}
		}
	}
}

// importing is the state of an import over all of its streams.
type importing struct {
	rows   chan *leadgatev1.ImportLeadsRequest
	window chan struct{} // has one element for each row without a result

	mutex sync.Mutex
	sent  map[int64]*leadgatev1.ImportLeadsRequest // rows without a result, by the sequence of the stream
	last  int64                                    // the last sequence
	all   bool                                     // whether all rows were read
}

func (i *importing) read(ctx context.Context, rows iter.Seq[*leadgatev1.ImportLeadsRequest]) {
	for row := range rows {
		select {
		case i.window <- struct{}{}:
		case <-ctx.Done():
			return
		}
		row, _ = withRequestID(row)
		select {
		case i.rows <- row:
		case <-ctx.Done():
			return
		}
	}
	close(i.rows) // only after the last row: an import that was cancelled is not complete
}

// run imports over one stream. It returns whether there was a result, and an error, or proceed = false after the end of the loop.
func (i *importing) run(ctx context.Context, leads leadgatev1.LeadServiceClient, opts []grpc.CallOption, yield func(ImportResult, error) bool) (progress, proceed bool, _ *Error) {
	ctx, cancel := context.WithCancel(ctx)
	stream, err := leads.ImportLeads(ctx, opts...)
	if err != nil {
		cancel()
		return false, true, AsError(err)
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		i.send(ctx, stream)
	}()
	defer func() {
		cancel()
		<-ended
	}()
	for {
		response, err := stream.Recv()
		if err == io.EOF {
			if i.complete() {
				return progress, false, nil
			}
			err = status.Error(codes.Internal, "the stream ended before all rows had a result")
		}
		if err != nil {
			return progress, true, AsError(err)
		}
		failure := FromProto(response.GetError())
		if failure != nil && failure.Reason == leadgatev1.ErrorReason_SHUTTING_DOWN {
			return progress, true, failure // the row was not sent to LeadSquared: it has no result yet
		}
		row, ok := i.take(response.GetSequence())
		if !ok {
			continue
		}
		<-i.window
		progress = true
		if !yield(ImportResult{row, response.GetResponse(), failure}, nil) {
			return progress, false, nil
		}
	}
}

// send sends the rows of earlier streams that have no result, and then the following rows.
func (i *importing) send(ctx context.Context, stream grpc.BidiStreamingClient[leadgatev1.ImportLeadsRequest, leadgatev1.ImportLeadsResponse]) {
	i.mutex.Lock()
	again := slices.Sorted(maps.Keys(i.sent))
	i.mutex.Unlock()
	for _, sequence := range again {
		i.mutex.Lock()
		row := i.sent[sequence]
		i.mutex.Unlock()
		if stream.Send(numbered(row, sequence)) != nil {
			return
		}
	}
	for {
		select {
		case row, ok := <-i.rows:
			i.mutex.Lock()
			if !ok {
				i.all = true
				i.mutex.Unlock()
				_ = stream.CloseSend()
				return
			}
			i.last++
			sequence := i.last
			i.sent[sequence] = row
			i.mutex.Unlock()
			if stream.Send(numbered(row, sequence)) != nil {
				return // Recv returns the error
			}
		case <-ctx.Done():
			return
		}
	}
}

func numbered(row *leadgatev1.ImportLeadsRequest, sequence int64) *leadgatev1.ImportLeadsRequest {
	return &leadgatev1.ImportLeadsRequest{Sequence: sequence, Operation: row.GetOperation()}
}

func (i *importing) take(sequence int64) (*leadgatev1.ImportLeadsRequest, bool) {
	i.mutex.Lock()
	defer i.mutex.Unlock()
	row, ok := i.sent[sequence]
	delete(i.sent, sequence)
	return row, ok
}

func (i *importing) complete() bool {
	i.mutex.Lock()
	defer i.mutex.Unlock()
	return i.all && len(i.sent) == 0
}

// resume waits until a stream may be opened again, or returns an error. A stream also ends when its token expires: if it worked
// before, the next one has a new token.
func (e *Error) resume(ctx context.Context, attempt int, progress bool) *Error {
	if e.mayRepeat(true, true) || progress && e.Code == codes.Unauthenticated {
		return e.pause(ctx, time.Now(), attempt)
	}
	return e
}

// Export yields the leads that were modified in a time range, in parts. An error is the last value. A slow loop slows the gateway
// down. If the connection is lost or the gateway restarts, Export continues, and yields each lead once. To continue in another process,
// send the resume_token of the last part in the request: then some leads of that part and of earlier ones may come again.
func (c *Client) Export(ctx context.Context, request *leadgatev1.ExportLeadsRequest, opts ...grpc.CallOption) iter.Seq2[*leadgatev1.ExportLeadsResponse, error] {
	return func(yield func(*leadgatev1.ExportLeadsResponse, error) bool) {
		ctx, cancel := withDefaultTimeout(ctx, c.config.call.with(opts).timeouts.Stream)
		defer cancel()
		request := proto.Clone(request).(*leadgatev1.ExportLeadsRequest)
		// The leads since the token has changed. Several parts may have the same token, and their leads are then sent again.
		yielded := map[string]bool{}
		for attempt := 1; ; attempt++ {
			progress := false
			stream, err := c.Leads.ExportLeads(ctx, request, opts...)
			for err == nil {
				var part *leadgatev1.ExportLeadsResponse
				if part, err = stream.Recv(); err != nil {
					break
				}
				progress, attempt = true, 1
				sent := len(part.GetLeads())
				part.Leads = slices.DeleteFunc(part.Leads, func(lead *leadgatev1.Lead) bool { return yielded[lead.GetLeadId()] })
				if part.GetResumeToken() != request.GetResumeToken() {
					clear(yielded)
					request.ResumeToken = part.GetResumeToken()
				}
				for _, lead := range part.GetLeads() {
					yielded[lead.GetLeadId()] = true
				}
				if nothingNew := sent > 0 && len(part.GetLeads()) == 0; nothingNew && len(part.GetUnreadable()) == 0 {
					continue
				}
				if !yield(part, nil) {
					return
				}
			}
			if err == io.EOF {
				return
			}
			if err := AsError(err).resume(ctx, attempt, progress); err != nil {
				yield(nil, err)
				return
			}
		}
	}
}
