package leadgate.client;

import io.grpc.CallOptions;
import io.grpc.Channel;
import io.grpc.ChannelCredentials;
import io.grpc.ClientInterceptors;
import io.grpc.Grpc;
import io.grpc.InsecureChannelCredentials;
import io.grpc.ManagedChannel;
import io.grpc.ManagedChannelBuilder;
import io.grpc.TlsChannelCredentials;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.util.EnumMap;
import java.util.Iterator;
import java.util.Map;
import java.util.concurrent.Callable;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicReference;
import java.util.function.Consumer;
import java.util.function.Supplier;
import leadgate.v1.ActivityServiceGrpc;
import leadgate.v1.ExportLeadsRequest;
import leadgate.v1.ExportLeadsResponse;
import leadgate.v1.ImportLeadsRequest;
import leadgate.v1.LeadServiceGrpc;
import leadgate.v1.QuotaServiceGrpc;
import leadgate.v1.RestServiceGrpc;
import leadgate.v1.RevokeSharesRequest;
import leadgate.v1.RevokeSharesResponse;
import leadgate.v1.ShareServiceGrpc;
import leadgate.v1.UserServiceGrpc;
import leadgate.v1.WatchQuotaRequest;
import leadgate.v1.WatchQuotaResponse;
import leadgate.v1.WatchShareRequest;
import leadgate.v1.WatchShareResponse;

/**
 * A client of leadgate. It is safe for use by several threads, and a process needs only one.
 *
 * <p>The stubs are the generated ones. Options of a call are options of its stub:
 *
 * <pre>{@code
 * client.leads().withDeadlineAfter(5, TimeUnit.SECONDS).withOption(LeadgateClient.TENANT, "india").getLead(request);
 * }</pre>
 *
 * <p>The unary calls of the blocking stubs throw {@link LeadgateException}. The errors of all other stubs are converted by
 * {@link LeadgateException#from(Throwable)}. Messages of callers are not changed: a request id is added to a copy.
 */
public final class LeadgateClient implements AutoCloseable {
    /** The account of a call. */
    public static final CallOptions.Key<String> TENANT = CallOptions.Key.create("leadgate-tenant");
    /** The name of the caller of a call, for gateways without authentication. */
    public static final CallOptions.Key<String> CALLER = CallOptions.Key.create("leadgate-caller");
    /** The criticality of a call. */
    public static final CallOptions.Key<Criticality> CRITICALITY = CallOptions.Key.create("leadgate-criticality");

    /** The channel that this client closes, or null. */
    final ManagedChannel owned;

    private final CallLayer layer;
    private final Channel channel;

    private LeadgateClient(Channel channel, ManagedChannel owned, CallLayer layer) {
        this.owned = owned;
        this.layer = layer;
        this.channel = ClientInterceptors.intercept(channel, layer);
    }

    /**
     * Creates a client that connects with TLS.
     *
     * @param address the address, as {@code host:port} or as a target of gRPC such as {@code dns:///host:port}
     * @return the builder
     */
    public static Builder builder(String address) {
        return new Builder(address, null);
    }

    /**
     * Creates a client that uses a channel and does not close it. Settings of the connection have no effect.
     *
     * @param channel the channel, for example one with an in-process server
     * @return the builder
     */
    public static Builder builder(Channel channel) {
        return new Builder(null, channel);
    }

    /**
     * Creates a request id, a UUID of version 7. Set it yourself to store it before the call, or to repeat a batch of which some results
     * failed.
     *
     * @return the id
     */
    public static String newRequestId() {
        return Rpc.newRequestId().toString();
    }

    CallLayer layer() {
        return layer;
    }

    /** {@return the channel of all stubs, for stubs of other kinds} */
    public Channel channel() {
        return channel;
    }

    /** {@return the blocking stub of LeadService} */
    public LeadServiceGrpc.LeadServiceBlockingStub leads() {
        return LeadServiceGrpc.newBlockingStub(channel).withOption(CallLayer.BLOCKING, true);
    }

    /** {@return the async stub of LeadService} */
    public LeadServiceGrpc.LeadServiceStub leadsAsync() {
        return LeadServiceGrpc.newStub(channel);
    }

    /** {@return the future stub of LeadService} */
    public LeadServiceGrpc.LeadServiceFutureStub leadsFuture() {
        return LeadServiceGrpc.newFutureStub(channel);
    }

    /** {@return the blocking stub of ShareService} */
    public ShareServiceGrpc.ShareServiceBlockingStub shares() {
        return ShareServiceGrpc.newBlockingStub(channel).withOption(CallLayer.BLOCKING, true);
    }

    /** {@return the async stub of ShareService} */
    public ShareServiceGrpc.ShareServiceStub sharesAsync() {
        return ShareServiceGrpc.newStub(channel);
    }

    /** {@return the future stub of ShareService} */
    public ShareServiceGrpc.ShareServiceFutureStub sharesFuture() {
        return ShareServiceGrpc.newFutureStub(channel);
    }

    /** {@return the blocking stub of ActivityService} */
    public ActivityServiceGrpc.ActivityServiceBlockingStub activities() {
        return ActivityServiceGrpc.newBlockingStub(channel).withOption(CallLayer.BLOCKING, true);
    }

    /** {@return the async stub of ActivityService} */
    public ActivityServiceGrpc.ActivityServiceStub activitiesAsync() {
        return ActivityServiceGrpc.newStub(channel);
    }

    /** {@return the future stub of ActivityService} */
    public ActivityServiceGrpc.ActivityServiceFutureStub activitiesFuture() {
        return ActivityServiceGrpc.newFutureStub(channel);
    }

    /** {@return the blocking stub of UserService} */
    public UserServiceGrpc.UserServiceBlockingStub users() {
        return UserServiceGrpc.newBlockingStub(channel).withOption(CallLayer.BLOCKING, true);
    }

    /** {@return the async stub of UserService} */
    public UserServiceGrpc.UserServiceStub usersAsync() {
        return UserServiceGrpc.newStub(channel);
    }

    /** {@return the future stub of UserService} */
    public UserServiceGrpc.UserServiceFutureStub usersFuture() {
        return UserServiceGrpc.newFutureStub(channel);
    }

    /** {@return the blocking stub of QuotaService} */
    public QuotaServiceGrpc.QuotaServiceBlockingStub quota() {
        return QuotaServiceGrpc.newBlockingStub(channel).withOption(CallLayer.BLOCKING, true);
    }

    /** {@return the async stub of QuotaService} */
    public QuotaServiceGrpc.QuotaServiceStub quotaAsync() {
        return QuotaServiceGrpc.newStub(channel);
    }

    /** {@return the future stub of QuotaService} */
    public QuotaServiceGrpc.QuotaServiceFutureStub quotaFuture() {
        return QuotaServiceGrpc.newFutureStub(channel);
    }

    /** {@return the blocking stub of RestService} */
    public RestServiceGrpc.RestServiceBlockingStub rest() {
        return RestServiceGrpc.newBlockingStub(channel).withOption(CallLayer.BLOCKING, true);
    }

    /** {@return the async stub of RestService} */
    public RestServiceGrpc.RestServiceStub restAsync() {
        return RestServiceGrpc.newStub(channel);
    }

    /** {@return the future stub of RestService} */
    public RestServiceGrpc.RestServiceFutureStub restFuture() {
        return RestServiceGrpc.newFutureStub(channel);
    }

    /**
     * Does the same as {@link #exportLeads(ExportLeadsRequest, CallOptions)} without options.
     *
     * @param request the request
     * @return the results
     */
    public ResponseStream<ExportLeadsRequest, ExportLeadsResponse> exportLeads(ExportLeadsRequest request) {
        return exportLeads(request, CallOptions.DEFAULT);
    }

    /**
     * Exports leads. An interrupted export continues after the last response.
     *
     * @param request the request
     * @param options options of the call: deadline, {@link #TENANT}, {@link #CRITICALITY}
     * @return the responses, each with some leads
     */
    public ResponseStream<ExportLeadsRequest, ExportLeadsResponse> exportLeads(ExportLeadsRequest request, CallOptions options) {
        return new ResponseStream<>(this, LeadServiceGrpc.getExportLeadsMethod(), options, request, (last, response) ->
                last.toBuilder().setResumeToken(response.getResumeToken()).build());
    }

    /**
     * Does the same as {@link #importLeads(Iterator, CallOptions)} without options.
     *
     * @param rows the rows; {@code sequence} may be used freely
     * @return the results
     */
    public ImportStream importLeads(Iterator<ImportLeadsRequest> rows) {
        return importLeads(rows, CallOptions.DEFAULT);
    }

    /**
     * Imports leads. An interrupted import continues with the rows that have no result yet.
     *
     * @param rows the rows; {@code sequence} may be used freely
     * @param options options of the call: deadline, {@link #TENANT}, {@link #CRITICALITY}
     * @return the results
     */
    public ImportStream importLeads(Iterator<ImportLeadsRequest> rows, CallOptions options) {
        return new ImportStream(this, options, rows);
    }

    /**
     * Does the same as {@link #watchShare(WatchShareRequest, CallOptions)} without options.
     *
     * @param request the request
     * @return the results
     */
    public ResponseStream<WatchShareRequest, WatchShareResponse> watchShare(WatchShareRequest request) {
        return watchShare(request, CallOptions.DEFAULT);
    }

    /**
     * Watches a share until it has ended. An interrupted watch is opened again, and then begins with the current state.
     *
     * @param request the request
     * @param options options of the call: deadline, {@link #TENANT}, {@link #CRITICALITY}
     * @return the states of the share
     */
    public ResponseStream<WatchShareRequest, WatchShareResponse> watchShare(WatchShareRequest request, CallOptions options) {
        return new ResponseStream<>(this, ShareServiceGrpc.getWatchShareMethod(), options, request, (last, response) -> last);
    }

    /**
     * Does the same as {@link #watchQuota(WatchQuotaRequest, CallOptions)} without options.
     *
     * @param request the request
     * @return the results
     */
    public ResponseStream<WatchQuotaRequest, WatchQuotaResponse> watchQuota(WatchQuotaRequest request) {
        return watchQuota(request, CallOptions.DEFAULT);
    }

    /**
     * Watches the quota. An interrupted watch is opened again.
     *
     * @param request the request
     * @param options options of the call: deadline, {@link #TENANT}, {@link #CRITICALITY}
     * @return the states of the quota
     */
    public ResponseStream<WatchQuotaRequest, WatchQuotaResponse> watchQuota(WatchQuotaRequest request, CallOptions options) {
        return new ResponseStream<>(this, QuotaServiceGrpc.getWatchQuotaMethod(), options, request, (last, response) -> last);
    }

    /**
     * Does the same as {@link #revokeShares(RevokeSharesRequest, CallOptions)} without options.
     *
     * @param request the request
     * @return the results
     */
    public ResponseStream<RevokeSharesRequest, RevokeSharesResponse> revokeShares(RevokeSharesRequest request) {
        return revokeShares(request, CallOptions.DEFAULT);
    }

    /**
     * Revokes shares. An interrupted call fails: send it again to revoke the rest.
     *
     * @param request the request
     * @param options options of the call: deadline, {@link #TENANT}, {@link #CRITICALITY}
     * @return the result of each share
     */
    public ResponseStream<RevokeSharesRequest, RevokeSharesResponse> revokeShares(RevokeSharesRequest request, CallOptions options) {
        return new ResponseStream<>(this, ShareServiceGrpc.getRevokeSharesMethod(), options, request, null);
    }

    /** Closes the connection. Calls in progress have 5 s to finish. Then they fail, also watches. */
    @Override
    public void close() {
        if (owned == null) {
            return;
        }
        owned.shutdown();
        try {
            owned.awaitTermination(5, TimeUnit.SECONDS);
        } catch (InterruptedException interrupted) {
            Thread.currentThread().interrupt();
        }
        owned.shutdownNow();
    }

    /** Settings of a client. */
    public static final class Builder {
        private final String address;
        private final Channel channel;
        private final TlsChannelCredentials.Builder tls = TlsChannelCredentials.newBuilder();
        private final Map<CallKind, Duration> deadlines = new EnumMap<>(CallKind.class);
        private CallOptions defaults = CallOptions.DEFAULT;
        private Callable<String> token;
        private boolean plaintext;
        private boolean insecure;
        private Duration keepAlive = Duration.ofSeconds(30);
        private Consumer<ManagedChannelBuilder<?>> customizer = builder -> {};

        private Builder(String address, Channel channel) {
            this.address = address;
            this.channel = channel;
            for (CallKind kind : CallKind.values()) {
                if (kind.defaultDeadline != null) {
                    deadlines.put(kind, kind.defaultDeadline);
                }
            }
        }

        /**
         * Trusts the certificate authorities of a file instead of those of the system.
         *
         * @param file a PEM file
         * @return this builder
         * @throws IOException if the file cannot be read
         */
        public Builder caFile(Path file) throws IOException {
            tls.trustManager(file.toFile());
            return this;
        }

        /**
         * Sends a client certificate. The files are read now.
         *
         * @param chain the PEM file of the certificate chain
         * @param key the PEM file of the key, in PKCS #8 form
         * @return this builder
         * @throws IOException if a file cannot be read
         */
        public Builder clientCertificate(Path chain, Path key) throws IOException {
            tls.keyManager(chain.toFile(), key.toFile());
            return this;
        }

        /**
         * Connects without TLS. Tokens are refused.
         *
         * @return this builder
         */
        public Builder plaintext() {
            plaintext = true;
            return this;
        }

        /**
         * Connects without TLS, and sends the token although it can be read in the network. For local work only.
         *
         * @return this builder
         */
        public Builder insecure() {
            insecure = true;
            return plaintext();
        }

        /**
         * Sends an API key or a JSON Web Token with each call.
         *
         * @param text the token
         * @return this builder
         */
        public Builder token(String text) {
            token = () -> text;
            return this;
        }

        /**
         * Sends the token of a function with each call. The function is called for each call, on the thread of the call.
         *
         * @param source the function
         * @return this builder
         */
        public Builder token(Supplier<String> source) {
            token = source::get;
            return this;
        }

        /**
         * Sends the token of a file with each call. The file is read for each call, so it may be replaced at any time. If it is empty or
         * cannot be read, as while it is replaced, the former token is sent.
         *
         * @param file the file
         * @return this builder
         */
        public Builder tokenFile(Path file) {
            AtomicReference<String> last = new AtomicReference<>("");
            token = () -> {
                try {
                    String text = Files.readString(file).strip();
                    return text.isEmpty() ? last.get() : last.updateAndGet(former -> text);
                } catch (IOException missing) {
                    if (last.get().isEmpty()) {
                        throw missing;
                    }
                    return last.get();
                }
            };
            return this;
        }

        /**
         * Sets the account of calls without {@link LeadgateClient#TENANT}.
         *
         * @param name the name of the tenant
         * @return this builder
         */
        public Builder tenant(String name) {
            defaults = defaults.withOption(TENANT, name);
            return this;
        }

        /**
         * Sets the name of the caller, for gateways without authentication.
         *
         * @param name the name
         * @return this builder
         */
        public Builder caller(String name) {
            defaults = defaults.withOption(CALLER, name);
            return this;
        }

        /**
         * Sets the criticality of calls without {@link LeadgateClient#CRITICALITY}.
         *
         * @param criticality the criticality
         * @return this builder
         */
        public Builder criticality(Criticality criticality) {
            defaults = defaults.withOption(CRITICALITY, criticality);
            return this;
        }

        /**
         * Sets the deadline of calls of a kind without a deadline of their own, over all attempts.
         *
         * @param kind the kind
         * @param deadline the time from the start of the call
         * @return this builder
         * @throws IllegalArgumentException if the deadline is not positive
         */
        public Builder deadline(CallKind kind, Duration deadline) {
            if (deadline.isNegative() || deadline.isZero()) {
                throw new IllegalArgumentException("the deadline is not positive: " + deadline);
            }
            deadlines.put(kind, deadline);
            return this;
        }

        /**
         * Sets the interval of keep-alive PINGs, also without calls in progress. Default: 30 s. It must not be less than the setting
         * {@code server.keepalive_min_interval} of the gateway (default 10 s).
         *
         * @param interval the interval
         * @return this builder
         */
        public Builder keepAlive(Duration interval) {
            keepAlive = interval;
            return this;
        }

        /**
         * Changes the channel before it is built: interceptors, proxies, message sizes, load balancing.
         *
         * @param customizer a function that changes the channel builder
         * @return this builder
         */
        public Builder channel(Consumer<ManagedChannelBuilder<?>> customizer) {
            this.customizer = customizer;
            return this;
        }

        /**
         * Creates the client. The connection is made by the first call.
         *
         * @return the client
         * @throws IllegalStateException if a token would be sent over plaintext, and {@link #insecure()} was not called
         */
        public LeadgateClient build() {
            if (channel == null && plaintext && token != null && !insecure) {
                throw new IllegalStateException("a token needs TLS: remove plaintext(), or call insecure() for local work");
            }
            if (channel != null) {
                return new LeadgateClient(channel, null, layer(channel));
            }
            ChannelCredentials credentials = plaintext ? InsecureChannelCredentials.create() : tls.build();
            ManagedChannelBuilder<?> builder = Grpc.newChannelBuilder(address, credentials)
                    .userAgent("leadgate-java/0.1.0")
                    // gRPC's own retries ignore RetryInfo. The layer repeats calls instead.
                    .disableRetry()
                    .keepAliveTime(keepAlive.toNanos(), TimeUnit.NANOSECONDS)
                    .keepAliveTimeout(20, TimeUnit.SECONDS)
                    .keepAliveWithoutCalls(true);
            customizer.accept(builder);
            ManagedChannel managed = builder.build();
            return new LeadgateClient(managed, managed, layer(managed));
        }

        private CallLayer layer(Channel channel) {
            BearerToken credentials = token == null ? null : new BearerToken(token, insecure);
            return new CallLayer(defaults, Map.copyOf(deadlines), credentials, channel);
        }
    }
}
