-- What came from a host of the fleet: counted, listed and removed by its origin.
CREATE INDEX active_peer ON active (origin) WHERE origin >= 'peer:' AND origin < 'peer;';
