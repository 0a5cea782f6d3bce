package leadgate.client;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertInstanceOf;
import static org.junit.jupiter.api.Assertions.assertNull;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.google.protobuf.Any;
import com.google.protobuf.ByteString;
import com.google.rpc.BadRequest;
import com.google.rpc.ErrorInfo;
import io.grpc.CallOptions;
import io.grpc.Grpc;
import io.grpc.InsecureChannelCredentials;
import io.grpc.ManagedChannel;
import io.grpc.Metadata;
import io.grpc.Status.Code;
import io.grpc.StatusRuntimeException;
import io.grpc.protobuf.StatusProto;
import io.grpc.stub.StreamObserver;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.util.Map;
import java.util.UUID;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.TimeUnit;
import leadgate.v1.BatchCreateLeadsRequest;
import leadgate.v1.CreateLeadRequest;
import leadgate.v1.CreateLeadResponse;
import leadgate.v1.ErrorReason;
import leadgate.v1.ShareLeadRequest;
import leadgate.v1.WatchQuotaRequest;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** Metadata, tokens, deadlines, request ids and errors, against a server in this process. */
class LayerTest {
    private FakeGateway gateway;

    @BeforeEach
    void start() throws Exception {
        gateway = new FakeGateway();
    }

    @AfterEach
    void stop() {
        gateway.close();
    }

    private static void create(LeadgateClient client) {
        client.leads().createLead(CreateLeadRequest.getDefaultInstance());
    }

    @Test
    void tenantCallerAndCriticalityAreDefaultsAndOptions() {
        try (LeadgateClient client =
                gateway.client().tenant("india").caller("billing").criticality(Criticality.CRITICAL_PLUS).build()) {
            create(client);
            assertEquals("india", gateway.calls.get(0).header("x-leadgate-tenant"));
            assertEquals("billing", gateway.calls.get(0).header("x-leadgate-caller"));
            assertEquals("critical-plus", gateway.calls.get(0).header("x-leadgate-criticality"));
            client.leads()
                    .withOption(LeadgateClient.TENANT, "nepal")
                    .withOption(LeadgateClient.CRITICALITY, Criticality.SHEDDABLE)
                    .createLead(CreateLeadRequest.getDefaultInstance());
            assertEquals("nepal", gateway.calls.get(1).header("x-leadgate-tenant"));
            assertEquals("billing", gateway.calls.get(1).header("x-leadgate-caller"));
            assertEquals("sheddable", gateway.calls.get(1).header("x-leadgate-criticality"));
            assertThrows(LeadgateException.class, () -> client.watchQuota(
                            WatchQuotaRequest.getDefaultInstance(), CallOptions.DEFAULT.withOption(LeadgateClient.TENANT, "nepal"))
                    .hasNext());
            assertEquals("nepal", gateway.calls.get(2).header("x-leadgate-tenant"));
        }
    }

    @Test
    void eachKindOfCallHasADefaultDeadline() {
        try (LeadgateClient client = gateway.client().deadline(CallKind.BATCH, Duration.ofSeconds(77)).build()) {
            create(client);
            assertDeadline(30);
            assertThrows(LeadgateException.class, () -> client.shares().shareLead(ShareLeadRequest.getDefaultInstance()));
            assertDeadline(120);
            assertThrows(
                    LeadgateException.class, () -> client.leads().batchCreateLeads(BatchCreateLeadsRequest.getDefaultInstance()));
            assertDeadline(77);
            gateway.export = (request, responses) -> responses.onCompleted();
            assertFalse(client.exportLeads(leadgate.v1.ExportLeadsRequest.getDefaultInstance()).hasNext());
            assertDeadline(3600);
            client.leads().withDeadlineAfter(5, TimeUnit.SECONDS).createLead(CreateLeadRequest.getDefaultInstance());
            assertDeadline(5);
            assertThrows(
                    LeadgateException.class,
                    () -> client.watchQuota(WatchQuotaRequest.getDefaultInstance()).hasNext());
            assertNull(last().deadline());
        }
    }

    private FakeGateway.Received last() {
        return gateway.calls.get(gateway.calls.size() - 1);
    }

    private void assertDeadline(long seconds) {
        long millis = last().deadline().timeRemaining(TimeUnit.MILLISECONDS);
        assertTrue(millis <= seconds * 1000 && millis > seconds * 1000 - 4000, last().method() + ": " + millis + " ms");
    }

    @Test
    void eachMutationHasARequestId() {
        try (LeadgateClient client = gateway.client().build()) {
            long before = System.currentTimeMillis();
            CreateLeadRequest message = CreateLeadRequest.getDefaultInstance();
            client.leads().createLead(message);
            assertEquals("", message.getRequestId());
            UUID id = UUID.fromString(gateway.creates.get(0).getRequestId());
            assertEquals(7, id.version());
            assertEquals(2, id.variant());
            long time = id.getMostSignificantBits() >>> 16;
            assertTrue(time >= before && time <= System.currentTimeMillis(), "time of the id: " + time);

            client.leads().createLead(message);
            assertFalse(id.toString().equals(gateway.creates.get(1).getRequestId()));

            String own = "0193f5a0-0000-7000-8000-000000000001";
            client.leads().createLead(message.toBuilder().setRequestId(own).build());
            assertEquals(own, gateway.creates.get(2).getRequestId());
        }
    }

    @Test
    void theErrorHasTheRequestIdThatWasSent() throws Exception {
        gateway.failures = number -> FakeGateway.error(Code.ABORTED, "OUTCOME_UNKNOWN", Map.of("retry_same_request_id", "false"), null);
        try (LeadgateClient client = gateway.client().build()) {
            LeadgateException blocking = assertThrows(LeadgateException.class, () -> create(client));
            assertEquals(gateway.creates.get(0).getRequestId(), blocking.requestId());
            assertFalse(blocking.retrySameRequestId().orElseThrow());

            ExecutionException future = assertThrows(
                    ExecutionException.class,
                    () -> client.leadsFuture().createLead(CreateLeadRequest.getDefaultInstance()).get());
            assertEquals(gateway.creates.get(1).getRequestId(), LeadgateException.from(future).requestId());

            CompletableFuture<Throwable> async = new CompletableFuture<>();
            client.leadsAsync().createLead(CreateLeadRequest.getDefaultInstance(), new StreamObserver<>() {
                @Override
                public void onNext(CreateLeadResponse response) {}

                @Override
                public void onError(Throwable error) {
                    async.complete(error);
                }

                @Override
                public void onCompleted() {}
            });
            LeadgateException converted = LeadgateException.from(async.get(10, TimeUnit.SECONDS));
            assertEquals(gateway.creates.get(2).getRequestId(), converted.requestId());
            assertEquals(ErrorReason.OUTCOME_UNKNOWN, converted.reason());
        }
    }

    @Test
    void anErrorWithUnknownReasonAndDetailsStaysReadable() {
        Any unknown = Any.newBuilder().setTypeUrl("type.example/a.New").setValue(ByteString.copyFromUtf8("?")).build();
        gateway.failures = number -> StatusProto.toStatusRuntimeException(com.google.rpc.Status.newBuilder()
                .setCode(Code.DATA_LOSS.value())
                .setMessage("something new")
                .addDetails(unknown)
                .addDetails(Any.newBuilder()
                        .setTypeUrl("type.googleapis.com/google.rpc.BadRequest")
                        .setValue(ByteString.copyFrom(new byte[] {(byte) 0xff})))
                .addDetails(Any.pack(ErrorInfo.newBuilder()
                        .setDomain("leadgate")
                        .setReason("SOMETHING_NEW")
                        .putMetadata("tenant", "demo")
                        .build()))
                .build());
        try (LeadgateClient client = gateway.client().build()) {
            LeadgateException error = assertThrows(LeadgateException.class, () -> create(client));
            assertEquals(ErrorReason.ERROR_REASON_UNSPECIFIED, error.reason());
            assertEquals("SOMETHING_NEW", error.reasonText());
            assertEquals("DATA_LOSS (SOMETHING_NEW): something new", error.getMessage());
            assertEquals("demo", error.metadata().get("tenant"));
            assertEquals(unknown, error.details().get(0));
            assertTrue(error.violations().isEmpty());
        }
    }

    @Test
    void damagedDetailsLeaveTheStatus() {
        Metadata trailers = new Metadata();
        trailers.put(Metadata.Key.of("grpc-status-details-bin", Metadata.BINARY_BYTE_MARSHALLER), new byte[] {(byte) 0xff});
        gateway.failures = number -> new StatusRuntimeException(io.grpc.Status.NOT_FOUND.withDescription("gone"), trailers);
        try (LeadgateClient client = gateway.client().build()) {
            assertEquals("NOT_FOUND: gone", assertThrows(LeadgateException.class, () -> create(client)).getMessage());
        }
    }

    @Test
    void otherThrowablesAreConverted() {
        assertEquals(Code.UNKNOWN, LeadgateException.from(new IllegalStateException("other")).code());
        BadRequest invalid = BadRequest.newBuilder()
                .addFieldViolations(BadRequest.FieldViolation.newBuilder().setField("lead.phone"))
                .build();
        LeadgateException row = LeadgateException.from(com.google.rpc.Status.newBuilder()
                .setCode(Code.INVALID_ARGUMENT.value())
                .addDetails(Any.pack(invalid))
                .build());
        assertEquals("lead.phone", row.violations().get(0).getField());
        assertEquals(Code.UNKNOWN, LeadgateException.from(com.google.rpc.Status.newBuilder().setCode(99).build()).code());
    }

    @Test
    void aTokenIsSentOverPlaintextOnlyIfAskedFor() {
        assertThrows(IllegalStateException.class, () -> gateway.client().token("secret").build());
        // A channel of the caller's own, whose security is not known before the call.
        ManagedChannel channel = Grpc.newChannelBuilder("127.0.0.1:" + gateway.port(), InsecureChannelCredentials.create())
                .build();
        LeadgateClient refusing = LeadgateClient.builder(channel).token("secret").build();
        LeadgateException error = assertThrows(LeadgateException.class, () -> create(refusing));
        assertEquals(Code.UNAUTHENTICATED, error.code());
        assertTrue(gateway.calls.isEmpty());
        channel.shutdownNow();
        try (LeadgateClient client = gateway.client().token("secret").insecure().build()) {
            create(client);
            assertEquals("Bearer secret", gateway.calls.get(0).header("authorization"));
        }
    }

    @Test
    void aTokenFileIsReadAgain(@TempDir Path folder) throws Exception {
        Path file = Files.writeString(folder.resolve("token"), "first\n");
        try (LeadgateClient client = gateway.client().tokenFile(file).insecure().build()) {
            create(client);
            Files.writeString(file, "second\n");
            create(client);
            assertEquals("Bearer first", gateway.calls.get(0).header("authorization"));
            assertEquals("Bearer second", gateway.calls.get(1).header("authorization"));
            // As while the file is replaced.
            Files.writeString(file, "");
            create(client);
            Files.delete(file);
            create(client);
            assertEquals("Bearer second", gateway.calls.get(2).header("authorization"));
            assertEquals("Bearer second", gateway.calls.get(3).header("authorization"));
        }
        try (LeadgateClient client = gateway.client().tokenFile(file).insecure().build()) {
            LeadgateException error = assertThrows(LeadgateException.class, () -> create(client));
            assertEquals(Code.UNAUTHENTICATED, error.code());
            assertTrue(error.getMessage().contains(file.toString()), error.getMessage());
        }
    }

    @Test
    void aTokenOrHeaderThatHttpDoesNotAllowIsAnError() {
        for (String token : new String[] {"two words", "two\nlines", "t\u00f6ken", " ", null}) {
            try (LeadgateClient client = gateway.client().token(token).insecure().build()) {
                LeadgateException error = assertThrows(LeadgateException.class, () -> create(client));
                assertEquals(Code.UNAUTHENTICATED, error.code());
                assertTrue(error.getMessage().contains("the token is empty, or has"), error.getMessage());
            }
        }
        try (LeadgateClient client = gateway.client().tenant("\u00efndia").build()) {
            LeadgateException error = assertThrows(LeadgateException.class, () -> create(client));
            assertEquals(Code.INVALID_ARGUMENT, error.code());
            assertTrue(error.getMessage().contains("x-leadgate-tenant"), error.getMessage());
        }
        try (LeadgateClient client = gateway.client().build()) {
            assertThrows(NullPointerException.class, () -> client.leads().createLead(null));
        }
        assertTrue(gateway.calls.isEmpty());
    }

    @Test
    void aDeadlineIsPositiveAndMayBeVeryLong() {
        assertThrows(IllegalArgumentException.class, () -> gateway.client().deadline(CallKind.UNARY, Duration.ZERO));
        try (LeadgateClient client = gateway.client().deadline(CallKind.UNARY, Duration.ofDays(200_000)).build()) {
            create(client);
        }
    }

    @Test
    void aConnectionThatIsClosedDuringAWriteIsLost() {
        io.grpc.Status closed = io.grpc.Status.UNKNOWN.withDescription("channel closed");
        assertTrue(Rpc.connectionLost(LeadgateException.from(
                closed.withCause(new java.nio.channels.ClosedChannelException()).asRuntimeException())));
        assertFalse(Rpc.connectionLost(LeadgateException.from(closed.asRuntimeException())));
    }

    @Test
    void theGeneratedStubsStayUsable() {
        gateway.failures = number -> FakeGateway.error(Code.NOT_FOUND, "LEAD_NOT_FOUND", Map.of(), null);
        try (LeadgateClient client = gateway.client().build()) {
            StatusRuntimeException error = assertThrows(StatusRuntimeException.class, () -> leadgate.v1.LeadServiceGrpc
                    .newBlockingStub(client.channel())
                    .createLead(CreateLeadRequest.getDefaultInstance()));
            assertInstanceOf(LeadgateException.class, error.getCause());
            assertEquals(ErrorReason.LEAD_NOT_FOUND, LeadgateException.from(error).reason());
        }
    }
}
