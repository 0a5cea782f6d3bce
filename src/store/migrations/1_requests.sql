-- The mutations that callers gave a request id, so that each has one effect, also over a restart.
CREATE TABLE request (
    tenant      TEXT    NOT NULL,
    id          TEXT    NOT NULL,
    fingerprint BLOB    NOT NULL,
    -- Milliseconds since 1970, as all times here.
    begun       INTEGER NOT NULL,
    -- The answer as JSON; null while it is under way, and where its outcome is not known.
    answer      TEXT,
    PRIMARY KEY (tenant, id)
) WITHOUT ROWID;

CREATE INDEX request_begun ON request (begun);

-- What each account has spent: the calls of its day, and when the last slot was handed out.
CREATE TABLE spent (
    tenant     TEXT    NOT NULL PRIMARY KEY,
    day        TEXT    NOT NULL,
    calls      INTEGER NOT NULL,
    last_grant INTEGER NOT NULL
) WITHOUT ROWID;
