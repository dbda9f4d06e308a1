"""The demo organization of a first start: people, two servers and an agent, made by the same services as always."""

from __future__ import annotations

import secrets

from django.db import transaction

from agents.models import Agent
from agents.services.agents import save_agent
from aster.accounts.access import Actor
from aster.accounts.models import Membership, Organization, Role, User
from aster.accounts.services import create_organization
from integrations.models import AuthConfig, AuthType, ClientMode, McpServer
from integrations.services.servers import save_server

NAME = "Acme Research"
ADMIN, MEMBER = "ada@acme.test", "ben@acme.test"


def create_demo_organization(*, notes_url: str, weather_url: str) -> str | None:
    """Make the demo organization in an empty installation. Returns the password of its people, or None if not empty."""
    if User.objects.exists() or Organization.objects.exists():
        return None
    password = f"demo-{secrets.token_hex(4)}"
    with transaction.atomic():
        organization, ada = create_organization(NAME, admin_email=ADMIN, admin_name="Ada Park", password=password)
        ben = User.objects.create_user(MEMBER, password, name="Ben Okafor")
        Membership.objects.create(organization=organization, user=ben, role=Role.MEMBER)
    actor = Actor(organization, ada, Role.ADMIN, via="cli")
    weather = McpServer(
        name="Acme Weather", description="Forecasts for a few cities. Open to everyone.", url=weather_url
    )
    notes = McpServer(
        name="Acme Notes", description="Notes behind a sign-in: each person sees their own.", url=notes_url
    )
    sign_in = AuthConfig(
        name="Acme ID", auth_type=AuthType.AUTHORIZATION_CODE, client_mode=ClientMode.DYNAMIC,
        organization=organization,
    )  # fmt: skip
    save_server(weather, actor=actor)
    save_server(notes, actor=actor, auth=sign_in)
    assistant = Agent(name="Research assistant", description="Looks things up and keeps notes.",
                      prompt="You help researchers. Use the tools you have, and say what you did.")  # fmt: skip
    save_agent(assistant, actor=actor, server_ids=[weather.pk, notes.pk])
    return password
