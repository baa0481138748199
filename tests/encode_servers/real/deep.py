"""Mount an NFSv3 export and make a file far below its root in that one mount, as a kernel client would (libnfs)."""

from __future__ import annotations

import ctypes
import sys

nfs = ctypes.CDLL("libnfs.so.13")
nfs.nfs_init_context.restype = ctypes.c_void_p
nfs.nfs_get_error.restype = ctypes.c_char_p
context = ctypes.c_void_p(nfs.nfs_init_context())
nfs.nfs_set_version(context, 3)
handle = ctypes.c_void_p()
failed = nfs.nfs_mount(context, b"198.51.100.10", sys.argv[1].encode()) or nfs.nfs_creat(
    context, f"/{sys.argv[2]}".encode(), 0o644, ctypes.byref(handle)
)
sys.exit(nfs.nfs_get_error(context).decode() if failed else 0)
