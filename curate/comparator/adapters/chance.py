"""Chance levels of common tasks, as shares: the score of a model that guesses. Data, not rules.

DCLM_BASELINE: the "random baselines" of DCLM's evaluation since September 2025 (eval_meta_data.csv, mlfoundations/dclm,
MIT), by which its centred scores subtract; for boolq and commonsense_qa that is the majority answer's share rather
than a guess. LM_EVAL: 1 / number of answers, for tasks of lm-evaluation-harness whose number of answers is fixed.
What stands in neither has an unknown chance level, which is null in the measurements, never 0.
"""

DCLM_BASELINE: dict[str, float] = {
    "mmlu_zeroshot": 0.25,
    "hellaswag_zeroshot": 0.25,
    "jeopardy": 0.0,
    "triviaqa_sm_sub": 0.0,
    "gsm8k_cot": 0.0,
    "agi_eval_sat_math_cot": 0.0,
    "aqua_cot": 0.0,
    "svamp_cot": 0.0,
    "bigbench_qa_wikidata": 0.0,
    "arc_easy": 0.25,
    "arc_challenge": 0.25,
    "mmlu_fewshot": 0.25,
    "bigbench_misconceptions": 0.5,
    "copa": 0.5,
    "siqa": 0.5,
    "commonsense_qa": 0.403,
    "piqa": 0.5,
    "openbook_qa": 0.25,
    "bigbench_novel_concepts": 0.25,
    "bigbench_strange_stories": 0.5,
    "bigbench_strategy_qa": 0.5,
    "lambada_openai": 0.0,
    "hellaswag": 0.25,
    "winograd": 0.5,
    "winogrande": 0.5,
    "bigbench_conlang_translation": 0.0,
    "bigbench_language_identification": 0.25,
    "bigbench_conceptual_combinations": 0.33,
    "bigbench_elementary_math_qa": 0.25,
    "bigbench_dyck_languages": 0.0,
    "agi_eval_lsat_ar": 0.25,
    "bigbench_cs_algorithms": 0.0,
    "bigbench_logical_deduction": 0.25,
    "bigbench_operators": 0.0,
    "bigbench_repeat_copy_logic": 0.0,
    "simple_arithmetic_nospaces": 0.0,
    "simple_arithmetic_withspaces": 0.0,
    "math_qa": 0.2,
    "logi_qa": 0.25,
    "pubmed_qa_labeled": 0.0,
    "squad": 0.0,
    "agi_eval_lsat_rc": 0.25,
    "agi_eval_lsat_lr": 0.25,
    "coqa": 0.0,
    "bigbench_understanding_fables": 0.25,
    "boolq": 0.62,
    "agi_eval_sat_en": 0.25,
    "winogender_mc_female": 0.5,
    "winogender_mc_male": 0.5,
    "enterprise_pii_classification": 0.5,
    "bbq": 0.5,
    "gpqa_main": 0.25,
    "gpqa_diamond": 0.25,
}

_HALF = "boolq cola copa mrpc piqa qnli qqp rte sst2 wic winogrande wnli wsc wsc273 xcopa xstorycloze xwinograd blimp"
_THIRD = "anli_r1 anli_r2 anli_r3 cb mnli mnli_mismatch pubmedqa siqa social_iqa xnli"
_QUARTER = (
    "agieval_logiqa_en arc_challenge arc_easy belebele hellaswag hendrycksTest logiqa logiqa2 medmcqa medqa_4options "
    "mmlu openbookqa prost qa4mre_2011 race sciq swag"
)
_FIFTH = "commonsense_qa aqua_rat mathqa"
_NONE = "drop gsm8k gsm8k_cot hendrycks_math lambada lambada_openai lambada_standard nq_open squadv2 triviaqa webqs"

LM_EVAL: dict[str, float] = {
    task: chance
    for tasks, chance in ((_HALF, 0.5), (_THIRD, 1 / 3), (_QUARTER, 0.25), (_FIFTH, 0.2), (_NONE, 0.0))
    for task in tasks.split()
}
FAMILIES = ("mmlu_", "hendrycksTest-", "belebele_", "xcopa_", "xwinograd_", "xstorycloze_", "xnli_", "blimp_")


def lm_eval_chance(task: str) -> float | None:
    """Chance of an accuracy on a task of lm-evaluation-harness; None where it is not known here."""
    if task in LM_EVAL:
        return LM_EVAL[task]
    family = next((f for f in FAMILIES if task.startswith(f)), None)
    if family is None or task.startswith("mmlu_pro"):
        return None
    return LM_EVAL[family.rstrip("_-")]
