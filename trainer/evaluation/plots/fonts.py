"""The choice of fonts for names in any script: matplotlib's own, then those of the machine that have what it lacks."""

from __future__ import annotations

import functools
import logging
import re

from matplotlib import font_manager
from matplotlib.ft2font import FT2Font

logger = logging.getLogger(__name__)

OWN = "DejaVu Sans"  # comes with matplotlib
STYLED = re.compile("bold|black|heavy|light|thin|italic|oblique|serif|mono", re.IGNORECASE)  # less legible in a plot


@functools.cache
def fonts_for(characters: frozenset[str]) -> tuple[list[str], frozenset[str]]:
    """The families that have these characters between them, and the characters that no installed font has.

    A warning, once for the same characters, names the latter and a package to install.
    """
    families, missing = [OWN], characters - _characters(font_manager.findfont(OWN))
    files = font_manager.findSystemFonts() if missing else []  # matplotlib's own list may be older than a font
    for path in sorted(files, key=lambda path: (bool(STYLED.search(path)), path)):
        try:
            if found := missing & _characters(path):
                font_manager.fontManager.addfont(path)
                families.append(FT2Font(path).family_name)
                missing -= found
        except Exception:  # a font of bitmaps, or a damaged one, raises what it likes
            continue
        if not missing:
            break
    if len(families) > 1:
        logging.getLogger("matplotlib.font_manager").setLevel(logging.ERROR)  # few of them have a bold face: no warning
    if missing:
        logger.warning(
            f"no installed font has {''.join(sorted(missing)[:10])}, so plots show the codes of such characters; "
            f"install one that has them, for Chinese, Japanese and Korean the package fonts-noto-cjk"
        )
    return families, missing


def _characters(path: str) -> frozenset[str]:
    return frozenset(map(chr, FT2Font(path).get_charmap()))
