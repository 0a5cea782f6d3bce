package leadgate.client;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTimeoutPreemptively;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.google.protobuf.Any;
import com.google.rpc.ErrorInfo;
import io.grpc.Context;
import io.grpc.ManagedChannelBuilder;
import io.grpc.Status.Code;
import io.grpc.StatusRuntimeException;
import io.grpc.protobuf.StatusProto;
import java.time.Duration;
import java.util.List;
import java.util.Map;
import java.util.concurrent.CancellationException;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.TimeUnit;
import java.util.function.Function;
import leadgate.v1.CreateLeadRequest;
import leadgate.v1.CreateLeadResponse;
import leadgate.v1.ErrorReason;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;

/** Which errors are repeated, when, and with which request id. */
class RetryTest {
    private static final Map<String, String> SAME_ID = Map.of("retry_same_request_id", "true");

    private FakeGateway gateway;
    private LeadgateClient client;

    @BeforeEach
    void start() throws Exception {
        gateway = new FakeGateway();
        client = gateway.client().build();
    }

    @AfterEach
    void stop() {
        client.close();
        gateway.close();
    }

    private CreateLeadResponse create() {
        return client.leads().createLead(CreateLeadRequest.getDefaultInstance());
    }

    /** Fails the first create only. */
    private static Function<Integer, StatusRuntimeException> once(Code code, String reason, Map<String, String> metadata, Duration retry) {
        return number -> number > 0 ? null : FakeGateway.error(code, reason, metadata, retry);
    }

    private void assertNotRepeated() {
        assertThrows(LeadgateException.class, this::create);
        assertEquals(1, gateway.creates.size());
    }

    @Test
    void waitsForTheTimeInRetryInfoAndRepeatsTheRequestId() {
        gateway.failures = once(Code.UNAVAILABLE, "UPSTREAM_UNAVAILABLE", SAME_ID, Duration.ofMillis(400));
        long start = System.nanoTime();
        assertEquals("lead-1", create().getLeadId());
        long millis = TimeUnit.NANOSECONDS.toMillis(System.nanoTime() - start);
        assertTrue(millis >= 400, "repeated after " + millis + " ms");
        assertEquals(2, gateway.creates.size());
        assertEquals(gateway.creates.get(0), gateway.creates.get(1));
    }

    @Test
    void anUnknownOutcomeIsRepeatedOnlyIfTheErrorSaysSo() {
        gateway.failures = once(Code.ABORTED, "OUTCOME_UNKNOWN", SAME_ID, Duration.ofMillis(10));
        assertEquals("lead-1", create().getLeadId());
    }

    @Test
    void anUnknownOutcomeThatCannotBeResolvedIsNotRepeated() {
        gateway.failures =
                once(Code.ABORTED, "OUTCOME_UNKNOWN", Map.of("retry_same_request_id", "false"), Duration.ofMillis(10));
        assertNotRepeated();
    }

    @Test
    void withoutTheKeyAMutationIsRepeatedOnlyIfNothingWasSent() {
        gateway.failures = once(Code.UNAVAILABLE, "OWNER_MOVED", Map.of(), Duration.ofMillis(10));
        assertNotRepeated();
        gateway.creates.clear();
        gateway.failures = once(Code.UNAVAILABLE, "SHUTTING_DOWN", Map.of(), Duration.ZERO);
        assertEquals("lead-1", create().getLeadId());
    }

    @Test
    void anErrorWithoutRetryInfoIsNotRepeated() {
        gateway.failures = once(Code.RESOURCE_EXHAUSTED, "RESPONSE_TOO_LARGE", SAME_ID, null);
        assertNotRepeated();
    }

    @Test
    void otherCodesAreNotRepeated() {
        gateway.failures = once(Code.FAILED_PRECONDITION, "SHARE_LIMIT_REACHED", SAME_ID, Duration.ofMillis(10));
        assertNotRepeated();
    }

    @Test
    void aDelayBehindTheDeadlineReturnsTheErrorAtOnce() {
        gateway.failures = once(Code.RESOURCE_EXHAUSTED, "DAILY_BUDGET_EXHAUSTED", SAME_ID, Duration.ofHours(3));
        long start = System.nanoTime();
        LeadgateException error = assertThrows(LeadgateException.class, this::create);
        assertTrue(System.nanoTime() - start < TimeUnit.SECONDS.toNanos(10));
        assertEquals(Duration.ofHours(3), error.retryAfter().orElseThrow());
        assertEquals(ErrorReason.DAILY_BUDGET_EXHAUSTED, error.reason());
    }

    @Test
    void aDeadlineThatIsTooShortIsRepeatedOnlyIfTheSameTimeoutFitsAgain() {
        gateway.failures = once(Code.RESOURCE_EXHAUSTED, "DEADLINE_INFEASIBLE", SAME_ID, Duration.ofMillis(10));
        assertNotRepeated();
        gateway.creates.clear();
        assertEquals(
                "lead-1",
                client.leads()
                        .withDeadlineAfter(90, TimeUnit.SECONDS)
                        .createLead(CreateLeadRequest.getDefaultInstance())
                        .getLeadId());
    }

    @Test
    void anExtremeRetryTimeIsBehindEachDeadlineOrNow() {
        for (Duration retry : List.of(Duration.ofDays(400 * 365), Duration.ofSeconds(Long.MAX_VALUE, 999_999_999))) {
            gateway.creates.clear();
            gateway.failures = once(Code.RESOURCE_EXHAUSTED, "QUEUE_FULL", SAME_ID, retry);
            assertTimeoutPreemptively(Duration.ofSeconds(20), this::assertNotRepeated);
            gateway.creates.clear();
            var future = client.leadsFuture().createLead(CreateLeadRequest.getDefaultInstance());
            assertThrows(ExecutionException.class, () -> future.get(20, TimeUnit.SECONDS));
        }
        gateway.creates.clear();
        gateway.failures = once(Code.RESOURCE_EXHAUSTED, "QUEUE_FULL", SAME_ID, Duration.ofSeconds(Long.MIN_VALUE));
        assertEquals("lead-1", create().getLeadId());
    }

    @Test
    void repetitionsAtOnceHaveGrowingPauses() {
        create();
        for (Code code : List.of(Code.RESOURCE_EXHAUSTED, Code.ABORTED, Code.UNAVAILABLE)) {
            gateway.creates.clear();
            gateway.failures = number -> FakeGateway.error(code, "QUEUE_FULL", SAME_ID, Duration.ofMillis(1));
            assertThrows(
                    LeadgateException.class,
                    () -> client.leads().withDeadlineAfter(1, TimeUnit.SECONDS).createLead(CreateLeadRequest.getDefaultInstance()));
            assertTrue(gateway.creates.size() > 1 && gateway.creates.size() < 10, "creates: " + gateway.creates.size());
        }
    }

    @Test
    void anErrorOfAnotherDomainIsOneOfAProxy() {
        gateway.failures = number -> number > 0
                ? null
                : StatusProto.toStatusRuntimeException(com.google.rpc.Status.newBuilder()
                        .setCode(Code.UNAVAILABLE.value())
                        .addDetails(Any.pack(ErrorInfo.newBuilder()
                                .setDomain("proxy.example")
                                .setReason("OVERLOAD")
                                .putMetadata("retry_same_request_id", "false")
                                .build()))
                        .build());
        assertEquals("lead-1", create().getLeadId());
    }

    @Test
    void aDirectExecutorDoesNotChangeTheError() throws Exception {
        int port;
        try (FakeGateway before = new FakeGateway()) {
            port = before.port();
        }
        try (LeadgateClient direct = LeadgateClient.builder("127.0.0.1:" + port)
                .plaintext()
                .channel(ManagedChannelBuilder::directExecutor)
                .build()) {
            ExecutionException error = assertThrows(ExecutionException.class, () -> direct.leadsFuture()
                    .withDeadlineAfter(1, TimeUnit.SECONDS)
                    .createLead(CreateLeadRequest.getDefaultInstance())
                    .get());
            assertEquals(Code.UNAVAILABLE, LeadgateException.from(error).code());
        }
    }

    @Test
    void aCallOfAClosedClientFailsAtOnce() {
        client.close();
        LeadgateException error = assertTimeoutPreemptively(
                Duration.ofSeconds(10), () -> assertThrows(LeadgateException.class, this::create));
        assertEquals(Code.UNAVAILABLE, error.code());
    }

    @Test
    void cancellingAContextEndsTheWaitForAnAttempt() throws Exception {
        gateway.failures = number -> FakeGateway.error(Code.UNAVAILABLE, "TENANT_PAUSED", SAME_ID, Duration.ofSeconds(20));
        try (Context.CancellableContext context = Context.current().withCancellation()) {
            var future = context.call(() -> client.leadsFuture().createLead(CreateLeadRequest.getDefaultInstance()));
            while (gateway.creates.isEmpty()) {
                Thread.onSpinWait();
            }
            context.cancel(null);
            ExecutionException error = assertThrows(ExecutionException.class, () -> future.get(10, TimeUnit.SECONDS));
            assertEquals(Code.CANCELLED, LeadgateException.from(error).code());
        }
    }

    @Test
    void attemptsEndWithTheDeadline() {
        create();
        gateway.failures = number -> FakeGateway.error(Code.UNAVAILABLE, "STORE_UNAVAILABLE", SAME_ID, Duration.ofMillis(100));
        long start = System.nanoTime();
        LeadgateException error = assertThrows(
                LeadgateException.class,
                () -> client.leads().withDeadlineAfter(3, TimeUnit.SECONDS).createLead(CreateLeadRequest.getDefaultInstance()));
        assertTrue(System.nanoTime() - start < TimeUnit.MILLISECONDS.toNanos(3_300));
        assertEquals(ErrorReason.STORE_UNAVAILABLE, error.reason());
        assertTrue(gateway.creates.size() > 3, "creates: " + gateway.creates.size());
    }

    @Test
    void aLostConnectionIsRepeatedWithTheSameRequestId() {
        gateway.failures = number -> number > 2 ? null : new StatusRuntimeException(io.grpc.Status.UNAVAILABLE);
        assertEquals("lead-3", create().getLeadId());
        assertEquals(1, gateway.creates.stream().map(CreateLeadRequest::getRequestId).distinct().count());
    }

    @Test
    void theOtherStubsRepeatToo() throws Exception {
        gateway.failures = once(Code.UNAVAILABLE, "UPSTREAM_UNAVAILABLE", SAME_ID, Duration.ofMillis(10));
        assertEquals("lead-1", client.leadsFuture().createLead(CreateLeadRequest.getDefaultInstance()).get().getLeadId());
    }

    @Test
    void cancellingAFutureEndsItsAttempts() throws Exception {
        gateway.failures = number -> FakeGateway.error(Code.UNAVAILABLE, "UPSTREAM_UNAVAILABLE", SAME_ID, Duration.ofMillis(300));
        var future = client.leadsFuture().createLead(CreateLeadRequest.getDefaultInstance());
        while (gateway.creates.isEmpty()) {
            Thread.onSpinWait();
        }
        future.cancel(true);
        assertThrows(CancellationException.class, future::get);
        int attempts = gateway.creates.size();
        // The next attempt would be after 300 ms.
        Thread.sleep(700);
        assertEquals(attempts, gateway.creates.size());
    }

    @Test
    void interruptingAThreadEndsItsCall() throws Exception {
        gateway.failures = number -> FakeGateway.error(Code.UNAVAILABLE, "UPSTREAM_UNAVAILABLE", SAME_ID, Duration.ofSeconds(20));
        var result = new java.util.concurrent.CompletableFuture<LeadgateException>();
        Thread thread = new Thread(() -> {
            try {
                create();
                result.complete(null);
            } catch (LeadgateException error) {
                result.complete(error);
            }
        });
        thread.start();
        while (gateway.creates.isEmpty()) {
            Thread.onSpinWait();
        }
        thread.interrupt();
        LeadgateException error = result.get(10, TimeUnit.SECONDS);
        assertEquals(Code.CANCELLED, error.code());
        assertEquals(gateway.creates.get(0).getRequestId(), error.requestId());
    }
}
