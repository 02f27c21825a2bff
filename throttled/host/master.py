"""Postfix's master(8) of one instance: does it run, reload, start; and a try of its smtpd.

Owns no state.
"""

from pathlib import Path

from throttled.errors import HostError
from throttled.host import answering
from throttled.host.answering import Process
from throttled.host.command import run
from throttled.host.postconf import pairs, value

_SECONDS = 60.0  # `postfix start` and `reload` check a whole queue directory first


def running(directory: str) -> bool:
    """Return whether an instance's master runs."""
    try:
        _control(directory, "status")
    except HostError:
        return False
    return True


def children(directory: str) -> frozenset[Process]:
    """Return the processes that an instance's master started; none where it cannot be found.

    Raises:
        HostError: postconf refuses.
    """
    path = Path(value(directory, "queue_directory"), "pid", "master.pid")
    try:
        return answering.children(int(path.read_text()))
    except (OSError, ValueError):
        return frozenset()


def reload(directory: str) -> None:
    """Have an instance read its configuration again.

    Raises:
        HostError: it does not run, or refuses.
    """
    _control(directory, "reload")


def start(directory: str) -> None:
    """Start an instance.

    Raises:
        HostError: it does not start.
    """
    _control(directory, "start")


def _control(directory: str, command: str) -> None:
    """Run `postfix COMMAND` for this instance only (postmulti(1), multi_instance_wrapper)."""
    wrapper, name = (value(directory, f"multi_instance_{what}") for what in ("wrapper", "name"))
    if wrapper:
        run("postmulti", "-i", name or "-", "-p", command, seconds=_SECONDS)
    else:
        run("postfix", "-c", directory, command, seconds=_SECONDS)


def try_smtpd(real: str, scratch: str) -> None:
    """Let an smtpd read a configuration, without a client: it ends at once, or cannot begin.

    Stand-alone (smtpd(8), -S: what `sendmail -bs` runs) with no input. Nothing of the running
    Postfix is touched; the log gets lines about a client localhost.

    Args:
        real: the instance's directory, for its services' own settings.
        scratch: a directory with the main.cf to be tried.

    Raises:
        HostError: smtpd does not start with it; the log says why.
    """
    smtpd = value(scratch, "daemon_directory") + "/smtpd"
    options: dict[str, list[str]] = {}
    for line in run("postconf", "-c", real, "-M").splitlines():
        fields = line.split(maxsplit=8)
        if len(fields) > 7 and fields[7] == "smtpd":
            options["/".join(fields[:2])] = []
    for key, text in pairs(run("postconf", "-c", real, "-P")).items():
        service, _, parameter = key.rpartition("/")
        options.get(service, []).extend(("-o", f"{parameter}={text}"))
    for own in {tuple(own) for own in options.values()}:
        run("env", f"MAIL_CONFIG={scratch}", smtpd, "-S", *own, seconds=20.0)
