"""The REST API of scheduled tasks and their runs, with what the OpenAPI document says about them."""

from __future__ import annotations

from typing import Any, ClassVar

from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from agents.models import Overlap, RunStatus, ScheduledTask, TaskRun
from agents.services import agents, schedules
from aster.accounts.access import CALL
from aster.api import CursorPages
from aster.api_bodies import IdField, StrictSerializer
from aster.api_views import ActorView, no_content
from aster.errors import InvalidInput, NotFound
from aster.openapi import PAGE_PARAMETERS, Operation, key_parameter, operation, page_example, page_of

TAG = "Schedules"
_TASK = (key_parameter("scheduled task", slug=False),)


class ScheduleIn(StrictSerializer):
    names = {"enabled": "is_enabled"}
    ignored = frozenset({"id", "runs_as", "next_run_at", "stopped_because", "created_at", "updated_at"})

    name = serializers.CharField(max_length=100)
    agent_id = IdField()
    prompt = serializers.CharField(max_length=20_000, trim_whitespace=False)
    input = serializers.DictField(required=False)
    cron = serializers.CharField(max_length=100, required=False, allow_blank=True)
    every_seconds = serializers.IntegerField(min_value=60, max_value=31_536_000, required=False, allow_null=True)
    time_zone = serializers.CharField(max_length=50, required=False)
    overlap = serializers.ChoiceField(choices=Overlap.choices, required=False)
    is_enabled = serializers.BooleanField(required=False)
    notifies_failures = serializers.BooleanField(required=False)


class ScheduleOut(serializers.Serializer[Any]):
    id = serializers.IntegerField()
    name = serializers.CharField()
    agent_id = serializers.IntegerField()
    prompt = serializers.CharField()
    input = serializers.DictField()
    cron = serializers.CharField(allow_blank=True, help_text="Five fields, read in `time_zone`; empty for an interval")
    every_seconds = serializers.IntegerField(allow_null=True)
    time_zone = serializers.CharField()
    overlap = serializers.ChoiceField(choices=Overlap.choices)
    is_enabled = serializers.BooleanField()
    notifies_failures = serializers.BooleanField()
    runs_as = serializers.CharField(help_text="Whose connections it uses: the person who made it")
    next_run_at = serializers.DateTimeField(allow_null=True)
    stopped_because = serializers.CharField(allow_blank=True, help_text="Set when Aster stopped the task")
    created_at = serializers.DateTimeField()
    updated_at = serializers.DateTimeField()


class RunOut(serializers.Serializer[Any]):
    id = serializers.IntegerField()
    due_at = serializers.DateTimeField()
    started_at = serializers.DateTimeField()
    ended_at = serializers.DateTimeField(allow_null=True)
    status = serializers.ChoiceField(choices=RunStatus.choices)
    error = serializers.CharField(allow_blank=True)
    conversation_id = serializers.IntegerField(allow_null=True, help_text="What was said and done, for its person")


_BODY: dict[str, Any] = {
    **{"name": "Morning report", "agent_id": 5, "prompt": "What is new since yesterday?"},
    **{"cron": "0 9 * * 1-5", "time_zone": "Europe/Berlin"},
}
_EXAMPLE: dict[str, Any] = {
    **{"id": 3, **_BODY, "input": {}, "every_seconds": None, "overlap": "skip", "is_enabled": True},
    **{"notifies_failures": True, "runs_as": "ada@acme.example", "next_run_at": "2026-11-23T08:00:00Z"},
    **{"stopped_because": "", "created_at": "2026-11-20T09:00:00Z", "updated_at": "2026-11-20T09:00:00Z"},
}
_RUN: dict[str, Any] = {
    **{"id": 41, "due_at": "2026-11-20T08:00:00Z", "started_at": "2026-11-20T08:00:04Z"},
    **{"ended_at": "2026-11-20T08:00:31Z", "status": "ok", "error": "", "conversation_id": 77},
}
LIST: Operation = operation(
    "list_schedules", "List scheduled tasks", tag=TAG, errors=(400, 404), parameters=PAGE_PARAMETERS,
    words="One's own; for admins, everybody's in the organization.",
    response=page_of("SchedulePage", ScheduleOut), example=page_example(_EXAMPLE),
)  # fmt: skip
CREATE: Operation = operation(
    "create_schedule", "Schedule an agent", tag=TAG, errors=(400,), status=201,
    words="It runs as the key's owner, with their connections and all of their rights: the key must hold `*`. Give "
    "either `cron` or `every_seconds`.",
    request=ScheduleIn, bodies={"Every weekday at nine": _BODY}, response=ScheduleOut, example=_EXAMPLE,
)  # fmt: skip
GET: Operation = operation(
    "get_schedule", "Get a scheduled task", tag=TAG, errors=(404,), parameters=_TASK, response=ScheduleOut,
    example=_EXAMPLE,
)  # fmt: skip
UPDATE: Operation = operation(
    "update_schedule", "Change a scheduled task", tag=TAG, errors=(400, 404), parameters=_TASK,
    words="Only the person it runs as can change it; an admin can switch it off. Fields left out keep their value. "
    "The key must hold `*`, unless it only switches off.",
    request=ScheduleIn, bodies={"Switch off": {"is_enabled": False}}, response=ScheduleOut,
    example={**_EXAMPLE, "is_enabled": False, "next_run_at": None},
)  # fmt: skip
DELETE: Operation = operation(
    "delete_schedule", "Delete a scheduled task", tag=TAG, errors=(404,), parameters=_TASK, status=204,
)  # fmt: skip
RUN: Operation = operation(
    "run_schedule", "Run a scheduled task now", tag=TAG, errors=(404, 409), parameters=_TASK, status=204,
    words="As soon as a worker is free. Its runs tell what became of it.",
)  # fmt: skip
RUNS: Operation = operation(
    "list_schedule_runs", "List the runs of a scheduled task", tag=TAG, errors=(400, 404),
    parameters=(*_TASK, *PAGE_PARAMETERS), words="Newest first, kept for 90 days.",
    response=page_of("ScheduleRunPage", RunOut), example=page_example(_RUN),
)  # fmt: skip


class ScheduleView(ActorView):
    scopes: ClassVar = {"POST": CALL, "PATCH": CALL, "DELETE": CALL}

    def task(self, key: str) -> ScheduledTask:
        return schedules.find_task(key, actor=self.actor)

    def save(self, task: ScheduledTask, values: dict[str, Any], status: int) -> Response:
        if "agent_id" in values:
            try:
                task.agent = agents.find_agent(values.pop("agent_id"), actor=self.actor)
            except NotFound as error:
                raise InvalidInput(error.message, fields={"agent_id": [error.message]}) from None
        for name, value in values.items():
            setattr(task, name, value)
        schedules.save_task(task, actor=self.actor)
        return Response(show_task(self.task(str(task.pk))), status=status)


class ScheduleList(ScheduleView):
    @extend_schema(**LIST)
    def get(self, request: Request) -> Response:
        rows = ScheduledTask.objects.visible_to(self.actor).select_related("created_by")
        return self.page(rows, show_task)

    @extend_schema(**CREATE)
    def post(self, request: Request) -> Response:
        return self.save(ScheduledTask(), self.read(ScheduleIn, request), 201)


class ScheduleDetail(ScheduleView):
    @extend_schema(**GET)
    def get(self, request: Request, key: str) -> Response:
        return Response(show_task(self.task(key)))

    @extend_schema(**UPDATE)
    def patch(self, request: Request, key: str) -> Response:
        task, values = self.task(key), self.read(ScheduleIn, request, partial=True)
        if values == {"is_enabled": False}:
            schedules.switch_task(task, on=False, actor=self.actor)
            return Response(show_task(self.task(key)))
        return self.save(task, values, 200)

    @extend_schema(**DELETE)
    def delete(self, request: Request, key: str) -> Response:
        schedules.delete_task(self.task(key), actor=self.actor)
        return no_content()


class ScheduleRun(ScheduleView):
    @extend_schema(**RUN)
    def post(self, request: Request, key: str) -> Response:
        schedules.run_now(self.task(key), actor=self.actor)
        return no_content()


class NewestRuns(CursorPages):
    ordering = ("-id",)


class ScheduleRuns(ScheduleView):
    @extend_schema(**RUNS)
    def get(self, request: Request, key: str) -> Response:
        return self.page(self.task(key).runs.all(), show_run, NewestRuns)


def show_task(task: ScheduledTask) -> dict[str, Any]:
    names = ("id", "name", "agent_id", "prompt", "input", "cron", "every_seconds", "time_zone", "overlap", "is_enabled")
    about = ("notifies_failures", "next_run_at", "stopped_because", "created_at", "updated_at")
    return {**{name: getattr(task, name) for name in (*names, *about)}, "runs_as": task.created_by.email}


def show_run(run: TaskRun) -> dict[str, Any]:
    names = ("id", "due_at", "started_at", "ended_at", "status", "error", "conversation_id")
    return {name: getattr(run, name) for name in names}
