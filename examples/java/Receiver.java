import com.sun.net.httpserver.HttpExchange;
import com.sun.net.httpserver.HttpServer;
import java.io.FileNotFoundException;
import java.io.IOException;
import java.io.RandomAccessFile;
import java.net.InetSocketAddress;
import java.nio.charset.StandardCharsets;
import java.security.GeneralSecurityException;
import java.security.KeyFactory;
import java.security.MessageDigest;
import java.security.Signature;
import java.security.spec.X509EncodedKeySpec;
import java.time.Duration;
import java.time.Instant;
import java.time.OffsetDateTime;
import java.util.*;
import java.util.concurrent.Executors;
import java.util.stream.Collectors;
import javax.crypto.Mac;
import javax.crypto.spec.SecretKeySpec;

/**
 * Takes webhooks of Gancho: verifies them, stores them, and answers. README.md, one folder up, says what it keeps to. Java 17 or newer:
 *
 * <pre>WEBHOOK_KEY='whsec_... whsec_...' STORE=received.log PORT=8080 java Receiver.java</pre>
 */
public class Receiver {
    /** Does what the event is for. After a crash it may be called again with the same event. */
    static void apply(Event event) {
        System.out.println(event.type + " " + event.id); // what takes long belongs in a queue of your own
    }

    /** What the body has, or each element of the list that it is. Numbers in data are BigDecimal, which keeps the digits. */
    record Event(String type, String id, String tenant, String sequence, Instant timestamp, Object data) {
        /** Names what the event is about: of one row, an older event is not applied after a newer one. Null: it has no order. */
        String row() {
            Object key = data instanceof Map<?, ?> fields ? fields.get("id") : null;
            return sequence == null || sequence.isEmpty() || key == null ? null : tenant + "/" + type.split("\\.")[0] + "/" + key; // cobranca of cobranca.liquidada
        }
    }

    /** Reports whether one signature fits one of the keys. */
    static boolean verify(List<String> keys, String id, String stamp, String signatures, byte[] body) {
        if (id == null || stamp == null || signatures == null || !stamp.matches("[0-9]{1,12}")
                || Duration.between(Instant.ofEpochSecond(Long.parseLong(stamp)), Instant.now()).abs().toSeconds() > 300) {
            return false;
        }
        byte[] begin = (id + "." + stamp + ".").getBytes(StandardCharsets.UTF_8);
        byte[] signed = Arrays.copyOf(begin, begin.length + body.length);
        System.arraycopy(body, 0, signed, begin.length, body.length);
        for (String key : keys) {
            for (String part : signatures.split(" ")) {
                try {
                    if (matches(key, part, signed)) {
                        return true;
                    }
                } catch (GeneralSecurityException | IllegalArgumentException e) {
                    // neither this key nor this signature: another may be right
                }
            }
        }
        return false;
    }

    static boolean matches(String key, String part, byte[] signed) throws GeneralSecurityException {
        byte[] raw = Base64.getDecoder().decode(key.substring(key.indexOf('_') + 1));
        byte[] signature = Base64.getDecoder().decode(part.substring(part.indexOf(',') + 1));
        if (key.startsWith("whsec_") && part.startsWith("v1,")) {
            Mac mac = Mac.getInstance("HmacSHA256");
            mac.init(new SecretKeySpec(raw, "HmacSHA256"));
            return MessageDigest.isEqual(mac.doFinal(signed), signature);
        }
        if (key.startsWith("whpk_") && part.startsWith("v1a,") && raw.length == 32) {
            byte[] der = Arrays.copyOf(HexFormat.of().parseHex("302a300506032b6570032100"), 12 + 32);
            System.arraycopy(raw, 0, der, 12, 32);
            Signature check = Signature.getInstance("Ed25519");
            check.initVerify(KeyFactory.getInstance("Ed25519").generatePublic(new X509EncodedKeySpec(der)));
            check.update(signed);
            return check.verify(signature);
        }
        return false;
    }

    /** Reads a body: an event, or a list of them. */
    static List<Event> decode(String text) {
        Object body = new Json(text).document();
        List<Event> events = new ArrayList<>();
        for (Object element : body instanceof List<?> list ? list : List.of(body)) {
            if (!(element instanceof Map<?, ?> e) || !(e.get("type") instanceof String type) || !(e.get("id") instanceof String id)
                    || !(e.get("timestamp") instanceof String timestamp)) {
                throw new IllegalArgumentException("no type, id and timestamp: is the endpoint's format standard?");
            }
            events.add(new Event(type, id, (String) e.get("tenant"), (String) e.get("sequence"), Instant.parse(timestamp), e.get("data")));
        }
        return events;
    }

    /**
     * A file with a line for each request that brought something new, and what is known from it. It grows: a program that has a database
     * keeps two tables there instead, and applies events in the same transaction.
     */
    static class Store {
        record Receipt(String type, Instant at, boolean replay) {} // replay: it came for the first time because somebody asked for it

        private final RandomAccessFile file;
        private final Map<String, Receipt> received = new HashMap<>(); // by webhook-id
        private final Map<String, String> sequences = new HashMap<>(); // of each row, the last that was applied

        /** Reads the file. A last line without its end was not answered: it is cut off, and comes again. */
        Store(String path) throws IOException {
            try {
                file = new RandomAccessFile(path, "rw");
            } catch (FileNotFoundException e) {
                throw new IOException("open " + path, e);
            }
            byte[] content = new byte[Math.toIntExact(file.length())];
            file.readFully(content);
            int end = 0;
            for (int i = 0; i < content.length; i++) {
                if (content[i] == '\n') {
                    String[] line = new String(content, end, i - end, StandardCharsets.UTF_8).split("\t", 2);
                    for (Event event : decode(line[1])) {
                        take(event, line[0].equals("true"));
                    }
                    end = i + 1;
                }
            }
            file.setLength(end);
            file.seek(end);
            file.getFD().sync();
        }

        /** Applies and stores the events of a request, and returns a line about each. */
        synchronized String take(List<Event> events, boolean replay, String text) throws IOException {
            StringBuilder said = new StringBuilder();
            boolean fresh = false;
            for (Event event : events) {
                String outcome = take(event, replay);
                fresh |= !outcome.equals("repeated");
                if (outcome.equals("applied")) {
                    apply(event);
                }
                said.append(outcome).append('\n');
            }
            if (fresh) {
                // Within JSON, ends of lines are nowhere but between tokens.
                file.write((replay + "\t" + text.replace('\n', ' ').replace('\r', ' ') + "\n").getBytes(StandardCharsets.UTF_8));
                file.getFD().sync();
            }
            return said.toString();
        }

        /** Returns what the event is: repeated, older, applied, taken (a ping, a notice) or how a closing compares. */
        private String take(Event event, boolean replay) {
            Receipt known = received.get(event.id);
            if (known != null && !replay) {
                return "repeated"; // who asks for an event again wants it applied again
            }
            received.put(event.id, new Receipt(event.type, event.timestamp, replay && (known == null || known.replay)));
            if (event.type.equals("gancho.closing")) {
                return compare((Map<?, ?>) event.data);
            }
            String row = event.row();
            if (row == null) { // it has no order
                return event.type.equals("ping") || event.type.startsWith("gancho.") ? "taken" : "applied";
            }
            if (event.sequence.compareTo(sequences.getOrDefault(row, "")) < 0) {
                return "older";
            }
            sequences.put(row, event.sequence);
            return "applied";
        }

        /** Says whether what was received of a day is what was sent. */
        private String compare(Map<?, ?> closing) {
            Instant from = OffsetDateTime.parse((String) closing.get("from")).toInstant();
            Instant to = OffsetDateTime.parse((String) closing.get("to")).toInstant();
            Map<String, TreeSet<String>> days = new TreeMap<>();
            received.forEach((id, r) -> {
                if (!r.at.isBefore(from) && r.at.isBefore(to) && !r.type.startsWith("gancho.") && !r.type.equals("ping")) {
                    days.computeIfAbsent(r.type, type -> new TreeSet<>()).add(id);
                }
            });
            TreeSet<String> wrong = new TreeSet<>();
            for (Object element : (List<?>) closing.get("events")) {
                Map<?, ?> sent = (Map<?, ?>) element;
                TreeSet<String> ids = days.remove(sent.get("event"));
                ids = ids == null ? new TreeSet<>() : ids;
                if (!sha256(String.join("\n", ids)).equals(sent.get("digest"))) {
                    wrong.add(difference(sent.get("event"), sent.get("count"), ids));
                }
            }
            days.forEach((type, ids) -> wrong.add(difference(type, 0, ids)));
            String text = wrong.stream().collect(Collectors.joining("; "));
            if (!Boolean.TRUE.equals(closing.get("complete"))) {
                text += (text.isEmpty() ? "" : "; ") + "the sender's log is not whole";
            }
            return "closing " + closing.get("day") + ": " + (text.isEmpty() ? "agrees" : text);
        }

        private String difference(Object type, Object count, Set<String> ids) {
            long demanded = ids.stream().filter(id -> received.get(id).replay).count();
            return type + ": " + count + " sent, " + ids.size() + " received (" + demanded + " on demand)";
        }
    }

    static String sha256(String text) {
        try {
            return HexFormat.of().formatHex(MessageDigest.getInstance("SHA-256").digest(text.getBytes(StandardCharsets.UTF_8)));
        } catch (GeneralSecurityException e) {
            throw new IllegalStateException(e);
        }
    }

    /** Reads JSON, which Java's own library does not. A program that has Jackson or Gson uses that instead. */
    static class Json {
        private final String text;
        private int at;

        Json(String text) {
            this.text = text;
        }

        Object document() {
            Object value = value(0);
            if (next() != 0) {
                throw wrong();
            }
            return value;
        }

        private Object value(int depth) {
            if (depth > 500) {
                throw wrong();
            }
            char c = next();
            if (c == '{') {
                Map<String, Object> fields = new LinkedHashMap<>();
                at++;
                for (boolean more = next() != '}'; more; more = comma('}')) {
                    next();
                    String name = string();
                    expect(':');
                    fields.put(name, value(depth + 1));
                }
                expect('}');
                return fields;
            }
            if (c == '[') {
                List<Object> elements = new ArrayList<>();
                at++;
                for (boolean more = next() != ']'; more; more = comma(']')) {
                    elements.add(value(depth + 1));
                }
                expect(']');
                return elements;
            }
            if (c == '"') {
                return string();
            }
            int begin = at;
            while (at < text.length() && ",]} \t\r\n".indexOf(text.charAt(at)) < 0) {
                at++;
            }
            String word = text.substring(begin, at);
            return switch (word) {
                case "null" -> null;
                case "true" -> true;
                case "false" -> false;
                default -> new java.math.BigDecimal(word); // or a NumberFormatException, which is an IllegalArgumentException
            };
        }

        private String string() {
            expect('"');
            StringBuilder out = new StringBuilder();
            for (; at < text.length(); at++) {
                char c = text.charAt(at);
                if (c == '"') {
                    at++;
                    return out.toString();
                }
                if (c == '\\' && at + 1 < text.length()) {
                    c = text.charAt(++at);
                    int control = "bfnrt".indexOf(c);
                    if (control >= 0) {
                        c = "\b\f\n\r\t".charAt(control);
                    } else if (c == 'u' && at + 4 < text.length()) {
                        c = (char) Integer.parseInt(text.substring(at + 1, at + 5), 16);
                        at += 4;
                    }
                }
                out.append(c);
            }
            throw wrong();
        }

        private boolean comma(char end) {
            if (next() == end) {
                return false;
            }
            expect(',');
            return true;
        }

        private void expect(char c) {
            if (next() != c) {
                throw wrong();
            }
            at++;
        }

        /** The next character that is no blank, or 0 at the end. */
        private char next() {
            while (at < text.length() && " \t\r\n".indexOf(text.charAt(at)) >= 0) {
                at++;
            }
            return at < text.length() ? text.charAt(at) : 0;
        }

        private IllegalArgumentException wrong() {
            return new IllegalArgumentException("no JSON at character " + at);
        }
    }

    static final int LIMIT = 64 << 20;

    static void handle(HttpExchange exchange, List<String> keys, Store store) throws IOException {
        var headers = exchange.getRequestHeaders();
        if (!exchange.getRequestURI().getPath().equals("/hooks")) {
            answer(exchange, 404, "not here\n");
            return;
        }
        if (!exchange.getRequestMethod().equals("POST")) {
            answer(exchange, 405, "POST only\n");
            return;
        }
        byte[] body = exchange.getRequestBody().readNBytes(LIMIT + 1);
        if (body.length > LIMIT) {
            answer(exchange, 413, "too large\n");
            return;
        }
        if (!verify(keys, headers.getFirst("webhook-id"), headers.getFirst("webhook-timestamp"), headers.getFirst("webhook-signature"), body)) {
            answer(exchange, 401, "no valid signature\n");
            return;
        }
        String text = new String(body, StandardCharsets.UTF_8);
        List<Event> events;
        try {
            events = decode(text);
        } catch (RuntimeException e) {
            answer(exchange, 400, e.getMessage() + "\n");
            return;
        }
        String outcome = "";
        try {
            outcome = store.take(events, "true".equals(headers.getFirst("webhook-replay")), text);
        } catch (Throwable e) { // of the file, or of apply: also an Error, after which the event would pass for a repeated one
            try {
                System.err.println("apply and store: " + e);
            } finally {
                Runtime.getRuntime().halt(1); // not answered, so it comes again; what is known is read from the file at the next start
            }
        }
        if (outcome.contains("closing ")) {
            System.err.print(outcome); // alarm somebody when it does not agree
        }
        answer(exchange, 200, outcome);
    }

    static void answer(HttpExchange exchange, int status, String text) throws IOException {
        byte[] body = text.getBytes(StandardCharsets.UTF_8);
        exchange.getResponseHeaders().set("content-type", "text/plain; charset=utf-8");
        exchange.sendResponseHeaders(status, body.length);
        exchange.getResponseBody().write(body);
        exchange.close();
    }

    public static void main(String[] args) throws IOException {
        List<String> keys = List.of(System.getenv().getOrDefault("WEBHOOK_KEY", "").trim().split("\\s+"));
        Store store = new Store(System.getenv().getOrDefault("STORE", "received.log"));
        int port = Integer.parseInt(System.getenv().getOrDefault("PORT", "8080"));
        HttpServer server = HttpServer.create(new InetSocketAddress("127.0.0.1", port), 0);
        server.createContext("/", exchange -> {
            try {
                handle(exchange, keys, store);
            } catch (RuntimeException e) {
                e.printStackTrace();
                answer(exchange, 500, "a mistake in this program\n");
            }
        });
        server.setExecutor(Executors.newFixedThreadPool(16));
        server.start();
    }
}
