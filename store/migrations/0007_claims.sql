-- The code that a device without an owner shows: its digest alone, one per device.
CREATE TABLE claim_codes (
    tenant       TEXT NOT NULL,
    device       TEXT NOT NULL,
    digest       BLOB NOT NULL UNIQUE CHECK (length(digest) = 32),
    made_at      INTEGER NOT NULL,
    delivered_at INTEGER,
    PRIMARY KEY (tenant, device),
    FOREIGN KEY (tenant, device) REFERENCES devices (tenant, id)
) STRICT, WITHOUT ROWID;

-- Offers of an owner to hand a device on; one per device.
CREATE TABLE transfers (
    tenant     TEXT NOT NULL,
    device     TEXT NOT NULL,
    id         TEXT NOT NULL UNIQUE,
    from_user  TEXT NOT NULL,
    to_user    TEXT NOT NULL,
    offered_at INTEGER NOT NULL,
    expires_at INTEGER NOT NULL,
    PRIMARY KEY (tenant, device),
    FOREIGN KEY (tenant, device) REFERENCES devices (tenant, id),
    FOREIGN KEY (tenant, from_user) REFERENCES users (tenant, id),
    FOREIGN KEY (tenant, to_user) REFERENCES users (tenant, id)
) STRICT, WITHOUT ROWID;
CREATE INDEX transfers_from ON transfers (tenant, from_user);
CREATE INDEX transfers_to ON transfers (tenant, to_user);
PRAGMA user_version = 7;
