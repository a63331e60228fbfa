"""Which boot of the machine this is: what was written under another one may have lost a race with the power."""

from __future__ import annotations

import secrets
import sys

from asyncfetch.cache import files


def boot_id() -> str:
    """A name that all processes of this boot share, and those of another do not.

    Where the system does not say, nobody shares it: what others have written then counts as of another boot.
    """
    try:
        if sys.platform == "linux":
            said = files.read("/proc/sys/kernel/random/boot_id", 64)  # proc_sys_kernel(5)
        else:
            said = _sysctl(b"kern.bootsessionuuid")
    except OSError:
        said = None
    return (said or b"").decode("ascii", "replace").strip() or secrets.token_hex(16)


def _sysctl(name: bytes) -> bytes | None:
    """A text that the kernel of macOS or a BSD knows by a name (sysctlbyname(3))."""
    import ctypes

    value = ctypes.create_string_buffer(128)
    length = ctypes.c_size_t(len(value))
    try:
        failed = ctypes.CDLL(None).sysctlbyname(name, value, ctypes.byref(length), None, ctypes.c_size_t(0))
    except AttributeError:
        return None
    return None if failed else value.value
