"""The nftables backend: libnftables in this process, one table of our own."""
