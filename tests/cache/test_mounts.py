"""Which file system a path lies on, from what the systems print."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from asyncfetch.cache.mounts import Mount, mount_of, mounts, parse_mount_output, parse_mountinfo

MOUNTINFO = r"""
22 1 254:1 / / rw,relatime shared:1 - ext4 /dev/vda1 rw
25 22 0:22 / /dev/shm rw,nosuid - tmpfs tmpfs rw
41 22 0:40 / /home rw,relatime shared:9 - nfs4 filer:/home rw,vers=4.2
42 41 0:41 / /home/me/my\040disk rw,relatime - xfs /dev/vdb rw
43 22 0:42 / /data rw,relatime shared:9 master:2 - fuse.s3fs s3fs rw
44 22 0:43 / /models ro - fuse mountpoint-s3 ro
45 22 0:44 / /gluster rw - fuse.glusterfs host:/vol rw
46 22 0:45 / /scratch rw - lustre 10.0.0.1@o2ib:/scratch rw
47 22 0:46 / /appimage rw - fuse.AppImage AppImage rw
48 22 0:47 / /over rw - nfs filer:/over rw
49 22 0:48 / /over rw - ext4 /dev/vdc rw
50 22 0:49 / /host rw - 9p none rw
a line that is none
"""

MAC = """
/dev/disk3s1s1 on / (apfs, sealed, local, read-only, journaled)
map auto_home on /System/Volumes/Data/home (autofs, automounted, nobrowse)
//me@filer._smb._tcp.local/share on /Volumes/My Share (smbfs, nodev, nosuid, mounted by me)
filer:/export on /Volumes/nfs (nfs)
rclone:bucket on /Volumes/cloud (macfuse, nodev)
/dev/disk4s2 on /Volumes/Data (1) (apfs, local)
"""


@pytest.mark.parametrize(
    ("path", "kind", "network"),
    [
        ("/", "ext4", False),
        ("/tmp/cache", "ext4", False),
        ("/dev/shm/x", "tmpfs", False),
        ("/home", "nfs4", True),
        ("/home/other", "nfs4", True),
        ("/homes", "ext4", False),
        ("/home/me/my disk/cache", "xfs", False),
        ("/data/a/b", "fuse.s3fs", True),
        ("/models", "fuse", True),
        ("/gluster/x", "fuse.glusterfs", True),
        ("/scratch/me", "lustre", True),
        ("/appimage/x", "fuse.AppImage", False),
        ("/over/x", "ext4", False),
        ("/host", "9p", False),
    ],
)
def test_linux(path: str, kind: str, network: bool) -> None:
    mount = mount_of(path, parse_mountinfo(MOUNTINFO))
    assert mount is not None
    assert (mount.kind, mount.is_network) == (kind, network)


@pytest.mark.parametrize(
    ("path", "kind", "network"),
    [
        ("/Users/me/Library/Caches", "apfs", False),
        ("/Volumes/My Share/cache", "smbfs", True),
        ("/Volumes/nfs/cache", "nfs", True),
        ("/Volumes/cloud/cache", "macfuse", True),
        ("/Volumes/Data (1)/cache", "apfs", False),
    ],
)
def test_macos(path: str, kind: str, network: bool) -> None:
    mount = mount_of(path, parse_mount_output(MAC))
    assert mount is not None
    assert (mount.kind, mount.is_network) == (kind, network)


def test_unknown_is_no_mount() -> None:
    assert mount_of("/a", []) is None
    assert mount_of("/a", [Mount("/b", "nfs", "x")]) is None


def test_this_system_says_what_lies_at_its_root() -> None:
    assert sys.platform in ("linux", "darwin")
    mount = mount_of(str(Path("/")), mounts())
    assert mount is not None
    assert mount.point == "/"
