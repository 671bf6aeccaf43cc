"""A day begins while people ask: nobody sees a file without its tables."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from fathom.errors import FathomError
from fathom.store.interface import SECONDS_PER_DAY, Window

if TYPE_CHECKING:
    from fathom.store.interface import Store


def test_a_day_that_begins_is_never_seen_half_made(open_sqlite: Callable[..., Store], world: Any) -> None:
    world.now = world.now // SECONDS_PER_DAY * SECONDS_PER_DAY + 60
    today, edge, over, wrong = int(world.now), world.edge(), threading.Event(), []
    store = open_sqlite()
    window = Window(today - 40 * SECONDS_PER_DAY, today + SECONDS_PER_DAY)

    def ask() -> None:
        while not over.is_set():
            try:
                store.nodes()
                store.coverage(window)
            except FathomError as error:
                wrong.append(str(error))

    asking = [threading.Thread(target=ask) for _ in range(2)]
    patience = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        for thread in asking:
            thread.start()
        for day in range(40):
            store.write(world.batch((edge, today - day * SECONDS_PER_DAY, {"connections": 1})))
    finally:
        over.set()
        for thread in asking:
            thread.join()
        sys.setswitchinterval(patience)
        store.close()
    assert wrong == []
    assert store.health().notes == ()
