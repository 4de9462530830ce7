"""What each command takes, known without torch; what it does is in a module that is imported to do it."""

from __future__ import annotations

import argparse
import functools
from collections.abc import Mapping
from typing import Any

from ssl_lib.cli.words import FORMATS, PROJECTIONS, PROTOCOLS
from ssl_lib.registry import KINDS
from ssl_lib.version import __version__

__all__ = ["make_parser"]

_CONFIG = "a YAML file, the name of a bundled config such as quickstart, or a run's folder"
_RUN = "a run's folder, or one checkpoint file"


def make_parser() -> tuple[argparse.ArgumentParser, Mapping[str, argparse.ArgumentParser]]:
    """The parser of the command line, and those of the commands by name.

    Their defaults say where the `work` is done, whether in several processes (`parallel`), and whether a command takes
    words among its changes (`words`).
    """
    parser = argparse.ArgumentParser(
        "ssl-lib",
        allow_abbrev=False,
        description="Self-supervised learning on images.",
        epilog="To begin: ssl-lib train quickstart. More on a command: ssl-lib train --help",
        formatter_class=functools.partial(argparse.HelpFormatter, max_help_position=18),
    )
    parser.add_argument("-V", "--version", action="version", version=f"ssl_lib {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND", title="commands")
    training, looking = (_train, _evaluate), (_doctor, _report, _compare, _sweep)
    using = (_embed, _nearest, _duplicates, _select, _export)
    for add in (*training, *looking, *using, _list, _views, _bench, _pack, _replay):
        add(commands)
    return parser, commands.choices


def _command(
    commands: Any, name: str, summary: str, *, module: str = "", says: str = "", examples: str = "", **defaults: Any
) -> argparse.ArgumentParser:
    """Enters a command, whose work is done in `module`, by default that of its name."""
    parser: argparse.ArgumentParser = commands.add_parser(
        name,
        allow_abbrev=False,
        help=summary,
        description=says or f"{summary[0].upper()}{summary[1:]}.",
        epilog=examples and f"for example:\n{examples}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.set_defaults(work=f"{module or name}:run_{name}", **{"parallel": False, "words": False, **defaults})
    return parser


def _overrides(parser: argparse.ArgumentParser, example: str) -> None:
    """Lets a command take `key=value` changes of the config, of which it names one."""
    parser.add_argument("overrides", nargs="*", default=[], metavar="key=value", help=f"changes, such as {example}")


def _train(commands: Any) -> None:
    parser = _command(
        commands,
        "train",
        "train the run that a YAML config describes",
        examples="  ssl-lib train quickstart\n"
        "  ssl-lib train fashion_mnist/byol schedule.epochs=20 run_dir=runs/byol20\n"
        "  ssl-lib train runs/byol20 --resume",
        parallel=True,
    )
    parser.add_argument("config", metavar="CONFIG", help=_CONFIG)
    _overrides(parser, "trainer.batch_size=128")
    again = parser.add_mutually_exclusive_group()
    again.add_argument("--resume", action="store_true", help="go on from the run's last checkpoint")
    again.add_argument("--overwrite", action="store_true", help="delete an earlier run in the same folder")


def _evaluate(commands: Any) -> None:
    parser = _command(
        commands,
        "evaluate",
        "score a run beside random weights and raw pixels",
        examples="  ssl-lib evaluate runs/quickstart knn logistic --data path/to/images",
        parallel=True,
        words=True,
    )
    parser.add_argument("run", metavar="RUN", help=_RUN)
    parser.add_argument(
        "overrides",
        nargs="*",
        default=[],
        metavar="PROTOCOL | key=value",
        help=f"what to measure, of {', '.join(PROTOCOLS)}; and changes, such as evaluation.knn.k=200. Without a "
        "protocol, those of the run's config",
    )
    parser.add_argument("--data", help="other labeled images: a folder, a data set's name or a YAML mapping")
    parser.add_argument("--output", metavar="FILE.json", help="evaluation.json in the run if nothing is changed")


def _doctor(commands: Any) -> None:
    parser = _command(commands, "doctor", "say what is wrong with a run, and what to do")
    parser.add_argument("folder", metavar="RUN", help="a run's folder, finished or under way")


def _report(commands: Any) -> None:
    parser = _command(commands, "report", "write one HTML page on what runs have learned", overrides=[])
    parser.add_argument("runs", nargs="+", metavar="RUN", help="runs' folders, or checkpoint files")
    parser.add_argument("-o", "--output", metavar="FILE.html",
                        help="default: report.html in the run's folder; of several runs one is needed")  # fmt: skip
    parser.add_argument("--map", dest="projection", choices=PROJECTIONS, help="by default the first that is installed")
    parser.add_argument("--no-images", action="store_true", help="show no picture, for private data")


def _compare(commands: Any) -> None:
    parser = _command(commands, "compare", "runs side by side: accuracies, cost, settings that differ")
    parser.add_argument("folders", metavar="RUN", nargs="+", help="folders of runs; those of one config are averaged")
    parser.add_argument("-o", "--output", metavar="FILE.csv", help="also a CSV file, with a line per run")


def _sweep(commands: Any) -> None:
    parser = _command(
        commands,
        "sweep",
        "train a config with every combination of some values",
        says="Trains one run after the other, each in a folder of its own below the config's\n"
        "run_dir with _sweep behind it, and compares them. Broken off, the same command\n"
        "goes on; runs that are finished are not trained again.",
        examples="  ssl-lib sweep quickstart seed=0,1,2 method.temperature=0.1,0.2",
    )
    parser.add_argument("config", metavar="CONFIG", help="a YAML file, or the name of a bundled config")
    parser.add_argument("overrides", nargs="+", metavar="key=value,value,...",
                        help="such as seed=0,1,2 method.temperature=0.1,0.2")  # fmt: skip


def _embed(commands: Any) -> None:
    parser = _command(
        commands,
        "embed",
        "pass a folder of images through a run, and keep embeddings",
        says="Writes the embeddings of all images, with their paths and labels. An embed\n"
        "broken off goes on where it stopped, when the same command is given again.",
        examples="  ssl-lib embed runs/quickstart path/to/images -o photos.npz",
        words=True,
    )
    parser.add_argument("run", metavar="RUN", help=_RUN)
    parser.add_argument(
        "overrides",
        nargs="*",
        metavar="IMAGES | key=value",
        help="a folder of images, in class folders or any tree, or one that `ssl-lib pack` wrote; by default the run's "
        "own training images; and changes to the run's data, such as data.root=elsewhere",
    )
    parser.add_argument("-o", "--output", default="embeddings.npz", metavar="FILE.npz",
                        help=".npz, or .parquet with the extra `parquet` (default: embeddings.npz)")  # fmt: skip
    parser.add_argument("--batch-size", type=int, default=512, help="images per forward pass (default: 512)")
    parser.add_argument("--size", type=int, help="side of the images shown in pixels; by default as the run evaluates")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N (default: auto)")
    parser.add_argument("--workers", type=int, help="processes that decode; by default as many as there are CPUs")
    parser.add_argument("--precision", default="fp32", help="fp32, bf16, fp16 or auto (default: fp32)")
    parser.add_argument("--skip-unreadable", action="store_true", help="leave out images that cannot be read")


def _of_embeddings(commands: Any, name: str, summary: str) -> argparse.ArgumentParser:
    """Enters a command that looks at a table of embeddings."""
    parser = _command(commands, name, summary, module="curate")
    parser.add_argument("table", metavar="EMBEDDINGS", help="a file that `ssl-lib embed` wrote")
    parser.add_argument("--device", default="cpu", help="cpu, cuda, cuda:N or auto (default: cpu)")
    return parser


def _nearest(commands: Any) -> None:
    parser = _of_embeddings(commands, "nearest", "images most like one, in a table of embeddings")
    parser.add_argument("queries", nargs="+", metavar="QUERY", help="a path in the table, or a row")
    parser.add_argument("-k", type=int, default=10, help="how many neighbors (default: 10)")
    parser.add_argument("-o", "--output", metavar="FILE.png", help="a picture of queries and neighbors")
    parser.add_argument("--images", metavar="ROOT", help="where the images are; by default where they were embedded")


def _duplicates(commands: Any) -> None:
    parser = _of_embeddings(commands, "duplicates", "groups of near-duplicates, in a table of embeddings")
    parser.add_argument("--threshold", type=float, default=0.98, help="cosine of two that are one (default: 0.98)")
    parser.add_argument("--show", type=int, default=10, help="groups to print, the largest (default: 10)")
    parser.add_argument("-o", "--output", metavar="FILE.txt", help="the paths to drop, of each group all but one")


def _select(commands: Any) -> None:
    parser = _of_embeddings(commands, "select", "a diverse subset of a table of embeddings")
    parser.add_argument("-n", type=int, required=True, dest="count", help="how many images")
    parser.add_argument("--method", default="k-center", choices=("k-center", "random"),
                        help="k-center: each next image is the farthest from those chosen (default)")  # fmt: skip
    parser.add_argument("--seed", type=int, default=0, help="draws the first image, or all random ones (default: 0)")
    parser.add_argument("-o", "--output", default="selected.txt", metavar="FILE.txt",
                        help="writes the paths in the order of the choice (default: selected.txt)")  # fmt: skip


def _export(commands: Any) -> None:
    parser = _command(commands, "export", "write a trained backbone for other libraries",
                      examples="  ssl-lib export runs/photos --to timm")  # fmt: skip
    parser.add_argument("run", metavar="RUN", help=_RUN)
    _overrides(parser, "evaluation.image_size=96")
    parser.add_argument("--to", required=True, dest="export_format", metavar="FORMAT", choices=FORMATS,
                        help=f"one of {', '.join(FORMATS)}")  # fmt: skip
    parser.add_argument("-o", "--output", metavar="PATH", help="the file (huggingface: folder); else in RUN/export")
    parser.add_argument("--part", choices=("teacher", "student"), help="by default what the evaluation takes")


def _list(commands: Any) -> None:
    parser = _command(commands, "list", "what can be named in a config")
    parser.add_argument("kind", nargs="?", metavar="KIND",
                        help=f"one of {', '.join([*KINDS, 'losses', 'configs'])}; all of them by default")  # fmt: skip
    parser.add_argument("name", nargs="?", metavar="NAME", help="a part of that kind, to see its arguments")


def _views(commands: Any) -> None:
    parser = _command(commands, "views", "draw some images and their views, to be checked by eye")
    parser.add_argument("config", metavar="CONFIG", help=_CONFIG)
    _overrides(parser, "views.preset=byol")
    parser.add_argument("-o", "--output", default="views.png", metavar="FILE.png", help="default: views.png")
    parser.add_argument("--images", type=int, default=6, help="how many, evenly spaced in the data (default: 6)")


def _bench(commands: Any) -> None:
    parser = _command(commands, "bench", "run a config for a few seconds: where the time goes")
    parser.add_argument("config", metavar="CONFIG", help=_CONFIG)
    _overrides(parser, "trainer.batch_size=128")
    parser.add_argument("--seconds", type=float, default=10.0, help="how long to measure (default: 10)")


def _pack(commands: Any) -> None:
    parser = _command(
        commands,
        "pack",
        "resize a folder of images once, into arrays that load fast",
        says="Resizes each image's shorter side to SIZE, crops its center to a square, and\nwrites arrays to DST.",
    )
    parser.add_argument("source", metavar="SRC", help="class folders, any tree of images, or train and val folders")
    parser.add_argument("destination", metavar="DST", help="a folder for the arrays; a pack broken off goes on there")
    parser.add_argument("--size", type=int, default=256, help="side of the squares in pixels (default: 256)")
    parser.add_argument("--channels", type=int, default=3, choices=(1, 3), help="3 for RGB, 1 for gray (default: 3)")
    parser.add_argument("--workers", type=int, help="processes that decode; by default as many as there are CPUs")
    parser.add_argument("--skip-unreadable", action="store_true", help="leave out images that cannot be read")


def _replay(commands: Any) -> None:
    parser = _command(commands, "replay", "repeat the step at which a run met NaN: where it arose")
    parser.add_argument("folder", metavar="RUN", help="a run's folder")
    _overrides(parser, "trainer.precision=fp32")
    parser.add_argument("--step", type=int, help="counted from 0; by default the one that stopped the run")
