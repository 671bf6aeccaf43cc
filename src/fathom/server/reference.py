"""The reference of REST, for people: the OpenAPI document as a page, in Markdown (docs) and in HTML (``/docs``).

``python -m fathom.server.reference`` prints the Markdown page. No script, and nothing from elsewhere.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from html import escape
from typing import Any

Spec = dict[str, Any]


def markdown(spec: Spec) -> str:
    """The page as Markdown."""
    lines: list[str] = ["# REST", "", "Made from the server's OpenAPI document (`/openapi.json`); do not edit.", ""]
    lines += [spec["info"]["description"].strip(), ""]
    for title, operation in _operations(spec):
        lines += [f"## {title}", "", str(operation.get("description", "")), ""]
        if parameters := operation.get("parameters"):
            lines += ["| parameter | type | default | meaning |", "| --- | --- | --- | --- |"]
            lines += [
                f"| `{p['name']}` | {_type(p['schema'])} | {_default(p['schema'])} | {_meaning(p)} |"
                for p in parameters
            ]
            lines.append("")
        if (body := _body(operation)) is not None:
            lines += [f"Body: {body[0]}", "", "```", body[1], "```", ""]
        for status, response in operation["responses"].items():
            lines.append(f"- **{status}** {response['description']}")
        lines.append("")
        if example := _example(operation):
            lines += ["```", example, "```", ""]
    lines += ["## Types", ""]
    for name, schema in sorted(spec["components"]["schemas"].items()):
        lines += [
            f"### {name}",
            "",
            schema.get("description", ""),
            "",
            "| field | type | meaning |",
            "| --- | --- | --- |",
        ]
        lines += [f"| `{field}` | {_type(of)} | {_meaning(of)} |" for field, of in schema["properties"].items()]
        lines.append("")
    return "\n".join(lines).rstrip() + "\n"


def html(spec: Spec) -> str:
    """The page as HTML."""
    body = [f"<h1>Fathom REST</h1><pre>{escape(spec['info']['description'])}</pre>"]
    for title, operation in _operations(spec):
        rows = "".join(
            f"<tr><td><code>{escape(p['name'])}</code><td>{escape(_type(p['schema']))}<td>{escape(_default(p['schema']))}"
            f"<td>{escape(_meaning(p))}"
            for p in operation.get("parameters", ())
        )
        answers = "".join(
            f"<li><b>{escape(status)}</b> {escape(response['description'])}"
            for status, response in operation["responses"].items()
        )
        sent = _body(operation)
        sent_html = f"<p>Body: {escape(sent[0])}</p><pre>{escape(sent[1])}</pre>" if sent else ""
        example = _example(operation)
        body.append(
            f"<h2>{escape(title)}</h2><p>{escape(operation.get('description', ''))}</p>"
            f"<table>{rows}</table>{sent_html}<ul>{answers}</ul>" + (f"<pre>{escape(example)}</pre>" if example else "")
        )
    style = "body{font:16px sans-serif;max-width:60em;margin:2em auto;padding:0 1em}"
    style += "td{padding:0 1em 0 0;vertical-align:top}pre{background:#8881;padding:1em;overflow:auto}"
    head = f'<!doctype html><html lang="en"><meta charset="utf-8"><title>Fathom REST</title><style>{style}</style>'
    return head + "".join(body)


def _operations(spec: Spec) -> Iterator[tuple[str, Spec]]:
    """``METHOD /path`` and what is said about it."""
    for path, methods in spec["paths"].items():
        for method, operation in methods.items():
            yield f"{method.upper()} {path}", operation


def _body(operation: Spec) -> tuple[str, str] | None:
    """The type of the body that a request must have, and an example."""
    if "requestBody" not in operation:
        return None
    content = operation["requestBody"]["content"]["application/json"]
    return _type(content["schema"]), _text(content["example"])


def _example(operation: Spec) -> str:
    """The example of an answer; empty if it has no body."""
    for content in operation["responses"].get("200", {}).get("content", {}).values():
        return _text(content["example"])
    return ""


def _text(example: Any) -> str:
    return example if isinstance(example, str) else json.dumps(example, indent=1, ensure_ascii=False)


def _type(schema: Spec) -> str:
    if "$ref" in schema:
        return str(schema["$ref"]).rpartition("/")[2]
    if "anyOf" in schema:
        return " or ".join(_type(option) for option in schema["anyOf"])
    if "enum" in schema:
        return ", ".join(repr(str(word)) for word in schema["enum"])
    if "prefixItems" in schema:
        return f"[{', '.join(map(_type, schema['prefixItems']))}]"
    if schema.get("type") == "array":
        return f"list of {_type(schema['items'])}" if isinstance(schema.get("items"), dict) else "list"
    if isinstance(schema.get("additionalProperties"), dict) and schema["additionalProperties"]:
        return f"object of {_type(schema['additionalProperties'])}"
    return str(schema.get("type", "any"))


def _default(schema: Spec) -> str:
    return json.dumps(schema["default"]) if schema.get("default") not in (None, "") else ""


def _meaning(of: Spec) -> str:
    """What a parameter or a field means, wherever its schema says it."""
    texts = [of.get("description"), *(option.get("description") for option in of.get("anyOf", ()))]
    if "schema" in of:
        texts.append(_meaning(of["schema"]))
    return _cell(next((str(text) for text in texts if text), ""))


def _cell(text: str) -> str:
    return " ".join(text.replace("|", "\\|").split())


def main() -> None:
    """Print the Markdown page."""
    from fathom.server.app import documented

    sys.stdout.write(markdown(documented()))


if __name__ == "__main__":
    main()
