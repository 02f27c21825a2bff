"""Tasks that are started and cancelled together."""

import asyncio

from throttled.service.tasks import Tasks


def test_all_are_cancelled_and_a_single_one_runs_once() -> None:
    begun: list[str] = []

    async def job() -> None:
        begun.append("job")
        await asyncio.Event().wait()

    async def short() -> None:
        begun.append("short")

    async def test() -> None:
        tasks = Tasks()
        running = tasks.spawn(job())
        tasks.spawn_single(job)
        tasks.spawn_single(job)
        await tasks.spawn(short())
        assert begun == ["job", "job", "short"]
        for _ in range(2):
            tasks.spawn_single(short)
            await asyncio.sleep(0)
            await asyncio.sleep(0)
        assert begun[3:] == ["short", "short"]
        await tasks.cancel()
        assert running.cancelled()

    asyncio.run(test())
