-- schema.sql - the tables of a day file (requests-YYYY-MM-DD.db).
--
-- Each part between two lines "-- migration N" is run once, in a transaction that also sets
-- user_version to N. A part that was released is never changed: add the next number, and the columns
-- to fields.def.

-- migration 1

-- One row per request; seq is the order of writing. NULL: not known, or never happened.
CREATE TABLE requests (
    seq INTEGER PRIMARY KEY,
    time_us INTEGER NOT NULL,
    id TEXT NOT NULL,
    trace TEXT,
    key TEXT,
    client TEXT,
    endpoint TEXT,
    model TEXT,
    worker INTEGER,
    session TEXT,
    prefix TEXT,
    stream INTEGER,
    status INTEGER NOT NULL,
    finish TEXT,
    error TEXT,
    route_reason TEXT,
    prompt_tokens INTEGER,
    cached_tokens INTEGER,
    output_tokens INTEGER,
    choices INTEGER,
    edge_us INTEGER,
    queue_us INTEGER,
    prefill_us INTEGER,
    first_token_us INTEGER,
    total_us INTEGER NOT NULL,
    slowest_gap_us INTEGER,
    slowest_gap_cause TEXT,
    preemptions INTEGER,
    migrations INTEGER,
    request_bytes INTEGER,
    reply_bytes INTEGER
) STRICT;
CREATE INDEX requests_time ON requests (time_us);
CREATE INDEX requests_id ON requests (id);
CREATE INDEX requests_key ON requests (key, time_us);
CREATE INDEX requests_model ON requests (model, time_us);
CREATE INDEX requests_worker ON requests (worker, time_us);
CREATE INDEX requests_status ON requests (status, time_us);
CREATE INDEX requests_finish ON requests (finish, time_us);
CREATE INDEX requests_total ON requests (total_us, time_us);

-- What only the story of one request needs.
CREATE TABLE details (
    seq INTEGER PRIMARY KEY,
    route TEXT,
    timeline TEXT
) STRICT;

-- Bodies of requests, only of those that the configuration names; deleted when expires_us has passed.
CREATE TABLE prompts (
    seq INTEGER PRIMARY KEY,
    expires_us INTEGER NOT NULL,
    body_bytes INTEGER NOT NULL,
    body TEXT NOT NULL
) STRICT;
CREATE INDEX prompts_expires ON prompts (expires_us);
