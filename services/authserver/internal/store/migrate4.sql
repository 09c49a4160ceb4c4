-- Pages keep nothing here any more; whoever is on the way signs in again.
CREATE INDEX browsers_strangers ON browsers (expires_at) WHERE sub = ''; -- where nobody has signed in yet
DROP TABLE pending;
CREATE TABLE pending (
	hash       BLOB PRIMARY KEY, -- of the state
	browser    INTEGER NOT NULL REFERENCES browsers (id) ON DELETE CASCADE,
	request    TEXT NOT NULL, -- the authorization request, a query string
	approved   INTEGER NOT NULL,
	key_id     TEXT NOT NULL,
	expires_at INTEGER NOT NULL
) STRICT;
CREATE INDEX pending_expiry ON pending (expires_at);
CREATE INDEX pending_browser ON pending (browser);
