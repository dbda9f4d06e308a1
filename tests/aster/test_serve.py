"""`manage.py serve`: what it refuses before it starts, and the demo organization of a first start."""

from __future__ import annotations

import socket
import stat
from contextlib import ExitStack

import pytest
from django.core.management import CommandError, call_command
from django.test import Client
from pytest_django.fixtures import Settings

from agents.models import Agent
from aster.accounts.models import AuditEvent, Membership, User
from aster.demo.world import DemoWorld
from aster.demo_organization import ADMIN, MEMBER, create_demo_organization, is_empty_installation
from aster.management.commands.serve import DEMO_PORT, SIGN_IN, Command
from integrations.models import McpServer


def test_a_port_that_is_taken_is_said_before_anything_is_made() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(CommandError, match=f"127.0.0.1:{port} is in use by another program. PORT="):
            call_command("serve", "--port", port)


def test_a_port_that_cannot_be_had_is_not_said_to_be_in_use() -> None:
    with pytest.raises(CommandError, match=r"192.0.2.1:8000 cannot be used \(Cannot assign requested address\)"):
        call_command("serve", "--host", "192.0.2.1", "--port", 8000)


def test_the_demo_is_refused_where_its_servers_could_not_be_reached(settings: Settings) -> None:
    settings.DEBUG = False
    with pytest.raises(CommandError, match="Set DEBUG=1, or serve without --demo"):
        call_command("serve", "--demo")


@pytest.mark.django_db(transaction=True)
def test_the_demo_organization_is_made_by_the_services_as_always(world: DemoWorld) -> None:
    assert is_empty_installation()
    create_demo_organization(
        password="demo-password", notes_url=world.notes_url, weather_url=world.weather_url, model_url=world.model_url
    )
    assert not is_empty_installation()
    for email, role in ((ADMIN, "admin"), (MEMBER, "member")):
        assert Client().login(username=email, password="demo-password")
        assert Membership.objects.get(user__email=email).role == role
    assert {"organization", "membership", "mcpserver", "agent"} <= set(
        AuditEvent.objects.filter(action="created").values_list("object_type", flat=True)
    )
    assert McpServer.objects.count() == 2
    assert str(Agent.objects.get().llm_config) == "Scripted model (demo)"


@pytest.mark.django_db(transaction=True)
def test_who_stops_a_first_start_half_way_can_still_sign_in(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        monkeypatch.setenv("ASTER_DEMO_PORT", str(free.getsockname()[1]))
    settings.DEBUG = False  # so that the demo's servers are refused, after its people were made
    try:
        with ExitStack() as running, pytest.raises(Exception, match="loopback"):
            Command()._start_demo(running, 0)
        password = SIGN_IN.read_text().split("password ")[1].strip()
        assert stat.S_IMODE(SIGN_IN.stat().st_mode) == 0o600
        assert User.objects.exists() and Client().login(username=ADMIN, password=password)
    finally:
        SIGN_IN.unlink(missing_ok=True)
        DEMO_PORT.unlink(missing_ok=True)
