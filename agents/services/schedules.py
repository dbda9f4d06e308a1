"""Scheduled tasks: when they are due, who may change them, and which runs there were.

A task runs as the person who made it, with that person's connections. So only that person decides what it does; admins
may switch it off, because it acts in their organization.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from itertools import islice
from zoneinfo import ZoneInfo, available_timezones

from cronsim import CronSim, CronSimError
from django.db import IntegrityError, transaction
from django.db.models import OuterRef, QuerySet, Subquery
from django.utils import timezone

from agents.models import Agent, Conversation, Overlap, RunStatus, ScheduledTask, TaskRun
from agents.services.conversations import check_input
from aster.accounts import audit
from aster.accounts.access import CALL, Actor, find_actor
from aster.accounts.models import is_row_id
from aster.errors import Conflict, InvalidInput, NotAllowed, NotFound
from integrations.services import ledger

# Longer than a turn may take: a run without an end after this has died with its process.
LONGEST_RUN = timedelta(minutes=15)
# A run that starts later than this was missed, and the one that is due now stands for all that were.
LATE = timedelta(minutes=5)
RUNS_KEPT = timedelta(days=90)
VIA = "schedule"


# --- When ------------------------------------------------------------------------------------------------------------
def next_run(task: ScheduledTask, after: datetime) -> datetime | None:
    """The first due time after `after`; None if there is none within the years a cron line can look ahead.

    Cron times are wall-clock times of the task's zone: what daylight saving skips runs right after the gap, and what it
    repeats runs once.
    """
    if task.every_seconds:
        start = task.created_at or after
        rounds = (after - start) // timedelta(seconds=task.every_seconds) + 1
        return start + max(rounds, 1) * timedelta(seconds=task.every_seconds)
    found = next(CronSim(task.cron, after.astimezone(ZoneInfo(task.time_zone))), None)
    return found.astimezone(after.tzinfo) if found else None


def upcoming(task: ScheduledTask, count: int = 3) -> list[datetime]:
    """The next due times, to show that the schedule means what its author meant."""
    times: list[datetime] = []
    after = timezone.now()
    while len(times) < count and (following := next_run(task, after)):
        times.append(following)
        after = following
    return times


def describe_schedule(task: ScheduledTask) -> str:
    """The schedule in words."""
    if not task.every_seconds:
        words = CronSim(task.cron, timezone.now().astimezone(ZoneInfo(task.time_zone))).explain()
        return f"{words} ({task.time_zone})"
    for seconds, name in ((86400, "day"), (3600, "hour"), (60, "minute")):
        count, rest = divmod(task.every_seconds, seconds)
        if not rest:
            return f"Every {name}" if count == 1 else f"Every {count} {name}s"
    return f"Every {task.every_seconds} seconds"


def check_schedule(task: ScheduledTask) -> None:
    """Raises InvalidInput with the field that is wrong."""
    problems: dict[str, list[str]] = {}
    if bool(task.cron) == bool(task.every_seconds):
        problems["cron"] = ["Give either a cron line or an interval."]
    if task.time_zone not in available_timezones():
        problems["time_zone"] = [f"There is no time zone {task.time_zone[:50]}. Write it like Europe/Berlin."]
    elif task.cron:
        try:
            if not next(islice(CronSim(task.cron, timezone.now().astimezone(ZoneInfo(task.time_zone))), 1), None):
                problems["cron"] = ["This day never comes."]
        except CronSimError as error:
            problems["cron"] = [f"{error}. Write five fields: minute, hour, day, month, weekday; like 0 9 * * 1-5."]
    if task.every_seconds is not None and task.every_seconds < 60:
        problems["every_seconds"] = ["Once a minute is the most."]
    if problems:
        raise InvalidInput(next(iter(problems.values()))[0], fields=problems)


# --- Changes ---------------------------------------------------------------------------------------------------------
def save_task(task: ScheduledTask, *, actor: Actor) -> None:
    """Store a task of one's own. Switching it on clears why it had stopped."""
    _require_every_right(actor)
    if task._state.adding:
        task.organization, task.created_by = actor.organization, actor.person
    elif task.created_by_id != actor.person.pk:
        raise NotAllowed(f"Only {task.created_by} can change this: it runs with their connections.")
    check_schedule(task)
    if not Agent.objects.usable_by(actor).filter(pk=task.agent_id).exists():
        words = "There is no such agent, or it is switched off."
        raise InvalidInput(words, fields={"agent": [words]})
    if task.agent.llm_config_id is None:
        words = f"{task.agent} has no model. An admin can choose one on the agent's page."
        raise InvalidInput(words, fields={"agent": [words]})
    check_input(task.agent, task.input)
    with transaction.atomic():
        audit.save_audited(task, actor=actor)
        due = next_run(task, timezone.now()) if task.is_enabled else None
        stopped = "" if task.is_enabled else task.stopped_because
        ScheduledTask.objects.filter(pk=task.pk).update(next_run_at=due, stopped_because=stopped)
    task.next_run_at, task.stopped_because = due, stopped


def _require_every_right(actor: Actor) -> None:
    """Runs hold every scope, as their person does: who holds fewer must not decide what a run does."""
    actor.require_scope(CALL)
    if not actor.holds("*"):
        words = "A task runs with all of your rights, and this API key has some of them only."
        words += " Use a key that holds *, or the Schedules page of the hub."
        raise NotAllowed(words, code="missing_scope", extra={"scope": "*"})


def switch_task(task: ScheduledTask, *, on: bool, actor: Actor) -> None:
    """Its person switches it on and off, an admin off."""
    if on:
        task.is_enabled = True
        save_task(task, actor=actor)
        return
    if task.created_by_id != actor.person.pk:
        actor.require_admin()
    actor.require_scope(CALL)
    with transaction.atomic():
        ScheduledTask.objects.filter(pk=task.pk).update(is_enabled=False, next_run_at=None)
        audit.record(actor, "changed", task, {"is_enabled": [task.is_enabled, False]})
    task.is_enabled, task.next_run_at = False, None


def delete_task(task: ScheduledTask, *, actor: Actor) -> None:
    if task.created_by_id != actor.person.pk:
        actor.require_admin()
    audit.delete_audited(task, actor=actor)


def run_now(task: ScheduledTask, *, actor: Actor) -> None:
    """Have the task run as soon as a worker is free, whatever its schedule says."""
    if task.created_by_id != actor.person.pk:
        raise NotAllowed(f"Only {task.created_by} can run this: it runs with their connections.")
    if not task.is_enabled:
        raise Conflict("The task is switched off. Switch it on first.", code="task_disabled")
    ScheduledTask.objects.filter(pk=task.pk).update(next_run_at=timezone.now())


def stop_task(task: ScheduledTask, because: str) -> None:
    """Aster stops a task that only its person can make work again. The page says why."""
    with transaction.atomic():
        ScheduledTask.objects.filter(pk=task.pk).update(
            is_enabled=False, next_run_at=None, stopped_because=because[:500]
        )
        changes = {"is_enabled": [task.is_enabled, False], "reason": [None, because[:500]]}
        audit.record(Actor.system(task.organization), "stopped", task, changes)


# --- Runs ------------------------------------------------------------------------------------------------------------
def due_tasks(now: datetime) -> QuerySet[ScheduledTask]:
    return ScheduledTask.objects.filter(is_enabled=True, next_run_at__lte=now).order_by("next_run_at")


def begin_run(pk: int) -> TaskRun | None:
    """Take the run that is due, if this process is the first to do so. None if there is nothing to run (any more).

    The row of the run and the next due time are stored together: whoever dies afterwards leaves a run without an end,
    which is seen, and not a task that never runs again.
    """
    now = timezone.now()
    task = due_tasks(now).filter(pk=pk).select_related("agent", "organization", "created_by").first()
    if task is None or task.next_run_at is None:
        return None
    due, following = task.next_run_at, next_run(task, now)
    busy = _running(task, now)
    if busy and task.overlap == Overlap.WAIT:
        return None
    try:
        with transaction.atomic():
            if not due_tasks(now).filter(pk=pk, next_run_at=due).update(next_run_at=following):
                return None
            run = TaskRun(task=task, due_at=due, process=ledger.this_process())
            if busy:
                run.status, run.ended_at = RunStatus.SKIPPED, now
                run.error = "The run before it had not ended."
            run.save()
            if now - due > LATE and not busy:
                _note_missed(task, due, now)
    except IntegrityError:
        return None
    return None if busy else run


def _running(task: ScheduledTask, now: datetime) -> bool:
    give_up_dead_runs(now, task)
    return task.runs.filter(status=RunStatus.RUNNING).exists()


def give_up_dead_runs(now: datetime, task: ScheduledTask | None = None) -> list[TaskRun]:
    """Mark the runs whose process must have died as abandoned, and return them; each is returned to one caller only."""
    dead = TaskRun.objects.filter(status=RunStatus.RUNNING, started_at__lt=now - LONGEST_RUN)
    if task is not None:
        dead = dead.filter(task=task)
    end = {"status": RunStatus.ABANDONED, "ended_at": now, "error": "The process that ran it ended before it did."}
    found = dead.select_related("task__agent", "task__organization", "task__created_by")[:100]
    return [run for run in found if dead.filter(pk=run.pk).update(**end)]


def _note_missed(task: ScheduledTask, due: datetime, now: datetime) -> None:
    """One line for everything between the run that starts late and now: it is made up for by that one run."""
    missed: list[datetime] = []
    after = due
    while len(missed) < 1000 and (following := next_run(task, after)) and following <= now:
        missed.append(following)
        after = following
    if missed:
        words = f"Due {len(missed)} more times while Aster was not running. One run stands for all."
        TaskRun.objects.create(
            task=task, due_at=missed[-1], started_at=now, ended_at=now, status=RunStatus.MISSED, error=words
        )


def actor_of(task: ScheduledTask) -> Actor | None:
    """The person a task runs as; None if they left the organization or may not sign in any more."""
    person = task.created_by
    actor = find_actor(person, task.organization_id, via=VIA) if person.is_active else None
    return actor if actor and actor.organization == task.organization else None


def end_run(run: TaskRun, status: RunStatus, *, error: str = "", conversation: Conversation | None = None) -> None:
    """Store how a run ended, unless it was given up as abandoned meanwhile."""
    TaskRun.objects.filter(pk=run.pk, status=RunStatus.RUNNING).update(
        status=status, error=error[:500], ended_at=timezone.now(), conversation=conversation
    )


def delete_old_runs() -> None:
    TaskRun.objects.filter(started_at__lt=timezone.now() - RUNS_KEPT).delete()


def runs_of(task: ScheduledTask) -> QuerySet[TaskRun]:
    return task.runs.select_related("conversation").order_by("-id")


def with_last_run(tasks: QuerySet[ScheduledTask]) -> QuerySet[ScheduledTask]:
    """Each with `last_status` and `last_started_at` of the last run that was begun, or skipped."""
    last = TaskRun.objects.filter(task=OuterRef("pk")).exclude(status=RunStatus.MISSED).order_by("-id")
    return tasks.annotate(
        last_status=Subquery(last.values("status")[:1]), last_started_at=Subquery(last.values("started_at")[:1])
    )


def find_task(pk: str | int, *, actor: Actor) -> ScheduledTask:
    rows = ScheduledTask.objects.visible_to(actor).select_related("agent", "created_by", "organization")
    found = rows.filter(pk=int(pk)).first() if is_row_id(pk) else None
    if found is None:
        raise NotFound("There is no such task.")
    return found


def time_zones() -> Sequence[str]:
    return sorted(available_timezones())
