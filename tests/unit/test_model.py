from typing import Literal

import pytest

from throttled.model import Finding


@pytest.mark.parametrize(("state", "label"), [("fault", "error"), ("warning", "warning")])
def test_the_label_of_a_finding(state: Literal["fault", "warning"], label: str) -> None:
    assert Finding(state, "disk").label == label
