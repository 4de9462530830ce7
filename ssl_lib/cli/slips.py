"""Slips on the command line, such as words in the wrong order: each is told with the line that was meant."""

from __future__ import annotations

import argparse
import contextlib
import difflib
import io
import os
import re
import shlex
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, TypeAlias

from ssl_lib.cli.common import is_setting
from ssl_lib.cli.words import KINDS
from ssl_lib.errors import ConfigError, did_you_mean

__all__ = ["refuse_slips"]

_DELETES = {"--overwrite"}
"""Options that no line is composed with."""

Parsers: TypeAlias = Mapping[str, argparse.ArgumentParser]


class _Slip(NamedTuple):
    """What is wrong, and the whole line that was meant, where that is known."""

    said: str
    meant: list[str] | None = None


def refuse_slips(arguments: Sequence[str], parser: argparse.ArgumentParser, commands: Parsers) -> None:
    """Looks for slips before anything is parsed.

    Args:
        arguments: Of the command line, a word at least.
        parser: Of the whole command line.
        commands: Those of the commands.

    Raises:
        ConfigError: There are some; the message says what is wrong, and gives the line without them.
    """
    line, said = list(arguments), list[str]()
    while (slip := _first_slip(line, parser, commands)) and len(said) < len(arguments) + 2:
        said.append(slip.said)
        if slip.meant is None:
            raise ConfigError("; ".join(said))
        line = slip.meant
    if said:
        see, right = ("", line) if _is_whole(line, parser) else ("see ", [line[0], "--help"])
        raise ConfigError(f"{'; '.join(said)}: {see}ssl-lib {shlex.join(right)}")


def _first_slip(arguments: list[str], parser: argparse.ArgumentParser, commands: Parsers) -> _Slip | None:
    command = arguments[0]
    if command not in commands:
        return None if command in _options(parser) else _no_command(arguments, parser, commands)
    if {"-h", "--help"} & set(arguments):
        return None
    line = _Line(arguments, commands[command])
    return next(filter(None, (rule(line) for rule in _RULES)), None)


def _no_command(arguments: list[str], parser: argparse.ArgumentParser, commands: Parsers) -> _Slip:
    """Of a first word that is no command."""
    first, *rest = arguments
    if f"--{first}" in _options(parser):
        return _Slip(f"{first} is an option", [*rest, f"--{first}"])
    if found := next((word for word in rest if word in commands), None):
        rest.remove(found)
        return _Slip("COMMAND comes first", [found, first, *rest])
    what, known = ("argument", _options(parser)) if first.startswith("-") else ("command", commands)
    if near := difflib.get_close_matches(first, known, n=1):
        return _Slip(f"unknown {what} {first!r}, perhaps {near[0]}", [near[0], *rest])
    return _Slip(f"unknown {what} {first!r}.{did_you_mean(first, known)}")


class _Line:
    """A command line, told apart as its parser does it.

    Attributes:
        tokens: The whole line.
        words: Places in it of the words, the command and options' values not among them.
        unknown: Places of the options that the command does not have.
        given: The options that it has.
        values: Those with a value, and the value.
        kind: What the first word should be, where that can be seen.
    """

    def __init__(self, tokens: list[str], parser: argparse.ArgumentParser) -> None:
        self.tokens, self.parser, self.options = tokens, parser, _options(parser)
        self.places = [action for action in parser._actions if not action.option_strings]
        self.words: list[int] = []
        self.unknown: list[int] = []
        self.given: list[argparse.Action] = []
        self.values: list[tuple[argparse.Action, str]] = []
        first = self.places[0].dest
        self.kind = KINDS.get("resumed" if first == "config" and "--resume" in tokens else first)
        waiting: argparse.Action | None = None
        only_words = False
        for at, token in enumerate(tokens[1:], 1):
            if token == "--" and not only_words:
                only_words = True
                continue
            if only_words or not re.match("--?[a-zA-Z]", token):
                if waiting is None:
                    self.words.append(at)
                else:
                    self.values.append((waiting, token))
                waiting = None
                continue
            name, _, value = token.partition("=")
            long = token.startswith("--") or f"-{name}" in self.options  # of -output, a dash is missing
            action = self.options.get(name if long else token[:2])
            if action is None:
                self.unknown.append(at)
            else:
                self.given.append(action)
            if action and value:
                self.values.append((action, value))
            waiting = action if action and action.nargs is None and token in action.option_strings else None

    def fits(self, at: int) -> bool:
        """Whether a word can be the first."""
        with contextlib.suppress(OSError):  # a long setting is no file's name
            return self.kind is None or self.kind.fits(self.tokens[at])
        return False

    def is_setting(self, at: int) -> bool:
        """Whether a word is `key=value`, in a command that takes them."""
        return self.takes_settings and is_setting(self.tokens[at])

    @property
    def takes_settings(self) -> bool:
        """Whether the command takes `key=value`."""
        return "overrides" in {place.dest for place in self.places} or self.parser.get_default("overrides") is not None

    @property
    def takes_words(self) -> bool:
        """Whether any word may follow the first ones."""
        last = self.places[-1]
        return last.nargs in ("*", "+") and (last.dest != "overrides" or bool(self.parser.get_default("words")))

    @property
    def firsts(self) -> list[int]:
        """The words that must be of the kind, settings aside."""
        several = self.places[0].nargs == "+"
        return [at for at in self.words if not self.is_setting(at)] if several else self.words[:1]

    @property
    def homeless(self) -> list[int]:
        """The words that the command has no place for."""
        single = sum(place.nargs in (None, "?") for place in self.places)
        misfits = [at for at in self.firsts if not self.fits(at)]
        left = [] if self.takes_words else [at for at in self.words[single:] if not self.is_setting(at)]
        return misfits + left

    def replaced(self, at: int, *tokens: str, upto: int = 0) -> list[str]:
        """The line with other tokens for one, or for those before `upto`."""
        return [*self.tokens[:at], *tokens, *self.tokens[max(at + 1, upto) :]]


def _option(line: _Line) -> _Slip | None:
    """An unknown option, such as a place's name or a setting with dashes."""
    for at in line.unknown:
        token = line.tokens[at]
        name, equals, value = token.lstrip("-").partition("=")
        if name.upper() in {name for place in line.places for name in re.findall("[A-Z]+", str(place.metavar))}:
            return _Slip(f"{name.upper()} stands without --{name}", line.replaced(at, *([value] if equals else [])))
        if line.takes_settings and "." in name and (equals or at + 1 in line.words):
            setting = token.lstrip("-") if equals else f"{name}={line.tokens[at + 1]}"
            return _Slip("settings have no dashes", line.replaced(at, setting, upto=at + 1 + (not equals)))
        if near := difflib.get_close_matches(f"--{name}", line.options, n=1, cutoff=0.75):
            if near[0] in _DELETES:
                return _Slip(f"unknown argument {token!r}: settings have no dashes, and {near[0]} deletes a run")
            return _Slip(f"unknown argument {token!r}, perhaps {near[0]}", line.replaced(at, near[0] + equals + value))
        if line.takes_settings and equals:
            return _Slip("settings have no dashes", line.replaced(at, token.lstrip("-")))
        known = {action.option_strings[-1] for action in line.options.values()}
        return _Slip(f"unknown argument {token!r}.{did_you_mean(f'--{name}', known)}")
    return None


def _value(line: _Line) -> _Slip | None:
    """An option's value that is none of its choices."""
    for action, value in line.values:
        choices = list(map(str, action.choices or ()))
        if choices and value not in choices:
            return _Slip(f"unknown {action.dest.replace('_', ' ')} {value!r}.{did_you_mean(value, choices)}")
    return None


def _without_option(line: _Line) -> _Slip | None:
    """A word that is an option's name, its value, or ends like the file that it names."""
    for at in line.homeless:
        word = line.tokens[at]
        for action in line.options.values():
            option, suffix = action.option_strings[0], Path(str(action.metavar)).suffix
            if action in line.given or os.path.exists(word):
                continue
            if f"--{word}" in action.option_strings:
                if f"--{word}" in _DELETES:
                    return _Slip(f"{word} is an option, --{word}, which deletes a run")
                return _Slip(f"{word} is an option", line.replaced(at, f"--{word}"))
            if word in (action.choices or ()) or (suffix and word.endswith(suffix)):
                return _Slip(f"{word} belongs behind {option}", [*line.replaced(at), option, word])
    return None


def _order(line: _Line) -> _Slip | None:
    """A first word of the wrong kind, where another is of the right one."""
    found = next(filter(line.fits, line.words), None)
    if line.kind is None or found in (None, *line.firsts) or line.fits(line.words[0]):
        return None
    if not (line.takes_words or line.is_setting(line.words[0])):
        return None
    assert found is not None
    command, *others = line.replaced(found)
    return _Slip(f"{line.kind.name} comes first", [command, line.tokens[found], *others])


def _kind(line: _Line) -> _Slip | None:
    """A first word, or one of several, of the wrong kind."""
    for at in line.firsts:
        if line.kind is not None and not line.fits(at):
            verdict = line.kind.explain(line.tokens[at])
            return _Slip(verdict.said, line.replaced(at, *verdict.meant) if verdict.meant else None)
    return None


def _setting(line: _Line) -> _Slip | None:
    """A word where only settings may stand."""
    for at in line.homeless if line.takes_settings else ():
        word = line.tokens[at]
        if "." in word and at + 1 in line.homeless:
            return _Slip("settings are key=value", line.replaced(at, f"{word}={line.tokens[at + 1]}", upto=at + 2))
        return _Slip(f"cannot read {word!r}: settings are key=value, such as trainer.batch_size=128")
    return None


_RULES: Sequence[Callable[[_Line], _Slip | None]] = (_option, _value, _without_option, _order, _kind, _setting)


def _options(parser: argparse.ArgumentParser) -> dict[str, argparse.Action]:
    return {text: action for action in parser._actions for text in action.option_strings}


def _is_whole(line: Sequence[str], parser: argparse.ArgumentParser) -> bool:
    """Whether nothing is missing in a line; it may be one that prints help and ends."""
    with contextlib.redirect_stderr(io.StringIO()), contextlib.redirect_stdout(io.StringIO()):
        try:
            parser.parse_known_args(line)
        except SystemExit as end:
            return not end.code
    return True
