"""Signing in by e-mail address and password, with a brake on guessing."""

from __future__ import annotations

import hashlib
import logging
import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from ipaddress import IPv6Network
from typing import Any

from django import forms
from django.contrib.auth.forms import AuthenticationForm
from django.core.cache import cache
from django.core.exceptions import ValidationError
from django.http import HttpRequest

from aster.egress.addresses import parse_address
from aster.errors import AsterError
from aster.web import client_address

logger = logging.getLogger(__name__)

MAX_FAILURES = 10
WINDOW_SECONDS = 600


class Brake:
    """Failures of one e-mail address from one network address, forgotten ten minutes after the first."""

    def __init__(self, email: str, address: str) -> None:
        digest = hashlib.sha256(f"{email.strip().lower()}\n{network_of(address)}".encode()).hexdigest()
        self._count, self._until = f"sign-in-failures:{digest}", f"sign-in-until:{digest}"

    def minutes_left(self) -> int:
        """How long nobody may try, in minutes; 0 when they may."""
        with cache_may_be_down("Failed sign-ins"):
            if cache.get(self._count, 0) >= MAX_FAILURES:
                seconds = float(cache.get(self._until, 0)) - time.time()
                return max(1, math.ceil(seconds / 60))
        return 0

    def note_failure(self) -> None:
        with cache_may_be_down("Failed sign-ins"):
            cache.add(self._until, time.time() + WINDOW_SECONDS, WINDOW_SECONDS)
            if not cache.add(self._count, 1, WINDOW_SECONDS):
                try:
                    cache.incr(self._count)
                except ValueError:  # it expired in between
                    cache.set(self._count, 1, WINDOW_SECONDS)

    def release(self) -> None:
        with cache_may_be_down("Failed sign-ins"):
            cache.delete_many([self._count, self._until])


def network_of(address: str) -> str:
    """What one attacker has: an IPv4 address, or 64 bits full of IPv6 addresses (RFC 6177 §2)."""
    try:
        parsed = parse_address(address)
    except ValueError:
        return address
    return str(parsed) if parsed.version == 4 else str(IPv6Network((parsed, 64), strict=False))


@contextmanager
def cache_may_be_down(what: str) -> Iterator[None]:
    """Nobody is locked out because Redis is down: meanwhile nothing brakes, and the log says so."""
    try:
        yield
    except AsterError:
        raise
    except Exception as error:  # the cache's errors are those of whatever library is behind it
        logger.warning("%s are not counted, the cache does not answer: %s", what, type(error).__name__)


class SignInForm(AuthenticationForm):
    """Lets every active person in, not only staff: what they may do is decided by membership."""

    error_messages = {
        "invalid_login": "That e-mail address and password do not belong together. Check both and try again.",
        "inactive": "This account is switched off. Ask an admin of your organization.",
    }

    def __init__(self, request: HttpRequest | None = None, *args: Any, **kwargs: Any) -> None:
        super().__init__(request, *args, **kwargs)
        self.fields["username"].label = "E-mail address"
        self.fields["username"].widget = forms.EmailInput(
            attrs={"autocomplete": "username", "autofocus": True, "maxlength": 254}
        )

    def clean(self) -> dict[str, Any]:
        address = client_address(self.request) if self.request else ""
        brake = Brake(str(self.cleaned_data.get("username", "")), address)
        if minutes := brake.minutes_left():
            plural = "" if minutes == 1 else "s"
            raise ValidationError(f"Too many attempts. Try again in {minutes} minute{plural}.", code="throttled")
        try:
            cleaned = super().clean()
        except ValidationError:
            brake.note_failure()
            raise
        if self.user_cache is not None:
            brake.release()
        return cleaned
