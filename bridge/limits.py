"""Every limit in one place, each with its reason. Sizes are bytes, times are seconds."""

from __future__ import annotations

KIB, MIB, GIB = 1024, 1024**2, 1024**3

# -- documents -------------------------------------------------------------------------------
MANIFEST_MAX = 4 * MIB
"""Manifests, indexes: what containers/image and docker-registry accept."""
CONFIG_MAX = 4 * MIB
"""Image configurations are read into memory whole."""
TOKEN_MAX = 1 * MIB
"""A token server's answer is a JSON document of a few KiB; containers/image has the same limit."""
ERROR_BODY_MAX = 1 * MIB
"""Read so that a connection can be used again and the error be told; of no other use."""
LAYERS_MAX = 500
"""Overlay engines stop at 128 layers; a rechunked OS image has up to about 450."""
INDEX_ENTRIES_MAX = 10_000
"""Platforms of one image: dozens. Each entry becomes an object in memory."""
INDEX_DEPTH_MAX = 3
"""Indexes in one another, where an image is copied with all that it lists: one is usual."""
JSON_DEPTH_MAX = 100
"""Lists and objects in one another; documents of images and registries need less than ten."""
LAYOUT_MARKER_MAX = 64 * KIB
"""The file `oci-layout` holds one short object."""
ARCHIVE_MEMBERS_MAX = 100_000
"""Files in an `oci-archive:`; its table of offsets is held in memory."""

# -- network ---------------------------------------------------------------------------------
CONNECT_TIMEOUT = 30.0
"""A host that is there answers within a few round trips, three lost packets included."""
IDLE_TIMEOUT = 30.0
"""No byte of a body for this long, or no end of the headers, is a stall: the request is given up.
`--idle-timeout` changes it."""
IDLE_TIMEOUT_MAX = 3600.0
"""Nobody who asks for an hour means to be told of a stall at all."""
SLOWEST_BODY = 1 * KIB
"""A body that brings less than this in `IDLE_TIMEOUT` is as good as stalled."""
HEADERS_MAX = 256 * KIB
"""An answer's headers in bytes; `http.client` itself takes 100 of at most 64 KiB each."""
FRAMING_MAX = 64 * KIB
"""What may frame any body, however small: chunk extensions and trailers may have no end."""
FRAMING_RATIO_MAX = 8
"""Bytes on the wire for each of a body beyond that: a chunk of a single byte has six."""
REDIRECTS_MAX = 10
"""What browsers and curl's users expect; a registry needs one or two."""
RETRIES = 3
"""Tries after the first one; `--retry-times` changes it."""
RETRY_FIRST_DELAY = 0.5
"""Long enough for a load balancer to turn to another server; doubled each time."""
RETRY_DELAY_MAX = 60.0
"""`Retry-After` beyond this is not obeyed but reported: nobody wants a silent hour."""
RETRY_TOTAL_MAX = 300.0
"""All waits of one request together: after five minutes somebody should be told."""
TAG_PAGES_MAX = 1000
"""Pages of a tag list: a registry that always links to another one would never end."""
TAG_PAGE_MAX = 4 * MIB
"""A page of 1,000 tags of 128 characters is 135 KB."""
CATALOG_PAGES_MAX = 1000
"""Pages of a catalog, as of a tag list."""
CATALOG_PAGE_MAX = 4 * MIB
"""A page of 1,000 names of 255 characters is 260 KB."""
REPOSITORIES_MAX = 100_000
"""Repositories of one registry: their names are held in memory."""
REFERRERS_PAGES_MAX = 100
"""Pages of a list of referrers: an image has a handful of them, a page hundreds."""
REFERRERS_TRIES = 50
"""Times that the index of a fallback tag is read while others write it: each of so many writers
gets theirs in before the last one has to."""
REFERRERS_SETTLE = 0.3
"""A pause before that index is read for the last time: another writer takes two round trips from
reading it to writing it."""
TAGS_MAX = 200_000
"""Tags of one repository: held in memory, so that each is told once. A build a minute makes half a
million a year; such repositories are looked into with other means."""
AUTH_FILE_MAX = 4 * MIB
"""A few entries; read into memory whole."""
TOKEN_LIFETIME = 60.0
"""Of a bearer token whose answer names none: the distribution spec's default."""
TOKEN_MARGIN = 10.0
"""A token this near its end is renewed before it is used."""
CREDENTIAL_HELPER_TIMEOUT = 60.0
"""A helper may ask a person, or another host."""
REPAIR_AHEAD = 4 * MIB
"""Bytes fetched before they are looked at, where a few objects of a layer are wanted: few, for the
rest is in vain, but enough that network and import do not wait for one another."""
RESUME_PROGRESS = 1 * MIB
"""A body that broke after this many new bytes has not used up a try."""
BLOB_BUFFER = 256 * KIB
"""One read from a socket or file: large enough that Python's cost per read vanishes."""
UPLOAD_WHOLE = 8 * MIB
"""A blob up to this is sent in one request: to ask and to begin cost two more already."""
UPLOAD_PART = 64 * MIB
"""Bytes of a blob in one request: proxies take 100 MB, and registries parts of 5 MiB or more."""
PARALLEL_BLOBS = 3
"""Blobs under way at once; more gain nothing on one registry and cost memory."""
RANGE_CONNECTIONS = 4
"""For parts of blobs, over all layers: so many round trips at once hide most of their time, and it
is less than the six that browsers, and so the servers, hold to be usual for one client."""

# -- tar -------------------------------------------------------------------------------------
PAX_MAX = 1 * MIB
"""One pax or GNU long-name header."""
PATH_MAX = 4096
"""The kernel's PATH_MAX: a longer one could not be opened."""
COMPONENT_MAX = 255
"""NAME_MAX of ext4, xfs and btrfs."""
DEPTH_MAX = 256
"""Directories below one another; trees are walked by recursion. An OS has about 20."""
XATTR_VALUE_MAX = 64 * KIB
"""The kernel's XATTR_SIZE_MAX."""
XATTR_NAME_MAX = 255
"""The kernel's XATTR_NAME_MAX."""
XATTRS_MAX = 60 * KIB
"""Names and values of one file: bare-user keeps them, framed, in one xattr of at most 64 KiB."""
TAR_END_MAX = 64 * KIB
"""Zeros at a tar stream's end that are tried for one whose digest is wrong: tar writes up to 20
blocks of 512 bytes."""
SPARSE_PIECES_MAX = 100_000
"""Pieces of one sparse file: its map is held in memory."""
SPARSE_FREE = 1 * GIB
"""A sparse file up to this may be all hole: virtual disks and databases are made so."""
SPARSE_RATIO_MAX = 1000
"""A sparse file beyond SPARSE_FREE may be at most this many times what is stored of it."""
LINK_HOPS_MAX = 40
"""Symbolic links followed on the way to one name, as in the kernel."""
LINK_NAMES_MAX = 1000
"""Names in the targets of those links: each is a step, on the way of every entry behind them."""
LINK_TARGET_MAX = 4095
"""The kernel's PATH_MAX counts a NUL at the end."""
CONTENT_RATIO_MAX = 1000
"""Bytes that a byte of a blob may grow to. An OS has about 3; gzip cannot reach 1033."""
CONTENT_FREE = 1 * GIB
"""What layers beyond that ratio may hold together: an empty disk or a swap file."""
SOLID_FREE = 256 * MIB
"""What of that may be other than zeros, and so takes room on a disk until it is refused."""
CONTENT_MAX = 256 * GIB
"""Layers' content, holes of sparse files counted. The largest images known are a tenth of it."""
ENTRIES_MAX = 750_000
"""Entries of an image's layers, and directories on their way: each takes 200 to 600 bytes of
memory. A large OS has 400,000."""
NAMES_MAX = 64 * MIB
"""Characters of those entries' paths: where they are left out, they are kept in full to tell."""
ZSTD_WINDOW_MAX = 128 * MIB
"""The zstd command's default limit without --long; memory for one decoder."""

# -- parts of blobs --------------------------------------------------------------------------
PARTIAL_LEAST = 64 * KIB
"""A blob smaller than this is fetched whole: its table of contents would be half of it."""
PARTIAL_PERCENT_MAX = 85
"""Of a blob; where more of it is missing, one plain request for all is as good and simpler."""
REBUILD_RATE = 125_000_000
"""Bytes a second, a gigabit: where blobs come faster, a layer is there sooner whole than in parts,
which take more of the processor. It matters to whoever asks for the fastest way only."""
RANGE_GAP_LEAST = 4 * KIB
"""A gap up to this is fetched along: a request and its answer's headers cost about as much."""
RANGE_GAP_MOST = 256 * KIB
"""A larger gap is not fetched along for the time that it may save."""
RANGE_GAPS_PERMILLE = 5
"""Of the bytes that are missing: what gaps may add to them to save round trips."""
RANGE_CUT = 1 * MIB
"""Larger ranges are asked for in pieces, of no less than this, while there are requests left."""
RANGE_LIGHT = 64 * KIB
"""Ranges up to this take a round trip rather than bandwidth: one of the connections fetches them
first, while the others are at larger ones."""
PARTS_REQUESTS_MOST = 194
"""For the parts of an image's layers, their tables of contents among them: more gaps are closed to
keep to it, unless the layers are very many. With what else there is to ask for an upgrade takes
less than 200 requests."""
TOC_MAX = 150 * MIB
"""A table of contents, unpacked or not: what containers/storage takes. 47,000 files make 13 MB."""
TOC_ENTRIES_MAX = 300_000
"""Entries, further pieces of files and xattrs, in the tables of an image's layers together: each
takes 300 to 1000 bytes of memory, less than 512 MiB with what else is held. A Debian server has
75,000."""
TAILS_MAX = 64 * MIB
"""The ends of an image's blobs that have these tables, packed: held in memory. 47,000 files make
7 MB."""
TOC_VALUE_MAX = 1 * MIB
"""One entry of it: a name, and xattrs of at most 64 KiB each."""
TOC_TIMES_KEPT = 10_000
"""Different times that are remembered; most entries of a layer have a few of them."""
ESTARGZ_TAIL = 64 * KIB
"""At least as much of an eStargz blob's end is fetched to find its table of contents..."""
ESTARGZ_TAIL_PART = 128
"""...and at least this part of the blob, 0.8 %: a Debian system's table has 0.4 %. Where one has
more, another request gets what is missing."""
ESTARGZ_HEAD = 64 * KIB
"""Of an eStargz blob's beginning: what shows whether its headers can be made again. Lost if not."""
ESTARGZ_HEAD_UNPACKED = 4 * MIB
"""What it may unpack to; deflate makes a thousandth of zeros."""
TAR_SPLIT_MAX = 300 * MIB
"""A tar-split, unpacked or not: base64 of about 1 KiB for each entry. It is never held unpacked."""
TAR_SPLIT_LINE_MAX = 2 * MIB
"""One line of it: an extended header of at most 1 MiB, in base64."""
PIECE_HELD_MAX = 8 * MIB
"""A piece up to this is held in memory and verified before it is passed on; containers/storage
cuts files about every 64 KiB, eStargz every 4 MiB."""

# -- objects ---------------------------------------------------------------------------------
POLICY_MAX = 16 * MIB
"""One file of an SELinux policy's file contexts; large policies have half a megabyte."""
METADATA_MAX = 128 * MIB
"""libostree's limit for a dirtree, dirmeta or commit object."""
DIRECTORY_MAX = 100_000
"""Names in one directory: a dirtree of about 10 MiB, where libostree warns from 7 MiB on."""
SMALL_FILE = 1 * MIB
"""Payloads up to this are held in memory, so that one the store has already is not written."""
CONTENT_INDEX_MAX = 512 * MIB
"""Bytes of the content index: some twelve million pieces, the content of over a hundred images."""
SKELETON_LITERAL = 64 * KIB
"""Bytes of one piece of a skeleton: held in memory. Most have a header and padding, 1 KiB."""
SKELETON_WINDOW_MAX = 8 * MIB
"""The zstd window of a skeleton; ours have at most 1 MiB."""

LABELLED_MAX = 64 * MIB
"""What is known of objects with SELinux labels: a million of them. Held in memory."""

REREADS_MAX = 10
"""Times that a reader, who takes no lock, starts anew because refs or boot entries were moved
under its eyes; a writer takes far longer for one change."""

# -- encapsulated commits --------------------------------------------------------------------
ENCAPSULATED_METADATA_MAX = 10 * MIB
"""A commit, its detached metadata, a dirtree or a dirmeta in a layer: ostree-ext's own limit."""
ENCAPSULATED_XATTRS_MAX = 128 * KIB
"""One file's xattrs in a layer, serialised; what can be stored of them is half of that."""
ENCAPSULATED_XATTRS_KEPT = 16 * MIB
"""Xattrs of one layer that several files share: held in memory. A large OS has some dozen."""
ENCAPSULATED_CHUNKS_MAX = 400
"""Layers that a commit is written as: with those that others put on top it is still an image."""

# -- space -----------------------------------------------------------------------------------
SPACE_LOOK_EVERY = 16 * MIB
"""Bytes written between two looks at how much the file system has left: others write too."""
UNPACKED_RATIO = 3
"""What an unpacked layer is taken for, times its compressed size, where nothing tells: OS images
of Debian come to 2.8 with gzip, 3.0 with zstd."""
SPACE_TIGHT = 2
"""Room for less than this many times what a pull seems to need: a closer look is worth it."""
SPACE_SCARCE = 1 * GIB
"""With less room than this, a layer that may unpack to more than the room is looked at closely."""
SPACE_HINTS_MAX = 32
"""Layers, the largest first, whose size is asked for from the registry in that closer look."""
HISTORY_READ_MAX = 4 * MIB
"""Of `history.jsonl`, its end: some hundred reports, for a file that is never shortened."""

# -- comparing images ------------------------------------------------------------------------
SPOOL_MAX = 2 * GIB
"""Package databases of two images, on disk, while they are compared: 10 MB for Debian's, some
200 MB for one of rpm's."""
FILES_LISTED_MAX = 1000
"""Changed files that a report lists, the dearest first: an update of a distribution has 20,000."""
TAGS_READ_MAX = 500
"""Tags of a repository whose images are looked at to find the newest: three requests for each."""
RELEASES_MAX = 200
"""Updates in one report: a page that can still be read, and a bar for each."""
MARKDOWN_MAX = 60_000
"""Characters of a report in Markdown: GitHub takes comments of up to 65,536."""

# -- sysroot ---------------------------------------------------------------------------------
BLS_ENTRY_MAX = 64 * KIB
"""A boot entry is a handful of lines; the kernel's command line ends at 4 KiB or less."""
ORIGIN_MAX = 1 * MIB
"""rpm-ostree's origins list packages; GKeyFile itself has no limit."""
KARGS_FILE_MAX = 64 * KIB
"""A file of kernel arguments that an image brings: many times what a kernel takes."""
KARGS_MAX = 1900
"""Bytes of a deployment's kernel arguments. x86-64 and arm64 cut off what is beyond 2047, and may
not find their root then; the boot link takes a hundred, boot loaders add their own."""
SETTINGS_MAX = 64 * KIB
"""A file of settings: there are a dozen keys."""
OS_RELEASE_MAX = 64 * KIB
"""A dozen short lines, of which two or three are looked at."""
EFI_PROGRAM_MAX = 16 * MIB
"""A boot loader for EFI: systemd-boot has 0.2 MiB."""
BOOT_MARGIN = 1 * MIB
"""One pax or GNU long-name header: room for 16 xattrs of the largest size."""

# -- lint ------------------------------------------------------------------------------------
INITRAMFS_MAX = 1 * GIB
"""What an initramfs may unpack to: it is unpacked into memory at boot. Large ones have 200 MiB."""
INITRAMFS_ENTRIES_MAX = 100_000
"""Entries of an initramfs. Large ones have 5,000."""
XZ_MEMORY_MAX = 128 * MIB
"""Memory for an xz decoder: xz -9 takes 65 MiB, Linux wants a dictionary of 1 MiB by default."""
ACCOUNTS_MAX = 4 * MIB
"""A file of users or groups, or of sysusers.d; one line has a hundred bytes."""
TMPFILES_MAX = 4 * MIB
"""A file of tmpfiles.d; one line has a hundred bytes, and an image may have one for each path."""
SECRET_READ = 64 * KIB
"""What is read of a file to see whether it is a secret. Keys and credentials are smaller."""
CACHE_LEAST = 1 * MIB
"""A cache smaller than this is told of by nobody: it costs less than a look at it."""

# -- health ----------------------------------------------------------------------------------
FAILED_IMAGES = 64
"""Images that failed on this host and are remembered; a host sees a handful in its life."""
FAILED_IMAGES_SIZE = 64 * KIB
"""The file that has them, 72 bytes each."""
GRUB_ENVIRONMENT_MAX = 64 * KIB
"""GRUB's environment block has 1 KiB; some tools make larger ones."""
CHECK_TIMEOUT = 600
"""Seconds for one health check, unless the settings say otherwise; greenboot sets no end, but one
that hangs must fail. Checks that wait for a cluster of containers take five minutes."""
DEPLOYMENTS_KEPT = 2
"""Deployments that stay at the least, as with libostree: what boots next, and what ran before."""
BOOT_ATTEMPTS = 3
"""Boots of a new deployment before it is rolled back, unless the settings say otherwise; as
greenboot. One failure may be of the network, three are of the image."""

# -- building --------------------------------------------------------------------------------
PACKAGES_MAX = 64 * MIB
"""A file of a package database: dpkg's status of 5,000 packages has 6 MiB."""
RPM_DATABASE_MAX = 1 * GIB
"""rpm's database: 100 KiB for each package is usual."""
RPM_PACKAGES_MAX = 100_000
"""Packages in it; all of Fedora is 75,000."""
RPM_HEADER_MAX = 64 * MIB
"""One of its headers, held in memory: that of a font or firmware package has a few MiB."""
RPM_SQLITE_STEPS_MAX = 1_000_000_000
"""Instructions of SQLite's machine to read it: it takes some ten a package."""
PACKED_MAX = 16 * MIB
"""What is known of packed layers, a few hundred bytes each. Held in memory."""
CHANGELOG_READ = 64 * KIB
"""What is read of a package's changelog, unpacked: years of it, and only its times are wanted."""

# -- sync jobs -------------------------------------------------------------------------------
SYNC_CONNECTIONS_MAX = 8
"""To the health and metrics of a sync server at once: each is a thread, and a scraper and two
probes need three."""
SYNC_REQUEST_MAX = 8 * KIB
"""Bytes of a request's head there: a scraper sends some hundred."""
SYNC_REQUEST_TIMEOUT = 5.0
"""Seconds in which that head has to arrive: who sends a byte a second holds a thread no longer."""
SYNC_HISTORY_MAX = 16 * MIB
"""Of `history.jsonl` in the state of sync jobs; then it becomes `history.jsonl.1`, in the place of
what was that. At 3 kB for a run of a few jobs some ten thousand runs, the younger half always."""
SYNC_RECORD_MAX = 256 * KIB
"""Of one line there: of a run with more jobs or failures than that holds, the lists are cut."""
SYNC_RUNS_SHOWN = 1000
"""Of the history, its end: held in memory, and more bars than a screen has room for."""
SYNC_REQUESTS_AT_ONCE = 8
"""To one registry, unless the configuration says otherwise: what hides the round trips of many
small questions, and what registries do not take for an attack."""
SYNC_LISTS_AHEAD = 3
"""Repositories of a job whose tags are listed before there are hands for them: more would be names
in memory that nobody waits for."""
SYNC_IMAGES_AT_ONCE = 6
"""Of all jobs that run, unless the configuration says otherwise: more wait for the same hosts."""
SYNC_BLOBS_KNOWN = 200_000
"""Blobs of which a run remembers that a target has them, some 300 bytes each; of those before, it
asks again."""
SYNC_TAGS_REPORTED = 20_000
"""Tags of one job that a report lists, some 600 bytes each; beyond, unchanged ones are counted."""
SYNC_FAILURES_REPORTED = 10_000
"""Failures of one job that a report lists; beyond, they are counted."""
SYNC_CONFIG_MAX = 1 * MIB
"""A configuration: a job is some 300 bytes, so thousands; a Kubernetes ConfigMap has this limit."""
SYNC_CONFIG_NODES_MAX = 100_000
"""Keys and values of a configuration, those that anchors repeat counted again: each becomes an
object in memory, and nine lines of aliases to one another would be a billion."""
SYNC_CONFIG_DEPTH_MAX = 20
"""Lists and mappings in one another; a configuration needs seven. An alias in itself has no end."""
SYNC_MISTAKES_MAX = 20
"""Mistakes of a configuration that are told at once: who has more begins with these."""
SYNC_SECRET_MAX = 64 * KIB
"""A file with a password, or what `{{file}}` reads: tokens have a few KiB."""
SYNC_TEMPLATE_MAX = 64 * KIB
"""Characters of a template, and of what it makes: references, which have some hundred."""
SYNC_PATTERN_MEMORY_MAX = 8 * MIB
"""For one regular expression, compiled: RE2's own default."""
SYNC_SHARDS_MAX = 1000
"""Processes that share a configuration: each of them lists all catalogs."""
SYNC_HOOK_TIMEOUT = 600.0
"""Seconds for one hook: it may scan an image, but one that hangs must not hold a job for ever."""
