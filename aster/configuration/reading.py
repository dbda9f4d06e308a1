"""YAML as data with its lines: no aliases, no tags, no key twice, bounded in size and depth."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, cast

import yaml

from aster.api_bodies import is_storable
from aster.errors import InvalidInput

MAX_BYTES = 1024 * 1024
MAX_DEPTH = 40
MAX_NUMBER, MAX_DIGITS = 2**53, 80
TEXT = "tag:yaml.org,2002:str"
_TAGS = {f"tag:yaml.org,2002:{name}" for name in ("str", "int", "float", "bool", "null", "map", "seq")}
Path = tuple[str | int, ...]


class Problems(InvalidInput):
    """Everything that is wrong with a file or with storing it; `problems` are lines without any secret."""

    code = "invalid_configuration"

    def __init__(self, problems: list[str]) -> None:
        self.problems = list(dict.fromkeys(problems))
        lines = "\n".join(f"- {line}" for line in self.problems)
        super().__init__(self.problems[0] if len(self.problems) == 1 else f"{len(self.problems)} problems:\n{lines}")


@dataclass
class Source:
    """What was read, the line of each place in it, and what was wrong with the text."""

    value: Any = None
    lines: dict[Path, int] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)

    def say(self, path: Path, words: str) -> str:
        """A problem with its place: `line 4, servers.github.url: …`."""
        near = next((self.lines[path[:n]] for n in range(len(path), -1, -1) if path[:n] in self.lines), 0)
        where = ", ".join([*([f"line {near}"] if near else []), *([dotted(path)] if path else [])])
        return f"{where}: {words}" if where else words


def dotted(path: Path) -> str:
    shown = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path)
    return shown.removeprefix(".")[:200]


class _Loader(yaml.SafeLoader):
    """Aliases are refused: a few lines of them can stand for billions of nodes. A date is a text like any other."""

    yaml_implicit_resolvers = {
        first: [(tag, pattern) for tag, pattern in found if not tag.endswith((":timestamp", ":merge"))]
        for first, found in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.events.AliasEvent):
            mark = cast(Any, self.peek_event()).start_mark  # type: ignore[no-untyped-call]
            raise yaml.MarkedYAMLError(None, None, "aliases (*name) are not allowed: write it out", mark)
        return super().compose_node(parent, index)


def read(text: str) -> Source:
    """Raises Problems for what is no YAML at all; what is wrong in it is in the answer's `problems`."""
    if len(text.encode("utf-8", "replace")) > MAX_BYTES:
        raise Problems([f"The file is larger than {MAX_BYTES // 1024} kB."])
    source = Source()
    loader = _Loader(text)
    try:
        node = loader.get_single_node()
        source.value = _value(loader, node, (), source) if node else None
    except yaml.MarkedYAMLError as error:
        where = f"line {error.problem_mark.line + 1}: " if error.problem_mark else ""
        # The problem names tokens and characters, never a value.
        raise Problems([f"{where}this is not YAML as it is taken here: {error.problem}"]) from None
    except (yaml.YAMLError, ValueError):
        raise Problems(["The file is not YAML in UTF-8."]) from None
    except RecursionError:
        raise Problems([f"The file is nested more than {MAX_DEPTH} levels deep."]) from None
    finally:
        cast(Any, loader).dispose()
    return source


def _value(loader: _Loader, node: Any, path: Path, source: Source) -> Any:
    source.lines[path] = node.start_mark.line + 1
    if len(path) > MAX_DEPTH:
        raise RecursionError
    if node.tag not in _TAGS:
        source.problems.append(source.say(path, "tags (!name) are not allowed"))
        return None
    if isinstance(node, yaml.SequenceNode):
        return [_value(loader, each, (*path, number), source) for number, each in enumerate(node.value)]
    if isinstance(node, yaml.MappingNode):
        return _mapping(loader, node, path, source)
    if node.tag != TEXT and not _is_small(loader, node):
        source.problems.append(source.say(path, "a number as large as this one is not taken; quotes make it a text"))
        return None
    value = loader.construct_object(node)
    if (isinstance(value, str) and not is_storable(value)) or (isinstance(value, float) and value - value != 0):
        source.problems.append(source.say(path, "characters or numbers that cannot be stored"))
        return None
    return value


def _is_small(loader: _Loader, node: Any) -> bool:
    """JSON carries whole numbers up to 2^53 (RFC 8259 section 6); long ones take long to read."""
    if len(node.value) > MAX_DIGITS:
        return False
    try:
        value = loader.construct_object(node)
    except (ValueError, OverflowError):
        return False
    return not isinstance(value, int) or abs(value) <= MAX_NUMBER


def _mapping(loader: _Loader, node: Any, path: Path, source: Source) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key_node, value_node in node.value:
        if not isinstance(key_node, yaml.ScalarNode) or not is_storable(key_node.value):
            source.problems.append(source.say((*path,), "a name in it is no text"))
            continue
        key = key_node.value  # as it is written: `on` is a name like any other
        if key in found:
            line = key_node.start_mark.line + 1
            source.problems.append(f"line {line}, {dotted((*path, key))}: this is there twice")
            continue
        found[key] = _value(loader, value_node, (*path, key), source)
        source.lines[*path, key] = key_node.start_mark.line + 1
    return found
