"""What an answer of Slack's API means for us: its word, turned into the DeliveryError to raise."""

from __future__ import annotations

from agent.errors import (
    AmbiguousError,
    AnewError,
    ChannelError,
    DeliveryError,
    RetryError,
    ShrinkError,
    TokenError,
)

_KINDS: dict[type[DeliveryError], frozenset[str]] = {
    RetryError: frozenset(("ratelimited", "rate_limited", "service_unavailable")),
    # It may have taken effect before it failed.
    AmbiguousError: frozenset(("internal_error", "fatal_error", "request_timeout")),
    AnewError: frozenset(
        (
            "message_not_found",
            "cant_update_message",
            "edit_window_closed",
            "is_inactive",
            "block_mismatch",
            "thread_not_found",
        )
    ),
    ShrinkError: frozenset(
        (
            "msg_too_long",
            "msg_blocks_too_long",
            "invalid_blocks",
            "invalid_blocks_format",
            "invalid_attachments",
            "too_many_attachments",
        )
    ),
    ChannelError: frozenset(("channel_not_found", "not_in_channel", "is_archived", "restricted_action")),
    TokenError: frozenset(
        (
            "invalid_auth",
            "not_authed",
            "token_revoked",
            "token_expired",
            "account_inactive",
            "missing_scope",
            "not_allowed_token_type",
        )
    ),
}


def error_of(code: str, detail: str = "") -> DeliveryError:
    """The error for a code of Slack's; one we do not know is a plain DeliveryError, tried again with back-off."""
    for kind, codes in _KINDS.items():
        if code in codes:
            return kind(code, detail)
    return DeliveryError(code, detail)


def answer_error(status: int, retry_after: str | None, code: str) -> DeliveryError:
    """The error for an answer that is not ok. `code` is "" where the body was none of Slack's JSON."""
    if status == 429:
        return RetryError("ratelimited", after=_seconds(retry_after))
    if status >= 500 or not code:
        return AmbiguousError(code or f"http_{status}", "no answer of the API")
    return error_of(code)


def _seconds(text: str | None) -> float:
    """Retry-After is whole seconds; without a readable one 30 s are kept."""
    try:
        return max(1.0, float(text or ""))
    except ValueError:
        return 30.0
