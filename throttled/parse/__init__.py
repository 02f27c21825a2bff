"""From a log line to an Event, or to nothing. Pure and stateless but for bounded caches."""
