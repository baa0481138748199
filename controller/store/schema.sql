-- The store remembers what was intended, what was done and what we own. It is never believed about what *is*.

CREATE TABLE IF NOT EXISTS meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT;

-- Every object that we brought to a wanted state at least once, or began to: ours to retire.
CREATE TABLE IF NOT EXISTS object (
    kind TEXT NOT NULL,
    name TEXT NOT NULL,
    memory TEXT NOT NULL,              -- JSON: what its driver needs to retire it
    wanted TEXT,                       -- digest of the wanted facts that were last proved
    facts TEXT,                        -- JSON: those facts
    proved_at REAL,
    PRIMARY KEY (kind, name)
) STRICT;

-- Objects that did not come right, until their wanted facts change or an operator asks again.
CREATE TABLE IF NOT EXISTS trouble (
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

CREATE TABLE IF NOT EXISTS journal (
    id INTEGER PRIMARY KEY,
    kind TEXT NOT NULL,
    name TEXT NOT NULL,
    summary TEXT NOT NULL,
    intended_at REAL NOT NULL,
    ended_at REAL,
    result TEXT,
    message TEXT
) STRICT;

CREATE TABLE IF NOT EXISTS pass (
    id INTEGER PRIMARY KEY,
    revision TEXT NOT NULL,
    result TEXT NOT NULL,
    started REAL NOT NULL,
    seconds REAL NOT NULL,
    said TEXT NOT NULL,
    record TEXT NOT NULL               -- JSON of the whole Record
) STRICT;
CREATE INDEX IF NOT EXISTS pass_by_revision ON pass (revision);

-- The last status of every object, for `jailops status` and the pages.
CREATE TABLE IF NOT EXISTS status (
    kind TEXT NOT NULL,
    name TEXT NOT NULL,
    state TEXT NOT NULL,
    since REAL NOT NULL,
    status TEXT NOT NULL,
    PRIMARY KEY (kind, name)
) STRICT;

-- What an operator asked for on the command line, until a pass has taken it.
CREATE TABLE IF NOT EXISTS request (id INTEGER PRIMARY KEY, verb TEXT NOT NULL, argument TEXT NOT NULL, at REAL NOT NULL) STRICT;

-- Objects that left Git without anybody's approval, for the budget of a day.
CREATE TABLE IF NOT EXISTS removal (name TEXT NOT NULL, revision TEXT NOT NULL, at REAL NOT NULL) STRICT;

-- What was changed by hand and put back, for who fights with whom. `what`: digest of what was found and what was wanted.
CREATE TABLE IF NOT EXISTS putback (kind TEXT NOT NULL, name TEXT NOT NULL, what TEXT NOT NULL, at REAL NOT NULL) STRICT;

-- Ended builds, for durations and estimates.
CREATE TABLE IF NOT EXISTS build (
    layer TEXT NOT NULL,               -- world, packages or image
    image TEXT NOT NULL,
    name TEXT NOT NULL,
    result TEXT NOT NULL,
    started REAL,
    finished REAL,
    message TEXT NOT NULL,
    PRIMARY KEY (layer, image, name, result, finished)
) STRICT;
