import json
import re

import pytest
from made_trees import counts, jobs, make_tree, plan

from shardify.errors import UsageError
from shardify.format.settings import BuildSettings
from shardify.sources.layouts.split_list import read_split_list


def test_ucf101(tmp_path):
    """25 scenes of each class, of which the official list tests on the first 7."""
    names = [f"{c}/v_{c}_g{g:02d}_c{k:02d}.avi" for c in ("Archery", "YoYo") for g in range(1, 26) for k in (1, 2)]
    make_tree(tmp_path / "data", *names)
    test = [name for name in names if int(name.split("_g")[1][:2]) <= 7]
    train = [f"{name} {1 + name.startswith('YoYo')}" for name in names if name not in test]
    (tmp_path / "trainlist01.txt").write_text("\n".join(train) + "\n")
    (tmp_path / "testlist01.txt").write_text("\n".join(test) + "\n")
    (tmp_path / "testlist02.txt").write_text(train[0])
    built = plan(tmp_path / "data", split_file=tmp_path / "trainlist01.txt")
    assert counts(built) == {(s, c): n for s, n in (("train", 36), ("test", 14)) for c in ("Archery", "YoYo")}
    assert "split: official (testlist01.txt and trainlist01.txt)" in built.notes[0]
    assert {job.group for job in jobs(built) if "_g07_" in job.source} == {"Archery_g07", "YoYo_g07"}
    carved = jobs(plan(tmp_path / "data", BuildSettings(val_fraction=0.3), split_file=tmp_path / "testlist01.txt"))
    groups = {split: {job.group for job in carved if job.split == split} for split in ("train", "val", "test")}
    assert len(groups["test"]) == 14 and len(groups["val"]) > 5 and groups["train"].isdisjoint(groups["val"])
    assert len({job.group for job in jobs(plan(tmp_path / "data"))}) == 50  # recognised by the names alone


def test_hmdb51(tmp_path):
    clips = {"#20_Rhythm_clap_u_nm_np1_fr_goo_1.avi": 1, "b_(2)&c!_clap_1.avi": 2, "c_clap.avi": 0}
    others = {"a_wave_u.avi": 1, "b_wave_u.avi": 2}
    make_tree(tmp_path / "data", *(f"clap/{name}" for name in clips), *(f"wave/{name}" for name in others))
    for number, tags in (("1", 0), ("2", 1)):
        for name, found in (("clap", clips), ("wave", others)):
            lines = [f"{clip} {(tag + tags) % 3} " for clip, tag in found.items()]
            (tmp_path / f"{name}_test_split{number}.txt").write_text("\n".join(lines) + "\n")
    built = plan(tmp_path / "data", split_file=tmp_path / "wave_test_split1.txt")
    assert {job.path.name: job.split for job in jobs(built)} == {
        name: "train" if tag == 1 else "test" for name, tag in {**clips, **others}.items() if tag
    }
    assert "1 videos that the lists do not use left out" in built.notes[0]


@pytest.mark.parametrize("in_folders", [True, False])
def test_kinetics(tmp_path, in_folders):
    head, lists = "label,youtube_id,time_start,time_end,split\n", {}
    for split, word in (("train", "train"), ("val", "validate"), ("test", "test")):
        rows = [(name, f"{'-_a-'[i:]}{split}{name[0]}", i * 10) for i in (0, 2) for name in ("air drumming", "yoga")]
        lists[word] = head + "".join(f"{n},{c},{s},{s + 10},{word}\n" for n, c, s in rows)
        if split == "test":  # whose labels are not published
            lists[word] = "\n".join(line.partition(",")[2] for line in lists[word].splitlines())
        for name, clip, start in rows:
            folder = f"{split}/{name}" if in_folders else split
            make_tree(tmp_path / "data", f"{folder}/{clip}_{start:06d}_{start + 10:06d}.mp4")
    for word, text in lists.items():
        (tmp_path / f"kinetics_{word}.csv").write_text(text)
    make_tree(tmp_path / "data", "train/yoga/other_000000_000010.mp4" if in_folders else "train/other.mp4")
    built = plan(tmp_path / "data", split_file=tmp_path / "kinetics_train.csv")
    assert counts(built) == {(s, c): 2 for s in ("train", "val") for c in ("air drumming", "yoga")}
    assert "1 videos in no list left out; 4 videos that the lists do not use left out" in built.notes[0]


def test_something_something(tmp_path):
    make_tree(tmp_path / "data", *(f"20bn-something-something-v2/{i}.webm" for i in range(1, 9)))
    for word, ids in (("train", (1, 2, 3, 4)), ("validation", (5, 6)), ("test", (7,))):
        entries = [{"id": str(i), "label": f"pushing cup {i}", "template": "Pushing [something]"} for i in ids[::2]]
        entries += [{"id": str(i), "label": "x", "template": "Putting [something] on [something]"} for i in ids[1::2]]
        entries = [{"id": entry["id"]} for entry in entries] if word == "test" else entries
        (tmp_path / f"something-something-v2-{word}.json").write_text(json.dumps(entries))
    (tmp_path / "something-something-v2-labels.json").write_text('{"Pushing something": "0"}')
    built = plan(tmp_path / "data", split_file=tmp_path / "something-something-v2-train.json")
    assert built.classes == ["Pushing something", "Putting something on something"]
    assert {job.path.stem: (job.split, job.label) for job in jobs(built)} == {
        "1": ("train", 0), "2": ("train", 1), "3": ("train", 0), "4": ("train", 1), "5": ("val", 0), "6": ("val", 1),
    }  # fmt: skip
    assert "1 videos in no list left out; 1 videos that the lists do not use left out" in built.notes[0]


def test_any_other_list(tmp_path):
    make_tree(tmp_path / "data", "real/a.mp4", "real/b.mp4", "fake/c.mp4", "fake/d.mp4")
    (tmp_path / "mine.csv").write_text("path;split\n./real/a.mp4;train\ndata/fake/c;Training\nb.avi;test\nreal\\x;\n")
    built = plan(tmp_path / "data", split_file=tmp_path / "mine.csv")
    assert {job.path.stem: job.split for job in jobs(built)} == {"a": "train", "b": "test", "c": "train"}
    assert "split: as listed (mine.csv)" in built.notes[0]
    (tmp_path / "test.txt").write_text("real/b.mp4\nfake/d.mp4\n")
    built = plan(tmp_path / "data", split_file=tmp_path / "test.txt")
    assert {job.path.stem for job in jobs(built) if job.split == "test"} == {"b", "d"} and len(jobs(built)) == 4


def test_videos_that_are_listed_but_not_there(tmp_path):
    make_tree(tmp_path / "data", "real/videos/a.mp4", "fake/c.mp4")
    (tmp_path / "test.txt").write_text("real/a.mp4\nfake/d.mp4\nother/c.mp4\n")
    built = plan(tmp_path / "data", split_file=tmp_path / "test.txt")
    assert {job.path.stem for job in jobs(built) if job.split == "test"} == {"a"}
    assert "2 of 3 listed videos are not there" in built.notes
    (tmp_path / "test.txt").write_text("real/b.mp4\n")
    with pytest.raises(UsageError, match="names none of the 2 videos"):
        plan(tmp_path / "data", split_file=tmp_path / "test.txt")


def test_a_list_and_a_manifest(tmp_path):
    make_tree(tmp_path / "data", "1.mp4", "2.mp4")
    (tmp_path / "m.csv").write_text("path,class,split\n1.mp4,x,test\n2.mp4,y,test\n")
    (tmp_path / "train.json").write_text('["1", "2"]')
    built = plan(tmp_path / "data", manifest=tmp_path / "m.csv", split_file=tmp_path / "train.json")
    assert {job.split for job in jobs(built)} == {"train"}


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("train.json", "[" * 100_000, "cannot be read as a list of videos"),
        ("train.json", "{", "cannot be read as a list of videos"),
        ("train.json", '{"a": 1}', "is no list that is known here"),
        ("train.json", '[["000", "001", "002"]]', "is no list that is known here"),
        ("train.json", '["a\\u001b[31m"]', "is no list that is known here"),
        ("train.json", "[]", "is no list that is known here"),
        ("list.txt", "a.mp4\n", "its name says no split"),
        ("train_test.txt", "a.mp4\n", "its name says no split"),
        ("train.txt", "", "lists no video"),
        ("train.txt", "a\x00.mp4\n", "line 1: is no path of a video"),
        ("train.csv", "class\nx\n", "has no column path"),
        ("train.csv", "path,split\na.mp4,other\n", "row 2: split is other"),
        ("train.csv", "path,split\na.mp4\n", "row 2: has too few columns"),
        ("train.csv", "youtube_id,time_start,time_end\na,b,c\n", "row 2: time_start and time_end must be seconds"),
        ("x_test_split1.txt", "a.avi 3\n", "line 1: ends with 3"),
        ("list.csv", "path,split\na.mp4,train\n./a.mp4,test\n", "a.mp4 is listed twice"),
    ],
)
def test_lists_that_cannot_be_read(tmp_path, name, text, message):
    (tmp_path / name).write_text(text)
    with pytest.raises(UsageError, match=re.escape(message)):
        read_split_list(tmp_path / name)


def test_a_list_that_names_no_video(tmp_path):
    with pytest.raises(UsageError, match="is not a regular file"):
        read_split_list(tmp_path / "train.txt")
