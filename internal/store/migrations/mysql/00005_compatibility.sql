-- Notes the oldest version whose servers may use the tables as they are: servers of that
-- version and of newer ones can run side by side.

-- +goose NO TRANSACTION
-- +goose Up
CREATE TABLE IF NOT EXISTS schema_compatibility (
	only_row INTEGER NOT NULL,
	oldest_version INTEGER NOT NULL,
	PRIMARY KEY (only_row)
);
INSERT IGNORE INTO schema_compatibility (only_row, oldest_version) VALUES (1, 5);
