"""What can be checked of deploy/ without Docker and systemd: names, files, settings, ports and volumes."""

from __future__ import annotations

import hashlib
import os
import re
import shlex
import shutil
import subprocess
import tomllib
from pathlib import Path, PurePosixPath
from typing import Any

import pytest
import typer
import yaml

from schemas.settings import CONFIG_VARIABLE, PREFIX, Settings
from schemas.settings_file import described, load
from unproxy.cli import app
from unproxy.kafka.acls import roles

ROOT = Path(__file__).resolve().parents[2]
DEPLOY = ROOT / "deploy"
COMPOSE: dict[str, Any] = yaml.safe_load((DEPLOY / "compose.yaml").read_text(encoding="utf-8"))
SERVICES: dict[str, Any] = COMPOSE["services"]
OURS = {name: service for name, service in SERVICES.items() if service["image"].startswith("unproxy:")}
UNITS = sorted((DEPLOY / "systemd").glob("*.service"))
PREPARE = DEPLOY / "prepare.sh"
VARIABLES = {f"{PREFIX}{section}__{key}".upper() for section, key, _, _ in described()} | {CONFIG_VARIABLE}


def _options_of(verb: str) -> set[str]:
    group: Any = typer.main.get_command(app)
    return {option for parameter in group.commands[verb].params for option in parameter.opts}


def test_compose_has_every_part() -> None:
    """Kafka, ClickHouse, two workers, a sink, Prometheus, what prepares topics and tables once, and a forwarder if wanted."""
    once = {"acls", "topics", "migrate"}
    parts = {"kafka", "clickhouse", "worker-1", "worker-2", "sink", "forward", "prometheus"}

    assert set(SERVICES) == once | parts
    assert {name for name, service in SERVICES.items() if "profiles" in service} == {"forward"}


def test_compose_sets_real_settings() -> None:
    """Each UNPROXY_* variable in the compose file is a setting, with a value that it takes."""
    for service in OURS.values():
        sections: dict[str, dict[str, str]] = {}
        for variable, value in service["environment"].items():
            assert variable in VARIABLES
            if str(value).startswith("${"):
                continue
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
        # Its lock is beside its folder, and it renames that: both must be on the volume.
        data = PurePosixPath(worker["environment"]["UNPROXY_WORKER__DATA_DIR"])
        assert worker["volumes"][0].partition(":")[2] == str(data.parent)


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


@pytest.mark.parametrize("name", SERVICES)
def test_containers_are_confined(name: str) -> None:
    """Their own files are read-only, no right of root is left or to be had, and memory and processes have an end."""
    service = SERVICES[name]

    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service.keys().isdisjoint({"privileged", "cap_add", "devices", "pid", "ipc", "userns_mode"})
    assert service["mem_limit"]
    assert service["pids_limit"]
    assert not any("docker.sock" in mount for mount in service.get("volumes", []))


def test_images_are_named_by_digest() -> None:
    """What is not built here is named by a variable without a default, which deploy/prepare.sh fills with a digest."""
    pinned = set(re.findall(r"^ +pin (\w+) [\w./-]+:\S+$", PREPARE.read_text(encoding="utf-8"), re.MULTILINE))
    images = {service["image"] for name, service in SERVICES.items() if name not in OURS}
    images |= {service["build"]["args"]["PYTHON_IMAGE"] for service in OURS.values()}
    froms = re.findall(r"^FROM (\S+)", (DEPLOY / "Dockerfile").read_text(encoding="utf-8"), re.MULTILINE)

    assert images == {f"${{{name}:?run deploy/prepare.sh}}" for name in pinned}
    assert froms == ["${PYTHON_IMAGE}", "${PYTHON_IMAGE}"]


def test_image_is_built_from_what_is_locked() -> None:
    """Pip takes nothing without a hash, runs no setup of a source, and what runs later is not root."""
    text = (DEPLOY / "Dockerfile").read_text(encoding="utf-8").replace("\\\n", " ")
    commands = [part.strip() for run in re.findall(r"^RUN (.+)$", text, re.MULTILINE) for part in run.split("&&")]
    pips = [command for command in commands if "/pip " in command]

    assert len(pips) == 4
    for pip in pips:
        hashed = {"--require-hashes", "--only-binary"} <= set(pip.split())
        assert hashed or {"--no-deps", "--no-build-isolation"} <= set(pip.split()) or "--no-index" in pip
    assert re.findall(r"^USER (\S+)$", text, re.MULTILINE)[-1:] == ["unproxy"]


def test_no_password_gets_into_the_image() -> None:
    """The files that hold them are left out after everything that is let in."""
    lines = (DEPLOY / "Dockerfile.dockerignore").read_text(encoding="utf-8").splitlines()

    assert lines.index("deploy/*.env") > lines.index("!deploy")


def test_prepare_writes_what_compose_asks_for(tmp_path: Path) -> None:
    """Passwords once, by chance, with the hashes that ClickHouse is given; digests each time, as docker prints them."""
    script = Path(shutil.copy(PREPARE, tmp_path))
    docker = tmp_path / "docker"
    docker.write_text(f"#!/bin/sh\n[ $1 = pull ] || echo some/image@sha256:{64 * 'a'}\n", encoding="utf-8")
    docker.chmod(0o755)
    environment = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    subprocess.run(["sh", script], check=True, capture_output=True, env=environment)
    secrets = (tmp_path / "secrets.env").read_text(encoding="utf-8")
    subprocess.run(["sh", script], check=True, capture_output=True, env=environment)
    given = dict(
        line.split("=", 1) for line in [*secrets.splitlines(), *(tmp_path / "images.env").read_text().splitlines()]
    )
    asked = set(
        re.findall(r"\$\{(\w+):\?run deploy/prepare\.sh\}", (DEPLOY / "compose.yaml").read_text(encoding="utf-8"))
    )

    assert (tmp_path / "secrets.env").read_text(encoding="utf-8") == secrets
    assert (tmp_path / "secrets.env").stat().st_mode & 0o777 == 0o600
    assert asked <= given.keys()
    assert given["KAFKA_IMAGE"].endswith(f"@sha256:{64 * 'a'}")
    assert len({value for name, value in given.items() if name.endswith("_PASSWORD")}) == 10
    for user in ("MIGRATOR", "WRITER", "READER"):
        password = given[f"CLICKHOUSE_{user}_PASSWORD"].encode()
        assert given[f"CLICKHOUSE_{user}_SHA256"] == hashlib.sha256(password).hexdigest()


def test_prepare_makes_no_digest_up(tmp_path: Path) -> None:
    """An image that no registry has a digest for ends it, and leaves the file as it was."""
    script = Path(shutil.copy(PREPARE, tmp_path))
    docker = tmp_path / "docker"
    docker.write_text("#!/bin/sh\n[ $1 = pull ] || echo '<no value>'\n", encoding="utf-8")
    docker.chmod(0o755)
    environment = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    done = subprocess.run(["sh", script], check=False, capture_output=True, text=True, env=environment)

    assert done.returncode == 1
    assert "docker gives no digest" in done.stderr
    assert not (tmp_path / "images.env").exists()


def test_every_part_has_its_own_login() -> None:
    """Each part is its role on Kafka and its user of ClickHouse; the broker knows every role, and refuses what is not allowed."""
    kafka = SERVICES["kafka"]["environment"]
    known = set(re.findall(r"user_unproxy-(\w+)=", kafka["KAFKA_LISTENER_NAME_INSIDE_PLAIN_SASL_JAAS_CONFIG"]))
    logins = {
        name: (
            service["environment"].get("UNPROXY_KAFKA__SASL_USERNAME"),
            service["environment"].get("UNPROXY_CLICKHOUSE__USERNAME"),
        )
        for name, service in OURS.items()
    }
    listeners = dict(one.split("://") for one in kafka["KAFKA_LISTENERS"].split(","))
    protocols = dict(one.split(":") for one in kafka["KAFKA_LISTENER_SECURITY_PROTOCOL_MAP"].split(","))

    assert known == roles().keys()
    assert (
        kafka["KAFKA_LISTENER_NAME_OUTSIDE_PLAIN_SASL_JAAS_CONFIG"]
        == kafka["KAFKA_LISTENER_NAME_INSIDE_PLAIN_SASL_JAAS_CONFIG"]
    )
    assert logins == {
        "acls": (None, None),
        "topics": ("unproxy-admin", None),
        "migrate": (None, "unproxy_migrator"),
        "worker-1": ("unproxy-worker", None),
        "worker-2": ("unproxy-worker", None),
        "sink": ("unproxy-sink", "unproxy_writer"),
        "forward": ("unproxy-forward", None),
    }
    assert kafka["KAFKA_ALLOW_EVERYONE_IF_NO_ACL_FOUND"] == "false"
    # Without a login only from the container itself.
    assert {where.partition(":")[0] for name, where in listeners.items() if protocols[name] == "PLAINTEXT"} == {
        "127.0.0.1"
    }


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
