"""What stands for a log."""

from throttled.log_paths import JOURNAL, container_journal, container_of, is_journal


def test_a_container_has_a_path_of_its_own() -> None:
    assert container_of(container_journal("mail.1")) == "mail.1"
    assert is_journal(container_journal("mail.1"))


def test_others_are_no_container() -> None:
    assert container_of(JOURNAL) == container_of("/var/log/mail.log") == ""
    assert is_journal(JOURNAL)
    assert not is_journal("/var/log/journal")
