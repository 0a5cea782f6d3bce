package leadgate.client;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.google.common.util.concurrent.ListenableFuture;
import io.grpc.Status.Code;
import java.time.Duration;
import java.util.List;
import java.util.concurrent.TimeUnit;
import java.util.stream.IntStream;
import leadgate.client.testing.LeadgateExtension;
import leadgate.v1.CreateLeadRequest;
import leadgate.v1.CreateLeadResponse;
import leadgate.v1.ErrorReason;
import leadgate.v1.LeadFields;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.extension.RegisterExtension;

/** Calls while the quota (25 calls in 5 s) is exhausted. */
class QuotaTest {
    @RegisterExtension
    static final LeadgateExtension leadgate = LeadgateExtension.plaintext();

    private static List<ListenableFuture<CreateLeadResponse>> create(String name, int count) {
        return IntStream.range(0, count)
                .mapToObj(number -> leadgate.client()
                        .leadsFuture()
                        .withDeadlineAfter(60, TimeUnit.SECONDS)
                        .createLead(CreateLeadRequest.newBuilder()
                                .setLead(LeadFields.newBuilder().setEmailAddress(name + number + "@example.com"))
                                .build()))
                .toList();
    }

    @Test
    void fiftyCallsEndWellBeforeTheirDeadline() throws Exception {
        long start = System.nanoTime();
        // 25 calls use up the window of 5 s.
        for (var call : create("exhausting-", 25)) {
            call.get(10, TimeUnit.SECONDS);
        }
        List<ListenableFuture<CreateLeadResponse>> calls = create("waiting-", 50);

        LeadgateException refused = assertThrows(LeadgateException.class, () -> leadgate.client()
                .leads()
                .withDeadlineAfter(3, TimeUnit.SECONDS)
                .createLead(CreateLeadRequest.newBuilder()
                        .setLead(LeadFields.newBuilder().setEmailAddress("short@example.com"))
                        .build()));
        assertTrue(System.nanoTime() - start < TimeUnit.SECONDS.toNanos(6));
        assertEquals(ErrorReason.DEADLINE_INFEASIBLE, refused.reason(), refused.toString());
        assertEquals(Code.RESOURCE_EXHAUSTED, refused.code());
        assertTrue(refused.retryAfter().orElseThrow().compareTo(Duration.ofSeconds(1)) > 0, refused.toString());

        for (var call : calls) {
            call.get(30, TimeUnit.SECONDS);
        }
        long seconds = TimeUnit.NANOSECONDS.toSeconds(System.nanoTime() - start);
        assertTrue(seconds >= 9, "the quota was not exhausted: " + seconds + " s");
        assertTrue(seconds < 30, seconds + " s");
    }
}
