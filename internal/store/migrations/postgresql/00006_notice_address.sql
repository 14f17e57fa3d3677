-- Where a message goes that is not for the address that the user has now.

-- +goose Up
ALTER TABLE notices ADD COLUMN address VARCHAR(280);
