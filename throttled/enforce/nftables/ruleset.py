"""nftables text from nouns. Pure."""
