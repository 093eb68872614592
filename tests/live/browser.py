"""A web page against a running `unproxy up`: what Chromium lets a page of another loopback port send reads and changes nothing.

    python -m tests.live.browser [--chromium PROGRAM] [--data DIR]

Needs Chromium (`apt-get install chromium`). Without --data an `up` is started on a temporary folder. The page tries, by Host
127.0.0.1 and localhost, everything by which pages send requests: fetch with and without CORS, GET and POST, with the
statement in the address and in the body, with a login guessed, image, script, stylesheet, frame, form, beacon, WebSocket, and
Kafka's port. In the end the tables must be as before, and the page must have read nothing but that something listens.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import threading
from contextlib import ExitStack
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from schemas.settings_file import load
from tests.unproxy.local.up_story import Running, wait_for
from unproxy.query.client import Client, of_settings

PAGE_SECS_MAX = 60
OPTIONS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"),
    *("--disable-background-networking", "--disable-component-update"),
)
PAGE = """<!doctype html><meta charset="utf-8"><title>attack</title><body><script>
const statements = [
  "CREATE DATABASE taken", "DROP TABLE unproxy.Rejects", "INSERT INTO unproxy.Rejects_versions (RecordId) VALUES ('x')",
  "SELECT * FROM unproxy.DeviceNetworkEvents FORMAT JSONEachRow", "SELECT 'x' INTO OUTFILE 'OUT'",
];
const read = [], tried = {n: 0};
const attempt = async (what, url, options) => {
  tried.n++;
  try {
    const answer = await fetch(url, {...options, signal: AbortSignal.timeout(5000)});
    const text = await answer.text();
    if (text || answer.status) read.push([what, answer.status, text.slice(0, 200)]);
  } catch (error) { /* what the browser or the engine refused */ }
};
const element = (tag, attributes) => new Promise(done => {
  tried.n++;
  const made = Object.assign(document.createElement(tag), attributes);
  made.onload = made.onerror = done;
  setTimeout(done, 2000);
  document.body.append(made);
});
(async () => {
  for (const host of ["127.0.0.1", "localhost"]) {
    const engine = `http://${host}:ENGINE/`;
    await attempt("ping", engine + "ping", {});
    for (const statement of statements) {
      const asked = engine + "?readonly=0&query=" + encodeURIComponent(statement);
      for (const mode of ["cors", "no-cors"]) {
        for (const credentials of ["omit", "include"]) {
          await attempt("GET", asked, {mode, credentials});
          await attempt("POST", asked, {mode, credentials, method: "POST"});
          await attempt("POST body", engine, {mode, credentials, method: "POST", body: statement});
        }
      }
      await attempt("login", asked, {headers: {"Authorization": "Basic " + btoa("default:")}});
      await attempt("login in the address", asked + "&user=default&password=", {mode: "no-cors", method: "POST"});
      await element("img", {src: asked});
      await element("script", {src: asked});
      await element("link", {rel: "stylesheet", href: asked});
      await element("iframe", {src: asked});
      navigator.sendBeacon(asked, statement);
      for (const enctype of ["text/plain", "multipart/form-data", "application/x-www-form-urlencoded"]) {
        const frame = Object.assign(document.createElement("iframe"), {name: "f" + tried.n});
        const form = Object.assign(document.createElement("form"), {
          action: asked, method: "POST", enctype, target: frame.name});
        form.append(Object.assign(document.createElement("input"), {name: "query", value: statement}));
        document.body.append(frame, form);
        const answered = new Promise(done => { frame.onload = done; setTimeout(done, 2000); });
        form.submit();
        tried.n++;
        await answered;
        try { read.push(["frame", 0, frame.contentDocument.body.innerText]); } catch (error) { /* another origin */ }
      }
    }
    for (const port of [ENGINE, KAFKA]) new WebSocket(`ws://${host}:${port}/`);
    await attempt("Kafka", `http://${host}:KAFKA/`, {mode: "no-cors", method: "POST", body: "x".repeat(64)});
  }
  await fetch("/done", {method: "POST", body: JSON.stringify({tried: tried.n, read})});
})();
</script>"""


class Site(ThreadingHTTPServer):
    """The attacker's web server, on another port of this machine."""

    def __init__(self, page: str) -> None:
        super().__init__(("127.0.0.1", 0), _Visit)
        self.page = page
        self.visits = 0
        self.report: dict[str, object] = {}
        self.done = threading.Event()


class _Visit(BaseHTTPRequestHandler):
    server: Site

    def do_GET(self) -> None:
        self.server.visits += 1
        self.send_response(200)
        self.send_header("Content-Type", "text/html; charset=utf-8")
        self.end_headers()
        self.wfile.write(self.server.page.encode())

    def do_POST(self) -> None:
        self.server.report = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.send_response(200)
        self.end_headers()
        self.server.done.set()

    def log_message(self, format: str, *args: object) -> None:
        """Not one line a request."""


def attack(chromium: str, data: Path) -> list[str]:
    """Let Chromium open the page; gives what it could do, nothing if all is well."""
    settings = load(data / "settings.toml")
    client = of_settings(settings)
    engine, kafka = settings.clickhouse.url.rpartition(":")[2], settings.kafka.bootstrap.rpartition(":")[2]
    out = data / "clickhouse" / "data" / "taken"
    page = PAGE.replace("ENGINE", engine).replace("KAFKA", kafka).replace("OUT", str(out))
    before = (_tables(client), client.rows("SELECT count() AS n FROM Rejects_versions"))
    with Site(page) as site, TemporaryDirectory(prefix="unproxy-browser-") as profile:
        threading.Thread(target=site.serve_forever, daemon=True).start()
        command = [chromium, *OPTIONS, f"--user-data-dir={profile}", f"http://127.0.0.1:{site.server_port}/"]
        with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as browser:
            finished = site.done.wait(PAGE_SECS_MAX)
            browser.terminate()
        site.shutdown()
    print(json.dumps({"visits": site.visits, **site.report}))
    after = (_tables(client), client.rows("SELECT count() AS n FROM Rejects_versions"))
    found = [] if finished else [f"the page was not done within {PAGE_SECS_MAX} s"]
    read = site.report.get("read")
    assert isinstance(read, list)
    # Without CORS a page sees neither status nor text of an answer, only that one came.
    found += [f"read: {one}" for one in read if one[1] or one[2]]
    found += [f"changed: {before} became {after}"] if before != after else []
    return found + [f"written: {out}"] * out.exists()


def _tables(client: Client) -> list[dict[str, Any]]:
    databases = client.rows("SELECT name FROM system.databases ORDER BY name")
    return [*databases, *client.rows("SELECT name FROM system.tables WHERE database = 'unproxy' ORDER BY name")]


def main() -> int:
    """Exit code 0 when the page could do nothing."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.live.browser", description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument("--chromium", default="chromium", help="the browser's program")
    parser.add_argument("--data", type=Path, help="data folder of an `up` that runs; one is started without it")
    given = parser.parse_args()
    with ExitStack() as stack:
        data = given.data
        if data is None:
            data = Path(stack.enter_context(TemporaryDirectory(prefix="unproxy-up-"))) / "data"
            up = Running(data)
            stack.callback(up.process.wait)
            stack.callback(up.process.terminate)
            wait_for(lambda: "How to go on" in up.out, "start of up")
        found = attack(given.chromium, data)
    print("\n".join(found) or "the page read nothing and changed nothing", file=sys.stderr)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
