-- Never edited once released: a change is a new file.
PRAGMA application_id = 1952673144;

CREATE TABLE meta (
    key   TEXT PRIMARY KEY,
    value TEXT NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE counters (
    name  TEXT PRIMARY KEY,
    value INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE tenants (
    name           TEXT PRIMARY KEY,
    created_at     INTEGER NOT NULL,
    grant_sequence INTEGER NOT NULL DEFAULT 0
) STRICT, WITHOUT ROWID;

CREATE TABLE devices (
    tenant      TEXT NOT NULL REFERENCES tenants (name),
    id          TEXT NOT NULL,
    name        TEXT,
    created_at  INTEGER NOT NULL,
    verified_at INTEGER,
    services    TEXT,
    PRIMARY KEY (tenant, id)
) STRICT, WITHOUT ROWID;

CREATE TABLE users (
    tenant     TEXT NOT NULL REFERENCES tenants (name),
    id         TEXT NOT NULL UNIQUE,
    issuer     TEXT NOT NULL,
    subject    TEXT NOT NULL,
    email      TEXT,
    created_at INTEGER NOT NULL,
    PRIMARY KEY (tenant, id),
    UNIQUE (tenant, issuer, subject)
) STRICT, WITHOUT ROWID;

CREATE TABLE grants (
    tenant     TEXT NOT NULL,
    user       TEXT NOT NULL,
    device     TEXT NOT NULL,
    level      TEXT NOT NULL CHECK (level IN ('viewer', 'operator', 'owner')),
    services   TEXT,
    until      INTEGER,
    sequence   INTEGER NOT NULL,
    changed_at INTEGER NOT NULL,
    PRIMARY KEY (tenant, user, device),
    FOREIGN KEY (tenant, device) REFERENCES devices (tenant, id),
    FOREIGN KEY (tenant, user) REFERENCES users (tenant, id)
) STRICT, WITHOUT ROWID;
CREATE INDEX grants_by_device ON grants (tenant, device);

-- user NULL: every user of the device
CREATE TABLE grant_changes (
    tenant   TEXT NOT NULL,
    sequence INTEGER NOT NULL,
    user     TEXT,
    device   TEXT NOT NULL,
    at       INTEGER NOT NULL,
    PRIMARY KEY (tenant, sequence)
) STRICT, WITHOUT ROWID;
CREATE INDEX grant_changes_by_time ON grant_changes (at);

CREATE TABLE passcodes (
    id          TEXT PRIMARY KEY,
    digest      BLOB NOT NULL UNIQUE CHECK (length(digest) = 32),
    tenant      TEXT NOT NULL REFERENCES tenants (name),
    device      TEXT,
    created_by  TEXT NOT NULL,
    created_at  INTEGER NOT NULL,
    expires_at  INTEGER NOT NULL,
    redeemed_at INTEGER,
    pinned_spki BLOB CHECK (length(pinned_spki) = 32),
    certificate BLOB
) STRICT, WITHOUT ROWID;
CREATE INDEX passcodes_by_tenant ON passcodes (tenant, created_at);

CREATE TABLE certificates (
    id             INTEGER PRIMARY KEY AUTOINCREMENT,
    serial         BLOB NOT NULL UNIQUE CHECK (length(serial) = 18),
    issuer         TEXT NOT NULL CHECK (issuer IN ('devices', 'services')),
    tenant         TEXT,
    device         TEXT,
    name           TEXT,
    status         TEXT NOT NULL CHECK (status IN ('pending', 'active', 'retired', 'revoked')),
    spki_sha256    BLOB NOT NULL CHECK (length(spki_sha256) = 32),
    passcode       TEXT,
    parent         BLOB,
    idempotency    BLOB UNIQUE,
    not_before     INTEGER NOT NULL,
    not_after      INTEGER NOT NULL,
    created_at     INTEGER NOT NULL,
    issued_at      INTEGER,
    first_used_at  INTEGER,
    fingerprint    BLOB UNIQUE CHECK (length(fingerprint) = 32),
    tbs            BLOB NOT NULL,
    der            BLOB,
    CHECK ((tenant IS NULL) = (device IS NULL)),
    CHECK ((device IS NULL) <> (name IS NULL)),
    CHECK ((der IS NULL) = (fingerprint IS NULL))
) STRICT;
CREATE INDEX certificates_by_device ON certificates (tenant, device, created_at);
CREATE INDEX certificates_by_key ON certificates (spki_sha256);
CREATE INDEX certificates_by_time ON certificates (created_at);
CREATE INDEX certificates_pending ON certificates (id) WHERE status = 'pending';

-- What a serial says may never change.
CREATE TRIGGER certificates_keep_their_content
BEFORE UPDATE OF serial, issuer, tenant, device, name, spki_sha256, not_before, not_after, tbs ON certificates
BEGIN
    SELECT RAISE (ABORT, 'a certificate row keeps its content');
END;
CREATE TRIGGER certificates_are_recorded_once
BEFORE UPDATE OF der, fingerprint ON certificates WHEN OLD.der IS NOT NULL
BEGIN
    SELECT RAISE (ABORT, 'a certificate is recorded once');
END;
CREATE TRIGGER certificates_stay_revoked
BEFORE UPDATE OF status ON certificates WHEN OLD.status = 'revoked' AND NEW.status <> 'revoked'
BEGIN
    SELECT RAISE (ABORT, 'a revoked certificate stays revoked');
END;

CREATE TABLE revocations (
    serial    BLOB PRIMARY KEY REFERENCES certificates (serial),
    sequence  INTEGER NOT NULL,
    issuer    TEXT NOT NULL,
    reason    INTEGER NOT NULL,
    not_after INTEGER NOT NULL,
    at        INTEGER NOT NULL,
    actor     TEXT NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX revocations_by_issuer ON revocations (issuer, not_after);

CREATE TABLE crls (
    issuer      TEXT PRIMARY KEY,
    number      INTEGER NOT NULL,
    der         BLOB NOT NULL,
    this_update INTEGER NOT NULL,
    next_update INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE TRIGGER crl_numbers_only_grow
BEFORE UPDATE ON crls WHEN NEW.number <= OLD.number
BEGIN
    SELECT RAISE (ABORT, 'a CRL number only grows');
END;

CREATE TABLE audit (
    seq       INTEGER PRIMARY KEY,
    at        INTEGER NOT NULL,
    actor     TEXT NOT NULL,
    action    TEXT NOT NULL,
    object    TEXT NOT NULL,
    outcome   TEXT NOT NULL,
    detail    TEXT NOT NULL,
    prev_hash BLOB NOT NULL,
    hash      BLOB NOT NULL
) STRICT;
CREATE TRIGGER audit_rows_do_not_change BEFORE UPDATE ON audit
BEGIN
    SELECT RAISE (ABORT, 'audit rows do not change');
END;
CREATE TRIGGER audit_rows_stay BEFORE DELETE ON audit
BEGIN
    SELECT RAISE (ABORT, 'audit rows stay');
END;

-- It is made with the file, before anybody can be asked for the time.
INSERT INTO tenants (name, created_at) VALUES ('default', CAST(unixepoch('subsec') * 1000 AS INTEGER));
PRAGMA user_version = 1;
