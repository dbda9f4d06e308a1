"""Scheduled tasks in chromium: what the page does by itself."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import pytest
from playwright.sync_api import Browser, Page, expect

from agents.models import Agent, LlmConfig, ScheduledTask
from agents.runtime import scheduled
from agents.services import schedules
from agents.services.agents import save_agent
from aster.demo.scripted_model import MODEL
from aster.demo.world import DemoWorld
from tests.browser.conftest import sign_in
from tests.conftest import Person

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True), pytest.mark.timeout(60)]

T = TypeVar("T")


def elsewhere(work: Callable[[], T]) -> T:
    """In another thread: Playwright's event loop occupies this one."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(work).result()


@pytest.fixture
def task(alice: Person, world: DemoWorld) -> ScheduledTask:
    def make() -> ScheduledTask:
        model = LlmConfig.objects.create(
            organization=alice.organization, name="Scripted", base_url=world.model_url, model=MODEL
        )
        agent = save_agent(Agent(name="Helper", llm_config=model), actor=alice.actor, server_ids=[])
        made = ScheduledTask(name="Report", agent=agent, prompt="Hello", cron="0 9 29 2 *")
        schedules.save_task(made, actor=alice.actor)
        return made

    return elsewhere(make)


def test_a_run_appears_without_loading_the_page_again(
    hub: Page, aster: str, alice: Person, task: ScheduledTask
) -> None:
    sign_in(hub, aster, alice)
    hub.goto(f"{aster}/hub/schedules/{task.pk}/")
    hub.get_by_role("button", name="Run now").click()
    expect(hub.get_by_text("Now: it starts in a few seconds.")).to_be_visible()
    elsewhere(lambda: scheduled.run_task(task.pk))
    expect(hub.get_by_role("link", name="Read the conversation")).to_be_visible()
    expect(hub.locator("#task-now")).not_to_have_attribute("hx-trigger", "every 3s")


def test_a_new_task_begins_in_the_time_zone_of_the_device(
    chromium: Browser, aster: str, alice: Person, task: ScheduledTask
) -> None:
    page = chromium.new_context(timezone_id="Asia/Tokyo").new_page()
    sign_in(page, aster, alice)
    page.goto(f"{aster}/hub/schedules/add/")
    expect(page.get_by_label("Time zone")).to_have_value("Asia/Tokyo")
    page.goto(f"{aster}/hub/schedules/{task.pk}/edit/")
    expect(page.get_by_label("Time zone")).to_have_value("UTC")
    page.context.close()
