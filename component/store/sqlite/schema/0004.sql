-- Schema version 4. Frozen: later versions are files of their own.

-- An entry paid for a page of an index by seq and one of an index by ref. Now
-- entries are found by blocks of records (relational/blocks.go): 8 octets of the
-- ref and 8 of the row for each entry. The one that is being filled, the tail, is
-- in the row of the group.
CREATE TABLE log_blocks (
	gid        INTEGER NOT NULL,
	last       INTEGER NOT NULL,               -- seq of the last record
	records    BLOB    NOT NULL,
	PRIMARY KEY (gid, last)
) STRICT, WITHOUT ROWID;
INSERT INTO log_blocks (gid, last, records)
	SELECT gid, MAX(seq), unhex(group_concat(hex(substr(ref, 1, 8)) || printf('%016X', row), '' ORDER BY seq))
	FROM log GROUP BY gid, (seq - 1) / 32;

CREATE TABLE log_refs (
	gid        INTEGER NOT NULL,
	ref        BLOB    NOT NULL,               -- the first 8 octets
	row        INTEGER NOT NULL,
	PRIMARY KEY (gid, ref, row)
) STRICT, WITHOUT ROWID;
INSERT INTO log_refs (gid, ref, row) SELECT gid, substr(ref, 1, 8), row FROM log ORDER BY gid, ref;

ALTER TABLE groups ADD COLUMN tail BLOB NOT NULL DEFAULT x'';

-- SQLite drops no UNIQUE from a table: the log is copied to one without.
DROP INDEX log_ref;
DROP INDEX log_proposals;
ALTER TABLE log RENAME TO old_log;
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
INSERT INTO log (row, gid, seq, epoch, kind, stamp, ref, chain, id, sender, device, bytes)
	SELECT row, gid, seq, epoch, kind, stamp, ref, chain, id, sender, device, bytes FROM old_log ORDER BY row;
DROP TABLE old_log;
CREATE INDEX log_proposals ON log (gid, epoch) WHERE kind = 2;
