"""Every limit in one place, each with its reason. Sizes are bytes, times are seconds."""

from __future__ import annotations

KIB, MIB, GIB = 1024, 1024**2, 1024**3

# -- documents -------------------------------------------------------------------------------
MANIFEST_MAX = 4 * MIB
"""Manifests, indexes: what containers/image and docker-registry accept."""
CONFIG_MAX = 4 * MIB
"""Image configurations are read into memory whole."""
TOKEN_MAX = 1 * MIB
ERROR_BODY_MAX = 1 * MIB
LAYERS_MAX = 500
"""Overlay engines stop at 128 layers; a rechunked OS image has up to about 450."""
INDEX_ENTRIES_MAX = 10_000
ARCHIVE_MEMBERS_MAX = 100_000
"""Files in an `oci-archive:`; its table of offsets is held in memory."""

# -- network ---------------------------------------------------------------------------------
CONNECT_TIMEOUT = 30.0
IDLE_TIMEOUT = 30.0
"""No byte for this long, in headers or in a body, is a stall: the request is given up."""
SLOWEST_BODY = 1 * KIB
"""A body that brings less than this in `IDLE_TIMEOUT` is as good as stalled."""
REDIRECTS_MAX = 10
RETRIES = 3
"""Tries after the first one; `--retry-times` changes it."""
RETRY_FIRST_DELAY = 0.5
RETRY_DELAY_MAX = 60.0
"""`Retry-After` beyond this is not obeyed but reported: nobody wants a silent hour."""
RETRY_TOTAL_MAX = 300.0
TAG_PAGES_MAX = 1000
"""Pages of a tag list: a registry that always links to another one would never end."""
TAG_PAGE_MAX = 4 * MIB
AUTH_FILE_MAX = 4 * MIB
TOKEN_LIFETIME = 60.0
"""Of a bearer token whose answer names none: the distribution spec's default."""
TOKEN_MARGIN = 10.0
"""A token this near its end is renewed before it is used."""
CREDENTIAL_HELPER_TIMEOUT = 60.0
RESUME_PROGRESS = 1 * MIB
"""A body that broke after this many new bytes has not used up a try."""
BLOB_BUFFER = 256 * KIB
"""One read from a socket or file: large enough that Python's cost per read vanishes."""
PARALLEL_BLOBS = 3
"""Blobs under way at once; more gain nothing on one registry and cost memory."""

# -- tar -------------------------------------------------------------------------------------
PAX_MAX = 1 * MIB
"""One pax or GNU long-name header."""
PATH_MAX = 4096
COMPONENT_MAX = 255
DEPTH_MAX = 256
XATTR_VALUE_MAX = 64 * KIB
"""The kernel's XATTR_SIZE_MAX."""
XATTR_NAME_MAX = 255
"""The kernel's XATTR_NAME_MAX."""
SPARSE_PIECES_MAX = 100_000
"""Pieces of one sparse file: its map is held in memory."""
SPARSE_FREE = 1 * GIB
SPARSE_RATIO_MAX = 1000
"""A sparse file beyond SPARSE_FREE may be at most this many times what is stored of it."""
LINK_HOPS_MAX = 40
"""Symbolic links followed on the way to one name, as in the kernel."""
ZSTD_WINDOW_MAX = 128 * MIB
"""The zstd command's default limit without --long; memory for one decoder."""

# -- objects ---------------------------------------------------------------------------------
METADATA_MAX = 128 * MIB
"""libostree's limit for a dirtree, dirmeta or commit object."""
SMALL_FILE = 1 * MIB
"""Payloads up to this are held in memory, so that one the store has already is not written."""

# -- sysroot ---------------------------------------------------------------------------------
BLS_ENTRY_MAX = 64 * KIB
"""A boot entry is a handful of lines; the kernel's command line ends at 4 KiB or less."""
ORIGIN_MAX = 1 * MIB
"""rpm-ostree's origins list packages; GKeyFile itself has no limit."""
OS_RELEASE_MAX = 64 * KIB
BOOT_MARGIN = 1 * MIB
"""Room left on /boot beyond the kernel: for entries, links and file system metadata."""
