"""Slack's Web API for the collector: one session, one deadline per call, and errors as the DeliveryError tree.

Over the SDK's async client, which brings aiohttp: the daemon of a host does not import this.
"""

from __future__ import annotations

import asyncio
import logging
import re
from typing import Any

import aiohttp
from slack_sdk.errors import SlackApiError, SlackClientError
from slack_sdk.web.async_client import AsyncWebClient

from agent.config.secret import Secret
from agent.errors import AmbiguousError, DeliveryError, RetryError, TokenError
from agent.slack.errors import answer_error

_TOKEN = re.compile(r"[\x21-\x7e]+")
_CODE = re.compile(r"[a-z0-9_]+")
quiet = logging.getLogger("agent.slack.sdk")
quiet.setLevel(logging.CRITICAL)  # what failed is told by us, once


class Web:
    """Calls with the token of `secret`, which is read anew after it was refused."""

    def __init__(self, secret: Secret, base_url: str, timeout: float) -> None:
        self._secret = secret
        self._base_url = base_url.rstrip("/") + "/"
        self._timeout = timeout
        self._session: aiohttp.ClientSession | None = None
        self._client: AsyncWebClient | None = None

    async def call(self, method: str, arguments: dict[str, Any], *, json: bool = True) -> dict[str, Any]:
        """The answer, which is ok; a DeliveryError on anything else. Arguments that are None are left out."""
        given = {name: value for name, value in arguments.items() if value is not None}
        kind: dict[str, Any] = {"json": given} if json else {"params": given}
        try:
            async with asyncio.timeout(self._timeout):
                answer = await self.client().api_call(method, **kind)
        except SlackApiError as error:
            raise self._refused(error.response) from None
        except TimeoutError:
            raise AmbiguousError("timeout", f"no answer within {self._timeout:g} s") from None
        except aiohttp.ClientConnectorError as error:
            raise RetryError("unreachable", str(error)) from None
        except (aiohttp.ClientError, OSError) as error:
            raise AmbiguousError("connection", repr(error)) from None
        except (SlackClientError, ValueError) as error:
            raise RetryError("request", str(error)[:200]) from None
        if not isinstance(answer.data, dict):
            raise AmbiguousError("no_json", "no answer of the API")
        return answer.data

    def client(self) -> AsyncWebClient:
        """TokenError where there is no token to call with."""
        if self._client is None:
            try:
                token = self._secret.reveal()
            except ValueError as error:
                raise TokenError("not_authed", str(error)) from None
            if not _TOKEN.fullmatch(token):  # a header would refuse it, and say it
                raise TokenError("invalid_auth", "the token holds characters that no token has")
            if self._session is None:
                self._session = aiohttp.ClientSession()
            self._client = AsyncWebClient(
                token, self._base_url, round(self._timeout) or 1, session=self._session, retry_handlers=[], logger=quiet
            )
        return self._client

    async def aclose(self) -> None:
        if self._session is not None:
            await self._session.close()

    def _refused(self, response: Any) -> DeliveryError:
        data = response.data if isinstance(response.data, dict) else {}
        headers = {name.lower(): value for name, value in response.headers.items()}
        code = str(data.get("error", ""))
        error = answer_error(response.status_code, headers.get("retry-after"), code if _CODE.fullmatch(code) else "")
        if isinstance(error, TokenError):
            self._client = None
        return error
