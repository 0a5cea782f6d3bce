package example;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertLinesMatch;

import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.stream.Collectors;
import leadgate.client.testing.LeadgateExtension;
import leadgate.v1.LeadFields;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.extension.RegisterExtension;
import org.junit.jupiter.api.io.TempDir;

/** Runs the program against a gateway with TLS and callers. */
class OnboardingTest {
    @RegisterExtension
    static final LeadgateExtension leadgate = LeadgateExtension.secure();

    @Test
    void findsALeadThatTheErrorDoesNotName() throws Exception {
        // The look-up for the error fails.
        HttpRequest fault = HttpRequest.newBuilder(leadgate.gateway().simulator().resolve("faults"))
                .POST(HttpRequest.BodyPublishers.ofString("{\"on\": \"Leads.GetByEmailaddress\", \"what\": \"empty500\"}"))
                .build();
        assertEquals(2, HttpClient.newHttpClient().send(fault, HttpResponse.BodyHandlers.ofString()).statusCode() / 100);
        Onboarding onboarding = new Onboarding(leadgate.client(), System.out);
        LeadFields asha = LeadFields.newBuilder().setEmailAddress("asha@example.com").build();
        String id = onboarding.createOrFind(asha);
        assertFalse(id.isEmpty());
        assertEquals(id, onboarding.createOrFind(asha));
    }

    @Test
    void theWholeStory(@TempDir Path folder) throws Exception {
        Path token = Files.writeString(folder.resolve("token"), leadgate.gateway().token().orElseThrow());
        Process program = new ProcessBuilder(
                        Path.of(System.getProperty("java.home"), "bin", "java").toString(),
                        "-cp",
                        System.getProperty("java.class.path"),
                        "example.Onboarding",
                        leadgate.gateway().address(),
                        "--ca",
                        leadgate.gateway().caFile().orElseThrow().toString(),
                        "--token-file",
                        token.toString())
                .redirectErrorStream(true)
                .start();
        List<String> lines = program.inputReader(StandardCharsets.UTF_8).lines().collect(Collectors.toList());
        assertEquals(0, program.waitFor(), () -> String.join("\n", lines));
        assertLinesMatch(
                List.of(
                        "created [0-9a-f-]{36}",
                        "duplicate of [0-9a-f-]{36} in lead.email_address",
                        "upserted and read [0-9a-f-]{36}: Pune",
                        "rejected Customer 39: \\[lead.email_address: .*\\]",
                        "imported 39 of 40 leads",
                        ">> states >>",
                        "share SHARE_STATE_ACTIVE",
                        "share SHARE_STATE_REVOKED",
                        "[1-5]?\\d of 60 searches were served",
                        "DEADLINE_INFEASIBLE: try again after [1-9]\\d* ms"),
                lines);
        assertEquals(lines.get(0).split(" ")[1], lines.get(1).split(" ")[2]);
    }
}
