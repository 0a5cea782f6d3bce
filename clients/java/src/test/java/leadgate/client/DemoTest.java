package leadgate.client;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.google.protobuf.Timestamp;
import com.google.rpc.BadRequest;
import io.grpc.Status.Code;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.Set;
import java.util.UUID;
import java.util.concurrent.TimeUnit;
import java.util.stream.Collectors;
import java.util.stream.IntStream;
import leadgate.client.testing.LeadgateExtension;
import leadgate.v1.Access;
import leadgate.v1.CreateLeadRequest;
import leadgate.v1.ErrorReason;
import leadgate.v1.ExportLeadsRequest;
import leadgate.v1.GetLeadRequest;
import leadgate.v1.GetQuotaRequest;
import leadgate.v1.ImportLeadsRequest;
import leadgate.v1.Lead;
import leadgate.v1.LeadFields;
import leadgate.v1.ListActivityTypesRequest;
import leadgate.v1.ListUsersRequest;
import leadgate.v1.RevokeSharesRequest;
import leadgate.v1.Share;
import leadgate.v1.ShareLeadRequest;
import leadgate.v1.ShareState;
import leadgate.v1.UpsertLeadRequest;
import leadgate.v1.WaitFor;
import leadgate.v1.WatchQuotaRequest;
import leadgate.v1.WatchShareRequest;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.extension.RegisterExtension;
import org.junit.jupiter.api.io.TempDir;

/** A gateway with TLS and callers. */
class DemoTest {
    @RegisterExtension
    static final LeadgateExtension leadgate = LeadgateExtension.secure();

    private static final GetQuotaRequest QUOTA = GetQuotaRequest.getDefaultInstance();

    private static CreateLeadRequest lead(String email) {
        return CreateLeadRequest.newBuilder()
                .setLead(LeadFields.newBuilder().setFirstName("Ben").setEmailAddress(email))
                .build();
    }

    private static LeadgateClient.Builder tls() throws Exception {
        return LeadgateClient.builder(leadgate.gateway().address()).caFile(leadgate.gateway().caFile().orElseThrow());
    }

    private static LeadgateException refused(LeadgateClient client) {
        return assertThrows(LeadgateException.class, () -> client.quota().getQuota(QUOTA));
    }

    @Test
    void aCallerHasATokenOrACertificate() throws Exception {
        try (LeadgateClient token = tls().token(() -> leadgate.gateway().token().orElseThrow()).tenant("demo").build();
                LeadgateClient certificate = tls().clientCertificate(
                                leadgate.gateway().certificateFile().orElseThrow(), leadgate.gateway().keyFile().orElseThrow())
                        .build();
                LeadgateClient none = tls().build()) {
            token.quota().getQuota(QUOTA);
            certificate.quota().getQuota(QUOTA);
            assertEquals(ErrorReason.CALLER_UNKNOWN, refused(none).reason());
            assertEquals(Code.UNAUTHENTICATED, refused(none).code());
        }
    }

    @Test
    void aTokenFileMayBeReplaced(@TempDir Path folder) throws Exception {
        Path file = Files.writeString(folder.resolve("token"), "lg_checkout_wrong");
        try (LeadgateClient client = tls().tokenFile(file).build()) {
            assertEquals(ErrorReason.CALLER_UNKNOWN, refused(client).reason());
            Files.writeString(file, leadgate.gateway().token().orElseThrow() + "\n");
            client.quota().getQuota(QUOTA);
        }
    }

    @Test
    void theCertificateOfTheServerIsChecked() throws Exception {
        String address = leadgate.gateway().address();
        long start = System.nanoTime();
        try (LeadgateClient system = LeadgateClient.builder(address).token("secret").build()) {
            LeadgateException error = refused(system);
            assertEquals(Code.UNAVAILABLE, error.code());
            assertTrue(error.getMessage().contains("caFile"), error.getMessage());
            assertTrue(error.getMessage().contains("unable to find valid certification path"), error.getMessage());
        }
        try (FakeGateway plaintext = new FakeGateway();
                LeadgateClient tls = LeadgateClient.builder("127.0.0.1:" + plaintext.port()).build();
                LeadgateClient none = LeadgateClient.builder(address).plaintext().build()) {
            LeadgateException error = refused(tls);
            assertTrue(error.getMessage().contains("has no TLS at this address"), error.getMessage());
            assertTrue(refused(none).getMessage().contains("has TLS at this address"), refused(none).getMessage());
        }
        // No call is repeated until the deadline of 30 s.
        assertTrue(System.nanoTime() - start < TimeUnit.SECONDS.toNanos(15));
    }

    @Test
    void anUnknownTenantIsRefused() throws Exception {
        LeadgateException error = assertThrows(LeadgateException.class, () -> leadgate.client()
                .quota()
                .withOption(LeadgateClient.TENANT, "other")
                .getQuota(QUOTA));
        assertEquals(ErrorReason.CALLER_NOT_ALLOWED, error.reason());
        assertEquals("tenant", error.metadata().get("rule"));
        assertFalse(error.rpcId().isEmpty());
    }

    @Test
    void aDuplicateNamesTheOtherLead() {
        String id = leadgate.client().leads().createLead(lead("duplicate@example.com")).getLeadId();
        LeadgateException error = assertThrows(
                LeadgateException.class, () -> leadgate.client().leads().createLead(lead("duplicate@example.com")));
        switch (error.reason()) {
            case LEAD_DUPLICATE -> assertEquals(id, error.resource().orElseThrow().getResourceName());
            default -> throw error;
        }
        assertEquals(Code.ALREADY_EXISTS, error.code());
        assertEquals(7, UUID.fromString(error.requestId()).version());
    }

    @Test
    void allInvalidFieldsAreNamed() {
        LeadgateException error = assertThrows(LeadgateException.class, () -> leadgate.client()
                .leads()
                .createLead(CreateLeadRequest.newBuilder()
                        .setLead(LeadFields.newBuilder().setEmailAddress("no address").setPhone("no number"))
                        .setValidateOnly(true)
                        .build()));
        assertEquals(ErrorReason.INVALID_FIELD, error.reason());
        assertEquals(
                Set.of("lead.email_address", "lead.phone"),
                error.violations().stream().map(BadRequest.FieldViolation::getField).collect(Collectors.toSet()));
        leadgate.client().leads().createLead(lead("valid@example.com").toBuilder().setValidateOnly(true).build());
    }

    @Test
    void sameRequestIdSameLead() {
        CreateLeadRequest request = lead("once@example.com").toBuilder().setRequestId(UUID.randomUUID().toString()).build();
        assertEquals(leadgate.client().leads().createLead(request), leadgate.client().leads().createLead(request));
    }

    @Test
    void aLeadIsUpsertedAndRead() throws Exception {
        String id = leadgate.client()
                .leads()
                .upsertLead(UpsertLeadRequest.newBuilder()
                        .setLead(LeadFields.newBuilder().setEmailAddress("upsert@example.com").setCity("Pune"))
                        .build())
                .getLeadId();
        GetLeadRequest read = GetLeadRequest.newBuilder().setLeadId(id).build();
        assertEquals("Pune", leadgate.client().leads().getLead(read).getLead().getFields().getCity());
        assertEquals("Pune", leadgate.client().leadsFuture().getLead(read).get().getLead().getFields().getCity());
    }

    @Test
    void theOtherServicesAreThere() {
        assertTrue(leadgate.client().users().listUsers(ListUsersRequest.getDefaultInstance()).getUsersCount() > 0);
        assertTrue(leadgate.client()
                        .activities()
                        .listActivityTypes(ListActivityTypesRequest.getDefaultInstance())
                        .getActivityTypesCount()
                > 0);
        try (var quota = leadgate.client().watchQuota(WatchQuotaRequest.getDefaultInstance())) {
            assertTrue(quota.hasNext());
        }
    }

    @Test
    void aShareIsWatchedUntilItIsRevoked() {
        LeadgateClient client = leadgate.client();
        String lead = client.leads().createLead(lead("shared@example.com")).getLeadId();
        Share share = client.shares()
                .shareLead(ShareLeadRequest.newBuilder()
                        .setLeadId(lead)
                        .setUserEmailAddress("sam@simulator.example")
                        .setAccess(Access.ACCESS_READ)
                        .setWaitFor(WaitFor.WAIT_FOR_NONE)
                        .build())
                .getShare();
        WatchShareRequest request = WatchShareRequest.newBuilder().setShareId(share.getShareId()).build();
        try (var states = client.watchShare(request)) {
            assertTrue(states.stream().anyMatch(state -> state.getShare().getState() == ShareState.SHARE_STATE_ACTIVE));
        }
        RevokeSharesRequest all = RevokeSharesRequest.newBuilder().setLeadId(lead).build();
        try (var revoked = client.revokeShares(all)) {
            assertEquals(1, revoked.stream().filter(result -> !result.hasError()).count());
        }
        try (var states = client.watchShare(request)) {
            ShareState last = states.stream().reduce((first, second) -> second).orElseThrow().getShare().getState();
            assertEquals(ShareState.SHARE_STATE_REVOKED, last);
        }
    }

    @Test
    void importedLeadsAreExported() {
        List<ImportLeadsRequest> rows = IntStream.range(0, 60)
                .mapToObj(number -> ImportLeadsRequest.newBuilder().setCreate(lead("import-" + number + "@example.com")).build())
                .toList();
        Set<String> imported;
        try (ImportStream results = leadgate.client().importLeads(rows.iterator())) {
            imported = results.stream()
                    .map(result -> result.response().getResponse().getLeadId())
                    .collect(Collectors.toSet());
            assertEquals(60, results.succeeded());
        }
        assertEquals(60, imported.size());
        ExportLeadsRequest range = ExportLeadsRequest.newBuilder()
                .setStartTime(Timestamp.newBuilder().setSeconds(System.currentTimeMillis() / 1000 - 600))
                .setEndTime(Timestamp.newBuilder().setSeconds(System.currentTimeMillis() / 1000 + 1))
                .build();
        try (var export = leadgate.client().exportLeads(range)) {
            Set<String> exported = export.stream()
                    .flatMap(page -> page.getLeadsList().stream())
                    .map(Lead::getLeadId)
                    .collect(Collectors.toSet());
            assertTrue(exported.containsAll(imported));
        }
    }
}
