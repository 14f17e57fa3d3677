-- Notes the oldest version whose servers may use the tables as they are: servers of that
-- version and of newer ones can run side by side.

-- +goose Up
CREATE TABLE schema_compatibility (oldest_version INTEGER NOT NULL);
INSERT INTO schema_compatibility (oldest_version) VALUES (8);
