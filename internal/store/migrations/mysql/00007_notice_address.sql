-- Where a message goes that is not for the address that the user has now.

-- +goose NO TRANSACTION
-- +goose Up
-- It may have been done already, by a server that crashed before it noted so.
SET @change = (SELECT IF(count(*) = 0, 'ALTER TABLE notices ADD COLUMN address VARCHAR(280)', 'DO 0') FROM information_schema.columns
	WHERE table_schema = DATABASE() AND table_name = 'notices' AND column_name = 'address');
PREPARE change_notices FROM @change;
EXECUTE change_notices;
DEALLOCATE PREPARE change_notices;
