"""Loading: any file gives a Config or a ConfigError that says where and what."""

import json
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from throttled.config import document
from throttled.config.load import load, loads, read
from throttled.config.schema import Config
from throttled.duration import duration
from throttled.errors import ConfigError
from throttled.limits import Limit, Thresholds, default_limits


def error(text: str) -> str:
    with pytest.raises(ConfigError) as caught:
        loads(text, "t.toml")
    assert caught.value.hint
    assert caught.value.exit_code == 2
    return caught.value.message


def test_nothing_gives_the_defaults() -> None:
    assert loads("", "t.toml") == Config()


def test_a_single_key_of_a_default_limit_keeps_the_rest() -> None:
    limits = loads("[limits.errors]\nhard = 100", "t.toml").limits
    assert limits == {
        **default_limits(),
        "errors": Limit(count="errors", within=duration("10m"), soft=20, hard=100),
    }


def test_a_scope_of_a_default_limit_keeps_the_rest() -> None:
    limits = loads("[limits.connections.submission]\nhard = 500", "t.toml").limits
    assert limits["connections"].submission == Thresholds(soft=120, hard=500)
    assert limits["connections"].soft == 60
    limits = loads("[limits.auth]\nmx = { soft = 3 }", "t.toml").limits
    assert limits["auth"].mx == Thresholds(soft=3)


def test_a_limit_of_ones_own() -> None:
    config = loads('[limits.mine]\ncount = "errors"\nwithin = "1h30m"\nhard = 7', "t.toml")
    assert config.limits["mine"] == Limit(count="errors", within=duration("1h30m"), hard=7)
    assert config.policy().limits == config.limits


A_TABLE = (
    "a table with count, within, of, soft, hard, share, usual, mode, mx, submission, throttle, "
    "ban_times, factor, for and enabled"
)
A_MODE = 'must be "enforce", "observe" or "throttle"'

MESSAGES = {
    "[limits.errors]\nhard = 5": (
        "t.toml:2: limits.errors.hard = 5: must be above soft, which is 20 by default: "
        "set soft too, below 5"
    ),
    "[limits.errors]\nsoft = 50": (
        "t.toml:2: limits.errors.soft = 50: must be below hard, which is 50 by default: "
        "set hard too, above 50"
    ),
    "[network]\nhard = 3": (
        "t.toml:2: network.hard = 3: must be above soft, which is 5 by default: "
        "set soft too, below 3"
    ),
    '[limits.errors.for."192.0.2.7"]\nhard = 9': (
        't.toml:2: limits.errors.for."192.0.2.7".hard = 9: must be above soft, which is 20 by '
        "default: set soft too, below 9"
    ),
    "[limits.error]\nhard = 5": (
        "t.toml:1: limits.error: no such limit; did you mean errors? One of your own needs count"
    ),
    "[limits.auth]\nmaxretry = 5": (
        "t.toml:2: limits.auth.maxretry = 5: a word of fail2ban; here it is `soft` or `hard` of a "
        "limit: [limits.auth] soft = 5"
    ),
    "mode = ": "t.toml: not TOML: Invalid value (at end of document)",
    "\n\nx = 1\nx = 2": "t.toml: not TOML: Cannot overwrite a value (at end of document)",
    "x = " + "[" * 9999: "t.toml: not TOML: nested too deeply",
    "\nmode = 'off'": f't.toml:2: mode = "off": {A_MODE}',
    "[limits.errors]\nhrad = 3": ("t.toml:2: limits.errors.hrad = 3: unknown; did you mean hard?"),
    "limits.'errors'. \"hard\" = 0": (
        "t.toml:1: limits.errors.hard = 0: must be a whole number from 1 to 8000000000"
    ),
    "network.hard = 5": (
        "t.toml:1: network.hard = 5: must be above soft, which is 5 by default: "
        "set soft too, below 5"
    ),
    "[limits.errors.mx]\nhard = 7": (
        "t.toml:2: limits.errors.mx.hard = 7: must be above soft, which is 20 by default: "
        "set soft too, below 7"
    ),
    "[[limits]]\nx = 1": f"t.toml:1: limits = [{{…}}]: must be a table, each value {A_TABLE}",
    "x.y.z.v.w = 1": f"t.toml:1: x: unknown; there are {', '.join(Config.__struct_fields__)}",
    # Text of several lines that looks like headers and keys
    "mode = '''\n[log]\n'''\n[log]\nfiles=1": (
        f't.toml:1: mode = "[log]\\n": {A_MODE}\n'
        't.toml:5: log.files = 1: must be "auto" or a list, each item an absolute path'
    ),
    "mode = '''\n[points]\na b = d'''\nmax_clients = 1": (
        "t.toml: max_clients = 1: must be a whole number from 1000 to 10000000\n"
        f't.toml:1: mode = "[points]\\na b = d": {A_MODE}'
    ),
    "mode = '''\n\"\\q\" = d'''\n": f't.toml:1: mode = "\\"\\\\q\\" = d": {A_MODE}',
}


@pytest.mark.parametrize(("text", "message"), MESSAGES.items(), ids=range(len(MESSAGES)))
def test_message(text: str, message: str) -> None:
    assert error(text) == message


def test_all_faults_of_a_file_are_reported_in_its_order() -> None:
    text = '[limits.errors]\nhard = 0\nwithin = "x"\n\n[log]\nfile = []\n[ban]\ntimes = []'
    lines = [line.partition(": ")[0] for line in error(text).splitlines()]
    assert lines == ["t.toml:2", "t.toml:3", "t.toml:6", "t.toml:8"]


def test_very_many_faults_are_cut() -> None:
    lines = error("\n".join(f"k{n} = 1" for n in range(5000))).splitlines()
    assert len(lines) == 21
    assert lines[-1] == "t.toml: and more of this kind"
    assert "and more" not in error("\n".join(f"k{n} = 1" for n in range(20)))


def test_load_reads_the_file(tmp_path: Path) -> None:
    path = tmp_path / "c.toml"
    path.write_bytes(b'\xef\xbb\xbfmode = "observe"\r\n')
    assert load(str(path)) == Config(mode="observe")


def _broken(tmp_path: Path) -> dict[str, tuple[str, str]]:
    (tmp_path / "latin").write_bytes(b"# ok\n# \xe4\n")
    (tmp_path / "big").write_bytes(b"#" * (1 << 20) + b"#")
    return {
        "absent": (f"{tmp_path}/absent", f"{tmp_path}/absent: no such file"),
        "directory": (str(tmp_path), f"{tmp_path}: is a directory"),
        "latin": (f"{tmp_path}/latin", f"{tmp_path}/latin:2: not UTF-8"),
        "big": (f"{tmp_path}/big", f"{tmp_path}/big: larger than 1048576 bytes"),
        "null": ("a\0b", "'a\\x00b': embedded null byte"),
        "below a file": (f"{tmp_path}/big/x", f"'{tmp_path}/big/x': [Errno 20] Not a directory"),
    }


@pytest.mark.parametrize("name", ["absent", "directory", "latin", "big", "null", "below a file"])
def test_a_file_that_cannot_be_read(tmp_path: Path, name: str) -> None:
    path, message = _broken(tmp_path)[name]
    with pytest.raises(ConfigError) as caught:
        load(path)
    assert caught.value.message.startswith(message)
    assert caught.value.hint


def refused(path: Path) -> ConfigError:
    """Return what another user than root gets who loads a configuration."""
    os.seteuid(65534)
    try:
        with pytest.raises(ConfigError) as caught:
            load(str(path))
    finally:
        os.seteuid(0)
    return caught.value


@pytest.mark.root
def test_permission_denied(tmp_path: Path) -> None:
    path = tmp_path / "secret.toml"
    path.touch(mode=0o600)
    error = refused(path)
    assert error.message == f"{path}: permission denied"
    assert error.hint == "run as root"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Return an empty configuration."""
    made = tmp_path / "throttled.toml"
    made.touch()
    return made


@pytest.fixture
def beside(path: Path) -> Path:
    """Return an empty directory beside it."""
    made = path.with_suffix(".d")
    made.mkdir()
    return made


def test_files_beside_it_are_read_in_order_and_the_last_counts(path: Path, beside: Path) -> None:
    path.write_text('mode = "observe"\n[limits.errors]\nhard = 60\n[protect]\nbrake = 7')
    (beside / "20-b.toml").write_text("[limits.errors]\n\nhard = 80\nsoft = 30")
    (beside / "10-a.toml").write_text('mode = "throttle"\n[limits.errors]\nhard = 70')
    (beside / ".hidden.toml").write_text("nonsense")
    (beside / "30-c.toml.dpkg-dist").write_text("nonsense")
    found = read(str(path))
    assert found.files == (str(path), str(beside / "10-a.toml"), str(beside / "20-b.toml"))
    errors = found.config.limits["errors"]
    assert (found.config.mode, errors.soft, errors.hard) == ("throttle", 30, 80)
    assert found.config.protect.brake == 7
    hard = [str(place) for place in found.places["limits", "errors", "hard"]]
    assert hard == [f"{path}:3", f"{beside}/10-a.toml:3", f"{beside}/20-b.toml:3"]


def test_errors_name_the_file_that_counts(path: Path, beside: Path) -> None:
    path.write_text("[limits.errors]\nsoft = 30\nhrad = 3")
    (beside / "a.toml").write_text("[limits.errors]\nhard = 10")
    (beside / "b.toml").write_text("mode = 3")
    with pytest.raises(ConfigError) as caught:
        load(str(path))
    assert caught.value.message.splitlines() == [
        f"{path}:3: limits.errors.hrad = 3: unknown; did you mean hard?",
        f"{beside}/b.toml:1: mode = 3: {A_MODE}",
    ]
    path.write_text("[limits.errors]\nsoft = 30")
    (beside / "b.toml").unlink()
    with pytest.raises(ConfigError) as caught:
        load(str(path))
    message = f"{path}:2: limits.errors.soft = 30: soft (30) must be below hard (10)"
    assert caught.value.message == message
    (beside / "a.toml").write_text("mode = ")
    with pytest.raises(ConfigError, match=r"/a\.toml: not TOML"):
        load(str(path))


def test_what_would_never_be_read_to_its_end_is_refused(path: Path, beside: Path) -> None:
    os.mkfifo(beside / "a.toml")
    for _ in range(2):
        with pytest.raises(ConfigError, match=r"/a\.toml: no regular file"):
            load(str(path))
        (beside / "a.toml").unlink(missing_ok=True)
        (beside / "a.toml").symlink_to("/dev/zero")
    (beside / "a.toml").unlink()
    (beside / "a.toml").symlink_to("/nonexistent")
    with pytest.raises(ConfigError, match=r"/a\.toml: no such file"):
        load(str(path))


def test_a_file_in_place_of_the_directory(path: Path) -> None:
    path.with_suffix(".d").write_text("not a directory")
    assert read(str(path)).files == (str(path),)


def test_a_directory_with_too_many_files(path: Path, beside: Path) -> None:
    for number in range(101):
        (beside / f"{number}.toml").touch()
    with pytest.raises(ConfigError, match="more than 100 files"):
        load(str(path))


@pytest.mark.root
def test_a_directory_that_cannot_be_read(path: Path, beside: Path) -> None:
    beside.chmod(0)
    path.parent.chmod(0o711)
    for parent in path.parent.parents:
        if parent.name.startswith(("pytest-", "popen-")):
            parent.chmod(0o711)
    try:
        error = refused(path)
    finally:
        beside.chmod(0o700)
    assert error.message == f"{beside}: Permission denied"


def test_the_default_file_may_be_absent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "throttled.toml"
    monkeypatch.setattr("throttled.config.load.DEFAULT_PATH", str(path))
    assert load() == Config()
    path.write_text('mode = "throttle"')
    assert load().mode == "throttle"


def test_the_default_file_uncommented_is_the_default() -> None:
    text = document.default_file()
    assert loads(text, "as it is") == Config()
    settings = [line.removeprefix("#") if line[1:2] != " " else line for line in text.splitlines()]
    assert loads("\n".join(settings), "uncommented") == Config()


# Any document gives a Config or a ConfigError

WORDS = sorted({word for name in Config.__struct_fields__ for word in [name, *(
    getattr(getattr(Config(), name), "__struct_fields__", ())
)]} | set(Limit.__struct_encode_fields__) | set(default_limits()))  # fmt: skip

text_values = st.text(st.characters(exclude_categories=["Cs"])) | st.sampled_from(
    ["auto", "10m", "0s", "1h30m", "9" * 400 + "d", "errors", "mx", "/a", "/a\0", "198.51.100.0/24"]
)
keys = st.sampled_from(WORDS) | text_values
values: st.SearchStrategy[Any] = st.recursive(
    st.booleans()
    | st.integers()
    | st.integers(-5, 700)
    | st.floats()
    | text_values
    | st.dates()
    | st.datetimes(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(keys, inner, max_size=6),
    max_leaves=25,
)


def emit(value: Any) -> str:
    """Write TOML on one line, whatever the schema thinks of it."""
    match value:
        case bool():
            return str(value).lower()
        case str():
            return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
        case list():
            return f"[{', '.join(map(emit, value))}]"
        case dict():
            return f"{{ {', '.join(f'{emit(k)} = {emit(v)}' for k, v in value.items())} }}"
        case _:
            return str(value)


def outcome(text: str) -> str:
    """Return the message of the error, "" where there is none; any other error is a failure."""
    try:
        return "" if isinstance(loads(text, "t.toml"), Config) else "?"
    except ConfigError as error:
        return error.message


@given(st.dictionaries(keys, values, max_size=8))
@example({"max_clients": 2**70, "limits": {"x": {"soft": -(2**70)}}})
@example({"limits": {"errors": {"mx": 3, "submission": {"hard": 2}}}})
@example({"firewall": {"ports": "auto", "size": 1000}})
def test_any_document_gives_a_config_or_a_config_error(table: dict[str, Any]) -> None:
    message = outcome("\n".join(f"{emit(key)} = {emit(value)}" for key, value in table.items()))
    assert "not TOML" not in message  # the documents made here are TOML
    assert not message or message.startswith("t.toml:")
    assert all(line.startswith("t.toml:") for line in message.splitlines())
    assert all(line.isprintable() for line in message.split("\n"))


@given(st.text())
@example("a=1" + "0" * 5000)
@example("a=0x" + "f" * 5000)
@example(f"{'a.' * 900}b = 1")
@example("'\ud800' = 1")
def test_any_text_gives_a_config_or_a_config_error(text: str) -> None:
    message = outcome(text)
    assert not message or message.startswith("t.toml:")


@given(st.data())
def test_the_default_file_damaged(data: st.DataObject) -> None:
    text = document.default_file().replace("\n#", "\n")
    start = data.draw(st.integers(0, len(text)))
    end = data.draw(st.integers(start, min(len(text), start + 20)))
    assert outcome(text[:start] + data.draw(st.text(max_size=5)) + text[end:]) != "?"
