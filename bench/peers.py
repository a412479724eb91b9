"""Peers of the gateway benchmark: LiteLLM's proxy and Portkey's gateway, installed and started with PEERS=1.

Both live in .venvs/, beside no dependency of Assay's and in no lock file; Portkey needs node and npm (Debian:
apt-get install nodejs npm). They run as their documentation says for one process, without a database, log
files or calls home.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from load import Row, Running, Target, path
from transport import pin
from upstream import MODELS, PACES

HOMES = Path(__file__).parents[1] / ".venvs"
LITELLM, LITELLM_VERSION = "litellm[proxy]", "1.108.7"
PORTKEY, PORTKEY_VERSION = "@portkey-ai/gateway", "1.15.2"
# With newer versions of its web server Portkey answers every stream with 500 (its issue 1389).
PORTKEY_OVERRIDES = {"@hono/node-server": "1.14.1"}
START_TIMEOUT_S = 120


class NotStarted(Exception):
    """A peer does not serve; what it said is in the message."""


def install() -> None:
    """Idempotent: a stamp in each home names what is installed."""
    home = HOMES / "litellm"
    wanted = f"{LITELLM}=={LITELLM_VERSION}"
    if not _stamped(home, wanted):
        print(f"installing {wanted} in {home}", flush=True)
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(home)], check=True)
        subprocess.run([str(home / "bin" / "python"), "-m", "pip", "install", "-qq", wanted], check=True)
        (home / ".installed").write_text(wanted)
    home = HOMES / "portkey"
    package = json.dumps({"dependencies": {PORTKEY: PORTKEY_VERSION}, "overrides": PORTKEY_OVERRIDES})
    if not _stamped(home, package):
        print(f"installing {PORTKEY} {PORTKEY_VERSION} in {home}", flush=True)
        shutil.rmtree(home, ignore_errors=True)
        home.mkdir(parents=True)
        (home / "package.json").write_text(package)
        subprocess.run(["npm", "install", "--silent"], cwd=home, check=True)
        (home / ".installed").write_text(package)


def _stamped(home: Path, what: str) -> bool:
    stamp = home / ".installed"
    return stamp.exists() and stamp.read_text() == what


@contextmanager
def litellm(upstream_port: int, folder: Path) -> Iterator[Running]:
    """One worker, models named NAME and NAME-at-once, no database."""
    models = [
        {
            "model_name": f"{name}-{pace}",
            "litellm_params": {
                "model": f"{dialect.lower()}/{name}",
                "api_base": f"http://127.0.0.1:{upstream_port}/{pace}"
                + ("/v1" if dialect == "OpenAI" else ""),
                "api_key": "x",
            },
        }
        for dialect, name in MODELS.items()
        for pace in PACES
    ]
    # JSON is YAML.
    options = {"telemetry": False, "use_chat_completions_url_for_anthropic_messages": True}
    settings = {"model_list": models, "litellm_settings": options}
    (folder / "config.yaml").write_text(json.dumps(settings))
    port = _free_port()
    command = [str(HOMES / "litellm" / "bin" / "litellm"), "--config", "config.yaml"]
    command += ["--host", "127.0.0.1", "--port", str(port), "--num_workers", "1"]
    env = {
        "LITELLM_LOCAL_MODEL_COST_MAP": "True",
        "LITELLM_LOG": "ERROR",
        # Keys are not what is measured here: no server of this benchmark asks for one.
        "LITELLM_DANGEROUSLY_PERMIT_WEAK_OR_UNSET_MASTER_KEY": "true",
    }

    def target(row: Row, pace: str) -> Target:
        return Target(path(row), f"{MODELS[row.upstream]}-{pace}")

    with _started(command, folder, port, env) as pid:
        yield Running(pid, port, target)


@contextmanager
def portkey(upstream_port: int, folder: Path) -> Iterator[Running]:
    """One node process; each request names its upstream in headers."""
    script = HOMES / "portkey" / "node_modules" / "@portkey-ai" / "gateway" / "build" / "start-server.js"
    port = _free_port()
    command = ["node", str(script), "--headless", f"--port={port}"]
    env = {"NODE_ENV": "production", "TRUSTED_CUSTOM_HOSTS": "127.0.0.1"}

    def target(row: Row, pace: str) -> Target:
        host = f"http://127.0.0.1:{upstream_port}/{pace}/v1"
        headers = {"x-portkey-provider": row.upstream.lower(), "x-portkey-custom-host": host}
        return Target(path(row), MODELS[row.upstream], headers)

    with _started(command, folder, port, env) as pid:
        yield Running(pid, port, target)


@contextmanager
def _started(command: list[str], folder: Path, port: int, env: dict[str, str]) -> Iterator[int]:
    with tempfile.TemporaryFile("w+") as said:
        process = subprocess.Popen(
            command, cwd=folder, stdout=said, stderr=subprocess.STDOUT, env={**os.environ, **env}
        )
        try:
            pin(process.pid, 0)
            until = time.monotonic() + START_TIMEOUT_S
            while not _answers(port):
                if process.poll() is not None or time.monotonic() > until:
                    said.seek(0)
                    raise NotStarted(f"{command[0]} did not start: {said.read()[-2000:]}")
                time.sleep(0.2)
            yield process.pid
        finally:
            process.terminate()
            process.wait()


def _answers(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
