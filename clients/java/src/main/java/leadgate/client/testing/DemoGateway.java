package leadgate.client.testing;

import java.io.BufferedReader;
import java.io.File;
import java.io.IOException;
import java.net.URI;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.concurrent.TimeUnit;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import leadgate.client.LeadgateClient;

/**
 * A gateway with a simulated LeadSquared, on free ports of 127.0.0.1. The binary is named by the environment variable LEADGATE_BIN, and
 * otherwise {@code leadgate} on the PATH.
 */
public final class DemoGateway implements AutoCloseable {
    private static final Pattern ENTRY = Pattern.compile("\"(\\w+)\":\"((?:[^\"\\\\]|\\\\.)*)\"");

    private final Process process;
    private final Path errors;
    private final Map<String, String> facts = new HashMap<>();
    private final Thread stopAtExit;

    private DemoGateway(Process process, Path errors) {
        this.process = process;
        this.errors = errors;
        this.stopAtExit = new Thread(process::destroy);
        Runtime.getRuntime().addShutdownHook(stopAtExit);
    }

    /**
     * Starts a gateway and waits until it is ready.
     *
     * @param secure whether it uses TLS and needs a token
     * @return the gateway
     * @throws IOException if it cannot be started
     */
    public static DemoGateway start(boolean secure) throws IOException {
        List<String> command = new ArrayList<>(List.of(binary(), "demo", "--quiet"));
        if (secure) {
            command.add("--secure");
        }
        Path errors = Files.createTempFile("leadgate-demo", ".log");
        Process process;
        try {
            process = new ProcessBuilder(command).redirectError(errors.toFile()).start();
        } catch (IOException missing) {
            throw new IOException(binary() + " cannot be run: set LEADGATE_BIN to the path of leadgate", missing);
        }
        DemoGateway gateway = new DemoGateway(process, errors);
        gateway.readFacts();
        return gateway;
    }

    /** {@return the path of the leadgate binary} */
    public static String binary() {
        return Optional.ofNullable(System.getenv("LEADGATE_BIN")).filter(name -> !name.isEmpty()).orElse("leadgate");
    }

    private void readFacts() throws IOException {
        BufferedReader output = process.inputReader(StandardCharsets.UTF_8);
        String line = output.readLine();
        if (line == null) {
            String text = Files.readString(errors);
            close();
            throw new IOException("leadgate demo has ended: " + text);
        }
        Matcher entries = ENTRY.matcher(line);
        while (entries.find()) {
            facts.put(entries.group(1), entries.group(2).replaceAll("\\\\(.)", "$1"));
        }
    }

    /** {@return the address of the gateway} */
    public String address() {
        return facts.get("address");
    }

    /** {@return the control path of the simulated LeadSquared, which ends with a slash} */
    public URI simulator() {
        return URI.create("http://" + facts.get("simulator") + "/_simulator/");
    }

    /** {@return the token; absent without TLS} */
    public Optional<String> token() {
        return Optional.ofNullable(facts.get("token"));
    }

    /** {@return the API key; absent without TLS} */
    public Optional<String> apiKey() {
        return Optional.ofNullable(facts.get("api_key"));
    }

    /** {@return the file of the CA; absent without TLS} */
    public Optional<Path> caFile() {
        return file("ca_file");
    }

    /** {@return the file of a client certificate; absent without TLS} */
    public Optional<Path> certificateFile() {
        return file("cert_file");
    }

    /** {@return the file of the key of the client certificate; absent without TLS} */
    public Optional<Path> keyFile() {
        return file("key_file");
    }

    private Optional<Path> file(String name) {
        return Optional.ofNullable(facts.get(name)).map(File::new).map(File::toPath);
    }

    /**
     * Returns the settings of a client of this gateway.
     *
     * @return a builder with CA and token, or without TLS
     * @throws IOException if the file of the CA cannot be read
     */
    public LeadgateClient.Builder client() throws IOException {
        LeadgateClient.Builder builder = LeadgateClient.builder(address());
        return caFile().isEmpty() ? builder.plaintext() : builder.caFile(caFile().get()).token(token().orElseThrow());
    }

    /** Stops the gateway and waits for its end. */
    @Override
    public void close() throws IOException {
        try {
            Runtime.getRuntime().removeShutdownHook(stopAtExit);
        } catch (IllegalStateException exiting) {
            // The hook stops the process.
        }
        process.destroy();
        try {
            if (!process.waitFor(30, TimeUnit.SECONDS)) {
                process.destroyForcibly().waitFor();
            }
        } catch (InterruptedException interrupted) {
            process.destroyForcibly();
            Thread.currentThread().interrupt();
        }
        Files.deleteIfExists(errors);
    }
}
