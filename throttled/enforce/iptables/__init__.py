"""The iptables backend: chains of our own in the legacy raw tables, subjects in ipsets."""
