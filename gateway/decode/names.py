"""Rules for names that end up in keys of other systems: device ids, regions, message keys and metrics."""

from __future__ import annotations

import re
from typing import Final

from runtime.errors import Reject

MAX_NAME: Final = 128
MAX_KEY: Final = 256
MAX_TAG: Final = 256
INT64: Final = 2**63
CLAIMED: Final = "claimed_ts"
"""The tag that keeps a device time which is not relied on."""

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]")
_TOPIC_SYNTAX = re.compile(r"[+#]")


def check_device_id(device_id: object) -> str:
    """A device id is a topic level, or several as they stand in a topic, `hall/door`.

    It has 1 to 128 characters, none of them `+ #` or a control character, and no level is empty. An integer
    is taken for its digits.
    """
    if type(device_id) is int:
        device_id = str(device_id)
    if not isinstance(device_id, str):
        raise Reject(
            "invalid_device_id", f"device_id is {kind_of(device_id)}, expected a string or an integer"
        )
    _check_text("invalid_device_id", "device id", device_id, MAX_NAME)
    if _TOPIC_SYNTAX.search(device_id):
        raise Reject("invalid_device_id", f"device id {device_id[:40]!r} has one of + # in it")
    if "/" in device_id and "" in device_id.split("/"):
        raise Reject("invalid_device_id", f"device id {device_id[:40]!r} has nothing on one side of a /")
    return device_id


def check_region(region: object) -> str:
    """A region is 1 to 128 characters without control characters."""
    if not isinstance(region, str):
        raise Reject("invalid_region", f"region is {kind_of(region)}, expected a string")
    _check_text("invalid_region", "region", region, MAX_NAME)
    return region


def check_key(key: object) -> str:
    """A message key is a string of 1 to 256 characters without NUL, or an integer."""
    if type(key) is str and 0 < len(key) <= MAX_KEY and "\x00" not in key:
        return key
    if type(key) is int:
        key = str(key)
    if not isinstance(key, str):
        kind = "a number with a fraction" if isinstance(key, float) else kind_of(key)
        fault = f"is {kind}, expected a string or an integer"
    elif not 0 < len(key) <= MAX_KEY:
        fault = f"has {len(key)} characters, expected 1 to {MAX_KEY}"
    elif "\x00" in key:
        fault = "contains NUL"
    else:
        return key
    raise Reject(
        "invalid_key", f'message key {fault}; key = "" on its route if devices send none, or name its field'
    )


def check_tag(name: str, value: str) -> str:
    """What a topic says besides the device is up to 256 characters without control characters."""
    if len(value) > MAX_TAG or _CONTROL.search(value):
        raise Reject(
            "invalid_tag",
            f"{{{name}}} of the topic is {value[:40]!r}, expected up to {MAX_TAG} characters, none of them a "
            f"control character",
        )
    return value


def tag_fault(name: str, value: str) -> str | None:
    """What is wrong with a tag of a payload.

    Its name has 1 to 128 characters and itself up to 256, none of them a control character.
    """
    if not 0 < len(name) <= MAX_NAME or _CONTROL.search(name):
        return f"tag name {name[:40]!r} should have 1 to {MAX_NAME} characters without control characters"
    if name == CLAIMED:
        return f"a tag is called {CLAIMED!r}, and that one the gateway makes itself"
    if len(value) > MAX_TAG or _CONTROL.search(value):
        return (
            f"tag {name!r} is {value[:40]!r}, expected up to {MAX_TAG} characters without control characters"
        )
    return None


def metric_fault(name: str, max_name: int) -> str | None:
    """What is wrong with a metric's name: it should have 1 to `max_name` printable characters."""
    if not name:
        return "metric has an empty name"
    if len(name) > max_name:
        allowed = f"gateway.max_metric_name allows {max_name}"
        return f"metric name {name[:40]!r}… has {len(name)} characters, {allowed}"
    if _CONTROL.search(name):
        return f"metric name {name[:40]!r} contains a control character"
    return None


def _check_text(reason: str, what: str, text: str, limit: int) -> None:
    if not 0 < len(text) <= limit:
        raise Reject(reason, f"{what} has {len(text)} characters, expected 1 to {limit}")
    if _CONTROL.search(text):
        raise Reject(reason, f"{what} {text[:40]!r} contains a control character")


def kind_of(value: object) -> str:
    """What a decoded value is, in words."""
    names = {bool: "a boolean", int: "a number", float: "a number", dict: "an object", list: "an array"}
    if value is None or isinstance(value, str):
        return "null" if value is None else "a string"
    return names.get(type(value), "no finite number")
