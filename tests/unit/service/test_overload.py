"""What configuration and facts want in a scope, and that nothing here fails closed."""

import asyncio
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from msgspec.structs import replace

from throttled.clock import now
from throttled.config.schema import Config
from throttled.core.overload import Wanted
from throttled.core.pipeline import Pipeline
from throttled.decide.protect import Protection
from throttled.enforce.admission.memory import Memory
from throttled.enforce.admission.protocol import AdmissionCounts
from throttled.facts import Facts, Service
from throttled.model import Scope
from throttled.parse.parser import Parser
from throttled.service.overload import Overload, wanted
from throttled.settings import Overload as Settings
from throttled.settings import OverloadMode, Policy
from throttled.store.store import Store


def service(port: int, scope: Scope = "mx", proxy: str = "", processes: int = 100) -> Service:
    return Service("/etc/postfix", str(port), "smtpd", "postfix", port, scope, proxy, processes)


FACTS = Facts(services=(service(25), service(587, "submission", processes=50)))


def want(
    facts: Facts = FACTS,
    scope: Scope = "mx",
    settings: Settings | None = None,
    *,
    observing: bool = False,
) -> Wanted:
    config = Config(overload=settings or Settings())
    return wanted(config, facts, scope, observing=observing)


def test_the_defaults() -> None:
    assert want() == Wanted("enforce", (25,), 80, 300.0, 10.0)
    assert want(scope="submission") == Wanted("report", (587,), 40, 300.0, 10.0)


def test_ports_at_which_clients_speak_first() -> None:
    """Not one where a greeting is due at some address of it."""
    wrapped = [replace(service(port, "submission"), tls=True) for port in (465, 4650)]
    plain = service(587, "submission"), service(4650, "submission")
    assert want(Facts(services=(*wrapped, *plain)), "submission").tls == {465}


@pytest.mark.parametrize(("own", "mode"), [("enforce", "report"), ("off", "off")])
def test_observing_it_only_reports(own: OverloadMode, mode: OverloadMode) -> None:
    assert want(settings=Settings(mx=own), observing=True).mode == mode


def test_ports_behind_a_proxy_are_left_out() -> None:
    facts = Facts(services=(service(25), service(2525, proxy="haproxy", processes=10)))
    assert want(facts).ports == (25,)
    assert want(facts).cap == 80
    facts = Facts(services=(service(2525, proxy="haproxy"),))
    why = "Postfix's services here get their clients from a proxy"
    assert (want(facts).ports, want(facts).why) == ((), why)
    assert want(Facts()).why == "no service of Postfix is known"


def test_postscreen_greets_in_two_parts() -> None:
    screen = Service("/etc/postfix", "smtp", "postscreen", "postfix", 25, "mx")
    assert want(Facts(services=(screen, service(25)))).greeting == 8.0


def test_a_small_service_beside_the_main_one_makes_no_small_cap() -> None:
    facts = Facts(services=(service(25), service(2525, processes=5)))
    assert (want(facts).ports, want(facts).cap) == ((25, 2525), 80)


def test_without_a_process_limit_there_is_no_cap() -> None:
    found = want(Facts(services=(service(25, processes=0),)))
    assert (found.cap, found.why) == (
        0,
        "Postfix has no process limit here; set [overload] cap",
    )


def test_a_few_processes_have_no_cap() -> None:
    """Honest: two lists and a provider, each with two connections, in calm times."""
    found = want(Facts(services=(service(25, processes=4),)))
    assert found.cap == 0
    assert found.why == "Postfix has fewer than 5 processes here (4); set [overload] cap"
    assert want(Facts(services=(service(25, processes=5),))).cap == 4


@pytest.fixture
def pipeline(tmp_path: Path) -> Iterator[Pipeline]:
    with_store = Store.open(str(tmp_path / "t.db"))
    yield Pipeline(Policy(), FACTS, with_store, None, Parser(UTC, 0.0))
    with_store.close()


class Odd(Memory):
    """Raises what nobody foresaw."""

    broken = False

    def counts(self) -> AdmissionCounts:
        if self.broken:
            raise ZeroDivisionError
        return super().counts()


def test_whatever_raises_everybody_is_admitted(
    pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("throttled.core.overload._AGAIN", 0.1)
    monkeypatch.setattr("throttled.core.overload._SOON", 0.1)
    means = Odd()
    overload = Overload(pipeline, observing=False, make=lambda _: [means])
    overload.follow(Config(overload=Settings(submission="off")), FACTS, Protection(FACTS))

    async def until(happened: str) -> None:
        for _ in range(200):
            if overload.status()[0].means == happened:
                return
            await asyncio.sleep(0.05)
        raise TimeoutError(happened)

    async def story() -> None:
        task = asyncio.create_task(overload.run())
        await until("memory")
        means.broken = True
        await until("")
        means.broken = False
        await until("memory")  # it goes on
        task.cancel()
        overload.close()
        assert overload.status()[0].means == ""

    asyncio.run(story())
    assert pipeline.skipped.counts["step"] >= 1
    assert [one.scope for one in overload.status()] == ["mx"]


class Left:
    """Programs of a process before."""

    def __init__(self) -> None:
        self.attached = True

    def detach(self) -> None:
        self.attached = False


@pytest.fixture
def left(monkeypatch: pytest.MonkeyPatch) -> Left:
    made = Left()
    monkeypatch.setattr("throttled.service.overload.Former", lambda: made)
    return made


def test_former_programs_go_on_until_there_are_others(pipeline: Pipeline, left: Left) -> None:
    ready, means = [False], Memory()
    overload = Overload(pipeline, observing=False, ready=lambda: ready[0], make=lambda _: [means])
    overload.follow(Config(overload=Settings(submission="off")), FACTS, Protection(FACTS))

    async def story() -> None:
        overload._step()  # who is known good cannot be read yet
        assert (left.attached, means.ports) == (True, ())
        ready[0] = True
        task = asyncio.create_task(overload.run())
        for _ in range(200):
            if not left.attached:
                break
            await asyncio.sleep(0.05)
        task.cancel()
        assert (left.attached, means.ports) == (False, (25,))

    asyncio.run(story())


def test_former_programs_end_where_none_are_wanted(pipeline: Pipeline, left: Left) -> None:
    overload = Overload(pipeline, observing=False, make=lambda _: [Memory()])
    overload.follow(Config(overload=Settings(mx="off", submission="off")), FACTS, Protection(FACTS))
    overload._step()
    assert not left.attached


def test_former_programs_end_with_the_mode(pipeline: Pipeline, left: Left) -> None:
    """Before they are replaced: `stop` admits everybody."""
    overload = Overload(pipeline, observing=False, make=lambda _: [Memory()])
    overload.close()
    assert left.attached
    overload.stop()
    assert not left.attached


def test_a_provider_allowed_by_host_name_is_known_good_from_its_first_delivery_on(
    pipeline: Pipeline,
) -> None:
    protection = Protection(FACTS, names=(".pool.test",))
    pipeline.reconfigure(Policy(), protection)
    overload = Overload(pipeline, observing=False, make=lambda _: [Memory()])
    overload.follow(Config(overload=Settings(submission="off")), FACTS, protection)
    moment = now()
    stamp = datetime.fromtimestamp(moment.wall, UTC).isoformat()
    lines = [
        f"{stamp} mx postfix/smtpd[{n}]: {what} from {name}[198.51.100.{n}]{more}"
        for n, name in ((1, "a.pool.test"), (2, "b.other.test"))
        for what, more in (("connect", ""), ("disconnect", " mail=1 rcpt=1 data=1 commands=3"))
    ]
    pipeline.counting.read(lines, range(len(lines)), moment, 0, 3)
    pipeline.settle(moment, ())

    async def story() -> None:
        task = asyncio.create_task(overload.run())
        for _ in range(200):
            if overload.status()[0].known:
                break
            await asyncio.sleep(0.05)
        task.cancel()
        assert overload.status()[0].known == 1

    asyncio.run(story())
    overload.close()
