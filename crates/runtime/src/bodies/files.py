"""What a parameter makes of a file that was sent to it."""

import io
import types
import typing

FILES = (
    io.BytesIO,
    io.BufferedIOBase,
    io.BufferedReader,
    io.IOBase,
    io.RawIOBase,
    typing.BinaryIO,
    typing.IO,
)
LISTS = ("list", "Sequence", "Iterable", "Collection", "tuple")


class File(io.BytesIO):
    """A file that came with a request."""

    def __init__(self, content, name, media):
        super().__init__(content)
        self.name = name
        self.content_type = media


def kind_of(annotation):
    """`bytes`, `file`, `text` or None for what says nothing; and whether it takes several."""
    origin = typing.get_origin(annotation)
    arguments = typing.get_args(annotation)
    if origin is typing.Annotated:
        return kind_of(arguments[0])
    if origin is typing.Union or origin is types.UnionType:
        kinds = [kind_of(part) for part in arguments if part is not type(None)]
        return next((kind for kind in kinds if kind[0] is not None), kinds[0])
    if origin is typing.IO:
        return ("text" if arguments == (str,) else "file", False)
    if getattr(origin, "__name__", None) in LISTS and arguments:
        return kind_of(arguments[0])[0], True
    if annotation in (bytes, bytearray):
        return "bytes", False
    if annotation is str:
        return "text", False
    return ("file" if annotation in FILES else None), False
