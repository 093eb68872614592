"""The proxies of the edge lab, from Debian's packages, PyPI and Go modules, not installed: command, configuration and port."""

from __future__ import annotations

import pwd
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path

from tests.live.edges.origin import INSTANT_PORTS
from tests.live.origin import certificate
from tests.live.squid import unpacked
from tests.live.stage import LOAD_PROXIES, PROXY, UNPRIVILEGED, Arguments, CannotRun, Stage, await_that

UNPRIVILEGED_NAME = pwd.getpwuid(UNPRIVILEGED).pw_name


@dataclass(frozen=True)
class Proxy:
    """How one is started; in text and words PACKAGE, FOLDER and CONFIG stand for paths."""

    port: int
    words: tuple[str, ...]
    text: str


PROXIES: Mapping[str, Proxy] = {
    "squid": Proxy(
        3128,
        ("SQUID/squid", "-N", "-f", "CONFIG"),
        f"""http_port {PROXY}:3128
visible_hostname proxy.example
dns_nameservers 127.0.0.1
http_access allow all
cache deny all
logformat edge edge %>p %03>Hs
access_log stdio:FOLDER/squid-access.log logformat=edge
cache_log FOLDER/squid-cache.log
error_directory SQUID/share/errors
icon_directory SQUID/share/icons
mime_table SQUID/share/mime.conf
pid_filename none
netdb_filename none
coredump_dir none
unlinkd_program SQUID/unlinkd
pinger_enable off
shutdown_lifetime 1 seconds
cache_effective_user {UNPRIVILEGED_NAME}
""",
    ),
    "tinyproxy": Proxy(
        8888,
        ("PACKAGE/usr/bin/tinyproxy", "-d", "-c", "CONFIG"),
        f"Port 8888\nListen {PROXY}\nTimeout 10\nLogLevel Connect\nConnectPort 443\n",
    ),
    "privoxy": Proxy(
        8118,
        ("PACKAGE/usr/sbin/privoxy", "--no-daemon", "CONFIG"),
        f"listen-address {PROXY}:8118\nconfdir FOLDER\nlogdir FOLDER\nlogfile privoxy-access.log\ndebug 1\ntoggle 0\n",
    ),
    "apache": Proxy(
        8082,
        ("PACKAGE/usr/sbin/apache2", "-DFOREGROUND", "-f", "CONFIG"),
        f"""ServerRoot FOLDER
ServerName proxy.example
Listen {PROXY}:8082
DefaultRuntimeDir FOLDER
PidFile FOLDER/apache.pid
User #{UNPRIVILEGED}
Group #{UNPRIVILEGED}
LoadModule mpm_event_module PACKAGE/usr/lib/apache2/modules/mod_mpm_event.so
LoadModule authz_core_module PACKAGE/usr/lib/apache2/modules/mod_authz_core.so
LoadModule proxy_module PACKAGE/usr/lib/apache2/modules/mod_proxy.so
LoadModule proxy_http_module PACKAGE/usr/lib/apache2/modules/mod_proxy_http.so
LoadModule proxy_connect_module PACKAGE/usr/lib/apache2/modules/mod_proxy_connect.so
ProxyRequests On
AllowCONNECT 443
ErrorLog FOLDER/apache-error.log
LogFormat "edge %{{remote}}p %>s"
TransferLog FOLDER/apache-access.log
""",
    ),
    "nginx": Proxy(
        8083,
        ("PACKAGE/usr/sbin/nginx", "-p", "FOLDER", "-c", "CONFIG"),
        f"""daemon off;
pid FOLDER/nginx.pid;
error_log FOLDER/nginx-error.log;
events {{}}
http {{
  resolver 127.0.0.1 ipv6=off;
  log_format edge 'edge $remote_port $status';
  access_log FOLDER/nginx-access.log edge;
  client_body_temp_path FOLDER/nginx-client;
  proxy_temp_path FOLDER/nginx-proxy;
  fastcgi_temp_path FOLDER/nginx-fastcgi;
  uwsgi_temp_path FOLDER/nginx-uwsgi;
  scgi_temp_path FOLDER/nginx-scgi;
  ssl_certificate FOLDER/origin.crt;
  ssl_certificate_key FOLDER/origin.key;
  server {{
    listen {PROXY}:8083;
    listen {PROXY}:8443 ssl;
    location / {{ proxy_pass http://$host$request_uri; }}
  }}
}}
""",
    ),
    "haproxy": Proxy(
        8085,
        ("PACKAGE/usr/sbin/haproxy", "-db", "-f", "CONFIG"),
        f"""global
  log stdout format raw local0
defaults
  mode http
  log global
  log-format "edge %cp %ST"
  timeout connect 3s
  timeout client 10s
  timeout server 10s
resolvers names
  nameserver here 127.0.0.1:53
frontend proxy
  bind {PROXY}:8085
  http-request do-resolve(txn.ip,names,ipv4) hdr(host),host_only
  http-request deny unless {{ var(txn.ip) -m found }}
  http-request set-dst var(txn.ip)
  http-request set-dst-port int(80)
  default_backend there
backend there
  server there 0.0.0.0:0
""",
    ),
    "proxy.py": Proxy(
        8899,
        ("PYTHON", "-m", "proxy", "--hostname", PROXY, "--port", "8899", "--num-workers", "1", "--num-acceptors", "1"),
        "",
    ),
    "dante": Proxy(
        1080,
        ("PACKAGE/usr/sbin/danted", "-f", "CONFIG"),
        f"""logoutput: FOLDER/dante.log
internal: {PROXY} port = 1080
external: {PROXY}
clientmethod: none
socksmethod: none
user.privileged: root
user.unprivileged: {UNPRIVILEGED_NAME}
client pass {{ from: 0.0.0.0/0 to: 0.0.0.0/0 }}
socks pass {{ from: 0.0.0.0/0 to: 0.0.0.0/0 log: connect error }}
""",
    ),
    "goproxy": Proxy(8090, ("PACKAGE/goproxy", f"{PROXY}:8090"), ""),
    "microsocks": Proxy(1081, ("PACKAGE/usr/bin/microsocks", "-i", PROXY, "-p", "1081"), ""),
}
NGINX_TLS = "nginx tls"
INSTANT = "instant"
"""Proxies that answer at once, each known to no sensor before it is asked; they are part of the origin."""
QUICK = ("squid", "tinyproxy", "nginx", "dante")


def start(stage: Stage, folder: Path, squid: Path, package: Path, names: tuple[str, ...]) -> None:
    """Start these proxies and wait until they listen. Raises CannotRun, WentWrong."""
    if not (package / ".made").exists():
        raise CannotRun(f"{package}: the proxies are not here; `make live` fetches them")
    place = unpacked(squid, folder) if "squid" in names else squid
    own = folder / "proxies"
    own.mkdir()
    own.chmod(0o777)  # each proxy writes as a user of its own
    certificate(own)
    libraries = [place / "lib", *package.glob("usr/lib/*-linux-gnu"), *package.glob("lib/*-linux-gnu")]
    known = {"PACKAGE": package, "FOLDER": own, "SQUID": place, "PYTHON": sys.executable}
    before = ["env", f"LD_LIBRARY_PATH={':'.join(map(str, libraries))}", f"PYTHONPATH={package / 'python'}"]
    for name in names:
        proxy, config = PROXIES[name], own / f"{name}.conf"
        config.write_text(_filled(proxy.text, known))
        words: Arguments = [*before, *(_filled(word, {**known, "CONFIG": config}) for word in proxy.words)]
        process = stage.far_family(words, f"proxy-{name}")

        def listens(name: str = name, port: int = proxy.port, process: subprocess.Popen[bytes] = process) -> bool:
            if process.poll() is not None:
                raise CannotRun(f"{name} ended with {process.returncode}: {stage.output(f'proxy-{name}')[-1000:]}")
            return stage.is_open(PROXY, port)

        await_that(listens, f"{name} listens")


def available(package: Path) -> tuple[str, ...]:
    """Return the names of the proxies that are there; goproxy takes a Go toolchain to build."""
    return tuple(name for name in PROXIES if name != "goproxy" or (package / "goproxy").exists())


def addresses(names: tuple[str, ...]) -> dict[str, tuple[str, int]]:
    """Where the sensor's named proxies are, by name."""
    known = {name: (PROXY, PROXIES[name].port) for name in names}
    return {**known, NGINX_TLS: (PROXY, 8443)} if "nginx" in names else known


def unknown() -> Iterator[tuple[str, int]]:
    """Addresses of proxies that answer at once, each another one as long as there are some."""
    return cycle([(address, port) for port in INSTANT_PORTS for address in LOAD_PROXIES])


def _filled(text: str, known: Mapping[str, object]) -> str:
    for name, value in known.items():
        text = text.replace(name, str(value))
    return text
