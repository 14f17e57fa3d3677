-- An index to find API keys of the old form at every start.

-- +goose NO TRANSACTION
-- +goose Up
-- It may have been done already, by a server that crashed before it noted so.
SET @change = (SELECT IF(count(*) = 0,
	'ALTER TABLE apikeys ADD INDEX ix_apikeys_key_prefix (key_prefix), ALGORITHM=INPLACE, LOCK=NONE',
	'DO 0') FROM information_schema.statistics
	WHERE table_schema = DATABASE() AND table_name = 'apikeys' AND index_name = 'ix_apikeys_key_prefix');
PREPARE change_index FROM @change;
EXECUTE change_index;
DEALLOCATE PREPARE change_index;
