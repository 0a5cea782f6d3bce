#!/usr/bin/env python3
"""api.py BUF [--check]

Writes docs/api.md, the reference of the contract, from the comments in proto/leadgate. With --check it writes nothing, and fails if the page is
not up to date. BUF is the program of buf.
"""

import json
import re
import subprocess
import sys
from pathlib import Path

PAGE = Path("docs/api.md")
PACKAGE = ".leadgate.v1."
# The numbers of fields in descriptor.proto, for the paths of comments.
MESSAGES, ENUMS, SERVICES, METHODS, VALUES, FIELDS = 4, 5, 6, 2, 2, 2
VERBS = ["get", "put", "post", "delete", "patch"]
INTRODUCTION = """# API reference

All services, messages and enums of [`proto/leadgate/v1`](../proto/leadgate/v1), with their comments. This page is written by `make api`.

What callers should know first is in [Calling leadgate](calling.md), and which endpoint of LeadSquared an RPC calls is in [RPCs](rpcs.md). The HTTP
bindings (`google.api.http`) are for transcoders such as Envoy or grpc-gateway in front of leadgate: leadgate itself serves gRPC and gRPC-Web.
Streams of requests have no HTTP binding. The transcoder must pass the `x-leadgate-*` headers as metadata: grpc-gateway needs
`runtime.WithIncomingHeaderMatcher` for this. [`tests/transcoder`](../tests/transcoder) tests every binding with grpc-gateway.
"""


def image(buf):
    """The descriptors of all files, as JSON."""
    built = subprocess.run([buf, "build", "-o", "-#format=json"], check=True, capture_output=True)
    files = json.loads(built.stdout)["file"]
    return [file for file in files if file["name"].startswith("leadgate/")]


def comments(file):
    found = {}
    for location in file["sourceCodeInfo"]["location"]:
        if "leadingComments" in location:
            lines = [line.removeprefix(" ") for line in location["leadingComments"].rstrip().split("\n")]
            found[tuple(location["path"])] = "\n".join(lines)
    return found


def paragraphs(comment):
    """A comment as Markdown. Headings become bold, because the page has headings of its own."""
    return re.sub(r"^# (.*)$", r"**\1**", comment, flags=re.MULTILINE)


def cell(comment):
    """A comment as the cell of a table."""
    text = re.sub(r"\n+[*-] ", "<br>• ", comment)
    return re.sub(r"\s*\n\s*", " ", text).replace("|", "\\|")


def anchor(name):
    return name.lower()


def type_text(field, entries):
    """The type of a field, with a link if it is described here."""
    name = field.get("typeName")
    if name in entries:
        key, value = entries[name]
        return f"map of {type_text(key, entries)} to {type_text(value, entries)}"
    if name is None:
        text = f"`{field['type'].removeprefix('TYPE_').lower()}`"
    elif name.startswith(PACKAGE):
        short = name.removeprefix(PACKAGE)
        text = f"[`{short}`](#{anchor(short)})"
    else:
        text = f"`{name.removeprefix('.')}`"
    return f"repeated {text}" if field["label"] == "LABEL_REPEATED" else text


def bindings(method):
    rule = method.get("options", {}).get("[google.api.http]")
    for part in [rule, *rule.get("additionalBindings", [])] if rule else []:
        verb = next(verb for verb in VERBS if verb in part)
        yield f"`{verb.upper()} {part[verb]}`"


def service(file, number, notes):
    described = file["service"][number]
    yield f"## {described['name']}"
    yield paragraphs(notes[(SERVICES, number)])
    for index, method in enumerate(described["method"]):
        request = method["inputType"].removeprefix(PACKAGE)
        response = method["outputType"].removeprefix(PACKAGE)
        stream = ["stream of " if method.get(f"{side}Streaming") else "" for side in ("client", "server")]
        yield f"### {method['name']}"
        signature = f"{stream[0]}[`{request}`](#{anchor(request)}) → {stream[1]}[`{response}`](#{anchor(response)})"
        http = ", ".join(bindings(method))
        yield f"{signature}<br>HTTP: {http}" if http else signature
        yield paragraphs(notes[(SERVICES, number, METHODS, index)])


def map_entries(message, full_name):
    for nested in message.get("nestedType", []):
        if nested.get("options", {}).get("mapEntry"):
            yield f"{full_name}.{nested['name']}", nested["field"]


def message_section(message, path, notes):
    full_name = PACKAGE + message["name"]
    entries = dict(map_entries(message, full_name))
    others = [nested["name"] for nested in message.get("nestedType", []) if f"{full_name}.{nested['name']}" not in entries]
    if others or "enumType" in message:
        raise SystemExit(f"{PAGE}: {full_name} has nested types, which this script does not describe: {others}")
    yield f"### {message['name']}"
    yield paragraphs(notes[path])
    fields = message.get("field", [])
    if not fields:
        yield "No fields."
        return
    rows = ["| field | number | type | meaning |", "|---|---|---|---|"]
    oneofs = message.get("oneofDecl", [])
    for index, field in enumerate(fields):
        meaning = cell(notes[(*path, FIELDS, index)])
        kind = type_text(field, entries)
        if field.get("proto3Optional"):
            kind = f"optional {kind}"
        elif "oneofIndex" in field:
            kind = f"{kind}, one of `{oneofs[field['oneofIndex']]['name']}`"
        rows.append(f"| `{field['name']}` | {field['number']} | {kind} | {meaning} |")
    yield "\n".join(rows)


def enum_section(enum, path, notes):
    yield f"### {enum['name']}"
    yield paragraphs(notes[path])
    rows = ["| value | number | meaning |", "|---|---|---|"]
    for index, value in enumerate(enum["value"]):
        rows.append(f"| `{value['name']}` | {value.get('number', 0)} | {cell(notes[(*path, VALUES, index)])} |")
    yield "\n".join(rows)


def page(files):
    yield INTRODUCTION.strip()
    services = [(file, number) for file in files for number in range(len(file.get("service", [])))]
    services.sort(key=lambda found: found[0]["service"][found[1]]["name"] != "LeadService")
    for file, number in services:
        yield from service(file, number, comments(file))
    for file in files:
        notes = comments(file)
        yield f"## {file['name']}"
        for index, message in enumerate(file.get("messageType", [])):
            yield from message_section(message, (MESSAGES, index), notes)
        for index, enum in enumerate(file.get("enumType", [])):
            yield from enum_section(enum, (ENUMS, index), notes)


def main():
    buf, *options = sys.argv[1:] or [".venv/bin/buf"]
    text = "\n\n".join(page(image(buf))) + "\n"
    if options == ["--check"]:
        if not PAGE.exists() or PAGE.read_text() != text:
            raise SystemExit(f"{PAGE} is not up to date: run make api")
    else:
        PAGE.write_text(text)


if __name__ == "__main__":
    main()
