-- The log and what follows it. `everlog_event` never changes; payload bytes leave only through `everlog_release`.
-- Names compare by bytes (COLLATE "C"), as on SQLite.

CREATE TABLE everlog_log (
    one         integer PRIMARY KEY CHECK (one = 1),
    format      integer NOT NULL,
    log_id      bytea NOT NULL CHECK (length(log_id) = 16),
    incarnation bigint NOT NULL,
    position    bigint NOT NULL,  -- the head: positions are 1 .. position without holes
    recorded_at bigint NOT NULL,  -- never decreases
    inline      text NOT NULL,    -- inline folds in force, as JSON: a process that lacks one may not append
    closed      text NOT NULL     -- why it takes no appends; empty: it takes them
) WITH (fillfactor = 50);         -- one row, changed by every append: room for it to stay on its page

-- Where each incarnation but the first came from: the parent, and the root of the tree over its events up to the cut.
CREATE TABLE everlog_origin (
    incarnation bigint PRIMARY KEY,
    parent      bigint NOT NULL,
    cut         bigint NOT NULL,
    root        bytea NOT NULL CHECK (length(root) = 32),
    opened_at   bigint NOT NULL
);

CREATE TABLE everlog_event (
    position       bigint PRIMARY KEY,
    tenant         text COLLATE "C" NOT NULL,
    stream         text COLLATE "C" NOT NULL,
    version        bigint NOT NULL,
    id             uuid NOT NULL,
    type           text COLLATE "C" NOT NULL,
    schema_version bigint NOT NULL,
    claimed_at     bigint,            -- occurred_at as the caller gave it; NULL: when it was recorded
    recorded_at    bigint NOT NULL,
    actor          text COLLATE "C",
    correlation_id uuid,
    causation_id   uuid,
    segments       bytea NOT NULL,    -- role and salted hash of each payload segment
    leaf           bytea NOT NULL
);

CREATE UNIQUE INDEX everlog_event_stream ON everlog_event (tenant, stream, version);
CREATE UNIQUE INDEX everlog_event_id ON everlog_event (id);
CREATE INDEX everlog_event_tenant ON everlog_event (tenant, position);
CREATE INDEX everlog_event_type ON everlog_event (type, position);
CREATE INDEX everlog_event_actor ON everlog_event (tenant, actor, position) WHERE actor IS NOT NULL;
CREATE INDEX everlog_event_correlation ON everlog_event (correlation_id, position) WHERE correlation_id IS NOT NULL;

CREATE TABLE everlog_payload (
    position    bigint PRIMARY KEY,
    tenant      text COLLATE "C" NOT NULL,
    data        bytea NOT NULL,
    salt        bytea NOT NULL,
    client      bytea,              -- ip and user agent: personal, so a segment of their own
    client_salt bytea
);

-- A rebuildable index, outside the leaf.
CREATE TABLE everlog_tag (
    tenant   text COLLATE "C" NOT NULL,
    tag      text COLLATE "C" NOT NULL,
    position bigint NOT NULL,
    PRIMARY KEY (tenant, tag, position)
);

-- The one door: payload bytes may go for exactly these positions.
CREATE TABLE everlog_release (
    position    bigint PRIMARY KEY,
    act         text NOT NULL CHECK (act IN ('archive', 'erasure')),
    reason      text NOT NULL,
    released_at bigint NOT NULL
);

CREATE TABLE everlog_snapshot (
    tenant      text COLLATE "C" NOT NULL,
    stream      text COLLATE "C" NOT NULL,
    fingerprint bytea NOT NULL,
    version     bigint NOT NULL,
    position    bigint NOT NULL,
    occurred_at bigint NOT NULL,
    state       bytea NOT NULL,
    checksum    bytea NOT NULL,
    PRIMARY KEY (tenant, stream, fingerprint, version)
);

CREATE FUNCTION everlog_refuse() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'everlog: %', TG_ARGV[0];
END $$;

CREATE FUNCTION everlog_released_only() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NOT EXISTS (SELECT 1 FROM everlog_release r WHERE r.position = OLD.position) THEN
        RAISE EXCEPTION 'everlog: payload bytes leave only through a recorded release';
    END IF;
    RETURN OLD;
END $$;

CREATE TRIGGER everlog_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON everlog_event
FOR EACH STATEMENT EXECUTE FUNCTION everlog_refuse('the log is append-only: events never change or go');

CREATE TRIGGER everlog_append_only BEFORE UPDATE OR TRUNCATE ON everlog_payload
FOR EACH STATEMENT EXECUTE FUNCTION everlog_refuse('the log is append-only: payloads never change');

CREATE TRIGGER everlog_one_door BEFORE DELETE ON everlog_payload
FOR EACH ROW EXECUTE FUNCTION everlog_released_only();

CREATE TRIGGER everlog_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON everlog_release
FOR EACH STATEMENT EXECUTE FUNCTION everlog_refuse('a release is recorded for ever');

CREATE TRIGGER everlog_append_only BEFORE DELETE OR TRUNCATE ON everlog_log
FOR EACH STATEMENT EXECUTE FUNCTION everlog_refuse('the head row is never deleted');

CREATE TRIGGER everlog_forward_only BEFORE UPDATE ON everlog_log FOR EACH ROW
WHEN (NEW.log_id <> OLD.log_id AND OLD.position > 0 OR NEW.position < OLD.position OR NEW.recorded_at < OLD.recorded_at)
EXECUTE FUNCTION everlog_refuse('the head only moves forward');

-- Following: a row a partition of a subscription, moved in the transaction of the effect it covers.
CREATE TABLE everlog_subscription (
    name            text COLLATE "C" PRIMARY KEY,
    subscription    text COLLATE "C" NOT NULL,
    part            bigint NOT NULL,  -- 0 .. parts - 1
    parts           bigint NOT NULL,
    until           bigint,           -- where it ends, while the subscription is divided anew
    build           bigint NOT NULL,  -- under which number a projection keeps its states
    kind            text NOT NULL CHECK (kind IN ('projection', 'processor', 'relay')),
    version         bigint NOT NULL,
    position        bigint NOT NULL,
    status          text NOT NULL CHECK (status IN ('running', 'paused', 'failed', 'stopped')),
    epoch           bigint NOT NULL,  -- every owner has its own; a commit under another one is refused
    owner           text NOT NULL,
    lease_until     bigint NOT NULL,  -- microseconds of the database's clock
    error           text NOT NULL,
    failed_position bigint NOT NULL,
    moved_at        bigint NOT NULL,
    anew            boolean NOT NULL  -- sent back, and what an earlier build left is not cleared yet
) WITH (fillfactor = 50);

-- Workers that share the partitions of a subscription.
CREATE TABLE everlog_attendance (
    subscription text COLLATE "C" NOT NULL,
    owner        text COLLATE "C" NOT NULL,
    until        bigint NOT NULL,  -- microseconds of the database's clock
    PRIMARY KEY (subscription, owner)
);

CREATE TABLE everlog_fold (
    projection text COLLATE "C" NOT NULL,
    version    bigint NOT NULL,
    tenant     text COLLATE "C" NOT NULL,
    key        text COLLATE "C" NOT NULL,
    state      bytea NOT NULL,
    position   bigint NOT NULL,
    PRIMARY KEY (projection, version, tenant, key)
);

-- Timers of processes, made from the log: what is due next lies first in the index.
CREATE TABLE everlog_timer (
    tenant   text COLLATE "C" NOT NULL,
    stream   text COLLATE "C" NOT NULL,
    name     text COLLATE "C" NOT NULL,
    expected bigint NOT NULL,  -- 1: something is expected by then
    due_at   bigint NOT NULL,
    set_by   bytea NOT NULL,   -- the event that set it
    correlation_id bytea,
    PRIMARY KEY (tenant, stream, name)
);

CREATE INDEX everlog_timer_due ON everlog_timer (due_at, tenant, stream, name);

-- Lanes of processors: a failing key, and the positions that wait behind it in order.
CREATE TABLE everlog_lane (
    processor text COLLATE "C" NOT NULL,
    key       text COLLATE "C" NOT NULL,
    hash      bigint NOT NULL,    -- of the key: which partition tries it
    status    text NOT NULL CHECK (status IN ('retrying', 'parked', 'waiting')),
    attempts  bigint NOT NULL,
    next_at   bigint NOT NULL,
    error     text NOT NULL,
    since     bigint NOT NULL,
    waits_for text COLLATE "C",   -- the key of the canary
    PRIMARY KEY (processor, key)
);

CREATE INDEX everlog_lane_due ON everlog_lane (processor, next_at) WHERE status = 'retrying';

CREATE TABLE everlog_parked (
    processor text COLLATE "C" NOT NULL,
    key       text COLLATE "C" NOT NULL,
    position  bigint NOT NULL,
    PRIMARY KEY (processor, key, position)
);

-- Position 0 holds how far events may have been begun, other positions the attempts on one event after a crash.
CREATE TABLE everlog_mark (
    processor text COLLATE "C" NOT NULL,
    position  bigint NOT NULL,
    number    bigint NOT NULL,
    PRIMARY KEY (processor, position)
);

CREATE TABLE everlog_inbox (
    consumer    text COLLATE "C" NOT NULL,
    incarnation bigint NOT NULL,
    position    bigint NOT NULL,
    part        bigint NOT NULL,
    PRIMARY KEY (consumer, incarnation, position, part)
);

-- Events from a broker that lie in lanes, for the log they come from may be out of sight.
CREATE TABLE everlog_received (
    processor   text COLLATE "C" NOT NULL,
    position    bigint NOT NULL,
    incarnation bigint NOT NULL,
    event       bytea NOT NULL,
    PRIMARY KEY (processor, position)
);

-- How far a subscription that is fed by a broker came in the broker's stream.
CREATE TABLE everlog_feed (
    partition   text COLLATE "C" PRIMARY KEY,
    source      text COLLATE "C" NOT NULL,  -- of the messages: which log they are from
    incarnation bigint NOT NULL,
    stream      text COLLATE "C" NOT NULL,
    created     bigint NOT NULL,  -- tells one life of the broker's stream from the next
    sequence    bigint NOT NULL,
    read        bigint NOT NULL,  -- the position of the event at that sequence
    position    bigint NOT NULL,  -- the checkpoint as of then
    floor       bigint NOT NULL,  -- up to here everything counts as handled
    shared      bigint NOT NULL   -- up to here what earlier incarnations sent is the same
) WITH (fillfactor = 50);

-- What a relay knows of the broker's copy, and what is wrong with it.
CREATE TABLE everlog_relay (
    relay       text COLLATE "C" PRIMARY KEY,
    stream      text NOT NULL,
    created     bigint NOT NULL,  -- tells one life of the broker's stream from the next
    sequence    bigint NOT NULL,  -- of the last message, whose event lies at position
    messages    bigint NOT NULL,
    position    bigint NOT NULL,
    part        bigint NOT NULL,
    digest      bytea NOT NULL,
    first       bigint NOT NULL,  -- behind here the copy begins
    begun       bigint NOT NULL,  -- behind here the relay began
    refill      bigint,           -- a person wants what lies from there on sent again
    trouble     text NOT NULL,
    since       bigint NOT NULL,
    warnings    text NOT NULL
) WITH (fillfactor = 50);

-- Whoever is not the owner sees what a policy shows: rows of the tenant the transaction is bound to, or nothing.
ALTER TABLE everlog_log ENABLE ROW LEVEL SECURITY;
ALTER TABLE everlog_origin ENABLE ROW LEVEL SECURITY;
ALTER TABLE everlog_event ENABLE ROW LEVEL SECURITY;
ALTER TABLE everlog_payload ENABLE ROW LEVEL SECURITY;
ALTER TABLE everlog_tag ENABLE ROW LEVEL SECURITY;
ALTER TABLE everlog_release ENABLE ROW LEVEL SECURITY;
ALTER TABLE everlog_snapshot ENABLE ROW LEVEL SECURITY;
ALTER TABLE everlog_subscription ENABLE ROW LEVEL SECURITY;
ALTER TABLE everlog_attendance ENABLE ROW LEVEL SECURITY;
ALTER TABLE everlog_fold ENABLE ROW LEVEL SECURITY;
ALTER TABLE everlog_timer ENABLE ROW LEVEL SECURITY;
ALTER TABLE everlog_lane ENABLE ROW LEVEL SECURITY;
ALTER TABLE everlog_parked ENABLE ROW LEVEL SECURITY;
ALTER TABLE everlog_mark ENABLE ROW LEVEL SECURITY;
ALTER TABLE everlog_inbox ENABLE ROW LEVEL SECURITY;
ALTER TABLE everlog_received ENABLE ROW LEVEL SECURITY;
ALTER TABLE everlog_feed ENABLE ROW LEVEL SECURITY;
ALTER TABLE everlog_relay ENABLE ROW LEVEL SECURITY;

CREATE POLICY everlog_tenant ON everlog_event FOR SELECT USING (tenant = current_setting('everlog.tenant', true));
CREATE POLICY everlog_tenant ON everlog_payload FOR SELECT USING (tenant = current_setting('everlog.tenant', true));
CREATE POLICY everlog_tenant ON everlog_tag FOR SELECT USING (tenant = current_setting('everlog.tenant', true));
CREATE POLICY everlog_tenant ON everlog_snapshot FOR SELECT USING (tenant = current_setting('everlog.tenant', true));
CREATE POLICY everlog_tenant ON everlog_fold FOR SELECT USING (tenant = current_setting('everlog.tenant', true));

INSERT INTO everlog_log
VALUES (1, 1, decode(replace(gen_random_uuid()::text, '-', ''), 'hex'), 1, 0, 0, '{}', '');
