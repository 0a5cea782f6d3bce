-- The ledger of shares. What is looked for has a column; the rest is in the document.
CREATE TABLE share (
    tenant     TEXT    NOT NULL,
    -- Ids of later shares are greater.
    id         TEXT    NOT NULL,
    user_id    TEXT    NOT NULL,
    -- 1: a lead, 2: an opportunity.
    kind       INTEGER NOT NULL,
    entity_id  TEXT    NOT NULL,
    lead_number TEXT,
    -- The numbers of ShareState in the public contract.
    state      INTEGER NOT NULL,
    -- Whether there is something to be done for it without anybody asking.
    unsettled  INTEGER NOT NULL,
    expires    INTEGER,
    changed    INTEGER NOT NULL,
    request_id TEXT,
    document   TEXT    NOT NULL,
    PRIMARY KEY (tenant, id)
) WITHOUT ROWID;

-- With the state, so that shares in other states are passed over without a look at them.
CREATE INDEX share_of_user ON share (tenant, user_id, id, state);
-- How many leads a user has, without a look at the shares themselves.
CREATE INDEX share_live_of_user ON share (tenant, user_id, entity_id) WHERE kind = 1 AND state IN (1, 2, 3, 4, 7, 9);
CREATE INDEX share_of_entity ON share (tenant, entity_id, id, state);
CREATE INDEX share_of_lead_number ON share (tenant, lead_number) WHERE lead_number IS NOT NULL;
CREATE UNIQUE INDEX share_of_request ON share (tenant, request_id) WHERE request_id IS NOT NULL;
CREATE INDEX share_unsettled ON share (tenant, id) WHERE unsettled = 1;
-- Those that end by themselves, and those that are over.
CREATE INDEX share_ending ON share (tenant, expires) WHERE state IN (4, 7, 9);
CREATE INDEX share_over ON share (changed) WHERE state IN (5, 6, 8);

-- What became of each.
CREATE TABLE share_change (
    tenant   TEXT    NOT NULL,
    share_id TEXT    NOT NULL,
    number   INTEGER NOT NULL,
    at       INTEGER NOT NULL,
    state    INTEGER NOT NULL,
    -- The name of the error, where something went wrong.
    failure  TEXT    NOT NULL,
    PRIMARY KEY (tenant, share_id, number)
) WITHOUT ROWID;
