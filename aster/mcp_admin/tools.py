"""The tools of the admin MCP server (features M4): each app offers its own, and the gateway serves what is offered.

A tool is a face like a view of the API: it reads its arguments, calls one service and answers. Who offers one writes a
function with `@admin_tool` in the app's `mcp_admin`; its docstring is what a model reads about it.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from rest_framework import exceptions
from rest_framework.serializers import Serializer

from aster.accounts.access import MANAGE, READ, Actor
from aster.api import validation_body
from aster.api_bodies import StrictSerializer, check_texts
from aster.errors import AsterError, InvalidInput, NotFound
from aster.mcp_admin.schemas import Schema, input_schema, output_schema

LONGEST_NAME = 40


@dataclass(frozen=True)
class Effect:
    """What a tool may do to what is there (2026-07-28, ToolAnnotations)."""

    reads_only: bool = False
    destroys: bool = False
    is_idempotent: bool = False


READS = Effect(reads_only=True, is_idempotent=True)
ADDS = Effect()
TRIES = Effect(is_idempotent=True)
CHANGES = Effect(destroys=True, is_idempotent=True)
REMOVES = Effect(destroys=True)


@dataclass(frozen=True)
class Answer:
    """What a tool found or did: as data, and in a sentence."""

    data: dict[str, Any]
    words: str


@dataclass(frozen=True)
class Question:
    """What a person is asked before something is removed. `confirm` is what stands for their yes where a client cannot
    ask; `about` tells this object from another one of the same name."""

    words: str
    confirm: str
    about: object


Run = Callable[[Actor, dict[str, Any]], Answer]
Ask = Callable[[Actor, dict[str, Any]], Question]


@dataclass(frozen=True)
class AdminTool:
    """One tool: what it takes and gives, what it does, and what an API key needs for it.

    What takes aster:manage is for admins alone. `asks_outside`: it talks to MCP servers or providers.
    """

    run: Run
    title: str
    takes: type[Serializer[Any]]
    gives: type[Serializer[Any]]
    effect: Effect
    scope: str
    asks_outside: bool
    ask: Ask | None

    @property
    def name(self) -> str:
        return self.run.__name__

    @property
    def description(self) -> str:
        """The docstring in one line: where it breaks in the source says nothing."""
        return " ".join((inspect.getdoc(self.run) or "").split())

    @property
    def input_schema(self) -> Schema:
        return input_schema(self.takes)

    @property
    def output_schema(self) -> Schema:
        return output_schema(self.gives)

    def require_allowed(self, actor: Actor) -> None:
        if self.scope == MANAGE:
            actor.require_admin()
        else:
            actor.require_scope(self.scope)

    def is_for(self, actor: Actor) -> bool:
        try:
            self.require_allowed(actor)
        except AsterError:
            return False
        return True

    def read(self, arguments: Mapping[str, Any]) -> dict[str, Any]:
        """The arguments as values, or InvalidInput with the fields."""
        try:
            check_texts(arguments)
            checked = self.takes(data=dict(arguments))
            checked.is_valid(raise_exception=True)
        except exceptions.ValidationError as error:
            body = validation_body(error.detail)
            raise InvalidInput(body["detail"], fields=body["fields"]) from None
        except exceptions.APIException as error:
            raise InvalidInput(str(error.detail)) from None
        return dict(checked.validated_data)


class Nothing(StrictSerializer):
    """Arguments of a tool that takes none."""


_offered: dict[str, AdminTool] = {}


def admin_tool(
    title: str,
    *,
    gives: type[Serializer[Any]],
    takes: type[Serializer[Any]] = Nothing,
    effect: Effect = READS,
    scope: str = READ,
    asks_outside: bool = False,
    ask: Ask | None = None,
) -> Callable[[Run], Run]:
    """Offer a function as a tool under its own name."""

    def offer(run: Run) -> Run:
        tool = AdminTool(run, title, takes, gives, effect, scope, asks_outside, ask)
        if tool.name in _offered or len(tool.name) > LONGEST_NAME:
            raise ValueError(f"{tool.name} is taken or too long")
        _offered[tool.name] = tool
        return run

    return offer


def offered_to(actor: Actor) -> list[AdminTool]:
    """The tools that `actor` may use, in a stable order."""
    return [tool for _, tool in sorted(_offered.items()) if tool.is_for(actor)]


def find_tool(name: str, *, actor: Actor) -> AdminTool:
    """The tool of this name; raises NotFound, or NotAllowed with what the caller lacks."""
    tool = _offered.get(name)
    if tool is None:
        raise NotFound(f"There is no tool called {name[:100]}.", code="unknown_tool")
    tool.require_allowed(actor)
    return tool
