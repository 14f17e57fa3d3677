-- The event log, and the queue of events that are to be sent to a webhook. An event
-- outlives the users that it is about.

-- +goose NO TRANSACTION
-- +goose Up
-- They may be there already, made by a server that crashed before it noted so.
CREATE TABLE IF NOT EXISTS events (
	event_id BIGINT NOT NULL AUTO_INCREMENT,
	occurred DATETIME(6) NOT NULL,
	kind VARCHAR(40) NOT NULL,
	user_id INTEGER,
	actor_id INTEGER,
	request VARCHAR(60) NOT NULL,
	ip_address VARCHAR(280) NOT NULL,
	user_agent VARCHAR(280) NOT NULL,
	details LONGTEXT,
	PRIMARY KEY (event_id),
	KEY ix_events_user_id (user_id, event_id),
	KEY ix_events_occurred (occurred)
) DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;

CREATE TABLE IF NOT EXISTS event_deliveries (
	event_id BIGINT NOT NULL,
	attempts INTEGER NOT NULL,
	next_try DATETIME(6) NOT NULL,
	PRIMARY KEY (event_id)
) DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;
