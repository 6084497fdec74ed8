"""The errors a person may see. Every one says what happened and what to do.

TLError
├── ArchiveError      the zip or folder cannot be used
├── DatasetError      the photos in it cannot be used for training
├── ConfigError       a setting is out of its range
├── WeightsError      pretrained weights are missing or damaged
├── RunError          a run is unknown or not in the state the action needs
├── BundleError       a saved model is incomplete, damaged or not trusted
├── PhotoError        one photo cannot be read; never a reason to stop a run
└── StorageError      the disk is full or the workspace cannot be written
"""

from __future__ import annotations


class TLError(Exception):
    """What happened, and what to do about it.

    Args:
        message: What happened, with the value that caused it. One or two sentences.
        hint: What the person can do now. One or two sentences.
    """

    def __init__(self, message: str, *, hint: str) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class ArchiveError(TLError):
    """The zip or folder cannot be used."""


class DatasetError(TLError):
    """The photos cannot be used for training."""


class ConfigError(TLError):
    """A setting is out of its range.

    Args:
        message, hint: As in `TLError`.
        setting: Its dotted name, as "epochs" or "tail.epochs"; empty where it is about no single
            setting of a run.
    """

    def __init__(self, message: str, *, hint: str, setting: str = "") -> None:
        super().__init__(message, hint=hint)
        self.setting = setting


class WeightsError(TLError):
    """Pretrained weights are missing or damaged."""


class RunError(TLError):
    """A run is unknown, or not in the state that the action needs."""


class BundleError(TLError):
    """A saved model is incomplete, damaged or not trusted."""


class PhotoError(TLError):
    """One photo cannot be read."""


class StorageError(TLError):
    """The disk is full, or the workspace cannot be written."""
