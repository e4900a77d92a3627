import re
import shutil

import pytest
from made_trees import make_tree

from shardify.errors import UsageError
from shardify.sources.catalog import list_sources

PLAIN = {"real/a.mp4": "real", "fake/c.mp4": "fake"}


def read(data, text):
    """Source → class of what a manifest lists, and the catalog."""
    manifest = data.parent / "m.csv"
    manifest.write_text(text, encoding="utf-8")
    catalog = list_sources(data, manifest)
    return {source.source: source.class_name for source in catalog.sources if not source.error}, catalog


@pytest.mark.parametrize(
    "text",
    [
        'path,class\n"real/a.mp4", "real"\n"fake/c.mp4", "fake"\n',
        "path, class\nreal/a.mp4 , real\n fake/c.mp4,fake \n",
        "path;class\nreal/a.mp4;real\nfake/c.mp4;fake\n",
        "path\tclass\nreal/a.mp4\treal\nfake/c.mp4\tfake\n",
        "\ufeffPath,CLASS\r\nreal/a.mp4,real\r\nfake/c.mp4,fake\r\n",
        "Label,Path\nreal,./real/a.mp4\nfake,fake//c.mp4\n",
        "path,class\n{data}/real/a.mp4,real\n{data}/fake/c.mp4,fake\n",
        "path,class\nreal\\a.mp4,real\nfake\\c.mp4,fake\n",
    ],
)
def test_as_people_write_them(tmp_path, text):
    data = make_tree(tmp_path / "data", *PLAIN)
    found, catalog = read(data, text.format(data=data.resolve()))
    assert found == PLAIN and all(source.path.exists() for source in catalog.sources)
    assert any(note.startswith("backslashes of 2 paths") for note in catalog.notes) == ("\\" in text)


def test_classes_that_differ_in_case_alone_are_one(tmp_path):
    found, catalog = read(tmp_path, "path,class\na.mp4,Real\nb.mp4,REAL\nc.mp4,REAL\nd.mp4,fake\n")
    assert set(found.values()) == {"REAL", "fake"} and catalog.notes == ("REAL and Real are one class: REAL",)


def test_a_name_with_a_backslash_is_taken_as_it_is(tmp_path):
    found, catalog = read(make_tree(tmp_path / "data", "a\\b.mp4"), "path,class\na\\b.mp4,x\n")
    assert found == {"a\\b.mp4": "x"} and not catalog.notes


def test_absolute_paths_through_a_link_to_the_folder(tmp_path):
    make_tree(tmp_path / "data", *PLAIN)
    (tmp_path / "link").symlink_to(tmp_path / "data")
    text = "path,class\n" + "".join(f"{tmp_path}/data/{name},{kind}\n" for name, kind in PLAIN.items())
    assert read(tmp_path / "link", text)[0] == PLAIN


def test_all_columns(tmp_path):
    _, catalog = read(tmp_path, "path,class,split,group,target,Kind\nb.mp4,dog,valid,g1,2.5,\nsub/a.mp4,cat,,,,swap\n")
    dog, cat = catalog.sources
    assert (dog.split, dog.group, dog.target, dog.class_name, dog.kind) == ("val", "g1", 2.5, "dog", "")
    assert (cat.split, cat.group, cat.target, cat.kind, cat.path) == (None, None, None, "swap", tmp_path / "sub/a.mp4")
    assert catalog.summary == "manifest: 1 cat, 1 dog; kinds swap; split: the manifest's"


def test_pieces_of_a_video_are_inputs_of_their_own(tmp_path):
    text = "path,class,Start,end\na.mp4,x,1.50,3\na.mp4,y, 3 ,1e1\nb.mp4,x,,\n"
    found, catalog = read(tmp_path, text)
    assert found == {"a.mp4#t=1.5,3": "x", "a.mp4#t=3,10": "y", "b.mp4": "x"}
    one, other, whole = catalog.sources
    assert (one.path, one.video, str(other.piece), whole.piece) == (tmp_path / "a.mp4", "a.mp4", "#t=3,10", None)
    assert len({source.key for source in catalog.sources}) == 3 and one.key.startswith("a-")
    assert catalog.summary == "manifest: 2 x, 1 y; 2 pieces of 1 videos; split: drawn here"
    assert not catalog.notes


def test_rows_that_cannot_be_pieces_fail_by_name(tmp_path):
    text = 'path,class,start,end\na.mp4#t=1,x,,\na.jpg,x,1,2\n"b.mp4#t=1,2",x,,\nc.mp4,y,,\n'
    errors = {source.source: source.error or "" for source in read(tmp_path, text)[1].sources}
    assert "is a picture" in errors["a.jpg#t=1,2"] and "rename it" in errors["b.mp4#t=1,2"]
    assert not errors["c.mp4"] and not errors["a.mp4#t=1"]


def test_paths_that_leave_the_folder_are_refused_by_name(tmp_path):
    data = make_tree(tmp_path / "data", "c.mp4")
    text = f"path,class\n../b.mp4,x\n/etc/a.mp4,y\n{data}-2/a.mp4,y\n{data}/../c.mp4,y\nc.mp4,y\n"
    found, catalog = read(data, text)
    assert found == {"c.mp4": "y"}
    assert all("out of the data folder" in source.error for source in catalog.sources if source.error)


def test_labels_beside_the_class_and_instead_of_it(tmp_path):
    _, catalog = read(tmp_path, "path,class,Label.Pose\na.mp4,x,Sit\nb.mp4,y,\nc.mp4,y,sit\nd.mp4,x,sit\n")
    assert catalog.heads == ("class", "pose") and catalog.notes == ("Sit and sit are one class: sit",)
    assert [catalog.classes_of(source)["pose"] for source in catalog.sources] == ["sit", "", "sit", "sit"]
    found, catalog = read(tmp_path, "path,label.a,label.b,label.c\na.mp4,1,x,\nb.mp4,,y,p\nc.mp4,,,\n")
    assert catalog.heads == ("b", "a", "c") and found == {"a.mp4": "x", "b.mp4": "y"}
    assert catalog.sources[0].labels == {"a": "1", "c": ""} and "has no label" in catalog.sources[2].error
    assert "heads b, a, c" in catalog.summary


def test_a_folder_of_tables_named_after_the_splits(tmp_path):
    tables = tmp_path / "metadata"
    tables.mkdir()
    (tables / "train.csv").write_text("path,class\na.mp4,x\nb.mp4,y\n")
    (tables / "Validation.csv").write_text("class;path;label.pose;split\nx;c.mp4;sit;val\n")
    (tables / "._train.csv").write_bytes(b"\0")  # of macOS
    (tables / "notes.txt").write_text("any")
    catalog = list_sources(tmp_path, tables)
    assert [(source.source, source.split) for source in catalog.sources] == [
        ("a.mp4", "train"),
        ("b.mp4", "train"),
        ("c.mp4", "val"),
    ]
    assert catalog.heads == ("class", "pose") and catalog.classes_of(catalog.sources[2]) == {
        "class": "x",
        "pose": "sit",
    }
    for name, text, message in (
        ("val.csv", "path,class\n", "val.csv: is of val, as Validation.csv is"),
        ("test.csv", "path,class,split\nd.mp4,x,train\n", "test.csv row 2: split is train, and the table's name says"),
        ("test.csv", "path,class\na.mp4,x\n", "a.mp4 is listed twice"),
        ("all.csv", "path,class\n", "all.csv: its name is no split"),
    ):
        (tables / name).write_text(text)
        with pytest.raises(UsageError, match=re.escape(message)):
            list_sources(tmp_path, tables)
        (tables / name).unlink()
    with pytest.raises(UsageError, match="holds no row of a table"):
        (tmp_path / "empty").mkdir()
        list_sources(tmp_path, tmp_path / "empty")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("path\na.mp4\n", "no column class"),
        ("path,label.a b\na.mp4,x\n", "a label cannot be named label.a b"),
        ("path,class,label.class\na.mp4,x,y\n", "a label cannot be named label.class"),
        ("path,class,label.Mean\na.mp4,x,y\n", "a label cannot be named label.mean"),
        ("path,label.a,label.b\na.mp4,x,\nb.mp4,,y\n", "label.a and label.b have empty cells"),
        ("path,class\na.mp4,x\na.mp4,y\n", "row 3: a.mp4 is listed twice"),
        ("path,class\na.mp4\n", "row 2: has too few columns"),
        ("path,class\na.mp4,\n", "must not be empty"),
        ("path,class,split\na.mp4,x,other\n", "split is other"),
        ("path,class,target\na.mp4,x,high\n", "target is high"),
        ("path,class,target\na.mp4,real,nan\n", "finite"),
        ("path,class,target\na.mp4,real,inf\n", "finite"),
        ("path,class,target\na.mp4,real,-Infinity\n", "finite"),
        ("path,class,start,end\na.mp4,x,1,2\na.mp4,y,1.0,2.00\n", "row 3: a.mp4#t=1,2 is listed twice"),
        ("path,class,start,end\na.mp4,x,1,\n", "row 2: has a start, but no end"),
        ("path,class,end\na.mp4,x,1\n", "row 2: has an end, but no start"),
        ("path,class,start,end\na.mp4,x,2,1\n", "row 2: end is 1 and start is 2"),
        ("path,class,start,end\na.mp4,x,0,nan\n", "row 2: end is nan"),
    ],
)
def test_errors_name_the_row(tmp_path, text, message):
    with pytest.raises(UsageError, match=re.escape(message)):
        read(tmp_path, text)


def test_a_manifest_and_a_layout(tmp_path):
    (tmp_path / "m.csv").write_text("path,class\na.mp4,x\n")
    with pytest.raises(UsageError, match="--layout says what folders mean"):
        list_sources(tmp_path, tmp_path / "m.csv", "folders")


def test_another_unicode_form(tmp_path):
    """macOS takes accents apart, most others do not; the file's own name counts, whoever wrote the manifest."""
    composed, apart = "r\u00e9el/\u00e9t\u00e9.mp4", "re\u0301el/e\u0301te\u0301.mp4"
    data, text = tmp_path / "data", f"path,class\n{composed},real\nfake/b.mp4,fake\n"
    make_tree(data, apart, "fake/b.mp4", "r\u00e9el/other.mp4")
    found, catalog = read(data, text)  # half of the way exists in each form: nothing is guessed
    assert found[composed] == "real" and not catalog.notes
    shutil.rmtree(data / "r\u00e9el")
    found, catalog = read(data, text)
    assert found[apart] == "real" and (data / apart).exists() and "1 names" in catalog.notes[0]
    with pytest.raises(UsageError, match="is listed twice"):
        read(data, f"path,class\n{composed},real\n{apart},fake\n")
