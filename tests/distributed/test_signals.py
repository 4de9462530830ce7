"""Signal handlers, tested with real signals in this process and in workers."""

from __future__ import annotations

import multiprocessing
import os
import re
import signal
import threading
import time
from pathlib import Path

import pytest

from ssl_lib import LARS, Schedule, Trainer
from ssl_lib.distributed.signals import STOP_SIGNALS, leave_signals_to_parent, stop_on_signals
from ssl_lib.training.callbacks import Callback, default_callbacks
from ssl_lib.training.checkpoint import load_checkpoint
from ssl_lib.training.checkpoint_folder import find_checkpoint


def handlers():
    return [signal.getsignal(number) for number in STOP_SIGNALS]


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGUSR1, 138)])
def test_first_signal_asks_to_stop_and_only_ctrl_c_interrupts_after_it(number, code, capfd):
    before, calls = handlers(), []
    with stop_on_signals(lambda: calls.append(True)) as received:
        assert (received.signal, received.exit_code) == (None, 0)
        signal.raise_signal(number)
        signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(signal.SIGUSR1)
        assert calls == [True] and (received.signal, received.exit_code) == (number, code)
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    assert handlers() == before
    expected = f"\n{number.name}: stopping after this update; press Ctrl-C to abort immediately\n"
    assert capfd.readouterr().err == expected


def test_script_in_the_docs_stops_at_a_signal(make_method, make_loader, tmp_path):
    class RaiseSignal(Callback):
        def on_update(self, state):
            signal.raise_signal(signal.SIGTERM)

    text = (Path(__file__).parents[2] / "docs" / "reliability.md").read_text(encoding="utf-8")
    (block,) = re.findall(r"```python\n(.*?)```", text, flags=re.S)
    method = make_method("simclr")
    names = {"method": method, "loader": make_loader(), "optimizer": LARS(method.param_groups(0.0), lr=0.1)}
    names["trainer"] = Trainer(tmp_path, callbacks=[RaiseSignal(), *default_callbacks(tmp_path)], device="cpu")
    with pytest.raises(SystemExit) as stopped:
        exec(compile(block, "docs/reliability.md", "exec"), {**names, "schedule": Schedule(epochs=2)})
    assert stopped.value.code == 143
    assert load_checkpoint(find_checkpoint(tmp_path))["step"] == 1


def test_ignored_signal_stays_ignored_and_an_error_restores_the_handlers():
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with pytest.raises(ZeroDivisionError), stop_on_signals(lambda: None) as received:
            signal.raise_signal(signal.SIGINT)
            assert received.signal is None
            assert signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL
            raise ZeroDivisionError
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
        assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    finally:
        signal.signal(signal.SIGINT, before)


def worker(ready):
    leave_signals_to_parent()
    os.kill(os.getpid(), signal.SIGTERM)  # not from the parent
    while (
        signal.SIGTERM in signal.sigpending()
    ):  # wait until it has been handled: a second pending SIGTERM would be merged with it
        time.sleep(0.001)
    ready.set()
    signal.pause()


@pytest.mark.slow
def test_worker_of_a_fork_server_ends_by_a_sigterm_from_its_parent_only():
    context = multiprocessing.get_context("forkserver")  # the default of Python 3.14
    ready = context.Event()
    process = context.Process(target=worker, args=(ready,))
    process.start()
    try:
        assert ready.wait(60)
        process.terminate()
        process.join(60)
        assert process.exitcode == 0
    finally:
        process.kill()


def test_other_threads_change_no_handlers():
    before, inside = handlers(), []

    def enter():
        with stop_on_signals(lambda: None):
            inside.append(handlers())

    thread = threading.Thread(target=enter)
    thread.start()
    thread.join()
    assert inside == [before]
