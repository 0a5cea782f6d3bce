-- Rows that could not be read, moved here by `leadgate store repair --apply`.
CREATE TABLE damaged (
    number  INTEGER PRIMARY KEY,
    -- When the row was moved, in milliseconds since 1970.
    at      INTEGER NOT NULL,
    -- The table that the row comes from.
    source  TEXT    NOT NULL,
    tenant,
    id,
    reason  TEXT    NOT NULL,
    -- All columns of the row, in the order of its table, as SQL literals: what VALUES (...) takes.
    content TEXT    NOT NULL
);
