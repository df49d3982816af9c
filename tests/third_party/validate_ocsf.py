#!/usr/bin/env python3
"""Validates OCSF events by other people's code: ocsf-json-schema with jsonschema, then pydantic-ocsf.

Usage: validate_ocsf.py FILE...    (`-` is the standard input)

A file is one JSON event a line, or one JSON array of events. Exits 0 when every event is valid, 1 when one is not or
when the validators let a broken event pass, 2 when there is nothing to validate.

    python3 -m venv venv && venv/bin/pip install -r tests/third_party/requirements-ocsf.txt
    venv/bin/python tests/third_party/validate_ocsf.py fixtures/export/*.ocsf.json
"""

import copy
import functools
import json
import sys

import jsonschema
import pydantic
from ocsf.v1_7_0 import events as second_opinion
from ocsf_json_schema import OcsfJsonSchemaEmbedded, get_ocsf_schema

SECOND_OPINION = {
    6003: second_opinion.ApiActivity,
    3004: second_opinion.EntityManagement,
    2004: second_opinion.DetectionFinding,
}


@functools.cache
def schema(version):
    return get_ocsf_schema(version)


@functools.cache
def validator(version, class_uid, profiles):
    generator = OcsfJsonSchemaEmbedded(schema(version))
    name = generator.lookup_class_name_from_uid(class_uid)
    generated = generator.get_class_schema(name, list(profiles))
    jsonschema.Draft202012Validator.check_schema(generated)
    return jsonschema.Draft202012Validator(generated)


def problems(event):
    """Everything that is wrong with an event."""
    try:
        metadata = event["metadata"]
        class_uid = event["class_uid"]
        check = validator(metadata["version"], class_uid, tuple(metadata.get("profiles", [])))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        return [f"its class cannot be told: {error!r}"]
    found = [f"{error.json_path}: {error.message}"[:300] for error in check.iter_errors(event)]
    found += unlike_their_captions(event, class_uid, schema(metadata["version"]))
    if event.get("type_uid") != class_uid * 100 + event.get("activity_id", 0):
        found.append("type_uid is not class_uid * 100 + activity_id")
    if class_uid in SECOND_OPINION:
        try:
            SECOND_OPINION[class_uid].model_validate(event)
        except pydantic.ValidationError as error:
            found += [f"second opinion: {e['loc']}: {e['msg']}" for e in error.errors(include_input=False)]
    return found


def unlike_their_captions(event, class_uid, compiled):
    """A number and its text say the same, which the JSON Schema does not check. 99 has the source's own text."""
    classes = compiled["classes"].values()
    attributes = next(c["attributes"] for c in classes if c["uid"] == class_uid)
    for name, attribute in attributes.items():
        caption = (attribute.get("enum") or {}).get(str(event.get(name)), {}).get("caption")
        text = event.get(attribute.get("sibling") or "")
        if caption and event[name] != 99 and text is not None and text != caption:
            yield f"{name} is {event[name]} ({caption}), but its text is {text!r}"


def broken(event):
    """The event, broken in ways that a validator has to see."""

    def but(change):
        copied = copy.deepcopy(event)
        change(copied)
        return copied

    yield "an enumeration has no such number", but(lambda e: e.update(severity_id=42))
    yield "the schema has no such attribute", but(lambda e: e.update(verdict_of_ours="DENY"))
    yield "a required attribute is missing", but(lambda e: e.pop("time"))
    yield "an object has no such attribute", but(lambda e: e["metadata"].update(log_index=1))
    yield "a required attribute of an object is missing", but(lambda e: e["metadata"].pop("product"))
    yield "a time is text", but(lambda e: e.update(time="2026-11-24T05:26:00Z"))
    yield "a text does not fit its number", but(lambda e: e.update(severity="None at all"))
    yield "the type is another class's", but(lambda e: e.update(type_uid=100101))


def read(path):
    text = sys.stdin.read() if path == "-" else open(path, encoding="utf-8").read()
    if text.lstrip().startswith("["):
        return json.loads(text)
    return [json.loads(line) for line in text.splitlines() if line.strip()]


def main(paths):
    valid = {}
    failed = 0
    for path in paths:
        for number, event in enumerate(read(path), 1):
            found = problems(event)
            for problem in found:
                print(f"{path}: event {number}: {problem}")
            failed += bool(found)
            if not found:
                valid.setdefault(event["class_uid"], []).append(event)
    # A validator that takes everything would have been silent above. So one good event of each class is broken.
    refused = 0
    for class_uid, events in valid.items():
        for why, event in broken(events[0]):
            if problems(event):
                refused += 1
            else:
                print(f"class {class_uid}: a broken event passed: {why}")
                failed += 1
    counts = ", ".join(f"{len(events)} of class {uid}" for uid, events in sorted(valid.items()))
    print(f"valid: {counts or 'none'}; broken on purpose and refused: {refused}; wrong: {failed}")
    if failed:
        return 1
    return 0 if valid else 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
