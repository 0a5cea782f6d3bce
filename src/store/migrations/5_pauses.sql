-- The paused accounts: nothing is sent to LeadSquared for them.
CREATE TABLE tenant_pause (
    tenant TEXT    NOT NULL PRIMARY KEY,
    -- When the account was paused, in milliseconds since 1970.
    since  INTEGER NOT NULL,
    reason TEXT    NOT NULL
) WITHOUT ROWID;
