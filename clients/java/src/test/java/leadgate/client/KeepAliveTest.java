package leadgate.client;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertTrue;

import io.grpc.ConnectivityState;
import java.nio.file.Path;
import java.time.Duration;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.TimeUnit;
import leadgate.v1.GetQuotaRequest;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.api.parallel.Execution;
import org.junit.jupiter.api.parallel.ExecutionMode;

/** An idle connection: the shortest interval of the transport is 10 s, a third of the default. The server's is a third, too. */
@Execution(ExecutionMode.CONCURRENT)
class KeepAliveTest {
    /** Enough for the PINGs after which a server closes the connection, if they come too early. */
    private static final int IDLE_SECONDS = 47;

    /** Returns whether a connection without calls changed its state. */
    private static boolean loses(Path folder, String settings) throws Exception {
        try (GatewayProcesses processes = new GatewayProcesses(folder, settings);
                LeadgateClient client = processes.client().keepAlive(Duration.ofSeconds(10)).build()) {
            client.quota().getQuota(GetQuotaRequest.getDefaultInstance());
            assertEquals(ConnectivityState.READY, client.owned.getState(false));
            CountDownLatch changed = new CountDownLatch(1);
            client.owned.notifyWhenStateChanged(ConnectivityState.READY, changed::countDown);
            boolean lost = changed.await(IDLE_SECONDS, TimeUnit.SECONDS);
            client.quota().getQuota(GetQuotaRequest.getDefaultInstance());
            return lost;
        }
    }

    @Test
    void anIdleConnectionStaysOpen(@TempDir Path folder) throws Exception {
        assertFalse(loses(folder, "keepalive_min_interval = \"3s\""));
    }

    @Test
    void tooManyPingsWouldCloseTheConnection(@TempDir Path folder) throws Exception {
        assertTrue(loses(folder, "keepalive_min_interval = \"30s\""));
    }
}
