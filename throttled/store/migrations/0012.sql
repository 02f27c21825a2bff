-- Peers' bans and subjects that are never grouped have no network: they need no place in the index.
DROP INDEX offence_network;
CREATE INDEX offence_network ON offence (network, scope, banned) WHERE network <> '';
