"""The background refresh: how many grants one worker process renews a second, and the CPU time that takes.

The provider is a process of its own, answers after 100 ms and takes every refresh token once. 4,000 grants of 16,000
are due. The baselines are one request after the other, and 50 requests in flight at no cost at all (500 a second).
Run: `make benchmark`; with DATABASE_URL on another database than a fresh SQLite.
"""

from __future__ import annotations

import os
import resource
import sys
import time
from datetime import timedelta

from benchmarks.stage import prepare_django, token_endpoint

DELAY = 0.1
DUE, REST, ALONE = 4000, 12000, 30
TENANTS = 20
IDEAL = 50 / DELAY


def main() -> None:
    with token_endpoint(DELAY) as url:
        prepare_django()
        _connect_people(url, DUE + REST, due=DUE + ALONE)
        _check_index()
        alone = _one_after_the_other()
        print(f"one after the other: {alone:.1f} a second")
        started, cpu = time.perf_counter(), _cpu_seconds()
        _refresh_all()
        seconds, cpu = time.perf_counter() - started, _cpu_seconds() - cpu
        _check_ledger()
        rate = DUE / seconds
        print(
            f"background refresh: {rate:.0f} a second  {cpu / DUE * 1000:.2f} CPU s per 1,000"
            f"  ratio={rate / alone:.0f} to one after the other, {rate / IDEAL:.2f} to 50 in flight"
            f"  (load {os.getloadavg()[0]:.1f})"
        )


def _connect_people(url: str, count: int, *, due: int) -> None:
    from django.utils import timezone

    from aster.accounts.models import Organization, User
    from integrations.models import AuthConfig, AuthType, Connection

    tenants = [Organization.objects.create(name=f"T{n}", slug=f"t{n}") for n in range(TENANTS)]
    auths = [
        AuthConfig.objects.create(
            organization=tenant,
            name="Provider",
            auth_type=AuthType.AUTHORIZATION_CODE,
            token_url=url,
            client_id="aster",
        )
        for tenant in tenants
    ]
    users = User.objects.bulk_create(User(email=f"p{n}@example.test") for n in range(count))
    now = timezone.now()
    Connection.objects.bulk_create(
        [
            Connection(
                auth_config=auths[n % TENANTS], user=user, access_token=f"at-{n}", refresh_token=f"rt-{n}",
                expires_at=now + timedelta(hours=1), refresh_at=now + timedelta(minutes=30 if n >= due else -1),
                scopes=["notes:read"], client_id="aster", token_url=url, resource="https://notes.example/mcp",
            )
            for n, user in enumerate(users)
        ],
        batch_size=500,
    )  # fmt: skip


def _check_index() -> None:
    from django.db import connection
    from django.utils import timezone

    from integrations.models import Connection

    with connection.cursor() as cursor:
        cursor.execute("ANALYZE")
    plan = Connection.objects.due(timezone.now()).order_by("refresh_at")[:200].explain()
    if "connection_due" not in plan:
        sys.exit(f"Due grants are not found by their index:\n{plan}")


def _one_after_the_other() -> float:
    from django.utils import timezone

    from integrations.models import Connection
    from integrations.services.refresh import refresh_if_due

    pks = Connection.objects.due(timezone.now()).order_by("refresh_at").values_list("pk", flat=True)[:ALONE]
    started = time.perf_counter()
    for pk in list(pks):
        if trouble := refresh_if_due(pk):
            sys.exit(trouble.message)
    return ALONE / (time.perf_counter() - started)


def _refresh_all() -> None:
    from django.utils import timezone

    from integrations.models import Connection
    from integrations.services.refresh_many import refresh_due

    while Connection.objects.due(timezone.now()).exists():
        refresh_due()


def _check_ledger() -> None:
    """Every grant has been renewed once, and its ledger says so."""
    from integrations.models import Connection, RefreshAttempt

    renewed = Connection.objects.filter(generation=2, failures=0, claim=None, attempts__outcome="renewed").count()
    if (renewed, RefreshAttempt.objects.count()) != (DUE + ALONE, DUE + ALONE):
        sys.exit(f"{renewed} grants were renewed, and the ledgers have {RefreshAttempt.objects.count()} lines.")


def _cpu_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


if __name__ == "__main__":
    main()
