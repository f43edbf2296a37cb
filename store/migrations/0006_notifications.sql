-- What people are told, and how it reaches them. A user's rows go with the user.

-- device NULL: a notice of the cloud itself
CREATE TABLE inbox (
    tenant   TEXT NOT NULL,
    user     TEXT NOT NULL,
    sequence INTEGER NOT NULL,
    device   TEXT,
    at       INTEGER NOT NULL,
    data     TEXT NOT NULL,
    filed_at INTEGER NOT NULL,
    read_at  INTEGER,
    PRIMARY KEY (tenant, user, sequence),
    FOREIGN KEY (tenant, user) REFERENCES users (tenant, id) ON DELETE CASCADE
) STRICT, WITHOUT ROWID;
CREATE INDEX inbox_by_device ON inbox (tenant, device);
CREATE INDEX inbox_by_time ON inbox (filed_at);

-- settings: JSON, read and written by the room that knows its meaning
CREATE TABLE notification_settings (
    tenant   TEXT NOT NULL,
    user     TEXT NOT NULL,
    settings TEXT NOT NULL,
    PRIMARY KEY (tenant, user),
    FOREIGN KEY (tenant, user) REFERENCES users (tenant, id) ON DELETE CASCADE
) STRICT, WITHOUT ROWID;

-- types, devices: words with a space between them; NULL for all. secret: sealed, never in the clear
CREATE TABLE webhooks (
    tenant         TEXT NOT NULL,
    id             TEXT NOT NULL,
    user           TEXT NOT NULL,
    url            TEXT NOT NULL,
    types          TEXT,
    devices        TEXT,
    enabled        INTEGER NOT NULL CHECK (enabled IN (0, 1)),
    disabled_for   TEXT,
    secret         BLOB NOT NULL,
    earlier_secret BLOB,
    earlier_until  INTEGER,
    created_at     INTEGER NOT NULL,
    failures       INTEGER NOT NULL DEFAULT 0,
    failing_since  INTEGER,
    resume_at      INTEGER NOT NULL DEFAULT 0,
    overflowed     INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (tenant, id),
    FOREIGN KEY (tenant, user) REFERENCES users (tenant, id) ON DELETE CASCADE
) STRICT, WITHOUT ROWID;
CREATE INDEX webhooks_by_user ON webhooks (tenant, user);

-- token: the address of one app on one machine, as the push service gave it to that app
CREATE TABLE push_registrations (
    tenant     TEXT NOT NULL,
    id         TEXT NOT NULL,
    user       TEXT NOT NULL,
    platform   TEXT NOT NULL CHECK (platform IN ('android', 'ios', 'web')),
    token      TEXT NOT NULL UNIQUE,
    created_at INTEGER NOT NULL,
    PRIMARY KEY (tenant, id),
    FOREIGN KEY (tenant, user) REFERENCES users (tenant, id) ON DELETE CASCADE
) STRICT, WITHOUT ROWID;
CREATE INDEX push_registrations_by_user ON push_registrations (tenant, user);

-- id: what receivers tell repetitions by. event NULL: a trial. sequence of the event that it carries
CREATE TABLE deliveries (
    number     INTEGER PRIMARY KEY AUTOINCREMENT,
    id         TEXT NOT NULL UNIQUE,
    tenant     TEXT NOT NULL,
    user       TEXT NOT NULL,
    channel    TEXT NOT NULL CHECK (channel IN ('webhook', 'fcm')),
    target     TEXT NOT NULL,
    event      INTEGER,
    type       TEXT NOT NULL,
    device     TEXT,
    body       TEXT NOT NULL,
    state      TEXT NOT NULL CHECK (state IN ('pending', 'delivered', 'dead', 'dropped')),
    attempts   INTEGER NOT NULL DEFAULT 0,
    next_at    INTEGER NOT NULL,
    status     INTEGER,
    reason     TEXT,
    created_at INTEGER NOT NULL,
    ended_at   INTEGER,
    UNIQUE (tenant, target, event),
    FOREIGN KEY (tenant, user) REFERENCES users (tenant, id) ON DELETE CASCADE
) STRICT;
CREATE INDEX deliveries_pending ON deliveries (next_at) WHERE state = 'pending';
CREATE INDEX deliveries_by_target ON deliveries (tenant, target, number);
CREATE INDEX deliveries_by_user ON deliveries (tenant, user, state);
CREATE INDEX deliveries_by_device ON deliveries (tenant, device) WHERE state = 'pending';
CREATE INDEX deliveries_by_end ON deliveries (ended_at);

PRAGMA user_version = 6;
