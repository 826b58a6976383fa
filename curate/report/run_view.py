"""A run's state for a terminal: one screen of tables and lines that fits 80 columns, or single plain lines for a pipe.

Pure functions of a RunState. Names, rules and errors come from data: they go in as `Text`, control characters visible.
"""

from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.segment import Segment
from rich.style import Style
from rich.table import Table
from rich.text import Text

from curate.engine.run_state import RunState, StageState, Trouble
from curate.report.markup import middled, shortened, visible
from curate.report.numbers import compact, count, digits, duration, share, size

WIDE = 110
"""Columns from which the table has all its figures."""
RULES_NAMED = 5
LOOK = {
    "finished": "green",
    "failed": "bold red",
    "interrupted": "yellow",
    "waiting": "yellow",
    "silent": "red",
    "running": "cyan",
}

MARKS = {
    "planned": ("·", "dim"),
    "found": ("✓", "cyan"),
    "running": ("▸", "cyan"),
    "stopped": ("!", "yellow"),
    "done": ("✓", "green"),
}


def run_screen(state: RunState, *, width: int, failures: int = 3) -> Group:
    """Everything about a run: head, stages with bars, rates, rules, what went wrong."""
    shown: list[RenderableType] = [_head(state), _stages(state, width)]
    shown += [line for line in (_rates(state), _rules(state, width), _clusters(state)) if line is not None]
    shown += [Text.assemble(("training ", "dim"), words(name, 40)) for name, how in state.artifacts if how == "running"]
    return Group(*shown, *_troubles(state, failures))


def words(value: object, most: int = 80, style: str = "") -> Text:
    """Text from data: one line, control characters visible, cut in its middle."""
    return Text(middled(visible(str(value)).replace("\n", " ").replace("\t", " "), most), style=style)


def progress_line(stage: StageState, state: RunState) -> str:
    """`minhash: 140 of 200 parts (70%), 1.2k documents/s, 13 MB/s, kept 61.2%, 3 min 20 s left in this stage`."""
    said = [f"{_parts(stage)} parts ({share(stage.finished_parts, stage.parts)})"]
    said += [f"{compact(stage.records_per_second)} documents/s"] if stage.records_per_second is not None else []
    said += [f"{size(stage.bytes_per_second)}/s"] if stage.bytes_per_second is not None else []
    said += [f"kept {share(stage.records_out, stage.records_in)}"] if stage.records_in else []
    rules = [f"{rule} {share(left, stage.records_ruled)}" for rule, left in stage.rules[:3] if stage.records_ruled]
    said += [f"left by {', '.join(rules)}"] if rules else []
    said += [f"{stage.failed} failed"] if stage.failed else []
    said += [f"{stage.retries} tried again"] if stage.retries else []
    left = "time left unknown" if stage.seconds_left is None else f"{duration(stage.seconds_left)} left"
    after = f", {_stages_after(state)}" if state.stages_after else ""
    return _line(f"{_name(stage)}: {', '.join(said)}, {left} in {_unit(stage)}{after}")


def start_line(stage: StageState) -> str:
    """`minhash: 120 of 200 parts already done`."""
    parts = _counted(stage)
    return _line(f"{_name(stage)}: {f'{count(stage.found)} of {parts} already done' if stage.found else parts}")


def done_line(stage: StageState) -> str:
    """`minhash  200 parts (120 already done), 2,000 → 1,200 documents (60.0%), 3 min 20 s`."""
    if stage.status == "found":
        return _line(f"{_name(stage, phase=False)}  already done, {count(stage.records_out)} documents")
    there = f" ({count(stage.found)} already done)" if stage.found else ""
    parts = f"{_counted(stage)}{there}, " if stage.parts else ""
    documents = f"{count(stage.records_in)} → {count(stage.records_out)} documents"
    kept = share(stage.records_out, stage.records_in)
    return _line(f"{_name(stage, phase=False)}  {parts}{documents} ({kept}), {duration(stage.seconds)}")


def end_line(state: RunState) -> tuple[str, str]:
    """How a run ended, in one line, and the style of it."""
    took, name = duration(state.seconds), state.name or state.run
    if state.status == "finished":
        made = f"{count(state.documents)} documents, {size(state.text_bytes)} of text" if state.documents else "empty"
        return _line(f"{name}  {made}, {took}"), "green"
    if state.status == "interrupted":
        return _line(f"{name}  interrupted after {took}; what was finished is kept"), "yellow"
    said = any(state.error in failure.text for failure in state.failures)
    why = "" if said or not state.error else f": {shortened(state.error, 600)}"
    return _line(f"{name}  failed after {took}{why}", 1000), "red"


def left_text(state: RunState) -> str:
    """`3 min 20 s left in this stage, 2 more after it`."""
    left = state.seconds_left
    stage = _unit(state.running[-1]) if state.running else "this stage"
    known = "time left unknown" if left is None else f"{duration(left)} left"
    return f"{known} in {stage}" + (f", {_stages_after(state)}" if state.stages_after else "")


def _head(state: RunState) -> Text:
    head = Text.assemble(words(state.name or "run", 30, "bold"), "  ", (state.status, LOOK.get(state.status, "")))
    head.append(f"  {duration(state.seconds)}", "dim")
    if state.found_parts:
        head.append(f"  {count(state.found_parts)} parts were there already", "cyan")
    if state.run:
        head.append("  ").append_text(words(state.run, 70, "dim"))
    return head


def _stages(state: RunState, width: int) -> Table:
    wide = width >= WIDE
    table = Table(box=None, padding=(0, 2 if wide else 1, 0, 0), pad_edge=False, header_style="dim", show_edge=False)
    table.add_column("")
    table.add_column("stage", no_wrap=True)
    table.add_column("parts", no_wrap=True)
    heads = ["", "in", "out", "kept", "docs/s", "data/s", "time"] if wide else ["", "out", "kept", "docs/s", "time"]
    for head in heads:
        table.add_column(head, justify="right", no_wrap=True)
    for stage in state.stages:
        numbers = {
            "": Text(_parts(stage)),
            "in": _number(stage.records_in),
            "out": _number(stage.records_out),
            "kept": Text("" if stage.kept is None else share(stage.records_out, stage.records_in)),
            "docs/s": _number(stage.records_per_second),
            "data/s": Text(f"{size(stage.bytes_per_second)}" if stage.bytes_per_second else ""),
            "time": _time(stage),
        }
        bar = Bar(stage, 20 if wide else 8)
        style = "dim" if stage.status == "planned" else ""
        name = words(_name(stage), 32 if wide else 23, style)
        table.add_row(_mark(stage), name, bar, *(numbers[head] for head in heads))
    return table


def _mark(stage: StageState) -> Text:
    if stage.failed:
        return Text("✗", "red")
    return Text(*MARKS[stage.status])


def _time(stage: StageState) -> Text:
    """What is left of a running stage, or what it took."""
    if stage.status == "running":
        return Text("unknown" if stage.seconds_left is None else f"{duration(stage.seconds_left)} left")
    return Text("was there" if stage.status == "found" else duration(stage.seconds) if stage.seconds else "", "dim")


def _rates(state: RunState) -> Text | None:
    if not state.running:
        return None
    said = [
        f"{compact(rate)} {unit}/s"
        for name, unit in (("records", "documents"), ("parts", "parts"))
        if (rate := state.rate(name)) is not None
    ]
    rate = state.rate("bytes")
    said[1:1] = [f"{size(rate)}/s"] if rate is not None and said else []
    return Text.assemble((", ".join(said) + ", " if said else "", ""), (left_text(state), "bold"))


def _rules(state: RunState, width: int) -> Text | None:
    """`left by  c4.sentences 8.1%  language.score 4.6%`; a line ends between rules, never within one."""
    named = [
        Text.assemble(words(rule, 40), (f" {share(part, 1)}", "bold")) for rule, _, part in state.top_rules(RULES_NAMED)
    ]
    lines = [Text.assemble(("left by", "dim"))] if named else []
    for rule in named:
        if lines[-1].cell_len + rule.cell_len + 2 > width:
            lines.append(Text("       "))
        lines[-1].append("  ").append_text(rule)
    return Text("\n").join(lines) if lines else None


def _clusters(state: RunState) -> Text | None:
    """`largest cluster  minhash: 12,345 documents, similar from 0.0125`; a chain of weak matches shows here."""
    said = [
        f"{middled(visible(stage.label), 40)}: {count(stage.largest_cluster[0])} documents, similar from "
        f"{digits(stage.largest_cluster[1], 3)}"
        for stage in state.stages
        if stage.largest_cluster
    ]
    return Text.assemble(("largest cluster  ", "dim"), ", ".join(said)) if said else None


def _troubles(state: RunState, most: int) -> list[Text]:
    lines: list[Text] = []
    if state.waiting:
        lines.append(Text.assemble("waiting: ", words(state.waiting, 300), style="yellow"))
    if state.retries:
        last = f", last {trouble_text(state.last_retry)}" if state.last_retry else ""
        retries = "1 retry" if state.retries == 1 else f"{count(state.retries)} retries"
        lines.append(words(f"{retries}{last}", 300, "yellow"))
    for slow in state.stragglers[:most]:
        lines.append(words(f"slow: {trouble_text(slow)}", 300, "yellow"))
    if len(state.stragglers) > most:
        lines.append(Text(f"and {len(state.stragglers) - most} more slow parts", "yellow"))
    if state.failed:
        lines.append(Text(f"{count(state.failed)} {'part' if state.failed == 1 else 'parts'} failed", "bold red"))
    lines += [words(failure_text(failure), 600, "red") for failure in state.failures[:most]]
    if state.failed > most:
        lines.append(Text(f"and {count(state.failed - most)} more; curate status lists them", "red"))
    if state.status == "failed" and not any(state.error in failure.text for failure in state.failures):
        lines.append(words(state.error, 600, "red"))
    lines += [words(f"! {warning}", 300, "yellow") for warning in state.warnings[-most:]]
    if state.lost_events:
        lines.append(Text(f"! {count(state.lost_events)} events could not be written to the log", "yellow"))
    return lines


def failure_text(failure: Trouble) -> str:
    """A failure's own sentence, which names stage and part; older ones get them in front."""
    return failure.text if failure.text.startswith("Stage ") else trouble_text(failure)


def trouble_text(trouble: Trouble) -> str:
    """`minhash, part 17: attempt 2: the worker was lost`."""
    return f"{trouble.stage}, part {trouble.part}: {trouble.text}"


def _name(stage: StageState, *, phase: bool = True) -> str:
    return f"{stage.label} · {stage.phase}" if phase and stage.phase not in ("", "part") else stage.label


def _unit(stage: StageState) -> str:
    return "this stage" if stage.phase in ("", "part", "apply") else f"the {stage.phase} of this stage"


def _parts(stage: StageState) -> str:
    return f"{count(stage.finished_parts)}/{count(stage.parts) if stage.parts else '?'}"


def _counted(stage: StageState) -> str:
    return f"{count(stage.parts)} {'part' if stage.parts == 1 else 'parts'}"


def _number(value: float | None) -> Text:
    return Text(compact(value) if value else "")


def _stages_after(state: RunState) -> str:
    return f"{state.stages_after} more {'stage' if state.stages_after == 1 else 'stages'} after it"


def _line(text: str, most: int = 400) -> str:
    return shortened(visible(text).replace("\n", " "), most)


class Bar:
    """Parts as a bar: those that were there, those done, those that failed, the rest."""

    def __init__(self, stage: StageState, width: int) -> None:
        self.stage, self.width = stage, width

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        stage, total = self.stage, self.stage.parts
        full, empty = ("#", "-") if options.ascii_only or options.legacy_windows else ("━", "─")
        known = total or 1
        ends = [
            self._cells(min(amount, known), known)
            for amount in (stage.found, stage.finished_parts, stage.finished_parts + stage.failed)
        ]
        start = 0
        for end, color in zip(ends, ("cyan", "green", "red"), strict=True):
            yield Segment(full * (end - start), Style(color=color))
            start = max(start, end)
        yield Segment(empty * (self.width - start), Style(dim=True))

    def _cells(self, amount: int, total: int) -> int:
        """Anything is at least one cell, and only the whole is a whole bar."""
        return self.width if amount == total else min(max(amount > 0, self.width * amount // total), self.width - 1)

    def __rich_measure__(self, console: Console, options: ConsoleOptions) -> "object":
        from rich.measure import Measurement

        return Measurement(self.width, self.width)
