"""The NOTICE of the task items that ship: who made them, under which licence, what was changed."""

from collections.abc import Mapping

CREDITS = {  # task: (title and authors, licence)
    "arc_easy": ("ARC-Easy, Clark et al. 2018, Allen Institute for AI", "CC BY-SA 4.0"),
    "boolq": ("BoolQ, Clark et al. 2019, Google; passages from Wikipedia", "CC BY-SA 3.0"),
    "winogrande": ("WinoGrande, Sakaguchi et al. 2019, Allen Institute for AI", "CC BY"),
    "winograd_wsc": ("Winograd Schema Challenge, Levesque, Davis and Morgenstern 2012", "CC BY 4.0"),
    "truthfulqa_mc1": ("TruthfulQA, Lin, Hilton and Evans 2021", "Apache-2.0"),
    "math_qa": ("MathQA, Amini et al. 2019", "Apache-2.0"),
    "gsm8k": ("GSM8K, Cobbe et al. 2021, Copyright (c) 2021 OpenAI", "MIT"),
}
BIG_BENCH = ("BIG-bench, Srivastava et al. 2022, the BIG-bench collaboration", "Apache-2.0")
CHANGED = {
    "arc_easy": "a line 'Answer:' was added",
    "boolq": "a line 'Answer:' was added",
    "truthfulqa_mc1": "the best answer stands among the incorrect ones, at a place given by a hash",
    "math_qa": "the list of lettered answers was made a column",
    "bigbench_conceptual_combinations": "the list of lettered answers was taken out of the question",
    "bigbench_logical_deduction": "the list of lettered answers was taken out of the question",
    "gsm8k": "the marks for a calculator were taken out of the solutions",
}
MIT = """Permission is hereby granted, free of charge, to any person obtaining a copy of this software and associated
documentation files (the "Software"), to deal in the Software without restriction, including without limitation the
rights to use, copy, modify, merge, publish, distribute, sublicense, and/or sell copies of the Software, and to permit
persons to whom the Software is furnished to do so, subject to the following conditions: The above copyright notice and
this permission notice shall be included in all copies or substantial portions of the Software. THE SOFTWARE IS PROVIDED
"AS IS", WITHOUT WARRANTY OF ANY KIND, EXPRESS OR IMPLIED, INCLUDING BUT NOT LIMITED TO THE WARRANTIES OF
MERCHANTABILITY, FITNESS FOR A PARTICULAR PURPOSE AND NONINFRINGEMENT. IN NO EVENT SHALL THE AUTHORS OR COPYRIGHT
HOLDERS BE LIABLE FOR ANY CLAIM, DAMAGES OR OTHER LIABILITY, WHETHER IN AN ACTION OF CONTRACT, TORT OR OTHERWISE,
ARISING FROM, OUT OF OR IN CONNECTION WITH THE SOFTWARE OR THE USE OR OTHER DEALINGS IN THE SOFTWARE."""


def notice(counts: Mapping[str, int], sources: Mapping[str, str], prompts: int, prompts_source: str) -> str:
    """The text; `counts` and `sources` by task."""
    lines = [
        "Items of public evaluation tasks, a seeded sample of each, made by examples/make_tasks.py.",
        "They are test data: keep them out of anything that a model is trained on.",
        "Items under CC BY-SA stay under CC BY-SA (https://creativecommons.org/licenses/by-sa/4.0/ and /3.0/);",
        "CC BY: https://creativecommons.org/licenses/by/4.0/; Apache-2.0: the LICENSE of this project.",
        "",
    ]
    for task, count in counts.items():
        title, licence = CREDITS.get(task, BIG_BENCH)
        lines += [
            f"{task}: {count} items. {title}. Licence: {licence}.",
            f"  Source: {sources[task]}",
            f"  Changes: {CHANGED.get(task, 'none')}; {count} items chosen.",
        ]
    lines += [
        f"aiw.parquet: {prompts} prompts. Alice in Wonderland, Nezhurina et al. 2024, LAION. Licence: Apache-2.0.",
        f"  Source: {prompts_source}",
        "  Changes: prompts whose answer has one digit, of templates with three variations or more, one of each.",
        "",
        "MIT licence of GSM8K:",
        MIT,
        "",
    ]
    return "\n".join(lines)
