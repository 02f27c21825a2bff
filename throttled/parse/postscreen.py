"""The lines of postscreen(8) that are events. Pure.

Read off Postfix's source (src/postscreen), versions 2.8 to 3.12. Adding a line is one entry here
and its samples in tests/samples. One postscreen process serves many clients, so the port is part
of a session's name. What stands after `after` may be the client's own words.
"""

from throttled.parse.reply import reject
from throttled.parse.rules import Rule, Table

TABLE = Table(
    (
        Rule("screened", "CONNECT from <peer> to <value>"),
        Rule("pregreet", "PREGREET <number> after <number> from <peer><rest>"),
        Rule("dnsbl", "DNSBL rank <value> for <peer>"),
        Rule("hangup", "HANGUP after <value> from <peer> in <test>"),
        Rule("reject", "<id>: reject: <where> from <peer>: <text>", detail=reject),
        Rule("reject", "reject: connect from <peer>: <text>", "CONNECT", reject),
        Rule("command_limit", "COMMAND TIME LIMIT from <peer> after <text>", "time"),
        Rule("command_limit", "COMMAND LENGTH LIMIT from <peer> after <text>", "length"),
        Rule("command_limit", "COMMAND COUNT LIMIT from <peer> after <text>", "count"),
        Rule("pipelining", "COMMAND PIPELINING from <peer> after <command><rest>"),
        Rule("non_smtp_command", "NON-SMTP COMMAND from <peer> after <command><rest>"),
        Rule("bare_newline", "BARE NEWLINE from <peer> after <command><rest>"),
        Rule("denylisted", "DENYLISTED <peer>"),
        Rule("denylisted", "BLACKLISTED <peer>"),  # Postfix < 3.6
        # Handed on to smtpd, which logs the same connection again.
        Rule("passed", "PASS <where> <peer>"),
        Rule("passed", "ALLOWLISTED <peer>", "ALLOWLISTED"),
        Rule("passed", "WHITELISTED <peer>", "ALLOWLISTED"),  # Postfix < 3.6
        Rule("disconnect", "DISCONNECT <peer>"),
        Rule("saturated", "entering STRESS mode <text>"),
    )
)
