"""Secrets at rest: AES-256-GCM, in the original's form ``enc:v1:<iv>:<tag>:<ciphertext>``, each part in hexadecimal.

A value that either program has encrypted can be read by the other one, if it has the key.

Keys come from ``MIRROR_SECRET_KEY``, or from the file that ``MIRROR_SECRET_KEY_FILE`` names, or from the original's
``.master-key`` in the state directory: 64 hexadecimal digits each, separated by spaces, commas or lines. The first
encrypts. All decrypt, so a key is rotated by putting a new one before it, encrypting once more what an older one has
encrypted (:meth:`Keyring.renewed`), and taking the old one away. Both are readable until then.
"""

from __future__ import annotations

import hashlib
import os
import re
import secrets
import stat
from collections.abc import Iterable, Mapping
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from mirror.core.errors import ConfigError, StorageError

PREFIX = "enc:v1:"
KEY_VARIABLE, FILE_VARIABLE = "MIRROR_SECRET_KEY", "MIRROR_SECRET_KEY_FILE"
#: The original's file of its key, in its state directory. It reads the first key of it.
KEY_FILE = ".master-key"

_KEY_BYTES, _IV_BYTES, _TAG_BYTES = 32, 12, 16
_FORM = re.compile(
    rf"{PREFIX}([0-9a-f]{{{2 * _IV_BYTES}}}):([0-9a-f]{{{2 * _TAG_BYTES}}}):((?:[0-9a-f]{{2}})*)", re.IGNORECASE
)


class Keyring:
    """The keys that a program has. Neither its text nor any error shows them. Thread: any."""

    def __init__(self, keys: Iterable[bytes]) -> None:
        """``keys``: of 32 bytes each, the one that encrypts first. Raises ``ConfigError`` without one."""
        given = list(dict.fromkeys(keys))
        if not given or any(len(key) != _KEY_BYTES for key in given):
            raise ConfigError(
                "load the keys of secrets",
                detail="a key has 32 bytes, and there must be one" if given else "there is no key",
                next_step=f"set {KEY_VARIABLE} or {FILE_VARIABLE}; `openssl rand -hex 32` makes a key",
            )
        self._ciphers = [AESGCM(key) for key in given]
        #: By which keys can be told apart without showing them, in the same order: 8 hexadecimal digits.
        self.fingerprints = tuple(hashlib.sha256(b"mirror key " + key).hexdigest()[:8] for key in given)

    def __repr__(self) -> str:
        """The keys' fingerprints."""
        return f"Keyring({', '.join(self.fingerprints)})"

    def encrypt(self, text: str) -> str:
        """A text, encrypted with the first key."""
        iv = secrets.token_bytes(_IV_BYTES)
        sealed = self._ciphers[0].encrypt(iv, text.encode(), None)
        return f"{PREFIX}{iv.hex()}:{sealed[-_TAG_BYTES:].hex()}:{sealed[:-_TAG_BYTES].hex()}"

    def decrypt(self, value: str) -> str:
        """The text that was encrypted with any of the keys.

        Raises ``StorageError`` for a value of another form, and for one that was changed or has another key.
        """
        return self._opened(value)[0]

    def renewed(self, value: str) -> str:
        """The value, encrypted with the first key; as it is, if it was. Raises as :meth:`decrypt` does."""
        text, key = self._opened(value)
        return value if key == 0 else self.encrypt(text)

    def _opened(self, value: str) -> tuple[str, int]:
        found = _FORM.fullmatch(value)
        if found is None:
            raise StorageError(
                "decrypt a secret",
                detail=f"it does not have the form {PREFIX}<iv>:<tag>:<ciphertext>",
                next_step="store the secret once more",
            )
        iv, tag, sealed = map(bytes.fromhex, found.groups())
        for number, cipher in enumerate(self._ciphers):
            try:
                opened = cipher.decrypt(iv, sealed + tag, None)
            except InvalidTag:
                continue
            return _text(opened), number
        raise StorageError(
            "decrypt a secret",
            detail=f"none of the keys fits ({', '.join(self.fingerprints)}), or the value was changed",
            next_step=f"add the key that encrypted it to {KEY_VARIABLE} or to its file, after the newest one",
        )


def _text(opened: bytes) -> str:
    try:
        return opened.decode()
    except UnicodeDecodeError:
        raise StorageError(
            "decrypt a secret", detail="it is not UTF-8", next_step="store the secret once more"
        ) from None  # the cause would show a part of it


def load_keyring(environment: Mapping[str, str], state_dir: Path) -> Keyring:
    """The keys of the environment, or else of a file. ``state_dir``: the original's, where its key is.

    Raises ``ConfigError``: there is none, one is not a key, or others may read the file.
    """
    if given := environment.get(KEY_VARIABLE, "").strip():
        return Keyring(_parsed(given, KEY_VARIABLE))
    named = environment.get(FILE_VARIABLE, "").strip()
    path = Path(named).expanduser() if named else state_dir / KEY_FILE
    return Keyring(_parsed(_read(path), str(path)))


def _read(path: Path) -> str:
    step = f"set {KEY_VARIABLE} or {FILE_VARIABLE}; `openssl rand -hex 32` makes a key"
    try:
        with path.open(encoding="ascii") as file:
            mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
            text = file.read()
    except FileNotFoundError:
        raise ConfigError("load the keys of secrets", str(path), "there is no such file", next_step=step) from None
    except UnicodeDecodeError:
        raise ConfigError("load the keys of secrets", str(path), "it is not a file of keys", next_step=step) from None
    except OSError as error:
        raise ConfigError("load the keys of secrets", str(path), error.strerror or "", next_step=step) from error
    if mode & 0o077:
        raise ConfigError(
            "load the keys of secrets",
            str(path),
            f"other users may read it (mode {mode:o})",
            next_step=f"chmod 600 {path}",
        )
    return text


def _parsed(text: str, place: str) -> list[bytes]:
    keys = []
    for number, word in enumerate(re.split(r"[\s,]+", text.strip()), 1):
        if not re.fullmatch(rf"[0-9a-fA-F]{{{2 * _KEY_BYTES}}}", word):
            raise ConfigError(
                "load the keys of secrets",
                place,
                f"key {number} is not {2 * _KEY_BYTES} hexadecimal digits",
                next_step="correct it; `openssl rand -hex 32` makes a key",
            )
        keys.append(bytes.fromhex(word))
    return keys
