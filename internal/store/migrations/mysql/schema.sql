-- All tables. Statements that define something cannot be rolled back here, so
-- that each may be repeated. COLLATION stands for the one that the server has
-- for comparing every character, also blanks at the end.

CREATE TABLE IF NOT EXISTS roles (
	name VARCHAR(100) NOT NULL,
	"desc" VARCHAR(280) NOT NULL,
	PRIMARY KEY (name)
) DEFAULT CHARACTER SET utf8mb4 COLLATE COLLATION;

CREATE TABLE IF NOT EXISTS users (
	user_id INTEGER NOT NULL,
	system_id VARCHAR(50) NOT NULL,
	full_name VARCHAR(280),
	password TEXT NOT NULL,
	email VARCHAR(280) NOT NULL,
	email_verified BOOLEAN NOT NULL,
	is_active BOOLEAN NOT NULL,
	emailverify_sent_datetime DATETIME(6),
	emailforgotpass_sent_datetime DATETIME(6),
	emailchangepass_sent_datetime DATETIME(6),
	last_login_success DATETIME(6),
	last_login_try DATETIME(6),
	failed_login_tries INTEGER,
	extra_info LONGTEXT,
	created_on DATETIME(6) NOT NULL,
	last_updated DATETIME(6) NOT NULL,
	user_role VARCHAR(100) NOT NULL,
	email_normalized VARCHAR(280) NOT NULL DEFAULT '',
	first_verified DATETIME(6),
	PRIMARY KEY (user_id),
	UNIQUE (email),
	FOREIGN KEY(user_role) REFERENCES roles (name),
	KEY ix_users_full_name (full_name),
	KEY ix_users_email_verified (email_verified),
	KEY ix_users_is_active (is_active),
	KEY ix_users_last_login_success (last_login_success),
	KEY ix_users_last_login_try (last_login_try),
	KEY ix_users_created_on (created_on),
	KEY ix_users_last_updated (last_updated),
	KEY ix_users_user_role (user_role),
	UNIQUE KEY ix_users_system_id (system_id),
	KEY ix_users_email_normalized (email_normalized)
) DEFAULT CHARACTER SET utf8mb4 COLLATE COLLATION;

CREATE TABLE IF NOT EXISTS sessions (
	session_token VARCHAR(64) NOT NULL,
	ip_address VARCHAR(280) NOT NULL,
	user_agent VARCHAR(280) NOT NULL,
	user_id INTEGER NOT NULL,
	created DATETIME(6) NOT NULL,
	expires DATETIME(6) NOT NULL,
	extra_info_json LONGTEXT,
	session_id VARCHAR(36) NOT NULL DEFAULT '',
	last_seen DATETIME(6),
	PRIMARY KEY (session_token),
	FOREIGN KEY(user_id) REFERENCES users (user_id) ON DELETE CASCADE,
	KEY ix_sessions_created (created),
	KEY ix_sessions_expires (expires),
	KEY ix_sessions_user_id (user_id),
	UNIQUE KEY ix_sessions_session_id (session_id),
	KEY ix_sessions_user_id_created (user_id, created)
) DEFAULT CHARACTER SET utf8mb4 COLLATE COLLATION;

CREATE TABLE IF NOT EXISTS "groups" (
	group_id INTEGER NOT NULL,
	system_id VARCHAR(50) NOT NULL,
	group_name VARCHAR(280) NOT NULL,
	visibility VARCHAR(100) NOT NULL,
	created_by INTEGER NOT NULL,
	is_active BOOLEAN NOT NULL,
	created_on DATETIME(6) NOT NULL,
	last_updated DATETIME(6) NOT NULL,
	group_role VARCHAR(100) NOT NULL,
	extra_info LONGTEXT,
	PRIMARY KEY (group_id),
	FOREIGN KEY(created_by) REFERENCES users (user_id),
	FOREIGN KEY(group_role) REFERENCES roles (name),
	KEY ix_groups_system_id (system_id),
	KEY ix_groups_visibility (visibility),
	KEY ix_groups_is_active (is_active),
	KEY ix_groups_created_on (created_on),
	KEY ix_groups_last_updated (last_updated),
	KEY ix_groups_group_role (group_role),
	KEY ix_groups_created_by (created_by)
) DEFAULT CHARACTER SET utf8mb4 COLLATE COLLATION;

CREATE TABLE IF NOT EXISTS preferences (
	pref_id INTEGER NOT NULL,
	user_id INTEGER NOT NULL,
	pref_name VARCHAR(100) NOT NULL,
	pref_value VARCHAR(280),
	PRIMARY KEY (pref_id),
	FOREIGN KEY(user_id) REFERENCES users (user_id) ON DELETE CASCADE,
	KEY ix_preferences_user_id (user_id)
) DEFAULT CHARACTER SET utf8mb4 COLLATE COLLATION;

CREATE TABLE IF NOT EXISTS apikeys_nosession (
	apikey VARCHAR(64) NOT NULL,
	issued DATETIME(6) NOT NULL,
	expires DATETIME(6) NOT NULL,
	not_valid_before DATETIME(6) NOT NULL,
	refresh_token TEXT NOT NULL,
	refresh_issued DATETIME(6) NOT NULL,
	refresh_expires DATETIME(6) NOT NULL,
	refresh_nbf DATETIME(6) NOT NULL,
	user_id INTEGER NOT NULL,
	user_role VARCHAR(100) NOT NULL,
	key_id VARCHAR(36) NOT NULL DEFAULT '',
	key_name VARCHAR(100),
	key_prefix VARCHAR(32),
	scopes LONGTEXT,
	last_used DATETIME(6),
	created DATETIME(6),
	PRIMARY KEY (apikey),
	FOREIGN KEY(user_id) REFERENCES users (user_id) ON DELETE CASCADE,
	FOREIGN KEY(user_role) REFERENCES roles (name) ON DELETE CASCADE,
	KEY ix_apikeys_nosession_expires (expires),
	KEY ix_apikeys_nosession_not_valid_before (not_valid_before),
	KEY ix_apikeys_nosession_refresh_expires (refresh_expires),
	KEY ix_apikeys_nosession_refresh_nbf (refresh_nbf),
	KEY ix_apikeys_nosession_user_id (user_id),
	KEY ix_apikeys_nosession_user_role (user_role),
	UNIQUE KEY ix_apikeys_nosession_key_id (key_id)
) DEFAULT CHARACTER SET utf8mb4 COLLATE COLLATION;

CREATE TABLE IF NOT EXISTS user_groups (
	user_id INTEGER NOT NULL,
	group_id INTEGER NOT NULL,
	PRIMARY KEY (user_id, group_id),
	FOREIGN KEY(user_id) REFERENCES users (user_id) ON DELETE CASCADE,
	FOREIGN KEY(group_id) REFERENCES "groups" (group_id) ON DELETE CASCADE,
	KEY ix_user_groups_group_id (group_id)
) DEFAULT CHARACTER SET utf8mb4 COLLATE COLLATION;

CREATE TABLE IF NOT EXISTS apikeys (
	apikey VARCHAR(64) NOT NULL,
	issued DATETIME(6) NOT NULL,
	expires DATETIME(6) NOT NULL,
	not_valid_before DATETIME(6) NOT NULL,
	user_id INTEGER NOT NULL,
	user_role VARCHAR(100) NOT NULL,
	session_token VARCHAR(64) NOT NULL,
	key_id VARCHAR(36) NOT NULL DEFAULT '',
	key_name VARCHAR(100),
	key_prefix VARCHAR(32),
	scopes LONGTEXT,
	last_used DATETIME(6),
	PRIMARY KEY (apikey),
	FOREIGN KEY(user_id) REFERENCES users (user_id) ON DELETE CASCADE,
	FOREIGN KEY(user_role) REFERENCES roles (name) ON DELETE CASCADE,
	FOREIGN KEY(session_token) REFERENCES sessions (session_token) ON DELETE CASCADE,
	KEY ix_apikeys_expires (expires),
	KEY ix_apikeys_not_valid_before (not_valid_before),
	KEY ix_apikeys_user_id (user_id),
	KEY ix_apikeys_user_role (user_role),
	KEY ix_apikeys_session_token (session_token),
	UNIQUE KEY ix_apikeys_key_id (key_id)
) DEFAULT CHARACTER SET utf8mb4 COLLATE COLLATION;

CREATE TABLE IF NOT EXISTS refresh_tokens_used (
	token_digest VARCHAR(64) NOT NULL,
	apikey VARCHAR(64) NOT NULL,
	key_id VARCHAR(36) NOT NULL,
	user_id INTEGER NOT NULL,
	successor VARCHAR(64) NOT NULL,
	salt VARCHAR(64) NOT NULL,
	used DATETIME(6) NOT NULL,
	expires DATETIME(6) NOT NULL,
	PRIMARY KEY (token_digest),
	FOREIGN KEY(user_id) REFERENCES users (user_id) ON DELETE CASCADE,
	KEY ix_refresh_tokens_used_key_id (key_id),
	KEY ix_refresh_tokens_used_user_id (user_id),
	KEY ix_refresh_tokens_used_expires (expires)
) DEFAULT CHARACTER SET utf8mb4 COLLATE COLLATION;

CREATE TABLE IF NOT EXISTS email_tokens (
	user_id INTEGER NOT NULL,
	purpose VARCHAR(20) NOT NULL,
	token_digest VARCHAR(64) NOT NULL,
	email_normalized VARCHAR(280) NOT NULL,
	created DATETIME(6) NOT NULL,
	expires DATETIME(6) NOT NULL,
	PRIMARY KEY (user_id, purpose),
	FOREIGN KEY(user_id) REFERENCES users (user_id) ON DELETE CASCADE,
	KEY ix_email_tokens_expires (expires)
) DEFAULT CHARACTER SET utf8mb4 COLLATE COLLATION;

CREATE TABLE IF NOT EXISTS token_checksum_key (
	only_row INTEGER NOT NULL,
	key_hex VARCHAR(64) NOT NULL,
	PRIMARY KEY (only_row)
) DEFAULT CHARACTER SET utf8mb4 COLLATE COLLATION;

CREATE TABLE IF NOT EXISTS login_failures (
	subject VARCHAR(32) NOT NULL,
	failures INTEGER NOT NULL,
	first_failure DATETIME(6) NOT NULL,
	last_failure DATETIME(6) NOT NULL,
	locked_until DATETIME(6),
	PRIMARY KEY (subject),
	KEY ix_login_failures_last_failure (last_failure)
) DEFAULT CHARACTER SET utf8mb4 COLLATE COLLATION;

CREATE TABLE IF NOT EXISTS known_devices (
	user_id INTEGER NOT NULL,
	device VARCHAR(32) NOT NULL,
	first_seen DATETIME(6) NOT NULL,
	last_seen DATETIME(6) NOT NULL,
	PRIMARY KEY (user_id, device),
	FOREIGN KEY(user_id) REFERENCES users (user_id) ON DELETE CASCADE
) DEFAULT CHARACTER SET utf8mb4 COLLATE COLLATION;

CREATE TABLE IF NOT EXISTS notices (
	notice_id INTEGER NOT NULL AUTO_INCREMENT,
	user_id INTEGER NOT NULL,
	kind VARCHAR(20) NOT NULL,
	ip_address VARCHAR(280) NOT NULL,
	user_agent VARCHAR(280) NOT NULL,
	created DATETIME(6) NOT NULL,
	attempts INTEGER NOT NULL,
	next_try DATETIME(6),
	PRIMARY KEY (notice_id),
	FOREIGN KEY(user_id) REFERENCES users (user_id) ON DELETE CASCADE,
	KEY ix_notices_user_id_kind (user_id, kind, created),
	KEY ix_notices_next_try (next_try),
	KEY ix_notices_created (created)
) DEFAULT CHARACTER SET utf8mb4 COLLATE COLLATION;

CREATE TABLE IF NOT EXISTS cache_changes (
	change_id BIGINT NOT NULL AUTO_INCREMENT,
	transaction_id VARCHAR(36) NOT NULL,
	part INTEGER NOT NULL,
	kind VARCHAR(10) NOT NULL,
	row_key VARCHAR(64) NOT NULL,
	changed DATETIME(6) NOT NULL,
	PRIMARY KEY (change_id),
	UNIQUE (transaction_id, part),
	KEY ix_cache_changes_changed (changed)
) DEFAULT CHARACTER SET utf8mb4 COLLATE COLLATION;

CREATE TABLE IF NOT EXISTS user_id_sequence (
	only_row INTEGER NOT NULL,
	last_id INTEGER NOT NULL,
	PRIMARY KEY (only_row)
);
INSERT IGNORE INTO user_id_sequence (only_row, last_id) VALUES (1, 3);
