"""The inputs of a build: every video below a data folder, or every row of a manifest, in a fixed order."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from shardify.errors import NothingToBuildError, UsageError
from shardify.format.records import PRIMARY
from shardify.format.words import meaning_of
from shardify.sources.entries import VIDEO_EXTENSIONS, Entries, is_picture_name, is_video_name
from shardify.sources.layouts import AUTO, METADATA, LeftOut, Place, Tree, choose_layout
from shardify.sources.layouts.dfdc import originals_in
from shardify.sources.layouts.folders import NO_CLASS
from shardify.sources.layouts.names import file_of, listing
from shardify.sources.layouts.split_list import SplitList, read_split_list
from shardify.sources.manifest import read_manifest
from shardify.sources.source import Source, printable, unusable_name

SHOWN = 10  # endings of other files, classes of the summary


@dataclass(frozen=True)
class Catalog:
    sources: list[Source]  # sorted by path
    ignored: int = 0  # directory entries without a video's extension, hidden ones, those of the system
    columns: tuple[str, ...] = ()  # of the manifest
    rows: dict[str, dict] = field(default_factory=dict)  # of the manifest, by source
    originals: dict[str, str] = field(default_factory=dict)  # DFDC's metadata.json: fake → original, file names
    notes: tuple[str, ...] = ()  # what the user should know about the layout
    layout: str = "folders"  # one of LAYOUTS, or "manifest"
    split_list: dict[str, str] | None = None  # that of the official split: name and SHA-256
    title: str = "class folders"  # the data set, or what else it is
    summary: str = ""  # what was recognised, in a line
    grouping: str = ""  # what the sources' groups follow from
    official: frozenset[str] = frozenset()  # the splits that are the data set's own: they win over groups
    heads: tuple[str, ...] = (PRIMARY,)  # names of the labels, the primary one first

    def classes_of(self, source: Source) -> dict[str, str]:
        """Its class by head; empty where it has no label."""
        return {name: source.labels.get(name, "") for name in self.heads} | {self.heads[0]: source.class_name}

    def spelled_as(self, known: Mapping[str, Sequence[str]]) -> Catalog:
        """With the classes that differ from known ones in case alone spelled as these are; a note says so.

        known: head → classes, of an earlier build.
        """
        spellings = {
            head: {name.lower(): name for name in classes} | {name: name for name in classes}
            for head, classes in known.items()
        }
        changed, sources = {}, []
        for source in self.sources:
            classes = self.classes_of(source)
            now = {head: _known(name, spellings.get(head, {})) for head, name in classes.items()}
            if now != classes:
                changed |= {classes[head]: name for head, name in now.items() if name != classes[head]}
                labels = {head: now[head] for head in source.labels}
                source = replace(source, class_name=now[self.heads[0]], labels=labels)
            sources.append(source)
        if not changed:
            return self
        words = listing([f"{now} for {name}" for name, now in sorted(changed.items())])
        return replace(self, sources=sources, notes=(*self.notes, f"classes are spelled as in the last build: {words}"))


def _known(name: str, spellings: Mapping[str, str]) -> str:
    return spellings.get(name) or spellings.get(name.lower(), name)


def list_sources(
    data: Path, manifest: Path | None = None, layout: str = AUTO, split_file: Path | None = None
) -> Catalog:
    """Every input below `data`, or every row of `manifest`.

    layout: of the folder. split_file: a list of the official split. No other file is opened than lists and metadata.
    Raises UsageError for a folder or manifest that cannot be understood, NothingToBuildError for an empty one.
    """
    if not data.is_dir():
        raise UsageError(f"{data}: is not a folder; pass the folder that holds the videos")
    if manifest and layout != AUTO:
        raise UsageError("--layout says what folders mean, --manifest lists the videos; pass one of them")
    listed = read_split_list(split_file) if split_file else None
    catalog = _from_manifest(data, manifest, listed) if manifest else _from_folder(data, layout, listed)
    if not catalog.sources:
        where = manifest or data
        known = f"known extensions: {' '.join(sorted(VIDEO_EXTENSIONS))}"
        raise NothingToBuildError(f"{where}: holds no video and no picture ({'; '.join([*catalog.notes, known])})")
    if all(source.error for source in catalog.sources):
        first = catalog.sources[0]
        raise NothingToBuildError(
            f"{data}: none of {len(catalog.sources)} videos can be used; the first: {first.source}: {first.error}"
        )
    return catalog


def order_classes(names: set[str], known: tuple[str, ...] = ()) -> list[str]:
    """Class names by index: those of an existing build first; real before fake, numbers in their order, else a to z."""
    meanings = {name: meaning_of(name) for name in names | set(known)}
    place: Callable = str
    if len(meanings) == 2 and set(meanings.values()) == {"real", "fake"}:
        place = {name: meaning == "fake" for name, meaning in meanings.items()}.__getitem__
    elif all(name.isascii() and name.isdecimal() for name in meanings):
        place = int
    return [*known, *sorted(names - set(known), key=lambda name: (place(name), name))]


def _from_folder(data: Path, layout_name: str, listed: SplitList | None) -> Catalog:
    tree, paths, ignored, notes = _walk(data)
    layout = choose_layout(tree, layout_name)
    layout.split_list = listed or layout.find_lists()
    if not (listed and listed.names_classes):
        layout.check()
    sources, left_out = [], Counter()
    for name in tree.videos:
        place = layout.place(name)
        if isinstance(place, LeftOut):
            left_out[place.reason] += 1
        else:
            sources.append(_source(paths[name], name, place))
    official = frozenset({s.split for s in sources if s.split}) if layout.is_official else frozenset()
    catalog = Catalog(
        sources,
        ignored,
        originals=originals_in(tree),
        notes=(*layout.notes(), *notes),
        layout=layout.name,
        title=layout.title,
        grouping=layout.grouping,
        official=official,
    )
    return _finish(catalog, layout.split_list, left_out, layout.detail)


def _source(path: Path, name: str, place: Place) -> Source:
    return Source(
        path,
        printable(name),
        printable(place.class_name),
        place.split,
        place.group,
        error=unusable_name(name) or place.error,
        kind=printable(place.kind),
        original=printable(place.original),
    )


def _from_manifest(data: Path, manifest: Path, listed: SplitList | None) -> Catalog:
    listing = read_manifest(data, manifest)
    sources = listing.sources
    folders = sorted({parent for source in sources if not source.error for parent in Path(source.source).parents})
    metadata = [(folder / "metadata.json").as_posix() for folder in folders]
    originals = originals_in(Tree(data, [], [name for name in metadata if (data / name).is_file()]))
    catalog = Catalog(
        sources,
        columns=listing.columns,
        rows=listing.rows,
        originals=originals,
        notes=tuple(listing.notes),
        layout="manifest",
        title="manifest",
        heads=listing.heads,
    )
    return _finish(catalog, listed, Counter())


def _finish(catalog: Catalog, split_list: SplitList | None, left_out: Counter, detail: str = "") -> Catalog:
    """The catalog with the official split, the originals of fakes, and the line that says what was recognised."""
    if split_list:
        sources = _as_listed(catalog.sources, split_list, left_out)
        found, listed = split_list.counts
        if not found:
            raise UsageError(f"{split_list.files[0]}: names none of the {len(catalog.sources)} videos")
        notes = (f"{listed - found} of {listed} listed videos are not there",) if found < listed else ()
        catalog = replace(
            catalog,
            sources=sources,
            official=split_list.splits,
            split_list=split_list.to_dict(),
            notes=(*notes, *catalog.notes),
        )
    catalog = replace(catalog, sources=_with_originals(catalog))
    counts, kinds = Counter(s.class_name for s in catalog.sources if s.class_name), {s.kind for s in catalog.sources}
    shown = [f"{counts[name]} {name}" for name in order_classes(set(counts))]
    words = [", ".join(shown) if len(shown) <= SHOWN else f"{counts.total()} videos of {len(shown)} classes"]
    if pieces := [source.video for source in catalog.sources if source.piece]:
        words.append(f"{len(pieces)} pieces of {len(set(pieces))} videos")
    if len(catalog.heads) > 1:
        words.append(f"heads {', '.join(catalog.heads)}")
    if kinds - {""}:
        words.append(f"kinds {', '.join(sorted(kinds - {''}))}")
    words.append(f"split: {_split_words(catalog, split_list)}")
    words += [f"{count} {reason} left out" for reason, count in sorted(left_out.items())]
    return replace(catalog, summary=f"{catalog.title}{detail}: {'; '.join(words)}")


def _as_listed(sources: list[Source], split_list: SplitList, left_out: Counter) -> list[Source]:
    """The sources with the list's splits and classes; those that it leaves out are counted."""
    kept = []
    for source in sources:
        entry = split_list.find(source.video)
        if entry is None and "train" in split_list.splits:
            left_out["videos in no list"] += 1
        elif entry and (entry.split is None or (split_list.names_classes and entry.class_name is None)):
            left_out["videos that the lists do not use"] += 1
        else:
            named = entry.class_name if entry else None
            error = None if named and source.error == NO_CLASS else source.error
            split = entry.split if entry else None
            kept.append(replace(source, split=split, class_name=named or source.class_name, error=error))
    return kept


def _with_originals(catalog: Catalog) -> list[Source]:
    """The sources, fakes with the original that DFDC's metadata.json names, where that is among them."""
    if not catalog.originals:
        return catalog.sources
    by_name = {file_of(source.video): source.source for source in catalog.sources}
    found = [by_name.get(catalog.originals.get(file_of(s.video), ""), "") for s in catalog.sources]
    return [
        replace(source, original=source.original or original)
        for source, original in zip(catalog.sources, found, strict=True)
    ]


def _split_words(catalog: Catalog, split_list: SplitList | None) -> str:
    """Where the split comes from, for people."""
    is_given = any(source.split for source in catalog.sources)
    if catalog.official:
        words = "official" if split_list is None or split_list.known_form else "as listed"
        words += f" ({split_list.file_names})" if split_list else ""
        return words if "train" in catalog.official else f"{words} for test, the rest is divided here"
    if is_given:
        return "the manifest's" if catalog.columns else "as laid out"
    is_known = catalog.title in ("FaceForensics++", "Celeb-DF")
    return "drawn here, for no official list was found (--split-file)" if is_known else "drawn here"


def _walk(data: Path) -> tuple[Tree, dict[str, Path], int, list[str]]:
    """Names below the folder, the inputs' paths by name, how many entries are ignored, and lines for the user."""
    videos, pictures, others, entries = [], [], [], Entries(data)
    for path in entries:
        if is_video_name(path):
            videos.append(path)
        elif is_picture_name(path):
            pictures.append(path)
        elif not path.is_dir():
            others.append(path)
    if videos:  # pictures are covers and previews then
        others += [path for path in pictures if not path.is_dir()]
    endings = Counter(printable(path.suffix.lower()) or "no ending" for path in others)
    paths = {path.relative_to(data).as_posix(): path for path in videos or pictures}
    metadata = sorted(path.relative_to(data).as_posix() for path in others if path.name in METADATA)
    notes = [_ignored_line(endings)] if endings else []
    tree = Tree(data, sorted(paths, key=os.fsencode), metadata)
    return tree, paths, endings.total() + entries.hidden, notes + entries.notes()


def _ignored_line(endings: Counter) -> str:
    """How many files are not named like a video, and how most of them end."""
    most = sorted(endings.items(), key=lambda item: (-item[1], item[0]))[:SHOWN]
    shown = ", ".join(f"{ending} {count}" for ending, count in most)
    more = f" and {len(endings) - SHOWN} more kinds" if len(endings) > SHOWN else ""
    return f"ignored {endings.total()} other files: {shown}{more}"
