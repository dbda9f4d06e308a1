from django.apps import AppConfig
from django.contrib.admin.apps import AdminConfig


class AsterConfig(AppConfig):
    """The project itself: its commands, static files and template tags. Models live in the other apps."""

    name = "aster"
    verbose_name = "Aster"


class HubConfig(AdminConfig):
    """Makes the Control Hub Django's default admin site, so that `admin.register` registers there."""

    default_site = "aster.hub.ControlHub"
