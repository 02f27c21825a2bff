import sqlite3

import pytest

from throttled.errors import StoreError
from throttled.store import errors

PATH = "/var/lib/throttled/throttled.db"


def _error(code: int) -> sqlite3.Error:
    error = sqlite3.OperationalError("as SQLite says it")
    error.sqlite_errorcode = code
    return error


@pytest.mark.parametrize(
    ("code", "message", "hint"),
    [
        (sqlite3.SQLITE_FULL, "no space", "free space"),
        (sqlite3.SQLITE_READONLY, "cannot be written", "writable"),
        (sqlite3.SQLITE_READONLY_DBMOVED, "cannot be written", "writable"),
        (sqlite3.SQLITE_BUSY, "locked", "fuser"),
        (sqlite3.SQLITE_BUSY_SNAPSHOT, "locked", "fuser"),
        (sqlite3.SQLITE_LOCKED, "locked", "fuser"),
        (sqlite3.SQLITE_CORRUPT, "damaged", ".recover"),
        (sqlite3.SQLITE_NOTADB, "not a database", "Move the file"),
        (sqlite3.SQLITE_IOERR_WRITE, "read or written", "dmesg"),
        (sqlite3.SQLITE_IOERR_SHMSIZE, "no space", "free space"),
        (sqlite3.SQLITE_CANTOPEN, "opened", "/var/lib/throttled"),
        (sqlite3.SQLITE_ERROR, "does not work", "altered"),
    ],
)
def test_each_fault_has_its_own_hint(code: int, message: str, hint: str) -> None:
    error = errors.translate(_error(code), PATH)
    assert message in error.message
    assert PATH in error.message
    assert error.message.endswith(": as SQLite says it")
    assert hint in error.hint
    assert "{" not in error.message + error.hint


def test_an_error_without_a_code_is_reported_too() -> None:
    assert "does not work" in errors.translate(sqlite3.OperationalError("x"), PATH).message


def test_translated_raises_the_fault_and_keeps_the_cause() -> None:
    cause = _error(sqlite3.SQLITE_FULL)
    with pytest.raises(StoreError, match="no space") as caught, errors.Translated(PATH):
        raise cause
    assert caught.value.__cause__ is cause


def test_our_own_mistakes_surface_as_they_are() -> None:
    with pytest.raises(sqlite3.ProgrammingError), errors.Translated(PATH):
        raise sqlite3.ProgrammingError("closed")
    with pytest.raises(KeyError), errors.Translated(PATH):
        raise KeyError


def test_a_missing_directory_and_one_that_refuses_differ() -> None:
    missing = errors.uncreatable(FileNotFoundError(2, "No such file"), PATH)
    assert "/var/lib/throttled does not exist" in missing.message
    assert "mkdir" in missing.hint
    refused = errors.uncreatable(PermissionError(13, "Permission denied"), PATH)
    assert "Permission denied" in refused.message
    assert "write to /var/lib/throttled" in refused.hint


def test_versions_are_named() -> None:
    assert "version 7, this throttled knows 1" in errors.newer(PATH, 7, 1).message
    assert "version 0, this throttled needs 1" in errors.older(PATH, 0, 1).message


@pytest.mark.parametrize(
    "error", [f(PATH) for f in (errors.missing, errors.foreign, errors.gone, errors.read_only)]
)
def test_the_rest_names_the_file_and_what_to_do(error: StoreError) -> None:
    assert PATH in error.message
    assert error.hint
