-- The tables of the Python server's development line, as SQLAlchemy made them
-- on PostgreSQL. A database of the Python server has them already.

CREATE TABLE IF NOT EXISTS roles (
	name VARCHAR(100) NOT NULL,
	"desc" VARCHAR(280) NOT NULL,
	PRIMARY KEY (name)
);

CREATE TABLE IF NOT EXISTS users (
	user_id SERIAL NOT NULL,
	system_id VARCHAR(50) NOT NULL,
	full_name VARCHAR(280),
	password TEXT NOT NULL,
	email VARCHAR(280) NOT NULL,
	email_verified BOOLEAN NOT NULL,
	is_active BOOLEAN NOT NULL,
	emailverify_sent_datetime TIMESTAMP WITHOUT TIME ZONE,
	emailforgotpass_sent_datetime TIMESTAMP WITHOUT TIME ZONE,
	emailchangepass_sent_datetime TIMESTAMP WITHOUT TIME ZONE,
	last_login_success TIMESTAMP WITHOUT TIME ZONE,
	last_login_try TIMESTAMP WITHOUT TIME ZONE,
	failed_login_tries INTEGER,
	extra_info JSON,
	created_on TIMESTAMP WITHOUT TIME ZONE NOT NULL,
	last_updated TIMESTAMP WITHOUT TIME ZONE NOT NULL,
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
	created TIMESTAMP WITHOUT TIME ZONE NOT NULL,
	expires TIMESTAMP WITHOUT TIME ZONE NOT NULL,
	extra_info_json JSON,
	PRIMARY KEY (session_token),
	FOREIGN KEY(user_id) REFERENCES users (user_id) ON DELETE CASCADE
);

CREATE TABLE IF NOT EXISTS groups (
	group_id SERIAL NOT NULL,
	system_id VARCHAR(50) NOT NULL,
	group_name VARCHAR(280) NOT NULL,
	visibility VARCHAR(100) NOT NULL,
	created_by INTEGER NOT NULL,
	is_active BOOLEAN NOT NULL,
	created_on TIMESTAMP WITHOUT TIME ZONE NOT NULL,
	last_updated TIMESTAMP WITHOUT TIME ZONE NOT NULL,
	group_role VARCHAR(100) NOT NULL,
	extra_info JSON,
	PRIMARY KEY (group_id),
	FOREIGN KEY(created_by) REFERENCES users (user_id),
	FOREIGN KEY(group_role) REFERENCES roles (name)
);

CREATE TABLE IF NOT EXISTS preferences (
	pref_id SERIAL NOT NULL,
	user_id INTEGER NOT NULL,
	pref_name VARCHAR(100) NOT NULL,
	pref_value VARCHAR(280),
	PRIMARY KEY (pref_id),
	FOREIGN KEY(user_id) REFERENCES users (user_id) ON DELETE CASCADE
);

CREATE TABLE IF NOT EXISTS apikeys_nosession (
	apikey TEXT NOT NULL,
	issued TIMESTAMP WITHOUT TIME ZONE NOT NULL,
	expires TIMESTAMP WITHOUT TIME ZONE NOT NULL,
	not_valid_before TIMESTAMP WITHOUT TIME ZONE NOT NULL,
	refresh_token TEXT NOT NULL,
	refresh_issued TIMESTAMP WITHOUT TIME ZONE NOT NULL,
	refresh_expires TIMESTAMP WITHOUT TIME ZONE NOT NULL,
	refresh_nbf TIMESTAMP WITHOUT TIME ZONE NOT NULL,
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
	issued TIMESTAMP WITHOUT TIME ZONE NOT NULL,
	expires TIMESTAMP WITHOUT TIME ZONE NOT NULL,
	not_valid_before TIMESTAMP WITHOUT TIME ZONE NOT NULL,
	user_id INTEGER NOT NULL,
	user_role VARCHAR(100) NOT NULL,
	session_token TEXT NOT NULL,
	PRIMARY KEY (apikey),
	FOREIGN KEY(user_id) REFERENCES users (user_id) ON DELETE CASCADE,
	FOREIGN KEY(user_role) REFERENCES roles (name) ON DELETE CASCADE,
	FOREIGN KEY(session_token) REFERENCES sessions (session_token) ON DELETE CASCADE
);
