"""Pods of rendered manifests, started as containers: no API server can be had in a test.

A claim is a folder that belongs to root and that everybody may write, as the class
``local-path`` of k3s makes it; a policy that lets a pod out is a network, none is none.
"""

import contextlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from tests.docker.bundles import Done, docker

__all__ = ["Pods"]


class Pods:
    """The Deployments of a sensor on one node.

    Parameters
    ----------
    documents
        Of the manifests.
    volume
        The folder that is the claim.
    given
        Variables of the ConfigMap and the Secret, and by name of a pod those it has besides.
    """

    def __init__(
        self,
        documents: list[dict[str, Any]],
        volume: Path,
        given: Mapping[str, Mapping[str, str]],
    ) -> None:
        self.pods = {
            one["metadata"]["name"]: one["spec"]["template"]["spec"]
            for one in documents
            if one["kind"] == "Deployment"
        }
        self._lets_out = {
            one["spec"]["podSelector"]["matchLabels"]["app.kubernetes.io/component"]
            for one in documents
            if one["kind"] == "NetworkPolicy" and one["spec"].get("egress") == [{}]
        }
        self._volume = volume
        self._given = given
        self._project = f"acoupi-pods-{abs(hash(str(volume))) % 10**9}"

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        """Start every pod, each after what its init container does; remove all at the end."""
        self._volume.mkdir()
        self._volume.chmod(0o777)
        try:
            for name, pod in self.pods.items():
                for container in pod["initContainers"]:
                    self._run(["run", "--rm"], name, pod, container)
                start = ["run", "--detach", "--init", "--name", self.container(name)]
                self._run(start, name, pod, pod["containers"][0])
            yield
        finally:
            docker("rm", "--force", *map(self.container, self.pods), check=False)

    def container(self, name: str) -> str:
        """Return the name of the container that a pod is."""
        return f"{self._project}-{name}"

    def probe(self, name: str, kind: str) -> Done:
        """Do what the kubelet does at a look."""
        command = self.pods[name]["containers"][0][kind]["exec"]["command"]
        return self.run_in(name, *map(_replaced, command))

    def run_in(self, name: str, *command: str) -> Done:
        """Run something in a pod."""
        return docker("exec", self.container(name), *command, check=False)

    def read(self, path: str) -> Any:
        """Return what a JSON file of the claim holds; None: it is not there, or not whole."""
        try:
            return json.loads((self._volume / path).read_text().rstrip("\0 \n"))
        except (OSError, ValueError):
            return None

    def _run(
        self, start: list[str], name: str, pod: Mapping[str, Any], container: Mapping[str, Any]
    ) -> None:
        context = pod["securityContext"]
        rights = container["securityContext"]
        assert rights["readOnlyRootFilesystem"], name
        words = [*start, "--read-only", "--security-opt", "no-new-privileges:true"]
        words += ["--user", f"{context['runAsUser']}:{context['runAsGroup']}"]
        words += [word for one in rights["capabilities"]["drop"] for word in ("--cap-drop", one)]
        words += ["--memory", container["resources"]["limits"]["memory"].replace("Mi", "m")]
        words += [] if name in self._lets_out else ["--network", "none"]
        words += [word for one in container["volumeMounts"] for word in self._mount(one)]
        env = {one["name"]: _replaced(one["value"]) for one in container.get("env", ())}
        env |= self._given.get(name, {}) if env else {}
        words += [word for pair in env.items() for word in ("--env", "=".join(pair))]
        first, *others = map(_replaced, container["command"])
        docker(*words, "--entrypoint", first, container["image"], *others)

    def _mount(self, mount: Mapping[str, Any]) -> list[str]:
        if mount["name"] == "scratch":
            return ["--tmpfs", f"{mount['mountPath']}:size=16m,mode=1777"]
        source = self._volume / mount.get("subPath", "")
        assert source.is_dir(), f"the init container makes no {source.name}"
        mode = ":ro" if mount.get("readOnly") else ""
        return ["--volume", f"{source}:{mount['mountPath']}{mode}"]


def _replaced(text: str) -> str:
    return text.replace("$$", "$")
