-- Format 1. `everlog_event` never changes; payload bytes leave only through `everlog_release`.

CREATE TABLE everlog_log (
    one         INTEGER PRIMARY KEY CHECK (one = 1),
    format      INTEGER NOT NULL,
    log_id      BLOB NOT NULL CHECK (length(log_id) = 16),
    incarnation INTEGER NOT NULL,
    position    INTEGER NOT NULL,  -- the head: positions are 1 .. position without holes
    recorded_at INTEGER NOT NULL,  -- never decreases
    inline      TEXT NOT NULL,     -- inline folds in force, as JSON: a process that lacks one may not append
    closed      TEXT NOT NULL      -- why it takes no appends; empty: it takes them
) STRICT;

-- Where each incarnation but the first came from: the parent, and the root of the tree over its events up to the cut.
CREATE TABLE everlog_origin (
    incarnation INTEGER PRIMARY KEY,
    parent      INTEGER NOT NULL,
    cut         INTEGER NOT NULL,
    root        BLOB NOT NULL CHECK (length(root) = 32),
    opened_at   INTEGER NOT NULL
) STRICT;

CREATE TABLE everlog_event (
    position       INTEGER PRIMARY KEY,
    tenant         TEXT NOT NULL,
    stream         TEXT NOT NULL,
    version        INTEGER NOT NULL,
    id             BLOB NOT NULL,
    type           TEXT NOT NULL,
    schema_version INTEGER NOT NULL,
    claimed_at     INTEGER,           -- occurred_at as the caller gave it; NULL: when it was recorded
    recorded_at    INTEGER NOT NULL,
    actor          TEXT,
    correlation_id BLOB,
    causation_id   BLOB,
    segments       BLOB NOT NULL,     -- role and salted hash of each payload segment
    leaf           BLOB NOT NULL
) STRICT;

CREATE UNIQUE INDEX everlog_event_stream ON everlog_event (tenant, stream, version);
CREATE UNIQUE INDEX everlog_event_id ON everlog_event (id);
CREATE INDEX everlog_event_tenant ON everlog_event (tenant, position);
CREATE INDEX everlog_event_type ON everlog_event (type, position);
CREATE INDEX everlog_event_actor ON everlog_event (tenant, actor, position) WHERE actor IS NOT NULL;
CREATE INDEX everlog_event_correlation ON everlog_event (correlation_id, position) WHERE correlation_id IS NOT NULL;

CREATE TABLE everlog_payload (
    position    INTEGER PRIMARY KEY,
    data        BLOB NOT NULL,
    salt        BLOB NOT NULL,
    client      BLOB,               -- ip and user agent: personal, so a segment of their own
    client_salt BLOB
) STRICT;

-- A rebuildable index, outside the leaf.
CREATE TABLE everlog_tag (
    tenant   TEXT NOT NULL,
    tag      TEXT NOT NULL,
    position INTEGER NOT NULL,
    PRIMARY KEY (tenant, tag, position)
) STRICT, WITHOUT ROWID;

-- The one door: payload bytes may go for exactly these positions.
CREATE TABLE everlog_release (
    position    INTEGER PRIMARY KEY,
    act         TEXT NOT NULL CHECK (act IN ('archive', 'erasure')),
    reason      TEXT NOT NULL,
    released_at INTEGER NOT NULL
) STRICT;

CREATE TABLE everlog_snapshot (
    tenant      TEXT NOT NULL,
    stream      TEXT NOT NULL,
    fingerprint BLOB NOT NULL,
    version     INTEGER NOT NULL,
    position    INTEGER NOT NULL,
    occurred_at INTEGER NOT NULL,
    state       BLOB NOT NULL,
    checksum    BLOB NOT NULL,
    PRIMARY KEY (tenant, stream, fingerprint, version)
) STRICT, WITHOUT ROWID;

-- INSERT OR REPLACE deletes without asking DELETE triggers, so every unique key is guarded on the way in.
CREATE TRIGGER everlog_event_insert BEFORE INSERT ON everlog_event
WHEN NEW.position IS NOT (SELECT coalesce(max(position), 0) + 1 FROM everlog_event)
    OR EXISTS (SELECT 1 FROM everlog_event WHERE id = NEW.id)
    OR EXISTS (SELECT 1 FROM everlog_event WHERE tenant = NEW.tenant AND stream = NEW.stream AND version = NEW.version)
BEGIN
    SELECT raise(ABORT, 'everlog: the log is append-only: positions are contiguous, ids and versions are unique');
END;

CREATE TRIGGER everlog_event_update BEFORE UPDATE ON everlog_event
BEGIN
    SELECT raise(ABORT, 'everlog: the log is append-only: events never change');
END;

CREATE TRIGGER everlog_event_delete BEFORE DELETE ON everlog_event
BEGIN
    SELECT raise(ABORT, 'everlog: the log is append-only: events are never deleted');
END;

CREATE TRIGGER everlog_payload_insert BEFORE INSERT ON everlog_payload
WHEN EXISTS (SELECT 1 FROM everlog_payload WHERE position = NEW.position)
    OR EXISTS (SELECT 1 FROM everlog_release WHERE position = NEW.position)
    OR NOT EXISTS (SELECT 1 FROM everlog_event WHERE position = NEW.position)
BEGIN
    SELECT raise(ABORT, 'everlog: the log is append-only: payloads never change');
END;

CREATE TRIGGER everlog_payload_update BEFORE UPDATE ON everlog_payload
BEGIN
    SELECT raise(ABORT, 'everlog: the log is append-only: payloads never change');
END;

CREATE TRIGGER everlog_payload_delete BEFORE DELETE ON everlog_payload
WHEN NOT EXISTS (SELECT 1 FROM everlog_release WHERE position = OLD.position)
BEGIN
    SELECT raise(ABORT, 'everlog: payload bytes leave only through a recorded release');
END;

CREATE TRIGGER everlog_release_insert BEFORE INSERT ON everlog_release
WHEN EXISTS (SELECT 1 FROM everlog_release WHERE position = NEW.position)
BEGIN
    SELECT raise(ABORT, 'everlog: a release is recorded for ever');
END;

CREATE TRIGGER everlog_release_update BEFORE UPDATE ON everlog_release
BEGIN
    SELECT raise(ABORT, 'everlog: a release is recorded for ever');
END;

CREATE TRIGGER everlog_release_delete BEFORE DELETE ON everlog_release
BEGIN
    SELECT raise(ABORT, 'everlog: a release is recorded for ever');
END;

CREATE TRIGGER everlog_log_delete BEFORE DELETE ON everlog_log
BEGIN
    SELECT raise(ABORT, 'everlog: the head row is never deleted');
END;

CREATE TRIGGER everlog_log_insert BEFORE INSERT ON everlog_log
WHEN EXISTS (SELECT 1 FROM everlog_log)
BEGIN
    SELECT raise(ABORT, 'everlog: there is one head row');
END;

CREATE TRIGGER everlog_log_update BEFORE UPDATE ON everlog_log
WHEN (NEW.log_id IS NOT OLD.log_id AND OLD.position > 0) OR NEW.position < OLD.position OR NEW.recorded_at < OLD.recorded_at
BEGIN
    SELECT raise(ABORT, 'everlog: the head only moves forward');
END;

-- Following: a row a partition of a subscription, moved in the transaction of the effect it covers.
CREATE TABLE everlog_subscription (
    name            TEXT PRIMARY KEY,
    subscription    TEXT NOT NULL,
    part            INTEGER NOT NULL,  -- 0 .. parts - 1
    parts           INTEGER NOT NULL,
    until           INTEGER,           -- where it ends, while the subscription is divided anew
    build           INTEGER NOT NULL,  -- under which number a projection keeps its states
    kind            TEXT NOT NULL CHECK (kind IN ('projection', 'processor', 'relay')),
    version         INTEGER NOT NULL,
    position        INTEGER NOT NULL,
    status          TEXT NOT NULL CHECK (status IN ('running', 'paused', 'failed', 'stopped')),
    epoch           INTEGER NOT NULL,  -- every owner has its own; a commit under another one is refused
    owner           TEXT NOT NULL,
    lease_boot      TEXT NOT NULL,     -- which run of the machine the lease's clock belongs to
    lease_until     INTEGER NOT NULL,  -- microseconds of the boot clock, which nobody can set
    error           TEXT NOT NULL,
    failed_position INTEGER NOT NULL,
    moved_at        INTEGER NOT NULL,
    anew            INTEGER NOT NULL   -- 1: sent back, and what an earlier build left is not cleared yet
) STRICT, WITHOUT ROWID;

-- Workers that share the partitions of a subscription; like leases, on the boot clock.
CREATE TABLE everlog_attendance (
    subscription TEXT NOT NULL,
    owner        TEXT NOT NULL,
    boot         TEXT NOT NULL,
    until        INTEGER NOT NULL,
    PRIMARY KEY (subscription, owner)
) STRICT, WITHOUT ROWID;

CREATE TABLE everlog_fold (
    projection TEXT NOT NULL,
    version    INTEGER NOT NULL,
    tenant     TEXT NOT NULL,
    key        TEXT NOT NULL,
    state      BLOB NOT NULL,
    position   INTEGER NOT NULL,
    PRIMARY KEY (projection, version, tenant, key)
) STRICT, WITHOUT ROWID;

-- Timers of processes, made from the log: what is due next lies first in the index.
CREATE TABLE everlog_timer (
    tenant   TEXT NOT NULL,
    stream   TEXT NOT NULL,
    name     TEXT NOT NULL,
    expected INTEGER NOT NULL,  -- 1: something is expected by then
    due_at   INTEGER NOT NULL,
    set_by   BLOB NOT NULL,     -- the event that set it
    correlation_id BLOB,
    PRIMARY KEY (tenant, stream, name)
) STRICT, WITHOUT ROWID;

CREATE INDEX everlog_timer_due ON everlog_timer (due_at, tenant, stream, name);

-- Lanes of processors: a failing key, and the positions that wait behind it in order.
CREATE TABLE everlog_lane (
    processor TEXT NOT NULL,
    key       TEXT NOT NULL,
    hash      INTEGER NOT NULL,   -- of the key: which partition tries it
    status    TEXT NOT NULL CHECK (status IN ('retrying', 'parked', 'waiting')),
    attempts  INTEGER NOT NULL,
    next_at   INTEGER NOT NULL,
    error     TEXT NOT NULL,
    since     INTEGER NOT NULL,
    waits_for TEXT,               -- the key of the canary
    PRIMARY KEY (processor, key)
) STRICT, WITHOUT ROWID;

CREATE INDEX everlog_lane_due ON everlog_lane (processor, next_at) WHERE status = 'retrying';

CREATE TABLE everlog_parked (
    processor TEXT NOT NULL,
    key       TEXT NOT NULL,
    position  INTEGER NOT NULL,
    PRIMARY KEY (processor, key, position)
) STRICT, WITHOUT ROWID;

-- Position 0 holds how far events may have been begun, other positions the attempts on one event after a crash.
CREATE TABLE everlog_mark (
    processor TEXT NOT NULL,
    position  INTEGER NOT NULL,
    number    INTEGER NOT NULL,
    PRIMARY KEY (processor, position)
) STRICT, WITHOUT ROWID;

CREATE TABLE everlog_inbox (
    consumer    TEXT NOT NULL,
    incarnation INTEGER NOT NULL,
    position    INTEGER NOT NULL,
    part        INTEGER NOT NULL,
    PRIMARY KEY (consumer, incarnation, position, part)
) STRICT, WITHOUT ROWID;

-- Events from a broker that lie in lanes, for the log they come from may be out of sight.
CREATE TABLE everlog_received (
    processor   TEXT NOT NULL,
    position    INTEGER NOT NULL,
    incarnation INTEGER NOT NULL,
    event       BLOB NOT NULL,
    PRIMARY KEY (processor, position)
) STRICT, WITHOUT ROWID;

-- How far a subscription that is fed by a broker came in the broker's stream.
CREATE TABLE everlog_feed (
    partition   TEXT PRIMARY KEY,
    source      TEXT NOT NULL,     -- of the messages: which log they are from
    incarnation INTEGER NOT NULL,
    stream      TEXT NOT NULL,
    created     INTEGER NOT NULL,  -- tells one life of the broker's stream from the next
    sequence    INTEGER NOT NULL,
    read        INTEGER NOT NULL,  -- the position of the event at that sequence
    position    INTEGER NOT NULL,  -- the checkpoint as of then
    floor       INTEGER NOT NULL,  -- up to here everything counts as handled
    shared      INTEGER NOT NULL   -- up to here what earlier incarnations sent is the same
) STRICT, WITHOUT ROWID;

-- What a relay knows of the broker's copy, and what is wrong with it.
CREATE TABLE everlog_relay (
    relay       TEXT PRIMARY KEY,
    stream      TEXT NOT NULL,
    created     INTEGER NOT NULL,  -- tells one life of the broker's stream from the next
    sequence    INTEGER NOT NULL,  -- of the last message, whose event lies at position
    messages    INTEGER NOT NULL,
    position    INTEGER NOT NULL,
    part        INTEGER NOT NULL,
    digest      BLOB NOT NULL,
    first       INTEGER NOT NULL,  -- behind here the copy begins
    begun       INTEGER NOT NULL,  -- behind here the relay began
    refill      INTEGER,           -- a person wants what lies from there on sent again
    trouble     TEXT NOT NULL,
    since       INTEGER NOT NULL,
    warnings    TEXT NOT NULL
) STRICT, WITHOUT ROWID;
