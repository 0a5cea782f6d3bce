package leadgate.client;

import com.google.protobuf.Any;
import com.google.protobuf.InvalidProtocolBufferException;
import com.google.protobuf.Message;
import com.google.rpc.BadRequest;
import com.google.rpc.ErrorInfo;
import com.google.rpc.RequestInfo;
import com.google.rpc.ResourceInfo;
import com.google.rpc.RetryInfo;
import io.grpc.Metadata;
import io.grpc.Status;
import io.grpc.StatusException;
import io.grpc.StatusRuntimeException;
import io.grpc.protobuf.StatusProto;
import java.time.Duration;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import leadgate.v1.ErrorReason;

/**
 * A failed call. The blocking stubs of {@link LeadgateClient} and the streams of this package throw it. For errors of the other stubs,
 * use {@link #from(Throwable)}.
 */
public final class LeadgateException extends StatusRuntimeException {
    private static final long serialVersionUID = 1;
    /** The limit of google.protobuf.Duration. */
    private static final long MAX_SECONDS = 315_576_000_000L;

    private final transient List<Any> details;
    private final transient ErrorInfo info;
    private final String requestId;

    private LeadgateException(Status status, Metadata trailers, List<Any> details, String requestId) {
        super(status, trailers);
        this.details = details;
        this.info = detail(ErrorInfo.getDefaultInstance())
                .filter(info -> info.getDomain().equals("leadgate"))
                .orElse(ErrorInfo.getDefaultInstance());
        this.requestId = requestId;
    }

    /**
     * Converts an error of any stub.
     *
     * @param error an error of an async stub, the {@code ExecutionException} of a future stub, or any other throwable
     * @return the error of the call; with the code UNKNOWN if the throwable is not the error of a call
     */
    public static LeadgateException from(Throwable error) {
        for (Throwable cause = error; cause != null; cause = cause.getCause()) {
            if (cause instanceof LeadgateException known) {
                return known;
            }
        }
        return of(Status.fromThrowable(error), Status.trailersFromThrowable(error), "");
    }

    /**
     * Converts the error of a result of a batch call, or a failure of a share.
     *
     * @param error the status in the response
     * @return the error
     */
    public static LeadgateException from(com.google.rpc.Status error) {
        return of(error, "");
    }

    static LeadgateException of(com.google.rpc.Status error, String requestId) {
        // An unknown code is UNKNOWN.
        int code = Status.fromCodeValue(error.getCode()).getCode().value();
        StatusException status = StatusProto.toStatusException(error.toBuilder().setCode(code).build());
        return new LeadgateException(status.getStatus(), status.getTrailers(), error.getDetailsList(), requestId);
    }

    static LeadgateException of(Status status, Metadata trailers, String requestId) {
        List<Any> details = List.of();
        try {
            com.google.rpc.Status decoded = StatusProto.fromStatusAndTrailers(status, trailers);
            details = decoded.getDetailsList();
        } catch (IllegalArgumentException unreadable) {
            // The details do not belong to the status, or are damaged: the status itself is still readable.
        }
        return new LeadgateException(status, trailers, details, requestId);
    }

    /** {@return the gRPC status code} */
    public Status.Code code() {
        return getStatus().getCode();
    }

    /** {@return the reason; ERROR_REASON_UNSPECIFIED if the error is not one of leadgate, or its reason is newer than this package} */
    public ErrorReason reason() {
        try {
            return reasonText().isEmpty() ? ErrorReason.ERROR_REASON_UNSPECIFIED : ErrorReason.valueOf(reasonText());
        } catch (IllegalArgumentException unknown) {
            return ErrorReason.ERROR_REASON_UNSPECIFIED;
        }
    }

    /** {@return the reason as it was received, or an empty text if the error does not come from leadgate} */
    public String reasonText() {
        return info.getReason();
    }

    /** {@return the domain of the reason: "leadgate", or an empty text if the error does not come from leadgate} */
    public String domain() {
        return info.getDomain();
    }

    /** {@return the metadata of the error, such as {@code exception_type} and {@code upstream_status}} */
    public Map<String, String> metadata() {
        return info.getMetadataMap();
    }

    /** {@return the invalid fields of the request} */
    public List<BadRequest.FieldViolation> violations() {
        return detail(BadRequest.getDefaultInstance()).map(BadRequest::getFieldViolationsList).orElse(List.of());
    }

    /** {@return the time after which the call may be repeated, not negative} */
    public Optional<Duration> retryAfter() {
        return detail(RetryInfo.getDefaultInstance())
                .map(RetryInfo::getRetryDelay)
                .map(delay -> Duration.ofSeconds(
                        Math.max(0, Math.min(delay.getSeconds(), MAX_SECONDS)), Math.max(0, delay.getNanos())));
    }

    /** {@return whether the same request id should be sent again; empty if the error does not say it} */
    public Optional<Boolean> retrySameRequestId() {
        return Optional.ofNullable(metadata().get("retry_same_request_id")).map(Boolean::parseBoolean);
    }

    /** {@return the resource that the error is about, such as the other lead of LEAD_DUPLICATE} */
    public Optional<ResourceInfo> resource() {
        return detail(ResourceInfo.getDefaultInstance());
    }

    /** {@return the {@code request_id} that was sent, with which the mutation can be repeated; empty for a read} */
    public String requestId() {
        return requestId;
    }

    /** {@return the {@code x-request-id} of the call in the logs of leadgate, or an empty text} */
    public String rpcId() {
        return detail(RequestInfo.getDefaultInstance()).map(RequestInfo::getRequestId).orElse("");
    }

    /** {@return all details, including those of unknown types} */
    public List<Any> details() {
        return details;
    }

    @Override
    public String getMessage() {
        String reason = info == null || reasonText().isEmpty() ? "" : " (" + reasonText() + ")";
        if (Rpc.tlsProblem(getCause()) != null) {
            return getStatus().getCode() + ": " + Rpc.tlsProblem(getCause());
        }
        String text = getStatus().getDescription() == null ? "" : ": " + getStatus().getDescription();
        // Without a reason, the error is one of the connection, and its cause says more.
        String cause = reason.isEmpty() && getCause() != null ? " (" + getCause() + ")" : "";
        return getStatus().getCode() + reason + text + cause;
    }

    private <T extends Message> Optional<T> detail(T type) {
        for (Any detail : details) {
            if (detail.getTypeUrl().endsWith("/" + type.getDescriptorForType().getFullName())) {
                try {
                    @SuppressWarnings("unchecked")
                    T parsed = (T) type.getParserForType().parseFrom(detail.getValue());
                    return Optional.of(parsed);
                } catch (InvalidProtocolBufferException damaged) {
                    return Optional.empty();
                }
            }
        }
        return Optional.empty();
    }
}
