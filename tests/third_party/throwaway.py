"""A Countersign of its own on loopback, with throw-away keys, for drivers of other people's software."""

import json
import os
import pathlib
import socket
import subprocess
import tempfile
import time
import urllib.error
import urllib.request

TOKEN = "a-token-of-the-driver-0123456789"


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def wait_for(url, seconds=120):
    """Until `url` answers anything at all."""
    for _ in range(seconds * 10):
        try:
            urllib.request.urlopen(url, timeout=2).read()
            return
        except urllib.error.HTTPError:
            return
        except OSError:
            time.sleep(0.1)
    raise SystemExit(f"{url} does not answer")


def post(url, body, headers=()):
    """Status and JSON of the answer, whatever it is."""
    data = json.dumps(body).encode()
    request = urllib.request.Request(url, data, {"content-type": "application/json", **dict(headers)})
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        return error.code, json.loads(error.read() or b"null")


class Site:
    """`connectors` is the section of the same name, as TOML."""

    def __init__(self, connectors, policies, allow_hosts=()):
        self.program = os.environ["COUNTERSIGN"]
        self.dir = pathlib.Path(tempfile.mkdtemp(prefix="countersign-"))
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.config = self.dir / "countersign.toml"
        (self.dir / "policies").mkdir()
        (self.dir / "policies" / "all.cedar").write_text(policies)
        for name in ("receipt", "log"):
            subprocess.run([self.program, "keys", "generate", self.dir / f"{name}.pem"], check=True, capture_output=True)
        self.config.write_text(
            f'[server]\nlisten = "127.0.0.1:{self.port}"\npublic_url = "{self.url}"\n'
            '[keys]\norigin = "test.example/log"\nreceipt = { file = "receipt.pem" }\nlog = { file = "log.pem" }\n'
            '[policies]\ndir = "policies"\n[store]\ndir = "data"\n'
            f"[egress]\nallow_hosts = {json.dumps(list(allow_hosts))}\n{connectors}\n"
        )
        self.process = None

    def start(self):
        environment = {**os.environ, "DRIVER_TOKEN": TOKEN}
        self.log = open(self.dir / "server.log", "wb")
        command = [self.program, "--config", self.config, "serve"]
        self.process = subprocess.Popen(command, env=environment, stdout=self.log, stderr=self.log)
        wait_for(f"{self.url}/healthz")

    def stop(self):
        if self.process:
            self.process.terminate()
            self.process.wait()
            self.process = None

    def metrics(self):
        return urllib.request.urlopen(f"{self.url}/metrics", timeout=5).read().decode()


def check(what, holds, seen=""):
    print(f"{'ok' if holds else 'FAILED'}: {what}")
    if not holds:
        raise SystemExit(f"seen: {seen}")
