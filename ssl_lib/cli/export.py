"""`ssl-lib export`: a trained backbone for other libraries and programs."""

from __future__ import annotations

import argparse
import shlex
import sys
from pathlib import Path

from ssl_lib.cli.common import counted
from ssl_lib.experiment.trained_backbone import TrainedBackbone
from ssl_lib.export.formats import check_format, export
from ssl_lib.runs.files import run_folder
from ssl_lib.training.checkpoint_folder import find_checkpoint

__all__ = ["run_export"]


def run_export(options: argparse.Namespace) -> None:
    """Runs `ssl-lib export`."""
    fmt = check_format(options.export_format)
    checkpoint = find_checkpoint(options.run)
    backbone = TrainedBackbone.from_run(checkpoint, options.part, options.overrides)
    path = Path(options.output or run_folder(checkpoint) / "export" / fmt.file)
    usage = export(backbone, options.export_format, path)
    steps = counted(backbone.origin["steps"], "step")
    print(f"{backbone.name}, {backbone.part} of {backbone.origin['method']} after {steps}: {path}", file=sys.stderr)
    if fmt.peer is not None and (changes := fmt.peer(backbone).before):
        print(
            f"note: {options.export_format}'s own {backbone.name} has another stem: it takes these weights after "
            f"{counted(len(changes), 'change')}, see below",
            file=sys.stderr,
        )
    card = path / "README.md" if fmt.is_folder else f"{path}.md"
    if fmt.is_folder:
        print(f"to put it on the hub: hf upload you/name {shlex.quote(str(path))}", file=sys.stderr)
    print(f"what it is worth: {card}; to use it, as it stands:\n", file=sys.stderr)
    print(usage)
