-- When a device went from one owner to the next: what it reports later of a time before that is of nobody's concern.
ALTER TABLE event_floors ADD COLUMN at INTEGER NOT NULL DEFAULT 0;
PRAGMA user_version = 9;
