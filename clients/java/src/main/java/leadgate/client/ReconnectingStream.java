package leadgate.client;

import io.grpc.CallOptions;
import io.grpc.ClientCall;
import io.grpc.Metadata;
import io.grpc.MethodDescriptor;
import io.grpc.Status;
import java.time.Duration;
import java.util.Iterator;
import java.util.NoSuchElementException;
import java.util.Spliterator;
import java.util.Spliterators;
import java.util.stream.Stream;
import java.util.stream.StreamSupport;

/**
 * The results of a streaming call, for one thread. Results are requested from the server one by one, so a slow reader slows the server
 * down. A stream that is interrupted is opened again until its deadline. Close the stream if you do not read it to its end.
 *
 * @param <Q> the request
 * @param <R> the response
 * @param <T> the result
 */
public abstract class ReconnectingStream<Q, R, T> implements Iterator<T>, Iterable<T>, AutoCloseable {
    private final LeadgateClient client;
    private final MethodDescriptor<Q, R> method;
    private final CallOptions options;
    private final Rpc rpc;
    private final Events events = new Events();
    private ClientCall<Q, R> call;
    private Duration given;
    private boolean requested;
    private int failures;
    private boolean progress;
    private boolean started;
    private boolean finished;
    private T next;
    private LeadgateException error;

    ReconnectingStream(LeadgateClient client, MethodDescriptor<Q, R> method, CallOptions options) {
        this.client = client;
        this.method = method;
        this.rpc = client.layer().rpc(method);
        this.options = client.layer().withDeadline(options, rpc).withExecutor(events);
    }

    /** Called when the call was opened, also again. */
    abstract void opened(ClientCall<Q, R> call);

    /** Called when the call may have become ready to send. */
    void send(ClientCall<Q, R> call, Events events) {}

    /** The error of a response after which the stream has to be opened again, or null. */
    LeadgateException interruption(R response) {
        return null;
    }

    /** Converts a response. */
    abstract T received(R response);

    /** The error of a stream that ended with OK too early, or null. */
    Status incomplete() {
        return null;
    }

    /** Whether the stream can be opened again after an interruption. */
    abstract boolean mayReopen();

    @Override
    public boolean hasNext() {
        if (!started) {
            started = true;
            open();
        }
        try {
            while (next == null && !finished) {
                if (call != null && !requested) {
                    requested = true;
                    call.request(1);
                }
                if (call != null) {
                    send(call, events);
                }
                events.runNext();
            }
        } catch (RuntimeException failed) {
            // The thread was interrupted, or the source of an import has failed.
            close();
            throw failed;
        }
        if (next == null && error != null) {
            throw error;
        }
        return next != null;
    }

    @Override
    public T next() {
        if (!hasNext()) {
            throw new NoSuchElementException();
        }
        T result = next;
        next = null;
        return result;
    }

    @Override
    public Iterator<T> iterator() {
        return this;
    }

    /** {@return the results as a stream; close it if you do not read it to its end} */
    public Stream<T> stream() {
        return StreamSupport.stream(
                        Spliterators.spliteratorUnknownSize(this, Spliterator.ORDERED | Spliterator.NONNULL), false)
                .onClose(this::close);
    }

    /** Cancels the call, unless it has ended. */
    @Override
    public void close() {
        started = true;
        finished = true;
        if (call != null) {
            call.cancel("closed by the reader", null);
        }
    }

    private void open() {
        if (finished) {
            return;
        }
        requested = false;
        progress = false;
        given = CallLayer.remaining(options);
        ClientCall<Q, R> opened = client.channel().newCall(method, options);
        call = opened;
        opened.start(new ClientCall.Listener<>() {
            @Override
            public void onMessage(R response) {
                if (call != opened) {
                    return;
                }
                LeadgateException interruption = interruption(response);
                if (interruption != null) {
                    opened.cancel("opened again", null);
                    closed(interruption.getStatus(), interruption.getTrailers());
                    return;
                }
                requested = false;
                failures = 0;
                progress = true;
                next = received(response);
            }

            @Override
            public void onClose(Status status, Metadata trailers) {
                if (call == opened) {
                    closed(status, trailers);
                }
            }
        }, new Metadata());
        opened(opened);
    }

    private void closed(Status status, Metadata trailers) {
        call = null;
        Status result = status.isOk() ? incomplete() : status;
        if (result == null) {
            finished = true;
            return;
        }
        error = LeadgateException.of(result, trailers, "");
        Duration delay = null;
        if (!finished && mayReopen() && !client.layer().closed()) {
            // A stream also ends when its token expires: if it worked before, the next one has a new token.
            delay = progress && error.code() == Status.Code.UNAUTHENTICATED
                    ? Duration.ZERO
                    : rpc.delay(error, failures++, given, CallLayer.remaining(options));
        }
        if (delay == null) {
            finished = true;
        } else {
            client.layer().repeatAfter(delay, error, events, this::open);
            error = null;
        }
    }
}
