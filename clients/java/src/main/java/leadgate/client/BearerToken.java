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
            Metadata headers = new Metadata();
            try {
                headers.put(AUTHORIZATION, "Bearer " + source.call().strip());
            } catch (Exception failed) {
                applier.fail(Status.UNAUTHENTICATED.withDescription("reading the token failed: " + failed).withCause(failed));
                return;
            }
            applier.apply(headers);
        });
    }
}
