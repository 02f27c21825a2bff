"""What a machine is: systemd, file systems, limits, kernels."""
