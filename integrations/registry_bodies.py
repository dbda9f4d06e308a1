"""Entries of registries as answers, and bodies as what is added: for the API and the admin MCP server alike."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from rest_framework import serializers

from aster.accounts.access import Actor
from aster.api_bodies import StrictSerializer
from aster.errors import InvalidInput
from integrations.models import EntryStatus, RegistryEntry
from integrations.registry.inputs import LONGEST_VALUE
from integrations.services import registry, servers
from integrations.services.registry import SignIn
from integrations.services.registry_ways import Way, ways_of

_LINE = (
    "id",
    "registry",
    "name",
    "version",
    "title",
    "description",
    "status",
    "status_message",
    "website",
    "repository",
)


class AddEntryIn(StrictSerializer):
    remote = serializers.IntegerField(
        required=False, min_value=0, max_value=99, help_text="Which of its remotes; without, the best way there is."
    )
    package = serializers.IntegerField(
        required=False, min_value=0, max_value=99, help_text="Or which of its packages, if local commands are allowed."
    )
    name = serializers.CharField(required=False, max_length=100, help_text="Without, the entry's title.")
    values = serializers.DictField(
        child=serializers.CharField(max_length=LONGEST_VALUE, allow_blank=True), required=False,
        help_text="What the way `asks` for, by key. What is left out takes its default.",
    )  # fmt: skip
    token = serializers.CharField(
        required=False, max_length=LONGEST_VALUE, write_only=True, help_text="A key that the entry does not ask for."
    )
    client_id = serializers.CharField(
        required=False, max_length=2000, help_text="Of your own app, at a provider that does not let Aster register."
    )
    client_secret = serializers.CharField(required=False, max_length=LONGEST_VALUE, write_only=True)


class AskOut(serializers.Serializer[Any]):
    key = serializers.CharField(help_text="Its name in `values`")
    kind = serializers.CharField(help_text="What it goes into: address, header, variable or argument")
    description = serializers.CharField(allow_blank=True)
    is_required = serializers.BooleanField()
    is_secret = serializers.BooleanField()
    format = serializers.CharField(help_text="string, number, boolean or filepath")
    default: Any = serializers.CharField(allow_blank=True)
    placeholder = serializers.CharField(allow_blank=True)
    choices = serializers.ListField(child=serializers.CharField(), help_text="Empty: anything goes")


class FixedOut(serializers.Serializer[Any]):
    name = serializers.CharField()
    value = serializers.CharField()


class WayOut(serializers.Serializer[Any]):
    key = serializers.CharField(help_text="remote-0 for the first of its remotes, package-0 of its packages")
    kind = serializers.CharField(help_text="streamable-http, sse, npm, pypi, …")
    address = serializers.CharField(help_text="The address as a template, or the whole command")
    problem = serializers.CharField(allow_null=True, help_text="Why it cannot be added; null if it can")
    asks = AskOut(many=True)
    fixed = FixedOut(many=True, help_text="Headers or variables that are sent without asking, as the entry says")


class EntryOut(serializers.Serializer[Any]):
    """What a registry lists. Its words are those of whoever published it."""

    id = serializers.IntegerField()
    registry = serializers.CharField(help_text="The registry's base address")
    name = serializers.CharField()
    version = serializers.CharField()
    title = serializers.CharField(allow_blank=True)
    description = serializers.CharField(allow_blank=True)
    status = serializers.ChoiceField(choices=EntryStatus.choices)
    status_message = serializers.CharField(allow_blank=True)
    website = serializers.CharField(allow_blank=True)
    repository = serializers.CharField(allow_blank=True)
    updated_at = serializers.DateTimeField(allow_null=True)
    reached_by = serializers.ListField(child=serializers.CharField(), help_text="streamable-http, sse, npm, pypi, …")
    server = serializers.CharField(allow_null=True, help_text="The slug of a server that was added from it")


class EntryDetailOut(EntryOut):
    ways = WayOut(many=True, help_text="The best one first")


def show_entries(rows: Iterable[RegistryEntry], actor: Actor) -> list[dict[str, Any]]:
    found = list(rows)
    added = registry.added_entries(found, actor=actor)
    return [_show(row, added[row.pk].slug if row.pk in added else None) for row in found]


def _show(row: RegistryEntry, server: str | None) -> dict[str, Any]:
    line = {name: getattr(row, name) for name in (*_LINE, "updated_at")}
    return {**line, "reached_by": row.ways, "server": server}


def show_entry(row: RegistryEntry, actor: Actor) -> dict[str, Any]:
    return {**show_entries([row], actor)[0], "ways": [show_way(way) for way in ways_of(row)]}


def show_way(way: Way) -> dict[str, Any]:
    names = ("description", "is_required", "is_secret", "format", "default", "placeholder")
    asks = [
        {"key": each.key, "kind": each.kind, **{name: getattr(each.input, name) for name in names},
         "choices": list(each.choices)}
        for each in way.asks
    ]  # fmt: skip
    return {
        "key": way.key, "kind": way.kind, "address": way.address, "problem": way.problem or None, "asks": asks,
        "fixed": [{"name": name, "value": value} for name, value in way.fixed],
    }  # fmt: skip


def add_entry(row: RegistryEntry, body: dict[str, Any], actor: Actor) -> servers.Saved:
    """Add what a body (AddEntryIn) says."""
    sign_in = SignIn(**{name: body.get(name, "") for name in ("token", "client_id", "client_secret")})
    values = dict(body.get("values") or {})
    return registry.add_from_entry(row, way_of(body), values, actor=actor, name=body.get("name", ""), sign_in=sign_in)


def way_of(body: dict[str, Any]) -> str:
    given = [f"{kind}-{body[kind]}" for kind in ("remote", "package") if body.get(kind) is not None]
    if len(given) > 1:
        words = "Give remote or package, not both."
        raise InvalidInput(words, fields={"package": [words]})
    return given[0] if given else ""
