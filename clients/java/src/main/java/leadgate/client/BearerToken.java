package leadgate.client;

import io.grpc.CallCredentials;
import io.grpc.Metadata;
import io.grpc.SecurityLevel;
import io.grpc.Status;
import java.util.concurrent.Callable;
import java.util.concurrent.Executor;

/** Sends a token with each call, over plaintext only with {@link LeadgateClient.Builder#insecure()}. */
final class BearerToken extends CallCredentials {
    private static final Metadata.Key<String> AUTHORIZATION = Metadata.Key.of("authorization", Metadata.ASCII_STRING_MARSHALLER);

    private final Callable<String> source;
    private final boolean insecure;

    BearerToken(Callable<String> source, boolean insecure) {
        this.source = source;
        this.insecure = insecure;
    }

    @Override
    public void applyRequestMetadata(RequestInfo call, Executor executor, MetadataApplier applier) {
        if (!insecure && call.getSecurityLevel() != SecurityLevel.PRIVACY_AND_INTEGRITY) {
            applier.fail(Status.UNAUTHENTICATED.withDescription("the token is not sent over plaintext without insecure()"));
            return;
        }
        executor.execute(() -> {
            String token;
            try {
                token = source.call();
            } catch (Exception failed) {
                applier.fail(Status.UNAUTHENTICATED.withDescription("reading the token failed: " + failed).withCause(failed));
                return;
            }
            // gRPC writes a header with other characters to the log, and sends the call without it.
            if (token == null || !token.strip().matches("[!-~]+")) {
                applier.fail(Status.UNAUTHENTICATED.withDescription("the token is empty, or has characters other than printable ASCII"));
                return;
            }
            Metadata headers = new Metadata();
            headers.put(AUTHORIZATION, "Bearer " + token.strip());
            applier.apply(headers);
        });
    }
}
