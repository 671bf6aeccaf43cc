"""A program in the place of kubectl: it answers as an API server with some objects would, in parts.

It is told what to answer by the JSON file beside it, and keeps the arguments that it was called with.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

HERE = Path(__file__).parent
EXPIRED = "Error from server (Expired): The provided continue parameter is too old"


def part(items: list, query: dict, told: dict, path: str) -> dict:
    """The part of a list that a query asks for."""
    first = int(query.get("continue", ["0"])[0])
    if first and told.get("expires", 0) > len(list(HERE.glob("expired-*"))):
        (HERE / f"expired-{time.monotonic_ns()}").touch()
        sys.exit(EXPIRED)
    last = first + min(int(query["limit"][0]), told.get("most", 500))
    kind, version = told["kinds"][path]
    metadata = {"continue": str(last)} if last < len(items) else {}
    plain = [{name: value for name, value in item.items() if name not in ("kind", "apiVersion")} for item in items]
    return {"kind": kind + "List", "apiVersion": version, "metadata": metadata, "items": plain[first:last] or None}


def main() -> None:
    told = json.loads((HERE / "told.json").read_text())
    if sys.argv[1:3] not in (["get", "--raw"], ["config", "view"]):
        print(told["manifests"])
        return
    with (HERE / "called").open("a") as calls:
        calls.write(" ".join(sys.argv[1:]) + "\n")
    if sys.argv[1] == "config":
        print(json.dumps(told["config"]))
        return
    url = urlsplit(sys.argv[3])
    if url.path in told.get("fails", {}):
        sys.exit(told["fails"][url.path])
    if url.path in told.get("sleeps", ()):
        print("To sign in, open a browser", file=sys.stderr, flush=True)
        time.sleep(60)
    if url.path in told.get("leaves", ()):
        subprocess.Popen(["sleep", "30"])
    if url.path in told["objects"]:
        print(json.dumps(part(told["objects"][url.path], parse_qs(url.query), told, url.path)))
    elif url.path in told["answers"]:
        print(json.dumps(told["answers"][url.path]))
    else:
        sys.exit("Error from server (NotFound): the server could not find the requested resource")


if __name__ == "__main__":
    main()
