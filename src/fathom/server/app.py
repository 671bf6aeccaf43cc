"""The application: routes, errors and the door around them. It opens nothing and listens on nothing (``main`` does)."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from fastapi import FastAPI

from fathom import __version__
from fathom.link.hub import Hub
from fathom.server import problems
from fathom.server.auditor import Auditor
from fathom.server.desk import Desk
from fathom.server.documented import describe
from fathom.server.guard import Guard
from fathom.server.inventories import StoreInventories
from fathom.server.judging import Judge
from fathom.server.keys import Keys
from fathom.server.meters import Meters
from fathom.server.routes import audit, edges, events, health, policy, recording, status, stream
from fathom.server.settings import ServerSettings
from fathom.store.interface import Store

_ROUTES = (
    status.router,
    edges.router,
    events.router,
    stream.router,
    recording.router,
    audit.router,
    policy.router,
    health.router,
)


def create_app(
    store: Store,
    hub: Hub,
    settings: ServerSettings,
    keys: Keys,
    *,
    meters: Meters | None = None,
    auditor: Auditor | None = None,
    now_ns: Callable[[], int] = time.time_ns,
) -> FastAPI:
    """REST over ``store`` and ``hub``, for those who show one of ``keys``. ``app.state.desk`` is to be closed after.

    ``auditor`` judges by being run elsewhere; without one, registered policies only wait.
    """
    app = _routes()
    counted = meters or Meters()
    counted.audit.most_policies = settings.audit_series
    judging = auditor or Auditor(Judge(store, StoreInventories(store)), counted.audit)
    app.state.desk = Desk(store, hub, settings, counted, now_ns, __version__, now_ns() // 1_000_000_000, judging)
    app.add_middleware(Guard, settings=settings, keys=keys, meters=counted)
    return app


def documented() -> dict[str, Any]:
    """The OpenAPI document, which needs no store."""
    return describe(_routes())


def _routes() -> FastAPI:
    app = FastAPI(title="Fathom", version="v1", docs_url=None, redoc_url=None, openapi_url=None, redirect_slashes=False)
    for router in _ROUTES:
        app.include_router(router)
    problems.install(app)
    return app
