"""`ssl-lib export`: writes a trained backbone for other libraries."""

from __future__ import annotations

import argparse
import shlex
import sys
from pathlib import Path

from ssl_lib.cli.common import counted, parse_changes
from ssl_lib.experiment.trained_backbone import TrainedBackbone
from ssl_lib.export.formats import check_format, export
from ssl_lib.runs.files import run_folder
from ssl_lib.training.checkpoint_folder import open_checkpoint

__all__ = ["run_export"]


def run_export(options: argparse.Namespace) -> None:
    """Runs `ssl-lib export`."""
    fmt = check_format(options.export_format)
    checkpoint = open_checkpoint(options.run)
    backbone = TrainedBackbone.from_run(checkpoint, options.part, parse_changes(options.overrides))
    path = Path(options.output or run_folder(checkpoint.path) / "export" / fmt.file)
    usage = export(backbone, options.export_format, path)
    steps = counted(backbone.origin["steps"], "step")
    print(f"{backbone.name}, {backbone.part} of {backbone.origin['method']} after {steps}: {path}", file=sys.stderr)
    if fmt.peer is not None and (changes := fmt.peer(backbone).before):
        print(
            f"note: {options.export_format}'s {backbone.name} has another stem: it loads these weights after "
            f"{counted(len(changes), 'change')}, see below",
            file=sys.stderr,
        )
    card = path / "README.md" if fmt.is_folder else f"{path}.md"
    if fmt.is_folder:
        print(f"to upload it to the hub: hf upload you/name {shlex.quote(str(path))}", file=sys.stderr)
    print(f"model card: {card}; code that loads the weights:\n", file=sys.stderr)
    print(usage)
