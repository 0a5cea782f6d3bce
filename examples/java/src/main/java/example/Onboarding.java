package example;

import com.google.common.util.concurrent.ListenableFuture;
import com.google.rpc.ResourceInfo;
import java.io.IOException;
import java.io.PrintStream;
import java.nio.file.Path;
import java.time.Duration;
import java.util.List;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.TimeUnit;
import java.util.stream.IntStream;
import java.util.stream.Stream;
import leadgate.client.ImportStream;
import leadgate.client.LeadgateClient;
import leadgate.client.LeadgateException;
import leadgate.v1.Access;
import leadgate.v1.CreateLeadRequest;
import leadgate.v1.ErrorReason;
import leadgate.v1.GetLeadRequest;
import leadgate.v1.ImportLeadsRequest;
import leadgate.v1.Lead;
import leadgate.v1.LeadFields;
import leadgate.v1.QuickSearchLeadsRequest;
import leadgate.v1.QuickSearchLeadsResponse;
import leadgate.v1.RevokeShareRequest;
import leadgate.v1.Share;
import leadgate.v1.ShareLeadRequest;
import leadgate.v1.ShareState;
import leadgate.v1.UpsertLeadRequest;
import leadgate.v1.WaitFor;
import leadgate.v1.WatchShareRequest;
import leadgate.v1.WatchShareResponse;

/** Brings new customers into the CRM, and lets a colleague work with one of them for a while. */
public final class Onboarding {
    private static final String USAGE =
            "usage: onboarding ADDRESS [--ca FILE] [--token-file FILE] [--tenant NAME] [--user EMAIL] [--plaintext]\n"
                    + "The token is read from the file, or else from the environment variable LEADGATE_TOKEN.";

    private final LeadgateClient client;
    private final PrintStream out;

    Onboarding(LeadgateClient client, PrintStream out) {
        this.client = client;
        this.out = out;
    }

    /**
     * Runs the program.
     *
     * @param arguments see USAGE
     * @throws IOException if a file cannot be read
     * @throws InterruptedException if the thread is interrupted
     */
    public static void main(String... arguments) throws IOException, InterruptedException {
        if (arguments.length == 0 || arguments[0].startsWith("-")) {
            System.err.println(USAGE);
            System.exit(2);
        }
        LeadgateClient.Builder builder = LeadgateClient.builder(arguments[0]);
        String user = "sam@simulator.example";
        if (System.getenv("LEADGATE_TOKEN") != null) {
            builder.token(System.getenv("LEADGATE_TOKEN"));
        }
        for (int next = 1; next < arguments.length; next++) {
            switch (arguments[next]) {
                case "--ca" -> builder.caFile(Path.of(arguments[++next]));
                case "--token-file" -> builder.tokenFile(Path.of(arguments[++next]));
                case "--tenant" -> builder.tenant(arguments[++next]);
                case "--user" -> user = arguments[++next];
                case "--plaintext" -> builder.plaintext();
                default -> throw new IllegalArgumentException(arguments[next] + " is not an option\n" + USAGE);
            }
        }
        try (LeadgateClient client = builder.build()) {
            new Onboarding(client, System.out).run(user);
        } catch (LeadgateException error) {
            System.err.println(error.getMessage() + (error.rpcId().isEmpty() ? "" : ", x-request-id " + error.rpcId()));
            System.exit(1);
        }
    }

    void run(String user) throws InterruptedException {
        LeadFields ben = LeadFields.newBuilder()
                .setFirstName("Ben")
                .setEmailAddress("ben@example.com")
                .build();
        String id = createOrFind(ben);
        createOrFind(ben);
        upsertAndRead(ben.toBuilder().setCity("Pune").build());
        importLeads(40);
        shareForAWhile(id, user);
        failWithAShortDeadline();
    }

    /** Creates a lead. If there is one with the same email address, that lead is used. */
    String createOrFind(LeadFields fields) {
        try {
            String id = client.leads()
                    .createLead(CreateLeadRequest.newBuilder().setLead(fields).build())
                    .getLeadId();
            out.println("created " + id);
            return id;
        } catch (LeadgateException error) {
            if (error.reason() != ErrorReason.LEAD_DUPLICATE) {
                throw error;
            }
            // leadgate does not always know the other lead.
            String id = error.resource().map(ResourceInfo::getResourceName).filter(known -> !known.isEmpty())
                    .orElseGet(() -> client.leads()
                            .getLead(GetLeadRequest.newBuilder().setEmailAddress(fields.getEmailAddress()).build())
                            .getLead()
                            .getLeadId());
            out.println("duplicate of " + id + " in " + error.metadata().get("field"));
            return id;
        }
    }

    private void upsertAndRead(LeadFields fields) {
        String id = client.leads()
                .upsertLead(UpsertLeadRequest.newBuilder().setLead(fields).build())
                .getLeadId();
        Lead lead = client.leads()
                .getLead(GetLeadRequest.newBuilder().setLeadId(id).build())
                .getLead();
        out.println("upserted and read " + lead.getLeadId() + ": " + lead.getFields().getCity());
    }

    /** Imports rows as they are produced. Each row has a result of its own. */
    private void importLeads(int count) {
        Stream<ImportLeadsRequest> rows = IntStream.range(0, count)
                .mapToObj(number -> ImportLeadsRequest.newBuilder()
                        .setUpsert(UpsertLeadRequest.newBuilder()
                                .setLead(LeadFields.newBuilder()
                                        .setFirstName("Customer " + number)
                                        // The last address is invalid.
                                        .setEmailAddress(
                                                number == count - 1 ? "no address" : "customer-" + number + "@example.com")))
                        .build());
        try (ImportStream results = client.importLeads(rows.iterator())) {
            for (ImportStream.Result result : results) {
                result.error().ifPresent(error -> out.println("rejected "
                        + result.row().getUpsert().getLead().getFirstName() + ": "
                        + error.violations().stream()
                                .map(violation -> violation.getField() + ": " + violation.getDescription())
                                .toList()));
            }
            out.println("imported " + results.succeeded() + " of " + results.sent() + " leads");
        }
    }

    private void shareForAWhile(String lead, String user) {
        Share share = client.shares()
                .shareLead(ShareLeadRequest.newBuilder()
                        .setLeadId(lead)
                        .setUserEmailAddress(user)
                        .setAccess(Access.ACCESS_READ)
                        .setDuration(com.google.protobuf.Duration.newBuilder().setSeconds(1800))
                        .setWaitFor(WaitFor.WAIT_FOR_NONE)
                        // The lead may be shared already, by an earlier run.
                        .setAllowAdditional(true)
                        .build())
                .getShare();
        try (var states =
                client.watchShare(WatchShareRequest.newBuilder().setShareId(share.getShareId()).build())) {
            for (WatchShareResponse state : states) {
                out.println("share " + state.getShare().getState());
                if (state.getShare().getState() == ShareState.SHARE_STATE_ACTIVE) {
                    break;
                }
                if (state.getShare().getState() == ShareState.SHARE_STATE_FAILED) {
                    throw LeadgateException.from(state.getShare().getFailure());
                }
            }
        }
        ShareState state = client.shares()
                .revokeShare(RevokeShareRequest.newBuilder()
                        .setShareId(share.getShareId())
                        .setWaitFor(WaitFor.WAIT_FOR_ACTIVE)
                        .build())
                .getShare()
                .getState();
        out.println("share " + state);
    }

    /** Sends more calls than the quota allows before their deadline. The others fail at once, with the time after which to try again. */
    private void failWithAShortDeadline() throws InterruptedException {
        List<ListenableFuture<QuickSearchLeadsResponse>> searches =
                IntStream.range(0, 60).mapToObj(this::search).toList();
        int served = 0;
        LeadgateException refused = null;
        for (ListenableFuture<QuickSearchLeadsResponse> search : searches) {
            try {
                search.get();
                served++;
            } catch (ExecutionException error) {
                refused = LeadgateException.from(error);
            }
        }
        out.println(served + " of " + searches.size() + " searches were served");
        if (refused != null) {
            out.println(refused.reason() + ": try again after "
                    + refused.retryAfter().map(Duration::toMillis).orElse(0L) + " ms");
        }
    }

    private ListenableFuture<QuickSearchLeadsResponse> search(int number) {
        return client.leadsFuture()
                .withDeadlineAfter(3, TimeUnit.SECONDS)
                .quickSearchLeads(QuickSearchLeadsRequest.newBuilder().setQuery("Customer " + number).build());
    }
}
