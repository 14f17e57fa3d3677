-- What protects accounts from guessing: failures are counted for subjects, which
-- are keyed hashes of an account, a network, or a device and an account.

-- +goose Up
CREATE TABLE login_failures (
	subject VARCHAR(32) NOT NULL,
	failures INTEGER NOT NULL,
	first_failure DATETIME NOT NULL,
	last_failure DATETIME NOT NULL,
	locked_until DATETIME,
	PRIMARY KEY (subject)
);
CREATE INDEX ix_login_failures_last_failure ON login_failures (last_failure);

-- From where a user has logged in: a device is the keyed hash of a network and
-- a user agent.
CREATE TABLE known_devices (
	user_id INTEGER NOT NULL,
	device VARCHAR(32) NOT NULL,
	first_seen DATETIME NOT NULL,
	last_seen DATETIME NOT NULL,
	PRIMARY KEY (user_id, device),
	FOREIGN KEY(user_id) REFERENCES users (user_id) ON DELETE CASCADE
);

-- Messages that the server sends on its own. One that is done has no next_try.
CREATE TABLE notices (
	notice_id INTEGER NOT NULL,
	user_id INTEGER NOT NULL,
	kind VARCHAR(20) NOT NULL,
	ip_address VARCHAR(280) NOT NULL,
	user_agent VARCHAR(280) NOT NULL,
	created DATETIME NOT NULL,
	attempts INTEGER NOT NULL,
	next_try DATETIME,
	PRIMARY KEY (notice_id),
	FOREIGN KEY(user_id) REFERENCES users (user_id) ON DELETE CASCADE
);
CREATE INDEX ix_notices_user_id_kind ON notices (user_id, kind, created);
CREATE INDEX ix_notices_next_try ON notices (next_try);
CREATE INDEX ix_notices_created ON notices (created);
