package leadgate.client;

import io.grpc.Status;
import java.util.concurrent.Executor;
import java.util.concurrent.LinkedBlockingQueue;

/** Runs the callbacks of a call on the thread that waits for them. */
final class Events implements Executor {
    private final LinkedBlockingQueue<Runnable> queue = new LinkedBlockingQueue<>();

    @Override
    public void execute(Runnable event) {
        queue.add(event);
    }

    boolean isEmpty() {
        return queue.isEmpty();
    }

    /** Waits for one callback and runs it. If the thread is interrupted, the call has to be cancelled. */
    void runNext() {
        Runnable event;
        try {
            event = queue.take();
        } catch (InterruptedException interrupted) {
            Thread.currentThread().interrupt();
            throw LeadgateException.of(Status.CANCELLED.withDescription("interrupted").withCause(interrupted), null, "");
        }
        event.run();
    }
}
