-- Deleted and replaced rows stay readable in the free parts of a file: of an
-- adopted database, the clear tokens. VACUUM writes the file anew and cannot
-- run in a transaction. That it is a migration makes sure that a crash between
-- the two does not leave it undone.

-- +goose NO TRANSACTION
-- +goose Up
VACUUM;
PRAGMA wal_checkpoint(TRUNCATE);
