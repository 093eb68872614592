"""What can be checked of deploy/ without Docker and systemd: names, files, settings, ports and volumes."""

from __future__ import annotations

import re
import shlex
import tomllib
from pathlib import Path
from typing import Any

import typer
import yaml

from schemas.settings import CONFIG_VARIABLE, PREFIX, Settings
from schemas.settings_file import described, load
from unproxy.cli import app

ROOT = Path(__file__).resolve().parents[2]
DEPLOY = ROOT / "deploy"
COMPOSE: dict[str, Any] = yaml.safe_load((DEPLOY / "compose.yaml").read_text(encoding="utf-8"))
SERVICES: dict[str, Any] = COMPOSE["services"]
OURS = {name: service for name, service in SERVICES.items() if service["image"].startswith("unproxy:")}
UNITS = sorted((DEPLOY / "systemd").glob("*.service"))
VARIABLES = {f"{PREFIX}{section}__{key}".upper() for section, key, _, _ in described()} | {CONFIG_VARIABLE}


def _options_of(verb: str) -> set[str]:
    group: Any = typer.main.get_command(app)
    return {option for parameter in group.commands[verb].params for option in parameter.opts}


def test_compose_has_every_part() -> None:
    """Kafka, ClickHouse, two workers, a sink, Prometheus, what prepares topics and tables once, and a forwarder if wanted."""
    parts = {"kafka", "clickhouse", "topics", "migrate", "worker-1", "worker-2", "sink", "forward", "prometheus"}

    assert set(SERVICES) == parts
    assert {name for name, service in SERVICES.items() if "profiles" in service} == {"forward"}


def test_compose_sets_real_settings() -> None:
    """Each UNPROXY_* variable in the compose file is a setting, with a value that it takes."""
    for service in OURS.values():
        sections: dict[str, dict[str, str]] = {}
        for variable, value in service["environment"].items():
            assert variable in VARIABLES
            section, _, key = variable.removeprefix(PREFIX).lower().partition("__")
            sections.setdefault(section, {})[key] = str(value)
        Settings(**sections)  # type: ignore[arg-type]  # as the environment gives them


def test_units_set_real_settings() -> None:
    """Each UNPROXY_* variable in a systemd unit is a setting."""
    for unit in UNITS:
        used = set(re.findall(rf"{PREFIX}\w+", unit.read_text(encoding="utf-8")))

        assert used <= VARIABLES


def test_every_part_runs_a_verb() -> None:
    """Commands in the compose file and in the units are verbs of the command line, with options that they have."""
    commands = [service["command"] for service in OURS.values()]
    for unit in UNITS:
        (line,) = re.findall(r"^ExecStart=(.+)$", unit.read_text(encoding="utf-8"), re.MULTILINE)
        commands.append(shlex.split(line)[1:])
    for verb, *words in commands:
        assert {word for word in words if word.startswith("-")} <= _options_of(verb)


def test_topics_come_from_our_own_list() -> None:
    """Kafka makes no topic by itself; `unproxy topics --create` makes those of topics.toml."""
    assert SERVICES["topics"]["command"] == ["topics", "--create"]
    assert SERVICES["kafka"]["environment"]["KAFKA_AUTO_CREATE_TOPICS_ENABLE"] == "false"


def test_workers_share_nothing() -> None:
    """Each worker has a name and a data volume of its own, and comes back when it ends itself."""
    workers = [service for name, service in OURS.items() if name.startswith("worker")]

    assert len({worker["environment"]["UNPROXY_WORKER__NAME"] for worker in workers}) == len(workers)
    assert len({worker["volumes"][0].partition(":")[0] for worker in workers}) == len(workers)
    for worker in workers:
        assert worker["restart"] == "always"
        assert worker["volumes"][0].partition(":")[2] == worker["environment"]["UNPROXY_WORKER__DATA_DIR"]


def test_stop_is_given_its_time() -> None:
    """Docker and systemd wait longer than a worker's own graceful stop takes at most."""
    own = Settings().worker.stop_secs_max
    (unit,) = (unit for unit in UNITS if "worker" in unit.name)
    (waited,) = re.findall(r"^TimeoutStopSec=(\d+)$", unit.read_text(encoding="utf-8"), re.MULTILINE)

    assert int(waited) > own
    assert int(SERVICES["worker-1"]["stop_grace_period"].removesuffix("s")) > own


def test_volumes_and_files_exist() -> None:
    """Named volumes are declared and used; mounted files are there."""
    mounts = [mount.split(":")[0] for service in SERVICES.values() for mount in service.get("volumes", [])]
    named = {mount for mount in mounts if not mount.startswith(".")}

    assert named == set(COMPOSE["volumes"])
    assert [mount for mount in mounts if mount.startswith(".") and not (DEPLOY / mount).is_file()] == []


def test_nothing_is_open_to_the_network() -> None:
    """Published ports are on loopback, and each once."""
    ports = [port for service in SERVICES.values() for port in service.get("ports", [])]

    assert all(port.startswith("127.0.0.1:") for port in ports)
    assert len(ports) == len(set(ports))


def test_dependencies_exist() -> None:
    """Who waits for a service waits for one that there is, in a way it can fulfil."""
    for service in SERVICES.values():
        for other, wanted in service.get("depends_on", {}).items():
            healthy = wanted["condition"] == "service_healthy"

            assert "healthcheck" in SERVICES[other] if healthy else SERVICES[other]["restart"] == "on-failure"


def test_prometheus_reads_every_part() -> None:
    """The scraped host names and ports are those of workers, sink and forwarder."""
    config = yaml.safe_load((DEPLOY / "prometheus/prometheus.yml").read_text(encoding="utf-8"))
    scraped = {
        target
        for job in config["scrape_configs"]
        for part in job.get("static_configs", [])
        for target in part["targets"]
    } | {
        f"{name}:{part['port']}"
        for job in config["scrape_configs"]
        for part in job.get("dns_sd_configs", [])
        for name in part["names"]
    }
    served = {
        f"{name}:{value}"
        for name, service in OURS.items()
        for variable, value in service["environment"].items()
        if variable.endswith("__METRICS_PORT")
    }

    assert scraped == served


def test_workers_and_sink_are_asked_for_their_health() -> None:
    """Each has a health check that asks /healthz on its own metrics port."""
    for name, service in OURS.items():
        ports = [value for variable, value in service["environment"].items() if variable.endswith("__METRICS_PORT")]
        checks = service.get("healthcheck", {}).get("test", [])

        assert [f"http://127.0.0.1:{port}/healthz" in " ".join(checks) for port in ports] == [True] * len(ports), name


def test_dockerfile_copies_what_exists() -> None:
    """Each COPY from the project finds its source, past the ignore file, and every package is in the image."""
    lines = (DEPLOY / "Dockerfile").read_text(encoding="utf-8").splitlines()
    sources = [
        word for line in lines if line.startswith("COPY ") and "--from" not in line for word in line.split()[1:-1]
    ]
    allowed = (DEPLOY / "Dockerfile.dockerignore").read_text(encoding="utf-8").splitlines()
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    packages = project["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]

    assert [source for source in sources if not (ROOT / source).exists()] == []
    assert [source for source in sources if f"!{source.partition('/')[0]}" not in allowed] == []
    assert set(packages) <= set(sources)


def test_image_has_the_version() -> None:
    """Image tags follow the project's version."""
    version = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]

    assert {service["image"] for service in OURS.values()} == {f"unproxy:{version}"}


def test_example_settings_load(tmp_path: Path) -> None:
    """The example file gives the defaults, as it stands and with every comment sign before a key taken away."""
    text = (DEPLOY / "unproxy.example.toml").read_text(encoding="utf-8")
    file = tmp_path / "unproxy.toml"
    file.write_text(re.sub(r"^# (\w+ = )", r"\1", text, flags=re.MULTILINE), encoding="utf-8")

    assert load(DEPLOY / "unproxy.example.toml") == load(file) == Settings()
