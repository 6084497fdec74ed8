"""What a run will take on this computer, for any page that says so."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable

import streamlit as st

from _shared import state
from tlcore import forecast
from tlcore.config import TrainConfig
from tlcore.dataset import Manifest
from tlcore.errors import TLError
from tlcore.forecast import Forecast, PastRun, Plan
from tlcore.runs import Run

# The caches are asked anew after so long; a run in between changes what they know.
FRESH_SECONDS = 10.0


def of_dataset(dataset: Manifest, config: TrainConfig) -> Forecast:
    """Returns what training with these settings on these photos would take, if that is known."""
    return _asked(dataset, config, dataset.id, dataset.version, repr(config), newest())


def newest() -> str:
    """Names the run that was done last: with another one, there is more to go by."""
    finished = (run.id for run, status in state.newest_runs() if status.finished)
    return next(finished, "")


@st.cache_data(ttl=FRESH_SECONDS, max_entries=64, show_spinner=False)
def _asked(
    _dataset: Manifest,
    _config: TrainConfig,
    dataset_id: str,  # noqa: ARG001  the cache's key, with what follows
    version: int,  # noqa: ARG001
    settings: str,  # noqa: ARG001
    newest: str,  # noqa: ARG001
) -> Forecast:
    try:
        return forecast.of_run(_dataset, _config, state.workspace(), state.past_runs())
    except TLError as problem:
        return _unknown(problem)


def of_run(run: Run, dataset: Manifest | None) -> Forecast:
    """Returns what a run at work was to take, as it was before it began."""
    return _begun(run, dataset, run.id, newest())


@st.cache_data(ttl=FRESH_SECONDS, max_entries=64, show_spinner=False)
def _begun(
    _run: Run,
    _dataset: Manifest | None,
    run_id: str,  # noqa: ARG001  the cache's key, with what follows
    newest: str,  # noqa: ARG001
) -> Forecast:
    if _dataset is not None:
        with contextlib.suppress(TLError):
            return forecast.of_begun(
                _dataset, _run.config, _run.workspace, _run.events(), state.past_runs()
            )
    return of_photos(_run.config, 0, ())


def _unknown(problem: TLError) -> Forecast:
    return Forecast(
        seconds=None,
        packing_seconds=None,
        memory_bytes=None,
        shares={},
        stages={},
        reason=problem.message,
    )


def of_photos(config: TrainConfig, photos: int, past: Iterable[PastRun]) -> Forecast:
    """Returns what so many photos that nobody looked at yet would take; four fifths are learned.

    Args:
        config: The settings.
        photos: How many there are.
        past: Finished runs to go by, newest first.
    """
    aside = photos // 5
    plan = Plan(config=config, dataset_id="", learn=photos - aside, aside=aside)
    return forecast.forecast(plan, past, workspace=state.workspace())
