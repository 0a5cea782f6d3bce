package leadgate.client;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertSame;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTimeoutPreemptively;
import static org.junit.jupiter.api.Assertions.assertTrue;

import io.grpc.CallOptions;
import io.grpc.Status;
import io.grpc.Status.Code;
import io.grpc.protobuf.StatusProto;
import io.grpc.stub.ServerCallStreamObserver;
import io.grpc.stub.StreamObserver;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Collections;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.CopyOnWriteArrayList;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.stream.IntStream;
import leadgate.v1.CreateLeadRequest;
import leadgate.v1.ErrorReason;
import leadgate.v1.ExportLeadsRequest;
import leadgate.v1.ExportLeadsResponse;
import leadgate.v1.ImportLeadsRequest;
import leadgate.v1.ImportLeadsResponse;
import leadgate.v1.Lead;
import leadgate.v1.LeadFields;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;

/** Imports and exports that are interrupted or read slowly, against a server in this process. */
class StreamTest {
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

    private static ExportLeadsResponse page(int number) {
        return ExportLeadsResponse.newBuilder()
                .addLeads(Lead.newBuilder().setLeadId("lead-" + number))
                .setResumeToken("" + number)
                .build();
    }

    private static List<ImportLeadsRequest> rows(int count) {
        return IntStream.range(0, count)
                .mapToObj(number -> ImportLeadsRequest.newBuilder()
                        .setSequence(7)
                        .setCreate(CreateLeadRequest.newBuilder()
                                .setLead(LeadFields.newBuilder().setEmailAddress(number + "@example.com")))
                        .build())
                .toList();
    }

    @Test
    void anExportContinuesAfterTheLastToken() {
        List<String> tokens = new CopyOnWriteArrayList<>();
        gateway.export = (request, responses) -> {
            tokens.add(request.getResumeToken());
            int first = request.getResumeToken().isEmpty() ? 0 : Integer.parseInt(request.getResumeToken()) + 1;
            for (int number = first; number < 9; number++) {
                responses.onNext(page(number));
                if (number % 3 == 2 && number < 8) {
                    responses.onError(Status.UNAVAILABLE.asRuntimeException());
                    return;
                }
            }
            responses.onCompleted();
        };
        try (var export = client.exportLeads(ExportLeadsRequest.getDefaultInstance())) {
            List<String> leads = export.stream().map(page -> page.getLeads(0).getLeadId()).toList();
            assertEquals(IntStream.range(0, 9).mapToObj(number -> "lead-" + number).toList(), leads);
            assertEquals(List.of("", "2", "5"), tokens);
            assertEquals("8", export.resumeRequest().getResumeToken());
        }
    }

    @Test
    void anExportEndsWithOtherErrorsAfterTheResponsesBeforeThem() {
        gateway.export = (request, responses) -> {
            responses.onNext(page(0));
            responses.onError(FakeGateway.error(Code.PERMISSION_DENIED, "CALLER_NOT_ALLOWED", Map.of(), null));
        };
        try (var export = client.exportLeads(ExportLeadsRequest.getDefaultInstance())) {
            assertEquals(page(0), export.next());
            assertEquals(ErrorReason.CALLER_NOT_ALLOWED, assertThrows(LeadgateException.class, export::next).reason());
        }
    }

    @Test
    void anExportContinuesAfterItsTokenHasExpired() {
        AtomicInteger streams = new AtomicInteger();
        gateway.export = (request, responses) -> {
            // The third token is not valid.
            if (streams.incrementAndGet() < 3) {
                responses.onNext(page(streams.get()));
            }
            responses.onError(FakeGateway.error(Code.UNAUTHENTICATED, "CALLER_UNKNOWN", Map.of(), null));
        };
        try (var export = client.exportLeads(ExportLeadsRequest.getDefaultInstance())) {
            assertEquals(page(1), export.next());
            assertEquals(page(2), export.next());
            assertEquals(ErrorReason.CALLER_UNKNOWN, assertThrows(LeadgateException.class, export::next).reason());
            assertEquals(3, streams.get());
        }
    }

    @Test
    void aStreamEndsWithItsClient() {
        gateway.export = (request, responses) -> responses.onNext(page(0));
        var export = client.exportLeads(ExportLeadsRequest.getDefaultInstance());
        export.next();
        CompletableFuture<Void> closed = CompletableFuture.runAsync(client::close);
        LeadgateException error = assertTimeoutPreemptively(
                Duration.ofSeconds(30), () -> assertThrows(LeadgateException.class, export::hasNext));
        assertEquals(Code.UNAVAILABLE, error.code());
        closed.join();
    }

    @Test
    void aSourceThatFailsEndsItsImport() throws Exception {
        CountDownLatch cancelled = new CountDownLatch(2);
        gateway.imports = responses -> new Rows(responses) {
            @Override
            public void onError(Throwable error) {
                cancelled.countDown();
            }
        };
        LeadgateException failure = LeadgateException.from(
                FakeGateway.error(Code.NOT_FOUND, "LEAD_NOT_FOUND", Map.of(), null));
        var rows = java.util.stream.Stream.of(1, 2).map(number -> number < 2 ? rows(1).get(0) : raise(failure)).iterator();
        assertSame(failure, assertThrows(LeadgateException.class, () -> client.importLeads(rows).hasNext()));
        var none = Collections.<ImportLeadsRequest>nCopies(1, null).iterator();
        assertThrows(NullPointerException.class, () -> client.importLeads(none).hasNext());
        assertTrue(cancelled.await(10, TimeUnit.SECONDS));
    }

    private static ImportLeadsRequest raise(RuntimeException error) {
        throw error;
    }

    @Test
    void aSlowReaderSlowsTheServerDown() {
        AtomicInteger sent = new AtomicInteger();
        ExportLeadsResponse large = ExportLeadsResponse.newBuilder()
                .addLeads(Lead.newBuilder().setOwnerName("x".repeat(100_000)))
                .build();
        gateway.export = (request, responses) -> {
            var observer = (ServerCallStreamObserver<ExportLeadsResponse>) responses;
            observer.setOnReadyHandler(() -> {
                while (observer.isReady() && sent.get() < 500) {
                    observer.onNext(large);
                    if (sent.incrementAndGet() == 500) {
                        observer.onCompleted();
                    }
                }
            });
        };
        try (var export = client.exportLeads(ExportLeadsRequest.getDefaultInstance())) {
            export.next();
            int settled = -1;
            while (settled != sent.get()) {
                settled = sent.get();
                java.util.concurrent.locks.LockSupport.parkNanos(TimeUnit.MILLISECONDS.toNanos(300));
            }
            assertTrue(settled < 100, "messages sent ahead: " + settled);
            assertEquals(499, export.stream().count());
        }
    }

    @Test
    void anImportSendsRowsWithoutResultAgainWithTheSameIds() {
        Map<String, String> ids = new java.util.concurrent.ConcurrentHashMap<>();
        Set<String> changed = new HashSet<>();
        AtomicInteger streams = new AtomicInteger();
        gateway.imports = responses -> {
            int stream = streams.incrementAndGet();
            return new Rows(responses) {
                @Override
                public void onNext(ImportLeadsRequest row) {
                    String email = row.getCreate().getLead().getEmailAddress();
                    String id = ids.putIfAbsent(email, row.getCreate().getRequestId());
                    if (id != null && !id.equals(row.getCreate().getRequestId())) {
                        changed.add(email);
                    }
                    received++;
                    if (stream == 3 && received == 10) {
                        // The response of a gateway that ends.
                        responses.onNext(ImportLeadsResponse.newBuilder()
                                .setSequence(row.getSequence())
                                .setError(StatusProto.fromThrowable(
                                        FakeGateway.error(Code.UNAVAILABLE, "SHUTTING_DOWN", Map.of(), Duration.ZERO)))
                                .build());
                        return;
                    }
                    // Every second row has a result before the stream is interrupted.
                    if (stream >= 3 || received % 2 == 0) {
                        responses.onNext(ImportLeadsResponse.newBuilder().setSequence(row.getSequence()).build());
                    }
                    if (stream < 3 && received == 30) {
                        responses.onError(FakeGateway.error(Code.UNAVAILABLE, "SHUTTING_DOWN", Map.of(), Duration.ZERO));
                    }
                }
            };
        };
        try (ImportStream results = client.importLeads(rows(100).iterator())) {
            List<String> emails = new ArrayList<>();
            results.forEach(result -> {
                assertEquals(7, result.response().getSequence());
                emails.add(result.row().getCreate().getLead().getEmailAddress());
            });
            assertEquals(100, emails.size());
            assertEquals(100, new HashSet<>(emails).size());
            assertEquals(4, streams.get());
            assertEquals(Set.of(), changed);
            assertEquals(100, results.succeeded());
        }
    }

    @Test
    void anImportTakesRowsOnlyAsFastAsTheServer() throws Exception {
        CountDownLatch open = new CountDownLatch(1);
        gateway.imports = responses -> {
            var observer = (ServerCallStreamObserver<ImportLeadsResponse>) responses;
            observer.disableAutoRequest();
            open.countDown();
            return new Rows(responses);
        };
        AtomicInteger taken = new AtomicInteger();
        ImportLeadsRequest large = rows(1).get(0).toBuilder()
                .setCreate(CreateLeadRequest.newBuilder().setLead(LeadFields.newBuilder().setNotes("x".repeat(10_000))))
                .build();
        ImportStream results = client.importLeads(
                IntStream.range(0, 100_000).mapToObj(number -> large).peek(row -> taken.incrementAndGet()).iterator(),
                CallOptions.DEFAULT.withDeadlineAfter(3, TimeUnit.SECONDS));
        assertEquals(Code.DEADLINE_EXCEEDED, assertThrows(LeadgateException.class, results::hasNext).code());
        assertEquals(0, open.getCount());
        // The flow control window of the server has some hundred rows of 10 kB. Without flow control, the layer stops at 2,000.
        assertTrue(taken.get() > 0 && taken.get() < 1_000, "rows taken: " + taken.get());
    }

    @Test
    void anImportThatEndsTooEarlyIsContinuedAndRowsHaveErrors() {
        AtomicInteger streams = new AtomicInteger();
        gateway.imports = responses -> {
            if (streams.incrementAndGet() == 1) {
                responses.onCompleted();
            }
            return new Rows(responses) {
                @Override
                public void onNext(ImportLeadsRequest row) {
                    responses.onNext(ImportLeadsResponse.newBuilder()
                            .setSequence(row.getSequence())
                            .setError(com.google.rpc.Status.newBuilder().setCode(Code.ALREADY_EXISTS.value()))
                            .build());
                }
            };
        };
        try (ImportStream results = client.importLeads(rows(3).iterator())) {
            ImportStream.Result first = results.next();
            LeadgateException error = first.error().orElseThrow();
            assertEquals(Code.ALREADY_EXISTS, error.code());
            assertEquals(7, java.util.UUID.fromString(error.requestId()).version());
            assertEquals(first.row().getCreate().getRequestId(), error.requestId());
            assertEquals(2, results.stream().count());
            assertEquals(3, results.failed());
            assertEquals(2, streams.get());
        }
    }

    /** Ignores rows, and ends with the caller. */
    private static class Rows implements StreamObserver<ImportLeadsRequest> {
        private final StreamObserver<ImportLeadsResponse> responses;
        int received;

        Rows(StreamObserver<ImportLeadsResponse> responses) {
            this.responses = responses;
        }

        @Override
        public void onNext(ImportLeadsRequest row) {}

        @Override
        public void onError(Throwable error) {}

        @Override
        public void onCompleted() {
            responses.onCompleted();
        }
    }
}
