"""The server's log: JSON lines, and no key in any of them."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator

import pytest

from fathom.errors import UsageError
from fathom.server.logs import set_up, without_secrets


@pytest.fixture(autouse=True)
def as_before() -> Iterator[None]:
    root = logging.getLogger()
    loggers = [root, *(logging.getLogger(name) for name in ("uvicorn.error", "asyncio"))]
    handlers, levels = list(root.handlers), [logger.level for logger in loggers]
    yield
    root.handlers[:] = handlers
    for logger, level in zip(loggers, levels, strict=True):
        logger.setLevel(level)


def test_a_line_is_one_json_object() -> None:
    out = io.StringIO()
    set_up("json", "info", out)
    logging.getLogger("fathom.x").info("a\n%s", "ü")
    try:
        raise ValueError("broken")
    except ValueError:
        logging.getLogger("fathom.x").exception("failed")
    first, second = (json.loads(line) for line in out.getvalue().splitlines())
    assert (first["level"], first["logger"], first["message"]) == ("info", "fathom.x", "a\nü")
    assert first["time"].endswith("+00:00")
    assert "ValueError: broken" in second["trace"]


def test_text_is_for_people() -> None:
    out = io.StringIO()
    set_up("text", "warning", out)
    logging.getLogger("fathom.x").info("unseen")
    logging.getLogger("fathom.x").warning("seen")
    assert out.getvalue().endswith("WARNING fathom.x: seen\n")
    assert "unseen" not in out.getvalue()


@pytest.mark.parametrize("form", ["json", "text"])
def test_no_key_is_ever_written(form: str) -> None:
    out = io.StringIO()
    set_up(form, "debug", out)
    log = logging.getLogger("anybody")
    log.error("token fathom_admin_%s and fathom_join_abcdefgh_12-34", "s3cr3t_" * 6)
    log.error("header Authorization: Bearer s3cr3tother")
    try:
        raise ValueError("fathom_join_s3cr3ts3cr3t")
    except ValueError:
        log.exception("headers %r", {"authorization": "bearer s3cr3tquoted'"})
    assert "s3cr3t" not in out.getvalue()
    assert "abcdefgh" not in out.getvalue()
    assert "fathom_admin_…" in out.getvalue()


@pytest.mark.parametrize("text", ["fathom_admin_ is a prefix", "bytes 12", "Bearer", "forbearer x"])
def test_words_that_are_no_keys_stay(text: str) -> None:
    assert without_secrets(text) == text


@pytest.mark.parametrize(("form", "level"), [("xml", "info"), ("json", "loud")])
def test_settings_that_make_no_sense_are_refused(form: str, level: str) -> None:
    with pytest.raises(UsageError):
        set_up(form, level)


def test_strangers_on_the_port_are_no_news() -> None:
    out = io.StringIO()
    set_up("json", "info", out)
    logging.getLogger("uvicorn.error").warning("Invalid HTTP request received.")
    assert out.getvalue() == ""
