-- The tables of the Python server's development line, as SQLAlchemy made them
-- on SQLite. A database of the Python server has them already.

CREATE TABLE IF NOT EXISTS roles (
	name VARCHAR(100) NOT NULL,
	"desc" VARCHAR(280) NOT NULL,
	PRIMARY KEY (name)
);

CREATE TABLE IF NOT EXISTS users (
	user_id INTEGER NOT NULL,
	system_id VARCHAR(50) NOT NULL,
	full_name VARCHAR(280),
	password TEXT NOT NULL,
	email VARCHAR(280) NOT NULL,
	email_verified BOOLEAN NOT NULL,
	is_active BOOLEAN NOT NULL,
	emailverify_sent_datetime DATETIME,
	emailforgotpass_sent_datetime DATETIME,
	emailchangepass_sent_datetime DATETIME,
	last_login_success DATETIME,
	last_login_try DATETIME,
	failed_login_tries INTEGER,
	extra_info JSON,
	created_on DATETIME NOT NULL,
	last_updated DATETIME NOT NULL,
	user_role VARCHAR(100) NOT NULL,
	PRIMARY KEY (user_id),
	UNIQUE (email),
	FOREIGN KEY(user_role) REFERENCES roles (name)
);

CREATE TABLE IF NOT EXISTS sessions (
	session_token VARCHAR NOT NULL,
	ip_address VARCHAR(280) NOT NULL,
	user_agent VARCHAR(280) NOT NULL,
	user_id INTEGER NOT NULL,
	created DATETIME NOT NULL,
	expires DATETIME NOT NULL,
	extra_info_json JSON,
	PRIMARY KEY (session_token),
	FOREIGN KEY(user_id) REFERENCES users (user_id) ON DELETE CASCADE
);

CREATE TABLE IF NOT EXISTS groups (
	group_id INTEGER NOT NULL,
	system_id VARCHAR(50) NOT NULL,
	group_name VARCHAR(280) NOT NULL,
	visibility VARCHAR(100) NOT NULL,
	created_by INTEGER NOT NULL,
	is_active BOOLEAN NOT NULL,
	created_on DATETIME NOT NULL,
	last_updated DATETIME NOT NULL,
	group_role VARCHAR(100) NOT NULL,
	extra_info JSON,
	PRIMARY KEY (group_id),
	FOREIGN KEY(created_by) REFERENCES users (user_id),
	FOREIGN KEY(group_role) REFERENCES roles (name)
);

CREATE TABLE IF NOT EXISTS preferences (
	pref_id INTEGER NOT NULL,
	user_id INTEGER NOT NULL,
	pref_name VARCHAR(100) NOT NULL,
	pref_value VARCHAR(280),
	PRIMARY KEY (pref_id),
	FOREIGN KEY(user_id) REFERENCES users (user_id) ON DELETE CASCADE
);

CREATE TABLE IF NOT EXISTS apikeys_nosession (
	apikey TEXT NOT NULL,
	issued DATETIME NOT NULL,
	expires DATETIME NOT NULL,
	not_valid_before DATETIME NOT NULL,
	refresh_token TEXT NOT NULL,
	refresh_issued DATETIME NOT NULL,
	refresh_expires DATETIME NOT NULL,
	refresh_nbf DATETIME NOT NULL,
	user_id INTEGER NOT NULL,
	user_role VARCHAR(100) NOT NULL,
	PRIMARY KEY (apikey),
	FOREIGN KEY(user_id) REFERENCES users (user_id) ON DELETE CASCADE,
	FOREIGN KEY(user_role) REFERENCES roles (name) ON DELETE CASCADE
);

CREATE TABLE IF NOT EXISTS user_groups (
	user_id INTEGER NOT NULL,
	group_id INTEGER NOT NULL,
	PRIMARY KEY (user_id, group_id),
	FOREIGN KEY(user_id) REFERENCES users (user_id) ON DELETE CASCADE,
	FOREIGN KEY(group_id) REFERENCES groups (group_id) ON DELETE CASCADE
);

CREATE TABLE IF NOT EXISTS apikeys (
	apikey TEXT NOT NULL,
	issued DATETIME NOT NULL,
	expires DATETIME NOT NULL,
	not_valid_before DATETIME NOT NULL,
	user_id INTEGER NOT NULL,
	user_role VARCHAR(100) NOT NULL,
	session_token TEXT NOT NULL,
	PRIMARY KEY (apikey),
	FOREIGN KEY(user_id) REFERENCES users (user_id) ON DELETE CASCADE,
	FOREIGN KEY(user_role) REFERENCES roles (name) ON DELETE CASCADE,
	FOREIGN KEY(session_token) REFERENCES sessions (session_token) ON DELETE CASCADE
);
