-- Times are microseconds since the Unix epoch. *_hash columns are SHA-256 of what only the other side knows.

CREATE TABLE clients (
	id            TEXT PRIMARY KEY,
	name          TEXT NOT NULL,
	redirect_uris TEXT NOT NULL, -- JSON list
	refresh       INTEGER NOT NULL, -- grant_types holds refresh_token
	scopes        TEXT NOT NULL, -- separated by blanks
	auth_method   TEXT NOT NULL,
	secret_hash   BLOB,
	application_type TEXT NOT NULL,
	created_at    INTEGER NOT NULL,
	used_at       INTEGER NOT NULL, -- 0: never
	expires_at    INTEGER NOT NULL
) STRICT;
CREATE INDEX clients_expiry ON clients (expires_at);

CREATE TABLE browsers (
	id          INTEGER PRIMARY KEY,
	cookie_hash BLOB NOT NULL UNIQUE,
	sub         TEXT NOT NULL, -- who signed in last, empty: nobody yet
	expires_at  INTEGER NOT NULL
) STRICT;
CREATE INDEX browsers_expiry ON browsers (expires_at);
CREATE INDEX browsers_strangers ON browsers (expires_at) WHERE sub = ''; -- where nobody has signed in yet

CREATE TABLE consents (
	browser   INTEGER NOT NULL REFERENCES browsers (id) ON DELETE CASCADE,
	client_id TEXT NOT NULL,
	digest    BLOB NOT NULL, -- of what was agreed to
	redirect  TEXT NOT NULL, -- scheme and host that were on the page
	PRIMARY KEY (browser, client_id)
) STRICT;

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

CREATE TABLE families (
	tsid       TEXT PRIMARY KEY,
	client_id  TEXT NOT NULL,
	sub        TEXT NOT NULL,
	scopes     TEXT NOT NULL,
	audience   TEXT NOT NULL,
	redirect_uri TEXT NOT NULL,
	auth_time  INTEGER NOT NULL,
	expires_at INTEGER NOT NULL,
	ended_at   INTEGER,
	reason     TEXT
) STRICT;
CREATE INDEX families_expiry ON families (expires_at);
CREATE INDEX families_sub ON families (sub);
CREATE INDEX families_client ON families (client_id);

CREATE TABLE codes (
	hash       BLOB PRIMARY KEY,
	tsid       TEXT NOT NULL REFERENCES families (tsid) ON DELETE CASCADE,
	challenge  TEXT NOT NULL,
	taken_at   INTEGER, -- a verifier was tried
	used_at    INTEGER,
	expires_at INTEGER NOT NULL
) STRICT;
CREATE INDEX codes_family ON codes (tsid);

CREATE TABLE refresh_tokens (
	hash       BLOB PRIMARY KEY,
	tsid       TEXT NOT NULL REFERENCES families (tsid) ON DELETE CASCADE,
	expires_at INTEGER NOT NULL,
	rotated_at INTEGER,
	successor  BLOB -- what the rotation answered, sealed with the old token
) STRICT;
CREATE INDEX refresh_family ON refresh_tokens (tsid);
CREATE INDEX refresh_successor ON refresh_tokens (rotated_at) WHERE successor IS NOT NULL;

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

CREATE TABLE revocations (
	seq        INTEGER PRIMARY KEY AUTOINCREMENT,
	kind       TEXT NOT NULL,
	value      TEXT NOT NULL,
	revoked_at INTEGER NOT NULL,
	forget_at  INTEGER NOT NULL
) STRICT;
CREATE INDEX revocations_expiry ON revocations (forget_at);

CREATE TABLE signing_keys (
	kid         TEXT PRIMARY KEY,
	private     BLOB NOT NULL, -- PKCS #8, sealed
	active_from INTEGER NOT NULL UNIQUE
) STRICT;

-- Public halves of the keys of the documents: what was removed there stays published for a while.
CREATE TABLE configured_keys (
	kid     TEXT PRIMARY KEY,
	jwk     TEXT NOT NULL,
	seen_at INTEGER NOT NULL, -- first published
	gone_at INTEGER NOT NULL -- 0: it is in the documents
) STRICT;
