-- Public halves of the keys of the documents: what was removed there stays published for a while.
CREATE TABLE configured_keys (
	kid     TEXT PRIMARY KEY,
	jwk     TEXT NOT NULL,
	seen_at INTEGER NOT NULL, -- first published
	gone_at INTEGER NOT NULL -- 0: it is in the documents
) STRICT;
