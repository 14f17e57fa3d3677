-- Notes the oldest version whose servers may use the tables as they are: servers of that
-- version and of newer ones can run side by side.

-- +goose Up
CREATE TABLE schema_compatibility (
	only_row INTEGER NOT NULL,
	oldest_version INTEGER NOT NULL,
	PRIMARY KEY (only_row)
);
INSERT INTO schema_compatibility (only_row, oldest_version) VALUES (1, 4);
