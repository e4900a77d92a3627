"""The general layout: a folder for each class, in folders for the splits or not."""

from __future__ import annotations

from collections import Counter, defaultdict

from shardify.errors import UsageError
from shardify.format.words import SPLITS, split_of
from shardify.sources.layouts.base import Layout, Place, Tree
from shardify.sources.layouts.names import is_no_class, listing, one_spelling, split_folder

NO_CLASS = "lies in no class folder; move it into a folder named after its class"


class Folders(Layout):
    """Class folders: `CLASS/…` or `SPLIT/CLASS/…`, as ImageFolder of torchvision.datasets reads them.

    Split folders may be named in any case: train and training, val, valid, validation and dev, test, testing and eval.
    """

    name, title = "folders", "class folders"
    expects = "video"

    def __init__(self, tree: Tree) -> None:
        super().__init__(tree)
        self._tops: dict[str, set[str]] = defaultdict(set)  # split → words for it, in lower case
        for name in tree.videos:
            if split := split_folder(name):
                self._tops[split].add(name.partition("/")[0].lower())
        self._classes = Counter(folder for name in tree.videos if (folder := self._class_folder(name)))
        self._spelling, self._notes = one_spelling(self._classes)

    def certainty(self) -> float:
        return 0.1

    def place(self, name: str) -> Place:
        top, *below = name.split("/")
        split, error = None, None
        if self._tops:
            split = split_of(top) if below else None
            if split is None:
                error = "lies beside train/, val/ and test/; move it into one of them"
        folder = self._class_folder(name)
        if folder is None:
            return Place(split=split, error=error or NO_CLASS)
        return Place(self._spelling[folder], split, error=error)

    def check(self) -> None:
        """Raises UsageError where folders cannot be classes, or two of them mean the same split."""
        for split, words in self._tops.items():
            if len(words) > 1:
                raise UsageError(
                    f"{self.tree.data}: {listing(sorted(words))} both mean {split}; rename or move one of them away"
                )
        for folder in sorted(self._classes):
            if meaning := is_no_class(folder):
                raise UsageError(
                    f"{self.tree.data}: the folder {folder} looks like {meaning}, not like a class; lay its videos out "
                    f"in folders named after their classes (for a split, train/CLASS/…), or pass the classes in a "
                    f"--manifest"
                )

    def notes(self) -> list[str]:
        lines = [f"{self.tree.data}/{split} is missing" for split in SPLITS if self._tops and split not in self._tops]
        below = {name.split("/")[1].lower() for name in self.tree.videos if not self._tops and name.count("/") > 1}
        if words := sorted(filter(split_of, below)):
            lines.append(f"warning: {listing(words)} below the classes are not taken for splits; lay out train/CLASS/…")
        return lines + self._notes

    def _class_folder(self, name: str) -> str | None:
        folders = name.split("/")[1 if self._tops else 0 : -1]
        return folders[0] if folders else None
