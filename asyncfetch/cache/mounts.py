"""Which file system a directory lies on: SQLite's WAL needs memory that its users share, renames must be atomic."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

# Kept on other machines, or gateways to object stores. Not here: overlay, 9p (gVisor shows a container's own root as
# 9p) and virtiofs, on which one machine's processes see each other's locks and maps.
_NETWORK = {
    *("nfs", "nfs4", "cifs", "smb3", "smbfs", "ncpfs", "afs", "afpfs", "webdav", "davfs"),
    *("lustre", "ceph", "gpfs", "beegfs", "glusterfs", "gfs2", "ocfs2", "orangefs", "pvfs2", "panfs", "wekafs"),
}
_NETWORK_FUSE = {
    *("s3fs", "s3ql", "goofys", "geesefs", "mountpoint-s3", "gcsfuse", "blobfuse", "blobfuse2", "rclone", "juicefs"),
    *("sshfs", "glusterfs", "ceph", "ceph-fuse", "davfs", "davfs2", "curlftpfs", "alluxio", "cvmfs"),
}

# "/dev/disk1 on /Volumes/My Disk (smbfs, nodev, nosuid)": what mount(8) of macOS and the BSDs prints.
_BSD_LINE = re.compile(r"(?P<source>.+?) on (?P<point>/.*) \((?P<kind>[^,)]+)")


class Mount(NamedTuple):
    """One mounted file system."""

    point: str
    kind: str
    source: str

    @property
    def is_memory(self) -> bool:
        """True for one whose files do not outlive the boot."""
        return self.kind in ("tmpfs", "ramfs")

    @property
    def is_network(self) -> bool:
        """True for one that other machines share, or that is a gateway to an object store."""
        kind, _, helper = self.kind.partition(".")
        if kind.startswith("fuse") or kind in ("osxfuse", "macfuse"):
            return bool({helper, self.source.partition(":")[0], self.source.rpartition("/")[2]} & _NETWORK_FUSE)
        return kind in _NETWORK


def mount_of(path: str, table: list[Mount]) -> Mount | None:
    """The mount that a path (without symbolic links) lies on: the nearest above it, of several there the last."""
    best: Mount | None = None
    for mount in table:
        point = mount.point.rstrip("/")
        if (path == point or path.startswith(point + "/")) and (
            best is None or len(point) >= len(best.point.rstrip("/"))
        ):
            best = mount
    return best


def mounts() -> list[Mount]:
    """The mounts that this process sees; none where the system does not say."""
    try:
        if sys.platform == "linux":
            return parse_mountinfo(Path("/proc/self/mountinfo").read_text(errors="surrogateescape"))
        listed = subprocess.run(["/sbin/mount"], capture_output=True, check=True, timeout=10)
        return parse_mount_output(os.fsdecode(listed.stdout))
    except (OSError, subprocess.SubprocessError):
        return []


def parse_mountinfo(text: str) -> list[Mount]:
    """Reads /proc/self/mountinfo (proc_pid_mountinfo(5)): field 5 is the point, type and source follow a lone dash."""
    found = []
    for line in text.splitlines():
        before, dash, after = line.partition(" - ")
        fields, rest = before.split(" "), after.split(" ")
        if dash and len(fields) > 4 and len(rest) > 1:
            found.append(Mount(_unescape(fields[4]), rest[0], _unescape(rest[1])))
    return found


def parse_mount_output(text: str) -> list[Mount]:
    """Reads what mount(8) prints on macOS."""
    return [Mount(m["point"], m["kind"], m["source"]) for m in map(_BSD_LINE.match, text.splitlines()) if m]


def _unescape(field: str) -> str:
    r"""Space, tab, newline and backslash come as `\040` and the like."""
    return re.sub(r"\\([0-7]{3})", lambda found: chr(int(found[1], 8)), field)
