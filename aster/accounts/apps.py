from django.apps import AppConfig


class AccountsConfig(AppConfig):
    name = "aster.accounts"
    label = "accounts"
    verbose_name = "Organization"
