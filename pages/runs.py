"""Runs: every one that was started, to open, rename or delete."""

import streamlit as st
from _shared import errors, queue, results, starting, state, sweep
from _shared.dialogs import dialog
from _shared.wording import ago, duration, plain

from tlcore import runs
from tlcore.events import RunStatus
from tlcore.runs import Run

_A_PAGE = 20


@dialog("Rename", width="small")
def rename(run: Run) -> None:
    """Asks for another name."""
    name = st.text_input("Name", run.name, max_chars=60, key=f"name_{run.id}")
    if st.button("Save", type="primary", key="save_name"):
        with errors.shown():
            runs.rename(run, name)
            st.rerun()


def delete(run: Run) -> None:
    """Moves a run to the trash and remembers how to bring it back."""
    with errors.shown():
        runs.delete(run)
        st.session_state[state.DELETED] = (run.id, run.name)
        st.rerun()


def undo_bar() -> None:
    """Offers to bring back what was deleted last."""
    deleted = st.session_state.get(state.DELETED)
    if deleted is None:
        return
    run_id, name = deleted
    with st.container(key="card_deleted", horizontal=True, vertical_alignment="center"):
        st.markdown(f":material/delete: {plain(name, 60)} is deleted.", width="stretch")
        if st.button("Undo", icon=":material/undo:", key="undo"):
            st.session_state[state.DELETED] = None
            with errors.shown():
                runs.restore(state.workspace(), run_id)
                st.rerun()


def row(run: Run, status: RunStatus) -> None:
    """Shows one run with what can be done to it."""
    with st.container(key=f"card_run_{run.id}", horizontal=True, vertical_alignment="center"):
        with st.container(width="stretch", gap="xxsmall"):
            st.markdown(f"**{plain(run.name, 60)}**")
            used = results.photos_version(run)
            took = f", {duration(status.worked_seconds)}" if status.finished else ""
            st.caption(
                f"{plain(run.dataset_name, 50)}{f' ({used})' if used else ''}, "
                f"{plain(results.network_title(run.config.backbone), 40)}, "
                f"{results.how_far(run, status)}{took}, {ago(state.now() - run.created)}"
            )
        results.state_badge(status)
        if st.button("Rename", key=f"rename_{run.id}", type="tertiary", icon=":material/edit:"):
            rename(run)
        if st.button("Delete", key=f"delete_{run.id}", type="tertiary", icon=":material/delete:"):
            delete(run)
        results.open_link(run, status)


if sweep_id := state.parameter(sweep.SWEEP):
    sweep.page(sweep_id)
    st.stop()
everything = runs.list_runs(state.workspace())
st.title("Runs", anchor=False)
if not everything:
    starting.lead("No runs yet.")
    undo_bar()
    starting.sample_run_button("Start one on the sample photos")
    st.stop()
starting.lead("Every model you trained, the newest first.")
undo_bar()
has_above = [queue.waiting_list(), sweep.listed()]
if any(has_above):
    st.subheader("All runs", anchor=False)
pages = -(-len(everything) // _A_PAGE)
place = st.container()
number = st.pagination(pages, key="runs_page") if pages > 1 else 1
with place:
    for each in everything[(number - 1) * _A_PAGE : number * _A_PAGE]:
        row(each, each.status())
