"""The body of a request as one of the types that REST takes; what makes no sense is refused in words."""

from __future__ import annotations

from typing import TypeVar

import msgspec
from fastapi import Request

from fathom.server.problems import ProblemError

T = TypeVar("T")


async def body_of(request: Request, kind: type[T]) -> T:
    """The JSON body of ``request``. Raises ProblemError (422) if it is none, or not of ``kind``."""
    data = await request.body()
    try:
        return msgspec.json.decode(data, type=kind)
    except msgspec.ValidationError as error:
        raise ProblemError(
            422, f"the body makes no sense: {str(error)[:300]}", do="see /docs for what it takes"
        ) from None
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise ProblemError(422, f"the body is no JSON: {str(error)[:300]}", do="send JSON") from None
