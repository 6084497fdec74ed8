"""How long a run will take and how much memory it needs, from what was measured on this computer.

Every rate comes from finished runs or from the measured speed of a network. What was never
measured is not guessed: the forecast then says so instead of giving a number.
"""

from tlcore.forecast.ahead import calmed, seconds_left, share_done, stage_done
from tlcore.forecast.estimate import Forecast, forecast, of_begun, of_plan, of_run
from tlcore.forecast.past import PastRun, past_run, past_runs
from tlcore.forecast.plans import STAGES, Known, Plan, looks_of, plan, tail_of

__all__ = [
    "STAGES",
    "Forecast",
    "Known",
    "PastRun",
    "Plan",
    "calmed",
    "forecast",
    "looks_of",
    "of_begun",
    "of_plan",
    "of_run",
    "past_run",
    "past_runs",
    "plan",
    "seconds_left",
    "share_done",
    "stage_done",
    "tail_of",
]
