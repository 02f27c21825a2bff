"""`list`: what is asked for and is not there."""

import pytest

from throttled.errors import UsageError
from throttled.operator.list import refuse_unknown_limit


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("autj", "did you mean auth? limits: auth, errors, network, operator, ladder, adopted"),
        ("xyz", "limits: auth, errors, network, operator, ladder, adopted"),
    ],
)
def test_the_name_of_a_limit_that_there_is_not(name: str, hint: str) -> None:
    with pytest.raises(UsageError) as caught:
        refuse_unknown_limit(name, ["errors", "auth"])
    assert caught.value.hint == hint
    refuse_unknown_limit("operator", [])
