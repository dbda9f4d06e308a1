"""Settings, from environment variables alone. Every variable is listed in docs/operations.md.

Without `DATABASE_URL` this is a one-machine installation: SQLite, an in-memory queue inside the server process, and
secrets generated into `ASTER_DATA_DIR`. With it, every secret must be given.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import django_stubs_ext
import environ
from django.core.exceptions import ImproperlyConfigured

from aster.secrets_file import load_or_create

# Lets annotations such as ModelAdmin[Agent] stand in class statements.
django_stubs_ext.monkeypatch()

BASE_DIR = Path(__file__).resolve().parent.parent
env = environ.Env()
OFFICIAL_REGISTRY = "https://registry.modelcontextprotocol.io"


def _flag(name: str, default: bool) -> bool:
    """A switch that is on or off; anything else is a mistake worth stopping for."""
    text = env.str(name, str(default)).strip().lower()
    if text not in ("1", "true", "yes", "on", "0", "false", "no", "off", ""):
        raise ImproperlyConfigured(f"{name} must be 1 or 0, not {text!r}.")
    return text in ("1", "true", "yes", "on")


def _list(text: str) -> list[str]:
    return [item.strip() for item in text.split(",") if item.strip()]


def _proxies(name: str) -> int:
    """How many proxies are in front; a plain yes means one."""
    text = env.str(name, "0").strip()
    return int(text) if text.isdecimal() else int(_flag(name, False))


def _registries(name: str) -> list[str]:
    """Base addresses of MCP registries. They are shown on pages, so nothing secret may be in them."""
    addresses = [address.rstrip("/") for address in _list(env.str(name, OFFICIAL_REGISTRY))]
    for address in addresses:
        parts = environ.urlparse(address)
        if parts.scheme not in ("http", "https") or not parts.hostname or "@" in parts.netloc or len(address) > 200:
            words = "must list addresses such as https://registry.example.com, without user names and passwords."
            raise ImproperlyConfigured(f"{name} {words}")
        if parts.query or parts.fragment:
            raise ImproperlyConfigured(f"{name} must list addresses without ? and #.")
    return list(dict.fromkeys(addresses))


def _days(name: str, default: int) -> int:
    """A number of days; 0 means for ever."""
    text = env.str(name, str(default)).strip()
    if not text.isdecimal() or int(text) > 36_500:
        raise ImproperlyConfigured(f"{name} must be a number of days, or 0 for ever, not {text!r}.")
    return int(text)


# --- What kind of installation is this ------------------------------------------------------------------------------
DEBUG = _flag("DEBUG", False)
PORT: int = env.int("PORT", 8000)
ASTER_DATA_DIR = Path(env.str("ASTER_DATA_DIR", str(BASE_DIR / "var"))).resolve()
ASTER_PUBLIC_URL: str = env.str("ASTER_PUBLIC_URL", f"http://127.0.0.1:{PORT}").rstrip("/")
# Where providers fetch Aster's client metadata document; empty where they cannot (CIMD wants https).
ASTER_CLIENT_METADATA_URL: str = env.str(
    "ASTER_CLIENT_METADATA_URL",
    f"{ASTER_PUBLIC_URL}/oauth/client-metadata.json" if ASTER_PUBLIC_URL.startswith("https://") else "",
)
ONE_MACHINE = "DATABASE_URL" not in env.ENVIRON
_generated = load_or_create(ASTER_DATA_DIR / "secrets.json") if ONE_MACHINE else {}


def _secret(name: str) -> str:
    value: str = env.str(name, _generated.get(name, ""))
    if not value:
        raise ImproperlyConfigured(f"Set {name}: it is generated only for a one-machine installation on SQLite.")
    return value


# --- Secrets --------------------------------------------------------------------------------------------------------
SECRET_KEY = _secret("SECRET_KEY")
# The first key encrypts, all of them decrypt: put a new key in front to rotate (docs/operations.md).
ASTER_ENCRYPTION_KEYS = _list(_secret("ASTER_ENCRYPTION_KEYS"))

# --- What Aster may reach -------------------------------------------------------------------------------------------
ASTER_STDIO_COMMANDS = _list(env.str("ASTER_STDIO_COMMANDS", ""))
# Another list of remote MCP servers than connectors/remote_servers.yaml, in the same shape
ASTER_REMOTE_SERVERS_FILE = env.str("ASTER_REMOTE_SERVERS_FILE", "")
ASTER_ENV_VARS = _list(env.str("ASTER_ENV_VARS", ""))
ASTER_ALLOWED_HOSTS_PRIVATE = _list(env.str("ASTER_ALLOWED_HOSTS_PRIVATE", ""))
# Where servers can be looked up; empty switches that off.
ASTER_REGISTRIES = _registries("ASTER_REGISTRIES")

# --- Web ------------------------------------------------------------------------------------------------------------
_public = environ.urlparse(ASTER_PUBLIC_URL)
ALLOWED_HOSTS = [_public.hostname or "localhost", *_list(env.str("ALLOWED_HOSTS", ""))]
if DEBUG:
    ALLOWED_HOSTS += ["localhost", "127.0.0.1", "[::1]"]
CSRF_TRUSTED_ORIGINS = [ASTER_PUBLIC_URL]
ROOT_URLCONF = "aster.urls"
ASGI_APPLICATION = "aster.asgi.application"
LOGIN_URL = "/hub/login/"
LOGIN_REDIRECT_URL = "/hub/"
AUTH_USER_MODEL = "accounts.User"
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
DEFAULT_EXCEPTION_REPORTER_FILTER = "aster.web.NoLocalsFilter"

INSTALLED_APPS = [
    "aster.apps.AsterConfig",
    "aster.accounts",
    "integrations",
    "oauth2_provider",
    "agents",
    "connectors",
    "aster.apps.HubConfig",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "servestatic.runserver_nostatic",
    "django.contrib.staticfiles",
    "django_htmx",
    "rest_framework",
    "drf_spectacular",
    "drf_spectacular_sidecar",
]
MIDDLEWARE = [
    "aster.web.RequestIdMiddleware",
    "django.middleware.security.SecurityMiddleware",
    "aster.web.ContentSecurityPolicyMiddleware",
    "aster.web.AddressMiddleware",
    "servestatic.middleware.ServeStaticMiddleware",
    "aster.web.CanonicalHostMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "aster.accounts.access.MembershipMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "django_htmx.middleware.HtmxMiddleware",
]
TEMPLATES: list[dict[str, Any]] = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [BASE_DIR / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
                "aster.hub.shell_context",
            ],
            "builtins": ["aster.templatetags.aster"],
        },
    },
]

_https = _public.scheme == "https"
SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = _https
SESSION_COOKIE_NAME = "__Host-aster" if _https else "aster"
SESSION_COOKIE_SAMESITE = "Lax"
SESSION_COOKIE_HTTPONLY = True
SESSION_COOKIE_AGE = 14 * 24 * 3600
SECURE_CONTENT_TYPE_NOSNIFF = True
SECURE_REFERRER_POLICY = "same-origin"
SECURE_CROSS_ORIGIN_OPENER_POLICY = "same-origin"
SECURE_HSTS_SECONDS = 365 * 24 * 3600 if _https else 0
# Only what these proxies wrote is believed: X-Forwarded-Proto, and as many entries at the end of X-Forwarded-For.
ASTER_PROXIES = _proxies("ASTER_BEHIND_PROXY")
SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https") if ASTER_PROXIES else None
X_FRAME_OPTIONS = "DENY"
DATA_UPLOAD_MAX_MEMORY_SIZE = 2 * 1024 * 1024
DATA_UPLOAD_MAX_NUMBER_FIELDS = 5_000  # an agent's Tools page may have many switches open

STATIC_URL = "/static/"
STATIC_ROOT = ASTER_DATA_DIR / "static"
SERVESTATIC_USE_FINDERS = True

# --- Sign-in for MCP clients (agents.authorization_server) ------------------------------------------------------------
OAUTH2_PROVIDER_APPLICATION_MODEL = "oauth2_provider.Application"
OAUTH2_PROVIDER: dict[str, Any] = {
    "OAUTH2_SERVER_CLASS": "oauthlib.oauth2.WebApplicationServer",  # authorization codes and refresh tokens alone
    "OAUTH2_VALIDATOR_CLASS": "agents.authorization_server.validator.Validator",
    "ACCESS_TOKEN_GENERATOR": "agents.authorization_server.tokens.make_access_token",
    "REFRESH_TOKEN_GENERATOR": "agents.authorization_server.tokens.make_refresh_token",
    "SCOPES": {"aster:call": "Call the tools of an agent"},
    "AUTHORIZATION_CODE_EXPIRE_SECONDS": 300,
    "ACCESS_TOKEN_EXPIRE_SECONDS": 3600,
    "OIDC_ISS_ENDPOINT": ASTER_PUBLIC_URL,
    "PKCE_REQUIRED": True,
    # Our validator rotates by rules of its own (docs/decisions/0016); what stands here is for the toolkit's checks.
    "ROTATE_REFRESH_TOKEN": True,
    "REFRESH_TOKEN_REUSE_PROTECTION": True,
    **{
        f"COMPLIANT_BCP_RFC9700_{name}": True
        for name in ("IMPLICIT_GRANT", "PASSWORD_GRANT", "PKCE_METHOD", "ACCESS_TOKEN_TRANSPORT", "AUTHZ_RESPONSE_ISS",
                     "TOKEN_STORAGE", "REFRESH_TOKEN", "REDIRECT_URI_MATCHING", "PKCE_REQUIRED")
    },
}  # fmt: skip

# --- Data -----------------------------------------------------------------------------------------------------------
DATABASES: dict[str, dict[str, Any]] = {
    "default": env.db_url("DATABASE_URL", default=f"sqlite:///{ASTER_DATA_DIR / 'aster.sqlite3'}")
}
if DATABASES["default"]["ENGINE"].endswith("sqlite3"):
    # IMMEDIATE takes the write lock at BEGIN, so that two writers queue instead of failing at COMMIT.
    DATABASES["default"]["OPTIONS"] = {
        "transaction_mode": "IMMEDIATE",
        "timeout": 20,
        "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL;",
    }
    DATABASES["default"]["TEST"] = {"NAME": str(ASTER_DATA_DIR / "test.sqlite3")}
elif DATABASES["default"]["ENGINE"].endswith("postgresql"):
    # Each request runs in a thread of its own, so connections must be pooled, not kept per thread.
    DATABASES["default"]["CONN_HEALTH_CHECKS"] = True
    DATABASES["default"].setdefault("OPTIONS", {})["pool"] = {"min_size": 1, "max_size": 20, "timeout": 10}

# How long the record of tool calls and the audit trail are kept; organizations may say otherwise for their calls.
ASTER_KEEP_CALLS_DAYS = _days("ASTER_KEEP_CALLS_DAYS", 365)
ASTER_KEEP_AUDIT_DAYS = _days("ASTER_KEEP_AUDIT_DAYS", 0)
# Off: the gateway answers first and stores the record within a quarter of a second.
ASTER_CALLS_WRITTEN_THROUGH = _flag("ASTER_CALLS_WRITTEN_THROUGH", False)

AUTH_PASSWORD_VALIDATORS = [
    {"NAME": "django.contrib.auth.password_validation.MinimumLengthValidator", "OPTIONS": {"min_length": 10}},
    {"NAME": "django.contrib.auth.password_validation.CommonPasswordValidator"},
    {
        "NAME": "django.contrib.auth.password_validation.UserAttributeSimilarityValidator",
        "OPTIONS": {"user_attributes": ("email", "name")},
    },
]

# --- Queue: the database is the truth, a message only makes due work happen sooner ----------------------------------
CELERY_BROKER_URL: str = env.str("REDIS_URL", "memory://localhost/")
CELERY_BROKER_TRANSPORT_OPTIONS: dict[str, Any] = (
    {"polling_interval": 0.02}
    if CELERY_BROKER_URL.startswith("memory:")
    # A queue that is down must not hold up the request that wanted to use it.
    else {"max_retries": 1, "interval_start": 0, "interval_step": 0, "socket_connect_timeout": 2}
)
CELERY_BROKER_CONNECTION_TIMEOUT = 2.0
CELERY_TASK_IGNORE_RESULT = True
if CELERY_BROKER_URL.startswith("redis"):
    # Several processes brake failed sign-ins together.
    CACHES = {
        "default": {
            "BACKEND": "django.core.cache.backends.redis.RedisCache",
            "LOCATION": CELERY_BROKER_URL,
            "OPTIONS": {"socket_connect_timeout": 2, "socket_timeout": 2},
        }
    }
# Worker and scheduler run inside the web process unless a broker connects several.
ASTER_EMBEDDED_WORKER = _flag("ASTER_EMBEDDED_WORKER", CELERY_BROKER_URL.startswith("memory:"))
CELERY_TIMEZONE = "UTC"
CELERY_BROKER_CONNECTION_RETRY_ON_STARTUP = True
CELERY_WORKER_HIJACK_ROOT_LOGGER = False


def _every(seconds: float, task: str) -> dict[str, Any]:
    # A tick nobody took before the next one is worth nothing: without `expires` they pile up while no worker runs.
    return {"task": task, "schedule": seconds, "options": {"expires": seconds}}


CELERY_BEAT_SCHEDULE = {
    "refresh-due-connections": _every(10.0, "integrations.tasks.refresh_due_connections"),
    "sync-due-servers": _every(60.0, "integrations.tasks.sync_due_servers"),
    "sync-registries": _every(60.0, "integrations.tasks.sync_registries"),
    "delete-expired": _every(600.0, "integrations.tasks.delete_expired"),
    "run-due-tasks": _every(30.0, "agents.tasks.run_due_tasks"),
    "delete-old": _every(3600.0, "agents.tasks.delete_old"),
    "delete-old-documents": _every(3600.0, "connectors.tasks.delete_old"),
}

# --- Mail -----------------------------------------------------------------------------------------------------------
# smtp+tls://user:password@mail.example.com:587. Without it nobody is mailed, and pages say what mails would.
ASTER_SENDS_MAIL = bool(env.str("EMAIL_URL", ""))
globals().update(env.email_url("EMAIL_URL", default="dummymail://"))
EMAIL_TIMEOUT = 15
DEFAULT_FROM_EMAIL: str = env.str("ASTER_MAIL_FROM", f"Aster <aster@{_public.hostname or 'localhost'}>")

# --- Words, time, logs ----------------------------------------------------------------------------------------------
LANGUAGE_CODE = "en"
FORMAT_MODULE_PATH = "aster.formats"
TIME_ZONE = "UTC"
USE_TZ = True
LOGGING: dict[str, Any] = {
    "version": 1,
    "disable_existing_loggers": False,
    "filters": {"request_id": {"()": "aster.web.RequestIdFilter"}, "expected": {"()": "aster.web.ExpectedRefusals"}},
    "formatters": {"line": {"format": "{asctime} {levelname} {name} [{request_id}] {message}", "style": "{"}},
    "handlers": {
        "stderr": {"class": "logging.StreamHandler", "formatter": "line", "filters": ["request_id", "expected"]}
    },
    "root": {"handlers": ["stderr"], "level": env.str("LOG_LEVEL", "INFO")},
    # httpx2 logs every URL at INFO: authorization codes and ids do not belong in logs.
    "loggers": {
        "django": {"handlers": [], "propagate": True, "level": "INFO"},
        **{name: {"level": "WARNING"} for name in ("httpx2", "httpcore2", "mcp", "celery", "kombu", "uvicorn.access")},
        # Their debug lines hold codes and tokens.
        **{name: {"level": "WARNING"} for name in ("oauthlib", "oauth2_provider")},
    },
}

REST_FRAMEWORK = {
    "DEFAULT_AUTHENTICATION_CLASSES": [
        "aster.accounts.authentication.ApiKeyAuthentication",
        "rest_framework.authentication.SessionAuthentication",
    ],
    "DEFAULT_PERMISSION_CLASSES": ["aster.accounts.authentication.IsMember"],
    "DEFAULT_RENDERER_CLASSES": ["rest_framework.renderers.JSONRenderer"],
    "DEFAULT_PARSER_CLASSES": ["rest_framework.parsers.JSONParser"],
    "DEFAULT_PAGINATION_CLASS": "aster.api.CursorPages",
    "DEFAULT_SCHEMA_CLASS": "drf_spectacular.openapi.AutoSchema",
    "EXCEPTION_HANDLER": "aster.api.handle_exception",
    "UNAUTHENTICATED_USER": "django.contrib.auth.models.AnonymousUser",
}
SPECTACULAR_SETTINGS = {
    "TITLE": "Aster API",
    "DESCRIPTION": "Register MCP servers, connect people, let agents call tools. Send an API key as "
    "`Authorization: Bearer …` or `X-API-Key`, or use the session cookie with a CSRF token.",
    "VERSION": "1",
    "OAS_VERSION": "3.1.0",
    "SERVE_INCLUDE_SCHEMA": False,
    "SERVE_PERMISSIONS": ["rest_framework.permissions.AllowAny"],
    "SWAGGER_UI_DIST": "SIDECAR",
    "SWAGGER_UI_FAVICON_HREF": "SIDECAR",
    "SCHEMA_PATH_PREFIX": "/api/v1/",
    "SERVERS": [{"url": ASTER_PUBLIC_URL, "description": "This installation"}],
    "TAGS": [
        {"name": "MCP servers", "description": "Register servers, try them, and see the tools they offer."},
        {"name": "Registry", "description": "Look up published servers, and add one from its entry."},
        {"name": "Auth configs", "description": "How Aster signs in to servers: shared credentials or OAuth."},
        {"name": "Connectors", "description": "Well-known services: enable them with their app, key or one call."},
        {"name": "Connections", "description": "One person's grant at one auth config: connect, watch, disconnect."},
        {"name": "Agents", "description": "Agents, the servers and tools they may use, and calls through them."},
        {"name": "Chat", "description": "Talk to agents. Conversations are their person's alone."},
        {"name": "Approvals", "description": "Calls that wait for a person's word: see them, approve, deny."},
        {"name": "Connected apps", "description": "MCP clients that people have let in: see them, lock them out."},
        {"name": "Session tickets", "description": "Let a page of your own app act for one person, for a short time."},
        {"name": "Embedded pages", "description": "What such a page may do; the ticket is the only way in."},
        {"name": "Organization", "description": "People, API keys and the audit trail."},
    ],
    "ENUM_NAME_OVERRIDES": {
        "AuthTypeEnum": "integrations.models.AuthType",
        "TransportEnum": "integrations.models.Transport",
        "OwnTransportEnum": "integrations.models.OWN_TRANSPORTS",
        "ConnectionStatusEnum": "integrations.models.ConnectionStatus",
        "TestStatusEnum": "integrations.api_shapes.TEST_STATUS",
        "ServerStatusEnum": "integrations.api_shapes.SERVER_STATUS",
        "BegunStatusEnum": "integrations.api_shapes.BEGUN_STATUS",
        "ConnectionStateEnum": "integrations.api_shapes.STATE",
        "EntryStatusEnum": "integrations.models.EntryStatus",
        "KeyStateEnum": "aster.accounts.api_shapes.KEY_STATE",
        "MessageStateEnum": "agents.models.MessageState",
        "StepStatusEnum": "agents.api_shapes.STEP_STATUS",
        "RequiredStatusEnum": "integrations.api_shapes.REQUIRED_STATUS",
        "EmbeddedServerStatusEnum": "agents.api_session_docs.SERVER_STATUS",
    },
}
