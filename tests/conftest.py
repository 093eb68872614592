"""Fixtures for all rooms: one real Kafka and one real ClickHouse engine for the whole run, started when first needed.

broker               the broker: `.bootstrap`. Shared by all tests, so do not stop or kill it: start your own Broker
                     in `tmp_path` for that. It wants no login, as tests have clients of their own.
engine               the ClickHouse engine behind HTTP: `.settings(database)`, which has its login. Shared as well.
kafka_settings_for   settings_for without the engine: `kafka_settings_for(worker={"batch_messages_max": 10})`.
settings_for         Makes Settings that point at broker and engine. Topic prefix, groups, worker folders and database
                     are this test's own; topics and database exist when it returns. Sections can be given in part;
                     the same test gets the same names each time it asks.
settings             what `settings_for()` gives.
"""

from __future__ import annotations

import os
import signal
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol

import hypothesis
import pytest

from schemas.settings import PREFIX, Settings
from schemas.topics import topics
from sinks.clickhouse import connect
from unproxy.local.servers.broker import Broker, create_topics
from unproxy.local.servers.engine import Engine

NEED_ROOT = {
    "tests/producers/sensor/kernel/test_live.py": "tracefs",
    "tests/producers/sensor/http/test_live_http.py": "tracefs",
    "tests/producers/sensor/test_privileges.py": "tracefs, other users",
    "tests/live/edges/test_edges.py::test_ordinary_requests_through_real_proxies": "tracefs, other users",
}
"""What the kernel refuses in a user namespace, by the beginning of a test's id.

Only root of the machine can mount tracefs and use several user ids.
"""

SHORT = Path(__file__).with_name("schemas")
"""Where a test takes milliseconds."""

# A busy machine is no fault of the code that is tested: how long things take is for the bench.
hypothesis.settings.register_profile("unproxy", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow])
hypothesis.settings.load_profile("unproxy")


LEFT_OUT = pytest.StashKey[list[str]]()


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Sort the files and leave out what needs root of the machine, where the user is not.

    Short files come last: at the end of a run of several processes none waits for another's long one.
    """
    items.sort(key=lambda item: SHORT in item.path.parents)
    if not _is_root():
        left_out = [item for item in items if item.nodeid.startswith(tuple(NEED_ROOT))]
        items[:] = [item for item in items if item not in left_out]
        config.stash[LEFT_OUT] = [item.nodeid for item in left_out]
        if hasattr(config, "workeroutput"):  # in a process of xdist
            config.workeroutput["left_out"] = config.stash[LEFT_OUT]
        config.hook.pytest_deselected(items=left_out)


def _is_root() -> bool:
    """Return whether the user is root, and of all users: inside a user namespace only some are mapped (user_namespaces(7))."""
    return os.geteuid() == 0 and Path("/proc/self/uid_map").read_text(encoding="ascii").split() == [
        "0",
        "0",
        "4294967295",
    ]


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """Take what a worker of xdist left out, which all of them collect alike; the summary is printed here."""
    node.config.stash[LEFT_OUT] = getattr(node, "workeroutput", {}).get("left_out", [])


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Print one line that names what was left out."""
    if left_out := config.stash.get(LEFT_OUT, []):
        files = sorted({next(known for known in NEED_ROOT if test.startswith(known)) for test in left_out})
        needs = ", ".join(f"{known} ({NEED_ROOT[known]})" for known in files)
        terminalreporter.write_line(f"LEFT OUT, they need root of this machine; run them with sudo: {needs}")


class SettingsMaker(Protocol):
    """Settings of this test, with some of a section's values given."""

    def __call__(self, **sections: Mapping[str, Any]) -> Settings: ...


@pytest.fixture(scope="session", autouse=True)
def _ctrl_c_works() -> None:
    """Undo that a script which starts the tests in its background makes them, and their children, ignore SIGINT."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session", autouse=True)
def _no_settings_from_outside() -> Iterator[None]:
    """Tests never reach the servers that the developer's own settings name."""
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.upper().startswith(PREFIX)]:
            patch.delenv(name)
        yield


@pytest.fixture(scope="session")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    """The run's Kafka."""
    server = Broker(tmp_path_factory.mktemp("kafka"), login=False)
    server.start()
    yield server
    server.stop()


@pytest.fixture(scope="session")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    """The run's ClickHouse engine."""
    server = Engine(tmp_path_factory.mktemp("clickhouse"))
    server.start()
    yield server
    server.stop()


@pytest.fixture
def unique() -> str:
    """A short name that no other test has; fit for topics, groups and databases."""
    return f"t{uuid.uuid4().hex[:10]}"


@pytest.fixture
def kafka_settings_for(broker: Broker, unique: str, tmp_path: Path) -> SettingsMaker:
    """Makes settings for the run's Kafka, topics included."""

    def make(**sections: Mapping[str, Any]) -> Settings:
        own: dict[str, dict[str, Any]] = {
            "kafka": {"bootstrap": broker.bootstrap, "topic_prefix": f"{unique}-"},
            "worker": {"group": unique, "name": f"{unique}-1", "data_dir": str(tmp_path / "worker")},
            "publisher": {"state_dir": str(tmp_path / "producer")},
            "sink": {"group": f"{unique}-sink"},
        }
        for section, values in sections.items():
            own[section] = {**own.get(section, {}), **values}
        made = Settings.model_validate(own)
        create_topics(made.kafka, topics(made))
        return made

    return make


@pytest.fixture
def settings_for(kafka_settings_for: SettingsMaker, engine: Engine, unique: str) -> SettingsMaker:
    """Makes settings for the run's Kafka and engine, topics and database included."""

    def make(**sections: Mapping[str, Any]) -> Settings:
        given = engine.settings(unique).model_dump(exclude_unset=True)
        clickhouse = {**given, **sections.pop("clickhouse", {})}
        made = kafka_settings_for(clickhouse=clickhouse, **sections)
        with connect(engine.settings("")) as client:
            client.command(f"CREATE DATABASE IF NOT EXISTS `{made.clickhouse.database}`")
        return made

    return make


@pytest.fixture
def settings(settings_for: SettingsMaker) -> Settings:
    """This test's settings as they come."""
    return settings_for()


def pytest_addoption(parser: pytest.Parser) -> None:
    """`--bless` writes golden files instead of comparing with them."""
    parser.addoption("--bless", action="store_true", help="write golden files again; review the difference")
