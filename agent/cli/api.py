"""The collector's HTTP API, as the command line asks it."""

from __future__ import annotations

import argparse
import json
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from agent.config.load import usable
from agent.config.rules import address
from agent.config.secret import Secret
from agent.errors import TocsinError, UnavailableError

_TIMEOUT = 10.0
_LARGEST = 16 * 1024 * 1024


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--url", metavar="URL", help="of the collector (default: where agent.toml has it listen)")
    parser.add_argument(
        "--token-file", type=Path, metavar="FILE", help="the collector's token (default: collector.token of agent.toml)"
    )


class Api:
    """UnavailableError where nobody answers, TocsinError with the collector's own words where it refuses."""

    def __init__(self, url: str, token: str = "") -> None:
        self._url = url.rstrip("/")
        self._token = token

    @classmethod
    def of(cls, arguments: argparse.Namespace) -> Api:
        """From the command line, else from agent.toml; of a file with faults, what is right in it is used."""
        collector = usable(arguments.config, optional=bool(arguments.url)).collector
        url = arguments.url
        if not url:
            host, port = address(collector.listen)
            host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
            url = f"http://{f'[{host}]' if ':' in host else host}:{port}"
        secret = Secret("file", str(arguments.token_file)) if arguments.token_file else collector.token
        try:
            token = secret.reveal() if secret else ""
        except ValueError as error:
            raise UnavailableError(str(error)) from error
        return cls(url, token)

    def get(self, path: str, **query: str) -> dict[str, Any]:
        asked = {key: value for key, value in query.items() if value}
        address = f"{self._url}/api/v1/{path}" + (f"?{urlencode(asked)}" if asked else "")
        if not address.startswith(("http://", "https://")):
            raise UnavailableError(f"{self._url}: expected http://host:port")
        headers = {"Accept": "application/json"}
        if self._token:
            headers["Authorization"] = f"Bearer {self._token}"
        try:
            request = urllib.request.Request(address, headers=headers)  # noqa: S310 - checked above
            with urllib.request.urlopen(request, timeout=_TIMEOUT) as response:  # noqa: S310
                answer = json.loads(response.read(_LARGEST))
        except urllib.error.HTTPError as error:
            raise TocsinError(f"the collector at {self._url} says {error.code}: {_message(error)}") from error
        except (OSError, ValueError) as error:
            reason = getattr(error, "reason", None) or error
            raise UnavailableError(f"no collector answers at {self._url}: {reason}; name it with --url") from error
        if not isinstance(answer, dict):
            raise UnavailableError(f"what answers at {self._url} is no collector")
        return answer


def _message(error: urllib.error.HTTPError) -> str:
    try:
        return str(json.loads(error.read(65536))["error"]["message"])
    except (OSError, ValueError, KeyError, TypeError):
        return str(error.reason)
