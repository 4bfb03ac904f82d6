-- A database of schema version 4. Frozen.
PRAGMA application_id = 1280004948;
PRAGMA user_version = 4;
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
, tail BLOB NOT NULL DEFAULT x'') STRICT;
CREATE TABLE epochs (
	row        INTEGER PRIMARY KEY,
	gid        INTEGER NOT NULL,
	epoch      INTEGER NOT NULL,
	seq        INTEGER NOT NULL,
	began      INTEGER NOT NULL,
	header     BLOB    NOT NULL,
	group_info BLOB    NOT NULL,
	changed    BLOB    NOT NULL, gone INTEGER NOT NULL DEFAULT 0,               -- nodes of the tree, since the epoch before
	UNIQUE (gid, epoch)
) STRICT;
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
CREATE TABLE affiliations (
	gid        INTEGER NOT NULL,
	user_jid   TEXT    NOT NULL,
	value      TEXT    NOT NULL,
	PRIMARY KEY (gid, user_jid)
) STRICT, WITHOUT ROWID;
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
CREATE TABLE welcome_infos (
	gid        INTEGER NOT NULL,
	seq        INTEGER NOT NULL,
	expires    INTEGER NOT NULL,
	info       BLOB    NOT NULL,
	PRIMARY KEY (gid, seq)
) STRICT;
CREATE TABLE sessions (
	jid        TEXT    NOT NULL PRIMARY KEY,
	user_jid   TEXT    NOT NULL,
	device     TEXT    NOT NULL,
	since      INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE TABLE nudges (
	user_jid   TEXT    NOT NULL PRIMARY KEY,
	due        INTEGER NOT NULL,
	sent       INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
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
CREATE TABLE log_blocks (
	gid        INTEGER NOT NULL,
	last       INTEGER NOT NULL,               -- seq of the last record
	records    BLOB    NOT NULL,
	PRIMARY KEY (gid, last)
) STRICT, WITHOUT ROWID;
CREATE TABLE log_refs (
	gid        INTEGER NOT NULL,
	ref        BLOB    NOT NULL,               -- the first 8 octets
	row        INTEGER NOT NULL,
	PRIMARY KEY (gid, ref, row)
) STRICT, WITHOUT ROWID;
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
	bytes      BLOB    NOT NULL
) STRICT;
CREATE INDEX members_user ON members (user_jid, device, gid);
CREATE INDEX affiliations_user ON affiliations (user_jid);
CREATE INDEX key_packages_stock ON key_packages (user_jid, device, suite, last_resort, expires);
CREATE INDEX key_packages_expires ON key_packages (expires);
CREATE INDEX claims_expires ON claims (expires);
CREATE INDEX claims_user ON claims (user_jid);
CREATE INDEX claim_replies_at ON claim_replies (at);
CREATE INDEX welcomes_user ON welcomes (user_jid, device);
CREATE INDEX welcomes_grp ON welcomes (grp);
CREATE INDEX welcomes_expires ON welcomes (expires);
CREATE INDEX welcomes_notify ON welcomes (notify_at) WHERE notify_at > 0;
CREATE INDEX welcome_infos_expires ON welcome_infos (expires);
CREATE INDEX sessions_user ON sessions (user_jid, device);
CREATE INDEX nudges_due ON nudges (due) WHERE sent = 0;
CREATE INDEX log_proposals ON log (gid, epoch) WHERE kind = 2;
INSERT INTO groups VALUES (1, 'balcony@mls.example', X'6964206F662062616C636F6E79406D6C732E6578616D706C65', 2, 4, 1, 0, X'8640B5395075F112FA347F72F052C0174433537CC417000D10AFAC16DFA84AA5', 4, 1, 'public', 0, 1787227200000, X'636F6E666967', X'4E77B1E671B931380000000000000001593121D93BC76C8E0000000000000002BC8FA661F7443B7F0000000000000003ECD1378BC9DC13000000000000000004');
INSERT INTO epochs VALUES (1, 1, 0, 0, 1787227200000, X'6865616465722030', X'696E666F2030', X'', 0);
INSERT INTO epochs VALUES (2, 1, 1, 2, 1787227200000, X'6865616465722031', X'696E666F2031', X'00146C656166206F66206A756C69657420696E2031010A726F6F7420696E2031', 0);
INSERT INTO epochs VALUES (3, 1, 2, 3, 1787227200000, X'6865616465722032', X'696E666F2032', X'00146C656166206F66206A756C69657420696E2032010A726F6F7420696E2032', 0);
INSERT INTO nodes VALUES (1, 0, X'6C656166206F66206A756C696574');
INSERT INTO nodes VALUES (2, 0, X'6C656166206F66206A756C696574');
INSERT INTO members VALUES (1, 'juliet@capulet.example', 'j1', 0, 0, 0, 0, 1787227200000);
INSERT INTO members VALUES (1, 'mercutio@verona.example', 'm1', 2, 2, 3, 2, 1787227200000);
INSERT INTO members VALUES (1, 'romeo@montague.example', 'r1', 1, 2, 0, 2, 1787227200000);
INSERT INTO affiliations VALUES (1, 'juliet@capulet.example', 'owner');
INSERT INTO affiliations VALUES (1, 'romeo@montague.example', 'member');
INSERT INTO doomed VALUES (2);
INSERT INTO tombstones VALUES ('old@mls.example', 'orchard@mls.example', 'moved', 1787230800000);
INSERT INTO reservations VALUES ('orchard@mls.example', 'juliet@capulet.example', 1787227800000);
INSERT INTO devices VALUES ('juliet@capulet.example', 'j1', 1787227200000);
INSERT INTO devices VALUES ('romeo@montague.example', 'r1', 1787227200000);
INSERT INTO key_packages VALUES (2, 'romeo@montague.example', 'r1', 1, 0, 1787234400000, X'726566206131', X'63617073', X'7061636B616765206131');
INSERT INTO key_packages VALUES (3, 'romeo@montague.example', 'r1', 1, 0, 1787238000000, X'726566206132', X'63617073', X'7061636B616765206132');
INSERT INTO key_packages VALUES (4, 'romeo@montague.example', 'r1', 1, 1, 1790827200000, X'726566206C', X'63617073', X'7061636B616765206C');
INSERT INTO claims VALUES (X'726566206130', 'balcony@mls.example', 'romeo@montague.example', 'r1', 'juliet@capulet.example', 1787227200000, 1787230800000);
INSERT INTO claim_replies VALUES ('juliet@capulet.example', '1', 'romeo@montague.example', '', 0, 0, 1787227200000, X'', X'');
INSERT INTO claim_replies VALUES ('juliet@capulet.example', '1', 'romeo@montague.example', 'r1', 1, 0, 1787227200000, X'726566206130', X'7061636B616765206130');
INSERT INTO welcomes VALUES (1, X'726566206130', 'balcony@mls.example', 1, 'romeo@montague.example', 'r1', 1, 2, 'juliet@capulet.example', 0, 1787313600000, 1787227200000, X'666F7220726F6D656F');
INSERT INTO welcome_infos VALUES (1, 2, 1787313600000, X'736861726564');
INSERT INTO sessions VALUES ('juliet@capulet.example/x', 'juliet@capulet.example', 'j1', 1787227200000);
INSERT INTO nudges VALUES ('romeo@montague.example', 1787227200000, 0);
INSERT INTO uploads VALUES ('juliet@capulet.example', 'u1', 'welcome', 5, 5, 1787227500000, X'5D5766CF2D78701614200418EE1450690D9AF12C84D52545E4802F001AD53099');
INSERT INTO upload_chunks VALUES ('juliet@capulet.example', 'u1', 'welcome', 0, X'77686F6C65');
INSERT INTO settings VALUES ('juliet@capulet.example', 'consent', X'726F73746572');
INSERT INTO reports VALUES (1, 1787227200000, 'juliet@capulet.example', 'balcony@mls.example', 1, 'spam', 'it''s', X'0027FF');
INSERT INTO log VALUES (1, 1, 1, 0, 1, 1787227200000, X'4E77B1E671B931382B68BD7EF6E8E8E3920301811385EA8E83E5C728F000EEF5', X'C9068C7999FB2AD47AF4F79A8EDCE0A8670364333822C0BB0ED13BDEE288D4BB', 'id of but soft', 'juliet@capulet.example', 'j1', X'62757420736F6674');
INSERT INTO log VALUES (2, 1, 2, 0, 3, 1787227200000, X'593121D93BC76C8E5C9005679D7F862AE6CDE3F6F3F0BC1AFE480FF865316AAE', X'A4B6E762FD3B2F75168670E63211F55E87ED2050B94F4262070A1772CC5E2C8B', 'id of add romeo and mercutio', 'juliet@capulet.example', 'j1', X'61646420726F6D656F20616E64206D6572637574696F');
INSERT INTO log VALUES (3, 1, 3, 1, 3, 1787227200000, X'BC8FA661F7443B7F150EB3D579CF61C6D4409374290E85864C7DFDFA1E6E48F7', X'A61B11EA70CE99795C1B0F303746582998E08B82298F87980BC1FE71B4421D10', 'id of remove mercutio', 'juliet@capulet.example', 'j1', X'72656D6F7665206D6572637574696F');
INSERT INTO log VALUES (4, 1, 4, 2, 2, 1787227200000, X'ECD1378BC9DC130008F00D58DB5D26F60DB55934A49B949AF7E6F6A8DA2A2BEB', X'8640B5395075F112FA347F72F052C0174433537CC417000D10AFAC16DFA84AA5', 'id of proposal', 'juliet@capulet.example', 'j1', X'70726F706F73616C');
DELETE FROM sqlite_sequence;
INSERT INTO sqlite_sequence VALUES ('groups', 2);
INSERT INTO sqlite_sequence VALUES ('reports', 1);
