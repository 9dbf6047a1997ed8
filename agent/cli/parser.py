"""The command line's grammar and its help."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from importlib import import_module
from importlib.metadata import version

from agent.cli.place import add_config

_COMMANDS = {
    "up": "everything on this machine: broker, collector, dashboard and agent in one process",
    "run": "the agent: measure this host, raise alarms, ship samples",
    "collect": "the collector: store what agents send, serve the dashboard",
    "check": "check agent.toml and say every fault with its line",
    "probes": "list the probes: configured and available",
    "probe": "run one probe now and print what it measures",
    "incidents": "list incidents from the collector",
    "alert": "send a test alert down the whole road",
    "status": "how this host does: health, open incidents, the agent itself",
    "silence": "hold incidents of this host back for a time",
    "unsilence": "end a silence",
    "silences": "the silences that hold on this host",
    "ack": "say that somebody looks after an incident",
    "snooze": "no reminders of an incident for a time",
    "thresholds": "why a rule judges as it does, and what the rules would have done",
    "advise": "ask a plugin of this host what it finds out (read-only)",
    "job": "run a job of this host's jobs.toml",
    "audit": "who asked this host for what, and what became of it",
    "keys": "make, trust and revoke the keys that commands are signed with",
    "slack": "make the Slack app, and check that its tokens, scopes and channels are there",
    "top": "a live view of a host, or of all, in the terminal",
}
_VERBS = ("status", "silence", "unsilence", "silences", "ack", "snooze", "advise", "job")
"""Commands that are verbs, asked of the daemon here: one module has them all."""
_EPILOG = """\
examples:
  tocsin up                              try it: the page is at http://127.0.0.1:8420
  tocsin check -c /etc/tocsin/agent.toml before a restart
  tocsin probe disk --json               what the disk probe sees, for scripts
  tocsin top                             all hosts, live

configuration: -c FILE, else $TOCSIN_CONFIG, else ./agent.toml, else /etc/tocsin/agent.toml,
with agent.d/*.toml beside it merged in.

exit codes:
   0  ok
   1  failed
   2  wrong usage
  69  something it needs is not there: broker, collector, daemon, port
  78  the configuration is faulty
 130  interrupted
"""


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """The parsed command line; `main` is what to call with it. Wrong usage ends the process with 2."""
    parser = argparse.ArgumentParser(
        prog="tocsin",
        description="An infrastructure agent: probes, alarms in Slack, every sample over MQTT to a collector.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"tocsin {version('tocsin')}")
    add_config(parser, below=False)
    commands = parser.add_subparsers(metavar="COMMAND", required=True, title="commands")
    wanted = set(arguments) & set(_COMMANDS)  # only what may be meant is imported
    for name, summary in _COMMANDS.items():
        command = commands.add_parser(
            name,
            help=summary,
            description=summary[0].upper() + summary[1:] + ".",
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        add_config(command)
        if name in wanted:
            module = import_module(f"agent.cli.{'verb' if name in _VERBS else name}")
            module.add(command)
            command.set_defaults(main=module.main)
    return parser.parse_args(arguments)
