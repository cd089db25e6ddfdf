# SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
"""Blocks that are looked at without being run: C is compiled, YAML parsed."""

import re
import subprocess

# What pieces of C on a page may rely on: the names that the guide uses throughout.
PRELUDE = """#include <errno.h>
#include <poll.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <vuser.h>
extern struct vuser_config config;
extern struct vuser_dev *dev;
extern struct vuser_pool *pool;
extern struct vuser_queue *rx, *tx;
extern struct vuser_mbuf *frames[32], *m;
extern bool running;
extern void die(const char *what);
extern void handle(struct vuser_mbuf *frame);
extern void look_at(const void *data, uint32_t len);
"""


class Wrong(Exception):
    """A block is wrong."""


def compile_c(root, block, folder, number):
    """A program is linked; of a piece the syntax is checked, inside a function unless it has some of its own."""
    program = re.search(r"^int main\(", block.text, re.M)
    text = block.text
    if not program:
        functions = re.search(r"^\w[^;=]*\)\n\{", text, re.M)
        text = PRELUDE + (text if functions else f"void piece(void);\nvoid piece(void)\n{{\n{text}}}\n")
    source = folder / f"block{number}.c"
    source.write_text(text, encoding="utf-8")
    command = ["cc", "-std=c99", "-D_POSIX_C_SOURCE=200809L", "-Wall", "-Wextra", "-Werror", f"-I{root}/include"]
    command += ["-Wno-unused-variable", "-Wno-unused-but-set-variable"] if not program else []
    command += [str(source), "-o", str(folder / f"block{number}"), f"-L{root}/build", "-l:libvuser.so.0"] if program else ["-fsyntax-only", str(source)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise Wrong(f"{block.place}: does not compile\n{done.stderr}")


def parse_yaml(block):
    """It is YAML, each document of it."""
    try:
        import yaml
    except ImportError as error:
        raise Wrong(f"{block.place}: YAML can't be looked at without PyYAML (make docs installs it)") from error
    try:
        documents = [document for document in yaml.safe_load_all(block.text) if document]
    except yaml.YAMLError as error:
        raise Wrong(f"{block.place}: {error}") from error
    if not all("kind" in d and "metadata" in d for d in documents if "apiVersion" in d):
        raise Wrong(f"{block.place}: an object of Kubernetes has kind and metadata")
    for pod in (d for d in documents if d.get("kind") == "Pod"):
        check_pod(block.place, pod)


# What there is in the parts of a pod that pages have: a word that is none of these is dropped by a cluster, or refused.
POD = {
    "spec": "containers initContainers volumes securityContext restartPolicy nodeSelector hostNetwork",
    "container": "name image command args env ports resources securityContext volumeMounts",
    "spec.securityContext": "runAsUser runAsGroup runAsNonRoot fsGroup supplementalGroups seccompProfile",
    "container.securityContext": "allowPrivilegeEscalation readOnlyRootFilesystem capabilities seccompProfile runAsUser runAsGroup runAsNonRoot",
    "resources": "requests limits",
    "mount": "name mountPath subPath readOnly",
    "hostPath": "path type",
}


def check_pod(place, pod):
    """Its words are Kubernetes's, it mounts what it has, and the paths of its programs lie in what is mounted."""

    def known(kind, part):
        unknown = set(part) - set(POD[kind].split())
        if unknown:
            raise Wrong(f"{place}: {kind} of a pod has no {', '.join(sorted(unknown))}")

    spec = pod["spec"]
    known("spec", spec)
    known("spec.securityContext", spec.get("securityContext", {}))
    volumes = {volume["name"] for volume in spec.get("volumes", [])}
    for volume in spec.get("volumes", []):
        known("hostPath", volume.get("hostPath", {}))
    for container in spec["containers"]:
        known("container", container)
        known("container.securityContext", container.get("securityContext", {}))
        known("resources", container.get("resources", {}))
        mounts = container.get("volumeMounts", [])
        for mount in mounts:
            known("mount", mount)
            if mount["name"] not in volumes:
                raise Wrong(f"{place}: {container['name']} mounts {mount['name']}, which is no volume of the pod")
        folders = tuple(f"path={mount['mountPath'].rstrip('/')}/" for mount in mounts)
        for word in container.get("args", []):
            if word.startswith("path=/") and not word.startswith(folders):
                raise Wrong(f"{place}: {word} lies in no volume")
