-- Grants were one row a person, so a sign-in healed what the identity provider had revoked of another. Now each family
-- has its own. Which family a kept row came from is not known: all of them must sign in again.
DROP TABLE grants;
CREATE TABLE grants (
	tsid          TEXT PRIMARY KEY REFERENCES families (tsid) ON DELETE CASCADE,
	tid           TEXT NOT NULL,
	oid           TEXT NOT NULL,
	name          TEXT NOT NULL,
	email         TEXT NOT NULL,
	roles         TEXT NOT NULL, -- JSON list
	refresh_token BLOB, -- sealed
	checked_at    INTEGER NOT NULL
) STRICT;
