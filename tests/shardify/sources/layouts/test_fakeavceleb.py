from made_trees import counts, jobs, make_tree, plan

from shardify.sources.catalog import list_sources

PEOPLE = [f"African/men/id{i:05d}" for i in range(15)] + [f"Asian (East)/women/id{i:05d}" for i in range(15, 30)]


def whole(root):
    """A real video of each person, three fakes of its pictures, and one of its sound alone."""
    for number, person in enumerate(PEOPLE):
        other = f"id{(number + 1) % 30:05d}"
        make_tree(root, f"RealVideo-RealAudio/{person}/00109.mp4", f"RealVideo-FakeAudio/{person}/00109_fake.mp4")
        make_tree(root / "FakeVideo-RealAudio" / person, f"00109_{other}_wavtolip.mp4", f"00109_{other}_x_Y-z_.mp4")
        make_tree(root / "FakeVideo-FakeAudio" / person, f"00109_1_{other}_wavtolip.mp4")
    return root


def test_pictures_decide_what_is_fake(tmp_path):
    built = plan(whole(tmp_path / "FakeAVCeleb"))
    assert built.notes[0] == (
        "FakeAVCeleb: 30 real, 90 fake; kinds FakeVideo-FakeAudio, FakeVideo-RealAudio, RealVideo-RealAudio; "
        "split: drawn here; 30 videos whose sound alone is fake left out"
    )
    assert built.classes == ["real", "fake"] and sum(counts(built).values()) == 120
    splits = {}
    for job in jobs(built):
        assert splits.setdefault(job.path.parent.name, job.split) == job.split
        real = job.source.replace("FakeVideo-FakeAudio", "RealVideo-RealAudio")
        real = real.replace("FakeVideo-RealAudio", "RealVideo-RealAudio").rpartition("/")[0]
        assert job.original == (f"{real}/00109.mp4" if job.class_name == "fake" else "")
    assert set(splits.values()) == {"train", "val", "test"}


def test_beside_other_folders_and_in_one(tmp_path):
    root = whole(tmp_path)
    make_tree(root, "elsewhere/a.mp4")
    (stray,) = (source for source in list_sources(root).sources if source.error)
    assert stray.source == "elsewhere/a.mp4" and "none of the folders of FakeAVCeleb" in stray.error
    sources = list_sources(root / "FakeVideo-RealAudio", layout="folders").sources
    assert {source.class_name for source in sources} == {"African", "Asian (East)"}
