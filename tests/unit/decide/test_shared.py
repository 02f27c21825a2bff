"""Addresses that many clients share, and private ones that are single hosts."""

import pytest

from lab.daemon.events import A, engine, event, run
from throttled.decide.shared import SharedAddresses
from throttled.facts import Facts, Service
from throttled.model import Event

INGRESS, BOT, GATEWAY = "10.0.0.2", "10.0.0.66", "10.0.0.1"
SERVICE = Service("/etc/postfix", "25", "smtpd", "postfix", 25, "mx")
FACTS = Facts(
    services=(SERVICE,),
    connected=("10.0.0.0/24",),
    own=frozenset({"10.0.0.5"}),
    gateways=frozenset({GATEWAY}),
    mynetworks=("10.0.0.128/25", "10.0.0.1"),
)


def mail(client: str, count: int = 20) -> list[Event]:
    end = event("disconnect", client, commands={"data": (1, 1), "commands": (5, 5)})
    return [event("connect", client), end] * count


def garbage(client: str) -> list[Event]:
    return [event("connect", client)] * 200


def test_who_delivers_for_many_is_recognised_and_crosses_nothing() -> None:
    under = engine(facts=FACTS)
    run(mail(INGRESS, 19), under=under)
    assert under.shared.found() == {}
    run(mail(INGRESS, 1), under=under)
    assert under.shared.found() == {INGRESS: "20 sessions that delivered mail"}
    assert run(garbage(INGRESS), under=under) == []


def test_a_bot_that_delivers_nothing_is_banned() -> None:
    under = engine(facts=FACTS)
    run(mail(INGRESS), under=under)
    assert [crossing.subject for crossing in run(garbage(BOT), under=under)] == [BOT]
    assert BOT not in under.shared.found()


def test_who_logs_in_for_many_is_recognised() -> None:
    under = engine(facts=FACTS)
    for user in ("Alice", "alice", "bob", "carol", "dave", ""):
        run([event("login", INGRESS, user=user)], under=under)
    assert under.shared.found() == {}
    run([event("login", INGRESS, user="eve")], under=under)
    assert under.shared.found() == {INGRESS: "5 login names"}


def test_a_workstation_delivers_for_its_user_only() -> None:
    under = engine(facts=FACTS)
    end = event("disconnect", BOT, commands={"auth": (1, 1), "data": (1, 1), "commands": (5, 5)})
    run([event("connect", BOT), event("login", BOT, user="alice"), end] * 50, under=under)
    assert under.shared.found() == {}


@pytest.mark.parametrize(
    ("client", "found"),
    [
        (A, False),  # anybody's
        ("10.0.1.2", False),  # of another network
        ("10.0.0.5", False),  # this host's own: its webmail
        ("10.0.0.200", False),  # in mynetworks: meant to deliver
        (GATEWAY, True),  # a router that rewrites sources, even in mynetworks
    ],
)
def test_who_is_meant_to_deliver_for_many(client: str, *, found: bool) -> None:
    under = engine(facts=FACTS)
    run(mail(client), under=under)
    assert (client in under.shared.found()) is found


def test_of_a_postfix_in_a_container_networks_are_not_known() -> None:
    under = engine(facts=Facts())
    run(mail("172.18.0.1"), under=under)
    assert list(under.shared.found()) == ["172.18.0.1"]


def test_what_a_changed_host_says() -> None:
    under = engine(facts=FACTS)
    run(mail(INGRESS), under=under)
    under.facts(Facts(services=(SERVICE,), connected=("10.0.0.0/24",), mynetworks=("10.0.0.0/24",)))
    assert under.shared.found() == {}


def test_no_more_than_so_many() -> None:
    shared = SharedAddresses(Facts())
    for number in range(30):
        for _ in range(20):
            shared.delivered(f"10.0.0.{number}", 1.0)
    assert len(shared.found()) == 16


def test_clients_behind_a_proxy_are_none() -> None:
    proxied = Service("/etc/postfix", "25", "smtpd", "postfix", 25, "mx", "haproxy")
    under = engine(facts=Facts(services=(proxied,), connected=("10.0.0.0/24",)))
    login = [event("login", INGRESS, user=str(number)) for number in range(9)]
    run([*mail(INGRESS), *login], under=under)
    assert under.shared.found() == {}
