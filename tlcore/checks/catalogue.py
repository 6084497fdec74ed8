"""What each kind of issue is called, why it matters and what to do: one table for page, command
line and report.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Fix = Literal["drop", "relabel", "move", "none"]


@dataclass(frozen=True, kw_only=True)
class KindOfIssue:
    """How one kind of issue is said.

    Attributes:
        one: The title for one of them; `{}` where the number goes.
        many: The title for several.
        why: Why it matters, in a sentence.
        todo: What to do, in a sentence.
        fix: What one click does: "drop" takes the photos out, "relabel" gives them the suggested
            class, "move" brings them to the suggested side, "none" changes nothing.
        about: What `Issue.path` names: a "photo" of the dataset, a "file" that is not in it, a
            "class", or the whole "dataset".
    """

    one: str
    many: str
    why: str
    todo: str
    fix: Fix
    about: Literal["photo", "file", "class", "dataset"] = "photo"


CATALOGUE: dict[str, KindOfIssue] = {
    "two_classes": KindOfIssue(
        one="{} photo is in two classes",
        many="{} photos are in two classes",
        why="The same photo cannot be both, so the model is taught a contradiction.",
        todo="Keep it in the class where it belongs and drop the other.",
        fix="drop",
    ),
    "split_leak": KindOfIssue(
        one="{} photo for judging is among the photos for learning",
        many="{} photos for judging are among the photos for learning",
        why="The model is asked about photos that it has learned, so the score is too good.",
        todo="Move the copies to one side.",
        fix="move",
    ),
    "label_suspect": KindOfIssue(
        one="{} photo may be in the wrong class",
        many="{} photos may be in the wrong class",
        why="Wrong labels teach the model wrong things and make a right answer count as a mistake.",
        todo="Look at each: put it in the class it shows, or say that it is fine.",
        fix="relabel",
    ),
    "shortcut": KindOfIssue(
        one="{} thing gives the class away without the picture",
        many="{} things give the class away without the picture",
        why="The model may learn it in place of what the photos show, and fail on photos from "
        "elsewhere.",
        todo="Take photos of all classes in the same way: same camera, size, light and background.",
        fix="none",
        about="dataset",
    ),
    "sequence_leak": KindOfIssue(
        one="{} scene is on both sides",
        many="{} scenes are on both sides",
        why="Frames of one scene are nearly the same photo, so the score is too good.",
        todo="Divide the photos so that each scene stays on one side.",
        fix="move",
    ),
    "few_images": KindOfIssue(
        one="{} class has few photos",
        many="{} classes have few photos",
        why="20 photos of each class are a start, 100 are good.",
        todo="Add photos of it, or merge it with a class like it.",
        fix="none",
        about="class",
    ),
    "class_imbalance": KindOfIssue(
        one="{} class is far smaller than the largest",
        many="{} classes are far smaller than the largest",
        why="The model will lean towards the large class.",
        todo="Add photos of the small class, or take some of the large one out.",
        fix="none",
        about="class",
    ),
    "blurry": KindOfIssue(
        one="{} photo is blurred",
        many="{} photos are blurred",
        why="What tells the classes apart may not be visible any more.",
        todo="Take out what you could not name yourself; keep what the model will meet later.",
        fix="drop",
    ),
    "dark": KindOfIssue(
        one="{} photo is very dark",
        many="{} photos are very dark",
        why="What tells the classes apart may not be visible.",
        todo="Take out what you could not name yourself; keep what the model will meet later.",
        fix="drop",
    ),
    "bright": KindOfIssue(
        one="{} photo is washed out",
        many="{} photos are washed out",
        why="What tells the classes apart may not be visible.",
        todo="Take out what you could not name yourself; keep what the model will meet later.",
        fix="drop",
    ),
    "low_information": KindOfIssue(
        one="{} photo is nearly blank",
        many="{} photos are nearly blank",
        why="There is nothing in it to learn from.",
        todo="Take it out.",
        fix="drop",
    ),
    "too_small": KindOfIssue(
        one="{} photo is very small",
        many="{} photos are very small",
        why="The network looks at 224 pixels; fewer are stretched and blurred.",
        todo="Replace it with a larger copy, or take it out.",
        fix="drop",
    ),
    "odd_aspect_ratio": KindOfIssue(
        one="{} photo is very long and narrow",
        many="{} photos are very long and narrow",
        why="The network sees a square, so it is squeezed out of shape.",
        todo="Crop it to what matters.",
        fix="none",
    ),
    "grayscale_among_color": KindOfIssue(
        one="{} photo has no colour",
        many="{} photos have no colour",
        why="Where colour tells classes apart, it teaches the wrong thing.",
        todo="Keep it if you will ask about such photos, too.",
        fix="drop",
    ),
    "near_duplicate": KindOfIssue(
        one="{} photo is nearly a copy of another",
        many="{} photos are nearly copies of others",
        why="They add little and count twice.",
        todo="Keep the best of them.",
        fix="drop",
    ),
    "exact_duplicate": KindOfIssue(
        one="{} photo appears again",
        many="{} photos appear again",
        why="Copies on both sides would flatter the score, so all copies are kept on one side.",
        todo="Nothing must be done; the copies may go.",
        fix="drop",
    ),
    "outlier": KindOfIssue(
        one="{} photo is unlike the others of its class",
        many="{} photos are unlike the others of their class",
        why="It may not belong to the class, or be a rare case worth more photos.",
        todo="Take out what does not belong.",
        fix="drop",
    ),
    "location_metadata": KindOfIssue(
        one="Some photos say where they were taken",
        many="Some photos say where they were taken",
        why="Who gets the original files can see the places.",
        todo="Nothing must be done: exports and reports leave it out.",
        fix="none",
        about="dataset",
    ),
    "corrupt": KindOfIssue(
        one="{} damaged file left out",
        many="{} damaged files left out",
        why="It cannot be read as a photo.",
        todo="Copy or download it again, then add it.",
        fix="none",
        about="file",
    ),
    "not_an_image": KindOfIssue(
        one="{} file is no photo",
        many="{} files are no photos",
        why="Only photos can be learned from.",
        todo="Nothing must be done: it was left out.",
        fix="none",
        about="file",
    ),
    "left_out": KindOfIssue(
        one="{} file left out",
        many="{} files left out",
        why="It cannot be used as a photo of a class.",
        todo="Put it in the folder of its class, then add it.",
        fix="none",
        about="file",
    ),
}
