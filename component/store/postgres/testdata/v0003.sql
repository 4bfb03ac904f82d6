-- A database of schema version 3. Frozen.
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

-- Schema version 2. Frozen: later versions are files of their own.

-- Every commit paid for an index that only the end of a group used.
DROP INDEX old_epochs_gid;

-- Schema version 3. Frozen: later versions are files of their own.

-- A commit paid for two indexes by epoch, of the log and of the epochs, and for a
-- queue of ended epochs beside epochs, which are in that order anyway. Now the
-- row of an epoch stays, emptied (gone), as long as the log has the commit
-- that began it, and finds that commit.
ALTER TABLE epochs ADD COLUMN gone BIGINT NOT NULL DEFAULT 0;
INSERT INTO epochs (gid, epoch, seq, began, header, group_info, changed, gone)
	SELECT l.gid, l.epoch + 1, l.seq, l.stamp, '', '', '', 1
	FROM log l JOIN groups g ON g.id = l.gid WHERE l.kind = 3 AND l.seq > g.base ORDER BY l.row
	ON CONFLICT (gid, epoch) DO NOTHING;
DROP INDEX log_commits;
DROP TABLE old_epochs;

CREATE TABLE lockstep_schema (version BIGINT NOT NULL);
INSERT INTO affiliations OVERRIDING SYSTEM VALUE VALUES ('1', 'juliet@capulet.example', 'owner');
INSERT INTO affiliations OVERRIDING SYSTEM VALUE VALUES ('1', 'romeo@montague.example', 'member');
INSERT INTO claim_replies OVERRIDING SYSTEM VALUE VALUES ('juliet@capulet.example', '1', 'romeo@montague.example', '', '0', '0', '1787227200000', E'\\x', E'\\x');
INSERT INTO claim_replies OVERRIDING SYSTEM VALUE VALUES ('juliet@capulet.example', '1', 'romeo@montague.example', 'r1', '1', '0', '1787227200000', E'\\x726566206130', E'\\x7061636b616765206130');
INSERT INTO claims OVERRIDING SYSTEM VALUE VALUES (E'\\x726566206130', 'balcony@mls.example', 'romeo@montague.example', 'r1', 'juliet@capulet.example', '1787227200000', '1787230800000');
INSERT INTO devices OVERRIDING SYSTEM VALUE VALUES ('juliet@capulet.example', 'j1', '1787227200000');
INSERT INTO devices OVERRIDING SYSTEM VALUE VALUES ('romeo@montague.example', 'r1', '1787227200000');
INSERT INTO doomed OVERRIDING SYSTEM VALUE VALUES ('2');
INSERT INTO epochs OVERRIDING SYSTEM VALUE VALUES ('1', '1', '0', '0', '1787227200000', E'\\x6865616465722030', E'\\x696e666f2030', E'\\x', '0');
INSERT INTO epochs OVERRIDING SYSTEM VALUE VALUES ('2', '1', '1', '2', '1787227200000', E'\\x6865616465722031', E'\\x696e666f2031', E'\\x00146c656166206f66206a756c69657420696e2031010a726f6f7420696e2031', '0');
INSERT INTO epochs OVERRIDING SYSTEM VALUE VALUES ('3', '1', '2', '3', '1787227200000', E'\\x6865616465722032', E'\\x696e666f2032', E'\\x00146c656166206f66206a756c69657420696e2032010a726f6f7420696e2032', '0');
SELECT setval(pg_get_serial_sequence('epochs', 'row'), (SELECT COALESCE(MAX(row), 0) + 1 FROM epochs));
INSERT INTO groups OVERRIDING SYSTEM VALUE VALUES ('1', 'balcony@mls.example', E'\\x6964206f662062616c636f6e79406d6c732e6578616d706c65', '2', '4', '1', '0', E'\\x8640b5395075f112fa347f72f052c0174433537cc417000d10afac16dfa84aa5', '4', '1', 'public', '0', '1787227200000', E'\\x636f6e666967');
SELECT setval(pg_get_serial_sequence('groups', 'id'), (SELECT COALESCE(MAX(id), 0) + 1 FROM groups));
INSERT INTO key_packages OVERRIDING SYSTEM VALUE VALUES ('2', 'romeo@montague.example', 'r1', '1', '0', '1787234400000', E'\\x726566206131', E'\\x63617073', E'\\x7061636b616765206131');
INSERT INTO key_packages OVERRIDING SYSTEM VALUE VALUES ('3', 'romeo@montague.example', 'r1', '1', '0', '1787238000000', E'\\x726566206132', E'\\x63617073', E'\\x7061636b616765206132');
INSERT INTO key_packages OVERRIDING SYSTEM VALUE VALUES ('4', 'romeo@montague.example', 'r1', '1', '1', '1790827200000', E'\\x726566206c', E'\\x63617073', E'\\x7061636b616765206c');
SELECT setval(pg_get_serial_sequence('key_packages', 'id'), (SELECT COALESCE(MAX(id), 0) + 1 FROM key_packages));
INSERT INTO lockstep_schema OVERRIDING SYSTEM VALUE VALUES ('3');
INSERT INTO log OVERRIDING SYSTEM VALUE VALUES ('1', '1', '1', '0', '1', '1787227200000', E'\\x4e77b1e671b931382b68bd7ef6e8e8e3920301811385ea8e83e5c728f000eef5', E'\\xc9068c7999fb2ad47af4f79a8edce0a8670364333822c0bb0ed13bdee288d4bb', 'id of but soft', 'juliet@capulet.example', 'j1', E'\\x62757420736f6674');
INSERT INTO log OVERRIDING SYSTEM VALUE VALUES ('2', '1', '2', '0', '3', '1787227200000', E'\\x593121d93bc76c8e5c9005679d7f862ae6cde3f6f3f0bc1afe480ff865316aae', E'\\xa4b6e762fd3b2f75168670e63211f55e87ed2050b94f4262070a1772cc5e2c8b', 'id of add romeo and mercutio', 'juliet@capulet.example', 'j1', E'\\x61646420726f6d656f20616e64206d6572637574696f');
INSERT INTO log OVERRIDING SYSTEM VALUE VALUES ('3', '1', '3', '1', '3', '1787227200000', E'\\xbc8fa661f7443b7f150eb3d579cf61c6d4409374290e85864c7dfdfa1e6e48f7', E'\\xa61b11ea70ce99795c1b0f303746582998e08b82298f87980bc1fe71b4421d10', 'id of remove mercutio', 'juliet@capulet.example', 'j1', E'\\x72656d6f7665206d6572637574696f');
INSERT INTO log OVERRIDING SYSTEM VALUE VALUES ('4', '1', '4', '2', '2', '1787227200000', E'\\xecd1378bc9dc130008f00d58db5d26f60db55934a49b949af7e6f6a8da2a2beb', E'\\x8640b5395075f112fa347f72f052c0174433537cc417000d10afac16dfa84aa5', 'id of proposal', 'juliet@capulet.example', 'j1', E'\\x70726f706f73616c');
SELECT setval(pg_get_serial_sequence('log', 'row'), (SELECT COALESCE(MAX(row), 0) + 1 FROM log));
INSERT INTO members OVERRIDING SYSTEM VALUE VALUES ('1', 'juliet@capulet.example', 'j1', '0', '0', '0', '0', '1787227200000');
INSERT INTO members OVERRIDING SYSTEM VALUE VALUES ('1', 'mercutio@verona.example', 'm1', '2', '2', '3', '2', '1787227200000');
INSERT INTO members OVERRIDING SYSTEM VALUE VALUES ('1', 'romeo@montague.example', 'r1', '1', '2', '0', '2', '1787227200000');
INSERT INTO nodes OVERRIDING SYSTEM VALUE VALUES ('1', '0', E'\\x6c656166206f66206a756c696574');
INSERT INTO nodes OVERRIDING SYSTEM VALUE VALUES ('2', '0', E'\\x6c656166206f66206a756c696574');
INSERT INTO nudges OVERRIDING SYSTEM VALUE VALUES ('romeo@montague.example', '1787227200000', '0');
INSERT INTO reports OVERRIDING SYSTEM VALUE VALUES ('1', '1787227200000', 'juliet@capulet.example', 'balcony@mls.example', '1', 'spam', 'it''s', E'\\x0027ff');
SELECT setval(pg_get_serial_sequence('reports', 'id'), (SELECT COALESCE(MAX(id), 0) + 1 FROM reports));
INSERT INTO reservations OVERRIDING SYSTEM VALUE VALUES ('orchard@mls.example', 'juliet@capulet.example', '1787227800000');
INSERT INTO sessions OVERRIDING SYSTEM VALUE VALUES ('juliet@capulet.example/x', 'juliet@capulet.example', 'j1', '1787227200000');
INSERT INTO settings OVERRIDING SYSTEM VALUE VALUES ('juliet@capulet.example', 'consent', E'\\x726f73746572');
INSERT INTO tombstones OVERRIDING SYSTEM VALUE VALUES ('old@mls.example', 'orchard@mls.example', 'moved', '1787230800000');
INSERT INTO upload_chunks OVERRIDING SYSTEM VALUE VALUES ('juliet@capulet.example', 'u1', 'welcome', '0', E'\\x77686f6c65');
INSERT INTO uploads OVERRIDING SYSTEM VALUE VALUES ('juliet@capulet.example', 'u1', 'welcome', '5', '5', '1787227500000', E'\\x5d5766cf2d78701614200418ee1450690d9af12c84d52545e4802f001ad53099');
INSERT INTO welcome_infos OVERRIDING SYSTEM VALUE VALUES ('1', '2', '1787313600000', E'\\x736861726564');
INSERT INTO welcomes OVERRIDING SYSTEM VALUE VALUES ('1', E'\\x726566206130', 'balcony@mls.example', '1', 'romeo@montague.example', 'r1', '1', '2', 'juliet@capulet.example', '0', '1787313600000', '1787227200000', E'\\x666f7220726f6d656f');
SELECT setval(pg_get_serial_sequence('welcomes', 'id'), (SELECT COALESCE(MAX(id), 0) + 1 FROM welcomes));
