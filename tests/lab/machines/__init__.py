"""Stock Debian machines, booted whole: kernel, systemd, Postfix. Started by `make machines`.

`image` makes a disk from Debian's packages, `guest` boots it in qemu without KVM and runs commands
in it, `wire` is the network of its clients, `knock` counts answered SYNs, `site` knows what a check
needs, `checks` are the checks and `report` runs them and prints the table.
"""
