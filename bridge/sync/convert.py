"""Conversion on the way: layers packed in another way, or content put into layers anew.

What became of a document, and of a layer, is kept with the job's state: a tag that leads where
another one led needs no conversion, and a layer that many images have is converted once.
"""

from __future__ import annotations

import json
from contextlib import ExitStack
from dataclasses import replace
from tempfile import TemporaryDirectory

from bridge.errors import BridgeError
from bridge.oci.digest import Digest
from bridge.oci.layout import Layout
from bridge.oci.model import Manifest, parse_config, parse_document
from bridge.oci.reference import ImageReference
from bridge.pull.spool import spool_directory
from bridge.push.compress import Packed, check_level
from bridge.push.copy import Part, blobs_of
from bridge.push.destination import Destination
from bridge.push.layouts import LayoutWriter
from bridge.push.origin import Origin, layout_origin
from bridge.push.repack_all import Repacked, Repacking
from bridge.push.report import CopiedBlob
from bridge.push.shared import Ledger
from bridge.sync.context import Context
from bridge.sync.model import Conversion
from bridge.sync.narrow import Narrowed
from bridge.sync.state import State


def convert(
    context: Context,
    conversion: Conversion,
    origin: Origin,
    wanted: Narrowed,
    place: Destination,
    reference: ImageReference,
) -> Repacked:
    """Have what an image becomes at `place`, but for its topmost document, and return that.

    `reference` is the image at its source, for what is pulled. Raises what `Repacking.run` does,
    and what pulling and rechunking raise.
    """
    check_level(conversion.compression, conversion.level)
    return _Conversion(context, conversion, origin, wanted, place, reference).run()


class _Conversion:
    def __init__(
        self,
        context: Context,
        conversion: Conversion,
        origin: Origin,
        wanted: Narrowed,
        place: Destination,
        reference: ImageReference,
    ) -> None:
        self._context = context
        self._conversion = conversion
        self._wanted = wanted
        self._place = place
        self._reference = reference
        ledger = context.hosts.ledger(f"conversion of {context.job.name}")
        part = Part(wanted.wants, context.job.include_external, context.check)
        self._plain = Repacking(
            origin, place, conversion.compression, conversion.level, context.progress.detail,
            KnownLayers(context.state, ledger), part,
        )  # fmt: skip

    def run(self) -> Repacked:
        """Do all of it."""
        return replace(self._plain, image=self._image).run(self._wanted.top)

    def _image(self, image: Manifest) -> Repacked | None:
        state = self._context.state
        if (before := self._again(image)) is not None:
            return before
        rechunks = self._conversion.rechunk
        made = self._rechunked(image) if rechunks else self._plain.repacked(image)
        if made is not None:
            state.put_converted(image.digest, made.document, made.media_type)
        return made

    def _again(self, image: Manifest) -> Repacked | None:
        """Return what the image became before, if all of that is at the place."""
        kept = self._context.state.converted(image.digest)
        if kept is None:
            return None
        document = parse_document(*kept)
        blobs = []
        for blob in blobs_of(document, external=False):
            outcome = self._place.has(blob.digest, blob.size)
            if outcome is None:
                self._place.gave_up(blob.digest)
                return None
            blobs.append(CopiedBlob(blob, outcome))
        return Repacked(*kept, tuple(blobs), changed=document.digest != image.digest)

    def _rechunked(self, image: Manifest) -> Repacked:
        from bridge.build.rechunk import rechunk
        from bridge.build.sbom import time_of
        from bridge.contents.pulled import pulled

        config = parse_config(b"".join(self._plain.source.blob(image.config)))
        created = int(time_of(config.created, None).timestamp())
        host = self._context.source.host
        network = None if host is None else self._context.hosts.network(host)
        with ExitStack() as stack:
            work = stack.enter_context(
                TemporaryDirectory(prefix="bootc-py-", dir=spool_directory())
            )
            found = stack.enter_context(
                pulled(self._reference, network=network, platform=config.platform)
            )
            with LayoutWriter.open(f"{work}/layers", None) as layout:
                rechunk(found.image, found.contents, layout, created=created)
            made = stack.enter_context(Layout.open(f"{work}/layers"))
            origin = layout_origin(made, made.resolve())
            done = replace(self._plain, source=origin, known=None, image=None).run(origin.top())
        return replace(done, changed=True)


class KnownLayers:
    """What layers became, in this run and before it."""

    def __init__(self, state: State, ledger: Ledger) -> None:
        self._state = state
        self._ledger = ledger

    def find(self, layer: Digest) -> Packed | None:
        """Return what a layer became, once nobody else is packing it; see `repack.Known`."""
        if self._ledger.claim(layer, "") is not None:
            found = self._kept(layer)
            if found is not None:
                self._ledger.learn(layer, "")
            return found
        return self._kept(layer)

    def took(self, layer: Digest, blob: Packed) -> None:
        """Take that the layer became that blob."""
        row = [blob.media_type, blob.digest, blob.size, dict(blob.annotations)]
        self._state.put_layer(layer, json.dumps(row))
        self._ledger.learn(layer, "")

    def gave_up(self, layer: Digest) -> None:
        """Take that the caller does not pack it."""
        self._ledger.release(layer)

    def _kept(self, layer: Digest) -> Packed | None:
        text = self._state.layer(layer)
        if text is None:
            return None
        try:
            media_type, digest, size, annotations = json.loads(text)
            return Packed(media_type, Digest.parse(digest), int(size), dict(annotations))
        except (ValueError, TypeError, BridgeError):
            return None
