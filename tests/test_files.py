"""Locks that no ended process keeps."""

from __future__ import annotations

import subprocess
import sys
import threading

from ssl_lib.files import locked

HOLD = """
import sys, time
from pathlib import Path
from ssl_lib.files import locked
with locked(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(600)
"""


def test_a_lock_holds_others_off_until_its_process_ends_even_by_a_kill(tmp_path):
    path = tmp_path / "cache" / ".download.lock"
    command = [sys.executable, "-c", HOLD, str(path)]
    taken = threading.Event()

    def take():
        with locked(path):
            taken.set()

    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout.readline() == "held\n"
        waiting = threading.Thread(target=take, daemon=True)
        waiting.start()
        assert not taken.wait(0.2)
        holder.kill()
        assert taken.wait(60)
    assert path.exists()
    with locked(path):  # the file alone is no lock
        pass
