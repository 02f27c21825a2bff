"""The recipes of docs/notifications.md, as they stand there, against a local server."""

import asyncio
import re
from pathlib import Path
from typing import Any

import pytest

from lab.programs import http_sink, smtp_sink
from throttled.config.load import loads
from throttled.config.schema import Notify
from throttled.model import Decision
from throttled.notify.hook import Hook

PAGE = Path(__file__).parents[3] / "docs/notifications.md"
#: By heading.
RECIPES = {
    section.partition("\n")[0]: block[1]
    for section in re.split(r"^##+ ", PAGE.read_text(), flags=re.MULTILINE)
    if (block := re.search(r"```toml\n(.*?)^```", section, re.MULTILINE | re.DOTALL))
}
#: What a client wrote, in a host name and as text of an event.
EVIL = '"$(touch /tmp/x)`id`\\"; \n\x1b[31m é'


def settings(recipe: str, tmp_path: Path, url: str) -> Notify:
    """Return a recipe's [notify] with this test's server and secrets."""
    (tmp_path / "slack.url").write_text(f"{url}/services/T/B/x\n")
    (tmp_path / "matrix.token").write_text("secret\n")
    (tmp_path / "telegram.token").write_text("1:secret\n")
    text = re.sub(r"https://[a-z.]+", url, RECIPES[recipe])
    return loads(text.replace("/etc/throttled", str(tmp_path)), "recipe").notify


def send(notify: Notify) -> None:
    """Send an alert whose text a client wrote, and the test message."""
    hook = Hook(notify)
    hook.decided([Decision(1.0, "ban", "198.51.100.7", "mx", "x", 1, 2.0, "", alert=EVIL)])
    message = hook._command.drain({})
    if notify.command:
        assert asyncio.run(hook._run_command(message)) == ""
    assert asyncio.run(hook.test())


@pytest.mark.parametrize(
    ("recipe", "method", "path", "key", "more"),
    [
        ("Slack", "POST", r"/services/T/B/x", "text", {}),
        (
            "Matrix",
            "PUT",
            r"/_matrix/client/v3/rooms/%21room%3Aexample.org/send/m.room.message/\d+",
            "body",
            {"msgtype": "m.notice"},
        ),
        ("ntfy", "POST", "/", "message", {"topic": "mail-server"}),
        ("Telegram", "POST", "/bot1:secret/sendMessage", "text", {"chat_id": 123456}),
    ],
)
def test_a_chat_gets_its_json(  # noqa: PLR0913, PLR0917 - what differs between them
    tmp_path: Path, recipe: str, method: str, path: str, key: str, more: dict[str, Any]
) -> None:
    with http_sink.serve() as (url, received):
        send(settings(recipe, tmp_path, url))
    first, test = received
    assert first.method == test.method == method
    assert re.fullmatch(path, first.path)
    assert first.kind == "application/json"
    assert (first.authorization == "Bearer secret") == (recipe == "Matrix")
    assert first.body[key].endswith(EVIL)
    assert test.body[key].endswith("test of notifications: throttled works")
    assert more.items() <= test.body.items()
    assert set(test.body) - {key, *more} <= {"title"}


def test_a_webhook_and_mail(tmp_path: Path) -> None:
    with http_sink.serve() as (url, received):
        send(settings("Webhook", tmp_path, url))
    assert received[0].body["counts"] == {"test": 1}
    with smtp_sink.serve() as sink:
        send(loads(f'{RECIPES["Mail"]}smtp = "{sink.address}"\n', "recipe").notify)
    assert sink.mails[0].recipients == ["postmaster"]


def test_a_recipe_whose_server_refuses_is_an_error(tmp_path: Path) -> None:
    with http_sink.serve() as (url, _):
        notify = settings("ntfy", tmp_path, url)
    hook = Hook(notify)
    hook._command.add({"event": "alert", "text": "x"})
    assert "ended with" in asyncio.run(hook._run_command(hook._command.drain({})))


def test_every_recipe_is_a_configuration() -> None:
    assert {"Mail", "Webhook", "Command", "Slack", "Matrix", "ntfy", "Telegram"} <= set(RECIPES)
    for text in RECIPES.values():
        loads(text, "recipe")
