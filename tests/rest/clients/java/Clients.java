import java.io.InputStream;
import java.net.HttpURLConnection;
import java.net.URI;
import java.net.URLEncoder;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpRequest.BodyPublishers;
import java.net.http.HttpResponse.BodyHandlers;
import java.nio.charset.StandardCharsets;
import java.util.Base64;
import java.util.Map;
import java.util.regex.Pattern;

/** Java: {@code java.net.http}, which asks for HTTP/2 by an upgrade, or {@code HttpURLConnection}. Keys in headers. */
public final class Clients {
    private static final String LEAD =
            "[{\"Attribute\":\"FirstName\",\"Value\":\"José 🙂\"},{\"Attribute\":\"EmailAddress\",\"Value\":\"jose@example.com\"}]";
    private static final String SEARCH = "{\"Parameter\":{\"LookupName\":\"FirstName\",\"LookupValue\":\"José 🙂\",\"SqlOperator\":\"=\"},"
            + "\"Paging\":{\"PageIndex\":1,\"PageSize\":10}}";
    private static final HttpClient CLIENT = HttpClient.newHttpClient();

    private record Answer(int status, String type, String after, byte[] body) {}

    private interface Sender {
        Answer send(String method, URI uri, Map<String, String> headers, String body) throws Exception;
    }

    private static Answer withClient(String method, URI uri, Map<String, String> headers, String body) throws Exception {
        HttpRequest.Builder request = HttpRequest.newBuilder(uri);
        headers.forEach(request::header);
        request.method(method, body == null ? BodyPublishers.noBody() : BodyPublishers.ofString(body));
        var response = CLIENT.send(request.build(), BodyHandlers.ofByteArray());
        var fields = response.headers();
        return new Answer(
                response.statusCode(),
                fields.firstValue("content-type").orElse(""),
                fields.firstValue("retry-after").orElse(""),
                response.body());
    }

    private static Answer withConnection(String method, URI uri, Map<String, String> headers, String body) throws Exception {
        HttpURLConnection connection = (HttpURLConnection) uri.toURL().openConnection();
        connection.setRequestMethod(method);
        headers.forEach(connection::setRequestProperty);
        if (method.equals("POST")) {
            connection.setDoOutput(true);
            try (var output = connection.getOutputStream()) {
                output.write((body == null ? "" : body).getBytes(StandardCharsets.UTF_8));
            }
        }
        int status = connection.getResponseCode();
        try (InputStream input = status < 400 ? connection.getInputStream() : connection.getErrorStream()) {
            String type = connection.getHeaderField("Content-Type");
            String after = connection.getHeaderField("Retry-After");
            byte[] content = input == null ? new byte[0] : input.readAllBytes();
            return new Answer(status, type == null ? "" : type, after == null ? "" : after, content);
        }
    }

    public static void main(String[] arguments) throws Exception {
        String base = arguments[0], access = arguments[1], secret = arguments[2];
        Sender sender = arguments[3].equals("HttpClient") ? Clients::withClient : Clients::withConnection;
        var steps = new Object() {
            String call(String step, String method, String path, String key, String body) throws Exception {
                var keys = new java.util.LinkedHashMap<>(Map.of("x-LSQ-AccessKey", access, "x-LSQ-SecretKey", key));
                if (body != null) {
                    keys.put("Content-Type", "application/json");
                }
                Answer answer = sender.send(method, URI.create(base + "/" + path), keys, body);
                String content = Base64.getEncoder().encodeToString(answer.body());
                System.out.println(String.join("\t", step, "" + answer.status(), answer.type(), answer.after(), content));
                return new String(answer.body(), StandardCharsets.UTF_8);
            }
        };
        String created = steps.call("create", "POST", "LeadManagement.svc/Lead.Create", secret, LEAD);
        var found = Pattern.compile("\"Id\":\"([^\"]+)\"").matcher(created);
        found.find();
        String id = URLEncoder.encode(found.group(1), StandardCharsets.UTF_8);
        String byId = "LeadManagement.svc/Leads.GetById?id=" + id;
        steps.call("read", "GET", byId, secret, null);
        String update = "[{\"Attribute\":\"LastName\",\"Value\":\"O'Neil\"}]";
        steps.call("update", "POST", "LeadManagement.svc/Lead.Update?leadId=" + id, secret, update);
        steps.call("list", "POST", "LeadManagement.svc/Leads.Get", secret, SEARCH);
        steps.call("duplicate", "POST", "LeadManagement.svc/Lead.Create", secret, LEAD);
        steps.call("empty", "POST", "ProspectActivity.svc/Retrieve?leadId=" + id, secret, null);
        steps.call("wrong keys", "GET", byId, "wrong", null);
        steps.call("refused", "GET", byId, secret, null);
    }
}
