"""The line of master(8) that is an event: the flood that smtpd does not log. Pure.

At the process limit further connections wait in the kernel's backlog (master/master_avail.c).
`service` is the name in master.cf, `where` what it listens on, `text` the limit.
"""

from throttled.parse.rules import Rule, Table

TABLE = Table(
    (
        Rule(
            "saturated",
            'warning: service "<service>" (<endpoint>) has reached its process limit "<value>"',
        ),
    )
)
