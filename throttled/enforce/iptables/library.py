"""python-iptables with workarounds for its errors. Importing this loads it.

- Its rules look for the chain that they jump to in every table of the kernel, which makes them,
  `nat` with connection tracking too: here they look in their own table.
- An option's scratch memory is released before its use (hashlimit): here it lives with the match.
- A rule's last check reads the match back by turning the process's standard output round: here
  each match is checked as soon as its options are set.
- An IPv6 rule compares one bit of each letter of an interface's name: here all of them.
- An extension's error jumps out of a Python callback, over frames of the interpreter, which may
  crash it: here C's `throw_exception` is called by C.
- On an error libxtables calls the function of the library that initialised it last: after
  libnftables that is `exit`. `ours` sets our function for the time of a change.
- It knows the options of extensions as they were before iptables 1.8.11, which appended a field
  (`base`) to each: it would find the first one only. Here they are read at the distance at which
  they stand.

One of each table and IP version for the process (python-iptables caches them); not for two threads
at once: the caller holds the lock of the iptables programs.
"""

import ctypes
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import iptc
from iptc import xtables

from throttled.enforce.iptables import ruleset

ERRORS = (iptc.IPTCError, xtables.XTablesError, ValueError, AttributeError)

_VIA_IN = 1  # IPT_INV_VIA_IN, IP6T_INV_VIA_IN

# Only its private names lead to what an extension's error calls.
xtables._xt_globals.exit_err = xtables._EXIT_FN(  # noqa: SLF001
    ("throw_exception", xtables._lib_xtwrapper)  # noqa: SLF001
)

_OPTION = xtables.xt_option_entry


def _options(table: Any) -> Iterator[Any]:
    """Yield the options of an extension (`struct xt_option_entry` of xtables.h), the last empty.

    With `base`, 4 bytes and 4 of padding, no name of a second option stands where the short form
    has it: there `base` is 0, as none of the options used here is a number of another base.
    """
    at, size = ctypes.addressof(table.contents), ctypes.sizeof(_OPTION)
    short, long = (ctypes.c_void_p.from_address(at + size + more).value for more in (0, 8))
    if short is None and long is not None:
        size += 8
    while True:
        yield _OPTION.from_address(at)
        at += size


def _read_options() -> None:
    """Let python-iptables find all options of an extension."""
    every = xtables.xtables
    lookup, check = every._option_lookup, every._options_fcheck  # noqa: SLF001
    every._option_lookup = lambda self, table, name: lookup(self, _options(table), name)  # noqa: SLF001
    every._options_fcheck = lambda self, name, flags, table: check(  # noqa: SLF001
        self, name, flags, _options(table)
    )


_read_options()


@contextmanager
def ours() -> Iterator[None]:
    """Have libxtables call our functions; afterwards those of the library that initialised it."""
    parameters = ctypes.c_void_p.in_dll(xtables._lib_xtables, "xt_params")  # noqa: SLF001
    before = parameters.value
    parameters.value = ctypes.addressof(xtables._xt_globals)  # noqa: SLF001
    try:
        yield
    finally:
        parameters.value = before


class Legacy(iptc.Table):
    """A table of IPv4. Nothing is active before `commit`."""

    def strerror(self) -> str:
        """Return what the last error was."""
        message = super().strerror()
        return message.decode() if isinstance(message, bytes) else message

    def unhook(self, chains: Sequence[str]) -> None:
        """Remove the rules of the table's hooks that lead to chains."""
        for hook in ruleset.HOOKS[self.name]:
            self._unhook(hook, chains)

    def _unhook(self, hook: str, chains: Sequence[str]) -> None:
        ours, number = [], 0
        entry = self.first_rule(hook)
        while entry:
            if (self.get_target(entry) or b"").decode() in chains:
                ours.append(number)
            entry, number = self.next_rule(entry), number + 1
        for number in reversed(ours):
            if self._iptc.iptc_delete_num_entry(hook.encode(), number, self._handle) != 1:
                raise iptc.IPTCError(f"can't delete a rule of {hook}: {self.strerror()}")

    def add(self, rule: ruleset.Rule) -> None:
        """Put a rule at the end of its chain, or of a hook at its begin."""
        made = (_Rule6 if isinstance(self, Legacy6) else _Rule)(self)
        if rule.tcp:
            made.protocol = "tcp"
        if rule.arriving:
            where = made.get_ip()
            where.iniface, where.iniface_mask = b"lo", b"\xff" * 3  # and the 0 at its end
            where.invflags |= _VIA_IN
        for each in rule.matches:
            match = _Match(made, name=each.name)
            for option, value in each.options:
                match.set_parameter(option, value)
            match.final_check()
            made.add_match(match)
        target = made.create_target(rule.target, goto=rule.goto)
        for option, value in rule.options:
            target.set_parameter(option, value)
        if rule.chain in ruleset.HOOKS[self.name]:
            self.insert_entry(rule.chain, made.rule, 0)
        else:
            self.append_entry(rule.chain, made.rule)


class Legacy6(iptc.Table6, Legacy):
    """A table of IPv6."""


def opened(version: int, name: str) -> Legacy:
    """Open a table of an IP version, in the network namespace of the calling thread."""
    table = (Legacy if version == 4 else Legacy6)(name, autocommit=False)
    table.refresh()
    return table


class _Rule(iptc.Rule):
    def __init__(self, table: Legacy) -> None:
        super().__init__()
        self._tables = [table]

    @property
    def tables(self) -> list[Legacy]:
        return self._tables


class _Rule6(_Rule, iptc.Rule6):
    pass


class _Match(iptc.Match):
    def reset(self) -> None:
        super().reset()
        self._scratch = (ctypes.c_ubyte * max(1, self._module.udata_size))()
        self._module.udata = ctypes.cast(self._scratch, ctypes.c_void_p)

    def _update_parameters(self) -> None:
        """Leave the options as they were set, instead of reading and setting them again."""
