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

# -- network ---------------------------------------------------------------------------------
CONNECT_TIMEOUT = 30.0
IDLE_TIMEOUT = 30.0
"""No byte for this long, in headers or in a body, is a stall: the request is given up."""
REDIRECTS_MAX = 10
RETRIES = 3
"""Tries after the first one; `--retry-times` changes it."""
RETRY_FIRST_DELAY = 0.5
RETRY_DELAY_MAX = 60.0
"""`Retry-After` beyond this is not obeyed but reported: nobody wants a silent hour."""
RETRY_TOTAL_MAX = 300.0
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
LINK_HOPS_MAX = 40
"""Symbolic links followed on the way to one name, as in the kernel."""
ZSTD_WINDOW_MAX = 128 * MIB
"""The zstd command's default limit without --long; memory for one decoder."""

# -- objects ---------------------------------------------------------------------------------
METADATA_MAX = 128 * MIB
"""libostree's limit for a dirtree, dirmeta or commit object."""
SMALL_FILE = 1 * MIB
"""Payloads up to this are held in memory, so that one the store has already is not written."""
