"""The plan under which a recipe ran in a work folder: under its list of removed documents, or the list as it was then.

A removal changes the fingerprint of every stage, and the stages of before are still there, without the documents; they
answer for the dataset until the recipe runs again.
"""

from collections.abc import Iterator

from curate.engine.recipe import Recipe
from curate.engine.stages import Plan, Planner
from curate.fingerprints import ContentMemory
from curate.storage import Location


def plan_as_run(recipe: Recipe, work: Location) -> Plan:
    """The newest plan whose stages are all made in `work`, else the newest whose first stage is, else the newest."""
    memory = ContentMemory(work / "contents.json")
    plans = [Planner(memory).plan(recipe)]
    for until in _times(plans[0]):
        if _is_made(plans[-1].stages[-1].folder_name, work):
            break
        plans.append(Planner(memory, until=until).plan(recipe))
    if work.exists():
        memory.save()
    if _is_made(plans[-1].stages[-1].folder_name, work):
        return plans[-1]
    begun = [plan for plan in plans if _is_made(plan.stages[0].folder_name, work)]
    return (begun or plans)[0]


def _is_made(folder: str, work: Location) -> bool:
    return (work / "stages" / folder / "manifest.json").exists()


def _times(plan: Plan) -> Iterator[str]:
    """When the lists of removed documents were shorter, newest first: before each request of the recipe's own list, and
    of those of the recipes that it samples."""
    times: set[str] = set()
    for path in _lists(plan):
        from curate.engine.removed import RemovedIds

        times |= {request.when for request in RemovedIds.load(path).requests}
    yield from sorted(times - {max(times)}, reverse=True) if times else ()
    yield from [""] if times else ()


def _lists(plan: Plan) -> set[Location]:
    lists = {plan.recipe.removed} if plan.recipe.removed is not None else set()
    for stage in plan.stages:
        for artifact in stage.artifacts:
            if isinstance(artifact.negatives, Plan):
                lists |= _lists(artifact.negatives)
    return lists
