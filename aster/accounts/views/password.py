"""Choosing the first password, from the link an admin passed on, and changing it later."""

from __future__ import annotations

from typing import Any

from django.contrib.auth.views import PasswordChangeView, PasswordResetConfirmView
from django.http import HttpResponse
from django.urls import reverse_lazy

from aster.accounts.forms import ChangePasswordForm, ChoosePasswordForm


class SetPassword(PasswordResetConfirmView):
    """Django's single-use token: it ends with the password it sets. The token leaves the address before the form shows.

    The person is signed in afterwards.
    """

    form_class = ChoosePasswordForm
    template_name = "accounts/set_password.html"
    post_reset_login = True
    success_url = "/hub/"

    def render_to_response(self, context: dict[str, Any], **response_kwargs: Any) -> HttpResponse:
        if not self.validlink:
            response_kwargs["status"] = 410
        elif context["form"].errors:
            response_kwargs["status"] = 400
        return super().render_to_response(context, **response_kwargs)


class ChangePassword(PasswordChangeView):
    form_class = ChangePasswordForm
    success_url = reverse_lazy("admin:password_change_done")
