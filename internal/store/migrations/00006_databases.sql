-- What other databases made necessary: the sessions of a user are listed in the
-- order of their dates, and salts are text.

-- +goose Up
CREATE INDEX ix_sessions_user_id_created ON sessions (user_id, created);
UPDATE refresh_tokens_used SET salt = lower(hex(salt)) WHERE typeof(salt) = 'blob';
