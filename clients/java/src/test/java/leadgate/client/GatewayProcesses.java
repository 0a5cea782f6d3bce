package leadgate.client;

import java.io.IOException;
import java.net.InetAddress;
import java.net.ServerSocket;
import java.net.URI;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.concurrent.TimeUnit;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import leadgate.client.testing.DemoGateway;

/** A simulated LeadSquared and a gateway as two processes. The gateway can be killed and started again. */
final class GatewayProcesses implements AutoCloseable {
    private static final Pattern ADDRESS = Pattern.compile("at (http://\\S+)");

    private final Path folder;
    private final Process simulator;
    private final String simulatorUrl;
    private final int port;
    private Process gateway;

    GatewayProcesses(Path folder, String serverSettings) throws IOException {
        this.folder = folder;
        this.simulator = new ProcessBuilder(
                        DemoGateway.binary(), "simulate", "--listen", "127.0.0.1:0", "--latency", "100ms", "--calls", "100",
                        "--bulk", "100", "--per", "1s")
                .redirectError(folder.resolve("simulator.log").toFile())
                .start();
        String line = simulator.inputReader(StandardCharsets.UTF_8).readLine();
        Matcher address = ADDRESS.matcher(String.valueOf(line));
        if (!address.find()) {
            throw new IOException("leadgate simulate: " + line);
        }
        simulatorUrl = address.group(1);
        try (ServerSocket free = new ServerSocket(0, 1, InetAddress.getLoopbackAddress())) {
            port = free.getLocalPort();
        }
        Files.writeString(folder.resolve("leadgate.toml"), """
                [server]
                listen = "127.0.0.1:%d"
                %s
                [admin]
                listen = "127.0.0.1:0"
                [store]
                url = "sqlite://%s"
                [tenants.demo]
                base_url = "%s"
                access_key = 'u$rSimulatorAccessKey'
                secret_key = "simulator-secret-key"
                [tenants.demo.limits]
                calls = 100
                bulk = 100
                window = "1s"
                [tenants.demo.upstream]
                settle_timeout = "2s"
                visible_after = "200ms"
                """.formatted(port, serverSettings, folder.resolve("leadgate.db"), simulatorUrl));
        start();
    }

    void start() throws IOException {
        gateway = new ProcessBuilder(
                        DemoGateway.binary(), "serve", "--config", folder.resolve("leadgate.toml").toString())
                .redirectErrorStream(true)
                .redirectOutput(ProcessBuilder.Redirect.appendTo(folder.resolve("gateway.log").toFile()))
                .start();
    }

    /** Kills the gateway, so that it cannot finish anything. */
    void kill() throws InterruptedException {
        gateway.destroyForcibly().waitFor();
    }

    LeadgateClient.Builder client() {
        return LeadgateClient.builder("127.0.0.1:" + port).plaintext();
    }

    Simulator simulator() {
        return new Simulator(URI.create(simulatorUrl + "/_simulator/"));
    }

    @Override
    public void close() throws IOException {
        for (Process process : new Process[] {gateway, simulator}) {
            process.destroy();
            try {
                if (!process.waitFor(30, TimeUnit.SECONDS)) {
                    process.destroyForcibly();
                }
            } catch (InterruptedException interrupted) {
                process.destroyForcibly();
                Thread.currentThread().interrupt();
            }
        }
    }
}
