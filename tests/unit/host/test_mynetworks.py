"""What real values of mynetworks mean, as postconf, postmap and Postfix's documentation have it."""

import subprocess
from ipaddress import ip_address, ip_network
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from lab.mail.maincf import configure, settle
from lab.network.netns import namespace
from throttled.host import postconf
from throttled.host.mynetworks import authorised, networks
from throttled.host.postconf import Instance


def trusted(value: str, *, given: bool = True, style: str = "host") -> tuple[list[str], list[str]]:
    parameters = {"mynetworks": value, "mynetworks_style": style}
    found, warnings = networks(Instance("/etc/postfix", parameters, given, ()))
    prefix = "mynetworks of /etc/postfix: "
    assert all(warning.startswith(prefix) for warning in warnings)
    return found, [warning.removeprefix(prefix) for warning in warnings]


@pytest.mark.parametrize(
    ("value", "found"),
    [
        ("", []),
        ("127.0.0.0/8 [::ffff:127.0.0.0]/104 [::1]/128", ["127.0.0.0/8", "::1"]),
        ("198.51.100.0/24, 203.0.113.7", ["198.51.100.0/24", "203.0.113.7"]),
        ("[2001:DB8:0::]/32 [2001:db8:1::5]", ["2001:db8::/32", "2001:db8:1::5"]),
        ("198.51.100.9/24", ["198.51.100.0/24"]),
        ("10.0.0.0/8 172.16.0.0/12 [fc00::]/7", ["10.0.0.0/8", "172.16.0.0/12", "fc00::/7"]),
        ("198.51.100.7 198.51.100.7", ["198.51.100.7"]),
        ("!198.51.100.0/25 198.51.100.0/24", ["198.51.100.128/25"]),
        ("!!198.51.100.7", ["198.51.100.7"]),
        ("!198.51.100.7 198.51.100.6/31 203.0.113.1", ["198.51.100.6", "203.0.113.1"]),
        ("198.51.100.6/31 !198.51.100.7", ["198.51.100.6/31"]),  # the first match decides
        ("!198.51.100.0/24 198.51.100.7", []),
        ("![::]/0 198.51.100.7 [2001:db8::1]", ["198.51.100.7"]),
        ("!2001:db8::1", []),
    ],
)
def test_networks(value: str, found: list[str]) -> None:
    result, warnings = trusted(value)
    assert result == found
    assert bool(warnings) is (value == "!2001:db8::1")  # without brackets it is a table


def test_what_is_cut_out_leaves_the_rest() -> None:
    result, _ = trusted("!198.51.100.7 !198.51.100.64/26 198.51.100.0/24")
    rest = [ip_network(text) for text in result]
    inside = [n for n in range(256) if any(ip_address(f"198.51.100.{n}") in net for net in rest)]
    assert inside == [n for n in range(256) if n != 7 and not 64 <= n < 128]


@pytest.mark.parametrize("value", ["0.0.0.0/0", "[::]/0", "198.0.0.0/8", "[2001:db8::]/31"])
def test_too_wide_to_be_meant(value: str) -> None:
    result, [warning] = trusted(f"{value} 203.0.113.7")
    assert result == ["203.0.113.7"]
    assert warning.endswith("is wider than plausible, and is not protected")


def test_a_network_that_postfix_derived_may_not_be_wide_at_all() -> None:
    result, [warning] = trusted("127.0.0.0/8 10.0.0.0/8 10.1.0.0/16", given=False, style="class")
    assert result == ["127.0.0.0/8", "10.1.0.0/16"]
    assert warning == "10.0.0.0/8 is wider than plausible, and is not protected"


def test_a_public_network_that_postfix_derived_is_reported() -> None:
    value = "203.0.113.7/32 192.168.0.0/24 [fe80::]/64 198.51.100.0/24 [2001:db8::]/64"
    result, warnings = trusted(value, given=False, style="subnet")
    assert result == [
        "203.0.113.7", "192.168.0.0/24", "fe80::/64", "198.51.100.0/24", "2001:db8::/64",
    ]  # fmt: skip
    assert warnings == [
        "198.51.100.0/24 comes from mynetworks_style=subnet: other hosts may be in it",
        "2001:db8::/64 comes from mynetworks_style=subnet: other hosts may be in it",
    ]
    assert trusted("198.51.100.0/24")[1] == []


@pytest.mark.root
@pytest.mark.parametrize(
    ("style", "found"),
    [
        ("host", ["127.0.0.1", "198.51.100.7", "2001:db8::7", "::1"]),
        ("subnet", ["127.0.0.0/8", "198.51.100.0/24", "2001:db8::/64", "::1"]),
    ],
)
def test_styles_as_postconf_derives_them(tmp_path: Path, style: str, found: list[str]) -> None:
    directory = configure(tmp_path, f"mynetworks_style = {style}")
    with namespace("mynetworks") as host:
        for address in ("198.51.100.7/24", "2001:db8::7/64"):
            host.run("ip", "address", "add", address, "dev", "lo")
        result, warnings = networks(host.call(postconf.read, directory))
    assert sorted(result) == found
    assert len(warnings) == (2 if style == "subnet" else 0)


def test_files_of_patterns(tmp_path: Path) -> None:
    inner = tmp_path / "inner"
    inner.write_text("203.0.113.8\n!203.0.113.0/24\n")
    outer = tmp_path / "outer"
    outer.write_text(f"# a comment\n\n198.51.100.0/24, [::1]/128\n  # more\n{inner}\nnonsense\n")
    result, [warning] = trusted(f"{outer} 203.0.113.9 198.18.0.1")
    assert result == ["198.51.100.0/24", "::1", "203.0.113.8", "198.18.0.1"]
    assert warning == "nonsense: not an IP address: 'nonsense'"
    result, _ = trusted(f"!{inner} 203.0.113.9")
    assert "203.0.113.9/32" not in result  # not not in the file: its whole network is in …
    assert "203.0.113.128/25" in result
    assert "203.0.113.8" not in result  # … but for what the file has


def test_a_file_that_names_itself(tmp_path: Path) -> None:
    loop = tmp_path / "loop"
    loop.write_text(f"198.51.100.7 {loop}\n")
    result, [warning] = trusted(str(loop))
    assert result == ["198.51.100.7"]
    assert warning == f"{loop}: files nested too deeply"


def test_cidr_tables(tmp_path: Path) -> None:
    table = tmp_path / "nets.cidr"
    table.write_text(
        "# comment\n198.51.100.0/24  OK\n   goes on 203.0.113.1\n2001:db8::/32 x\n"
        "!10.0.0.0/8 no\nif 172.16.0.0/12\n172.16.5.0/24 yes\nendif\n[::1]/128 OK\n"
    )
    result, warnings = trusted(f"cidr:{table} proxy:cidr:{table}")
    assert result == ["198.51.100.0/24", "2001:db8::/32", "172.16.5.0/24", "::1"]
    assert [warning.split(": ")[1] for warning in warnings[:3]] == [
        "!10.0.0.0/8 no", "if 172.16.0.0/12", "endif",
    ]  # fmt: skip


@pytest.mark.parametrize("kind", ["hash", "btree", "texthash"])
def test_tables_of_addresses(tmp_path: Path, kind: str) -> None:
    table = tmp_path / "table"
    table.write_text("198.51.100.7 x\n2001:db8::7 x\n198.51.100 x\n203.0.113.0/24 x\nhost x\n")
    if kind != "texthash":
        subprocess.run(["postmap", f"{kind}:{table}"], check=True)
    settle(table)
    result, warnings = trusted(f"{kind}:{table}")
    assert sorted(result) == ["198.51.100.7", "2001:db8::7"]  # only these Postfix would match
    assert warnings == []


def test_inline_tables() -> None:
    result, warnings = trusted("inline:{ {198.51.100.7 = a, b}, 203.0.113.7=c } 198.18.0.1")
    assert sorted(result) == ["198.18.0.1", "198.51.100.7", "203.0.113.7"]
    assert warnings == []


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("mysql:/etc/postfix/nets.cf", "cannot be listed; see [protect] networks"),
        ("cidr:{{198.51.100.0/24 OK}}", "cannot be listed"),
        ("static:all", "cannot be listed"),
        ("/no/such/file", "No such file or directory"),
        ("cidr:/no/such/file", "No such file or directory"),
        ("!/no/such/file", "No such file or directory"),
        ("hash:/no/such/file", "open database /no/such/file.db: No such file or directory"),
        ("198.51.100.0/33", "prefix length out of range: '33'"),
        ("[198.51.100.0/24", ""),
        ("$undefined", "not an IP address"),
        (".example.com", "not an IP address"),
        ("proxy:" * 9 + "hash:/x", "too deeply"),
    ],
)
def test_what_cannot_be_read_spoils_nothing_else(value: str, expected: str) -> None:
    result, warnings = trusted(f"203.0.113.1 {value} 203.0.113.2")
    assert {"203.0.113.1", "203.0.113.2"} <= set(result)
    assert expected in "".join(warnings)
    assert len(warnings) == bool(expected)


def test_caps(tmp_path: Path) -> None:
    many = tmp_path / "many"
    many.write_text("\n".join(f"10.{n // 256}.{n % 256}.1" for n in range(2000)))
    result, [warning] = trusted(str(many))
    assert len(result) == 1024
    assert warning == "has more than 1024 networks; the rest is not protected"
    many.write_text("\n".join(f"!10.{n // 256}.{n % 256}.1" for n in range(2000)) + " 10.0.0.0/8")
    assert "has more than 1024 networks; the rest is not protected" in trusted(str(many))[1]
    many.write_text("junk\n" * 2000)
    assert len(trusted(str(many))[1]) == 20


@given(
    st.text("0123456789.:![]{}, ax", max_size=40)
    | st.lists(
        st.sampled_from(("198.51.100.", "7", "/32", "2001:db8::", "!", "[", "]", "{", "}", ", ")),
        max_size=8,
    ).map("".join)
)
@example("198.51.100.7, [2001:db8::]/32 !198.51.100.7")
def test_any_text_gives_networks_and_warnings(value: str) -> None:
    for network in trusted(value)[0]:
        ip_network(network)


def test_the_hosts_of_another_parameter(tmp_path: Path) -> None:
    name = "smtpd_authorized_xclient_hosts"
    directory = configure(
        tmp_path,
        f"mynetworks = 203.0.113.0/24\n{name} = $mynetworks, 127.0.0.1",
        f"smtp inet n - y - - smtpd\n26 inet n - y - - smtpd -o {name}=198.51.100.7,mx.example\n"
        f"smtp unix - - y - - smtp -o {name}=198.51.100.8",
    )
    found, [warning] = authorised(postconf.read(directory), name)
    assert found == ["203.0.113.0/24", "127.0.0.1", "198.51.100.7"]
    assert warning.startswith(f"{name} of {directory}: mx.example: ")
    assert authorised(postconf.read(directory), "smtpd_authorized_xforward_hosts") == ([], [])
