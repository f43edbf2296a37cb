-- Browsers that are signed in. Of every secret only the digest is here.
CREATE TABLE logins (
    digest     BLOB PRIMARY KEY,
    tenant     TEXT NOT NULL,
    user       TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    seen_at    INTEGER NOT NULL,
    expires_at INTEGER NOT NULL,
    FOREIGN KEY (tenant, user) REFERENCES users (tenant, id) ON DELETE CASCADE
) STRICT, WITHOUT ROWID;
CREATE INDEX logins_by_user ON logins (tenant, user, created_at);
CREATE INDEX logins_by_end ON logins (expires_at);

-- One-time codes by which a login is handed over to a device's own host.
CREATE TABLE handovers (
    digest     BLOB PRIMARY KEY,
    tenant     TEXT NOT NULL,
    login      BLOB NOT NULL REFERENCES logins (digest) ON DELETE CASCADE,
    label      TEXT NOT NULL,
    path       TEXT NOT NULL,
    binding    BLOB NOT NULL,
    created_at INTEGER NOT NULL,
    expires_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX handovers_by_login ON handovers (login, created_at);

-- What a browser holds at one device's host: good as long as its login, for that host alone.
CREATE TABLE visits (
    digest     BLOB PRIMARY KEY,
    tenant     TEXT NOT NULL,
    login      BLOB NOT NULL REFERENCES logins (digest) ON DELETE CASCADE,
    label      TEXT NOT NULL,
    created_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX visits_by_login ON visits (login, created_at);

PRAGMA user_version = 5;
