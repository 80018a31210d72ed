"""The public door: ``duanti.__all__``."""

import duanti


def test_exported_members_are_sorted_and_exist() -> None:
    assert duanti.__all__ == sorted(duanti.__all__)
    assert len(duanti.__all__) > 10
    assert all(getattr(duanti, name).__module__.startswith("duanti.") for name in duanti.__all__)


def test_every_exported_member_has_a_docstring() -> None:
    assert [name for name in duanti.__all__ if not getattr(duanti, name).__doc__] == []


def test_an_unknown_member_is_an_attribute_error() -> None:
    assert not hasattr(duanti, "nothing_of_the_kind")
