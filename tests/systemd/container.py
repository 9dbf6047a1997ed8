"""A Debian root and the wheels for it, made once and kept outside of the repository; and a boot of it."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from tests.services import program

REPOSITORY = Path(__file__).parents[2]
PACKAGES = [
    "systemd",
    "systemd-sysv",
    "dbus",
    "python3",
    "python3-venv",
    "mosquitto",
    "mosquitto-clients",
    "ca-certificates",
    "openssl",
]
SUITE = "bookworm"
EXTRAS = "collector"


def cache() -> Path:
    """`$TOCSIN_CACHE`, or a directory of the user's cache."""
    directory = Path(os.environ.get("TOCSIN_CACHE") or Path.home() / ".cache" / "tocsin")
    directory.mkdir(parents=True, exist_ok=True)
    return directory


def digest(*parts: str) -> str:
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:12]


def rootfs() -> Path:
    """A root directory with systemd, Python and a broker; takes a minute or two the first time."""
    place = cache() / f"rootfs-{SUITE}-{digest(*PACKAGES)}"
    if not place.exists():
        partial = place.with_suffix(".part")
        shutil.rmtree(partial, ignore_errors=True)
        debootstrap = program("debootstrap", "debootstrap")
        mirror = [url] if (url := os.environ.get("DEBIAN_MIRROR")) else []
        command = [debootstrap, "--variant=minbase", f"--include={','.join(PACKAGES)}", SUITE, str(partial), *mirror]
        run(command, 600)
        partial.rename(place)
    return place


def wheels() -> Path:
    """Every package that a host and a collector need, in the pinned versions, for the root's Python."""
    lock = (REPOSITORY / "requirements.lock").read_text()
    pins = re.findall(r"^([a-z0-9.-]+==\S+)", lock, re.MULTILINE)
    project = (REPOSITORY / "pyproject.toml").read_text()
    place = cache() / f"wheels-{digest(project, *pins)}"
    if not place.exists():
        partial = place.with_suffix(".part")
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir()
        constraints = partial / "constraints.txt"
        constraints.write_text("\n".join(pins))
        wheel = build(partial / "own")
        target = ["--python-version", "3.11", "--only-binary", ":all:", "--constraint", str(constraints)]
        run([*PIP, "download", "--quiet", "--dest", str(partial), *target, f"tocsin[{EXTRAS}] @ file://{wheel}"], 300)
        for own in partial.glob("tocsin-*.whl"):
            own.unlink()
        shutil.rmtree(partial / "own")
        partial.rename(place)
    return place


PIP = [sys.executable, "-m", "pip", "--disable-pip-version-check"]


def build(directory: Path) -> Path:
    """The wheel of this very tree."""
    command = [*PIP, "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--wheel-dir", str(directory)]
    run([*command, str(REPOSITORY)], 120)
    [wheel] = directory.glob("tocsin-*.whl")
    return wheel


def run(command: list[str], seconds: float) -> None:
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=seconds)
    assert done.returncode == 0, f"{command[0]} ended with {done.returncode}:\n{(done.stdout + done.stderr)[-3000:]}"


def boot(own: Path, out: Path, seconds: float) -> str:
    """Boots the root with nothing of it changed on disk, runs inside/ until it powers off; the console's text.

    The machine has a loopback of its own and no other network. What it writes to /out is there afterwards.
    """
    inside = Path(__file__).parent / "inside"
    binds = {
        inside: "/inside",
        own: "/own",
        wheels(): "/wheels",
        REPOSITORY / "systemd": "/units",
        REPOSITORY / "docs/examples": "/examples",
    }
    command = [
        program("systemd-nspawn", "systemd-container"),
        "--quiet",
        "--register=no",
        "--keep-unit",
        "--boot",
        f"--directory={rootfs()}",
        "--volatile=overlay",
        "--private-network",
        "--console=pipe",
        f"--bind={out}:/out",
        *[f"--bind-ro={source}:{target}" for source, target in binds.items()],
        f"--bind-ro={inside}/examine.service:/etc/systemd/system/examine.service",
        "systemd.unit=multi-user.target",
        "systemd.wants=examine.service",
    ]
    console = out / "console.log"
    with console.open("wb") as log:
        child = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        try:
            child.wait(seconds)
        except subprocess.TimeoutExpired:
            child.terminate()  # an orderly power-off
            try:
                child.wait(20)
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait()
    return console.read_text(errors="replace")
