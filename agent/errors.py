"""Every error that Tocsin raises on purpose.

TocsinError
├── ConfigError            agent.toml is wrong: every fault, each with its place      exit 78
├── UsageError             the command line asks for what cannot be                   exit 2
├── UnavailableError       something this command needs is not there (broker, port)   exit 69
├── PluginError            a probe type cannot be loaded
├── SpoolError             the spool file cannot be used
├── WireError              a payload or a topic is not what the contract says
├── TransportError         the broker cannot be reached, or refused
│   └── DeniedError        the broker's access rules deny this one publish
├── CommandError           a command is refused, or cannot be done; carries a reason code
├── StoreError             the collector's database cannot be used
│   └── RefusedError       the database refused this very batch; another may pass
└── DeliveryError          a message did not reach Slack (see agent.alerting.outbox)
    ├── RetryError         later, the same again; may carry Retry-After
    ├── AmbiguousError     it may or may not have arrived
    ├── AnewError          the message to edit is gone: post a new one
    ├── ShrinkError        too long or malformed: once more, smaller
    ├── ChannelError       this channel cannot be written to: use the default one
    └── TokenError         our credentials do not work: park everything
"""

from __future__ import annotations

EXIT_OK = 0
EXIT_FAILED = 1
EXIT_USAGE = 2
EXIT_UNAVAILABLE = 69
EXIT_CONFIG = 78


class TocsinError(Exception):
    """The root. `exit_code` is what the command line ends with when nobody else handles it."""

    exit_code = EXIT_FAILED


class ConfigError(TocsinError):
    """One or more faults in the configuration; `faults` are complete, printable lines."""

    exit_code = EXIT_CONFIG

    def __init__(self, faults: list[str]) -> None:
        self.faults = faults
        super().__init__("\n".join(faults))


class UsageError(TocsinError):
    exit_code = EXIT_USAGE


class UnavailableError(TocsinError):
    exit_code = EXIT_UNAVAILABLE


class PluginError(TocsinError):
    exit_code = EXIT_CONFIG


class SpoolError(TocsinError):
    pass


class WireError(TocsinError):
    pass


class TransportError(TocsinError):
    exit_code = EXIT_UNAVAILABLE


class DeniedError(TransportError):
    pass


class CommandError(TocsinError):
    """`code` is the reason in one word ("expired", "bad_signature", …), `detail` the same for people."""

    def __init__(self, code: str, detail: str) -> None:
        self.code = code
        self.detail = detail
        super().__init__(detail)


class StoreError(TocsinError):
    exit_code = EXIT_UNAVAILABLE


class RefusedError(StoreError):
    pass


class DeliveryError(TocsinError):
    """`code` is the API's own word for what went wrong ("ratelimited", "timeout", …)."""

    def __init__(self, code: str, detail: str = "") -> None:
        self.code = code
        super().__init__(f"{code}: {detail}" if detail else code)


class RetryError(DeliveryError):
    """`after` is the pause in seconds that the other side demanded, if it did."""

    def __init__(self, code: str, detail: str = "", *, after: float | None = None) -> None:
        super().__init__(code, detail)
        self.after = after


class AmbiguousError(DeliveryError):
    pass


class AnewError(DeliveryError):
    pass


class ShrinkError(DeliveryError):
    pass


class ChannelError(DeliveryError):
    pass


class TokenError(DeliveryError):
    pass
