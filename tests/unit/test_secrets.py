"""Secrets at rest: the original's form, keys, and their rotation."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mirror.core.errors import ConfigError, MirrorError, StorageError
from mirror.storage.secrets import PREFIX, Keyring, load_keyring

OLD, NEW, OTHER = bytes(range(32)), bytes([7] * 32), bytes([9] * 32)

#: Made by the original's algorithm, with Node's crypto: aes-256-gcm, key OLD, the IV that the value shows.
ORIGINAL = {
    "enc:v1:000102030405060708090a0b:8e0379ee413c8edbfff869e0c83d09c9:3469fb6fa096b6364efdba7b2e67f1": "sk-test-ü-🎉",
    "enc:v1:ffeeddccbbaa998877665544:f7663870c10efd0e3e5a653921bddc00:": "",
}


@pytest.mark.parametrize(("value", "text"), ORIGINAL.items())
def test_what_the_original_has_encrypted_is_readable(value: str, text: str) -> None:
    assert Keyring([OLD]).decrypt(value) == text
    assert Keyring([NEW, OLD]).decrypt(value.upper().replace("ENC:V1:", "enc:v1:")) == text


@given(st.text(st.characters(exclude_categories=("Cs",))))
def test_what_is_encrypted_is_what_is_decrypted(text: str) -> None:
    keys = Keyring([OLD])
    value = keys.encrypt(text)
    assert keys.decrypt(value) == text and value.startswith(PREFIX) and keys.renewed(value) == value
    assert re.fullmatch(r"enc:v1:[0-9a-f]{24}:[0-9a-f]{32}:[0-9a-f]*", value)


def test_the_same_text_is_never_encrypted_to_the_same_value() -> None:
    keys = Keyring([OLD])
    assert len({keys.encrypt("same") for _ in range(1000)}) == 1000


def test_rotation_leaves_both_keys_readable_until_it_is_finished() -> None:
    before = [Keyring([OLD]).encrypt(text) for text in ("a", "b")]
    during = Keyring([NEW, OLD])
    assert [during.decrypt(value) for value in before] == ["a", "b"]
    assert all(during.renewed(value) != value for value in before)
    after = [during.renewed(value) for value in before]
    assert [during.renewed(value) for value in after] == after
    assert [Keyring([NEW]).decrypt(value) for value in after] == ["a", "b"]
    with pytest.raises(StorageError, match="none of the keys fits"):
        Keyring([NEW]).decrypt(before[0])


@pytest.mark.parametrize("part", [7, 20, 40, -1])
def test_a_changed_value_is_refused(part: int) -> None:
    value = Keyring([OLD]).encrypt("secret")
    changed = list(value)
    changed[part] = "0" if changed[part] != "0" else "1"
    with pytest.raises(StorageError):
        Keyring([OLD]).decrypt("".join(changed))


@pytest.mark.parametrize(
    "value",
    [
        "",
        "plain text",
        "enc:v1:",
        "enc:v1:00:00:00",
        "enc:v2:000102030405060708090a0b:8e0379ee413c8edbfff869e0c83d09c9:34",
        "enc:v1:000102030405060708090a0b:8e0379ee413c8edbfff869e0c83d09c9:346",
        "enc:v1:000102030405060708090a0b:8e0379ee413c8edbfff869e0c83d09:3469",
        "enc:v1:000102030405060708090a0b:8e0379ee413c8edbfff869e0c83d09c9:34\n",
        "enc:v1:000102030405060708090a0b:8e0379ee413c8edbfff869e0c83d09c9:zz",
    ],
)
def test_a_value_of_another_form_is_refused(value: str) -> None:
    with pytest.raises(StorageError, match="does not have the form"):
        Keyring([OLD]).decrypt(value)


def test_keys_are_in_no_text() -> None:
    keys = Keyring([OLD, NEW])
    shown = [repr(keys), str(keys)]
    for value in ("plain", Keyring([OTHER]).encrypt("secret")):
        with pytest.raises(StorageError) as error:
            keys.decrypt(value)
        shown += [str(error.value), repr(error.value), str(error.value.to_dict())]
    assert not any(key.hex() in text or "secret text" in text for key in (OLD, NEW) for text in shown)


def test_the_keys_of_the_environment_come_first(tmp_path: Path) -> None:
    _key_file(tmp_path / ".master-key", OTHER.hex())
    _key_file(tmp_path / "keys", f"{OLD.hex()}\n")
    loaded = load_keyring({"MIRROR_SECRET_KEY": f" {NEW.hex()},{OLD.hex()} "}, tmp_path)
    assert loaded.fingerprints == Keyring([NEW, OLD]).fingerprints
    loaded = load_keyring({"MIRROR_SECRET_KEY_FILE": str(tmp_path / "keys")}, tmp_path)
    assert loaded.fingerprints == Keyring([OLD]).fingerprints


def test_the_original_key_file_is_used(tmp_path: Path) -> None:
    _key_file(tmp_path / ".master-key", OLD.hex())
    for value, text in ORIGINAL.items():
        assert load_keyring({}, tmp_path).decrypt(value) == text


def test_a_key_file_with_several_keys(tmp_path: Path) -> None:
    _key_file(tmp_path / ".master-key", f"{NEW.hex()}\n{OLD.hex()}\n")
    assert load_keyring({}, tmp_path).fingerprints == Keyring([NEW, OLD]).fingerprints


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o604, 0o660])
def test_a_key_file_that_others_may_read_is_refused(tmp_path: Path, mode: int) -> None:
    path = _key_file(tmp_path / ".master-key", OLD.hex())
    path.chmod(mode)
    with pytest.raises(ConfigError, match="chmod 600"):
        load_keyring({}, tmp_path)


@pytest.mark.parametrize("text", ["", "00", "x" * 64, OLD.hex() + "0", OLD.hex() + " 00", "ü" * 64])
def test_what_is_no_key_is_refused_without_being_shown(tmp_path: Path, text: str) -> None:
    _key_file(tmp_path / ".master-key", text)
    for environment in ({}, {"MIRROR_SECRET_KEY": text or "zz"}):
        with pytest.raises(ConfigError) as error:
            load_keyring(environment, tmp_path)
        assert OLD.hex() not in str(error.value) and "openssl rand -hex 32" in str(error.value)


def test_without_a_key_it_is_said_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="openssl rand -hex 32"):
        load_keyring({}, tmp_path)
    with pytest.raises(MirrorError):
        Keyring([])
    with pytest.raises(MirrorError):
        Keyring([b"short"])


def _key_file(path: Path, text: str) -> Path:
    path.write_text(text)
    path.chmod(0o600)
    return path
