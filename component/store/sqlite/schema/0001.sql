-- Schema version 1. Frozen: later versions are files of their own.
--
-- Times are milliseconds since 1970, 0 for none. Rows that grow without end
-- (log, key packages, snapshots) have an append-order key, so that new ones
-- share pages, and an index for the order in which they are read.

CREATE TABLE groups (
	id         INTEGER PRIMARY KEY AUTOINCREMENT,
	jid        TEXT    NOT NULL UNIQUE,
	group_id   BLOB    NOT NULL UNIQUE,
	epoch      INTEGER NOT NULL,
	head       INTEGER NOT NULL,               -- seq of the last log entry
	first      INTEGER NOT NULL,               -- seq of the first entry kept
	base       INTEGER NOT NULL,               -- head when this MLS group began (ReInit)
	chain      BLOB    NOT NULL,
	rev        INTEGER NOT NULL,
	pending    INTEGER NOT NULL,               -- proposals of the epoch
	mode       TEXT    NOT NULL,
	retention  INTEGER NOT NULL,               -- ms, 0: the service's
	created    INTEGER NOT NULL,
	config     BLOB    NOT NULL
) STRICT;

CREATE TABLE log (
	row        INTEGER PRIMARY KEY,
	gid        INTEGER NOT NULL,
	seq        INTEGER NOT NULL,
	epoch      INTEGER NOT NULL,
	kind       INTEGER NOT NULL,               -- 1 application, 2 proposal, 3 commit, 4 control
	stamp      INTEGER NOT NULL,
	ref        BLOB    NOT NULL,
	chain      BLOB    NOT NULL,
	id         TEXT    NOT NULL,
	sender     TEXT    NOT NULL,
	device     TEXT    NOT NULL,
	bytes      BLOB    NOT NULL,
	UNIQUE (gid, seq)
) STRICT;
CREATE UNIQUE INDEX log_ref ON log (gid, ref);
CREATE INDEX log_commits ON log (gid, epoch) WHERE kind = 3;
CREATE INDEX log_proposals ON log (gid, epoch) WHERE kind = 2;

CREATE TABLE epochs (
	row        INTEGER PRIMARY KEY,
	gid        INTEGER NOT NULL,
	epoch      INTEGER NOT NULL,
	seq        INTEGER NOT NULL,
	began      INTEGER NOT NULL,
	header     BLOB    NOT NULL,
	group_info BLOB    NOT NULL,
	changed    BLOB    NOT NULL,               -- nodes of the tree, since the epoch before
	UNIQUE (gid, epoch)
) STRICT;

CREATE TABLE old_epochs (                      -- in the order in which they ended
	id         INTEGER PRIMARY KEY,
	gid        INTEGER NOT NULL,
	epoch      INTEGER NOT NULL,
	ended      INTEGER NOT NULL
) STRICT;
CREATE INDEX old_epochs_gid ON old_epochs (gid);

CREATE TABLE nodes (                           -- the tree of the oldest epoch kept
	gid        INTEGER NOT NULL,
	idx        INTEGER NOT NULL,
	data       BLOB    NOT NULL,
	PRIMARY KEY (gid, idx)
) STRICT, WITHOUT ROWID;

CREATE TABLE members (
	gid        INTEGER NOT NULL,
	user_jid   TEXT    NOT NULL,
	device     TEXT    NOT NULL,
	leaf       INTEGER NOT NULL,
	joined     INTEGER NOT NULL,
	removed    INTEGER NOT NULL,               -- 0: in the tree
	acked      INTEGER NOT NULL,
	seen       INTEGER NOT NULL,
	PRIMARY KEY (gid, user_jid, device)
) STRICT, WITHOUT ROWID;
CREATE INDEX members_user ON members (user_jid, device, gid);

CREATE TABLE affiliations (
	gid        INTEGER NOT NULL,
	user_jid   TEXT    NOT NULL,
	value      TEXT    NOT NULL,
	PRIMARY KEY (gid, user_jid)
) STRICT, WITHOUT ROWID;
CREATE INDEX affiliations_user ON affiliations (user_jid);

CREATE TABLE doomed (                          -- destroyed groups, not wiped yet
	gid        INTEGER PRIMARY KEY
) STRICT;

CREATE TABLE tombstones (
	jid        TEXT    NOT NULL PRIMARY KEY,
	new_jid    TEXT    NOT NULL,
	reason     TEXT    NOT NULL,
	until      INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE reservations (
	jid        TEXT    NOT NULL PRIMARY KEY,
	owner      TEXT    NOT NULL,
	until      INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE devices (
	user_jid   TEXT    NOT NULL,
	device     TEXT    NOT NULL,
	seen       INTEGER NOT NULL,
	PRIMARY KEY (user_jid, device)
) STRICT, WITHOUT ROWID;

CREATE TABLE key_packages (
	id          INTEGER PRIMARY KEY,
	user_jid    TEXT    NOT NULL,
	device      TEXT    NOT NULL,
	suite       INTEGER NOT NULL,
	last_resort INTEGER NOT NULL,
	expires     INTEGER NOT NULL,
	ref         BLOB    NOT NULL UNIQUE,
	caps        BLOB    NOT NULL,
	bytes       BLOB    NOT NULL
) STRICT;
CREATE INDEX key_packages_stock ON key_packages (user_jid, device, suite, last_resort, expires);
CREATE INDEX key_packages_expires ON key_packages (expires);

CREATE TABLE claims (                          -- who may send which Welcome
	ref        BLOB    NOT NULL,
	grp        TEXT    NOT NULL,
	user_jid   TEXT    NOT NULL,
	device     TEXT    NOT NULL,
	requester  TEXT    NOT NULL,
	at         INTEGER NOT NULL,
	expires    INTEGER NOT NULL,
	PRIMARY KEY (ref, grp)
) STRICT, WITHOUT ROWID;
CREATE INDEX claims_expires ON claims (expires);
CREATE INDEX claims_user ON claims (user_jid);

CREATE TABLE claim_replies (                   -- device '': the claim itself
	requester   TEXT    NOT NULL,
	claim_id    TEXT    NOT NULL,
	user_jid    TEXT    NOT NULL,
	device      TEXT    NOT NULL,
	status      INTEGER NOT NULL,
	last_resort INTEGER NOT NULL,
	at          INTEGER NOT NULL,
	ref         BLOB    NOT NULL,
	bytes       BLOB    NOT NULL,
	PRIMARY KEY (requester, claim_id, user_jid, device)
) STRICT, WITHOUT ROWID;
CREATE INDEX claim_replies_at ON claim_replies (at);

CREATE TABLE welcomes (
	id         INTEGER PRIMARY KEY,
	kp_ref     BLOB    NOT NULL,
	grp        TEXT    NOT NULL,
	gid        INTEGER NOT NULL,               -- 0: remote
	user_jid   TEXT    NOT NULL,
	device     TEXT    NOT NULL,
	epoch      INTEGER NOT NULL,
	seq        INTEGER NOT NULL,
	inviter    TEXT    NOT NULL,
	remote     INTEGER NOT NULL,
	expires    INTEGER NOT NULL,
	notify_at  INTEGER NOT NULL,
	secrets    BLOB    NOT NULL,
	UNIQUE (kp_ref, grp)
) STRICT;
CREATE INDEX welcomes_user ON welcomes (user_jid, device);
CREATE INDEX welcomes_grp ON welcomes (grp);
CREATE INDEX welcomes_expires ON welcomes (expires);
CREATE INDEX welcomes_notify ON welcomes (notify_at) WHERE notify_at > 0;

CREATE TABLE welcome_infos (
	gid        INTEGER NOT NULL,
	seq        INTEGER NOT NULL,
	expires    INTEGER NOT NULL,
	info       BLOB    NOT NULL,
	PRIMARY KEY (gid, seq)
) STRICT;
CREATE INDEX welcome_infos_expires ON welcome_infos (expires);

CREATE TABLE sessions (
	jid        TEXT    NOT NULL PRIMARY KEY,
	user_jid   TEXT    NOT NULL,
	device     TEXT    NOT NULL,
	since      INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX sessions_user ON sessions (user_jid, device);

CREATE TABLE nudges (
	user_jid   TEXT    NOT NULL PRIMARY KEY,
	due        INTEGER NOT NULL,
	sent       INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX nudges_due ON nudges (due) WHERE sent = 0;

CREATE TABLE uploads (
	owner      TEXT    NOT NULL,
	id         TEXT    NOT NULL,
	part       TEXT    NOT NULL,
	total      INTEGER NOT NULL,
	have       INTEGER NOT NULL,
	expires    INTEGER NOT NULL,
	sum        BLOB    NOT NULL,
	PRIMARY KEY (owner, id, part)
) STRICT, WITHOUT ROWID;

CREATE TABLE upload_chunks (
	owner      TEXT    NOT NULL,
	id         TEXT    NOT NULL,
	part       TEXT    NOT NULL,
	pos        INTEGER NOT NULL,
	bytes      BLOB    NOT NULL,
	PRIMARY KEY (owner, id, part, pos)
) STRICT;

CREATE TABLE settings (
	owner      TEXT    NOT NULL,
	name       TEXT    NOT NULL,
	value      BLOB    NOT NULL,
	PRIMARY KEY (owner, name)
) STRICT, WITHOUT ROWID;

CREATE TABLE reports (
	id         INTEGER PRIMARY KEY AUTOINCREMENT,
	stamp      INTEGER NOT NULL,
	reporter   TEXT    NOT NULL,
	grp        TEXT    NOT NULL,
	seq        INTEGER NOT NULL,
	reason     TEXT    NOT NULL,
	comment    TEXT    NOT NULL,
	evidence   BLOB    NOT NULL
) STRICT;
