import pytest

from shardify.errors import VideoError
from shardify.faces.track import Face, FaceSettings, face_box, link_faces, overlap

SHOWN = (400, 300)
PLAIN = FaceSettings(margin=0.0)


def face(x, y, side=40, score=0.9):
    return Face((float(x), float(y), float(side), float(side)), score)


def still(count=16, **at):
    return [[face(**{"x": 100, "y": 80} | at)] for _ in range(count)]


def test_overlap_is_intersection_over_union():
    assert overlap((0, 0, 10, 10), (5, 0, 10, 10)) == pytest.approx(1 / 3)
    assert overlap((0, 0, 10, 10), (10, 0, 10, 10)) == 0


def test_a_face_that_stands_still_gives_its_own_box():
    found = face_box(still(), SHOWN, PLAIN)
    assert found.box == (100, 80, 40, 40)
    assert (found.faces, found.seen, found.widened, found.score) == (1, 16, False, pytest.approx(0.9))


def test_margin_is_added_on_every_side_and_the_box_is_shifted_inside():
    assert face_box(still(), SHOWN, FaceSettings(margin=0.5)).box == (80, 60, 80, 80)
    assert face_box(still(x=10, y=250), SHOWN, FaceSettings(margin=0.5)).box == (0, 220, 80, 80)
    assert face_box(still(x=0, y=0, side=290), SHOWN, FaceSettings(margin=0.5)).box == (0, 0, 400, 300)


def test_boxes_are_whole_pixels_in_steps_of_two():
    box = face_box(still(x=101.3, y=77.7, side=41.9), SHOWN, FaceSettings(margin=0.1)).box
    assert all(side % 2 == 0 for side in box)


def test_jitter_is_smoothed_away():
    frames = [[face(100 + (i % 3) - 1, 80 + (i % 2), 40 + i % 4)] for i in range(16)]
    found = face_box(frames, SHOWN, PLAIN)
    assert found.box[2] == found.box[3] == 42 and not found.widened
    assert abs(found.box[0] - 100) <= 2 and abs(found.box[1] - 80) <= 2


def test_a_face_that_moves_is_followed_and_the_box_widened_to_half_as_much_again_at_most():
    frames = [[face(100 + 2 * i, 80)] for i in range(16)]
    found = face_box(frames, SHOWN, PLAIN)
    assert found.widened and found.box[2] == 60
    assert abs(found.box[0] + 30 - (100 + 130 + 40) / 2) <= 2


def test_persons_are_kept_apart_and_the_main_one_wins():
    frames = [[face(60, 80, 30), face(250, 80, 60)] for _ in range(16)]
    assert [len(track) for track in link_faces(frames)] == [16, 16]
    found = face_box(frames, SHOWN, PLAIN)
    assert found.box == (250, 80, 60, 60) and found.faces == 2
    unsure = [[face(60, 80, 60, score=0.95), face(250, 80, 60, score=0.6)] for _ in range(16)]
    assert face_box(unsure, SHOWN, PLAIN).box[0] == 60


def test_of_equals_the_one_nearer_the_middle_wins_and_then_the_left_one():
    frames = [[face(20, 130), face(220, 130)] for _ in range(4)]
    assert face_box(frames, SHOWN, PLAIN).box[0] == 220
    frames = [[face(280, 130), face(80, 130)] for _ in range(4)]
    assert face_box(frames, SHOWN, PLAIN).box[0] == 80


def test_gaps_of_three_frames_are_bridged_and_no_longer_ones():
    frames = [[] if 5 <= i <= 7 else [face(100, 80)] for i in range(16)]
    assert [len(track) for track in link_faces(frames)] == [13]
    assert face_box(frames, SHOWN, PLAIN).seen == 13
    frames = [[] if 5 <= i <= 8 else [face(100, 80)] for i in range(20)]
    assert [len(track) for track in link_faces(frames)] == [5, 11]


@pytest.mark.parametrize(("count", "missed"), [(16, 4), (16, 16), (4, 1), (1, 1)])
def test_a_face_that_is_missing_in_a_quarter_of_the_frames_is_a_reason(count, missed):
    frames = [[] if i < missed else [face(100, 80)] for i in range(count)]
    with pytest.raises(VideoError, match=rf"^no face found in {missed} of {count} frames; use --boxes, or build wi"):
        face_box(frames, SHOWN, PLAIN)


def test_small_faces_do_not_count():
    frames = [[face(100, 80, side=14)] for _ in range(4)]
    with pytest.raises(VideoError, match="no face found in 4 of 4"):
        face_box(frames, SHOWN, FaceSettings(least_size=0.05))
    assert face_box(frames, SHOWN, FaceSettings(margin=0, least_size=0.04)).box == (100, 80, 14, 14)


def test_a_passer_by_of_a_few_frames_is_nobody():
    frames = [[face(100, 80), *([face(300, 80)] if i < 3 else [])] for i in range(16)]
    assert face_box(frames, SHOWN, PLAIN).faces == 1


def test_a_face_elsewhere_is_another_person():
    frames = [[face(20, 80)], [face(300, 80)], [face(300, 80)]]
    assert [sorted(track) for track in link_faces(frames)] == [[0], [1, 2]]
