-- What sessions have beyond the Python server's: a public id, by which a user
-- can end one without its token, and when they were last seen.

-- +goose Up
ALTER TABLE sessions ADD COLUMN session_id VARCHAR(36) NOT NULL DEFAULT '';
ALTER TABLE sessions ADD COLUMN last_seen DATETIME;

-- Random UUIDs (RFC 9562 version 4) for the sessions that are there.
UPDATE sessions SET session_id = lower(hex(randomblob(4)) || '-' || hex(randomblob(2)) || '-4' ||
	substr(hex(randomblob(2)), 2) || '-8' || substr(hex(randomblob(2)), 2) || '-' || hex(randomblob(6)));
CREATE UNIQUE INDEX ix_sessions_session_id ON sessions (session_id);
