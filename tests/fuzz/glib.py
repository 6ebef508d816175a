"""GLib, which OSTree's formats come from, and the C library: second opinions, through ctypes."""

from __future__ import annotations

import ctypes
from functools import cache

Pointer = ctypes.c_void_p
GVARIANT_DEPTH_MAX = 128


@cache
def _glib() -> ctypes.CDLL:
    try:
        library = ctypes.CDLL("libglib-2.0.so.0")
    except OSError:
        raise RuntimeError("GLib is missing; apt-get install libglib2.0-0") from None
    library.g_variant_new_from_data.restype = Pointer
    library.g_variant_new_from_data.argtypes = [
        ctypes.c_char_p, Pointer, ctypes.c_size_t, ctypes.c_int, Pointer, Pointer,
    ]  # fmt: skip
    library.g_variant_is_normal_form.argtypes = [Pointer]
    library.g_variant_unref.argtypes = [Pointer]
    library.g_key_file_new.restype = Pointer
    library.g_key_file_unref.argtypes = [Pointer]
    library.g_key_file_load_from_data.argtypes = [
        Pointer, ctypes.c_char_p, ctypes.c_size_t, ctypes.c_int, Pointer,
    ]  # fmt: skip
    library.g_key_file_get_groups.restype = ctypes.POINTER(ctypes.c_char_p)
    library.g_key_file_get_groups.argtypes = [Pointer, Pointer]
    library.g_key_file_get_keys.restype = ctypes.POINTER(ctypes.c_char_p)
    library.g_key_file_get_keys.argtypes = [Pointer, ctypes.c_char_p, Pointer, Pointer]
    library.g_key_file_get_string.restype = Pointer
    library.g_key_file_get_string.argtypes = [Pointer, ctypes.c_char_p, ctypes.c_char_p, Pointer]
    library.g_free.argtypes = library.g_strfreev.argtypes = [Pointer]
    return library


def is_normal(type_string: str, data: bytes) -> bool:
    """Tell whether GLib takes `data` for a value of that type in normal form."""
    glib = _glib()
    # Aligned as malloc does it; GLib would copy it otherwise.
    buffer = ctypes.create_string_buffer(data, max(1, len(data)))
    value = glib.g_variant_new_from_data(type_string.encode(), buffer, len(data), 0, None, None)
    try:
        return bool(glib.g_variant_is_normal_form(value))
    finally:
        glib.g_variant_unref(value)


def key_file(data: bytes) -> dict[tuple[str, str], str | None] | None:
    """Return a key file's values by group and key, None where GLib refuses one; None for no file.

    Keys with a locale (`Name[de]`) are left out.
    """
    glib = _glib()
    file = glib.g_key_file_new()
    try:
        if not glib.g_key_file_load_from_data(file, data, len(data), 0, None):
            return None
        found: dict[tuple[str, str], str | None] = {}
        groups = glib.g_key_file_get_groups(file, None)
        for group in _texts(groups):
            keys = glib.g_key_file_get_keys(file, group, None, None)
            for key in _texts(keys):
                pointer = glib.g_key_file_get_string(file, group, key, None)
                text = None if pointer is None else ctypes.string_at(pointer).decode()
                found[group.decode(errors="replace"), key.decode(errors="replace")] = text
                glib.g_free(pointer)
            glib.g_strfreev(keys)
        glib.g_strfreev(groups)
        return found
    finally:
        glib.g_key_file_unref(file)


def _texts(array: object) -> list[bytes]:
    texts = []
    while array and array[len(texts)] is not None:  # type: ignore[index]
        texts.append(array[len(texts)])  # type: ignore[index]
    return texts


def strverscmp(one: bytes, other: bytes) -> int:
    """Compare two versions as the C library does: below, at or above 0."""
    return int(ctypes.CDLL(None).strverscmp(one, other))
