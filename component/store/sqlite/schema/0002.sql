-- Schema version 2. Frozen: later versions are files of their own.

-- Every commit paid for an index that only the end of a group used.
DROP INDEX old_epochs_gid;
