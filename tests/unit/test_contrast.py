"""The colours of the pages: text can be read in the light and in the dark scheme (WCAG 2.2, 1.4.3: 4.5 to 1)."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import mirror

ROOT = Path(mirror.__file__).parent
PAGES = ("parity/report.css", "sidecar/serve/page/page.css")
#: Variables for what is behind text.
GROUNDS = ("ground", "card")
#: The least contrast of text that is not large.
LEAST = 4.5


def schemes(css: str) -> list[dict[str, str]]:
    """The colours of both schemes, light and dark, by their names: ``#rrggbb`` or ``#rgb``."""
    light, dark = (
        dict(re.findall(r"--(\w+): (#\w+)", block)) for block in re.findall(r":root \{(.*?)\}", css, re.DOTALL)
    )
    return [light, light | dark]


def of_text(css: str) -> set[str]:
    """The names of all colours that text has."""
    named = set(re.findall(r"(?<![-\w])color: var\(--(\w+)\)", css))
    while indirect := {name for name in named if re.search(rf"--{name}: var", css)}:
        named -= indirect
        for name in indirect:
            named |= set(re.findall(rf"--{name}: var\(--(\w+)\)", css))
    return named


def light_of(colour: str) -> float:
    """Relative luminance: https://www.w3.org/TR/WCAG22/#dfn-relative-luminance."""
    digits = colour[1:] if len(colour) == 7 else "".join(2 * digit for digit in colour[1:])
    parts = [int(digits[at : at + 2], 16) / 255 for at in (0, 2, 4)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return sum(weight * part for weight, part in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


def contrast(one: str, other: str) -> float:
    """From 1 to 21: https://www.w3.org/TR/WCAG22/#dfn-contrast-ratio."""
    darker, lighter = sorted((light_of(one), light_of(other)))
    return (lighter + 0.05) / (darker + 0.05)


def test_the_formula() -> None:
    assert contrast("#000", "#ffffff") == pytest.approx(21)
    assert contrast("#777777", "#fff") == pytest.approx(4.48, abs=0.01)


@pytest.mark.parametrize("name", PAGES)
def test_text_can_be_read(name: str) -> None:
    css = (ROOT / name).read_text()
    colours = of_text(css)
    assert {"text", "quiet"} <= colours and len(colours) >= 5
    # No colour of text is given but by its name, so that none escapes this test.
    assert not re.search(r"(?<![-\w])color: (?!var)", css) and "opacity: ." not in css
    for scheme in schemes(css):
        for ground in [scheme[name] for name in GROUNDS if name in scheme]:
            poor = {each: round(contrast(scheme[each], ground), 2) for each in colours}
            assert min(poor.values()) >= LEAST, (ground, poor)
