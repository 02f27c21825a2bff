"""What of `[protect]` protects more than is ever meant."""

from throttled.health.probes.protect import check


def test_what_is_a_large_part_of_the_internet_is_named() -> None:
    networks = ["0.0.0.0/0", "198.0.0.0/8", "10.0.0.0/8", "198.51.100.7", "2001:db8::/32", "::/0"]
    names = [".com", ".example.com", "com", "mail.example.com"]
    found = list(check(networks, names))
    assert [finding.what.split()[1] for finding in found] == [
        "0.0.0.0/0",
        "198.0.0.0/8",
        "::/0",
        ".com",
    ]
    assert {finding.state for finding in found} == {"warning"}
    assert list(check(networks[2:5], names[1:])) == []
