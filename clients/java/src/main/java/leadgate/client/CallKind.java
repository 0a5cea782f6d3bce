package leadgate.client;

import java.time.Duration;

/** The kinds of calls that have default deadlines of their own. */
public enum CallKind {
    /** A read or write. Default deadline: 30 s. */
    UNARY(Duration.ofSeconds(30)),
    /** A call that waits for a share or a revoke. Default deadline: 120 s. */
    SHARE(Duration.ofSeconds(120)),
    /** A batch call. Default deadline: 120 s. */
    BATCH(Duration.ofSeconds(120)),
    /** ImportLeads, ExportLeads and RevokeShares. Default deadline: 1 h. */
    STREAM(Duration.ofHours(1)),
    /** WatchShare and WatchQuota. No default deadline. */
    WATCH(null);

    final Duration defaultDeadline;

    CallKind(Duration defaultDeadline) {
        this.defaultDeadline = defaultDeadline;
    }
}
