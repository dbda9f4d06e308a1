"""Scheduled tasks: one's own, and for admins everybody's."""

from __future__ import annotations

from django.contrib import messages
from django.db.models.functions import Lower
from django.http import HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils import timezone
from django.views.decorators.http import require_GET, require_POST

from agents.forms import ScheduleForm
from agents.models import RunStatus, ScheduledTask
from agents.services import schedules
from aster.accounts.access import ActorRequest
from aster.errors import AsterError
from aster.pages import add_errors, ask_first, hub_page
from aster.paging import page_of, query_without


@require_GET
@hub_page
def list_tasks(request: ActorRequest) -> HttpResponse:
    tasks = ScheduledTask.objects.visible_to(request.actor).select_related("agent", "created_by")
    page = page_of(request, schedules.with_last_run(tasks).order_by(Lower("name"), "pk"))
    rows = [(task, schedules.describe_schedule(task)) for task in page]
    context = {"page": page, "rows": rows, "query": query_without(request)}
    return render(request, "agents/schedules.html", context)


@hub_page
def add_task(request: ActorRequest) -> HttpResponse:
    return _edit(request, ScheduledTask(organization=request.actor.organization, created_by=request.actor.person))


@hub_page
def edit_task(request: ActorRequest, pk: int) -> HttpResponse:
    return _edit(request, schedules.find_task(pk, actor=request.actor))


def _edit(request: ActorRequest, task: ScheduledTask) -> HttpResponse:
    name = task.name
    form = ScheduleForm(request.POST or None, instance=task, actor=request.actor)
    if request.method == "POST" and form.is_valid():
        try:
            schedules.save_task(form.save(commit=False), actor=request.actor)
        except AsterError as error:
            add_errors(form, error)
        else:
            messages.success(request, f"{task} was saved.")
            return redirect("admin:schedule", task.pk)
    context = {"form": form, "task": task, "name": name}
    return render(request, "agents/schedule_edit.html", context, status=400 if form.errors else 200)


@require_GET
@hub_page
def show_task(request: ActorRequest, pk: int) -> HttpResponse:
    task = schedules.find_task(pk, actor=request.actor)
    is_own = task.created_by_id == request.actor.person.pk
    is_due = bool(task.next_run_at and task.next_run_at <= timezone.now())
    page = page_of(request, schedules.runs_of(task))
    context = {
        "task": task,
        "words": schedules.describe_schedule(task),
        "upcoming": schedules.upcoming(task) if task.is_enabled else [],
        "page": page,
        "query": query_without(request),
        "is_own": is_own,
        "is_due": is_due,
        "is_moving": is_due or any(run.status == RunStatus.RUNNING for run in page),
    }
    return render(request, "agents/schedule.html", context)


@require_POST
@hub_page
def switch_task(request: ActorRequest, pk: int) -> HttpResponse:
    task = schedules.find_task(pk, actor=request.actor)
    on = request.POST.get("on") == "1"
    schedules.switch_task(task, on=on, actor=request.actor)
    messages.success(request, f"{task} is switched {'on' if on else 'off'}.")
    return redirect("admin:schedule", task.pk)


@require_POST
@hub_page
def run_task(request: ActorRequest, pk: int) -> HttpResponse:
    task = schedules.find_task(pk, actor=request.actor)
    schedules.run_now(task, actor=request.actor)
    messages.success(request, f"{task} starts in a few seconds.")
    return redirect("admin:schedule", task.pk)


@hub_page
def delete_task(request: ActorRequest, pk: int) -> HttpResponse:
    task = schedules.find_task(pk, actor=request.actor)
    if request.method == "POST":
        schedules.delete_task(task, actor=request.actor)
        messages.success(request, f"{task} was deleted.")
        return redirect("admin:schedules")
    text = "The history of its runs is deleted with it; the conversations stay. This cannot be undone."
    return ask_first(request, f"Delete {task}?", text, parent=(reverse("admin:schedule", args=[task.pk]), task.name))
