"""The command line's arguments; imports no torch. Each command's work is in a module of its own."""

from __future__ import annotations

import argparse
import functools
from collections.abc import Mapping
from typing import Any

from ssl_lib.cli.common import find_config
from ssl_lib.cli.parsers import (
    CONFIG,
    IMAGES,
    NULL,
    SUGGEST,
    add_changes,
    add_command,
    add_config,
    add_run,
    checked,
)
from ssl_lib.registry import KINDS
from ssl_lib.version import __version__

__all__ = ["make_parser"]

_LABELED = (
    "other labeled images: a folder with `train` and `val` (or `test`) inside, each with a folder per class; a data "
    "set's name; or a YAML mapping"
)


def make_parser() -> tuple[argparse.ArgumentParser, Mapping[str, argparse.ArgumentParser]]:
    """Returns the parser of the command line, and the parsers of the commands by name.

    The commands' defaults name the function that does the `work`, and whether it runs in several processes
    (`parallel`).
    """
    parser = argparse.ArgumentParser(
        "ssl-lib",
        allow_abbrev=False,
        description="Self-supervised learning on images.",
        epilog="To begin: ssl-lib train quickstart. Help on a command: ssl-lib train --help",
        formatter_class=functools.partial(argparse.HelpFormatter, max_help_position=18),
        **SUGGEST,
    )
    parser.add_argument("-V", "--version", action="version", version=f"ssl_lib {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND", title="commands")
    training, inspecting = (_train, _evaluate), (_doctor, _report, _compare, _sweep)
    using = (_embed, _nearest, _duplicates, _select, _export)
    for add in (*training, *inspecting, *using, _list, _views, _bench, _pack):
        add(commands)
    return parser, commands.choices


def _train(commands: Any) -> None:
    parser = add_command(
        commands,
        "train",
        "train the run that a YAML config describes",
        examples="  ssl-lib train quickstart\n"
        "  ssl-lib train fashion_mnist/byol schedule.epochs=20 run_dir=runs/byol20\n"
        "  ssl-lib train runs/byol20 --resume",
        parallel=True,
    )
    add_config(parser, "trainer.batch_size=128")
    again = parser.add_mutually_exclusive_group()
    again.add_argument("--resume", action="store_true", help="resume from the run's last checkpoint")
    again.add_argument("--overwrite", action="store_true", help="delete an earlier run in the same folder")


def _evaluate(commands: Any) -> None:
    parser = add_command(
        commands,
        "evaluate",
        "evaluate a run next to random weights and raw pixels",
        examples="  ssl-lib evaluate runs/quickstart knn logistic --data path/to/images",
        parallel=True,
    )
    add_run(parser)
    meaning = "protocols (see `ssl-lib list protocols`), by default the protocols of the run's config"
    changes = f"{meaning}; and changes, such as evaluation.knn.k=200"
    parser.add_argument("overrides", nargs="*", default=[], metavar="PROTOCOL | key=value", help=changes)
    parser.add_argument("--data", help=_LABELED)
    parser.add_argument("--output", metavar="FILE.json", help="default: evaluation.json in the run, without changes")


def _doctor(commands: Any) -> None:
    parser = add_command(commands, "doctor", "diagnose a run: what is wrong, and how to fix it")
    parser.add_argument("folder", metavar="RUN", help="a run's folder, finished or not")


def _report(commands: Any) -> None:
    parser = add_command(commands, "report", "write one HTML page on what runs have learned")
    parser.add_argument("runs", nargs="+", metavar="RUN", help="runs' folders, or checkpoint files")
    output = "default: report.html in the run's folder; required for several runs"
    parser.add_argument("-o", "--output", metavar="FILE.html", help=output)
    parser.add_argument("--map", dest="projection", help="umap, tsne or pca; default: the first that is installed")
    parser.add_argument("--no-images", action="store_true", help="include no pictures, for private data")


def _compare(commands: Any) -> None:
    parser = add_command(commands, "compare", "compare runs: accuracies, cost, settings that differ")
    parser.add_argument("folders", metavar="RUN", nargs="+", help="runs' folders; runs of one config are averaged")
    parser.add_argument("-o", "--output", metavar="FILE.csv", help="also write a CSV file, with a line per run")


def _sweep(commands: Any) -> None:
    parser = add_command(
        commands,
        "sweep",
        "train a config with every combination of some values",
        about="Trains one run after the other, each in a folder of its own in <run_dir>_sweep, and compares them.\n"
        "After an interruption, the same command continues; finished runs are not trained again.",
        examples="  ssl-lib sweep quickstart seed=0,1,2 method.temperature=0.1,0.2",
    )
    parser.add_argument("config", metavar="CONFIG", type=checked(find_config), help=CONFIG)
    parser.add_argument("overrides", nargs="+", metavar="key=value,...", help="such as seed=0,1,2 optimizer.lr=0.1,1")


def _embed(commands: Any) -> None:
    parser = add_command(
        commands,
        "embed",
        "compute the embeddings of a folder of images",
        about="Writes the embeddings of all images, with their paths and labels.\n"
        "After an interruption, the same command continues where it stopped.",
        examples="  ssl-lib embed runs/quickstart path/to/images -o photos.npz",
    )
    add_run(parser)
    images = "a folder of images, or one that `ssl-lib pack` wrote; by default the run's training images"
    changes = f"{images}; and changes to the run's data, such as data.root=elsewhere"
    parser.add_argument("overrides", nargs="*", default=[], metavar="IMAGES | key=value", help=changes)
    output = "default: embeddings.npz; .parquet needs the extra `parquet`"
    parser.add_argument("-o", "--output", default="embeddings.npz", metavar="FILE.npz", help=output)
    parser.add_argument("--batch-size", type=int, default=512, help="images per forward pass (default: 512)")
    parser.add_argument("--size", type=int, help="side of the network's input in pixels; default: as in evaluation")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N (default: auto)")
    parser.add_argument("--workers", type=int, help="processes that decode images; default: one per CPU, at most 8")
    parser.add_argument("--precision", default="fp32", help="fp32, bf16, fp16 or auto (default: fp32)")
    parser.add_argument("--skip-unreadable", action="store_true", help="leave out images that cannot be read")
    mirrored = "flip the images from left to right, for `duplicates --flips`"
    parser.add_argument("--mirrored", action="store_true", help=mirrored)


def _of_embeddings(commands: Any, name: str, summary: str, module: str = "curate") -> argparse.ArgumentParser:
    """Adds a command that reads a table of embeddings."""
    parser = add_command(commands, name, summary, module=module)
    parser.add_argument("table", metavar="EMBEDDINGS", help="a file that `ssl-lib embed` wrote")
    parser.add_argument("--device", default="cpu", help="cpu, cuda, cuda:N or auto (default: cpu)")
    return parser


def _nearest(commands: Any) -> None:
    parser = _of_embeddings(commands, "nearest", "find the images most similar to given ones")
    parser.add_argument("queries", nargs="+", metavar="QUERY", help="a path in the table, or a row number")
    parser.add_argument("-k", type=int, default=10, help="number of neighbors (default: 10)")
    parser.add_argument("-o", "--output", metavar="FILE.png", help="write a picture of queries and neighbors")
    parser.add_argument("--images", metavar="ROOT", help=IMAGES)


def _duplicates(commands: Any) -> None:
    parser = _of_embeddings(commands, "duplicates", "find exact copies and groups of near-duplicates", "duplicates")
    parser.add_argument("--threshold", type=float, default=0.98, help="cosine of two duplicates (default: 0.98)")
    flips = "also find mirrored copies: the run that embedded the images, or a table by `ssl-lib embed --mirrored`"
    parser.add_argument("--flips", metavar="RUN", help=flips)
    shown = "number of groups, largest first, to print (default: 10) and on the page (default: 100)"
    parser.add_argument("--show", type=int, help=shown)
    output = "a page with the groups (.html), or the list of the paths to drop: all but one of each group"
    parser.add_argument("-o", "--output", metavar="FILE", help=output)
    parser.add_argument("--images", metavar="ROOT", help=IMAGES)
    parser.add_argument("--null", action="store_true", help=NULL)


def _select(commands: Any) -> None:
    parser = _of_embeddings(commands, "select", "select a diverse subset")
    parser.add_argument("-n", type=int, required=True, dest="count", help="number of images")
    method = "k-center: each next image is the farthest from the selected ones (default)"
    parser.add_argument("--method", default="k-center", choices=("k-center", "random"), help=method)
    parser.add_argument("--seed", type=int, default=0, help="seed of the first image, or of all (default: 0)")
    output = "paths in the order of selection (default: selected.txt)"
    parser.add_argument("-o", "--output", default="selected.txt", metavar="FILE.txt", help=output)
    parser.add_argument("--null", action="store_true", help=NULL)


def _export(commands: Any) -> None:
    parser = add_command(commands, "export", "write a trained backbone for other libraries")
    add_run(parser)
    add_changes(parser, "evaluation.image_size=96")
    formats = "torchvision, timm, safetensors, onnx, torch_export or huggingface"
    parser.add_argument("--to", required=True, dest="export_format", metavar="FORMAT", help=formats)
    output = "file, or folder for huggingface; default: in RUN/export"
    parser.add_argument("-o", "--output", metavar="PATH", help=output)
    parser.add_argument("--part", choices=("teacher", "student"), help="default: the part that is evaluated")


def _list(commands: Any) -> None:
    parser = add_command(commands, "list", "list the available components and configs")
    parser.add_argument("kind", nargs="?", metavar="KIND", help=f"{', '.join(KINDS)}, losses or configs; default: all")
    parser.add_argument("name", nargs="?", metavar="NAME", help="show this component's arguments")


def _views(commands: Any) -> None:
    parser = add_command(commands, "views", "draw images and their augmented views")
    add_config(parser, "views.preset=byol")
    parser.add_argument("-o", "--output", default="views.png", metavar="FILE.png", help="default: views.png")
    parser.add_argument("--images", type=int, default=6, help="number of images, evenly spaced (default: 6)")


def _bench(commands: Any) -> None:
    parser = add_command(commands, "bench", "measure where a training step's time goes")
    add_config(parser, "trainer.batch_size=128")
    parser.add_argument("--seconds", type=float, default=10.0, help="how long to measure (default: 10)")


def _pack(commands: Any) -> None:
    about = "Resizes each image's shorter side to SIZE, crops its center to a square, and writes arrays to DST."
    parser = add_command(commands, "pack", "resize a folder of images once, into arrays that load fast", about=about)
    parser.add_argument("source", metavar="SRC", help="class folders, any tree of images, or train and val folders")
    parser.add_argument("destination", metavar="DST", help="folder for the arrays; an interrupted pack continues there")
    add_changes(parser, "data.bands=all")
    parser.add_argument("--size", type=int, default=256, help="side of the squares in pixels (default: 256)")
    parser.add_argument("--tile", action="store_true", help="cut large images into squares instead of resizing them")
    parser.add_argument("--channels", type=int, default=3, choices=(1, 3), help="3 for RGB, 1 for gray (default: 3)")
    parser.add_argument("--workers", type=int, help="processes that decode images; default: one per CPU, at most 8")
    parser.add_argument("--skip-unreadable", action="store_true", help="leave out images that cannot be read")
