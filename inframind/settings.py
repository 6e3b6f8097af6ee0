"""Settings of every process: web, worker, beat, commands, tests. All input is the environment."""

from __future__ import annotations

from pathlib import Path

import django_stubs_ext
from csp.constants import NONE, SELF

from inframind import logs
from inframind.env import Environment

django_stubs_ext.monkeypatch()  # lets ModelAdmin[Wallet] and the like stand in class statements

BASE_DIR = Path(__file__).resolve().parent.parent
VAR_DIR = BASE_DIR / "var"
env = Environment.of_process(VAR_DIR / "stack.json")

DEBUG = env.flag("DEBUG", False)
INFRAMIND_ROLE = env.choice("INFRAMIND_ROLE", ("all", "gateway", "web"))
SECRET_KEY = env.text("SECRET_KEY")
ALLOWED_HOSTS = env.listing("ALLOWED_HOSTS", ("127.0.0.1", "localhost", "[::1]"))
SITE_URL = env.text("SITE_URL", "http://127.0.0.1:8000").rstrip("/")
CSRF_TRUSTED_ORIGINS = env.listing("CSRF_TRUSTED_ORIGINS", (SITE_URL,))

INSTALLED_APPS = [
    "inframind.identity.admin_app.StaffAdminConfig",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "whitenoise.runserver_nostatic",
    "django.contrib.staticfiles",
    "django.contrib.humanize",
    "django.contrib.postgres",
    "rest_framework",
    "drf_spectacular",
    "drf_spectacular_sidecar",
    "django_htmx",
    "template_partials",
    "csp",
    "django_prometheus",
    "django_celery_beat",
    "django_otp",
    "django_otp.plugins.otp_totp",
    "django_otp.plugins.otp_static",
    "inframind.identity",
    "billing.ledger",
    "billing.epochs",
    "billing.payouts",
    "marketplace.catalog",
    "marketplace.mesh",
    "marketplace.gateway",
    "marketplace.storefront",
    "curation.lists",
]
if env.flag("DEVSTACK", False):
    INSTALLED_APPS.append("inframind.devstack")

MIDDLEWARE = [
    "django_prometheus.middleware.PrometheusBeforeMiddleware",
    "inframind.middleware.RequestIdMiddleware",
    "django.middleware.security.SecurityMiddleware",
    "inframind.middleware.RoleMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "csp.middleware.CSPMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django_otp.middleware.OTPMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "django_htmx.middleware.HtmxMiddleware",
    "django_prometheus.middleware.PrometheusAfterMiddleware",
]

ROOT_URLCONF = "inframind.urls"
ASGI_APPLICATION = "inframind.asgi.application"
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [BASE_DIR / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
                "csp.context_processors.nonce",
            ],
        },
    }
]

_database = env.postgres("DATABASE_URL")
# There are more threads than connections worth keeping; without a pool each would log in.
_pool_connections = env.integer("DATABASE_POOL_CONNECTIONS", 10)
if _pool_connections:
    _database["OPTIONS"]["pool"] = {"min_size": 1, "max_size": _pool_connections, "timeout": 5}
DATABASES = {"default": {**_database, "CONN_MAX_AGE": 0}}
DATABASE_URL = env.text("DATABASE_URL")
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

REDIS_URL = env.text("REDIS_URL")
CACHES = {
    "default": {
        "BACKEND": "django.core.cache.backends.redis.RedisCache",
        "LOCATION": REDIS_URL,
        "KEY_PREFIX": "inframind",
    }
}

AUTH_USER_MODEL = "identity.Wallet"
AUTHENTICATION_BACKENDS = ["django.contrib.auth.backends.ModelBackend"]
LOGIN_URL = "/signin"
SESSION_ENGINE = "inframind.identity.sessions"
SESSION_COOKIE_NAME = "session"
SESSION_COOKIE_AGE = env.integer("SESSION_DAYS", 14, minimum=1) * 86_400
SIGN_IN_NONCE_SECONDS = 600
SIGN_INS_PER_MINUTE = env.integer("SIGN_INS_PER_MINUTE", 60, minimum=1)
LOGIN_TOKEN_DAYS = env.integer("LOGIN_TOKEN_DAYS", 30, minimum=1)  # what `infra login` is given
TOKEN_LIFETIME_MAX_DAYS = env.integer("TOKEN_LIFETIME_MAX_DAYS", 366, minimum=1)
OTP_TOTP_ISSUER = "InfraMind"
SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = SITE_URL.startswith("https://")
SESSION_COOKIE_HTTPONLY = True
SESSION_COOKIE_SAMESITE = "Lax"
CSRF_COOKIE_HTTPONLY = True
SECURE_SSL_REDIRECT = env.flag("SECURE_SSL_REDIRECT", SITE_URL.startswith("https://"))
SECURE_HSTS_SECONDS = 31_536_000 if SITE_URL.startswith("https://") else 0
SECURE_HSTS_INCLUDE_SUBDOMAINS = SECURE_HSTS_PRELOAD = SITE_URL.startswith("https://")
SECURE_REFERRER_POLICY = "same-origin"
X_FRAME_OPTIONS = "DENY"
if env.flag("BEHIND_PROXY", False):
    SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https")

CONTENT_SECURITY_POLICY = {
    "DIRECTIVES": {
        "default-src": [NONE],
        "script-src": [SELF],
        "style-src": [SELF],
        "img-src": [SELF, "data:"],
        "font-src": [SELF],
        "connect-src": [SELF],
        "form-action": [SELF],
        "base-uri": [NONE],
        "frame-ancestors": [NONE],
        "manifest-src": [SELF],
    }
}

LANGUAGE_CODE = "en-us"
TIME_ZONE = "UTC"
USE_TZ = True
USE_I18N = False

STATIC_URL = "/static/"
STATIC_ROOT = Path(env.text("STATIC_ROOT", str(VAR_DIR / "static")))
STATICFILES_DIRS = [BASE_DIR / "static"]
STATIC_MANIFEST = env.flag("STATIC_MANIFEST", not DEBUG)
STORAGES = {
    "default": {"BACKEND": "django.core.files.storage.FileSystemStorage"},
    "staticfiles": {
        "BACKEND": "whitenoise.storage.CompressedManifestStaticFilesStorage"
        if STATIC_MANIFEST
        else "django.contrib.staticfiles.storage.StaticFilesStorage"
    },
}
WHITENOISE_USE_FINDERS = not STATIC_MANIFEST

# Uploads are spooled to disk, so that none is held whole in memory, in files without a name, so
# that a killed process leaves nothing behind.
FILE_UPLOAD_HANDLERS = ["inframind.storage.uploads.UnnamedFileUploadHandler"]
DATA_UPLOAD_MAX_MEMORY_SIZE = 16 << 20

# --- packages ---------------------------------------------------------------------------------
STORE_DIR = Path(env.text("STORE_DIR", str(VAR_DIR / "store")))
IPFS_API = env.text("IPFS_API", "")
ARWEAVE_GATEWAY = env.text("ARWEAVE_GATEWAY", "")
PACKAGE_MAX_BYTES = env.integer("PACKAGE_MAX_BYTES", 2 << 30, minimum=1)
PACKAGE_MAX_FILES = 999
MODELS_PER_WALLET = env.integer("MODELS_PER_WALLET", 100, minimum=1)
VERSIONS_PER_DAY = env.integer("VERSIONS_PER_DAY", 200, minimum=1)
# Wraps the keys of private packages; whoever has it and the database can read them.
PACKAGE_KEY = env.text("PACKAGE_KEY", SECRET_KEY)
NAME_REFUSALS_PER_HOUR = env.integer("NAME_REFUSALS_PER_HOUR", 20, minimum=1)
ACCESS_REQUESTS_PER_HOUR = env.integer("ACCESS_REQUESTS_PER_HOUR", 20, minimum=1)

# --- chain ------------------------------------------------------------------------------------
CHAIN_ID = env.integer("CHAIN_ID", 31_337, minimum=1)  # a development chain's number
# Without it contract wallets cannot sign in, and nothing is deposited, proposed or claimed.
ETH_RPC_URL = env.text("ETH_RPC_URL", "")
IFM_ADDRESS = env.text("IFM_ADDRESS", "")
SETTLEMENT_ADDRESS = env.text("SETTLEMENT_ADDRESS", "")
SETTLEMENT_BLOCK = env.integer("SETTLEMENT_BLOCK", 0, minimum=0)  # no event is older
CHAIN_CONFIRMATIONS = env.integer("CHAIN_CONFIRMATIONS", 12, minimum=1)
# The account that proposes roots, signs vouchers and relays; without it only reading goes on.
CHAIN_KEY = env.text("CHAIN_KEY", "")
RELAYS_PER_DAY = env.integer("RELAYS_PER_DAY", 20, minimum=0)  # per wallet, at our expense
RELAYS_PER_DAY_IN_ALL = env.integer("RELAYS_PER_DAY_IN_ALL", 2_000, minimum=0)
WITHDRAWAL_HOURS = env.integer("WITHDRAWAL_HOURS", 24, minimum=1)  # a voucher lives that long
FAUCET = env.flag("FAUCET", False)  # gives test IFM away: on a development chain only

# --- money ------------------------------------------------------------------------------------
# The share of nodes from TRITON_NODES that name no operator; without it the account of CHAIN_KEY,
# and without that one the signer of receipts.
HOUSE_PAYOUT_ADDRESS = env.text("HOUSE_PAYOUT_ADDRESS", "")
# Signs receipts; without it the key is derived from SECRET_KEY.
GATEWAY_KEY = env.text("GATEWAY_KEY", "")
LEASE_CALLS = env.integer("LEASE_CALLS", 32, minimum=1)  # a process leases funds for so many
RECEIPT_EPOCHS_KEPT = env.integer("RECEIPT_EPOCHS_KEPT", 13, minimum=1)

# --- mesh and gateway -------------------------------------------------------------------------
TRITON_NODES = env.document("TRITON_NODES", [])
ALLOW_LOOPBACK_NODES = env.flag("ALLOW_LOOPBACK_NODES", False)
# Of each node: above it the least lately used that is not pinned goes.
NODE_MODELS_MAX = env.integer("NODE_MODELS_MAX", 50, minimum=1)
CALL_BODY_MAX_BYTES = env.integer("CALL_BODY_MAX_BYTES", 8 << 20, minimum=1)
CALL_DEADLINE_SECONDS = env.integer("CALL_DEADLINE_SECONDS", 30, minimum=1)
# A streamed answer whole; CALL_DEADLINE_SECONDS is then the time to each of its pieces.
STREAM_DEADLINE_SECONDS = env.integer("STREAM_DEADLINE_SECONDS", 300, minimum=1)
LOAD_DEADLINE_SECONDS = env.integer("LOAD_DEADLINE_SECONDS", 60, minimum=1)
ANONYMOUS_CALLS_PER_MINUTE = env.integer("ANONYMOUS_CALLS_PER_MINUTE", 120, minimum=1)
WALLET_CALLS_PER_MINUTE = env.integer("WALLET_CALLS_PER_MINUTE", 6_000, minimum=1)
# 0: no limit of its own.
TOKEN_CALLS_PER_MINUTE = env.integer("TOKEN_CALLS_PER_MINUTE", 0, minimum=0)
MODEL_CALLS_PER_MINUTE = env.integer("MODEL_CALLS_PER_MINUTE", 0, minimum=0)
# Per wallet: what is kept for calls with an Idempotency-Key.
KEYED_ANSWERS_MAX_BYTES = env.integer("KEYED_ANSWERS_MAX_BYTES", 64 << 20, minimum=0)

REST_FRAMEWORK = {
    "DEFAULT_AUTHENTICATION_CLASSES": ["inframind.identity.api.BearerAuthentication"],
    "DEFAULT_PERMISSION_CLASSES": ["inframind.identity.api.ByTheTable"],
    "DEFAULT_RENDERER_CLASSES": [
        "rest_framework.renderers.JSONRenderer",
    ],
    "DEFAULT_PARSER_CLASSES": ["inframind.parsers.StrictJSONParser"],
    "DEFAULT_SCHEMA_CLASS": "drf_spectacular.openapi.AutoSchema",
    "EXCEPTION_HANDLER": "inframind.problems.handle_exception",
    "UNAUTHENTICATED_USER": None,
}
SPECTACULAR_SETTINGS = {
    "TITLE": "InfraMind Model Marketplace",
    "DESCRIPTION": "Publish, find, verify and call models on the InfraMind mesh.",
    "VERSION": "1",
    "OAS_VERSION": "3.1.0",
    "SERVE_INCLUDE_SCHEMA": False,
    "POSTPROCESSING_HOOKS": [
        "inframind.openapi.document_problems",
        "inframind.openapi.group_and_summarise",
        "drf_spectacular.hooks.postprocess_schema_enums",
    ],
    "SWAGGER_UI_DIST": "SIDECAR",
    "SWAGGER_UI_FAVICON_HREF": "SIDECAR",
    "REDOC_DIST": "SIDECAR",
}

# --- background work --------------------------------------------------------------------------
CELERY_BROKER_URL = env.text("CELERY_BROKER_URL", REDIS_URL)
CELERY_TASK_IGNORE_RESULT = True
CELERY_TASK_ACKS_LATE = True
CELERY_TASK_REJECT_ON_WORKER_LOST = True
CELERY_WORKER_PREFETCH_MULTIPLIER = 1
CELERY_BROKER_CONNECTION_RETRY_ON_STARTUP = True
# After SIGKILL of a worker its message is redelivered only through these three, else minutes later.
CELERY_BROKER_TRANSPORT_OPTIONS = {
    "visibility_timeout": 300,
    "unacked_restore_interval": 5,
    "unacked_restore_throttle": 1,
}
CELERY_TASK_TIME_LIMIT = 600
CELERY_BEAT_SCHEDULE = {
    "sweep-sign-ins": {"task": "identity.sweep", "schedule": 3_600.0},
    "verify-pending": {"task": "catalog.verify_pending", "schedule": 5.0},
    "choose-unexpired": {"task": "catalog.choose_unexpired", "schedule": 5.0},
    "sweep-packages": {"task": "catalog.sweep_packages", "schedule": 86_400.0},
    "probe-nodes": {"task": "mesh.probe_nodes", "schedule": 5.0},
    "place-pinned": {"task": "mesh.place_pinned", "schedule": 15.0},
    "close-due-epoch": {"task": "epochs.close_due", "schedule": 10.0},
    "retire-receipts": {"task": "epochs.retire", "schedule": 3_600.0},
    "sweep-leases": {"task": "ledger.sweep", "schedule": 10.0},
    "follow-chain": {"task": "payouts.follow", "schedule": 2.0},
    "send-transactions": {"task": "payouts.send", "schedule": 2.0},
    "reconcile": {"task": "payouts.reconcile", "schedule": 86_400.0},
    "rate-nodes": {"task": "gateway.rate_nodes", "schedule": 10.0},
    "sweep-keyed-calls": {"task": "gateway.sweep", "schedule": 600.0},
    "refresh-lists": {"task": "lists.refresh", "schedule": 60.0},
}

# Of calls there is a row each; a line beside it costs as much as half a call.
ACCESS_LOG = env.flag("ACCESS_LOG", INFRAMIND_ROLE != "gateway")
logs.configure()
LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {
        "json": {
            "()": "structlog.stdlib.ProcessorFormatter",
            "processors": [
                logs.drop_private,
                logs.render,
            ],
            "foreign_pre_chain": [logs.stamp],
        }
    },
    "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "json"}},
    "root": {"handlers": ["stderr"], "level": env.text("LOG_LEVEL", "INFO")},
    "loggers": {
        "httpx": {"level": "WARNING"},
        "urllib3": {"level": "WARNING"},
        # Its own handlers would write addresses as they came, with a token that somebody put there.
        "uvicorn": {"handlers": [], "propagate": True},
        "uvicorn.access": {"handlers": [], "propagate": ACCESS_LOG},
    },
}
