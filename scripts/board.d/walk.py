"""The walk: what a sensor goes through on a board. `boot` is its beginning."""

import datetime
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from board import HERE, PATIENCE, a_board
from sensor import FREQUENCY, LEVEL, InContainers, Sensor, UnderSystemd, until

from acoupi.bundles.images import build_image, image_name
from acoupi.effort import NO_REASON

ROOT = HERE.parents[1]
GUEST = (
    "tone.py",
    "ear.py",
    "may_open.py",
    "time_server.py",
    "files.py",
    "databases.py",
    "usb_microphone.py",
)
OWN_IMAGE = f"acoupi/board:{os.getpid()}"
"""A name that no other build takes meanwhile."""
COMPOSE = Path("/usr/local/lib/docker/cli-plugins/docker-compose")
LOOPBACK = "--microphone.device_name Loopback"
USB = "Board Microphone"
CARD = '--microphone.device_name "HDA Intel" --microphone.audio_channels 2'
USER = """
useradd -m -s /bin/bash ranger
echo 'ranger ALL=(ALL) NOPASSWD: ALL' >/etc/sudoers.d/ranger
getent group docker >/dev/null && adduser --quiet ranger docker || true
"""
SIGNAL = f"""
echo snd-aloop >/etc/modules-load.d/loopback.conf
modprobe snd-aloop
cat >/etc/systemd/system/signal.service <<'UNIT'
[Service]
ExecStart=/bin/sh -c 'python3 /mnt/tone.py {FREQUENCY} {LEVEL} | \
aplay -q -t raw -f S16_LE -r 48000 -c 1 --buffer-time=2000000 -D hw:Loopback,1'
Restart=always
RestartSec=1
[Install]
WantedBy=multi-user.target
UNIT
systemctl enable -q --now signal
"""
"""The loopback card hears on its first device what is played on its second."""


class Walk:
    """Steps, and whether what was found is what was promised."""

    def __init__(self, sensor: Sensor, patience: float = PATIENCE / 3) -> None:
        self.sensor, self.board, self._patience = sensor, sensor.board, patience
        self.faults = 0
        self._since = time.monotonic()

    def found(self, what: str, holds: bool, found: object) -> None:
        """Print what was checked and what was found."""
        took = time.monotonic() - self._since
        self._since = time.monotonic()
        self.faults += not holds
        print(f"{'ok' if holds else 'FAULT':6}{what}: {found} ({took:.0f} s)", flush=True)

    def step(self, title: str) -> None:
        """Print what comes."""
        print(f"--- {title}", flush=True)

    def hears(self) -> None:
        """Check that it records what its microphone hears."""
        heard = self.sensor.hear()
        said = "" if "hertz" in heard else f"{heard}\n{self.sensor.tells()}"
        self.found(f"records the tone of {FREQUENCY} Hz at {LEVEL} dBFS", not said, said or heard)

    def explains(self) -> None:
        """Check that the ledger has one reason for every second, and knows each."""
        states: dict[str, float] = {}
        unknown: list[dict[str, Any]] = []
        told = False

        def is_told() -> bool:
            nonlocal states, unknown, told
            effort = self.sensor.effort()
            states = {name: spent for name, spent in effort["states_s"].items() if spent}
            told = abs(sum(states.values()) - effort["total_s"]) < 0.001
            unknown = [hole for hole in effort["holes"] if NO_REASON in hole["detail"]]
            return told and not unknown

        if not is_told():
            print(f"      not yet: {unknown}", flush=True)
            until(is_told, self._patience)
        self.found("every second is explained", told and not unknown, unknown or states)

    def is_whole(self, before: Collection[str] = ()) -> None:
        """Check that files and rows agree, databases are sound, and what was there is there."""
        apart: set[str] = set()
        files: dict[str, float] = {}

        def agree() -> bool:
            nonlocal apart, files
            first = self.sensor.files()
            rows = {one["recording_id"]: one["recording_state"] for one in self.sensor.recordings()}
            there = {name for name, state in rows.items() if state not in ("deleted", "lost")}
            files = self.sensor.files()  # it records all the while
            apart = (set(first) - set(rows)) | (there - set(files))
            return not apart

        agreed = until(agree, self._patience)
        self.found("each file has a row, each row a file", agreed, apart or f"{len(files)} files")
        empty = [name for name, seconds in files.items() if seconds == 0]
        self.found("each file holds sound", not empty, empty or f"{sum(files.values()):g} s")
        if before:
            lost = set(before) - set(files)
            self.found("what was recorded before is there", not lost, lost or len(before))
        damaged = self.sensor.damaged_databases()
        self.found("the databases are sound", not damaged, damaged or "integrity_check ok")


def first_recording(walk: Walk, microphone: str) -> None:
    """Set up, start, hear."""
    walk.step("from a fresh board to its first recording")
    walk.sensor.set_up(microphone)
    walk.hears()
    walk.explains()


def its_device(walk: Walk) -> None:
    """Check who may open the sound devices."""
    walk.step("the recorder's device, and nobody else's")
    processes = walk.sensor.processes()
    _, output = walk.board.run(f"python3 /mnt/may_open.py {' '.join(processes.values())}")
    got = json.loads(output)
    for name, number in processes.items():
        words = sorted(set(got[number].values()))
        may = any(word in ("opened", "busy") for word in words)
        walk.found(f"{name} may{'' if name == walk.sensor.recorder else ' not'} open sound devices",
                   may is (name == walk.sensor.recorder), words)  # fmt: skip


def page(walk: Walk) -> None:
    """Ask the page for itself, from the board."""
    walk.step("its page")
    ask = "python3 -c 'import urllib.request as r; print(r.urlopen(\"http://127.0.0.1:8080/\").read())'"
    answers = until(lambda: "acoupi" in walk.board.run(ask)[1])
    walk.found("the page answers", answers, walk.board.run(ask)[1][:60])


def first_card_comes_late(walk: Walk) -> None:
    """Start the recorder before the kernel knows of sound, then load the driver of its card."""
    walk.step("the first card comes after the recorder has started")
    code, _ = walk.board.run(
        "systemctl stop acoupi-recording; modprobe -r snd_hda_intel snd_hda_codec_generic;"
        " for one in hda_codec hwdep hda_core intel_dspcfg pcm timer; do rmmod snd_$one; done;"
        " rmmod snd soundcore;"
        " ! grep -q alsa /proc/devices"
    )
    walk.found("the kernel knew of no sound", code == 0, f"grep ended with {code}")
    walk.board.run("systemctl start acoupi-recording; modprobe snd_hda_intel")
    walk.hears()
    walk.explains()


def reboots(walk: Walk) -> None:
    """Reboot in order."""
    walk.step("rebooted (systemctl reboot)")
    before = recorded(walk)
    walk.board.start_again()
    walk.hears()
    walk.explains()
    walk.is_whole(before)


def cut_inside(walk: Walk) -> None:
    """Reboot without writing what is in memory, as when power fails."""
    walk.step("power cut: the kernel starts again and writes nothing (sysrq b)")
    before = recorded(walk)
    walk.board.start_again("echo b >/proc/sysrq-trigger")
    walk.hears()
    walk.explains()
    walk.is_whole(before)


def plug_pulled(walk: Walk) -> None:
    """Kill the machine, with each way of writing its disk."""
    for cache in ("writeback", "none", "unsafe"):
        walk.step(f"the plug pulled: QEMU killed, and on again with its disk as cache={cache}")
        before = recorded(walk)
        walk.board.pull_the_plug()
        walk.board.switch_on(*DEVICES, cache=cache)
        walk.hears()
        walk.explains()
        walk.is_whole(before)


def card_returns(walk: Walk) -> None:
    """Take the card out while it records; put it back when another has its number."""
    walk.step("the card gone while it records, and back under another number")
    number = number_of(walk, "Intel")
    gone_and_back(
        walk,
        "Intel",
        f"echo 1 >$(readlink -f /sys/class/sound/card{number}/device)/remove",
        "modprobe snd-dummy; echo 1 >/sys/bus/pci/rescan",
    )


def usb_microphone(walk: Walk) -> None:
    """Have it record from a USB microphone; pull that out, and plug it in again."""
    walk.step("a USB microphone, pulled out while it records, and back under another number")
    plug = f"systemd-run -q --collect --unit=usb python3 /mnt/usb_microphone.py {FREQUENCY} {LEVEL}"
    walk.board.run(f"modprobe -a vhci_hcd snd_usb_audio; {plug}")
    plugged = until(lambda: number_of(walk, USB) != "")
    walk.found("the kernel has it", plugged, f"card {number_of(walk, USB)}")
    walk.sensor.acoupi("config set microphone.audio_channels 1")
    walk.sensor.acoupi(f'config set --apply microphone.device_name "{USB}"')
    walk.hears()
    walk.explains()
    gone_and_back(walk, USB, "systemctl stop usb", f"modprobe snd-aloop; {plug}")


def number_of(walk: Walk, card: str) -> str:
    """Return the number that the kernel gave a card; "": it is not there."""
    _, cards = walk.board.run("cat /proc/asound/cards")
    return "".join(line.split()[0] for line in cards.splitlines() if "[" in line and card in line)


def gone_and_back(walk: Walk, card: str, pull: str, plug: str) -> None:
    """Take a card out while the sensor records from it, and put it back."""

    def missing_s() -> float:
        return float(walk.sensor.effort()["states_s"]["device_missing"])

    number, before = number_of(walk, card), missing_s()
    walk.board.run(pull)
    said = until(lambda: missing_s() > before)
    walk.found("the ledger says that the device is missing", said, f"{missing_s():.1f} s")
    walk.board.run(plug)
    until(lambda: number_of(walk, card) != "")
    again = number_of(walk, card)
    walk.found("it has another number", again not in ("", number), f"{number}, then {again}")
    walk.hears()
    walk.explains()


def clock_is_wrong(walk: Walk) -> None:
    """Boot with a clock that is years behind, and one that is months ahead."""
    for base in ("2021-01-01T00:00:00", "2027-06-01T00:00:00"):
        clock_is(base, walk)


def clock_is(base: str, walk: Walk) -> None:
    """Boot with a clock that is wrong, which a time server sets when the sensor records."""
    walk.step(f"a clock of {base} at boot, set by a time server later")
    before = recorded(walk)
    # Without it the board begins with the time at which it was cut off, as saved.
    walk.board.run(
        "systemctl disable -q --now systemd-timesyncd; rm -r /var/lib/systemd/timesync; sync"
    )
    walk.board.pull_the_plug()
    walk.board.switch_on(*DEVICES, "-rtc", f"base={base}")
    off_by = datetime.timedelta(seconds=float(walk.board.run("date +%s")[1]) - time.time())
    walk.found(
        "the clock is wrong at boot", abs(off_by) > datetime.timedelta(days=1), f"by {off_by}"
    )
    walk.hears()
    walk.board.run(
        "mkdir -p /etc/systemd/timesyncd.conf.d;"
        " printf '[Time]\\nNTP=127.0.0.1\\n' >/etc/systemd/timesyncd.conf.d/board.conf;"
        f" systemd-run -q --unit=time-server python3 /mnt/time_server.py {time.time():.3f};"
        " systemctl enable -q --now systemd-timesyncd"
    )
    synchronised = until(lambda: "yes" in walk.board.run("timedatectl show -p NTPSynchronized")[1])
    walk.found(
        "the time server has set it", synchronised, walk.board.run("date -u +%FT%T")[1].strip()
    )
    walk.hears()

    since = datetime.datetime.fromisoformat(walk.sensor.effort()["since"])

    def odd() -> list[str]:
        starts = [
            datetime.datetime.fromisoformat(one["start_time"]) for one in walk.sensor.recordings()
        ]
        now = datetime.datetime.now(tz=datetime.UTC)  # it recorded while they were listed
        return [str(one) for one in starts if not since <= one <= now]

    until(lambda: not odd())
    walk.found("no recording has a time of the wrong clock", not (left := odd()), left or "none")
    walk.explains()
    walk.is_whole(before)


def stops(walk: Walk) -> None:
    """Stop, and find that nothing is left."""
    walk.step("stopped")
    walk.sensor.acoupi("stop")
    walk.found("nothing runs any more", not (left := walk.sensor.processes()), left or "nothing")
    walk.explains()
    walk.is_whole()


def recorded(walk: Walk) -> set[str]:
    """Return the names of what is recorded by now, for sure."""
    return {one["recording_id"] for one in walk.sensor.recordings()}


@contextmanager
def software(*, images: bool) -> Iterator[list[tuple[Path, str]]]:
    """Yield what the board gets of this code: its environment out of the image, or images too."""
    with tempfile.TemporaryDirectory() as folder:
        made = ["docker", "create", build_image(image=OWN_IMAGE)]
        container = subprocess.run(made, check=True, capture_output=True, text=True).stdout.strip()
        try:
            subprocess.run(["docker", "cp", "-q", f"{container}:/opt/acoupi", folder], check=True)
            fill = [(HERE / name, name) for name in GUEST] + [(Path(folder, "acoupi"), "acoupi")]
            if images:
                save = ["docker", "save", OWN_IMAGE, "-o", f"{folder}/image.tar"]
                subprocess.run(save, check=True)
                fill += [(Path(folder, "image.tar"), "image.tar"), (COMPOSE, COMPOSE.name)]
        finally:
            subprocess.run(["docker", "rm", container], check=True, stdout=subprocess.DEVNULL)
            subprocess.run(["docker", "rmi", OWN_IMAGE], check=True, stdout=subprocess.DEVNULL)
        yield fill


@contextmanager
def a_tone(folder: Path) -> Iterator[Path]:
    """Yield the ALSA configuration of a microphone of this machine that hears the tone."""
    microphone = ROOT / "scripts/virtual-microphone"
    subprocess.run([microphone, "start", folder, "48000"], check=True)
    with subprocess.Popen([sys.executable, HERE / "tone.py", str(FREQUENCY), str(LEVEL)],
                          stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as tone:  # fmt: skip
        played = subprocess.Popen(
            [microphone, "play", folder, "48000", "/dev/stdin"], stdin=tone.stdout
        )
        try:
            yield folder / "asound.conf"
        finally:
            for one in (played, tone):
                one.kill()
                one.wait()
            subprocess.run([microphone, "stop", folder], check=True)


DEVICES = (
    *("-audiodev", "alsa,id=tone,in.dev=virtual_microphone,out.dev=null"),
    *("-device", "ich9-intel-hda", "-device", "hda-micro,audiodev=tone"),
)
"""A sound card of the board that hears what a microphone of this machine does."""


def boot(cache: Path) -> int:
    """The short form."""
    with software(images=False) as fill, a_board(cache, fill) as board:
        board.switch_on()
        walk = Walk(UnderSystemd(board))
        board.run(USER + SIGNAL)
        first_recording(walk, LOOPBACK)
        its_device(walk)
        walk.is_whole()
        return walk.faults


PARTS: dict[str, Callable[[Walk], None]] = {
    "devices": its_device,
    "page": page,
    "late": first_card_comes_late,
    "reboot": reboots,
    "cut": cut_inside,
    "plug": plug_pulled,
    "card": card_returns,
    "clock": clock_is_wrong,
    "usb": usb_microphone,
    "stop": stops,
}
"""What happens to a sensor that records, in this order."""
NOT_IN_CONTAINERS = ("late",)
"""The engine gives a container the card that is there when it starts."""


def walk_on(cache: Path, kind: type[Sensor], parts: Collection[str]) -> int:
    """Set up one target, and do these parts of its walk."""
    with (
        tempfile.TemporaryDirectory() as folder,
        a_tone(Path(folder)) as alsa,
        software(images=kind is InContainers) as fill,
        a_board(cache, fill, alsa) as board,
    ):
        board.switch_on(*DEVICES)
        walk = Walk(kind(board))
        board.run(USER)
        if kind is InContainers:
            load_images(walk)
        first_recording(walk, f"{CARD} --web")
        for name in parts:
            if kind is UnderSystemd or name not in NOT_IN_CONTAINERS:
                PARTS[name](walk)
        return walk.faults


def load_images(walk: Walk) -> None:
    """Give the engine the images, which the board cannot fetch."""
    walk.step("the engine")
    code, output = walk.board.run(
        f"install -D -m 755 /mnt/{COMPOSE.name} {COMPOSE};"
        " until docker info >/dev/null 2>&1; do sleep 1; done; docker load -q -i /mnt/image.tar"
        f" && docker tag {OWN_IMAGE} {image_name()}"
    )
    walk.found("the image is loaded", code == 0, output.strip())


KINDS = {"systemd": UnderSystemd, "compose": InContainers}


def chosen(words: Collection[str]) -> tuple[list[str], list[str]]:
    """Return the targets and the parts to walk: those that are named, or all."""
    kinds, parts = ([one for one in all_ if one in words] for all_ in (KINDS, PARTS))
    return kinds or [*KINDS], parts or [*PARTS]


def main(cache: Path, kind: str, words: list[str]) -> int:
    """Walk; return 0 if everything held."""
    if kind == "boot":
        faults = boot(cache)
    elif unknown := set(words) - {*KINDS, *PARTS}:
        print(
            f"Error: scripts/board cannot walk {', '.join(sorted(unknown))}.\n"
            f"  Why: it walks {' and '.join(KINDS)}; the parts are {', '.join(PARTS)}.\n"
            "  Try: scripts/board walk systemd card",
            file=sys.stderr,
        )
        return 2
    else:
        kinds, parts = chosen(words)
        faults = sum(walk_on(cache, KINDS[one], parts) for one in kinds)
    print("all holds" if not faults else f"{faults} did not hold")
    return int(faults > 0)
