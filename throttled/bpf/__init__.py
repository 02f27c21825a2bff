"""Programs for the kernel: C sources, compiled into this package, and libbpf to load them."""
