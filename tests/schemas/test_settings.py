"""Settings: the file, the environment that overrides it, and error messages."""

from __future__ import annotations

import os
import re
import tomllib
from pathlib import Path

import pytest
from pydantic import SecretStr

from schemas.sections.base import proxy_address
from schemas.sections.inputs import GrantSettings
from schemas.settings import Settings, SettingsError
from schemas.settings_file import FILE_CHARS_MAX, described, dump, load


@pytest.fixture(autouse=True)
def _clean(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No settings of the machine: an empty folder and an environment without ours."""
    monkeypatch.chdir(tmp_path)
    for name in list(os.environ):
        if name.startswith("UNPROXY_"):
            monkeypatch.delenv(name)


def _file(content: str) -> Path:
    path = Path("unproxy.toml")
    path.write_text(content, encoding="utf-8")
    return path


def _complaint(path: Path | None = None) -> str:
    with pytest.raises(SettingsError) as caught:
        load(path)
    return str(caught.value)


def test_without_anything_the_defaults_hold() -> None:
    """No file and no variables: every setting has its default."""
    assert load() == Settings()


def test_file_in_the_current_folder_is_found() -> None:
    """unproxy.toml where the command runs needs no option."""
    _file('[kafka]\nbootstrap = "kafka-1:9092"\n')

    assert load().kafka.bootstrap == "kafka-1:9092"


def test_file_without_an_end_is_an_error() -> None:
    """It is read up to the bound only, and the message names the file and the bound."""
    assert load(_file("#" * FILE_CHARS_MAX)) == Settings()
    assert _complaint(_file("#" * (FILE_CHARS_MAX + 1))).startswith("unproxy.toml: longer than 1,000,000 characters")


def test_environment_goes_over_the_file(monkeypatch: pytest.MonkeyPatch) -> None:
    """A variable changes its key and leaves the others of the section as the file has them."""
    _file('[kafka]\nbootstrap = "kafka-1:9092"\ntopic_prefix = "t-"\n')
    monkeypatch.setenv("UNPROXY_KAFKA__BOOTSTRAP", "kafka-2:9092")

    kafka = load().kafka

    assert (kafka.bootstrap, kafka.topic_prefix) == ("kafka-2:9092", "t-")


def test_config_variable_names_the_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """UNPROXY_CONFIG names another file; a path given by hand goes before it."""
    (tmp_path / "a.toml").write_text('[worker]\nname = "a"\n', encoding="utf-8")
    (tmp_path / "b.toml").write_text('[worker]\nname = "b"\n', encoding="utf-8")
    monkeypatch.setenv("UNPROXY_CONFIG", "a.toml")

    assert (load().worker.name, load(Path("b.toml")).worker.name) == ("a", "b")


def test_lists_are_written_with_commas(monkeypatch: pytest.MonkeyPatch) -> None:
    """In the environment a list needs no brackets."""
    monkeypatch.setenv("UNPROXY_CORRELATION__PROXIES", "corp=10.0.0.1:3128, [2001:db8::1]:8080")

    assert load().correlation.proxies == ("corp=10.0.0.1:3128", "[2001:db8::1]:8080")


def test_an_empty_variable_is_an_empty_text(monkeypatch: pytest.MonkeyPatch) -> None:
    """Compose files and units hand over empty variables; that is a value, not an accident."""
    monkeypatch.setenv("UNPROXY_KAFKA__TOPIC_PREFIX", "")
    monkeypatch.setenv("UNPROXY_CORRELATION__PROXIES", "")

    assert (load().kafka.topic_prefix, load().correlation.proxies) == ("", ())


def test_unknown_key_in_the_file_is_an_error() -> None:
    """The error for a misspelt key has its place and suggests a similar one."""
    path = _file("[correlation]\npateince_secs = 5\n")

    assert _complaint(path) == "unproxy.toml: correlation.pateince_secs is not a setting; did you mean patience_secs?"


def test_unknown_section_is_an_error() -> None:
    """A misspelt section, too."""
    assert "clickhuose is not a section; did you mean clickhouse?" in _complaint(_file("[clickhuose]\n"))


def test_section_must_be_a_section() -> None:
    """The error for a key in place of a section shows how to write one."""
    assert "kafka must be a section, written as [kafka]" in _complaint(_file("kafka = 5\n"))


def test_unknown_variable_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """The error for a misspelt variable suggests a similar one; without a similar one it names the list."""
    monkeypatch.setenv("UNPROXY_KAFKA__BOOTSTARP", "x:1")
    monkeypatch.setenv("UNPROXY_Q", "1")

    first, second = sorted(_complaint().splitlines())

    assert first == "environment: UNPROXY_KAFKA__BOOTSTARP is not a setting; did you mean UNPROXY_KAFKA__BOOTSTRAP?"
    assert second.endswith("UNPROXY_Q is not a setting; `unproxy check --dump` lists all settings")


def test_all_complaints_come_at_once() -> None:
    """Three mistakes are reported at once."""
    assert len(_complaint(_file("[kafka]\na = 1\nb = 2\n[nothing]\n")).splitlines()) == 3


@pytest.mark.parametrize("content", ["[correlation]\npatience_secs = -1\n", '[correlation]\npatience_secs = "x"\n'])
def test_bad_value_in_the_file_is_located(content: str) -> None:
    """A value that cannot be is named with its file and key."""
    assert _complaint(_file(content)).startswith("unproxy.toml: correlation.patience_secs: Input should be")


def test_bad_value_in_the_environment_is_located(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same for a variable: its own name, not that of a file which has no fault."""
    monkeypatch.setenv("UNPROXY_WORKER__METRICS_PORT", "70000")

    assert _complaint().startswith("environment: UNPROXY_WORKER__METRICS_PORT: Input should be less than or equal")


@pytest.mark.parametrize("entry", ["proxy:3128", "10.0.0.1", "10.0.0.1:0", "corp=proxy.example:3128", ""])
def test_a_proxy_needs_an_address_and_a_port(entry: str) -> None:
    """Rows carry addresses, so a name alone cannot match any."""
    with pytest.raises(ValueError, match=r"host:port|IP address"):
        proxy_address(entry)


def test_proxy_address_takes_names_and_ipv6() -> None:
    """A proxy may be given a name; addresses are canonical."""
    assert proxy_address("corp=[2001:DB8:0::1]:3128") == ("2001:db8::1", 3128, "corp")
    assert proxy_address("10.0.0.1:3128") == ("10.0.0.1", 3128, "")


def test_bad_proxy_in_the_file_is_located() -> None:
    """The sentence of the proxy check reaches the person, without the framework's own words."""
    complaint = _complaint(_file('[correlation]\nproxies = ["proxy:3128"]\n'))

    assert complaint.startswith('unproxy.toml: correlation.proxies: "proxy:3128" needs an IP address')


@pytest.mark.parametrize("url", ["clickhouse.example:8123", "http://", "tcp://clickhouse.example:9000"])
def test_address_of_clickhouse_is_an_url(url: str) -> None:
    """Without a scheme another machine would be asked."""
    complaint = _complaint(_file(f'[clickhouse]\nurl = "{url}"\n'))

    assert complaint.startswith("unproxy.toml: clickhouse.url: it must begin with http:// or https://")


def test_list_as_in_toml_is_no_list_in_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """The error for a list copied from the file shows how the environment has it."""
    monkeypatch.setenv("UNPROXY_CORRELATION__PROXIES", '["10.0.0.1:3128"]')

    assert "written with commas" in _complaint()


def test_secrets_are_never_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither the dump, nor the object's text, nor an error about a secret contains it."""
    monkeypatch.setenv("UNPROXY_CLICKHOUSE__PASSWORD", "hunter2")
    settings = load()

    assert settings.clickhouse.password.get_secret_value() == "hunter2"
    assert "hunter2" not in dump(settings) + repr(settings)
    monkeypatch.delenv("UNPROXY_CLICKHOUSE__PASSWORD")
    assert "7007" not in _complaint(_file("[clickhouse]\npassword = [7007]\n"))


@pytest.mark.parametrize(
    ("content", "words"), [("[kafka", "is not TOML"), (None, "cannot be read: No such file or directory")]
)
def test_unreadable_file_is_an_error(content: str | None, words: str) -> None:
    """A named file that is not there or not TOML stops the start."""
    path = Path("missing.toml") if content is None else _file(content)

    assert words in _complaint(path)


def test_devices_have_tables_of_their_own() -> None:
    """Names and addresses of a device stand together; what cannot be one is refused with its place."""
    known = load(
        _file('[identity.devices."ws-1"]\nnames = ["GUID-1"]\naddresses = ["::ffff:10.0.0.1"]\n')
    ).identity.devices

    assert known["ws-1"].names == ("GUID-1",)
    assert known["ws-1"].addresses == ("10.0.0.1",)
    for wrong in ('names = [" "]', 'addresses = ["10.0.0.300"]', 'nmaes = ["a"]'):
        assert "identity.devices.ws-1" in _complaint(_file(f'[identity.devices."ws-1"]\n{wrong}\n'))
    assert "empty name" in _complaint(_file('[identity.devices." "]\nnames = ["a"]\n'))


def test_dump_can_be_loaded_again() -> None:
    """What is in force, written down, is what is in force; also with quotes and backslashes in it."""
    settings = Settings(
        worker={"data_dir": 'C:\\data "one"'},
        correlation={"proxies": ["corp=10.0.0.1:3128"]},
        identity={"devices": {'ws "1"': {"names": ["GUID-1"], "addresses": ["::ffff:10.0.0.1"]}, "ws-2": {}}},
    )

    assert load(_file(dump(settings))) == settings


def test_every_setting_has_a_sentence_and_a_plain_default() -> None:
    """The reference page needs both, and a default must be one that TOML can write."""
    for section, name, default, about in described():
        assert about, f"{section}.{name}"
        assert isinstance(default, str | int | float | tuple | dict | SecretStr), f"{section}.{name}"
    assert tomllib.loads(dump(Settings())).keys() == Settings.model_fields.keys()


def _grants(**grants: str) -> Path:
    return _file("".join(f"[inputs.grants.{name}]\n{content}\n" for name, content in grants.items()))


def test_grants_are_read() -> None:
    """Networks have one spelling; everything else stays as written."""
    grants = load(_grants(proxy='addresses = ["::ffff:10.1.0.0/112", "2001:DB8::/32"]\ndevices = ["*"]')).inputs.grants

    assert grants["proxy"].addresses == ("10.1.0.0/16", "2001:db8::/32")
    assert (grants["proxy"].devices, grants["proxy"].verdicts) == (("*",), False)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("", "it names no sender; add token, certificates, addresses or sources"),
        ('token = "short-secret"', "it has 12 characters; write at least 16 random ones"),
        ('token = "a secret with spaces"', "only printable ASCII without spaces"),
        ('addresses = ["10.1.0.7/16"]', '"10.1.0.7/16" is not an address or a network'),
        ('addresses = ["ws-1"]', '"ws-1" is not an address or a network'),
        ('sources = [""]', "an entry is empty"),
        ('sources = ["x"]\naddresses = ["10.0.0.1"]', "write two grants"),
        ('sources = ["x"]\ndevcies = ["ws-1"]', "Extra inputs are not permitted"),
    ],
)
def test_a_grant_that_cannot_be_is_refused_in_words(content: str, words: str) -> None:
    """The error has the place and what to write, and no secret."""
    complaint = _complaint(_grants(one=content))

    assert complaint.startswith("unproxy.toml: inputs.grants.one")
    assert words in complaint
    assert "secret" not in complaint


def test_two_grants_cannot_share_a_token() -> None:
    """Their senders could not be distinguished; the error does not contain the token."""
    same = 'token = "a-token-of-one-sender"'

    assert _complaint(_grants(one=same, two=same)) == (
        "unproxy.toml: inputs.grants: one and two have the same token; give each its own"
    )


def test_the_name_of_a_grant_is_lower_case() -> None:
    """Environment variables are not case-sensitive."""
    assert '"WS-1" is no name for a grant' in _complaint(_grants(**{"WS-1": 'sources = ["x"]'}))


def test_a_grant_in_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each key has a variable, which goes over the file; a mistake there is named with it."""
    path = _grants(**{"ws-1": 'addresses = ["10.0.0.1"]'})
    monkeypatch.setenv("UNPROXY_INPUTS__GRANTS__WS-1__TOKEN", "1234567890123456")
    monkeypatch.setenv("UNPROXY_INPUTS__GRANTS__WS-1__DEVICES", "ws-1,ws-2")

    grant = load(path).inputs.grants["ws-1"]

    assert grant.token.get_secret_value() == "1234567890123456"
    assert (grant.addresses, grant.devices) == (("10.0.0.1/32",), ("ws-1", "ws-2"))
    monkeypatch.setenv("UNPROXY_INPUTS__GRANTS__WS-1__TOKEN", "1234")
    assert _complaint(path).startswith("environment: UNPROXY_INPUTS__GRANTS__WS-1__TOKEN: it has 4 characters")
    monkeypatch.setenv("UNPROXY_INPUTS__GRANTS__WS-1__TKEN", "x")
    assert "environment: UNPROXY_INPUTS__GRANTS__WS-1__TKEN: Extra inputs" in _complaint(path)


def test_grants_in_one_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    """All grants may be one variable of JSON; beside variables of single keys it would replace them, so that is refused."""
    monkeypatch.setenv("UNPROXY_INPUTS__GRANTS", '{"one": {"token": "a-token-of-one-sender"}}')

    assert load().inputs.grants.keys() == {"one"}
    monkeypatch.setenv("UNPROXY_INPUTS__GRANTS__TWO__TOKEN", "a-token-of-another-one")
    assert "UNPROXY_INPUTS__GRANTS are both set; write all of it into one of them" in _complaint()
    monkeypatch.delenv("UNPROXY_INPUTS__GRANTS__TWO__TOKEN")
    monkeypatch.setenv("UNPROXY_INPUTS__GRANTS", '{"one": ')
    assert _complaint().startswith("environment: a table is written as JSON there, and one is not: ")


def test_error_for_the_old_token_shows_a_grant(monkeypatch: pytest.MonkeyPatch) -> None:
    """`inputs.http_token` of earlier versions is refused with what replaces it, in the file and in the environment."""
    path = _file('[inputs]\nhttp_token = "a-token-of-one-sender"\n')

    assert "inputs.http_token is not a setting any more; write a grant for the sender instead" in _complaint(path)
    path.unlink()
    monkeypatch.setenv("UNPROXY_INPUTS__HTTP_TOKEN", "a-token-of-one-sender")
    assert "UNPROXY_INPUTS__HTTP_TOKEN is not a setting any more; write a grant" in _complaint()


def test_every_key_of_a_grant_is_in_the_guide() -> None:
    """The reference page of settings has no room for them: docs/inputs.md lists them."""
    guide = (Path(__file__).parents[2] / "docs/inputs.md").read_text(encoding="utf-8")

    assert [name for name in GrantSettings.model_fields if f"| `{name}` |" not in guide] == []


@pytest.mark.parametrize(
    ("owner", "mode", "folder_mode", "problem"),
    [
        (1, 0o600, 0o755, r"belongs to another user \(uid 1\).*`chown root"),
        (0, 0o620, 0o755, r"can be written by others.*`chmod go-w"),
        (0, 0o602, 0o755, r"can be written by others.*`chmod go-w"),
        (0, 0o600, 0o777, r"others can write in its folder.*`chmod go-w"),
    ],
)
@pytest.mark.parametrize("named", ["found", "variable", "option", "link"])
def test_root_trusts_only_its_own_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, owner: int, mode: int, folder_mode: int, problem: str, named: str
) -> None:
    """Root refuses a file that another user can write, however it was named; other users accept it."""
    file = _file('[kafka]\nbootstrap = "evil:9092"\n').absolute()
    asked = None
    if named == "variable":
        monkeypatch.setenv("UNPROXY_CONFIG", str(file))
    elif named == "option":
        asked = file
    elif named == "link":
        asked = tmp_path.parent / f"{tmp_path.name}.toml"
        asked.symlink_to(file)
    found = os.stat_result((mode | 0o100000, 1, 1, 1, owner, 0, 0, 0, 0, 0))
    monkeypatch.setattr(os, "fstat", lambda _: found)
    tmp_path.chmod(folder_mode)

    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert re.search(problem, _complaint(asked))
    monkeypatch.setattr(os, "geteuid", lambda: 1)
    assert load(asked).kafka.bootstrap == "evil:9092"


def test_root_takes_its_own_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder in which everybody may write is none to replace it in, if only owners may remove there."""
    file = _file('[kafka]\nbootstrap = "kafka-1:9092"\n')
    found = os.stat_result((0o100644, 1, 1, 1, 0, 0, 0, 0, 0, 0))
    monkeypatch.setattr(os, "fstat", lambda _: found)
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    tmp_path.chmod(0o1777)

    assert load(file).kafka.bootstrap == "kafka-1:9092"


@pytest.mark.parametrize("login", ["sink:hunter2@", "sink@", ":hunter2@"])
def test_login_in_the_url_is_refused(login: str) -> None:
    """It would be sent to whatever the rest of the URL names, and be shown where URLs are; the refusal does not show it."""
    message = _complaint(_file(f'[clickhouse]\nurl = "http://{login}ch.example:8123"\n'))

    assert "clickhouse.url: it must not hold a login; set clickhouse.username and clickhouse.password" in message
    assert "hunter2" not in message


def test_settings_of_a_file_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a file's login belongs to the file's server, no variable leads it elsewhere."""
    file = _file('[kafka]\nbootstrap = "kafka-1:9092"\nsasl_password = "hunter2"\n')
    monkeypatch.setenv("UNPROXY_KAFKA__BOOTSTRAP", "evil:9092")
    kafka = load(file, with_environment=False).kafka

    assert (kafka.bootstrap, kafka.sasl_password.get_secret_value()) == ("kafka-1:9092", "hunter2")
