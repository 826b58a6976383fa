"""Arguments of Megatron-LM, open_lm and DCLM for one rung of a ladder, and what each of them cannot express.

Names of arguments: Megatron-LM `megatron/training/arguments.py`; open_lm `open_lm/params.py`; DCLM
`training/hyperparameters.py` and `training/params.py`. Each function gives files by name and sentences. Pure.
"""

import json
import math
import shlex
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from curate.proxy_training.planning.launch_job import Job, script, torchrun

OPEN_LM_EPOCHS = 5
"""Checkpoints of an open_lm training; the last of five is a cool-down of 20%."""
DCLM_NORM = "gain_only_lp_layer_norm"
"""What DCLM's configuration means without a `norm`: LayerNorm with a scale and no bias."""
DCLM_VOCABULARY = 50432
"""Rows of the embedding without a `vocab_size`."""


def megatron(job: Job) -> tuple[dict[str, str], list[str]]:
    run, shape, settings, launch = job.run, job.run.shape, job.run.settings, job.scale.launch
    differences = []
    words = [
        *("--use-mcore-models", f"--num-layers {shape.layers}", f"--hidden-size {shape.width}"),
        *(f"--ffn-hidden-size {shape.ffn}", f"--num-attention-heads {shape.heads}", "--swiglu"),
        *("--position-embedding-type rope", f"--rotary-base {shape.rope_theta:g}", "--rotary-percent 1.0"),
        *(f"--seq-length {shape.sequence_length}", f"--max-position-embeddings {shape.sequence_length}"),
        *(f"--normalization {'RMSNorm' if shape.norm == 'rms' else 'LayerNorm'}", f"--norm-epsilon {shape.norm_eps:g}"),
    ]
    if shape.groups != shape.heads:
        words += ["--group-query-attention", f"--num-query-groups {shape.groups}"]
    if shape.qk_norm == "per_head":
        words.append("--qk-layernorm")
    elif shape.qk_norm == "full":
        differences.append("QK-norm over the whole projection: --qk-layernorm norms each head; left out")
    if shape.norm == "layer":
        differences.append("LayerNorm without a bias: Megatron's LayerNorm has one")
    if shape.norm_placement == "after":
        differences.append("norms behind attention and SwiGLU: Megatron's stand before them")
    if not shape.bias:
        words.append("--disable-bias-linear")
    if not shape.tied:
        words.append("--untie-embeddings-and-output-weights")
    words += [f"--attention-dropout {shape.dropout:g}", f"--hidden-dropout {shape.dropout:g}"]
    words += _megatron_vocabulary(job, differences)
    words += [
        *(f"--micro-batch-size {job.micro_batch}", f"--global-batch-size {run.batch_sequences}"),
        *(f"--train-iters {job.steps}", f"--lr {run.learning_rate:g}", f"--min-lr {settings.final_learning_rate:g}"),
        *(f"--lr-warmup-iters {run.warmup_steps}", f"--lr-decay-iters {job.steps}"),
    ]
    if settings.schedule == "cosine":
        words.append("--lr-decay-style cosine")
    else:
        shape_of_decay = {"linear": "linear", "one_minus_sqrt": "minus_sqrt"}[settings.decay_shape]
        words += ["--lr-decay-style WSD", f"--lr-wsd-decay-style {shape_of_decay}"]
        words.append(f"--lr-wsd-decay-iters {job.decay_steps}")
    words += [
        *("--optimizer adam", f"--weight-decay {settings.weight_decay:g}", f"--adam-beta1 {settings.beta1:g}"),
        *(
            f"--adam-beta2 {settings.beta2:g}",
            f"--adam-eps {settings.adam_eps:g}",
            f"--clip-grad {settings.clip_norm:g}",
        ),
        *(["--bf16"] if job.precision == "bf16" else []),  # float32 is what Megatron takes without a word
        *(f"--seed {job.seed + 1}", "--tensor-model-parallel-size 1", "--pipeline-model-parallel-size 1"),
    ]
    if launch.strategy == "fsdp":
        words.append("--use-distributed-optimizer")
        differences.append("sharded weights: Megatron's distributed optimiser shards its state alone")
    if launch.checkpoint_activations:
        words.append("--recompute-activations")
    if settings.document_mask:
        words += ["--reset-attention-mask", "--reset-position-ids", "--eod-mask-loss"]
        differences.append("document mask: positions start again in each document, and end-of-text is not learnt")
    if settings.z_loss:
        differences.append(f"z-loss {settings.z_loss:g}: Megatron has none for dense models")
    if settings.weight_decay_on != "embeddings":
        differences.append(f"weight decay on {settings.weight_decay_on}: Megatron decays matrices and embeddings")
    differences.append("--seed counts from 1 there: our seed 0 is 1")
    words += ['--data-path "$DATA_PREFIX"', "--split 100,0,0", '--save "$CHECKPOINTS"', '--load "$CHECKPOINTS"']
    words += [f"--save-interval {max(1, job.steps // 40)}", "--log-interval 10", "--log-throughput"]
    title = "Megatron-LM; set DATA_PREFIX (preprocessed by its tools/preprocess_data.py) and CHECKPOINTS."
    text = script(title, [*torchrun(job), "pretrain_gpt.py", *words])
    return {f"{job.name}.megatron.sh": text}, differences


def _megatron_vocabulary(job: Job, differences: list[str]) -> list[str]:
    entries, rows = job.ladder.vocab_size, job.run.shape.vocab_size
    words = ["--tokenizer-type HuggingFaceTokenizer", f"--tokenizer-model {shlex.quote(_tokenizer(job, differences))}"]
    fits = [
        multiple
        for multiple in (1024, 512, 256, 128, 64, 32, 16, 8, 4, 2, 1)
        if -(-entries // multiple) * multiple == rows
    ]
    if not fits:
        differences.append(f"an embedding of {rows:,} rows: Megatron pads {entries:,} entries to a multiple only")
    return [*words, f"--vocab-size {entries}", f"--make-vocab-size-divisible-by {fits[0] if fits else 128}"]


def open_lm(job: Job) -> tuple[dict[str, str], list[str]]:
    run, settings, launch = job.run, job.run.settings, job.scale.launch
    model, differences = _open_lm_model(job)
    _tokenizer(job, differences)
    tokens = job.steps * run.batch_tokens
    words = [
        *(*torchrun(job), "-m open_lm.main"),
        *(f"--model {job.name}.model.json", '--dataset-manifest "$MANIFEST"', "--data-key json.gz"),
        *(f"--train-num-samples {tokens // OPEN_LM_EPOCHS}", f"--epochs {OPEN_LM_EPOCHS}", "--accurate-total-tokens"),
        *(f"--global-batch-size {run.batch_sequences}", f"--accum-freq {job.accumulation}"),
        *(_open_lm_precision(job), f"--lr {run.learning_rate:g}", f"--warmup {run.warmup_steps}"),
        *(f"--wd {settings.weight_decay:g}", f"--beta1 {settings.beta1:g}", f"--beta2 {settings.beta2:g}"),
        *(f"--eps {settings.adam_eps:g}", f"--grad-clip-norm {settings.clip_norm:g}"),
        *(f"--lr-cooldown-end {settings.final_learning_rate:g}", f"--model-norm {_open_lm_norm(job)}"),
        *(f"--seed {job.seed}", f"--name {job.name}", '--logs "$LOGS"', "--resume latest"),
    ]
    words += _open_lm_schedule(job, differences)
    if run.shape.qk_norm != "none":
        words.append("--qk-norm")
    if settings.z_loss:
        words.append(f"--z-loss-coefficient {settings.z_loss:g}")
    if launch.checkpoint_activations:
        words.append("--grad-checkpointing")
    words += _fsdp_flags(job)
    sample = f"{run.shape.sequence_length + 1:,}"
    title = f"open_lm; set MANIFEST (manifest.jsonl of tars with {sample} tokens a sample) and LOGS."
    files = {f"{job.name}.model.json": _json(model), f"{job.name}.open_lm.sh": script(title, words)}
    return files, [
        *differences,
        f"tokens are drawn in {OPEN_LM_EPOCHS} equal parts; the last is rounded to whole shards",
    ]


def dclm(job: Job) -> tuple[dict[str, str], list[str]]:
    run, shape, settings, launch = job.run, job.run.shape, job.run.settings, job.scale.launch
    model, differences = _open_lm_model(job)
    _tokenizer(job, differences)
    for name, ours, theirs in (
        ("beta1", settings.beta1, 0.9),
        ("beta2", settings.beta2, 0.95),
        ("adam_eps", settings.adam_eps, 1e-8),
        ("clip_norm", settings.clip_norm, 1.0),
    ):
        if ours != theirs:
            differences.append(f"{name} {ours:g}: DCLM's is {theirs:g}, and no field of its configuration")
    if settings.schedule != "cosine":
        differences.append("the schedule: DCLM's is cosine")
    params = replace(shape, qk_norm="none").params_stored
    multiple = job.budget_tokens / (20 * params)
    multiple = round(multiple) if multiple >= 1 and abs(multiple - round(multiple)) < 1e-6 else 1
    config = {
        "model": f"training/open_lm_configs/{job.name}.json",
        "params": params,
        "params_no_embed": params - shape.parameters_embedding,
        "tokens": job.budget_tokens // multiple,
        "warmup": run.warmup_steps,
        "lr": run.learning_rate,
        "wd": settings.weight_decay,
        "cd": settings.final_learning_rate,
        "global_bs": run.batch_sequences,
        "acc": job.accumulation,
        "qk_norm": shape.qk_norm != "none",
        "z_loss": settings.z_loss,
        "grad_checkpointing": launch.checkpoint_activations,
        "fsdp_flags": _fsdp_flags(job),
        "chinchilla_multiplier": multiple,
    }
    if _open_lm_norm(job) != DCLM_NORM:
        config["norm"] = _open_lm_norm(job)
    if shape.vocab_size != DCLM_VOCABULARY:
        config["vocab_size"] = shape.vocab_size
    start = [*torchrun(job), "-m training.train --"]
    words = [f"--scale {job.name}", '--data-config "$DATA_CONFIG"', '--logs "$LOGS"', "--attn-name torch_attn"]
    words += [_open_lm_precision(job), f"--seed {job.seed}", f"--num-checkpoints {OPEN_LM_EPOCHS}"]
    words.append("--multiple-data-passes")
    title = "DCLM's repository with the two JSON files in training/; set DATA_CONFIG (of exp_data/datasets) and LOGS."
    files = {
        f"training/configs/{job.name}.json": _json(config),
        f"training/open_lm_configs/{job.name}.json": _json(model),
        f"{job.name}.dclm.sh": script(title, [*start, *words]),
    }
    if job.precision == "bf16":
        differences.append("weights stay in float32 (--fsdp-amp); DCLM's 3B and 7B keep them in --fsdp-pure-bf16")
    else:
        differences.append("float32: DCLM's own trainings multiply in bfloat16 (--precision amp_bfloat16)")
    return files, differences


def _open_lm_model(job: Job) -> tuple[dict[str, Any], list[str]]:
    """The model's JSON, and what it has no field for."""
    shape, settings = job.run.shape, job.run.settings
    model = {
        "hidden_dim": shape.width,
        "n_layers": shape.layers,
        "n_heads": shape.heads,
        "seq_len": shape.sequence_length,
        "vocab_size": shape.vocab_size,
        "post_embed_norm": False,
        "weight_tying": shape.tied,
        "ffn_type": "swiglu_torch",
    }
    given = 256 * ((int(2 * 4 * shape.width / 3) + 255) // 256)
    found = {
        f"an FFN of {shape.ffn:,}: open_lm makes it {given:,} for this width": shape.ffn != given,
        "biases in the linear layers: open_lm has none": shape.bias,
        "QK-norm per head: open_lm norms the whole projection": shape.qk_norm == "per_head",
        f"dropout {shape.dropout:g}: open_lm has none": shape.dropout > 0,
        f"rope_theta {shape.rope_theta:g}: open_lm's is 10,000": shape.rope_theta != 10_000,
        f"norm_eps {shape.norm_eps:g}: open_lm's is 1e-5": shape.norm_eps != 1e-5,
        f"{shape.groups} heads of keys and values: open_lm has one for each head": shape.groups != shape.heads,
        "norms behind attention and SwiGLU: open_lm's stand before them": shape.norm_placement == "after",
        "document mask: open_lm attends across documents": settings.document_mask,
        f"weight decay on {settings.weight_decay_on}: open_lm decays all weights": settings.weight_decay_on != "all",
    }
    return model, [sentence for sentence, differs in found.items() if differs]


def _open_lm_norm(job: Job) -> str:
    return DCLM_NORM if job.run.shape.norm == "layer" else "rms_norm"


def _open_lm_schedule(job: Job, differences: list[str]) -> list[str]:
    settings = job.run.settings
    if settings.schedule == "cosine":
        return ["--lr-scheduler cosine"]
    cooling = max(1, round(settings.decay_fraction * OPEN_LM_EPOCHS))
    if not math.isclose(cooling / OPEN_LM_EPOCHS, settings.decay_fraction):
        differences.append(
            f"a cool-down of {settings.decay_fraction:.0%}: open_lm counts it in epochs, {cooling} of {OPEN_LM_EPOCHS} "
            "here"
        )
    if settings.decay_shape != "linear":
        differences.append("a cool-down by 1 - sqrt: open_lm's is a power; linear here")
    return ["--lr-scheduler const-cooldown", f"--epochs-cooldown {cooling}", "--lr-cooldown-power 1"]


def _open_lm_precision(job: Job) -> str:
    return f"--precision {'amp_bfloat16' if job.precision == 'bf16' else 'fp32'}"


def _fsdp_flags(job: Job) -> list[str]:
    if job.scale.launch.strategy != "fsdp":
        return []
    return ["--fsdp", *(["--fsdp-amp"] if job.precision == "bf16" else []), "--fsdp-limit-all-gathers"]


def _tokenizer(job: Job, differences: list[str]) -> str:
    if job.ladder.tokenizer is None:
        differences.append("the tokenizer is trained by the study: give the target its tokenizer.json")
        return "tokenizer.json"
    return job.ladder.tokenizer


def _json(value: Mapping[str, Any]) -> str:
    return json.dumps(value, indent=4) + "\n"
