"""The section `[fleet]` of the configuration file. Owns no state."""

from typing import Annotated, Literal

from msgspec import Meta, Struct

from throttled.config.fields import FilePath, FleetName, OptionalPath, SocketPath
from throttled.duration import Duration, duration
from throttled.settings import Believe


class Fleet(Struct, frozen=True, forbid_unknown_fields=True):
    """Bans shared with other hosts over a Redis or Valkey server."""

    site: Annotated[
        FleetName,
        Meta(description='name of the fleet, the same on all its hosts; "": no fleet'),
    ] = ""
    name: Annotated[
        FleetName,
        Meta(description='of this host, and its user at the Redis server; "": its host name'),
    ] = ""
    server: Annotated[
        str,
        Meta(
            pattern=(
                r"\A(?:rediss?://[\x21-\x7e]+|unix:///[\x21-\x7e]+"
                r"|sentinels?://[\x21-\x2e\x30-\x7e]+/[\x21-\x2e\x30-\x7e]+)\Z"
            ),
            max_length=1000,
            extra={"form": "a URL of redis, rediss (TLS), unix, sentinel or sentinels (TLS)"},
            description=(
                "the Redis server: rediss://HOST:6379 with TLS, unix:///PATH, or "
                "sentinels://HOST:26379,HOST:26379/NAME"
            ),
        ),
    ] = "rediss://localhost:6379"
    secret: Annotated[
        FilePath,
        Meta(description="a file with the secret of the fleet, mode 0600: throttled fleet key"),
    ] = "/etc/throttled/fleet.key"  # noqa: S105 - a path
    password: Annotated[
        OptionalPath,
        Meta(description='a file with the password of this host at the Redis server; "": none'),
    ] = ""
    sentinel_user: Annotated[
        FleetName,
        Meta(description='of this host at the Sentinels; "": their user default'),
    ] = ""
    sentinel_password: Annotated[
        OptionalPath,
        Meta(description='a file with the password of that user; "": none'),
    ] = ""
    ca: Annotated[
        OptionalPath,
        Meta(description="the certificates that may sign the Redis server's; \"\": the system's"),
    ] = ""
    cert: Annotated[OptionalPath, Meta(description='the certificate of this host; "": none')] = ""
    key: Annotated[OptionalPath, Meta(description='the key of that certificate; "": none')] = ""
    peers: Annotated[
        Literal["any"] | Annotated[tuple[FleetName, ...], Meta(max_length=256)],
        Meta(description='hosts that are listened to; "any": all that have the secret'),
    ] = "any"
    share: Annotated[
        tuple[Literal["bans", "unbans", "names"], ...],
        Meta(
            max_length=3,
            description=(
                "what this host publishes: bans; operators' unbans; user names tried, as keyed "
                "hashes; []: it only listens"
            ),
        ),
    ] = ("bans", "unbans", "names")
    believe: Annotated[
        Believe,
        Meta(
            description=(
                'what a peer\'s ban becomes here: "ban"; "throttle"; "report": nothing is done'
            )
        ),
    ] = "ban"
    unban: Annotated[
        bool, Meta(description="a peer's unban also removes what was decided on this host")
    ] = True
    longest: Annotated[
        Duration, Meta(description="a peer's ban lasts at most this long on this host")
    ] = duration("1d")
    most: Annotated[
        int, Meta(ge=1, le=2_000_000, description="maximum number of active entries of one peer")
    ] = 100_000
    socket: Annotated[
        SocketPath, Meta(description="the UNIX socket of throttled-fleet.service")
    ] = "/run/throttled-fleet/process.sock"
