-- What people call their devices and group them by; `folded` is the name in lower case, to be searched.
ALTER TABLE devices ADD COLUMN folded TEXT;
ALTER TABLE devices ADD COLUMN tags TEXT;
ALTER TABLE devices ADD COLUMN revision INTEGER NOT NULL DEFAULT 1;

-- The last connections of each device. `event` is the number of its device.connected in the log.
CREATE TABLE connections (
    tenant     TEXT NOT NULL,
    device     TEXT NOT NULL,
    generation INTEGER NOT NULL,
    session    TEXT NOT NULL,
    event      INTEGER NOT NULL,
    began_at   INTEGER NOT NULL,
    ended_at   INTEGER,
    cause      TEXT,
    PRIMARY KEY (tenant, device, generation),
    FOREIGN KEY (tenant, device) REFERENCES devices (tenant, id) ON DELETE CASCADE,
    CHECK ((ended_at IS NULL) = (cause IS NULL))
) STRICT, WITHOUT ROWID;
CREATE INDEX connections_open ON connections (tenant, device) WHERE ended_at IS NULL;
PRAGMA user_version = 4;
