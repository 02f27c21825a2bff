"""The nftables backend: one table of our own, rules by libnftables, elements over netlink."""
