"""The hub that is silent, and the hub that answers: a small one of our own, since tests have no network."""

import json
import os
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

NAME, COMMIT = "somebody/tiny-bert", "0" * 40
LOAD = """
import json, sys, time
from transformers import AutoConfig, AutoModelForSequenceClassification, AutoTokenizer
from autoprune.pruning.families import family_of
from autoprune.errors import ModelError
from autoprune.tasks.models import load_classifier, load_config
begun = time.monotonic()
try:
    model, tokenizer = load_classifier(sys.argv[1], load_config(sys.argv[1]))
    said = [type(model).__name__, tokenizer("film")["input_ids"][0]]
except ModelError as error:
    said = [error.message, error.hint]
print(json.dumps([time.monotonic() - begun, said]))
"""


def load(name: str, home: Path, **environment: str) -> tuple[float, list[str], str]:
    """Load a model in a process of its own: its seconds, what it said, and what it printed beside that."""
    known = {**os.environ, "HF_HOME": str(home), "HF_HUB_OFFLINE": "0", "TRANSFORMERS_OFFLINE": "0", **environment}
    done = subprocess.run([sys.executable, "-c", LOAD, name], capture_output=True, text=True, env=known, check=False)
    assert done.returncode == 0, done.stderr
    seconds, said = json.loads(done.stdout)
    return seconds, said, done.stderr


@pytest.fixture
def silent() -> Iterator[str]:
    """The address of a hub that takes connections and never answers."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        yield f"http://127.0.0.1:{taken.getsockname()[1]}"


@pytest.fixture
def answering(tiny_classifier: str) -> Iterator[tuple[str, list[str]]]:
    """The address of a hub that has one model, and what was asked of it."""
    asked: list[str] = []

    class Hub(BaseHTTPRequestHandler):
        def log_message(self, *_args: object) -> None:
            pass

        def do_HEAD(self) -> None:
            self.answer(body=False)

        def do_GET(self) -> None:
            self.answer(body=True)

        def answer(self, *, body: bool) -> None:
            asked.append(f"{self.command} {self.path}")
            file = Path(tiny_classifier, self.path.rpartition("/")[2].partition("?")[0])
            found = self.path == "/" or (self.path.startswith(f"/{NAME}/resolve/") and file.is_file())
            data = file.read_bytes() if found and file.is_file() else b""
            self.send_response(200 if found else 404)
            for header, value in (("ETag", f'"{file.name}"'), ("X-Repo-Commit", COMMIT)):
                self.send_header(header, value)
            if not found:
                self.send_header("X-Error-Code", "EntryNotFound")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            if body:
                self.wfile.write(data)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}", asked
    server.shutdown()
    server.server_close()


def test_a_silent_hub_ends_in_seconds_with_words(silent: str, tmp_path: Path) -> None:
    seconds, (message, hint), talk = load(NAME, tmp_path, HF_ENDPOINT=silent)
    assert seconds < 15, "the hub's client went through its retries, which wait for 23 seconds"
    assert f"the hub {silent} does not answer" in message
    assert "folder" in hint
    assert "Retrying" not in talk


def test_a_hub_that_is_forbidden_is_not_blamed(tmp_path: Path) -> None:
    _, (message, _), _ = load(NAME, tmp_path, HF_HUB_OFFLINE="1")
    assert "HF_HUB_OFFLINE is set" in message


def test_a_silent_hub_does_not_matter_to_what_is_cached(silent: str, tiny_classifier: str, tmp_path: Path) -> None:
    place = tmp_path / "hub" / f"models--{NAME.replace('/', '--')}"
    shutil.copytree(tiny_classifier, place / "snapshots" / COMMIT)
    (place / "refs").mkdir()
    (place / "refs" / "main").write_text(COMMIT)
    seconds, said, talk = load(NAME, tmp_path, HF_ENDPOINT=silent)
    assert said == ["BertForSequenceClassification", 2]
    assert "Retrying" not in talk
    assert seconds < 20


def test_a_hub_that_answers_is_asked(answering: tuple[str, list[str]], tmp_path: Path) -> None:
    address, asked = answering
    _, said, talk = load(NAME, tmp_path, HF_ENDPOINT=address)
    assert said == ["BertForSequenceClassification", 2], (said, asked, talk)
    assert any(question.startswith("GET") and "model.safetensors" in question for question in asked)


def test_a_folder_asks_nobody(tiny_classifier: str, tmp_path: Path, answering: tuple[str, list[str]]) -> None:
    _, said, _ = load(tiny_classifier, tmp_path, HF_ENDPOINT=answering[0])
    assert said[0] == "BertForSequenceClassification"
    assert answering[1] == []
