"""Postfix's chroot, filled as Debian does it before Postfix starts."""

#: Shell; with MAIL_CONFIG set or for /etc/postfix. Debian 12's init script and unit fill it; from
#: Debian 13 (3.9.1-7) on `postfix start` does, and the script refuses to be run by others.
CHROOT = """\
grep -qs configure-instance /usr/lib/postfix/sbin/post-install ||
    /usr/lib/postfix/configure-instance.sh -
"""
