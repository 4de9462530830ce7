"""Checks plain values against type annotations; a constructor's signature is the schema of its arguments."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import inspect
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from inspect import Parameter
from pathlib import Path
from typing import Any, Literal, Union

from ssl_lib.config.inheritance import Inherited, constructors
from ssl_lib.errors import ConfigError, did_you_mean
from ssl_lib.utils.yaml import brief

__all__ = ["REQUIRED", "arguments_of", "check_arguments", "convert"]

REQUIRED = Parameter.empty

_NAMES = {
    bool: "true or false",
    int: "an integer",
    float: "a number",
    str: "text",
    Path: "text",
    list: "a list",
    dict: "a mapping",
    Mapping: "a mapping",
    type(None): "null",
}


def arguments_of(part: Callable[..., Any], given: Sequence[str] = ()) -> dict[str, Parameter]:
    """Returns the arguments of a class or function that a config may set, with evaluated annotations.

    The arguments of a base class are included, as `Inherited`, if the class passes its `**kwargs` to the base.

    Args:
        part: A class, a function or a `functools.partial` of one.
        given: Names of arguments to leave out, which the library passes, such as `backbone`.
    """
    target = part.func if isinstance(part, functools.partial) else part
    arguments = _named(inspect.signature(part), target.__init__ if inspect.isclass(target) else target)
    for init, fixed in constructors(target) if inspect.isclass(target) else ():
        for name, parameter in _named(inspect.signature(init), init).items():
            if name not in (*arguments, *fixed, "self"):
                inherited = {"default": parameter.default, "annotation": parameter.annotation}
                arguments[name] = Inherited(name, Parameter.KEYWORD_ONLY, **inherited)
    return {name: argument for name, argument in arguments.items() if name not in given}


def _named(signature: inspect.Signature, function: Callable[..., Any]) -> dict[str, Parameter]:
    """The arguments of a signature that can be given by name, with the evaluated annotations of its function."""
    hints = _annotations(function)
    kinds = (Parameter.POSITIONAL_OR_KEYWORD, Parameter.KEYWORD_ONLY)
    return {
        name: parameter.replace(annotation=hints.get(name, Any))
        for name, parameter in signature.parameters.items()
        if parameter.kind in kinds
    }


def _annotations(function: Callable[..., Any]) -> dict[str, Any]:
    """The evaluated annotations, except for types that are imported for type checkers only."""
    hints: dict[str, Any] = {}
    for name, annotation in getattr(function, "__annotations__", {}).items():
        one = types.SimpleNamespace(__annotations__={name: annotation})
        with contextlib.suppress(NameError):
            hints |= typing.get_type_hints(one, getattr(function, "__globals__", {}))
    return hints


def check_arguments(values: Mapping[str, Any], allowed: Mapping[str, Parameter], key: str) -> dict[str, Any]:
    """Converts a mapping of arguments to the annotated types and adds the defaults, except for inherited arguments.

    Raises:
        ConfigError: A key is unknown or missing, or a value has the wrong type; the message names it.
    """
    for name in values:
        if name not in allowed:
            raise ConfigError(f"unknown key {brief(_join(key, str(name)))}.{did_you_mean(str(name), allowed, key)}")
    result = {}
    for name, argument in allowed.items():
        if name in values:
            result[name] = convert(values[name], argument.annotation, _join(key, name))
        elif isinstance(argument, Inherited):
            continue
        elif argument.default is REQUIRED:
            raise ConfigError(f"missing key {_join(key, name)!r}: it has no default")
        else:
            result[name] = argument.default
    return result


def convert(value: Any, annotation: Any, key: str) -> Any:
    """Converts a plain value to an annotated type: lists to tuples, mappings to dataclasses, ints to floats.

    Raises:
        ConfigError: The value has another type; the message names the key, the value and the type.
    """
    origin, options = typing.get_origin(annotation), typing.get_args(annotation)
    if annotation is Any:
        return value
    if origin in (Union, types.UnionType):
        return _convert_union(value, options, key)
    if origin is Literal:
        if value not in options or type(value) not in map(type, options):
            raise ConfigError(f"{key}: unknown value {brief(value)}.{did_you_mean(str(value), map(str, options))}")
        return value
    if dataclasses.is_dataclass(annotation) and isinstance(annotation, type):
        return _convert_dataclass(value, annotation, key)
    if origin in (tuple, list, Sequence):
        return _convert_sequence(value, annotation, key)
    if origin in (dict, Mapping) or annotation is dict:
        if not isinstance(value, Mapping):
            raise _wrong_type(value, "a mapping", key)
        item = options[1] if options else Any
        return {name: convert(entry, item, _join(key, str(name))) for name, entry in value.items()}
    return _convert_scalar(value, annotation, key)


def _convert_scalar(value: Any, annotation: Any, key: str) -> Any:
    if annotation not in (bool, int, float, str, type(None)):
        raise ConfigError(f"{key}: a config cannot express {annotation}; build this part in a script")
    if annotation is float and type(value) is int:
        return float(value)
    if type(value) is not annotation:
        raise _wrong_type(value, _NAMES[annotation], key)
    return value


def _convert_union(value: Any, options: tuple[Any, ...], key: str) -> Any:
    if value is None and type(None) in options:
        return None
    options = tuple(option for option in options if option is not type(None))
    exact = [option for option in options if type(value) is option]
    errors = []
    for option in exact or options:
        try:
            return convert(value, option, key)
        except ConfigError as error:
            errors.append(error)
    expected = " or ".join(dict.fromkeys(map(_type_name, options)))
    raise errors[0] if len(errors) == 1 else _wrong_type(value, expected, key)


def _convert_sequence(value: Any, annotation: Any, key: str) -> Any:
    origin, options = typing.get_origin(annotation), typing.get_args(annotation)
    if not isinstance(value, list | tuple):
        raise _wrong_type(value, "a list", key)
    if origin is tuple and options and options[-1] is not Ellipsis:
        if len(value) != len(options):
            raise ConfigError(f"{key}: expected {len(options)} values, got {len(value)}: {brief(value)}")
        kinds: Sequence[Any] = options
    else:
        kinds = [options[0] if options else Any] * len(value)
    pairs = enumerate(zip(value, kinds, strict=True))
    items = [convert(entry, kind, f"{key}[{index}]") for index, (entry, kind) in pairs]
    return items if origin is list else tuple(items)


def _convert_dataclass(value: Any, kind: type, key: str) -> Any:
    if isinstance(value, kind):
        return value
    if not isinstance(value, Mapping):
        raise _wrong_type(value, "a mapping", key)
    arguments = check_arguments(value, arguments_of(kind), key)
    try:
        return kind(**{name: arguments[name] for name in value})
    except ConfigError:
        raise
    except ValueError as error:
        raise ConfigError(f"{key}: {error}" if key else str(error)) from error


def _wrong_type(value: Any, expected: str, key: str) -> ConfigError:
    fix = ""
    if isinstance(value, str) and expected in ("a number", "an integer") and _is_number(value):
        fix = f"; without quotes it is a number: {value:.200}"
    elif "text" in expected and type(value) in (int, float, bool):
        fix = f"; in quotes it is text: '{brief(value)}'"
    return ConfigError(f"{key}: expected {expected}, got {brief(value)} ({_type_name(type(value))}){fix}")


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _type_name(kind: Any) -> str:
    origin = typing.get_origin(kind) or kind
    return _NAMES.get(origin, getattr(origin, "__name__", str(kind)))


def _join(key: str, name: str) -> str:
    return f"{key}.{name}" if key else name
