"""Network namespaces, packets, names."""
