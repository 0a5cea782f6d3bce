package leadgate.client;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.google.common.util.concurrent.ListenableFuture;
import java.nio.file.Path;
import java.util.HashSet;
import java.util.LinkedHashMap;
import java.util.Map;
import java.util.Optional;
import java.util.Set;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.Future;
import java.util.concurrent.TimeUnit;
import java.util.stream.IntStream;
import leadgate.v1.CreateLeadRequest;
import leadgate.v1.CreateLeadResponse;
import leadgate.v1.ImportLeadsRequest;
import leadgate.v1.LeadFields;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** The gateway is killed and started again while calls are in progress. */
class KilledGatewayTest {
    private static CreateLeadRequest lead(String email) {
        return CreateLeadRequest.newBuilder()
                .setLead(LeadFields.newBuilder().setEmailAddress(email))
                .build();
    }

    @Test
    void twentyCreatesLeaveOneLeadEach(@TempDir Path folder) throws Exception {
        try (GatewayProcesses processes = new GatewayProcesses(folder, "");
                LeadgateClient client = processes.client().build()) {
            client.leads().createLead(lead("warm-up@example.com"));
            // Of the first ten creates, five are executed without a response.
            processes.simulator().post("faults", """
                    {"on": "Lead.Create", "what": {"commit-then-hang": {"for": "60s"}}, "times": 5, "after": 5}""");
            CountDownLatch responses = new CountDownLatch(5);
            Map<String, ListenableFuture<CreateLeadResponse>> created = new LinkedHashMap<>();
            for (int number = 0; number < 20; number++) {
                String email = "killed-" + number + "@example.com";
                var future = client.leadsFuture().withDeadlineAfter(60, TimeUnit.SECONDS).createLead(lead(email));
                future.addListener(responses::countDown, Runnable::run);
                created.put(email, future);
                if (number == 9) {
                    assertTrue(responses.await(30, TimeUnit.SECONDS));
                    while (!created.keySet().stream().allMatch(processes.simulator()::hasLead)) {
                        Thread.onSpinWait();
                    }
                    assertEquals(5, created.values().stream().filter(Future::isDone).count());
                    // The other ten creates are sent while there is no gateway.
                    processes.kill();
                }
            }
            processes.start();
            for (var entry : created.entrySet()) {
                String id = entry.getValue().get(60, TimeUnit.SECONDS).getLeadId();
                assertEquals(1, processes.simulator().leadsWith(entry.getKey()), entry.getKey());
                assertEquals(1, processes.simulator().leadsWith(id), entry.getKey());
            }
        }
    }

    @Test
    void anImportLeavesOneLeadPerRow(@TempDir Path folder) throws Exception {
        try (GatewayProcesses processes = new GatewayProcesses(folder, "");
                LeadgateClient client = processes.client().build()) {
            var rows = IntStream.range(0, 3_000)
                    .mapToObj(number -> ImportLeadsRequest.newBuilder()
                            .setCreate(lead("row-" + number + "@example.com"))
                            .build());
            Set<String> emails = new HashSet<>();
            try (ImportStream results = client.importLeads(rows.iterator())) {
                for (ImportStream.Result result : results) {
                    assertEquals(Optional.empty(), result.error());
                    assertTrue(emails.add(result.row().getCreate().getLead().getEmailAddress()));
                    if (emails.size() == 100) {
                        processes.kill();
                        processes.start();
                    }
                }
            }
            assertEquals(3_000, emails.size());
            String leads = processes.simulator().get("leads");
            for (String email : emails) {
                assertEquals(2, leads.split("\"" + email + "\"", -1).length, email);
            }
        }
    }
}
