-- A consent names where the answer goes. What was agreed to before did not, and is asked again.
DROP TABLE consents;
CREATE TABLE consents (
	browser   INTEGER NOT NULL REFERENCES browsers (id) ON DELETE CASCADE,
	client_id TEXT NOT NULL,
	digest    BLOB NOT NULL, -- of what was agreed to
	redirect  TEXT NOT NULL, -- scheme and host that were on the page
	PRIMARY KEY (browser, client_id)
) STRICT;
