"""What share of a GPU's peak training reaches, rung by rung, and where its time goes.

    python benchmarks/training/gpu.py [--rungs open_sci_ref/0.13B-50B single_gpu/4M ...] [--micro 8] [--without-dropout]
    python benchmarks/training/gpu.py --together 1 2 4 8 --rungs single_gpu/4M --steps 150

The trainer as it ships (`Trainer.advance`: reading, forward, backward, clipping, AdamW) on tokens of the sample's
held-out text, bfloat16, compiled. A step is two micro batches; the figure is the median of the steps after the first
three, by the wall clock around a synchronised device. Shares are of a product of two random 8192 x 8192 matrices in the
same process and of the datasheet's 989 TFLOP/s (H100 SXM, dense), with attention counted over the whole square (as
PaLM, nanoGPT and our `flops_per_token_exact`), over its causal half, and not at all (6ND). `--without-dropout`: as most
others measure (open-sci-ref drops a tenth, in attention too). `--together`: so many processes that share the GPU, as
`curate train` lets small rungs; the sum of their rates. Results are merged into gpu.json.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from dataclasses import replace
from pathlib import Path

OUT = Path(__file__).with_suffix(".json")
RUNGS = ["open_sci_ref/0.13B-50B", "open_sci_ref/0.4B-50B"]
KINDS = (
    ("attention", ("flash", "fmha", "cudnn_generated", "sdpa", "attention")),
    ("matrix products", ("gemm", "cutlass", "nvjet", "xmma", "splitk", "cublas")),
    ("AdamW and norms", ("multi_tensor", "foreach", "adam")),
    ("loss (compiled)", ("logits", "amax", "scatter")),
    ("compiled elementwise", ("triton",)),
    ("copies", ("memcpy", "memset", "copy")),
)


def packed(folder: Path):
    """The sample's held-out text under a tokenizer of 4,096 entries."""
    import pyarrow.parquet as pq

    import curate.sample
    from curate.proxy_training.packing import pack_dataset
    from curate.proxy_training.tokens.tokenizer import train_tokenizer

    files = sorted((Path(curate.sample.__file__).parent / "heldout").glob("*.parquet"))
    texts = [text for file in files for text in pq.read_table(file, columns=["text"])["text"].to_pylist()]
    train_tokenizer(texts, vocab_size=4096, path=folder / "tokenizer.json")
    return pack_dataset(
        files, name="heldout", fingerprint="heldout", tokenizer=folder / "tokenizer.json", out=folder / "packed"
    )


def run_of(name: str, dataset, *, micro: int | None, dropout: bool, mode: str):
    """The run of a rung; a step is two micro batches."""
    from curate.proxy_training.planning.ladder_file import load_ladder
    from curate.proxy_training.procedure import Procedure
    from curate.proxy_training.run import Run

    ladder_name, rung = name.split("/")
    ladder = load_ladder(ladder_name)
    scale = next(scale for scale in ladder.scales if scale.name == rung)
    micro = micro or scale.launch.micro_batch_sequences or 8
    launch = scale.launch.model_copy(update={"micro_batch_sequences": micro})
    scale = scale.model_copy(update={"batch_sequences": 2 * micro, "launch": launch})
    procedure = Procedure(
        **ladder.procedure.model_dump() | ({} if dropout else {"dropout": 0.0}),
        tokenizer=dataset.tokenizer_fingerprint,
        sequence_length=ladder.sequence_length,
        precision="bf16",
        compile=mode,
    )
    vocabulary = ladder.model_vocab_size or ladder.vocab_size
    return Run(replace(dataset, vocab_size=vocabulary), scale, 0, procedure, "none"), micro


def measured(name: str, dataset, *, micro: int | None, dropout: bool, mode: str, steps: int, profiled: bool) -> dict:
    """What a rung reaches."""
    import torch

    from curate.proxy_training.planning.device_costs import DEVICES
    from curate.proxy_training.train import Trainer
    from curate.proxy_training.training.throughput import peak_flops_per_second
    from curate.proxy_training.training.world import World

    device = torch.device("cuda", 0)
    run, micro = run_of(name, dataset, micro=micro, dropout=dropout, mode=mode)
    torch.cuda.reset_peak_memory_stats()
    began = time.perf_counter()
    trainer = Trainer([run], world=World(device=device))
    first = [trainer.advance(decay=None).losses[0] for _ in range(3)]
    torch.cuda.synchronize()
    compiling = time.perf_counter() - began
    seconds = []
    for _ in range(steps):
        start = time.perf_counter()
        trainer.advance(decay=None)
        torch.cuda.synchronize()
        seconds.append(time.perf_counter() - start)
    shape, rate = run.shape, run.batch_tokens / statistics.median(seconds)
    square = 12.0 * shape.layers * shape.width * shape.sequence_length
    flops = {
        "whole_square": shape.flops_per_token_exact,
        "causal": shape.flops_per_token_exact - square / 2,
        "6ND": shape.flops_per_token,
    }
    peak, datasheet = peak_flops_per_second(device, bf16=True), DEVICES["h100"].peak_flops
    row = {
        "rung": name,
        "dropout": run.procedure.dropout,
        "compile": mode,
        "parameters": shape.params,
        "sequence_length": shape.sequence_length,
        "micro_batch_sequences": micro,
        "tokens_per_second": round(rate),
        "step_seconds": [round(min(seconds), 4), round(statistics.median(seconds), 4), round(max(seconds), 4)],
        "matmul_peak_tflops": round(peak / 1e12),
        "share_of_measured_peak": {key: round(rate * value / peak, 3) for key, value in flops.items()},
        "share_of_datasheet": {key: round(rate * value / datasheet, 3) for key, value in flops.items()},
        "memory_gb": round(torch.cuda.max_memory_allocated() / 1e9, 1),
        "seconds_before": round(compiling, 1),
        "first_losses": [round(loss, 3) for loss in first],
        "profile": profile(trainer) if profiled else None,
    }
    trainer.close()
    return row


def profile(trainer) -> dict:
    """Milliseconds of a step by kind of kernel, and the longest kernels."""
    import torch
    from torch.profiler import ProfilerActivity

    with torch.profiler.profile(activities=[ProfilerActivity.CUDA, ProfilerActivity.CPU]) as record:
        start = time.perf_counter()
        trainer.advance(decay=None)
        torch.cuda.synchronize()
        wall = time.perf_counter() - start
    by_kind: dict[str, float] = defaultdict(float)
    kernels = [
        (event.self_device_time_total / 1e3, event.count, event.key)
        for event in record.key_averages()
        if event.self_device_time_total > 0 and event.device_type == torch.autograd.DeviceType.CUDA
    ]
    for milliseconds, _, name in kernels:
        kind = next((kind for kind, words in KINDS if any(word in name.lower() for word in words)), "other")
        by_kind[kind] += milliseconds
    longest = sorted(kernels, reverse=True)[:24]
    return {
        "wall_ms": round(wall * 1e3, 1),
        "kernels_ms": {kind: round(value, 1) for kind, value in sorted(by_kind.items(), key=lambda kv: -kv[1])},
        "longest": [f"{milliseconds:.1f} ms x{count} {name[:110]}" for milliseconds, count, name in longest],
    }


def together(name: str, processes: int, *, steps: int) -> int:
    """Tokens a second of so many processes that train a rung on one GPU at the same time."""
    with tempfile.TemporaryDirectory() as folder:
        outs = [Path(folder) / f"{number}.json" for number in range(processes)]
        command = [sys.executable, __file__, "--rungs", name, "--steps", str(steps), "--out"]
        team = [subprocess.Popen([*command, str(out)], stdout=subprocess.DEVNULL) for out in outs]
        codes = [process.wait() for process in team]
        if any(codes):
            raise SystemExit(f"one of {processes} processes failed")
        rows = [row for out in outs for row in json.loads(out.read_text())["rungs"].values()]
    return sum(row["tokens_per_second"] for row in rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rungs", nargs="*", default=RUNGS)
    parser.add_argument("--micro", type=int, default=None, help="sequences at once (default: the rung's, or 8)")
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--mode", default="blocks", help="as `compile: auto` settles it")
    parser.add_argument("--without-dropout", action="store_true")
    parser.add_argument("--profile", action="store_true")
    parser.add_argument("--together", nargs="*", type=int, default=[])
    parser.add_argument("--out", type=Path, default=OUT)
    options = parser.parse_args()
    import torch

    result = json.loads(options.out.read_text()) if options.out.exists() else {"rungs": {}}
    with tempfile.TemporaryDirectory() as folder:
        dataset = packed(Path(folder))
        for name in options.rungs if options.together else []:
            rates = {str(number): together(name, number, steps=options.steps) for number in options.together}
            print(name, rates, flush=True)
            result.setdefault("tokens_per_second_by_processes", {}).setdefault(name, {}).update(rates)
        for name in [] if options.together else options.rungs:
            row = measured(
                name,
                dataset,
                micro=options.micro,
                dropout=not options.without_dropout,
                mode=options.mode,
                steps=options.steps,
                profiled=options.profile,
            )
            print(json.dumps(row, indent=1), flush=True)
            dropped = " without dropout" if options.without_dropout else ""
            key = f"{name}{dropped}, {row['micro_batch_sequences']} at once, {options.mode}"
            result["rungs"][key] = row
    result |= {
        "what": "training on one GPU as it ships; median step after the first three",
        "device": torch.cuda.get_device_name(0),
        "versions": {"torch": torch.__version__, "cuda": torch.version.cuda},
        "seed": 0,
    }
    options.out.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
