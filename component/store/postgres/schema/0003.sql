-- Schema version 3. Frozen: later versions are files of their own.

-- A commit paid for two indexes by epoch, of the log and of the epochs, and for a
-- queue of ended epochs beside epochs, which are in that order anyway. Now the
-- row of an epoch stays, emptied (gone), as long as the log has the commit
-- that began it, and finds that commit.
ALTER TABLE epochs ADD COLUMN gone BIGINT NOT NULL DEFAULT 0;
INSERT INTO epochs (gid, epoch, seq, began, header, group_info, changed, gone)
	SELECT l.gid, l.epoch + 1, l.seq, l.stamp, '', '', '', 1
	FROM log l JOIN groups g ON g.id = l.gid WHERE l.kind = 3 AND l.seq > g.base
	ON CONFLICT (gid, epoch) DO NOTHING;
DROP INDEX log_commits;
DROP TABLE old_epochs;
