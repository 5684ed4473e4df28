"""Failures as HTTP tells them."""

from typing import Any

from processes import Answer


def problem(answer: Answer, kind: str, status: int) -> dict[str, Any]:
    """The problem an answer tells of, which must be of this kind."""
    body: dict[str, Any] = answer.json()
    assert answer.headers["content-type"] == "application/problem+json"
    assert (body["type"], answer.status) == (f"urn:exuvia:problem:{kind}", status), body
    assert body["error_id"] and body["title"] and body["detail"]
    return body
