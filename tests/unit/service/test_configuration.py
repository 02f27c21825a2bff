"""The live configuration: what a reload takes."""

from pathlib import Path

import pytest

from throttled.errors import ConfigError
from throttled.service.configuration import LiveConfiguration, Options


def test_a_reload_reads_the_files_beside_it(tmp_path: Path) -> None:
    path, beside = tmp_path / "throttled.toml", tmp_path / "throttled.d"
    path.write_text("[limits.errors]\nhard = 60")
    live = LiveConfiguration(Options(str(path), mode="throttle"))
    assert live.config.limits["errors"].hard == 60
    beside.mkdir()
    (beside / "a.toml").write_text('mode = "observe"\n[limits.errors]\nhard = 70')
    config, kept = live.reload()
    assert (config.limits["errors"].hard, config.mode, kept) == (70, "throttle", [])
    (beside / "b.toml").write_text("\nmode = 3")
    with pytest.raises(ConfigError) as caught:
        live.reload()
    assert caught.value.message.startswith(f"not reloaded: {beside}/b.toml:2: mode = 3: must be")
    assert live.error is caught.value
    assert live.config.limits["errors"].hard == 60
