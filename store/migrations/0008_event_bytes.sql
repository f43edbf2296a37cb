-- How much room the log takes: a running total, so that nobody has to count. A row counts as its content, with what
-- names it once more for each of the indexes, and so much for columns and pages.
INSERT INTO counters (name, value)
SELECT 'events_bytes', coalesce(sum(octet_length(data) + octet_length(subject) + coalesce(octet_length(user), 0)
    + 3 * (octet_length(tenant) + coalesce(octet_length(device), 0) + coalesce(octet_length(source_id), 0)) + 48), 0)
FROM events;

CREATE TRIGGER events_add_their_bytes AFTER INSERT ON events
BEGIN
    UPDATE counters SET value = value + octet_length(NEW.data) + octet_length(NEW.subject)
        + coalesce(octet_length(NEW.user), 0) + 3 * (octet_length(NEW.tenant)
        + coalesce(octet_length(NEW.device), 0) + coalesce(octet_length(NEW.source_id), 0)) + 48
    WHERE name = 'events_bytes';
END;
CREATE TRIGGER events_take_their_bytes_with_them AFTER DELETE ON events
BEGIN
    UPDATE counters SET value = value - octet_length(OLD.data) - octet_length(OLD.subject)
        - coalesce(octet_length(OLD.user), 0) - 3 * (octet_length(OLD.tenant)
        + coalesce(octet_length(OLD.device), 0) + coalesce(octet_length(OLD.source_id), 0)) - 48
    WHERE name = 'events_bytes';
END;
CREATE TRIGGER events_stay_as_they_are BEFORE UPDATE ON events
BEGIN
    SELECT RAISE (ABORT, 'an event does not change');
END;
PRAGMA user_version = 8;
