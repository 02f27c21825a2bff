from lab.machine.databases import databases  # noqa: F401 - a fixture
