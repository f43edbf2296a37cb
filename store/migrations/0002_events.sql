-- The log of what happened: what people are shown live is read from it by number, and so is history.
-- AUTOINCREMENT: a number is never given twice, also after the newest rows were deleted.
CREATE TABLE events (
    seq         INTEGER PRIMARY KEY AUTOINCREMENT,
    tenant      TEXT NOT NULL,
    subject     TEXT NOT NULL,
    device      TEXT,
    user        TEXT,
    at          INTEGER NOT NULL,
    received_at INTEGER NOT NULL,
    source_id   TEXT,
    data        TEXT NOT NULL
) STRICT;
CREATE INDEX events_by_device ON events (tenant, device, at);
CREATE UNIQUE INDEX events_once ON events (tenant, device, source_id) WHERE source_id IS NOT NULL;

-- What was logged of a device up to this number belongs to owners of before.
CREATE TABLE event_floors (
    tenant TEXT NOT NULL,
    device TEXT NOT NULL,
    seq    INTEGER NOT NULL,
    PRIMARY KEY (tenant, device)
) STRICT, WITHOUT ROWID;
PRAGMA user_version = 2;
