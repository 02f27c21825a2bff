"""Postfix's parameters that limit clients, messages and load: a table. Pure.

Names, defaults and versions are those of postconf(5); bounds are Postfix's own (the tables of
smtpd.c, global/mail_params.c, postscreen.c) or narrower, with the reason. Defaults are those of
3.7, for a Postfix that cannot be asked. `hits` are patterns of what the daemons log when a limit
is hit, matched from the left, as what a client wrote stands behind its address; group `client` is
that address. A parameter without `hits` is silent: Postfix logs nothing.
"""

from throttled.maincf.parameter import Parameter
from throttled.maincf.values import LONG

_CLIENT = r"\S{0,255}\[(?P<client>[0-9A-Fa-f.:]{3,45})\]"
_SCREENED = r"\[(?P<client>[0-9A-Fa-f.:]{3,45})\]:[0-9]+"
_ID = r"(?:\w{1,20}: )?"
_AFTER = rf"after (?:[\w<>*-]+|END-OF-MESSAGE)(?: \(\D{{0,15}}\d+ bytes\))? from {_CLIENT}"
_JUNK = "NOOP|RSET|VRFY|ETRN|HELP|XCLIENT|XFORWARD"

ON_OFF = ("yes", "no")


def _exceeded(what: str) -> tuple[str, ...]:
    return (rf"warning: {what} limit exceeded: \d+ from {_CLIENT} for service ",)


_SIZES = (
    rf"{_ID}reject: [A-Z-]+ from {_CLIENT}: 552 5\.3\.4 ",
    r"warning: \w+: queue file size limit exceeded",
)

_CODES = "permanent refusals with 4xx make clients try again for days"

TABLE = (
    Parameter(
        "smtpd_error_sleep_time",
        "time",
        "1s",
        high=10,
        why="each error holds an smtpd process for that long",
    ),
    Parameter("smtpd_soft_error_limit", "count", "10", low=1, measure="errors"),
    Parameter(
        "smtpd_hard_error_limit",
        "count",
        "20",
        low=5,
        measure="errors",
        hits=(rf"{_ID}too many errors after (?!(?:{_JUNK}) )" + _AFTER.removeprefix("after "),),
        why="a list server whose recipients are greylisted makes as many errors",
    ),
    Parameter(
        "smtpd_junk_command_limit",
        "count",
        "100",
        low=2,
        hits=(rf"{_ID}too many errors after (?:{_JUNK}) from {_CLIENT}",),
        why="a session with several messages says RSET between them",
    ),
    Parameter(
        "smtpd_timeout",
        "time",
        "300s",
        low=10,
        high=3600,
        hits=(rf"{_ID}timeout {_AFTER}",),
        why="RFC 5321 4.5.3.2.7 wants 5 minutes, and far clients need many seconds",
    ),
    Parameter(
        "smtpd_starttls_timeout",
        "time",
        "300s",
        "2.2",
        low=5,
        high=3600,
        hits=(rf"SSL_accept error from {_CLIENT}: Connection timed out",),
        why="a TLS handshake of a far client takes seconds",
    ),
    Parameter("smtpd_per_request_deadline", "words", "no", "3.7", words=ON_OFF),
    Parameter(
        "smtpd_min_data_rate",
        "count",
        "500",
        "3.7",
        low=1,
        high=100_000,
        why="slower clients are cut off while they send",
    ),
    Parameter(
        "smtpd_recipient_limit",
        "count",
        "1000",
        low=100,
        measure="recipients",
        why="RFC 5321 4.5.3.1.8: a server must accept 100 recipients",
    ),
    Parameter("smtpd_recipient_overshoot_limit", "count", "1000", low=1),
    Parameter(
        "smtpd_client_connection_count_limit",
        "count",
        "50",
        "2.2",
        measure="connections",
        hits=_exceeded("Connection concurrency"),
        off=True,
    ),
    Parameter(
        "smtpd_client_connection_rate_limit",
        "count",
        "0",
        "2.2",
        measure="connection rate",
        hits=_exceeded("Connection rate"),
        off=True,
    ),
    Parameter(
        "smtpd_client_message_rate_limit",
        "count",
        "0",
        "2.2",
        measure="message rate",
        hits=_exceeded("Message delivery request rate"),
        off=True,
    ),
    Parameter(
        "smtpd_client_recipient_rate_limit",
        "count",
        "0",
        "2.2",
        measure="recipient rate",
        hits=_exceeded("Recipient address rate"),
        off=True,
    ),
    Parameter(
        "smtpd_client_new_tls_session_rate_limit",
        "count",
        "0",
        "2.3",
        measure="newtls rate",
        hits=_exceeded("New TLS session rate"),
        off=True,
    ),
    Parameter(
        "smtpd_client_auth_rate_limit",
        "count",
        "0",
        "3.1",
        measure="auth rate",
        hits=_exceeded("AUTH command rate"),
        off=True,
    ),
    Parameter("smtpd_client_event_limit_exceptions", "text", "$mynetworks", "2.2"),
    Parameter(
        "smtpd_client_ipv4_prefix_length",
        "count",
        "32",
        "3.8",
        low=24,
        high=32,
        why="wider networks make strangers share a limit",
    ),
    Parameter(
        "smtpd_client_ipv6_prefix_length",
        "count",
        "84",
        "3.8",
        low=48,
        high=128,
        why="wider networks make strangers share a limit",
    ),
    Parameter("anvil_rate_time_unit", "time", "60s", "2.2", low=1, high=86_400),
    Parameter("anvil_status_update_time", "time", "600s", "2.2", low=1, high=86_400),
    Parameter(
        "message_size_limit",
        "bytes",
        "10240000",
        low=65_536,
        high=LONG,
        hits=_SIZES,
        measure="size",
        why="RFC 5321 4.5.3.1.7: at least 64 kB; 0 would be no limit",
    ),
    Parameter("mailbox_size_limit", "bytes", "51200000", high=LONG, off=True),
    Parameter("virtual_mailbox_limit", "bytes", "51200000", high=LONG, off=True),
    Parameter(
        "line_length_limit",
        "count",
        "2048",
        low=998,
        hits=(rf"warning: {_CLIENT}: request longer",),
        why="RFC 5322 2.1.1: lines of a message have up to 998 characters; longer ones are cut",
    ),
    Parameter(
        "header_size_limit",
        "count",
        "102400",
        low=8192,
        why="longer headers are cut, and those of Exchange and of lists are long",
    ),
    Parameter("mime_nesting_limit", "count", "100", "2.0", low=10, why="forwarded mail is nested"),
    Parameter(
        "header_address_token_limit",
        "count",
        "10240",
        low=1000,
        why="headers with many addresses are rewritten only in part",
    ),
    Parameter(
        "mime_boundary_length_limit",
        "count",
        "2048",
        low=70,
        why="RFC 2046 5.1.1: boundaries have up to 70 characters",
    ),
    Parameter("body_checks_size_limit", "count", "51200"),
    Parameter(
        "hopcount_limit",
        "count",
        "50",
        low=25,
        high=1000,
        hits=(r"warning: \w+: message rejected: hopcount exceeded",),
        why="RFC 5321 6.3 wants 100 hops; mail through lists and filters has more than 20",
    ),
    Parameter(
        "queue_minfree",
        "bytes",
        "0",
        high=LONG,
        hits=(rf"{_ID}reject: [A-Z-]+ from {_CLIENT}: 452 4\.3\.1 Insufficient system storage",),
    ),
    Parameter("in_flow_delay", "time", "1s", high=10),
    Parameter(
        "default_process_limit",
        "count",
        "100",
        low=10,
        high=20_000,
        hits=(r'warning: service "[^"]{1,100}" \(\S{1,60}\) has reached its process limit',),
        why="with fewer processes a handful of clients occupy the server",
    ),
    Parameter(
        "smtpd_policy_service_timeout",
        "time",
        "100s",
        "2.1",
        low=1,
        high=300,
        why="while a policy server hangs clients wait for that long",
    ),
    Parameter("smtpd_policy_service_max_idle", "time", "300s", "2.1", low=1, high=86_400),
    Parameter("smtpd_policy_service_max_ttl", "time", "1000s", "2.1", low=1, high=86_400),
    Parameter(
        "smtpd_policy_service_default_action",
        "text",
        "451 4.3.5 Server configuration problem",
        "3.0",
    ),
    Parameter("smtpd_policy_service_try_limit", "count", "2", "3.0", low=1, high=10),
    Parameter("smtpd_policy_service_retry_delay", "time", "1s", "3.0", low=1, high=60),
    Parameter("smtpd_policy_service_request_limit", "count", "0", "3.0", off=True),
    Parameter("default_destination_recipient_limit", "count", "50", off=True),
    Parameter("default_destination_concurrency_limit", "count", "20", off=True),
    Parameter(
        "default_destination_rate_delay",
        "time",
        "0s",
        "2.5",
        high=3600,
        why="mail to a busy destination would wait for days",
    ),
    Parameter(
        "default_transport_rate_delay",
        "time",
        "0s",
        "3.1",
        high=60,
        why="it is a pause after every delivery: an hour of mail would wait for days",
    ),
    Parameter(
        "qmgr_message_active_limit",
        "count",
        "20000",
        low=1000,
        why="mail in the active queue is all that is delivered",
    ),
    Parameter(
        "smtpd_forbid_unauth_pipelining",
        "words",
        "yes",
        "3.9",
        words=ON_OFF,
        hits=(rf"{_ID}improper command pipelining {_AFTER}",),
    ),
    Parameter(
        "smtpd_forbid_bare_newline",
        "words",
        "normalize",
        "3.9",
        words=("yes", "no", "normalize", "reject", "note"),
        hits=(rf"{_ID}(?:reject|info): [A-Z-]+ from {_CLIENT}: .{{0,100}}\bbare (?:<LF>|newline)",),
    ),
    Parameter(
        "smtpd_sasl_response_limit",
        "count",
        "12288",
        "3.4",
        low=1024,
        why="Kerberos tickets have some kB",
    ),
    Parameter("milter_command_timeout", "time", "30s", "2.3", low=1, high=300),
    Parameter("milter_content_timeout", "time", "300s", "2.3", low=1, high=3600),
    Parameter(
        "milter_default_action",
        "words",
        "tempfail",
        "2.3",
        words=("accept", "reject", "tempfail", "quarantine", "shutdown"),
    ),
    Parameter(
        "postscreen_client_connection_count_limit",
        "count",
        "50",
        "2.8",
        low=1,
        hits=(rf"{_ID}reject: CONNECT from {_SCREENED}: too many connections",),
    ),
    Parameter(
        "postscreen_pre_queue_limit",
        "count",
        "100",
        "2.8",
        low=10,
        hits=(rf"{_ID}reject: \w+ from {_SCREENED}: all screening ports busy",),
    ),
    Parameter(
        "postscreen_post_queue_limit",
        "count",
        "100",
        "2.8",
        low=10,
        hits=(rf"{_ID}reject: \w+ from {_SCREENED}: all server ports busy",),
    ),
    Parameter(
        "postscreen_command_count_limit",
        "count",
        "20",
        "2.8",
        low=5,
        hits=(rf"COMMAND COUNT LIMIT from {_SCREENED}",),
    ),
    Parameter(
        "postscreen_command_time_limit",
        "time",
        "300s",
        "2.8",
        low=5,
        high=3600,
        hits=(rf"COMMAND TIME LIMIT from {_SCREENED}",),
    ),
    Parameter(
        "postscreen_greet_wait",
        "time",
        "6s",
        "2.8",
        low=1,
        high=30,
        why="honest clients wait that long before each first mail",
    ),
    Parameter("postscreen_watchdog_timeout", "time", "10s", "2.8", low=10, high=600),
    # What `check` has commands for.
    Parameter("soft_bounce", "words", "no", words=ON_OFF, shown=False),
    *(
        Parameter(
            f"{name}_code",
            "code",
            "550" if "unknown" in name else "554",
            low=500,
            high=599,
            why=_CODES,
            shown=False,
        )
        for name in (
            "access_map_reject",
            "maps_rbl_reject",
            "reject",
            "relay_domains_reject",
            "unknown_local_recipient_reject",
            "unknown_relay_recipient_reject",
            "unknown_virtual_alias_reject",
            "unknown_virtual_mailbox_reject",
        )
    ),
    *(
        Parameter(
            f"{name}_reject_code", "code", default, low=500, high=599, why=_CODES, shown=False
        )
        for name, default in (("invalid_hostname", "501"), ("non_fqdn", "504"))
    ),
    Parameter("smtpd_relay_restrictions", "text", "", "2.10", shown=False),
)

PARAMETERS = {parameter.name: parameter for parameter in TABLE}

#: Limits of anvil(8) that are off unless configured.
RATES = tuple(
    p.name for p in TABLE if p.name.startswith("smtpd_client_") and p.name.endswith("_rate_limit")
)
