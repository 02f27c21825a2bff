"""Facts about this host: Postfix's configuration, addresses, gateways, resolvers."""
