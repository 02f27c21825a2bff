"""A /dev of its own for a mail server: nothing of this machine's, its log socket least of all."""

#: Shell, with `{home}`; in a mount namespace.
DEVICES = """\
mount -t tmpfs -o mode=755,size=1m tmpfs {home}/dev
for device in null zero full random urandom tty; do
    : >{home}/dev/$device
    mount --bind /dev/$device {home}/dev/$device
done
mount --rbind {home}/dev /dev
"""
