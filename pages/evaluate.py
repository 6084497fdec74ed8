"""Judge: how good the model is, and the photos it gets wrong."""

import streamlit as st
from _shared import charts, errors, mistakes, results, starting, state
from _shared.places import JUDGE, TRY
from _shared.state import RUN
from _shared.wording import count, number_of_percent, percent, plain, span

from tlcore.evaluate import Evaluation, load_evaluation
from tlcore.pipeline import EVALUATION

_ENOUGH = 30


def score(judged: Evaluation) -> None:
    """Shows the accuracy with its interval, and the weakest class."""
    shares = {each.label: each.support / judged.total for each in judged.per_class}
    guess, words = results.guess_words(shares)
    low, high = judged.interval
    wide, narrow = st.columns([2.6, 1], gap="medium")
    with wide.container(key="cardaccent_score", height="stretch"):
        left, right = st.columns([1, 2], gap="medium", vertical_alignment="center")
        right_share = percent(judged.accuracy, judged.total)
        left.metric("Right on new photos", right_share, help=results.ACCURACY_HELP)
        with right:
            results.rail(judged.accuracy, (low, high), judged.total, guess, words)
    with narrow.container(key="card_weakest", height="stretch"):
        weakest = min(judged.per_class, key=lambda each: (each.recall, each.support))
        are_alike = weakest.recall == max(each.recall for each in judged.per_class)
        st.caption("Weakest class")
        st.markdown("### None, all alike" if are_alike else f"### {plain(weakest.label, 40)}")
        found = f"{percent(weakest.recall, weakest.support)} found"
        between = span(weakest.recall_interval, weakest.support)
        st.badge(f"{found}, {between} %, of {count(weakest.support)}", color="gray")


def too_few(judged: Evaluation) -> None:
    """Warns where the photos set aside cannot tell small differences."""
    if min(each.support for each in judged.per_class) >= _ENOUGH:
        return
    low, high = judged.interval
    width = number_of_percent(high - low, judged.total)
    st.markdown(
        ":orange[:material/warning: Too few photos to tell small differences: the interval is "
        f"{width} points wide. It takes four times as many to halve it.]"
    )


def class_by_class(judged: Evaluation) -> None:
    """Shows how often each class is found."""
    st.subheader("Class by class", anchor=False)
    charts.class_scores(judged, key="class_scores")
    shown, every = len(charts.scores_in_view(judged)), len(judged.per_class)
    which = f"The {shown} weakest of {count(every)} classes. " if shown < every else ""
    st.caption(
        f"{which}Dot: share found. Line: where the true share may lie. Overlapping lines do not "
        "settle which is better."
    )


def lead_words(judged: Evaluation) -> str:
    """Says the score in a sentence."""
    return (
        f"Right on {count(judged.correct)} of the {count(judged.total)} photos set aside. On "
        f"thousands more of the same sort, expect {span(judged.interval, judged.total)} in 100 "
        "(95 % interval)."
    )


view = state.view()
run, status = starting.model_in_view(view, "Nothing to judge yet")
with errors.shown(stop=True):
    judged = load_evaluation(run.folder / EVALUATION)
with st.container(horizontal=True, vertical_alignment="bottom"):
    st.title(f"How good is {plain(run.name, 60)}?", anchor=False, width="stretch")
    starting.run_picker(run, JUDGE.file)
starting.lead(lead_words(judged))
if used := results.photos_version(run):
    st.caption(f"Trained on {used}.")
score(judged)
too_few(judged)
with st.container(key="section_mistakes"):
    mistakes.show(run, judged, view.dataset)
with st.container(key="section_classes"):
    class_by_class(judged)
mistakes.all_numbers(run, judged)
if st.button("Try it on a photo", type="primary", icon=TRY.icon, key="to_try"):
    st.switch_page(TRY.file, query_params={RUN: run.id})
