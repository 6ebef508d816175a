"""The process that `tables` starts: it reads tables of contents, one after the other.

A program by itself. Its arguments are where modules are to be found. On its input and output
everything is a frame, eight bytes of length before it: a request comes in one, the answer goes out
in those of a flat index, or is an empty one where there is no index to be had. It ends with its
input.
"""

import gc
import marshal
import sys
from struct import Struct
from typing import BinaryIO

LENGTH = Struct("=Q")


def main(requests: BinaryIO, answers: BinaryIO) -> None:
    """Answer all that is asked for."""
    from bridge.errors import MalformedImage
    from bridge.layer import flat_index, indexed

    gc.disable()  # there is nothing but tuples, and they are gone before there are others
    while header := requests.read(LENGTH.size):
        annotations, size, compression, tail, most = marshal.loads(
            requests.read(*LENGTH.unpack(header))
        )
        try:
            location = indexed.locate(annotations, size, compression)
            assert location is not None
            for piece in flat_index.flatten(indexed.read(location, tail, most)):
                answers.write(LENGTH.pack(len(piece)))
                answers.write(piece)
        except (MalformedImage, indexed.MoreNeeded):
            answers.write(LENGTH.pack(0))
        answers.flush()


if __name__ == "__main__":
    sys.path.extend(sys.argv[1:])
    main(sys.stdin.buffer, sys.stdout.buffer)
