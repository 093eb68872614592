"""What a webhook's answers mean, and what its settings may be."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from pydantic import ValidationError

from schemas.settings import ForwardSettings, Settings, SettingsError
from schemas.settings_file import dump, load
from sinks.forward.target import Answer
from sinks.forward.webhook import PAUSE_SECS_MAX, Webhook, headers_of, pause_of, reply_of, secret_of, signed
from tests.sinks.forward.forward_world import seen
from tests.sinks.forward.receivers import AUTHORITY, WebhookServer, server_context
from unproxy.local.servers.service import free_port

NOW = 1_795_000_000.0
GUIDE = Path(__file__).parents[3] / "docs" / "forward.md"


@pytest.mark.parametrize(
    ("status", "answer"),
    [
        (200, Answer.DELIVERED),
        (204, Answer.DELIVERED),
        (301, Answer.MISCONFIGURED),
        (308, Answer.MISCONFIGURED),
        (400, Answer.REFUSED),
        (401, Answer.MISCONFIGURED),
        (403, Answer.MISCONFIGURED),
        (404, Answer.MISCONFIGURED),
        (405, Answer.MISCONFIGURED),
        (408, Answer.BUSY),
        (409, Answer.REFUSED),
        (410, Answer.MISCONFIGURED),
        (413, Answer.REFUSED),
        (422, Answer.REFUSED),
        (425, Answer.BUSY),
        (429, Answer.BUSY),
        (500, Answer.FAILED),
        (502, Answer.FAILED),
        (503, Answer.BUSY),
        (599, Answer.FAILED),
        (799, Answer.FAILED),
    ],
)
def test_statuses(status: int, answer: Answer) -> None:
    """One line a status."""
    assert reply_of(status, "", NOW).answer is answer


@pytest.mark.parametrize(
    ("header", "secs"),
    [
        ("", 0.0),
        ("7", 7.0),
        ("99999", PAUSE_SECS_MAX),
        ("-3", 0.0),
        ("soon", 0.0),
        ("Wed, 18 Nov 2026 11:06:50 GMT", 10.0),
        ("Wed, 18 Nov 2026 11:06:30 GMT", 0.0),
        ("Wed, 99 Nov 2026 11:06:30 GMT", 0.0),
        ("٣", 0.0),
    ],
)
def test_retry_after(header: str, secs: float) -> None:
    """A number of seconds, or a date, within a bound; anything else is nothing."""
    assert pause_of(header, NOW) == secs


def test_a_known_signature() -> None:
    """Worked out once with `openssl dgst -sha256 -hmac`: it must never change."""
    assert signed(b"key", 1_795_000_000, b'{"AlertId":"a"}') == {
        "X-Unproxy-Timestamp": "1795000000",
        "X-Unproxy-Signature": "sha256=eaaeec61800058517a551ab50b84176509d872c4149b1023d0d985095b67115d",
    }
    assert signed(b"", 1, b"") == {}


def test_secrets_come_from_files_and_stay_hidden(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file's last line break is none of the secret; what is in force is shown without any of them."""
    file, headers = tmp_path / "secret", tmp_path / "headers"
    file.write_text("s3cret\n")
    headers.write_text("# for the gateway\nAuthorization: Bearer abc\n\nX-Team: blue\n")
    settings = ForwardSettings(secret_file=str(file), headers_file=str(headers))
    monkeypatch.setenv("UNPROXY_FORWARD__URL", "https://siem.test/hook/geheim")
    monkeypatch.setenv("UNPROXY_FORWARD__SECRET", "s3cret")

    assert secret_of(settings) == b"s3cret"
    assert headers_of(settings) == {"Authorization": "Bearer abc", "X-Team": "blue"}
    assert "s3cret" not in dump(load())
    assert "geheim" not in dump(load())


@pytest.mark.parametrize(
    "line", ["no colon", "Bad Name: x", "Content-Length: 3", "X-Unproxy-Alert-Id: x", "Authorization: Bearer\x07geheim"]
)
def test_headers_that_are_none(tmp_path: Path, line: str) -> None:
    """The message names the file and the line, and not what is in it."""
    file = tmp_path / "headers"
    file.write_text(f"X-Fine: yes\n{line}\n")
    with pytest.raises(SettingsError, match="headers line 2") as caught:
        headers_of(ForwardSettings(headers_file=str(file)))

    assert "geheim" not in str(caught.value)


def test_files_that_are_missing(tmp_path: Path) -> None:
    """Reported as an error that a person can fix."""
    (tmp_path / "empty").write_text("\n")
    for settings in (
        ForwardSettings(),
        ForwardSettings.model_validate({"url": "https://x.test", "secret_file": str(tmp_path / "nowhere")}),
        ForwardSettings.model_validate({"url": "https://x.test", "secret_file": str(tmp_path / "empty")}),
        ForwardSettings.model_validate({"url": "https://x.test", "ca_file": str(tmp_path / "nowhere")}),
    ):
        with pytest.raises(SettingsError, match=r"^forward"):
            Webhook(settings)


@pytest.mark.parametrize(
    "url",
    [
        "ftp://x.test",
        "x.test/hook",
        "https://",
        "https://kim:geheim@x.test/",
        "https://geheim:99999/",
        "https://[geheim/",
        "https://geheimü.test",
    ],
)
def test_urls_that_are_none(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Refused, without repeating it: it may hold a secret."""
    with pytest.raises(ValidationError):
        ForwardSettings.model_validate({"url": url})
    monkeypatch.setenv("UNPROXY_FORWARD__URL", url)
    with pytest.raises(SettingsError, match="UNPROXY_FORWARD__URL") as caught:
        load()

    assert "geheim" not in str(caught.value)


def test_no_receiver() -> None:
    """No connection is a reason to try again."""
    hook = Webhook(ForwardSettings.model_validate({"url": f"http://127.0.0.1:{free_port()}/"}))
    reply = hook.send(b"{}", seen())

    assert reply.answer is Answer.UNREACHABLE


def test_certificates_are_verified() -> None:
    """Of an authority that is not known, or for another name: a person must act. With the authority it arrives."""
    server = WebhookServer(server_context()).start()
    url = f"https://localhost:{server.port}/"
    wrong_name = url.replace("localhost", "127.0.0.1")
    replies = []
    for given in ({"url": url}, {"url": wrong_name, "ca_file": AUTHORITY}, {"url": url, "ca_file": AUTHORITY}):
        hook = Webhook(ForwardSettings.model_validate(given))
        replies.append(hook.send(b"{}", seen()))
        hook.close()
    server.stop()

    assert [reply.answer for reply in replies] == [Answer.MISCONFIGURED, Answer.MISCONFIGURED, Answer.DELIVERED]
    assert "forward.ca_file" in replies[0].text


def test_settings_of_the_guide() -> None:
    """Each example in docs/forward.md is settings that there are."""
    examples = re.findall(r"```toml\n(.*?)```", GUIDE.read_text(encoding="utf-8"), re.DOTALL)

    assert [Settings.model_validate(tomllib.loads(text)).forward.target for text in examples] == ["webhook", "syslog"]


def test_a_signature_as_the_guide_verifies_it(tmp_path: Path) -> None:
    """The example of docs/forward.md, run as it stands there: it takes what is right, and nothing else."""
    code = GUIDE.read_text(encoding="utf-8").partition("```python\n")[2].partition("```")[0]
    body = b'{"AlertId":"a"}'
    headers = signed(b"key", 1_795_000_000, body)
    cases = [
        (headers, body, 1_795_000_010.0, True),
        (headers, body + b" ", 1_795_000_010.0, False),
        (headers, body, 1_795_000_999.0, False),
        ({**headers, "X-Unproxy-Signature": "sha256=00"}, body, 1_795_000_010.0, False),
        ({**headers, "X-Unproxy-Timestamp": "1795000001"}, body, 1_795_000_010.0, False),
        ({}, body, 1_795_000_010.0, False),
    ]
    script = tmp_path / "example.py"
    script.write_text(f"{code}\nprint([is_genuine(b'key', h, b, n) for h, b, n, _ in {cases!r}])\n")
    printed = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, check=True).stdout

    assert printed.strip() == str([expected for *_, expected in cases])
