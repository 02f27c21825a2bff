"""The journal of a main.cf."""

from pathlib import Path

import pytest

from throttled.errors import HostError
from throttled.host import changes
from throttled.host.changes import Change, Journal, Outcome, Setting


def change(outcome: Outcome = "applied") -> Change:
    setting = Setting("smtpd_timeout", None, "9s")
    return Change(0, 1.5, "root", outcome, [setting], b"old\xff", b"new")


def test_what_is_written_is_read(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "postfix", "/etc/postfix")
    assert journal.load().changes == []
    journal.add(change("begun"))
    journal.add(change())
    again = Journal(tmp_path / "postfix", "/etc/postfix").load()
    assert again.changes == journal.changes
    assert [one.number for one in again.changes] == [1, 2]
    assert (again.pending(), again.latest("set")) == ([again.changes[0]], again.changes[1])
    assert again.latest("another") is None
    other = Journal(tmp_path / "postfix", "/etc/postfix-out").load()
    assert (other.pending(), other.latest("set")) == ([], None)
    (path,) = (tmp_path / "postfix").iterdir()
    assert path.stat().st_mode & 0o777 == 0o600


def test_the_oldest_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(changes, "CHANGES", 2)
    journal = Journal(tmp_path, "/etc/postfix")
    for _ in range(3):
        journal.add(change())
    assert [one.number for one in journal.load().changes] == [2, 3]


@pytest.mark.parametrize("text", ["", "[{}]", "\xff"])
def test_a_damaged_one_is_an_error(tmp_path: Path, text: str) -> None:
    journal = Journal(tmp_path, "/p")
    journal.save()
    (path,) = tmp_path.iterdir()
    path.write_text(text)
    with pytest.raises(HostError, match="unreadable"):
        journal.load()


def test_one_that_others_can_write_is_not_believed(tmp_path: Path) -> None:
    journal = Journal(tmp_path, "/p")
    journal.save()
    (path,) = tmp_path.iterdir()
    path.chmod(0o666)
    with pytest.raises(HostError, match="not root's"):
        journal.load()
    path.unlink()
    path.symlink_to("elsewhere")
    with pytest.raises(HostError):
        journal.load()


def test_one_that_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "postfix").write_text("no directory")
    with pytest.raises(HostError):
        Journal(tmp_path / "postfix", "/p").save()
