"""The mode is changed where it was written, and nothing else."""

from pathlib import Path

import pytest

from throttled.config.load import loads
from throttled.config.mode import write
from throttled.errors import ConfigError, NotPermittedError

DEFAULT = Path(__file__).parents[3] / "packaging/throttled.toml"


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ('mode = "observe" # first\n[ban]\n', 'mode = "enforce" # first\n[ban]\n'),
        ("  mode='throttle'\r\n", '  mode="enforce"\r\n'),
        ('# a\n#mode = "enforce"\n[limits.x]\nmode = "report"\n', None),
        ("[ban]\n", 'mode = "enforce"\n[ban]\n'),
        ("", 'mode = "enforce"\n'),
    ],
)
def test_only_its_line_changes(tmp_path: Path, before: str, after: str | None) -> None:
    path = tmp_path / "throttled.toml"
    path.write_bytes(before.encode())
    path.chmod(0o640)
    written = write(str(path), "enforce")
    expected = after or '# a\nmode = "enforce"\n[limits.x]\nmode = "report"\n'
    assert path.read_bytes().decode() == expected
    assert path.stat().st_mode & 0o777 == 0o640
    written.undo()
    assert path.read_bytes().decode() == before


def test_the_packaged_file(tmp_path: Path) -> None:
    path = tmp_path / "throttled.toml"
    path.write_text(DEFAULT.read_text())
    write(str(path), "observe")
    assert loads(path.read_text(), "x").mode == "observe"
    assert path.read_text().count("\n") == DEFAULT.read_text().count("\n")
    write(str(path), "enforce")
    assert loads(path.read_text(), "x").mode == "enforce"


def test_the_file_that_counts_last_is_changed(tmp_path: Path) -> None:
    path = tmp_path / "throttled.toml"
    path.write_text('mode = "throttle"\n')
    beside = tmp_path / "throttled.d"
    beside.mkdir()
    for name, text in (("a.toml", 'mode = "observe"\n'), ("b.toml", ""), (".c.toml", "mode = 1")):
        (beside / name).write_text(text)
    assert write(str(path), "enforce").path == beside / "a.toml"
    assert path.read_text() == 'mode = "throttle"\n'
    assert (beside / "a.toml").read_text() == 'mode = "enforce"\n'


def test_a_link_stays_one_and_a_file_that_was_not_there_goes_again(tmp_path: Path) -> None:
    real, link = tmp_path / "real.toml", tmp_path / "throttled.toml"
    real.write_text("")
    link.symlink_to(real)
    write(str(link), "throttle")
    assert link.is_symlink()
    assert real.read_text() == 'mode = "throttle"\n'
    new = tmp_path / "new.toml"
    written = write(str(new), "observe")
    assert new.read_text() == 'mode = "observe"\n'
    written.undo()
    assert not new.exists()


def test_what_cannot_be_changed_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "throttled.toml"
    for text in ("mode = \n", '"mode" = "observe"\n', 'x = """\nmode = "observe"\n"""\n'):
        path.write_text(text)
        with pytest.raises(ConfigError):
            write(str(path), "enforce")
        assert path.read_text() == text
    assert [each.name for each in tmp_path.iterdir()] == ["throttled.toml"]
    path.write_bytes(b"\xff")
    with pytest.raises(ConfigError):
        write(str(path), "enforce")
    with pytest.raises(ConfigError):
        write(str(tmp_path / "no" / "x.toml"), "enforce")

    def refuse(*_: object) -> bytes:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "read_bytes", refuse)
    with pytest.raises(NotPermittedError):
        write(str(path), "enforce")
