package leadgate.client;

import java.io.IOException;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpRequest.BodyPublishers;
import java.net.http.HttpResponse;
import java.net.http.HttpResponse.BodyHandlers;
import java.util.regex.Pattern;

/** The control path of a simulated LeadSquared. */
final class Simulator {
    private static final HttpClient HTTP = HttpClient.newHttpClient();

    private final URI control;

    Simulator(URI control) {
        this.control = control;
    }

    /** The number of leads with a text in one of their attributes. */
    long leadsWith(String text) throws IOException, InterruptedException {
        return Pattern.compile(Pattern.quote('"' + text + '"')).matcher(get("leads")).results().count();
    }

    boolean hasLead(String text) {
        try {
            return leadsWith(text) > 0;
        } catch (IOException | InterruptedException failed) {
            throw new IllegalStateException(failed);
        }
    }

    void post(String path, String body) throws IOException, InterruptedException {
        HttpRequest request =
                HttpRequest.newBuilder(control.resolve(path)).POST(BodyPublishers.ofString(body)).build();
        HttpResponse<String> response = HTTP.send(request, BodyHandlers.ofString());
        if (response.statusCode() >= 300) {
            throw new IOException(response.body());
        }
    }

    String get(String path) throws IOException, InterruptedException {
        return HTTP.send(HttpRequest.newBuilder(control.resolve(path)).build(), BodyHandlers.ofString()).body();
    }
}
