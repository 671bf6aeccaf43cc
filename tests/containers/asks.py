"""A program that asks a web server as it is told, and tells what it answered as JSON. Needs the standard library alone.

``asks.py PORT REQUESTS``: REQUESTS is a JSON list of [method, path, body]; the answer one of [status, SHA-256 of the
body]. All are asked on one connection where the server keeps it.
"""

from __future__ import annotations

import hashlib
import http.client
import json
import sys


def main() -> None:
    connection = http.client.HTTPConnection("127.0.0.1", int(sys.argv[1]), timeout=10)
    told = []
    for method, path, body in json.loads(sys.argv[2]):
        connection.request(method, path, body or None)
        answer = connection.getresponse()
        told.append([answer.status, hashlib.sha256(answer.read()).hexdigest()])
    print(json.dumps(told))


if __name__ == "__main__":
    main()
