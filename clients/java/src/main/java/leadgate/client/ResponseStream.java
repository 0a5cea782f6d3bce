package leadgate.client;

import io.grpc.CallOptions;
import io.grpc.ClientCall;
import io.grpc.MethodDescriptor;
import java.util.function.BiFunction;

/**
 * The responses of ExportLeads, WatchShare, WatchQuota or RevokeShares.
 *
 * @param <Q> the request
 * @param <R> the response
 */
public final class ResponseStream<Q, R> extends ReconnectingStream<Q, R, R> {
    private final BiFunction<Q, R, Q> resume;
    private Q request;

    ResponseStream(
            LeadgateClient client,
            MethodDescriptor<Q, R> method,
            CallOptions options,
            Q request,
            BiFunction<Q, R, Q> resume) {
        super(client, method, options);
        this.request = request;
        this.resume = resume;
    }

    /** {@return the request that continues after the last response that was read; it can be stored and used later} */
    public Q resumeRequest() {
        return request;
    }

    @Override
    void opened(ClientCall<Q, R> call) {
        call.sendMessage(request);
        call.halfClose();
    }

    @Override
    R received(R response) {
        if (resume != null) {
            request = resume.apply(request, response);
        }
        return response;
    }

    @Override
    boolean mayReopen() {
        return resume != null;
    }
}
