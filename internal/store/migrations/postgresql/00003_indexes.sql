-- Indexes for the fields of users by which people look for them, in the order in which
-- they are listed, and for finding API keys of the old form at every start. Tables can be
-- read and written meanwhile.

-- +goose NO TRANSACTION
-- +goose Up
-- An index whose making was interrupted is there, but invalid.
DROP INDEX CONCURRENTLY IF EXISTS ix_users_email_verified_user_id;
CREATE INDEX CONCURRENTLY ix_users_email_verified_user_id ON users (email_verified, user_id);
DROP INDEX CONCURRENTLY IF EXISTS ix_users_is_active_user_id;
CREATE INDEX CONCURRENTLY ix_users_is_active_user_id ON users (is_active, user_id);
DROP INDEX CONCURRENTLY IF EXISTS ix_users_user_role_user_id;
CREATE INDEX CONCURRENTLY ix_users_user_role_user_id ON users (user_role, user_id);
DROP INDEX CONCURRENTLY IF EXISTS ix_users_failed_login_tries_user_id;
CREATE INDEX CONCURRENTLY ix_users_failed_login_tries_user_id ON users (failed_login_tries, user_id);
DROP INDEX CONCURRENTLY IF EXISTS ix_users_emailverify_sent_datetime;
CREATE INDEX CONCURRENTLY ix_users_emailverify_sent_datetime ON users (emailverify_sent_datetime);
DROP INDEX CONCURRENTLY IF EXISTS ix_users_emailforgotpass_sent_datetime;
CREATE INDEX CONCURRENTLY ix_users_emailforgotpass_sent_datetime ON users (emailforgotpass_sent_datetime);
DROP INDEX CONCURRENTLY IF EXISTS ix_users_emailchangepass_sent_datetime;
CREATE INDEX CONCURRENTLY ix_users_emailchangepass_sent_datetime ON users (emailchangepass_sent_datetime);
DROP INDEX CONCURRENTLY IF EXISTS ix_apikeys_key_prefix;
CREATE INDEX CONCURRENTLY ix_apikeys_key_prefix ON apikeys (key_prefix);
DROP INDEX CONCURRENTLY IF EXISTS ix_apikeys_nosession_key_prefix;
CREATE INDEX CONCURRENTLY ix_apikeys_nosession_key_prefix ON apikeys_nosession (key_prefix);
