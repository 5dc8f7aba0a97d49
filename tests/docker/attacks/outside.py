"""Attacks on who handles what a service left: the host's commands, other services, the owner."""

import json
import os
import pty
import shlex
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from select import select

from acoupi.bundles import ownership
from acoupi.bundles.images import image_name
from acoupi.bundles.program_image import image_command
from tests.docker.attacks import alone, planted
from tests.docker.attacks.sensors import Sensor
from tests.docker.bundles import QUICK, SECRETS, TOKEN, WITH_SERVERS, Bundle, docker
from tests.services import eventually
from tests.swaps import SWAP

ALONE = Path(alone.__file__).read_text()
PLANTED = Path(planted.__file__).read_text()
REFUSED = "refused"
PATIENCE = 60.0
"""Seconds for a command of the host."""
RUNS = 200
"""Of the race between the owner's command and a swap."""
SETUPS = 1
"""Complete setups meanwhile."""


def bundle_of(sensor: Sensor) -> Bundle:
    assert isinstance(sensor.running, Bundle)
    return sensor.running


def leave(bundle: Bundle, service: str, name: str, *args: str) -> str:
    """Let a service leave something; return its word, or why it could not."""
    done = bundle.run_in(service, "python", "-c", PLANTED, name, *args)
    return done.stdout.strip() or f"not tried: {done.stderr[-300:]}"


@contextmanager
def while_planted(bundle: Bundle, service: str, name: str, *args: str) -> Iterator[str]:
    """Give the word of a service that leaves something, and takes it away afterwards."""
    command = [
        "docker",
        "exec",
        "-i",
        bundle.container(service),
        "python",
        "-c",
        PLANTED,
        name,
        *args,
    ]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            word = process.stdout.readline().decode().strip()
            assert word, f"{service} could not do it: {name}"
            yield word
        finally:
            process.stdin.close()
            process.wait(PATIENCE)


@contextmanager
def foreign_folder(bundle: Bundle) -> Iterator[Path]:
    """Give a folder of root's outside of the home, and remove it."""
    folder = bundle.home.parent / f"{bundle.home.name}-foreign"
    folder.mkdir()
    (folder / "shadow").write_text("of root")
    (folder / "shadow").chmod(0o600)
    try:
        yield folder
    finally:
        for path in folder.iterdir():
            path.unlink()
        folder.rmdir()


def changes_in(folder: Path) -> str:
    """Return what happened to a folder of root's, and what is in it."""
    paths = [folder, *folder.iterdir()]
    given = [path.name for path in paths if path.stat().st_uid != os.getuid()]
    made = [path.name for path in paths[1:] if path.name != "shadow"]
    return f"given away: {given}, made: {made}" if given or made else REFUSED


# --- root's commands and paths ---


def swap_race(sensor: Sensor) -> str:
    """Swap a folder for a link while its owner is changed, 200 times, and set up meanwhile."""
    bundle = bundle_of(sensor)
    own = bundle.home / "run" / "recording"
    race = own / "race"
    assert leave(bundle, "recording", "many_files", str(race)) == "made"
    user = (race / "shadow").stat()
    with foreign_folder(bundle) as foreign:
        swap = ("swap", SWAP, str(race), f"{race}.aside", str(foreign))
        with while_planted(bundle, "recording", *swap):
            for _ in range(RUNS):
                ownership.give_contents(own, ("race",), user.st_uid, user.st_gid)
            for _ in range(SETUPS):
                bundle.set_up(*QUICK, *WITH_SERVERS, environ=SECRETS)
            assert bundle.acoupi("compose", "up", "-d").returncode == 0
        bundle.run_in("recording", "sh", "-c", f"rm -rf {shlex.quote(str(race))}*")
        return changes_in(foreign)


def databases_through_links(sensor: Sensor) -> str:
    """Have commands that read make or migrate a database elsewhere."""
    bundle = bundle_of(sensor)
    commands = (("messages", "list"), ("deployment", "status"), ("effort",), ("check",))
    with foreign_folder(bundle) as foreign:
        for name, asked in (("messages.db", commands[:2]), ("metadata.db", commands[1:3])):
            paths = (str(bundle.home / "data" / name), str(foreign / f"made-{name}"))
            with while_planted(bundle, "default", "link", *paths):
                for words in asked:
                    bundle.acoupi(*words, timeout=PATIENCE)
        return changes_in(foreign)


# --- pulses ---


def _with_forged_pulse(sensor: Sensor, service: str, kind: str) -> Iterator[str]:
    """Yield what commands print on a terminal while the pulse of a service is forged."""
    bundle = bundle_of(sensor)
    pulse = bundle.settings.of_service(service).run_dir / f"{service}.json"
    secret = bundle.home / "secrets" / "config" / "secrets.env"
    # One that an attack before has ended would write its own pulse when it starts.
    bundle.eventually(lambda: bundle.is_ready(service), f"{service} works")
    with while_planted(bundle, service, "pulse", str(pulse), kind, str(secret)):
        for words in (("workers", "status"), ("deployment", "status")):
            yield _on_terminal(bundle, *words)
    bundle.eventually(lambda: bundle.is_ready(service), f"{service} works again")


def _on_terminal(bundle: Bundle, *words: str) -> str:
    """Return what a command prints on a terminal; "waited" if it does not end."""
    ours, theirs = pty.openpty()
    command = [str(Path(sys.executable).with_name("acoupi")), *words]
    environ = {**os.environ, "ACOUPI_HOME": str(bundle.home), "TERM": "xterm", "COLUMNS": "200"}
    with subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs, env=environ) as one:
        os.close(theirs)
        said, end = b"", time.monotonic() + PATIENCE
        with suppress(OSError):  # the end of a terminal
            while select([ours], [], [], max(end - time.monotonic(), 0))[0]:
                said += os.read(ours, 65536)
        os.close(ours)
        if time.monotonic() >= end:
            one.kill()
            return "waited"
    return said.decode(errors="replace")


def escapes_in_a_pulse(sensor: Sensor) -> str:
    """Write to the title and the clipboard of who looks at the sensor."""
    said = "".join(_with_forged_pulse(sensor, "detection", "text"))
    if "PWNED" not in said:
        return f"not tried: the pulse was not shown: {said[-300:]}"
    return "reached the terminal" if "\x1b]" in said else REFUSED


def fifo_as_pulse(sensor: Sensor) -> str:
    """Have a command wait for ever."""
    return "waited" if "waited" in [*_with_forged_pulse(sensor, "recording", "fifo")] else REFUSED


def link_as_pulse(sensor: Sensor) -> str:
    """Have a command print a file of secrets."""
    return (
        "printed" if TOKEN in "".join(_with_forged_pulse(sensor, "recording", "link")) else REFUSED
    )


# --- files that pass from service to service ---


def link_in_the_spool(sensor: Sensor) -> str:
    """Have the manager copy the secrets as if they were a recording that waits."""
    bundle = bundle_of(sensor)
    spool, secret = bundle.home / "data/spool", bundle.home / "secrets/config/secrets.env"
    name = leave(bundle, "recording", "recording", str(spool), str(secret))
    if not name.endswith(".wav"):
        return name
    bundle.goes_on("work goes on beside a link", recordings=3)
    for path in (spool / name, spool / "fifo.wav"):
        path.unlink(missing_ok=True)
    places = [bundle.home / one for one in ("data", "log", "run", "waiting")]
    holders = [
        path.name
        for place in places
        for path in place.rglob("*")
        if path.is_file() and not path.is_symlink() and TOKEN.encode() in path.read_bytes()
    ]
    return f"copied to {holders}" if holders else REFUSED


def calls_that_are_none(sensor: Sensor) -> str:
    """Leave links, FIFOs and forbidden calls where calls wait for the door."""
    bundle = bundle_of(sensor)
    folder = bundle.home / "waiting/detection"
    begun = bundle.state("default")["StartedAt"]
    secret, database = (
        bundle.home / one for one in ("secrets/config/secrets.env", "data/metadata.db")
    )
    left = leave(bundle, "detection", "calls", str(folder), str(secret), str(database))
    if left != "left":
        return left
    calls = f"ls {shlex.quote(str(folder))}/*.call"
    bundle.eventually(
        lambda: not bundle.run_in("default", "sh", "-c", calls).stdout, "none waits", PATIENCE
    )
    bundle.goes_on("work after them")
    bundle.run_in(
        "detection", "sh", "-c", f"cd {shlex.quote(str(folder))} && rm -rf *.refused other"
    )
    return REFUSED if bundle.state("default")["StartedAt"] == begun else "ended the worker"


# --- the broker ---


def messages_that_are_none(sensor: Sensor) -> str:
    """Order a recording from another worker, and end it by what it cannot read."""
    bundle = bundle_of(sensor)
    begun = bundle.state("default")["StartedAt"]
    aside = bundle.settings.of_service("default").run_dir / "default.aside.jsonl"
    before = len(aside.read_text().splitlines()) if aside.exists() else 0
    sent = leave(bundle, "recording", "messages", _recording_task(bundle))
    if not sent.isdigit():
        return sent

    def kept() -> list[str]:
        return aside.read_text().splitlines()[before:] if aside.exists() else []

    bundle.eventually(lambda: len(kept()) >= int(sent), "each is put aside", PATIENCE)
    bundle.goes_on("work after them")
    return REFUSED if bundle.state("default")["StartedAt"] == begun else "ended the worker"


def _recording_task(bundle: Bundle) -> str:
    entries = json.loads((bundle.home / "config/schedule.json").read_text().rstrip("\0"))["entries"]
    return str(next(one["task"] for one in entries if one["queue"] == "recording"))


def bogus_messages_in_hand(sensor: Sensor) -> str:
    """Keep a worker from starting, by what it is said to have in hand."""
    bundle = bundle_of(sensor)
    noted = leave(bundle, "detection", "in_hand")
    if noted != "noted":
        return noted
    begun = bundle.state("detection")["StartedAt"]
    bundle.kill("detection")
    bundle.eventually(
        lambda: bundle.state("detection")["StartedAt"] != begun and bundle.is_ready("detection"),
        "the worker starts again",
    )
    bundle.goes_on("it works")
    return REFUSED


def full_broker(sensor: Sensor) -> str:
    """Stop the recorder's clock by filling redis, and keeping it full."""
    bundle = bundle_of(sensor)
    with while_planted(bundle, "detection", "full_broker") as word:
        _records(bundle, "while redis is full")
    bundle.goes_on("work after that")
    return REFUSED if word == "full" else word


def _records(bundle: Bundle, when: str) -> None:
    """Wait for recordings, whether or not they are analysed."""
    before = sum(bundle.store.count_recordings().values())
    bundle.eventually(
        lambda: sum(bundle.store.count_recordings().values()) >= before + 3, f"recordings {when}"
    )


# --- what containers are given ---


def log_without_end(sensor: Sensor) -> str:
    """Fill the disk by printing."""
    bundle = bundle_of(sensor)
    configured = {
        service: bundle.inspect(service)["HostConfig"]["LogConfig"]["Config"]
        for service in sensor.services
    }
    endless = [name for name, one in configured.items() if "max-size" not in one]
    return f"no end in {endless}" if endless else REFUSED


def too_many_processes(sensor: Sensor) -> str:
    """Take all the processes of the machine."""
    return _takes_no_more_than(sensor, "processes", 512)


def too_much_scratch(sensor: Sensor) -> str:
    """Take all the memory of the machine by writing to the scratch."""
    return _takes_no_more_than(sensor, "scratch", 256)


def _takes_no_more_than(sensor: Sensor, what: str, most: int) -> str:
    bundle = bundle_of(sensor)
    with while_planted(bundle, "detection", what) as word:
        _records(bundle, "meanwhile")
    bundle.goes_on("work after that")
    return REFUSED if int(word.split()[0]) <= most else word


def secrets_that_are_shown(sensor: Sensor) -> str:
    """Find a secret in what the engine or acoupi shows of a sensor."""
    bundle = bundle_of(sensor)
    shown = {
        "inspect": docker("inspect", *map(bundle.container, sensor.services)).stdout,
        "history": docker("history", "--no-trunc", image_name()).stdout,
        "logs": bundle.compose("logs").stdout,
        "compose config": bundle.compose("config").stdout,
    }
    for words in (
        ("config", "get"),
        ("config", "get", "--json"),
        ("setup", "--no-prompt", "--diff"),
    ):
        done = bundle.acoupi(*words, timeout=PATIENCE)
        shown[" ".join(words)] = done.stdout + done.stderr
    empty = [name for name, text in shown.items() if not text.strip()]
    holders = [name for name, text in shown.items() if TOKEN in text]
    return f"shown by {holders}, nothing by {empty}" if holders or empty else REFUSED


def servers_that_never_end(sensor: Sensor) -> str:
    """Hold the sender ten minutes at a time, or fill its memory, as whoever it sends to."""
    bundle = bundle_of(sensor)
    begun = bundle.state("default")["StartedAt"]
    image = bundle.inspect("http")["Image"]
    (network,) = bundle.inspect("default")["NetworkSettings"]["Networks"]
    run = ("run", "--detach", "--rm", "--network", network, "--network-alias", "hostile")
    hostile = docker(*run, image, "hostile").stdout.strip()
    try:
        eventually(lambda: docker("logs", hostile).stdout == "ready\n", "it listens", PATIENCE)
        got = bundle.run_in("default", "python", "-c", ALONE, "servers", "hostile")
        asked = {int(port) for port in docker("logs", hostile).stdout.split()[1:]}
    finally:
        docker("rm", "--force", hostile)
    bundle.goes_on("work after that")
    if bundle.state("default")["StartedAt"] != begun:
        return "ended the worker"
    if left := {*alone.HTTP, *alone.MQTT} - asked:
        return f"not tried: {left} were not asked"
    return got.stdout or f"not tried: {got.stderr[-300:]}"


# --- the owner ---


def homes_that_are_none(sensor: Sensor) -> str:
    """Set a sensor up in a folder of the system, as root, and lose what is there to others."""
    del sensor
    return _alone("--user=0", name="homes")


def documents_that_are_none(sensor: Sensor) -> str:
    """Set a sensor up with half a document, one without end, or one from elsewhere."""
    del sensor
    return _alone("--memory=384m", "--tmpfs=/tmp", name="documents")


def _alone(*options: str, name: str) -> str:
    run = ("run", "--rm", "--network=none", *options, "--entrypoint=", image_name())
    done = docker(*run, "python", "-c", ALONE, name, check=False, timeout=120)
    return done.stdout.strip() or f"ended with {done.returncode}: {done.stderr[-300:]}"


ADDED: dict[str, dict[str, object]] = {
    "socket": {"volumes": ["/var/run/docker.sock:/s"]},
    "sound": {"devices": ["/dev/snd:/dev/snd"]},
    "shadow": {"volumes": ["/etc/shadow:/s:ro"]},
    "own-secrets": {"volumes": ["./secrets:/s:ro"]},
    "root": {"privileged": True},
    "of-recorder": {"volumes_from": ["recording"]},
    "shadow-listed": {"configs": [{"source": "listed"}]},
}
NAMED = (*(name for name in ADDED if name != "shadow-listed"), "configs: listed")
CHANGED: dict[str, dict[str, object]] = {
    "detection": {"user": "+0", "network_mode": "host"},
    "default": {"pids_limit": -1},
}


def overrides_that_overstep(sensor: Sensor) -> str:
    """Be given more by an override: the engine, the card, the secrets, the host."""
    bundle = bundle_of(sensor)
    path = bundle.home / "docker-compose.override.yml"
    before = path.read_text()
    content = json.loads(before)
    content["services"] |= {name: {"image": "x", **one} for name, one in ADDED.items()} | CHANGED
    content["configs"] = {"listed": {"file": "/etc/shadow"}}
    path.write_text(json.dumps(content))
    try:
        done = bundle.acoupi("compose", "up", "-d", timeout=PATIENCE)
    finally:
        path.write_text(before)
    unnamed = [name for name in (*NAMED, *CHANGED) if f"{name} " not in done.stderr]
    return "started" if done.returncode == 0 else f"unnamed: {unnamed}" if unnamed else REFUSED


OF_SETUP = ("secrets of the broker", ".env", "app.py", "config/program.json", "config/x")
COMMANDS = {
    ("config", "get"): (), ("task", "list"): (), ("effort",): ("data/cache/model",),
    ("setup",): OF_SETUP, ("config", "set"): OF_SETUP,
}  # fmt: skip
"""Commands that load the program, and what of it they may write."""


def commands_in_the_image(sensor: Sensor) -> str:
    """Run as a poisoned model in the container of a command that only reads."""
    bundle = bundle_of(sensor)
    owner = ownership.host_owner(bundle.home)
    got = {}
    for words, writable in COMMANDS.items():
        whole = image_command(bundle.settings, image_name(), words, owner=owner, sound_group="29")
        command = whole[1 : whole.index(image_name()) + 1]
        attack = ("python", "-c", ALONE, "command", str(bundle.home), *writable)
        done = docker(*command, *attack, check=False)
        if done.stdout.strip() != REFUSED:
            got[" ".join(words)] = done.stdout + done.stderr[-200:]
    return str(got) if got else REFUSED


ATTACKS: tuple[tuple[str, tuple[str, ...], str, Callable[[Sensor], str]], ...] = (
    ("have root give a file away: the swap race", ("recording",), REFUSED, swap_race),
    ("make databases through a link", ("default",), REFUSED, databases_through_links),
    ("escape sequences in a pulse", ("detection",), REFUSED, escapes_in_a_pulse),
    ("a FIFO as a pulse", ("recording",), REFUSED, fifo_as_pulse),
    ("a link as a pulse", ("recording",), REFUSED, link_as_pulse),
    ("a link to the secrets in the spool", ("recording",), REFUSED, link_in_the_spool),
    ("links and forbidden calls where calls wait", ("detection",), REFUSED, calls_that_are_none),
    ("orders to record, pickles, rubbish", ("recording",), REFUSED, messages_that_are_none),
    ("rubbish as messages in hand", ("detection",), REFUSED, bogus_messages_in_hand),
    ("a full broker stops the recorder", ("detection",), REFUSED, full_broker),
    ("a fork bomb", ("detection",), REFUSED, too_many_processes),
    ("a full scratch", ("detection",), REFUSED, too_much_scratch),
    ("find a secret in what is shown", ("",), REFUSED, secrets_that_are_shown),
    ("a log without an end", ("detection",), REFUSED, log_without_end),
    ("a folder of the system as a home", ("",), REFUSED, homes_that_are_none),
    ("an override that oversteps", ("",), REFUSED, overrides_that_overstep),
    ("a poisoned model in a command", ("",), REFUSED, commands_in_the_image),
    ("servers and brokers that never end", ("",), REFUSED, servers_that_never_end),
    ("half, endless and foreign documents", ("",), REFUSED, documents_that_are_none),
)
"""What is tried, by whom, what must come of it, and how."""
