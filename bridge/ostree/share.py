"""Sharing blocks: a file takes those of another one with the same bytes, where the file system can.

`FIDEDUPERANGE` (ioctl_fideduperange(2)): the kernel locks both files, compares them byte by byte,
and only what is the same is shared. So nothing rests on the caller being right, and times, modes
and xattrs stay as they are. `FICLONE` (ioctl_ficlone(2)) makes a new file of another one's blocks
without a look at them. btrfs, XFS and bcachefs can; ext4 says that it cannot.
"""

from __future__ import annotations

import errno
import fcntl
import struct

from bridge.limits import MIB

WORTH = 64 * 1024
"""Bytes from which on it is worth it: the kernel writes both files to the disk before it compares,
and file systems keep the smallest among their own records."""
WORTH_CLONING = 4 * 1024
"""Bytes from which on a clone takes less than a copy: a block."""
_FICLONE = 0x40049409
"""linux/fs.h: _IOW(0x94, 9, int)."""
_FIDEDUPERANGE = 0xC0189436
"""linux/fs.h: _IOWR(0x94, 54, struct file_dedupe_range)."""
_REQUEST = struct.Struct("=QQHHIqQQiI")
"""Source offset and length, number of targets (one), two reserved; of the target: descriptor,
offset, bytes shared, status, reserved."""
_STEP = 16 * MIB
"""btrfs takes no more in one call."""
_DIFFERS = 1
CANNOT = frozenset(
    {errno.EOPNOTSUPP, errno.ENOTTY, errno.ENOSYS, errno.EXDEV, errno.EINVAL, errno.EPERM}
)
"""Answers after which there is no use in asking the same file system again."""


def clone(target: int, source: int) -> None:
    """Make the empty file open as `target` the same bytes as `source`, in the same blocks.

    `OSError` where the file system cannot; see `CANNOT`.
    """
    fcntl.ioctl(target, _FICLONE, source)


def share(target: int, source: int, size: int) -> int:
    """Have the file open as `target` share the blocks of `source`, which begins with the same
    `size` bytes; return how many are shared now.

    They are fewer where the files differ. `OSError` where the file system cannot; see `CANNOT`.
    """
    done = 0
    while done < size:
        step = min(size - done, _STEP)
        request = bytearray(_REQUEST.pack(done, step, 1, 0, 0, target, done, 0, 0, 0))
        fcntl.ioctl(source, _FIDEDUPERANGE, request)
        *_, shared, status, _reserved = _REQUEST.unpack(request)
        if status < 0:
            raise OSError(-status, "FIDEDUPERANGE")
        if status == _DIFFERS or not shared:
            break
        done += shared
    return done
