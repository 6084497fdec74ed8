"""The pages: their files, names and icons, in the order of the journey."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Place:
    """One page.

    Attributes:
        file: Beside the router.
        title: In the bar, the stepper and the tab.
        icon: Material symbol.
    """

    file: str
    title: str
    icon: str

    @property
    def key(self) -> str:
        """The address, and the middle of style names."""
        return self.file.removesuffix(".py")


START = Place("home.py", "Start", ":material/home:")
PHOTOS = Place("data.py", "Photos", ":material/photo_library:")
TRAIN = Place("train.py", "Train", ":material/model_training:")
JUDGE = Place("evaluate.py", "Judge", ":material/fact_check:")
TRY = Place("predict.py", "Try", ":material/image_search:")
TAKE_AWAY = Place("export.py", "Take away", ":material/download:")
RUNS = Place("runs.py", "Runs", ":material/history:")

BAR = (START, RUNS)
JOURNEY = (PHOTOS, TRAIN, JUDGE, TRY, TAKE_AWAY)
