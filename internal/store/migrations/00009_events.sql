-- The event log, and the queue of events that are to be sent to a webhook. An event
-- outlives the users that it is about.

-- +goose Up
CREATE TABLE events (
	event_id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
	occurred DATETIME NOT NULL,
	kind VARCHAR(40) NOT NULL,
	user_id INTEGER,
	actor_id INTEGER,
	request VARCHAR(60) NOT NULL,
	ip_address VARCHAR(280) NOT NULL,
	user_agent VARCHAR(280) NOT NULL,
	details JSON
);
CREATE INDEX ix_events_user_id ON events (user_id, event_id);
CREATE INDEX ix_events_occurred ON events (occurred);

CREATE TABLE event_deliveries (
	event_id INTEGER NOT NULL,
	attempts INTEGER NOT NULL,
	next_try DATETIME NOT NULL,
	PRIMARY KEY (event_id)
);
