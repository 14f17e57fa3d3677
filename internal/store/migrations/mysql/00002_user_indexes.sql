-- Indexes for the fields of users by which people look for them. The table can be read
-- and written meanwhile.

-- +goose NO TRANSACTION
-- +goose Up
-- It may have been done already, by a server that crashed before it noted so.
SET @change = (SELECT IF(count(*) = 0,
	'ALTER TABLE users ADD INDEX ix_users_emailverify_sent_datetime (emailverify_sent_datetime), ADD INDEX ix_users_emailforgotpass_sent_datetime (emailforgotpass_sent_datetime), ADD INDEX ix_users_emailchangepass_sent_datetime (emailchangepass_sent_datetime), ADD INDEX ix_users_failed_login_tries (failed_login_tries), ALGORITHM=INPLACE, LOCK=NONE',
	'DO 0') FROM information_schema.statistics
	WHERE table_schema = DATABASE() AND table_name = 'users' AND index_name = 'ix_users_emailverify_sent_datetime');
PREPARE change_index FROM @change;
EXECUTE change_index;
DEALLOCATE PREPARE change_index;
