"""assay.toml: what may stand in it, and that every mistake is named with its place."""

from __future__ import annotations

from pathlib import Path

import pytest

from assay.config import Config, is_loopback, load
from assay.errors import ConfigError


def read(tmp_path: Path, text: str, **environment: str) -> Config:
    (tmp_path / "assay.toml").write_text(text)
    return load(tmp_path / "assay.toml", environment=environment)


def test_without_any_file_the_local_model_is_there(tmp_path: Path) -> None:
    config = load(environment={"HOME": str(tmp_path)}, start=tmp_path)
    assert config.file is None
    assert config.models["local"].provider == "local"
    assert config.providers["local"].dialect == "local"
    assert (config.server.host, config.server.port) == ("127.0.0.1", 8700)
    assert config.storage_url == f"sqlite:///{tmp_path}/.assay/assay.db"


def test_the_example_of_the_documentation(tmp_path: Path) -> None:
    config = read(
        tmp_path,
        """
        [server]
        port = 9000
        [storage]
        url = "sqlite:///data/my.db"
        [providers.openai]
        dialect = "openai"
        base_url = "https://api.openai.com/v1"
        api_key = "env:OPENAI_API_KEY"
        [models."gpt-4o-mini"]
        provider = "openai"
        model = "gpt-4o-mini-2024-07-18"
        deadline_s = 30
        """,
        OPENAI_API_KEY="sk-1",
    )
    assert config.server.port == 9000
    assert config.storage_url == f"sqlite:///{tmp_path}/data/my.db"
    assert config.models["gpt-4o-mini"].model == "gpt-4o-mini-2024-07-18"
    assert config.models["gpt-4o-mini"].deadline_s == 30
    assert config.secret("env:OPENAI_API_KEY", where="here") == "sk-1"
    assert "local" in config.models


def test_the_nearest_file_above_is_found(tmp_path: Path) -> None:
    (tmp_path / "assay.toml").write_text("[server]\nport = 1\n")
    deep = tmp_path / "a" / "b"
    deep.mkdir(parents=True)
    config = load(environment={}, start=deep)
    assert config.file == tmp_path / "assay.toml"
    assert config.root == tmp_path


def test_the_environment_may_name_the_file(tmp_path: Path) -> None:
    (tmp_path / "other.toml").write_text("[server]\nport = 2\n")
    assert load(environment={"ASSAY_CONFIG": str(tmp_path / "other.toml")}).server.port == 2
    with pytest.raises(ConfigError, match="no configuration file .*none.toml"):
        load(tmp_path / "none.toml", environment={})


PROVIDER = '[providers.p]\ndialect = "openai"\nbase_url = "https://x/v1"\n'


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (
            "[server]\nport = 1\nprot = 2\n",
            r":3: server.prot: unknown key; did you mean port\? \(allowed here: host, port",
        ),
        (
            "[sever]\nport = 1\n",
            r":1: sever: unknown key; did you mean server\? \(allowed here: server, storage",
        ),
        ('[server]\nport = "x"\n', r":2: server.port: expected `int`, got `str`"),
        ("[server]\n\nport = 70000\n", r":3: server.port: 70000 is not a port"),
        ("server = 1\n", r":1: server: expected a table, got an integer"),
        (
            '[providers.p]\ndialect = "opnai"\n',
            r":2: providers.p.dialect: 'opnai' is not one of openai, openai-responses, compatible, anthropic",
        ),
        ("[providers.p]\nslots = 1\n", r":1: providers.p: the key dialect is missing"),
        ('[providers.p]\ndialect = "openai"\n', r":1: providers.p: base_url is missing, for example"),
        ('[providers.p]\ndialect = "anthropic"\n', r"example \"https://api.anthropic.com/v1\""),
        (
            f'{PROVIDER}api_key = "sk-secret"\n',
            r':4: providers.p.api_key: secrets are named, not written: use "env:NAME"',
        ),
        (f"{PROVIDER}slots = 2\n", r":4: providers.p.slots: is for the dialect local, not openai"),
        (
            '[providers.p]\ndialect = "openai"\nbase_url = "ftp://x"\n',
            r":3: providers.p.base_url: 'ftp://x' is not an http",
        ),
        (
            '[providers.p]\ndialect = "openai"\nbase_url = "http://x.example/v1"\napi_key = "env:K"\n',
            r":3: providers.p.base_url: would send the api_key unencrypted",
        ),
        (
            '[providers.p]\ndialect = "openai"\nbase_url = "https://u:p@x/v1"\n',
            r":3: providers.p.base_url: must not hold credentials",
        ),
        (
            '[models.m]\nprovider = "q"\n',
            r":2: models.m.provider: there is no provider 'q' \(there are: local, local-embeddings\)",
        ),
        (
            '[models."m.1"]\nprovider = "local"\ndeadline_s = 0\n',
            r":3: models.m.1.deadline_s: must be above 0",
        ),
        (
            '[models.m]\nprovider = "local"\nfirst_token_s = -1\n',
            r":3: models.m.first_token_s: must be above 0",
        ),
        (
            '[models.m]\nprovider = "local"\n[models.m.limits]\nrequests_per_minute = 0\n',
            r":4: models.m.limits.requests_per_minute: must be at least 1",
        ),
        (
            '[models.m]\nprovider = "local"\nlimits = { at_once = 2 }\n',
            r":3: models.m.limits.at_once: is for models over HTTP; .* set slots",
        ),
        (
            '[models.m]\nprovider = "local"\n[models.m.limits]\nrequests = 1\n',
            r":4: models.m.limits.requests: unknown key",
        ),
        (
            '[models.m]\nprovider = "local"\n[routes.r]\ntry = ["m"]\nbetween_tokens_s = 0\n',
            r":5: routes.r.between_tokens_s: must be above 0",
        ),
        ('[routes.r]\ntry = ["locl"]\n', r":2: routes.r.try: there is no model 'locl'; did you mean 'local'"),
        ('[routes.local]\ntry = ["local"]\n', r":1: routes.local: there is a model 'local' already"),
        ("[routes.r]\nretries = 1\n", r":1: routes.r: the key try is missing"),
        ('[routes.r]\ntry = ["local"]\nretries = 11\n', r":3: routes.r.retries: must be from 0 to 10"),
        ('[routes.r]\ntry = ["local"]\nweights = [1]\n', r':3: routes.r.weights: needs balance = "weighted"'),
        (
            '[routes.r]\ntry = ["local"]\nbalance = "weighted"\nweights = [1, 2]\n',
            r":4: routes.r.weights: must be 1 numbers",
        ),
        ("[models.m]\nmodel = 'x'\n", r":1: models.m: the key provider is missing"),
        ('[storage]\nurl = "mysql://x"\n', r":2: storage.url: 'mysql://x' is not of the form sqlite:///PATH"),
        ("[trace]\nflush_interval_s = 0\n", r":2: trace.flush_interval_s: must be above 0"),
        ("[server\nport = 1\n", r"not valid TOML: .*line 1"),
    ],
)
def test_a_mistake_is_named_with_file_line_key_and_what_is_allowed(
    tmp_path: Path, text: str, says: str
) -> None:
    with pytest.raises(ConfigError, match=rf"assay\.toml.*{says}") as caught:
        read(tmp_path, text)
    assert "sk-secret" not in str(caught.value)


def test_text_that_is_not_utf8_is_said(tmp_path: Path) -> None:
    (tmp_path / "assay.toml").write_bytes(b"# caf\xe9\n")
    with pytest.raises(ConfigError, match="not UTF-8"):
        load(tmp_path / "assay.toml", environment={})


def test_a_secret_that_is_not_set_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"\[providers.p\] api_key refers to .* NAME, which is not set"):
        read(tmp_path, "").secret("env:NAME", where="[providers.p] api_key")


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "::1", "[::1]", "127.9.9.9"])
def test_loopback(host: str) -> None:
    assert is_loopback(host)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.0.0.1", "example.org"])
def test_not_loopback(host: str) -> None:
    assert not is_loopback(host)
