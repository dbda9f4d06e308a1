"""The connectors there are. A new one: a file in `catalog`, and its line here (docs/adding-a-connector.md)."""

from __future__ import annotations

from aster.errors import NotFound
from connectors.base import Connector
from connectors.catalog.drive import drive
from connectors.catalog.github import github
from connectors.catalog.hubspot import hubspot
from connectors.catalog.jira import jira
from connectors.catalog.linear import linear
from connectors.catalog.notion import notion
from connectors.catalog.slack import slack
from connectors.catalog.stripe import stripe
from connectors.remote import remote_servers

CONNECTORS: tuple[Connector, ...] = (slack, notion, github, drive, linear, jira, hubspot, stripe)


def all_connectors() -> list[Connector]:
    """Those with tools of Aster's own, then the remote MCP servers, each by name."""
    return [*sorted(CONNECTORS, key=_by_name), *sorted(remote_servers(), key=_by_name)]


def _by_name(connector: Connector) -> str:
    return connector.name.lower()


def find_connector(slug: str) -> Connector:
    found = next((each for each in (*CONNECTORS, *remote_servers()) if each.slug == slug), None)
    if found is None:
        raise NotFound("There is no such connector.")
    return found
