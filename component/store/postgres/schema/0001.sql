-- Schema version 1. Frozen: later versions are files of their own.
--
-- Times are milliseconds since 1970, 0 for none. Rows that grow without end
-- (log, key packages, snapshots) have an append-order key. Text is compared by
-- its bytes, whatever the locale of the database. Rows that are updated in
-- place have room for it (fillfactor).

CREATE TABLE groups (
	id         BIGINT  PRIMARY KEY GENERATED ALWAYS AS IDENTITY,
	jid        TEXT COLLATE "C" NOT NULL UNIQUE,
	group_id   BYTEA   NOT NULL UNIQUE,
	epoch      BIGINT  NOT NULL,
	head       BIGINT  NOT NULL,               -- seq of the last log entry
	first      BIGINT  NOT NULL,               -- seq of the first entry kept
	base       BIGINT  NOT NULL,               -- head when this MLS group began (ReInit)
	chain      BYTEA   NOT NULL,
	rev        BIGINT  NOT NULL,
	pending    BIGINT  NOT NULL,               -- proposals of the epoch
	mode       TEXT COLLATE "C" NOT NULL,
	retention  BIGINT  NOT NULL,               -- ms, 0: the service's
	created    BIGINT  NOT NULL,
	config     BYTEA   NOT NULL
) WITH (fillfactor = 50);

CREATE TABLE log (
	row        BIGINT  PRIMARY KEY GENERATED ALWAYS AS IDENTITY,
	gid        BIGINT  NOT NULL,
	seq        BIGINT  NOT NULL,
	epoch      BIGINT  NOT NULL,
	kind       BIGINT  NOT NULL,               -- 1 application, 2 proposal, 3 commit, 4 control
	stamp      BIGINT  NOT NULL,
	ref        BYTEA   NOT NULL,
	chain      BYTEA   NOT NULL,
	id         TEXT COLLATE "C" NOT NULL,
	sender     TEXT COLLATE "C" NOT NULL,
	device     TEXT COLLATE "C" NOT NULL,
	bytes      BYTEA   NOT NULL,
	UNIQUE (gid, seq)
);
CREATE UNIQUE INDEX log_ref ON log (gid, ref);
CREATE INDEX log_commits ON log (gid, epoch) WHERE kind = 3;
CREATE INDEX log_proposals ON log (gid, epoch) WHERE kind = 2;

CREATE TABLE epochs (
	row        BIGINT  PRIMARY KEY GENERATED ALWAYS AS IDENTITY,
	gid        BIGINT  NOT NULL,
	epoch      BIGINT  NOT NULL,
	seq        BIGINT  NOT NULL,
	began      BIGINT  NOT NULL,
	header     BYTEA   NOT NULL,
	group_info BYTEA   NOT NULL,
	changed    BYTEA   NOT NULL,               -- nodes of the tree, since the epoch before
	UNIQUE (gid, epoch)
);

CREATE TABLE old_epochs (                      -- in the order in which they ended
	id         BIGINT  PRIMARY KEY GENERATED ALWAYS AS IDENTITY,
	gid        BIGINT  NOT NULL,
	epoch      BIGINT  NOT NULL,
	ended      BIGINT  NOT NULL
);
CREATE INDEX old_epochs_gid ON old_epochs (gid);

CREATE TABLE nodes (                           -- the tree of the oldest epoch kept
	gid        BIGINT  NOT NULL,
	idx        BIGINT  NOT NULL,
	data       BYTEA   NOT NULL,
	PRIMARY KEY (gid, idx)
);

CREATE TABLE members (
	gid        BIGINT  NOT NULL,
	user_jid   TEXT COLLATE "C" NOT NULL,
	device     TEXT COLLATE "C" NOT NULL,
	leaf       BIGINT  NOT NULL,
	joined     BIGINT  NOT NULL,
	removed    BIGINT  NOT NULL,               -- 0: in the tree
	acked      BIGINT  NOT NULL,
	seen       BIGINT  NOT NULL,
	PRIMARY KEY (gid, user_jid, device)
) WITH (fillfactor = 80);
CREATE INDEX members_user ON members (user_jid, device, gid);

CREATE TABLE affiliations (
	gid        BIGINT  NOT NULL,
	user_jid   TEXT COLLATE "C" NOT NULL,
	value      TEXT COLLATE "C" NOT NULL,
	PRIMARY KEY (gid, user_jid)
);
CREATE INDEX affiliations_user ON affiliations (user_jid);

CREATE TABLE doomed (                          -- destroyed groups, not wiped yet
	gid        BIGINT  PRIMARY KEY
);

CREATE TABLE tombstones (
	jid        TEXT COLLATE "C" NOT NULL PRIMARY KEY,
	new_jid    TEXT COLLATE "C" NOT NULL,
	reason     TEXT COLLATE "C" NOT NULL,
	until      BIGINT  NOT NULL
);

CREATE TABLE reservations (
	jid        TEXT COLLATE "C" NOT NULL PRIMARY KEY,
	owner      TEXT COLLATE "C" NOT NULL,
	until      BIGINT  NOT NULL
);

CREATE TABLE devices (
	user_jid   TEXT COLLATE "C" NOT NULL,
	device     TEXT COLLATE "C" NOT NULL,
	seen       BIGINT  NOT NULL,
	PRIMARY KEY (user_jid, device)
);

CREATE TABLE key_packages (
	id          BIGINT  PRIMARY KEY GENERATED ALWAYS AS IDENTITY,
	user_jid    TEXT COLLATE "C" NOT NULL,
	device      TEXT COLLATE "C" NOT NULL,
	suite       BIGINT  NOT NULL,
	last_resort BIGINT  NOT NULL,
	expires     BIGINT  NOT NULL,
	ref         BYTEA   NOT NULL UNIQUE,
	caps        BYTEA   NOT NULL,
	bytes       BYTEA   NOT NULL
);
CREATE INDEX key_packages_stock ON key_packages (user_jid, device, suite, last_resort, expires);
CREATE INDEX key_packages_expires ON key_packages (expires);

CREATE TABLE claims (                          -- who may send which Welcome
	ref        BYTEA   NOT NULL,
	grp        TEXT COLLATE "C" NOT NULL,
	user_jid   TEXT COLLATE "C" NOT NULL,
	device     TEXT COLLATE "C" NOT NULL,
	requester  TEXT COLLATE "C" NOT NULL,
	at         BIGINT  NOT NULL,
	expires    BIGINT  NOT NULL,
	PRIMARY KEY (ref, grp)
);
CREATE INDEX claims_expires ON claims (expires);
CREATE INDEX claims_user ON claims (user_jid);

CREATE TABLE claim_replies (                   -- device '': the claim itself
	requester   TEXT COLLATE "C" NOT NULL,
	claim_id    TEXT COLLATE "C" NOT NULL,
	user_jid    TEXT COLLATE "C" NOT NULL,
	device      TEXT COLLATE "C" NOT NULL,
	status      BIGINT  NOT NULL,
	last_resort BIGINT  NOT NULL,
	at          BIGINT  NOT NULL,
	ref         BYTEA   NOT NULL,
	bytes       BYTEA   NOT NULL,
	PRIMARY KEY (requester, claim_id, user_jid, device)
);
CREATE INDEX claim_replies_at ON claim_replies (at);

CREATE TABLE welcomes (
	id         BIGINT  PRIMARY KEY GENERATED ALWAYS AS IDENTITY,
	kp_ref     BYTEA   NOT NULL,
	grp        TEXT COLLATE "C" NOT NULL,
	gid        BIGINT  NOT NULL,               -- 0: remote
	user_jid   TEXT COLLATE "C" NOT NULL,
	device     TEXT COLLATE "C" NOT NULL,
	epoch      BIGINT  NOT NULL,
	seq        BIGINT  NOT NULL,
	inviter    TEXT COLLATE "C" NOT NULL,
	remote     BIGINT  NOT NULL,
	expires    BIGINT  NOT NULL,
	notify_at  BIGINT  NOT NULL,
	secrets    BYTEA   NOT NULL,
	UNIQUE (kp_ref, grp)
);
CREATE INDEX welcomes_user ON welcomes (user_jid, device);
CREATE INDEX welcomes_grp ON welcomes (grp);
CREATE INDEX welcomes_expires ON welcomes (expires);
CREATE INDEX welcomes_notify ON welcomes (notify_at) WHERE notify_at > 0;

CREATE TABLE welcome_infos (
	gid        BIGINT  NOT NULL,
	seq        BIGINT  NOT NULL,
	expires    BIGINT  NOT NULL,
	info       BYTEA   NOT NULL,
	PRIMARY KEY (gid, seq)
);
CREATE INDEX welcome_infos_expires ON welcome_infos (expires);

CREATE TABLE sessions (
	jid        TEXT COLLATE "C" NOT NULL PRIMARY KEY,
	user_jid   TEXT COLLATE "C" NOT NULL,
	device     TEXT COLLATE "C" NOT NULL,
	since      BIGINT  NOT NULL
);
CREATE INDEX sessions_user ON sessions (user_jid, device);

CREATE TABLE nudges (
	user_jid   TEXT COLLATE "C" NOT NULL PRIMARY KEY,
	due        BIGINT  NOT NULL,
	sent       BIGINT  NOT NULL
);
CREATE INDEX nudges_due ON nudges (due) WHERE sent = 0;

CREATE TABLE uploads (
	owner      TEXT COLLATE "C" NOT NULL,
	id         TEXT COLLATE "C" NOT NULL,
	part       TEXT COLLATE "C" NOT NULL,
	total      BIGINT  NOT NULL,
	have       BIGINT  NOT NULL,
	expires    BIGINT  NOT NULL,
	sum        BYTEA   NOT NULL,
	PRIMARY KEY (owner, id, part)
);

CREATE TABLE upload_chunks (
	owner      TEXT COLLATE "C" NOT NULL,
	id         TEXT COLLATE "C" NOT NULL,
	part       TEXT COLLATE "C" NOT NULL,
	pos        BIGINT  NOT NULL,
	bytes      BYTEA   NOT NULL,
	PRIMARY KEY (owner, id, part, pos)
);

CREATE TABLE settings (
	owner      TEXT COLLATE "C" NOT NULL,
	name       TEXT COLLATE "C" NOT NULL,
	value      BYTEA   NOT NULL,
	PRIMARY KEY (owner, name)
);

CREATE TABLE reports (
	id         BIGINT  PRIMARY KEY GENERATED ALWAYS AS IDENTITY,
	stamp      BIGINT  NOT NULL,
	reporter   TEXT COLLATE "C" NOT NULL,
	grp        TEXT COLLATE "C" NOT NULL,
	seq        BIGINT  NOT NULL,
	reason     TEXT COLLATE "C" NOT NULL,
	comment    TEXT COLLATE "C" NOT NULL,
	evidence   BYTEA   NOT NULL
);
