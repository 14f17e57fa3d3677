-- The Python server's indexes, by its names, and those that the foreign keys
-- and the daily purge need.

CREATE INDEX IF NOT EXISTS ix_users_full_name ON users (full_name);
CREATE INDEX IF NOT EXISTS ix_users_email_verified ON users (email_verified);
CREATE INDEX IF NOT EXISTS ix_users_is_active ON users (is_active);
CREATE INDEX IF NOT EXISTS ix_users_last_login_success ON users (last_login_success);
CREATE INDEX IF NOT EXISTS ix_users_last_login_try ON users (last_login_try);
CREATE INDEX IF NOT EXISTS ix_users_created_on ON users (created_on);
CREATE INDEX IF NOT EXISTS ix_users_last_updated ON users (last_updated);
CREATE INDEX IF NOT EXISTS ix_users_user_role ON users (user_role);
CREATE INDEX IF NOT EXISTS ix_sessions_created ON sessions (created);
CREATE INDEX IF NOT EXISTS ix_sessions_expires ON sessions (expires);
CREATE INDEX IF NOT EXISTS ix_sessions_user_id ON sessions (user_id);
CREATE INDEX IF NOT EXISTS ix_groups_system_id ON groups (system_id);
CREATE INDEX IF NOT EXISTS ix_groups_visibility ON groups (visibility);
CREATE INDEX IF NOT EXISTS ix_groups_is_active ON groups (is_active);
CREATE INDEX IF NOT EXISTS ix_groups_created_on ON groups (created_on);
CREATE INDEX IF NOT EXISTS ix_groups_last_updated ON groups (last_updated);
CREATE INDEX IF NOT EXISTS ix_groups_group_role ON groups (group_role);
CREATE INDEX IF NOT EXISTS ix_groups_created_by ON groups (created_by);
CREATE INDEX IF NOT EXISTS ix_user_groups_group_id ON user_groups (group_id);
CREATE INDEX IF NOT EXISTS ix_preferences_user_id ON preferences (user_id);
CREATE INDEX IF NOT EXISTS ix_apikeys_expires ON apikeys (expires);
CREATE INDEX IF NOT EXISTS ix_apikeys_not_valid_before ON apikeys (not_valid_before);
CREATE INDEX IF NOT EXISTS ix_apikeys_user_id ON apikeys (user_id);
CREATE INDEX IF NOT EXISTS ix_apikeys_user_role ON apikeys (user_role);
CREATE INDEX IF NOT EXISTS ix_apikeys_session_token ON apikeys (session_token);
CREATE INDEX IF NOT EXISTS ix_apikeys_nosession_expires ON apikeys_nosession (expires);
CREATE INDEX IF NOT EXISTS ix_apikeys_nosession_not_valid_before ON apikeys_nosession (not_valid_before);
CREATE INDEX IF NOT EXISTS ix_apikeys_nosession_refresh_expires ON apikeys_nosession (refresh_expires);
CREATE INDEX IF NOT EXISTS ix_apikeys_nosession_refresh_nbf ON apikeys_nosession (refresh_nbf);
CREATE INDEX IF NOT EXISTS ix_apikeys_nosession_user_id ON apikeys_nosession (user_id);
CREATE INDEX IF NOT EXISTS ix_apikeys_nosession_user_role ON apikeys_nosession (user_role);
