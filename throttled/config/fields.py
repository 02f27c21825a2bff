"""The types of values in the configuration file. Owns no state."""

from typing import Annotated

from msgspec import Meta

FilePath = Annotated[
    str, Meta(pattern=r"\A/[^\0]*\Z", max_length=4096, extra={"form": "an absolute path"})
]
OptionalPath = Annotated[
    str, Meta(pattern=r"\A(?:/[^\0]*)?\Z", max_length=4096, extra={"form": "an absolute path"})
]
FleetName = Annotated[
    str,
    Meta(
        pattern=r"\A[A-Za-z0-9][A-Za-z0-9._-]{0,62}\Z|\A\Z",
        extra={"form": "letters, digits, ., _ and -, at most 63 characters"},
    ),
]
#: The kernel's limit for the path of a UNIX socket is 107 bytes (sun_path, unix(7)).
SocketPath = Annotated[
    str,
    Meta(
        pattern=r"\A/[\x21-\x7e]*\Z",
        max_length=107,
        extra={"form": "an absolute path of at most 107 characters"},
    ),
]
#: Without comments, quotes and lists: it becomes a recipient of SMTP as it is.
MailAddress = Annotated[
    str,
    Meta(
        pattern=r"\A(?:[A-Za-z0-9.!#$%&'*+/=?^_`{|}~-]+(?:@[A-Za-z0-9][A-Za-z0-9.-]*)?)?\Z",
        max_length=320,
        extra={"form": "a mail address"},
    ),
]
Port = Annotated[int, Meta(ge=1, le=65535)]
Ports = Annotated[tuple[Port, ...], Meta(max_length=15)]
HostName = Annotated[str, Meta(pattern=r"\A[A-Za-z0-9_.-]{1,255}\Z", extra={"form": "a host name"})]
#: As docker allows them, and podman.
Container = Annotated[
    str,
    Meta(pattern=r"\A[A-Za-z0-9][A-Za-z0-9_.-]{0,254}\Z", extra={"form": "a container's name"}),
]
Tag = Annotated[str, Meta(pattern=r"\A[\x21-\x7e]{1,255}\Z", extra={"form": "a syslog name"})]
LimitName = Annotated[
    str,
    Meta(
        pattern=r"\A[a-z0-9][a-z0-9-]{0,39}\Z",
        extra={"form": "a name of small letters, digits and -, at most 40 characters"},
    ),
]
