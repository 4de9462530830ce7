"""`ssl-lib export`: a trained backbone for other libraries and programs."""

from __future__ import annotations

import argparse
import shlex
import sys
from pathlib import Path
from typing import Any

from ssl_lib.checkpoint import find_checkpoint, run_folder
from ssl_lib.commands.common import counted
from ssl_lib.export.formats import FORMATS, check_format, export
from ssl_lib.trained_backbone import Backbone

__all__ = ["add"]


def add(commands: Any) -> None:
    """Enters the command."""
    parser = commands.add_parser("export", allow_abbrev=False, help="write a trained backbone for other libraries")
    parser.add_argument("target", metavar="RUN", help="a run's folder, or one checkpoint file")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="changes, such as evaluation.image_size=96")
    parser.add_argument("--to", required=True, metavar="FORMAT", help=f"one of {', '.join(FORMATS)}")
    parser.add_argument("-o", "--output", metavar="PATH", help="the file (huggingface: folder); else in RUN/export")
    parser.add_argument("--part", choices=("teacher", "student"), help="by default what the evaluation takes")
    parser.set_defaults(run=_export)


def _export(options: argparse.Namespace) -> None:
    fmt = check_format(options.to)
    checkpoint = find_checkpoint(options.target)
    backbone = Backbone.from_run(checkpoint, options.part, options.overrides)
    path = Path(options.output or run_folder(checkpoint) / "export" / fmt.file)
    usage = export(backbone, options.to, path)
    steps = counted(backbone.origin["steps"], "step")
    print(f"{backbone.name}, {backbone.part} of {backbone.origin['method']} after {steps}: {path}", file=sys.stderr)
    if fmt.peer is not None and (changes := fmt.peer(backbone).before):
        print(
            f"note: {options.to}'s own {backbone.name} has another stem: it takes these weights after "
            f"{counted(len(changes), 'change')}, see below",
            file=sys.stderr,
        )
    card = path / "README.md" if fmt.is_folder else f"{path}.md"
    if fmt.is_folder:
        print(f"to put it on the hub: hf upload you/name {shlex.quote(str(path))}", file=sys.stderr)
    print(f"what it is worth: {card}; to use it, as it stands:\n", file=sys.stderr)
    print(usage)
