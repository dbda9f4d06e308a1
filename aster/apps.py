from django.contrib.admin.apps import AdminConfig


class HubConfig(AdminConfig):
    """Makes the Control Hub Django's default admin site, so that `admin.register` registers there."""

    default_site = "aster.hub.ControlHub"
