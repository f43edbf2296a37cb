-- A tenant that is being deleted is served no more; its row goes last. deleting_by: as audit rows name actors.
ALTER TABLE tenants ADD COLUMN deleting_at INTEGER;
ALTER TABLE tenants ADD COLUMN deleting_by TEXT CHECK ((deleting_by IS NULL) = (deleting_at IS NULL));
-- Tokens with an older grant sequence are of an earlier tenant of that name.
ALTER TABLE tenants ADD COLUMN first_sequence INTEGER NOT NULL DEFAULT 0;

PRAGMA user_version = 3;
