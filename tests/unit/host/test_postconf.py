"""The real postconf on real configurations."""

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lab.mail.maincf import configure, settle
from throttled.errors import HostError
from throttled.host import postconf
from throttled.host.postconf import Entry, split

MASTER = """\
smtp       inet  n  -  y  -  1  postscreen
smtpd      pass  -  -  y  -  -  smtpd -v
# a comment
submission inet  n  -  y  -  -  smtpd
  -o syslog_name=postfix/$service_name
  -o { smtpd_client_restrictions = $mua_client_restrictions }
  -o smtpd_tls_wrappermode=yes
[::1]:10025 inet n  -  y  -  -  /usr/lib/postfix/sbin/smtpd
pickup     unix  n  -  y  60 1  pickup
"""


def test_an_instance(tmp_path: Path) -> None:
    directory = configure(
        tmp_path,
        "multi_instance_name = postfix-x\n"
        "mua_client_restrictions = permit_sasl_authenticated,\n  reject\n"
        "net = 198.51.100.0/24\n"
        "mynetworks = $net,\n  [::1]/128",
        MASTER,
    )
    instance = postconf.read(directory)
    assert instance.directory == directory
    assert instance.mynetworks_given
    assert instance.parameters["mynetworks"] == "198.51.100.0/24, [::1]/128"
    assert instance.parameters["myhostname"] == "m.example.com"
    assert set(instance.parameters) == set(postconf.PARAMETERS)
    assert [(e.name, e.kind, e.process, e.mua) for e in instance.entries] == [
        ("smtp", "inet", "postscreen", False),
        ("smtpd", "pass", "smtpd", False),
        ("submission", "inet", "smtpd", True),
        ("[::1]:10025", "inet", "smtpd", False),
        ("pickup", "unix", "pickup", False),
    ]
    screen, _, submission, *_ = instance.entries
    assert screen.parameters["syslog_name"] == "postfix-x"
    assert submission.parameters["syslog_name"] == "postfix/submission"
    assert submission.parameters["smtpd_tls_wrappermode"] == "yes"
    assert submission.parameters["smtpd_client_restrictions"] == "permit_sasl_authenticated, reject"


def test_mynetworks_of_postfix_itself_is_distinguished_from_a_given_one(
    tmp_path: Path,
) -> None:
    instance = postconf.read(configure(tmp_path, "mynetworks_style = host"))
    assert not instance.mynetworks_given
    assert "127.0.0.1/32" in instance.parameters["mynetworks"]
    assert instance.entries == ()


@pytest.mark.parametrize(
    ("main", "master", "message"),
    [
        ("nonsense", "", "missing '=' after attribute name: \"nonsense\""),
        ("", "smtp foo n - y - - smtpd", 'invalid type field "foo"'),
        ("", "smtp inet", "bad field count"),
    ],
)
def test_a_broken_configuration(tmp_path: Path, main: str, master: str, message: str) -> None:
    directory = configure(tmp_path, main, master)
    with pytest.raises(HostError) as caught:
        postconf.read(directory)
    assert message in caught.value.message
    assert directory in caught.value.message


def test_a_postconf_that_prints_something_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "postconf"
    program.write_text("#!/bin/sh\necho ok\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    with pytest.raises(HostError, match="not a service: 'ok'"):
        postconf.read(str(tmp_path))


def test_warnings_of_postconf_do_no_harm(tmp_path: Path) -> None:
    directory = configure(
        tmp_path, "unused = 1", "smtp inet n - y - - smtpd\n -o strange=$undefined"
    )
    [entry] = postconf.read(directory).entries
    assert isinstance(entry, Entry)
    assert entry.parameters["strange"] == ""


def test_an_absent_configuration(tmp_path: Path) -> None:
    with pytest.raises(HostError, match="No such file or directory"):
        postconf.read(str(tmp_path))


def test_directories_of_the_postfix_installed_here() -> None:
    assert postconf.directories()[0] == "/etc/postfix"


def test_directories_of_other_instances(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a postconf in front of the real one, whose default directory is the test's."""
    (tmp_path / "main.cf").write_text(
        "compatibility_level = 3.6\nmulti_instance_directories = /a/one, /a/two\n"
    )
    (tmp_path / "master.cf").touch()
    settle(tmp_path / "main.cf")
    wrapper = tmp_path / "postconf"
    wrapper.write_text(f'#!/bin/sh\nMAIL_CONFIG={tmp_path} exec /usr/sbin/postconf "$@"\n')
    wrapper.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    assert postconf.directories() == (str(tmp_path), "/a/one", "/a/two")


@pytest.mark.parametrize(
    ("value", "items"),
    [
        ("", []),
        (" a, b\tc,,d\n", ["a", "b", "c", "d"]),
        ("inline:{ {a = b, c}, d=e } x", ["inline:{ {a = b, c}, d=e }", "x"]),
        ("a} b", ["a}", "b"]),
        ("{a b", ["{a b"]),
    ],
)
def test_split(value: str, items: list[str]) -> None:
    assert split(value) == items


@given(st.text("a {},\t"))
def test_split_loses_nothing(value: str) -> None:
    assert "".join(split(value)).replace(" ", "").replace(",", "").replace("\t", "") == (
        value.replace(" ", "").replace(",", "").replace("\t", "")
    )
