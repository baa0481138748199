-- A store as the first version wrote it (its schema, word for word), with an act that was begun, a build that runs, and one that
-- has ended.
-- The store remembers what was intended, what was done and what we own. It is never believed about what *is*.

CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT;

-- Every object that we brought to a wanted state at least once, or began to: ours to retire.
CREATE TABLE object (
    kind TEXT NOT NULL,
    name TEXT NOT NULL,
    memory TEXT NOT NULL,              -- JSON: what its driver needs to retire it
    wanted TEXT,                       -- digest of the wanted facts that were last proved
    facts TEXT,                        -- JSON: those facts
    proved_at REAL,
    PRIMARY KEY (kind, name)
) STRICT;

-- Objects that did not come right, until their wanted facts change or an operator asks again.
CREATE TABLE trouble (
    kind TEXT NOT NULL,
    name TEXT NOT NULL,
    wanted TEXT NOT NULL,
    tries INTEGER NOT NULL,
    next_try REAL,                     -- NULL: not before its input changes
    message TEXT NOT NULL,
    hint TEXT NOT NULL,
    since REAL NOT NULL,
    PRIMARY KEY (kind, name)
) STRICT;

CREATE TABLE journal (
    id INTEGER PRIMARY KEY,
    kind TEXT NOT NULL,
    name TEXT NOT NULL,
    summary TEXT NOT NULL,
    intended_at REAL NOT NULL,
    ended_at REAL,
    result TEXT,
    message TEXT
) STRICT;

CREATE TABLE pass (
    id INTEGER PRIMARY KEY,
    revision TEXT NOT NULL,
    result TEXT NOT NULL,
    started REAL NOT NULL,
    seconds REAL NOT NULL,
    said TEXT NOT NULL,
    record TEXT NOT NULL               -- JSON of the whole Record
) STRICT;
CREATE INDEX pass_by_revision ON pass (revision);

-- The last status of every object, for `jailops status` and the pages.
CREATE TABLE status (
    kind TEXT NOT NULL,
    name TEXT NOT NULL,
    state TEXT NOT NULL,
    since REAL NOT NULL,
    status TEXT NOT NULL,
    PRIMARY KEY (kind, name)
) STRICT;

-- What an operator asked for on the command line, until a pass has taken it.
CREATE TABLE request (id INTEGER PRIMARY KEY, verb TEXT NOT NULL, argument TEXT NOT NULL, at REAL NOT NULL) STRICT;

-- Ended builds, for durations and estimates.
CREATE TABLE build (
    image TEXT NOT NULL,
    generation TEXT NOT NULL,
    result TEXT NOT NULL,
    started REAL,
    finished REAL,
    message TEXT NOT NULL,
    PRIMARY KEY (image, generation, result, finished)
) STRICT;

PRAGMA user_version = 1;
INSERT INTO meta VALUES ('revision', 'aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa'), ('fence', '1700000000');
INSERT INTO object VALUES ('jail', 'node1/web', '{"host":"node1","manager":"ezjail"}', NULL, NULL, NULL);
INSERT INTO journal VALUES (1, 'image', 'freebsd13', 'build freebsd13', 1699990000.0, 1699990001.0, 'done', '');
INSERT INTO journal VALUES (2, 'jail', 'node1/web', 'create jail web on node1', 1700000000.0, NULL, NULL, NULL);
INSERT INTO status VALUES ('image', 'freebsd13', 'Changing', 1700000000.0, '{"busy":{"eta":null,"ratio":0.4,"stage":"buildworld","started":1700000000.0},"detail":{},"hint":"","message":"","origin":{"column":1,"line":1,"path":"image.yaml"},"ref":{"kind":"image","name":"freebsd13"},"state":"Changing"}');
INSERT INTO build VALUES ('freebsd13', 'abc', 'done', 10.0, 3610.0, '');
