"""Redis and Valkey servers, and daemons of a fleet."""
