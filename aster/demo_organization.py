"""The demo organization of a first start: people, two servers, a scripted model and an agent, made by the same
services as always."""

from __future__ import annotations

from agents.models import Agent, LlmConfig
from agents.services.agents import save_agent, save_llm_config
from aster.accounts.access import Actor
from aster.accounts.models import Organization, Role, User
from aster.accounts.services import add_member, create_organization
from aster.demo.scripted_model import MODEL
from integrations.models import AuthConfig, AuthType, ClientMode, McpServer
from integrations.services.servers import save_server

NAME = "Acme Research"
ADMIN, MEMBER = "ada@acme.test", "ben@acme.test"


def is_empty_installation() -> bool:
    return not User.objects.exists() and not Organization.objects.exists()


def create_demo_organization(*, password: str, notes_url: str, weather_url: str, model_url: str) -> None:
    """Make the demo organization in an empty installation; `password` is that of its people."""
    organization, ada = create_organization(NAME, admin_email=ADMIN, admin_name="Ada Park", password=password)
    actor = Actor(organization, ada, Role.ADMIN, via="cli")
    ben = add_member(MEMBER, Role.MEMBER, name="Ben Okafor", actor=actor).membership.user
    ben.set_password(password)
    ben.save(update_fields=["password"])
    weather = McpServer(
        name="Acme Weather", description="Forecasts for a few cities. Open to everyone.", url=weather_url,
        expose_as_skills=True,
    )  # fmt: skip
    notes = McpServer(
        name="Acme Notes", description="Notes behind a sign-in: each person sees their own.", url=notes_url,
        expose_as_skills=True,
    )  # fmt: skip
    sign_in = AuthConfig(
        name="Acme ID", auth_type=AuthType.AUTHORIZATION_CODE, client_mode=ClientMode.DYNAMIC,
        organization=organization,
    )  # fmt: skip
    save_server(weather, actor=actor)
    save_server(notes, actor=actor, auth=sign_in)
    model = LlmConfig(name="Scripted model (demo)", base_url=model_url, model=MODEL)
    save_llm_config(model, actor=actor)
    assistant = Agent(
        name="Research assistant",
        description="Looks things up and keeps notes.",
        prompt="You help researchers. Use the tools you have, and say what you did.",
        llm_config=model,
    )
    save_agent(assistant, actor=actor, server_ids=[weather.pk, notes.pk])
