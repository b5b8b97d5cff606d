import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from autoprune.errors import MeasurementError, WaitStoppedError
from autoprune.latency.exclusive import boot_id, lock_path, machine_folder, timing_lock

HOLD = """
import sys, time
from pathlib import Path
from autoprune.latency.exclusive import timing_lock
with timing_lock(folder=Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.readline()
"""


def holder(folder: Path) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(folder)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


def test_another_process_is_waited_for_and_named(tmp_path: Path) -> None:
    process, said = holder(tmp_path), []
    try:
        with pytest.raises(MeasurementError, match="timing on this machine"), timing_lock(0.1, folder=tmp_path):
            pass

        def said_and_let_go(text: str) -> None:
            said.append(text)
            process.communicate("\n")

        with timing_lock(30, said_and_let_go, tmp_path) as waited:
            assert waited >= 1.0
    finally:
        process.kill()
        process.wait()
    assert said == ["Waiting: another autoprune process is timing on this machine."]


def test_a_wish_to_stop_ends_the_wait_soon(tmp_path: Path) -> None:
    process, begun = holder(tmp_path), time.monotonic()
    try:
        with (
            pytest.raises(WaitStoppedError, match="another autoprune process"),
            timing_lock(60, folder=tmp_path, stop=lambda: time.monotonic() - begun > 2),
        ):
            pytest.fail("the lock was taken while another process holds it")
        assert 2 < time.monotonic() - begun < 10
    finally:
        process.kill()
        process.wait()
    with timing_lock(5, folder=tmp_path, stop=lambda: True) as waited:  # free: nothing is waited for
        assert waited < 1.0


def test_lock_ends_with_its_process(tmp_path: Path) -> None:
    process = holder(tmp_path)
    process.kill()
    process.wait()
    with timing_lock(5, folder=tmp_path) as waited:
        assert waited < 1.0


def test_one_thread_may_take_it_twice_another_waits(tmp_path: Path) -> None:
    order: list[str] = []

    def other() -> None:
        with timing_lock(10, folder=tmp_path):
            order.append("other")

    thread = threading.Thread(target=other)
    with timing_lock(folder=tmp_path), timing_lock(0.1, folder=tmp_path):
        thread.start()
        time.sleep(0.2)
        order.append("first")
    thread.join()
    assert order == ["first", "other"]


def test_file_is_for_all_users_of_this_boot(tmp_path: Path) -> None:
    folder = tmp_path / "shared"
    with timing_lock(folder=folder):
        path = lock_path(folder)
        assert path.name == f"{boot_id()}.lock"
        if os.name == "posix":
            assert path.stat().st_mode & 0o777 == 0o666
            assert folder.stat().st_mode & 0o1777 == 0o1777


def test_folder_does_not_follow_tmpdir(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    before = machine_folder()
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    assert machine_folder() == before


def test_unusable_folder_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(MeasurementError, match="file"), timing_lock(folder=tmp_path / "file" / "folder"):
        pass
