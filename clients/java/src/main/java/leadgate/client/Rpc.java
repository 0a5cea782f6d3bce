package leadgate.client;

import com.google.protobuf.Descriptors.Descriptor;
import com.google.protobuf.Descriptors.FieldDescriptor;
import com.google.protobuf.Message;
import io.grpc.MethodDescriptor;
import io.grpc.Status.Code;
import io.grpc.protobuf.ProtoMethodDescriptorSupplier;
import java.nio.channels.ClosedChannelException;
import java.security.GeneralSecurityException;
import java.security.SecureRandom;
import java.time.Duration;
import java.util.EnumSet;
import java.util.Set;
import java.util.UUID;
import java.util.concurrent.ThreadLocalRandom;
import java.util.regex.Pattern;
import javax.net.ssl.SSLException;
import leadgate.v1.ErrorReason;
import leadgate.v1.ImportLeadsRequest;

/**
 * What the layer knows about an RPC, and the rules of retries.
 *
 * @param kind the kind
 * @param repeatable whether it may be repeated after any error: it is a read, or an import, whose rows have request ids
 * @param hasRequestId whether the request has a request id
 */
record Rpc(CallKind kind, boolean repeatable, boolean hasRequestId) {
    private static final SecureRandom RANDOM = new SecureRandom();
    private static final Pattern REPEATABLE =
            Pattern.compile("(Get|List|Search|QuickSearch|BatchGet|Describe|Watch|Export|Import)[A-Z].*");
    /** The least time for an attempt. With less, the error says more than the DEADLINE_EXCEEDED of another attempt. */
    private static final Duration SHORTEST_ATTEMPT = Duration.ofMillis(100);
    /** Shorter pauses grow from one repetition to the next one. */
    private static final Duration SHORTEST_PAUSE = Duration.ofMillis(50);
    /** The default of the server setting {@code server.max_deadline}. */
    private static final Duration LONGEST_ATTEMPT = Duration.ofSeconds(60);
    /** With these reasons, nothing was sent to LeadSquared. */
    private static final Set<ErrorReason> NOTHING_SENT = EnumSet.of(
            ErrorReason.DEADLINE_INFEASIBLE,
            ErrorReason.CALLER_LIMIT,
            ErrorReason.QUEUE_FULL,
            ErrorReason.DAILY_BUDGET_EXHAUSTED,
            ErrorReason.UPSTREAM_UNAVAILABLE,
            ErrorReason.SHUTTING_DOWN,
            ErrorReason.TENANT_PAUSED,
            ErrorReason.AUDIT_UNAVAILABLE,
            ErrorReason.STORE_UNAVAILABLE);

    static Rpc of(MethodDescriptor<?, ?> method) {
        boolean unary = method.getType() == MethodDescriptor.MethodType.UNARY;
        if (!(method.getSchemaDescriptor() instanceof ProtoMethodDescriptorSupplier schema)
                || !method.getFullMethodName().startsWith("leadgate.v1.")) {
            return new Rpc(unary ? CallKind.UNARY : CallKind.WATCH, false, false);
        }
        String name = schema.getMethodDescriptor().getName();
        Descriptor request = schema.getMethodDescriptor().getInputType();
        CallKind kind = CallKind.UNARY;
        if (!unary) {
            kind = name.startsWith("Watch") ? CallKind.WATCH : CallKind.STREAM;
        } else if (name.startsWith("Batch")) {
            kind = CallKind.BATCH;
        } else if (request.findFieldByName("wait_for") != null) {
            kind = CallKind.SHARE;
        }
        return new Rpc(kind, REPEATABLE.matcher(name).matches(), request.findFieldByName("request_id") != null);
    }

    /**
     * Returns the time to wait before the next attempt, or null if there is none.
     *
     * @param repetitions the number of consecutive attempts that failed before this one
     * @param given the time until the deadline when the attempt started
     * @param remaining the time until the deadline now
     */
    Duration delay(LeadgateException error, int repetitions, Duration given, Duration remaining) {
        Duration backoff = jitter(Duration.ofMillis(Math.min(2_000, 50L << Math.min(repetitions, 6))), 0.5);
        Duration delay = backoff;
        if (connectionLost(error)) {
            if (!(repeatable || hasRequestId)) {
                return null;
            }
        } else {
            switch (error.code()) {
                case RESOURCE_EXHAUSTED, UNAVAILABLE, ABORTED -> { }
                default -> {
                    return null;
                }
            }
            boolean safe = repeatable || error.retrySameRequestId().orElse(NOTHING_SENT.contains(error.reason()));
            if (!safe || error.retryAfter().isEmpty()) {
                return null;
            }
            delay = error.retryAfter().get();
            boolean atOnce = error.code() == Code.UNAVAILABLE || delay.compareTo(SHORTEST_PAUSE) < 0;
            if (repetitions > 0 && delay.compareTo(backoff) < 0 && atOnce) {
                delay = backoff;
            }
        }
        Duration needed = delay.plus(SHORTEST_ATTEMPT);
        if (error.reason() == ErrorReason.DEADLINE_INFEASIBLE || error.reason() == ErrorReason.CALLER_LIMIT) {
            // The time of RetryInfo is right for an attempt with the same timeout, not with a shorter one.
            needed = needed.plus(given.compareTo(LONGEST_ATTEMPT) < 0 ? given : LONGEST_ATTEMPT);
        }
        return needed.compareTo(remaining) < 0 ? jitter(delay, 0.05) : null;
    }

    /** Whether the error is one of the connection or of a proxy that may end. */
    static boolean connectionLost(LeadgateException error) {
        // Netty reports a connection that is closed during a write as UNKNOWN.
        boolean lost = error.code() == Code.UNAVAILABLE;
        for (Throwable cause = error.getCause(); cause != null; cause = cause.getCause()) {
            lost |= error.code() == Code.UNKNOWN && cause instanceof ClosedChannelException;
        }
        return lost && error.reasonText().isEmpty() && error.retryAfter().isEmpty() && tlsProblem(error.getCause()) == null;
    }

    /** Returns why the settings of the connection do not fit the gateway, or null. */
    static String tlsProblem(Throwable error) {
        for (Throwable cause = error; cause != null; cause = cause.getCause()) {
            String text = String.valueOf(cause.getMessage());
            if (cause instanceof GeneralSecurityException) {
                return "the certificate of the gateway is not valid for this client, see caFile(..) and the address: " + text;
            }
            // The texts of Netty and of the JDK.
            if (cause instanceof SSLException && text.matches("(not an SSL/TLS record|Unsupported or unrecognized SSL message).*")) {
                return "the gateway has no TLS at this address, see plaintext(): " + text;
            }
            // The first bytes of a TLS alert.
            if (text.contains("First received frame was not SETTINGS. Hex dump for first 5 bytes: 1503")) {
                return "the gateway has TLS at this address, see plaintext(): " + text;
            }
        }
        return null;
    }

    /** Returns a copy with a new request id if the message has an empty one, and otherwise the message itself. */
    static <T> T withRequestId(T message) {
        if (!(message instanceof Message original)) {
            return message;
        }
        Message result = original;
        FieldDescriptor id = idField(original);
        if (id != null && original.getField(id).equals("")) {
            result = original.toBuilder().setField(id, newRequestId().toString()).build();
        } else if (original instanceof ImportLeadsRequest row && operation(row) != null) {
            FieldDescriptor operation = operation(row);
            result = row.toBuilder().setField(operation, withRequestId(row.getField(operation))).build();
        }
        @SuppressWarnings("unchecked")
        T typed = (T) result;
        return typed;
    }

    /** Returns the request id of a message, or an empty text. */
    static String requestId(Object message) {
        if (message instanceof ImportLeadsRequest row && operation(row) != null) {
            return requestId(row.getField(operation(row)));
        }
        FieldDescriptor id = message instanceof Message typed ? idField(typed) : null;
        return id == null ? "" : (String) ((Message) message).getField(id);
    }

    private static FieldDescriptor operation(ImportLeadsRequest row) {
        return row.getOneofFieldDescriptor(row.getDescriptorForType().getOneofs().get(0));
    }

    private static FieldDescriptor idField(Message message) {
        return message.getDescriptorForType().findFieldByName("request_id");
    }

    /** A UUID of version 7 (RFC 9562): 48 bits of the time in milliseconds, and 74 random bits. */
    static UUID newRequestId() {
        long time = System.currentTimeMillis() << 16;
        return new UUID(time | 0x7000 | RANDOM.nextInt(0x1000), RANDOM.nextLong() >>> 2 | 1L << 63);
    }

    private static Duration jitter(Duration time, double part) {
        return time.plusNanos((long) (time.toNanos() * part * ThreadLocalRandom.current().nextDouble()));
    }
}
