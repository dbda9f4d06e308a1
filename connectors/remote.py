"""MCP servers that their makers host: a curated list, each enabled with one click.

The list is a file of data (`remote_servers.yaml`). An installation can have another one: `ASTER_REMOTE_SERVERS_FILE`.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Literal

import yaml
from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from connectors.base import Category, Connector, Kind
from integrations.models import AuthType

OWN_LIST = Path(__file__).with_name("remote_servers.yaml")
SIGN_INS = {"none": {}, "oauth": {"auth_type": AuthType.AUTHORIZATION_CODE}}


class RemoteServer(BaseModel):
    """One entry of the file. `sign_in`: nobody has to, or each person with their own account (OAuth)."""

    model_config = ConfigDict(extra="forbid")

    slug: str = Field(pattern=r"^[a-z0-9][a-z0-9-]{0,48}$")
    name: str = Field(min_length=1, max_length=100)
    category: Category
    description: str = Field(max_length=500)
    url: str = Field(pattern=r"^https?://")
    docs: str = Field(pattern=r"^https?://")
    sign_in: Literal["none", "oauth"]
    transport: Literal["streamable_http", "sse"] = "streamable_http"

    def as_connector(self) -> Connector:
        return Connector(
            slug=self.slug, name=self.name, category=self.category, kind=Kind.REMOTE_MCP, url=self.url, docs=self.docs,
            description=self.description, transport=self.transport, auth=SIGN_INS[self.sign_in],
        )  # fmt: skip


def remote_servers() -> tuple[Connector, ...]:
    """The servers of the list. Raises ImproperlyConfigured if the installation's own file is not what it should be."""
    return _read(settings.ASTER_REMOTE_SERVERS_FILE or str(OWN_LIST))


@cache
def _read(path: str) -> tuple[Connector, ...]:
    try:
        given = yaml.safe_load(Path(path).read_text())
        listed = TypeAdapter(list[RemoteServer]).validate_python(given)
    except (OSError, yaml.YAMLError) as error:
        raise ImproperlyConfigured(f"ASTER_REMOTE_SERVERS_FILE cannot be read: {error}") from None
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(map(str, first["loc"]))
        raise ImproperlyConfigured(f"ASTER_REMOTE_SERVERS_FILE: {where}: {first['msg']}") from None
    return tuple(each.as_connector() for each in listed)
