package leadgate.client.testing;

import java.io.IOException;
import leadgate.client.LeadgateClient;
import org.junit.jupiter.api.extension.AfterAllCallback;
import org.junit.jupiter.api.extension.BeforeAllCallback;
import org.junit.jupiter.api.extension.ExtensionContext;

/**
 * Runs a {@link DemoGateway} while the tests of a class run. It is a static field of the test class:
 *
 * <pre>{@code
 * @RegisterExtension
 * static final LeadgateExtension leadgate = LeadgateExtension.secure();
 * }</pre>
 */
public final class LeadgateExtension implements BeforeAllCallback, AfterAllCallback {
    private final boolean secure;
    private DemoGateway gateway;
    private LeadgateClient client;

    private LeadgateExtension(boolean secure) {
        this.secure = secure;
    }

    /** {@return an extension whose gateway uses TLS and needs a token} */
    public static LeadgateExtension secure() {
        return new LeadgateExtension(true);
    }

    /** {@return an extension whose gateway has neither TLS nor authentication} */
    public static LeadgateExtension plaintext() {
        return new LeadgateExtension(false);
    }

    /** {@return the gateway} */
    public DemoGateway gateway() {
        return gateway;
    }

    /** {@return a client of the gateway, which is closed after the tests} */
    public LeadgateClient client() {
        return client;
    }

    @Override
    public void beforeAll(ExtensionContext context) throws IOException {
        gateway = DemoGateway.start(secure);
        client = gateway.client().build();
    }

    @Override
    public void afterAll(ExtensionContext context) throws IOException {
        if (client != null) {
            client.close();
        }
        if (gateway != null) {
            gateway.close();
        }
    }
}
