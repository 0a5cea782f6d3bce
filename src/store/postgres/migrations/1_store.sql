-- The tables of the store. Times are milliseconds since 1970 unless the type says otherwise. Documents are JSON, as in SQLite.

-- The mutations with a request id.
CREATE TABLE request (
    tenant      text COLLATE "C" NOT NULL,
    id          text COLLATE "C" NOT NULL,
    fingerprint bytea  NOT NULL,
    begun       bigint NOT NULL,
    -- The result. Null: the mutation is in progress, or its outcome is unknown.
    answer      text,
    -- The replica that started the mutation, with the epoch of its lease. Null: it was not started under a lease.
    owner       text,
    epoch       bigint NOT NULL,
    -- The number of the attempt within the epoch.
    attempt     bigint NOT NULL,
    -- Hashes of the keys that the mutation writes.
    keys        bigint[],
    -- Whether a replica chose the id. Such a record is kept for an hour.
    internal    boolean NOT NULL DEFAULT false,
    PRIMARY KEY (tenant, id)
);
CREATE INDEX request_begun ON request (tenant, begun);
CREATE INDEX request_unfinished ON request (tenant) WHERE answer IS NULL;

-- The quota usage of each account.
CREATE TABLE spent (
    tenant     text COLLATE "C" PRIMARY KEY,
    day        text   NOT NULL,
    calls      bigint NOT NULL,
    last_grant bigint NOT NULL,
    slots      text
);

-- The state of the quota of each account as its owner saved it last.
CREATE TABLE quota_state (
    tenant text COLLATE "C" PRIMARY KEY,
    state  text NOT NULL
);

-- The shares. Each value that is searched for has a column.
CREATE TABLE share (
    tenant      text COLLATE "C" NOT NULL,
    id          text COLLATE "C" NOT NULL,
    user_id     text COLLATE "C" NOT NULL,
    -- 1: a lead, 2: an opportunity.
    kind        bigint  NOT NULL,
    entity_id   text COLLATE "C" NOT NULL,
    lead_number text COLLATE "C",
    -- The numbers of ShareState in the public contract.
    state       bigint  NOT NULL,
    -- Whether the gateway has work to do for the share.
    unsettled   boolean NOT NULL,
    expires     bigint,
    changed     bigint  NOT NULL,
    request_id  text COLLATE "C",
    document    text    NOT NULL,
    -- While a step is being sent: the replica that sends it, with the epoch of its lease.
    owner       text,
    epoch       bigint  NOT NULL,
    PRIMARY KEY (tenant, id)
);
CREATE INDEX share_of_user ON share (tenant, user_id, id, state);
CREATE INDEX share_live_of_user ON share (tenant, user_id, entity_id) WHERE kind = 1 AND state IN (1, 2, 3, 4, 7, 9);
CREATE INDEX share_of_entity ON share (tenant, entity_id, id, state);
CREATE INDEX share_of_lead_number ON share (tenant, lead_number) WHERE lead_number IS NOT NULL;
CREATE UNIQUE INDEX share_of_request ON share (tenant, request_id) WHERE request_id IS NOT NULL;
CREATE INDEX share_unsettled ON share (tenant, id) WHERE unsettled;
CREATE INDEX share_ending ON share (tenant, expires) WHERE state IN (4, 7, 9);
CREATE INDEX share_over ON share (tenant, changed) WHERE state IN (5, 6, 8);

-- The history of each share.
CREATE TABLE share_change (
    tenant   text COLLATE "C" NOT NULL,
    share_id text COLLATE "C" NOT NULL,
    number   bigint NOT NULL,
    at       bigint NOT NULL,
    state    bigint NOT NULL,
    -- The name of the error; empty without an error.
    failure  text   NOT NULL,
    PRIMARY KEY (tenant, share_id, number)
);

-- Rows that could not be read, moved here by `leadgate store repair --apply`.
CREATE TABLE damaged (
    number  bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    -- When the row was moved.
    at      bigint NOT NULL,
    -- The table that the row comes from.
    source  text   NOT NULL,
    tenant  text,
    id      text,
    reason  text   NOT NULL,
    -- All columns of the row, in the order of its table, as SQL literals: what VALUES (...) takes.
    content text   NOT NULL
);

-- The histories of the database: each server with each of its timelines.
CREATE TABLE history (
    id         text COLLATE "C" PRIMARY KEY,
    first_seen timestamptz NOT NULL
);

-- The runs of replicas.
CREATE TABLE replica (
    name    text COLLATE "C" PRIMARY KEY,
    -- Empty: unknown.
    address text   NOT NULL,
    beat    bigint NOT NULL,
    -- The tenants in the settings of the replica.
    tenants text[] NOT NULL,
    -- The duration of its leases in milliseconds. 0: unknown.
    lease   bigint NOT NULL DEFAULT 0,
    changed timestamptz NOT NULL
);

-- The lease of each tenant.
CREATE TABLE tenant_lease (
    tenant           text COLLATE "C" PRIMARY KEY,
    -- Null: the tenant is free.
    owner            text,
    -- The number of acquisitions so far.
    epoch            bigint NOT NULL,
    -- The state that the former owner handed over, as JSON, and the history in which it did.
    handover         text,
    handover_history text,
    -- When the current or last owner acquired the lease.
    owned_since      timestamptz,
    -- Why the tenant moved last: why the lease was acquired, or handed over since.
    last_move_reason text
);

-- The paused tenants: nothing is sent to LeadSquared for them. Each beat of a replica reads them.
CREATE TABLE tenant_pause (
    tenant text COLLATE "C" PRIMARY KEY,
    since  bigint NOT NULL,
    reason text   NOT NULL
);
