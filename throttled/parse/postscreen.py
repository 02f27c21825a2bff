"""The lines of postscreen(8) that are events. Pure.

Read off Postfix's source (src/postscreen), versions 2.8 to 3.12. Adding a line is one entry here
and its samples in tests/samples. One postscreen process serves many clients, so the port is part
of a session's name. What stands after `after` may be the client's own words.
"""

from throttled.parse.reply import reject
from throttled.parse.rules import Rule, Table

TABLE = Table(
    (
        Rule("screened", "CONNECT from <client> to <value>"),
        Rule("pregreet", "PREGREET <number> after <number> from <client>: <text>"),
        Rule("dnsbl", "DNSBL rank <value> for <client>"),
        Rule("hangup", "HANGUP after <value> from <client> in <test>"),
        Rule("reject", "<id>: reject: <where> from <client>: <text>", detail=reject),
        Rule("reject", "reject: connect from <client>: <text>", "CONNECT", reject),
        Rule("command_limit", "COMMAND TIME LIMIT from <client> after <text>", "time"),
        Rule("command_limit", "COMMAND LENGTH LIMIT from <client> after <text>", "length"),
        Rule("command_limit", "COMMAND COUNT LIMIT from <client> after <text>", "count"),
        Rule("pipelining", "COMMAND PIPELINING from <client> after <command><text>"),
        Rule("non_smtp_command", "NON-SMTP COMMAND from <client> after <command><text>"),
        Rule("bare_newline", "BARE NEWLINE from <client> after <command><text>"),
        Rule("denylisted", "DENYLISTED <client>"),
        Rule("denylisted", "BLACKLISTED <client>"),  # Postfix < 3.6
        # Handed on to smtpd, which logs the same connection again.
        Rule("passed", "PASS <where> <client>"),
        Rule("passed", "ALLOWLISTED <client>", "ALLOWLISTED"),
        Rule("passed", "WHITELISTED <client>", "ALLOWLISTED"),  # Postfix < 3.6
        Rule("disconnect", "DISCONNECT <client>"),
        Rule("saturated", "entering STRESS mode <text>"),
    )
)
