-- What API keys have beyond the Python server's: a public id, a name, scopes,
-- the beginning of the token, and when they were last used. A key that was
-- refreshed keeps its id, which thereby names its family.

-- +goose Up
ALTER TABLE apikeys ADD COLUMN key_id VARCHAR(36) NOT NULL DEFAULT '';
ALTER TABLE apikeys ADD COLUMN key_name VARCHAR(100);
ALTER TABLE apikeys ADD COLUMN key_prefix VARCHAR(32);
ALTER TABLE apikeys ADD COLUMN scopes JSON;
ALTER TABLE apikeys ADD COLUMN last_used DATETIME;
ALTER TABLE apikeys_nosession ADD COLUMN key_id VARCHAR(36) NOT NULL DEFAULT '';
ALTER TABLE apikeys_nosession ADD COLUMN key_name VARCHAR(100);
ALTER TABLE apikeys_nosession ADD COLUMN key_prefix VARCHAR(32);
ALTER TABLE apikeys_nosession ADD COLUMN scopes JSON;
ALTER TABLE apikeys_nosession ADD COLUMN last_used DATETIME;
ALTER TABLE apikeys_nosession ADD COLUMN created DATETIME;

-- Random UUIDs (RFC 9562 version 4) for the keys that are there.
UPDATE apikeys SET key_id = lower(hex(randomblob(4)) || '-' || hex(randomblob(2)) || '-4' ||
	substr(hex(randomblob(2)), 2) || '-8' || substr(hex(randomblob(2)), 2) || '-' || hex(randomblob(6)));
UPDATE apikeys_nosession SET created = issued, key_id = lower(hex(randomblob(4)) || '-' || hex(randomblob(2)) || '-4' ||
	substr(hex(randomblob(2)), 2) || '-8' || substr(hex(randomblob(2)), 2) || '-' || hex(randomblob(6)));
CREATE UNIQUE INDEX ix_apikeys_key_id ON apikeys (key_id);
CREATE UNIQUE INDEX ix_apikeys_nosession_key_id ON apikeys_nosession (key_id);

-- Refresh tokens that were used: by their digests, what came of them.
CREATE TABLE refresh_tokens_used (
	token_digest VARCHAR(64) NOT NULL,
	apikey VARCHAR(64) NOT NULL,
	key_id VARCHAR(36) NOT NULL,
	user_id INTEGER NOT NULL,
	successor VARCHAR(64) NOT NULL,
	salt VARCHAR(64) NOT NULL,
	used DATETIME NOT NULL,
	expires DATETIME NOT NULL,
	PRIMARY KEY (token_digest),
	FOREIGN KEY(user_id) REFERENCES users (user_id) ON DELETE CASCADE
);
CREATE INDEX ix_refresh_tokens_used_key_id ON refresh_tokens_used (key_id);
CREATE INDEX ix_refresh_tokens_used_user_id ON refresh_tokens_used (user_id);
CREATE INDEX ix_refresh_tokens_used_expires ON refresh_tokens_used (expires);

-- The newest token for each purpose with which a user can prove to own an
-- address.
CREATE TABLE email_tokens (
	user_id INTEGER NOT NULL,
	purpose VARCHAR(20) NOT NULL,
	token_digest VARCHAR(64) NOT NULL,
	email_normalized VARCHAR(280) NOT NULL,
	created DATETIME NOT NULL,
	expires DATETIME NOT NULL,
	PRIMARY KEY (user_id, purpose),
	FOREIGN KEY(user_id) REFERENCES users (user_id) ON DELETE CASCADE
);
CREATE INDEX ix_email_tokens_expires ON email_tokens (expires);

-- The key of the checksums in tokens: 256 bits in hexadecimal.
CREATE TABLE token_checksum_key (key_hex VARCHAR(64) NOT NULL);
INSERT INTO token_checksum_key (key_hex) VALUES (lower(hex(randomblob(32))));
