package leadgate.client;

import io.grpc.CallOptions;
import io.grpc.ClientCall;
import io.grpc.Status;
import java.util.ArrayDeque;
import java.util.Iterator;
import java.util.LinkedHashMap;
import java.util.Map;
import java.util.Objects;
import java.util.Optional;
import java.util.Queue;
import leadgate.v1.ErrorReason;
import leadgate.v1.ImportLeadsRequest;
import leadgate.v1.ImportLeadsResponse;
import leadgate.v1.LeadServiceGrpc;

/**
 * The results of an import, in any order. Rows are taken from the source on the thread that reads the results, and only as fast as the
 * server accepts them. When the stream is opened again, the rows without a result are sent again with the same request ids.
 */
public final class ImportStream extends ReconnectingStream<ImportLeadsRequest, ImportLeadsResponse, ImportStream.Result> {
    /** The maximum number of rows without a result. */
    private static final int WINDOW = 2_000;

    private final Iterator<ImportLeadsRequest> rows;
    private final Map<Long, ImportLeadsRequest> unanswered = new LinkedHashMap<>();
    private final Queue<Long> repeated = new ArrayDeque<>();
    private long sent;
    private long failed;
    private boolean halfClosed;

    ImportStream(LeadgateClient client, CallOptions options, Iterator<ImportLeadsRequest> rows) {
        super(client, LeadServiceGrpc.getImportLeadsMethod(), options);
        this.rows = rows;
    }

    /**
     * The result of a row.
     *
     * @param row the row, with the request id that was sent
     * @param response the response
     */
    public record Result(ImportLeadsRequest row, ImportLeadsResponse response) {
        /** {@return the error, or empty if the row was written} */
        public Optional<LeadgateException> error() {
            return response.hasError()
                    ? Optional.of(LeadgateException.of(response.getError(), Rpc.requestId(row)))
                    : Optional.empty();
        }
    }

    /** {@return the number of rows that were sent} */
    public long sent() {
        return sent;
    }

    /** {@return the number of rows that were written} */
    public long succeeded() {
        return sent - failed - unanswered.size();
    }

    /** {@return the number of rows that failed} */
    public long failed() {
        return failed;
    }

    @Override
    void opened(ClientCall<ImportLeadsRequest, ImportLeadsResponse> call) {
        halfClosed = false;
        repeated.clear();
        repeated.addAll(unanswered.keySet());
    }

    @Override
    void send(ClientCall<ImportLeadsRequest, ImportLeadsResponse> call, Events events) {
        while (!halfClosed && events.isEmpty() && call.isReady()) {
            Long number = repeated.poll();
            if (number == null && unanswered.size() >= WINDOW) {
                return;
            }
            if (number == null && !rows.hasNext()) {
                halfClosed = true;
                call.halfClose();
                return;
            }
            if (number == null) {
                ImportLeadsRequest next = Objects.requireNonNull(rows.next(), "a row is null");
                number = sent++;
                unanswered.put(number, Rpc.withRequestId(next));
            }
            // The sequence of the caller need not be unique. That of the layer is.
            ImportLeadsRequest row = unanswered.get(number);
            if (row != null) {
                call.sendMessage(row.toBuilder().setSequence(number).build());
            }
        }
    }

    /** A row that a gateway did not send because it ends has no result yet. */
    @Override
    LeadgateException interruption(ImportLeadsResponse response) {
        LeadgateException error = response.hasError() ? LeadgateException.from(response.getError()) : null;
        return error != null && error.reason() == ErrorReason.SHUTTING_DOWN ? error : null;
    }

    @Override
    Result received(ImportLeadsResponse response) {
        ImportLeadsRequest row = unanswered.remove(response.getSequence());
        if (row == null) {
            return null;
        }
        failed += response.hasError() ? 1 : 0;
        return new Result(row, response.toBuilder().setSequence(row.getSequence()).build());
    }

    @Override
    Status incomplete() {
        return unanswered.isEmpty() && !rows.hasNext()
                ? null
                : Status.UNAVAILABLE.withDescription("the import ended before " + unanswered.size() + " rows had a result");
    }

    @Override
    boolean mayReopen() {
        return true;
    }
}
