package leadgate.client;

import io.grpc.Attributes;
import io.grpc.CallCredentials;
import io.grpc.CallOptions;
import io.grpc.Channel;
import io.grpc.ClientCall;
import io.grpc.ClientInterceptor;
import io.grpc.Context;
import io.grpc.Contexts;
import io.grpc.Deadline;
import io.grpc.ForwardingClientCall.SimpleForwardingClientCall;
import io.grpc.ManagedChannel;
import io.grpc.Metadata;
import io.grpc.MethodDescriptor;
import io.grpc.Status;
import java.time.Duration;
import java.util.Map;
import java.util.Objects;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.Executor;
import java.util.concurrent.ForkJoinPool;
import java.util.concurrent.TimeUnit;

/** Adds metadata, credentials, deadlines and request ids to all calls, and repeats unary calls. */
final class CallLayer implements ClientInterceptor {
    /** Set for the blocking stubs: the call runs on the calling thread and throws LeadgateException. */
    static final CallOptions.Key<Boolean> BLOCKING = CallOptions.Key.createWithDefault("leadgate-blocking", false);

    private static final Duration FOREVER = Duration.ofDays(365);

    private final Map<String, Rpc> rpcs = new ConcurrentHashMap<>();
    private final Map<CallOptions.Key<String>, Metadata.Key<String>> headers;
    private final CallOptions defaults;
    private final Map<CallKind, Duration> deadlines;
    private final CallCredentials credentials;
    private final Channel channel;

    CallLayer(CallOptions defaults, Map<CallKind, Duration> deadlines, CallCredentials credentials, Channel channel) {
        this.defaults = defaults;
        this.deadlines = deadlines;
        this.credentials = credentials;
        this.channel = channel;
        this.headers = Map.of(
                LeadgateClient.TENANT, key("x-leadgate-tenant"),
                LeadgateClient.CALLER, key("x-leadgate-caller"));
    }

    private static Metadata.Key<String> key(String name) {
        return Metadata.Key.of(name, Metadata.ASCII_STRING_MARSHALLER);
    }

    Rpc rpc(MethodDescriptor<?, ?> method) {
        return rpcs.computeIfAbsent(method.getFullMethodName(), name -> Rpc.of(method));
    }

    /** Sets the default deadline, if the call has no deadline. */
    CallOptions withDeadline(CallOptions options, Rpc rpc) {
        Duration deadline = deadlines.get(rpc.kind());
        return options.getDeadline() != null || deadline == null
                ? options
                : options.withDeadlineAfter(TimeUnit.NANOSECONDS.convert(deadline), TimeUnit.NANOSECONDS);
    }

    /** The time until the deadline of a call. */
    static Duration remaining(CallOptions options) {
        Deadline deadline = options.getDeadline();
        Deadline context = Context.current().getDeadline();
        if (deadline == null || context != null && context.isBefore(deadline)) {
            deadline = context;
        }
        return deadline == null ? FOREVER : Duration.ofNanos(deadline.timeRemaining(TimeUnit.NANOSECONDS));
    }

    /** Whether calls end because the channel was shut down. */
    boolean closed() {
        return channel instanceof ManagedChannel managed && managed.isShutdown();
    }

    /** Runs a task after a time. If the connection was lost, it is made again at once, without the growing pauses of gRPC. */
    void repeatAfter(Duration delay, LeadgateException error, Executor executor, Runnable task) {
        CompletableFuture.delayedExecutor(delay.toNanos(), TimeUnit.NANOSECONDS, executor).execute(() -> {
            if (Rpc.connectionLost(error) && channel instanceof ManagedChannel managed) {
                managed.resetConnectBackoff();
            }
            task.run();
        });
    }

    @Override
    public <Q, R> ClientCall<Q, R> interceptCall(MethodDescriptor<Q, R> method, CallOptions options, Channel next) {
        Rpc rpc = rpc(method);
        CallOptions complete = withDeadline(options, rpc);
        if (complete.getCredentials() == null && credentials != null) {
            complete = complete.withCallCredentials(credentials);
        }
        return method.getType() == MethodDescriptor.MethodType.UNARY
                ? new UnaryCall<>(rpc, method, complete, next)
                : new SimpleForwardingClientCall<>(next.newCall(method, complete)) {
                    @Override
                    public void start(Listener<R> listener, Metadata metadata) {
                        addTo(metadata, options);
                        super.start(listener, metadata);
                    }

                    @Override
                    public void sendMessage(Q message) {
                        super.sendMessage(Rpc.withRequestId(message));
                    }
                };
    }

    private void addTo(Metadata metadata, CallOptions options) {
        headers.forEach((option, header) -> add(metadata, header, value(options, option)));
        Criticality criticality = value(options, LeadgateClient.CRITICALITY);
        add(metadata, key("x-leadgate-criticality"), criticality == null ? null : criticality.header());
    }

    private <T> T value(CallOptions options, CallOptions.Key<T> key) {
        return options.getOption(key) != null ? options.getOption(key) : defaults.getOption(key);
    }

    private static void add(Metadata metadata, Metadata.Key<String> header, String value) {
        if (value == null || metadata.containsKey(header)) {
            return;
        }
        // gRPC would send the call without the header.
        if (!value.matches("[ -~]*")) {
            throw LeadgateException.of(
                    Status.INVALID_ARGUMENT.withDescription(header.name() + " has characters other than printable ASCII"), null, "");
        }
        metadata.put(header, value);
    }

    /** A unary call of one or more attempts. */
    private final class UnaryCall<Q, R> extends ClientCall<Q, R> {
        private final Rpc rpc;
        private final MethodDescriptor<Q, R> method;
        private final CallOptions options;
        private final Channel next;
        private final Context context = Context.current();
        private final Context.CancellationListener whenCancelled = this::contextCancelled;
        private final Events events;
        private Listener<R> listener;
        private Metadata metadata;
        private Q message;
        private boolean compressed;

        /** The attempt in progress; null while the call waits for the next attempt. */
        private ClientCall<Q, R> attempt;
        private int attempts;
        private Status cancelled;
        private boolean closed;
        private LeadgateException error;

        UnaryCall(Rpc rpc, MethodDescriptor<Q, R> method, CallOptions options, Channel next) {
            this.rpc = rpc;
            this.method = method;
            this.next = next;
            this.events = options.getOption(BLOCKING) ? new Events() : null;
            this.options = events == null ? options : options.withExecutor(events);
        }

        @Override
        public void start(Listener<R> listener, Metadata metadata) {
            this.listener = listener;
            this.metadata = metadata;
            addTo(metadata, options);
            context.addListener(whenCancelled, Runnable::run);
        }

        @Override
        public void request(int messages) {}

        @Override
        public void setMessageCompression(boolean enabled) {
            compressed = enabled;
        }

        @Override
        public synchronized Attributes getAttributes() {
            return attempt == null ? Attributes.EMPTY : attempt.getAttributes();
        }

        @Override
        public void sendMessage(Q message) {
            this.message = Rpc.withRequestId(Objects.requireNonNull(message, "the request is null"));
        }

        @Override
        public void halfClose() {
            runAttempt();
            if (events == null) {
                return;
            }
            // The generated blocking stubs rethrow what this method throws.
            try {
                while (!closed) {
                    events.runNext();
                }
            } catch (LeadgateException interrupted) {
                cancel("interrupted", null);
                throw LeadgateException.of(interrupted.getStatus(), null, Rpc.requestId(message));
            }
            if (error != null) {
                throw error;
            }
        }

        @Override
        public void cancel(String text, Throwable cause) {
            end(Status.CANCELLED.withDescription(text).withCause(cause));
        }

        /** Ends the wait for the next attempt. The context itself cancels an attempt in progress. */
        private void contextCancelled(Context context) {
            synchronized (this) {
                if (attempt != null) {
                    return;
                }
            }
            end(Contexts.statusFromCancelled(context));
        }

        private void end(Status status) {
            ClientCall<Q, R> running;
            synchronized (this) {
                if (cancelled != null) {
                    return;
                }
                cancelled = status;
                running = attempt;
            }
            if (running != null) {
                running.cancel(status.getDescription(), status.getCause());
            } else if (listener != null) {
                executor().execute(() -> close(cancelled, new Metadata()));
            }
        }

        private Executor executor() {
            return options.getExecutor() != null ? options.getExecutor() : ForkJoinPool.commonPool();
        }

        private void runAttempt() {
            try {
                synchronized (this) {
                    if (cancelled != null) {
                        return;
                    }
                    // With a direct executor, start() may run the listener, which ends the attempt.
                    ClientCall<Q, R> started = next.newCall(method, options);
                    attempt = started;
                    Metadata copy = new Metadata();
                    copy.merge(metadata);
                    started.start(new AttemptListener(remaining(options)), copy);
                    started.request(2);
                    started.setMessageCompression(compressed);
                    started.sendMessage(message);
                    started.halfClose();
                }
            } catch (RuntimeException failed) {
                close(Status.fromThrowable(failed), new Metadata());
            }
        }

        private synchronized boolean mayRetry() {
            attempt = null;
            attempts++;
            return cancelled == null;
        }

        private void close(Status status, Metadata trailers) {
            synchronized (this) {
                if (closed) {
                    return;
                }
                closed = true;
            }
            context.removeListener(whenCancelled);
            if (status.isOk()) {
                listener.onClose(status, trailers);
                return;
            }
            error = LeadgateException.of(status, trailers, Rpc.requestId(message));
            if (events == null) {
                listener.onClose(status.withCause(error), trailers);
            }
        }

        private final class AttemptListener extends Listener<R> {
            private final Duration given;
            private Metadata headers;
            private R response;

            AttemptListener(Duration given) {
                this.given = given;
            }

            @Override
            public void onHeaders(Metadata received) {
                headers = received;
            }

            @Override
            public void onMessage(R received) {
                response = received;
            }

            @Override
            public void onClose(Status status, Metadata trailers) {
                if (status.isOk()) {
                    if (headers != null) {
                        listener.onHeaders(headers);
                    }
                    if (response != null) {
                        listener.onMessage(response);
                    }
                    close(status, trailers);
                    return;
                }
                int repetitions = attempts;
                if (mayRetry() && !CallLayer.this.closed()) {
                    LeadgateException failed = LeadgateException.of(status, trailers, "");
                    Duration delay = rpc.delay(failed, repetitions, given, remaining(options));
                    if (delay != null) {
                        repeatAfter(delay, failed, executor(), context.wrap(UnaryCall.this::runAttempt));
                        if (context.isCancelled()) {
                            contextCancelled(context);
                        }
                        return;
                    }
                }
                close(status, trailers);
            }
        }
    }
}
