"""WebDataset tars of other writers are read; hostile and damaged ones are refused at once, in little memory."""

import io
import json
import struct
import tarfile
import time
import tracemalloc

import numpy as np
import pytest
from builds import unpack
from folders import FRAMES, SIZE
from foreign_tars import CLIPS, MEMBER, SOUND, jpg, pixels, tar_of, write
from PIL import Image
from runs import run_small

from shardify.format.members import frames
from shardify.format.members.array import encode_array
from trainer import ClipLoader
from trainer.errors import FormatError
from trainer.shards.shard_set import open_shards


def test_sheets_with_the_number_of_frames_given(tmp_path):
    path = write(tmp_path / "a.tar", ({"__key__": f"x/{i}", "jpg": jpg(i), "cls": i % 3} for i in range(6)))
    with pytest.raises(FormatError, match=r"data\.sheet_frames=N"):
        open_shards(path)
    shards = open_shards(path, frames=FRAMES)
    assert (shards.classes, shards.frames, shards.size) == (["0", "1", "2"], FRAMES, SIZE)
    assert [shards.key(number) for number in range(6)] == [f"x/{i}" for i in range(6)]
    expected = [MEMBER.decode(jpg(i)) for i in range(6)]
    assert np.array_equal(pixels(shards), expected)


def test_a_json_says_what_it_can(tmp_path):
    about = {"frames": FRAMES, "class": "cat", "split": "val", "group": "g"}
    samples = [{"__key__": f"{i}", "jpg": jpg(i), "cls": 1, "json": about, "mel.npz": b"?"} for i in range(2)]
    shards = open_shards(write(tmp_path / "a.tar", samples))
    assert (shards.classes, shards.frames) == (["0", "cat"], FRAMES)
    assert len(shards.numbers("val")) == 2
    assert len(np.unique(shards.samples["group"])) == 1


def test_arrays_and_splits_by_name(tmp_path):
    for split, numbers in (("train", [0, 1, 2]), ("validation", [3]), ("test", [4, 5])):
        write(tmp_path / f"{split}-0.tar", ({"__key__": f"{i}", "npy": CLIPS[i], "cls": i % 2} for i in numbers))
    shards = open_shards(tmp_path)
    assert (shards.frames, shards.size) == (FRAMES, SIZE)
    assert [len(shards.numbers(split)) for split in ("train", "val", "test")] == [3, 1, 2]
    assert np.array_equal(pixels(shards), CLIPS[:3])


def test_a_run_on_foreign_tars(tmp_path):
    samples = ({"__key__": f"k{i}", "jpg": jpg(i % 6), "cls": i % 2} for i in range(24))
    path = write(tmp_path / "all.tar", samples)
    record = run_small(path, tmp_path / "run", f"data.sheet_frames={FRAMES}", "epochs=1")
    assert record["test"]["split"] == "val"
    assert record["shards"]["clips"]["train"] + record["shards"]["clips"]["val"] == 24


@pytest.mark.parametrize("extension", ["jpg", "JPEG", "png", "npy"])
@pytest.mark.parametrize("prefix", ["", "x/"])
def test_unpacked_tars_are_the_same_clips(tmp_path, extension, prefix):
    """In folders named after the tars; the keys may hold folders themselves."""
    png = io.BytesIO()
    Image.fromarray(frames.to_sheet(CLIPS[0])).save(png, "PNG")
    content = {"jpg": jpg(0), "JPEG": jpg(0), "png": png.getvalue(), "npy": encode_array(CLIPS[0])}[extension]
    for name, labels in (("train-0", (0, 1, 0)), ("val-0", (1, 0))):
        members = [
            (f"{prefix}k{i}.{end}", data, {})
            for i, label in enumerate(labels)
            for end, data in ((extension, content), ("cls", b"%d" % label))
        ]
        (tmp_path / f"{name}.tar").write_bytes(tar_of(*members))
    packed = open_shards(tmp_path, frames=FRAMES)
    expected = pixels(packed)
    unpack(tmp_path)
    shards = open_shards(tmp_path, frames=FRAMES)
    assert shards.unpacked
    for name in ("key", "split", "label_class", "frames_length"):
        assert np.array_equal(shards.samples[name], packed.samples[name])
    assert np.array_equal(pixels(shards), expected)
    if extension in ("png", "npy"):
        assert np.array_equal(expected[0], CLIPS[0])
    for path in tmp_path.rglob("*.cls"):  # while training, nobody opens one
        path.unlink()
    assert np.array_equal(pixels(shards), expected)


def test_one_unpacked_tar(tmp_path):
    (tmp_path / "a.tar").write_bytes(tar_of(*SOUND))
    unpack(tmp_path)
    for folder in (tmp_path, tmp_path / "a"):
        assert len(open_shards(folder, frames=FRAMES).samples) == 1


def test_links_in_unpacked_tars_are_refused(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "k.cls").write_bytes(b"0")
    (tmp_path / "a" / "k.jpg").symlink_to("/etc/passwd")
    with pytest.raises(FormatError, match=r"a/k\.jpg: is no plain file"):
        open_shards(tmp_path, frames=FRAMES)


def test_some_shards_of_ours(shards_folder):
    shards = open_shards(f"{shards_folder}/train-{{000000..000001}}.tar")
    whole = open_shards(shards_folder)
    expected = np.flatnonzero((whole.samples["split"] == 0) & (whole.samples["shard"] < 2))
    assert len(shards.samples) == len(expected) < 20
    assert shards.fingerprint != whole.fingerprint
    assert [shards.read(i) for i in range(len(expected))] == [whole.read(i) for i in expected]
    assert open_shards(shards_folder / "val-000000.tar").samples["split"].tolist() == [1] * 8


def gnu_sparse():
    header = bytearray(tarfile.TarInfo("a.jpg").tobuf(tarfile.GNU_FORMAT))
    header[156:157] = b"S"
    header[483:495] = b"%011o\0" % (512 << 20)
    header[148:156] = b"%06o\0 " % (sum(header[:148]) + 256 + sum(header[156:]))
    return bytes(header) + bytes(1024)


def pax(records):
    text = b"".join(b"%d %s\n" % (len(record) + 4, record) for record in records)
    return ("././@PaxHeader", text, {"type": b"x"})


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (tar_of(("a.jpg", b"", {"size": 1 << 32}), *SOUND), "claims 4294967296 bytes"),
        (tar_of(("a.jpg", b"", {"size": 1 << 40}), *SOUND), "claims|no tar header"),
        (gnu_sparse(), "is no plain file"),
        (tar_of(pax([b"GNU.sparse.major=1"]), *SOUND), "sparse"),
        (tar_of(pax([b"size=99999999"]), *SOUND), "sparse or huge"),
        (tar_of(("x", bytes(100_000), {"type": b"x"}), *SOUND), "a header at byte 0 takes 100000"),
        (tar_of(("x", b"99999 path=..\n", {"type": b"x"}), *SOUND), "a header at byte 0 is damaged"),
        (tar_of(("a.jpg", b"", {"type": tarfile.SYMTYPE, "linkname": "/etc/passwd"}), *SOUND), "is no plain file"),
        (tar_of(("a.jpg", b"", {"type": tarfile.LNKTYPE, "linkname": "/etc/passwd"}), *SOUND), "is no plain file"),
        (tar_of(("a.jpg", b"", {"type": tarfile.FIFOTYPE}), *SOUND), "is no plain file"),
        (tar_of(*SOUND, end=b""), "cut short"),
        (tar_of(*SOUND)[:-1500], "cut short|claims"),
        (tar_of(*SOUND)[:700], "claims"),
        (b"\x1f\x8b" + bytes(2000), "compressed, damaged or no tar"),
        (b"", "cut short"),
        (bytes(1024), "holds no sample"),
        (tar_of(("a.jpg", jpg(0), {})), "clip a has jpg; one"),
        (tar_of(("a.cls", b"0", {})), "clip a has cls; one"),
        (tar_of(("a.pkl", b"0", {}), ("a.cls", b"0", {})), "clip a has pkl, cls; one"),
        (tar_of(SOUND[0], *SOUND), "two .jpg"),
        (tar_of(SOUND[0], ("a.cls", b"fake", {})), "label b'fake'"),
        (tar_of(SOUND[0], ("a.cls", b"-1", {})), "label b'-1'"),
        (tar_of(SOUND[0], ("a.cls", b"1" * 10, {})), "a number from 0 to"),
        (tar_of(*SOUND, ("a.json", b"[" * 500_000, {})), "json that cannot be read"),
        (tar_of(("a.npy", b"\x93NUMPY" + bytes(100), {}), SOUND[1]), "cannot be decoded"),
        (tar_of(("a.npy", encode_array(CLIPS[0][..., :1]), {}), SOUND[1]), "no clip or sheet"),
        (tar_of(("a.png", jpg(0), {}), SOUND[1]), "cannot be decoded"),
        (tar_of(("a.jpg", b"no picture", {}), SOUND[1]), "cannot be decoded"),
        (tar_of(*SOUND, ("a.json", json.dumps({"frames": 10**9}).encode(), {})), "no clip or sheet"),
    ],
)  # fmt: skip
def test_hostile_and_damaged_tars_are_refused_quickly_in_little_memory(tmp_path, content, message):
    path = tmp_path / "a.tar"
    path.write_bytes(content)
    tracemalloc.start()
    start = time.perf_counter()
    with pytest.raises(FormatError, match=message) as caught:
        open_shards(path, frames=FRAMES)
    seconds, (_, peak) = time.perf_counter() - start, tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert "a.tar" in str(caught.value)
    assert seconds < 1
    assert peak < 64 << 20


def test_arrays_that_need_unpickling_are_refused(tmp_path):
    buffer = io.BytesIO()
    np.save(buffer, np.array([{"a": 1}], dtype=object), allow_pickle=True)
    path = tmp_path / "a.tar"
    path.write_bytes(tar_of(("a.npy", buffer.getvalue(), {}), SOUND[1]))
    with pytest.raises(FormatError, match=r"clip a cannot be decoded \(is no \.npy file that is read here"):
        open_shards(path)


def sparse_tar(path, name, head, num_bytes, *others):
    """A tar whose first member really is that large; on disk it takes next to nothing."""
    info = tarfile.TarInfo(name)
    info.size = num_bytes
    with path.open("wb") as file:
        file.write(info.tobuf(tarfile.GNU_FORMAT) + head)
        file.seek(512 + -(-num_bytes // 512) * 512)
        file.write(tar_of(*others))
    return path


@pytest.mark.parametrize(
    ("name", "head", "num_bytes", "message"),
    [
        ("a.jpg", jpg(0), (1 << 30) + 1, "clip a takes 1073741825 bytes; no clip is that large"),
        ("a.jpg", b"no picture", 1 << 29, "clip a cannot be decoded"),
        ("a.cls", b"1", 1 << 29, "clip a has the label"),
        ("a.json", b'{"frames":', 1 << 29, "json that cannot be read"),
        ("././@PaxHeader", b"99 path=b", 1 << 29, "a header at byte 0 takes 536870912 bytes"),
    ],
)
def test_members_that_really_are_huge_are_not_read(tmp_path, name, head, num_bytes, message):
    """Of each kind of member no more than it can need is taken into memory."""
    others = [member for member in SOUND if member[0] != name]
    path = sparse_tar(tmp_path / "a.tar", name, head, num_bytes, *others)
    if name.endswith("PaxHeader"):
        content = bytearray(path.read_bytes()[:512])
        content[156:157] = b"x"
        content[148:156] = b"%06o\0 " % (sum(content[:148]) + 256 + sum(content[156:]))
        with path.open("r+b") as file:
            file.write(content)
    tracemalloc.start()
    with pytest.raises(FormatError, match=message):
        open_shards(path, frames=FRAMES)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 16 << 20


NUMPY_HEADERS = ("", "(", "{'descr'", "{'a':", "1e999", "-" * 500 + "1", "\0",
                 "{'descr': '|u1', 'fortran_order': False, ",
                 "{'descr': '|u1', 'fortran_order': False, 'shape': (99999999999999999999, 16, 16, 3), }",
                 "{'descr': '|u1', 'fortran_order': False, 'shape': (-1, 16, 16, 3), }",
                 "{'descr': '|u1', 'fortran_order': False, 'shape': (True, 16, 16, 3), }",
                 "{'descr': '<f4', 'fortran_order': False, 'shape': (5, 16, 16, 3), }",
                 "{'descr': ('a', 'b'), 'fortran_order': False, 'shape': (5, 16, 16, 3), }")  # fmt: skip


@pytest.mark.parametrize("header", NUMPY_HEADERS)
@pytest.mark.parametrize("is_first", [True, False])
def test_damaged_numpy_headers_are_one_line(tmp_path, header, is_first):
    """NumPy's own reader raises a dozen types for them; behind a sound first clip they are seen in training."""
    text = header.encode()
    hostile = b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text + bytes(FRAMES * SIZE * SIZE * 3)
    clips = [("h", hostile), ("s", encode_array(CLIPS[0]))][:: 1 if is_first else -1]
    members = [(f"{key}.{end}", data, {}) for key, raw in clips for end, data in (("npy", raw), ("cls", b"0"))]
    path = tmp_path / "a.tar"
    path.write_bytes(tar_of(*members))
    with pytest.raises(FormatError, match=r"a\.tar: (clip h:? cannot be decoded \(.*\); |its first clip)") as caught:
        list(ClipLoader(path))
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 400


@pytest.mark.parametrize("with_simplejpeg", [True, False])
def test_a_picture_that_is_a_bomb_is_refused_unread(tmp_path, with_simplejpeg, monkeypatch):
    """A small JPEG that claims 65,500 × 65,500 pixels, behind a sound first clip."""
    if not with_simplejpeg:
        monkeypatch.setattr(frames, "simplejpeg", None)
    bomb = bytearray(jpg(0))
    at = bomb.index(b"\xff\xc0") + 5
    bomb[at : at + 4] = struct.pack(">HH", 65500, 65500)
    path = tmp_path / "a.tar"
    path.write_bytes(tar_of(*SOUND, ("b.jpg", bytes(bomb), {}), ("b.cls", b"1", {})))
    tracemalloc.start()
    with pytest.raises(FormatError, match=r"a\.tar: clip b: cannot be decoded \(.*(65500|4290250000)"):
        list(ClipLoader(open_shards(path, frames=FRAMES)))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 64 << 20


def test_two_kinds_in_one_set(tmp_path):
    write(tmp_path / "a.tar", [{"__key__": "a", "jpg": jpg(0), "cls": 0}])
    write(tmp_path / "b.tar", [{"__key__": "b", "npy": CLIPS[0], "cls": 0}])
    with pytest.raises(FormatError, match="clips of several kinds"):
        open_shards(tmp_path, frames=FRAMES)


def test_long_names(tmp_path):
    """As pax and as GNU headers: other writers' keys are not bound to our 80 characters."""
    key = "folder/" + "x" * 150
    for name, form in (("pax.tar", tarfile.PAX_FORMAT), ("gnu.tar", tarfile.GNU_FORMAT)):
        with tarfile.open(tmp_path / name, "w", format=form) as tar:
            for extension, content in (("jpg", jpg(0)), ("cls", b"1")):
                info = tarfile.TarInfo(f"{key}.{extension}")
                info.size = len(content)
                tar.addfile(info, io.BytesIO(content))
        shards = open_shards(tmp_path / name, frames=FRAMES)
        assert shards.key(0) == key
        assert shards.read(0) == [jpg(0)]


ODD = (
    [1], 5, "x", None, {"frames": True}, {"frames": "5"}, {"frames": 2.5}, {"split": ["val"]}, {"split": "elsewhere"},
    {"class": 3}, {"class": ["a"]}, {"group": {}},
)  # fmt: skip


@pytest.mark.parametrize("about", ODD)
def test_odd_values_in_a_json_count_for_nothing(tmp_path, about):
    path = tmp_path / "a.tar"
    path.write_bytes(tar_of(*SOUND, ("a.json", json.dumps(about).encode(), {})))
    shards = open_shards(path, frames=FRAMES)
    assert (shards.classes, shards.frames, shards.numbers("train").tolist()) == (["0", "1"], FRAMES, [0])
