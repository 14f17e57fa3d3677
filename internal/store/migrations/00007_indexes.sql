-- Indexes for the fields of users by which people look for them, and for finding API
-- keys of the old form at every start.

-- +goose Up
CREATE INDEX ix_users_emailverify_sent_datetime ON users (emailverify_sent_datetime);
CREATE INDEX ix_users_emailforgotpass_sent_datetime ON users (emailforgotpass_sent_datetime);
CREATE INDEX ix_users_emailchangepass_sent_datetime ON users (emailchangepass_sent_datetime);
CREATE INDEX ix_users_failed_login_tries ON users (failed_login_tries);
CREATE INDEX ix_apikeys_key_prefix ON apikeys (key_prefix);
CREATE INDEX ix_apikeys_nosession_key_prefix ON apikeys_nosession (key_prefix);
