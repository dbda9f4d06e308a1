"""An agent's card: one document that clients of 1.0 (§4.4) and of 0.3 (§5.5) both read."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from typing import Any
from urllib.parse import urlsplit

from django.conf import settings

from agents.models import Agent
from agents.services.skills import Skill
from aster.accounts.access import CALL
from aster.accounts.models import Organization

CARD_PATH = "/.well-known/agent-card.json"
TEXT, JSON = "text/plain", "application/json"
CARD_TYPE = "application/a2a-agent-card+json"
SCHEMES = ("bearer", "apiKey")


def card_of(agent: Agent, skills: Iterable[Skill]) -> dict[str, Any]:
    organization, url = agent.organization, agent.a2a_url
    return {
        "name": agent.name,
        "description": agent.description or f"{agent.name}, an agent of {organization.name}.",
        "version": f"{agent.updated_at:%Y.%m.%d.%H%M%S}",
        "provider": {"organization": organization.name, "url": settings.ASTER_PUBLIC_URL},
        "supportedInterfaces": [
            {"url": url, "protocolBinding": "JSONRPC", "protocolVersion": version} for version in ("1.0", "0.3")
        ],
        "capabilities": {
            **{"streaming": True, "pushNotifications": False, "extendedAgentCard": True, "extensions": []},
            "stateTransitionHistory": False,
        },
        "defaultInputModes": [TEXT, JSON] if agent.input_json_schema else [TEXT],
        "defaultOutputModes": [TEXT],
        "skills": [_show_skill(each) for each in skills],
        "securitySchemes": _schemes(),
        "securityRequirements": _requirements([CALL]),
        # What 0.3 has in other places
        **{"url": url, "protocolVersion": "0.3.0", "preferredTransport": "JSONRPC", "security": _security([CALL])},
        "supportsAuthenticatedExtendedCard": True,
    }


def _show_skill(skill: Skill) -> dict[str, Any]:
    # A key with a scope of a tool may call without aster:call, too.
    scopes = skill.scopes or [CALL]
    return {
        **{"id": skill.id, "name": skill.name, "description": skill.description, "tags": skill.tags},
        **{"inputModes": [TEXT], "outputModes": [TEXT]},
        **{"securityRequirements": _requirements(scopes), "security": _security(scopes)},
    }


def _schemes() -> dict[str, Any]:
    """Each scheme in both forms side by side: 1.0 wraps it in its kind, 0.3 (as OpenAPI) names the kind in `type`."""
    words = "An API key of Aster"
    bearer = {"scheme": "Bearer", "description": words}
    key = {"name": "X-API-Key", "description": words}
    return {
        "bearer": {"type": "http", **bearer, "httpAuthSecurityScheme": bearer},
        "apiKey": {"type": "apiKey", "in": "header", **key, "apiKeySecurityScheme": {"location": "header", **key}},
    }


def _requirements(scopes: list[str]) -> list[dict[str, Any]]:
    return [{"schemes": {name: {"list": scopes}}} for name in SCHEMES]


def _security(scopes: list[str]) -> list[dict[str, list[str]]]:
    return [{name: scopes} for name in SCHEMES]


def catalog_of(organization: Organization, agents: Iterable[Agent]) -> dict[str, Any]:
    """Where the cards of an organization's agents are, as an AI catalog."""
    host = urlsplit(settings.ASTER_PUBLIC_URL).hostname
    return {
        "specVersion": "1.0",
        "host": {"displayName": organization.name},
        "entries": [
            {
                "identifier": f"urn:ai:{host}:{organization.slug}:{agent.slug}",
                **{"displayName": agent.name, "description": agent.description},
                **{"type": CARD_TYPE, "url": f"{agent.a2a_url}{CARD_PATH}"},
            }
            for agent in agents
        ],
    }


def etag_of(document: dict[str, Any]) -> str:
    """Weak (RFC 9110 §8.8.1): the same content, however its JSON is written."""
    text = json.dumps(document, sort_keys=True)
    return f'W/"{hashlib.sha256(text.encode()).hexdigest()[:32]}"'
