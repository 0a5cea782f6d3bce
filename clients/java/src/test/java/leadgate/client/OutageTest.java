package leadgate.client;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.util.concurrent.TimeUnit;
import java.util.concurrent.locks.LockSupport;
import leadgate.v1.CreateLeadRequest;
import org.junit.jupiter.api.Test;

/** A gateway that is away for longer than the first pauses of gRPC between two connections. */
class OutageTest {
    @Test
    void aCallContinuesSoonAfterAnOutage() throws Exception {
        int port;
        try (FakeGateway before = new FakeGateway()) {
            port = before.port();
        }
        try (LeadgateClient client = LeadgateClient.builder("127.0.0.1:" + port).plaintext().build()) {
            var created = client.leadsFuture()
                    .withDeadlineAfter(60, TimeUnit.SECONDS)
                    .createLead(CreateLeadRequest.getDefaultInstance());
            // gRPC alone connects after about 0, 1, 3, 5, 9, 16 and 26 s.
            LockSupport.parkNanos(TimeUnit.SECONDS.toNanos(18));
            long start = System.nanoTime();
            try (FakeGateway after = new FakeGateway(port)) {
                created.get(30, TimeUnit.SECONDS);
                assertEquals(1, after.creates.size());
                long millis = TimeUnit.NANOSECONDS.toMillis(System.nanoTime() - start);
                assertTrue(millis < 4_000, "created after " + millis + " ms");
            }
        }
    }
}
