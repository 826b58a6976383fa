"""How fast a training step is, rung by rung: ours as it ships against Hugging Face Llama and a nanoGPT-style loop.

    python benchmarks/training/speed.py [--rungs 0.25M 4M] [--stacks 2 4] [--threads 1] [--skip-compiled-peers]
    python benchmarks/training/speed.py --ladder [--scale-down .005]

All contenders of a rung train on the same tokens in rounds that take turns; a contender's figure is the least CPU time
of a step. Ours run in a process that is set as our workers are, the peers in one that is left as it is, and once more
in one that keeps freed memory as ours does (`_kept`). Compilation is stated apart, with empty and with warm caches. A
rung's share of peak is (6 x matrices + attention) FLOPs over the best rate of a matrix product of its type. `--ladder`:
the laptop ladder of four datasets as it ships (groups, a one-thread process a core) against its runs one by one in a
process with all threads; wall time, so let the machine be idle. Results are merged into speed.json.
"""

import argparse
import json
import multiprocessing
import os
import platform
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

OUT = Path(__file__).with_suffix(".json")
SEED = 0
ABOVE = {"name": "14M", "width": 384, "layers": 7, "heads": 6, "ffn": 1024}


@dataclass
class Contender:
    """One way of training."""

    step: Callable[[], object]
    """One step: forward, backward, clipping, AdamW."""
    tokens: int
    """Tokens of all members of a step."""
    kind: str = "fp32"
    """Type of its matrix products."""
    first_seconds: float = 0.0
    """CPU seconds of the first two steps, compilers included, or the reading of kernels that an earlier run made."""
    best: float = float("inf")
    """Least CPU seconds of a step."""


def shapes(vocab_size: int) -> dict:
    """The rungs of the laptop ladder and one above it: name to (shape, sequences in a step)."""
    from curate.proxy_training.network.shape import ModelShape
    from curate.proxy_training.planning.ladder_file import load_ladder

    ladder = load_ladder("laptop")
    rungs = [scale.model_dump(include={"name", "width", "layers", "heads", "ffn"}) for scale in ladder.scales]
    found = {}
    for rung in [*rungs, ABOVE]:
        sizes = {key: rung[key] for key in ("width", "layers", "heads", "ffn")}
        shape = ModelShape(vocab_size=vocab_size, sequence_length=ladder.sequence_length, **sizes)
        found[rung["name"]] = (shape, 8 if shape.parameters_blocks > 2_000_000 else 4)
    return found


def ours(shape, sequences: int, *, members: int | None, mode: str, bf16: bool) -> Contender:
    """Our model, loss, compilation and optimiser."""
    import torch

    from curate.proxy_training.model import Proxy
    from curate.proxy_training.network.compiling import compile_model, compile_now
    from curate.proxy_training.network.optimiser import AdamSettings, TensorRule, make_optimiser

    model = Proxy(shape, members=members, bf16=bf16, z_loss=1e-4).initialise(list(range(members or 1)))
    tokens = drawn(shape, sequences, members)
    seconds = -sum(os.times()[:4])
    compile_model(model, mode)
    if mode != "eager":
        compile_now(model, tokens.shape)
    seconds += sum(os.times()[:4])
    rules = {
        name: TensorRule(weight_decay=model.parametrisation.weight_decay_multiplier(name))
        for name, _ in model.named_parameters()
    }
    settings = AdamSettings(beta1=0.9, beta2=0.95, eps=1e-8, weight_decay=0.05, clip_norm=1.0)
    optimiser = make_optimiser(model, settings, rules, members=members)

    def step() -> object:
        minimised, nats = model(tokens)
        minimised.sum().backward()
        optimiser.step(1e-3)
        return torch.as_tensor(nats).tolist()

    return Contender(step, shape.sequence_length * sequences * (members or 1), "bf16" if bf16 else "fp32", seconds)


def theirs(loss: Callable, model, shape, sequences: int, *, bf16: bool, compiled: bool) -> Contender:
    """A plain loop around `loss(model, sequences)`: autocast, fused AdamW, clipping."""
    import torch

    tokens = drawn(shape, sequences)
    run = torch.compile(model) if compiled else model
    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-3, betas=(0.9, 0.95), weight_decay=0.05, fused=True)

    def step() -> object:
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=bf16):
            value = loss(run, tokens)
        value.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)
        return value.item()

    return Contender(step, shape.sequence_length * sequences, "bf16" if bf16 else "fp32")


def hugging_face(shape):
    """LlamaForCausalLM of the same shape, with its own loss (it shifts the labels itself)."""
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=shape.vocab_size,
        hidden_size=shape.width,
        intermediate_size=shape.ffn,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        max_position_embeddings=shape.sequence_length,
        tie_word_embeddings=True,
        use_cache=False,
        bos_token_id=None,
        eos_token_id=None,
    )

    def loss(model, tokens):
        return model(input_ids=tokens[:, :-1].contiguous(), labels=tokens[:, :-1].contiguous()).loss

    return loss, LlamaForCausalLM(config)


def nanogpt(shape):
    """A nanoGPT-style model: LayerNorm, learned positions, GELU; as many parameters in a block (1.5 x the FFN)."""
    import torch
    import torch.nn.functional as F
    from torch import nn

    class Layer(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            d, f = shape.width, 3 * shape.ffn // 2
            self.norms = nn.ModuleList((nn.LayerNorm(d, bias=False), nn.LayerNorm(d, bias=False)))
            self.qkv, self.out = nn.Linear(d, 3 * d, bias=False), nn.Linear(d, d, bias=False)
            self.up, self.down = nn.Linear(d, f, bias=False), nn.Linear(f, d, bias=False)

        def forward(self, x):
            b, t, d = x.shape
            parts = self.qkv(self.norms[0](x)).split(d, 2)
            q, k, v = (part.view(b, t, shape.heads, d // shape.heads).transpose(1, 2) for part in parts)
            mixed = F.scaled_dot_product_attention(q, k, v, is_causal=True)
            x = x + self.out(mixed.transpose(1, 2).reshape(b, t, d))
            return x + self.down(F.gelu(self.up(self.norms[1](x))))

    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.tokens = nn.Embedding(shape.vocab_size, shape.width)
            self.positions = nn.Embedding(shape.sequence_length, shape.width)
            self.layers = nn.ModuleList(Layer() for _ in range(shape.layers))
            self.norm = nn.LayerNorm(shape.width, bias=False)
            self.head = nn.Linear(shape.width, shape.vocab_size, bias=False)
            self.head.weight = self.tokens.weight
            nn.init.normal_(self.tokens.weight, std=0.02)

        def forward(self, tokens, targets):
            x = self.tokens(tokens) + self.positions(torch.arange(tokens.shape[1]))
            for layer in self.layers:
                x = layer(x)
            logits = self.head(self.norm(x))
            return F.cross_entropy(logits.flatten(0, 1), targets.flatten())

    def loss(model, tokens):
        return model(tokens[:, :-1].contiguous(), tokens[:, 1:].contiguous())

    return loss, Model()


def drawn(shape, sequences: int, members: int | None = None):
    """Token ids from the seed, the same for all; (members, sequences, T + 1) for a stack."""
    import torch

    generator = torch.Generator().manual_seed(SEED)
    size = (
        (sequences, shape.sequence_length + 1) if members is None else (members, sequences, shape.sequence_length + 1)
    )
    return torch.randint(0, shape.vocab_size, size, generator=generator)


def contenders(who: str, name: str, options: argparse.Namespace) -> dict[str, Contender]:
    """The ways of training a rung that one process tries; `who` is ours, peers or peers_kept."""
    shape, sequences = shapes(options.vocab_size)[name]
    if who == "ours":
        found = {
            "ours": ours(shape, sequences, members=None, mode=options.mode, bf16=True),
            "ours_eager_fp32": ours(shape, sequences, members=None, mode="eager", bf16=False),
        }
        for members in options.stacks:
            found[f"ours_stack_{members}"] = ours(shape, sequences, members=members, mode=options.mode, bf16=True)
        return found
    found = {}
    for peer, make in (("hugging_face", hugging_face), ("nanogpt", nanogpt)):
        for bf16 in (False, True):
            key = f"{peer}_{'bf16' if bf16 else 'fp32'}{who.removeprefix('peers')}"
            found[key] = theirs(*make(shape), shape, sequences, bf16=bf16, compiled=False)
        if not options.skip_compiled_peers:
            key = f"{peer}_compiled{who.removeprefix('peers')}"
            found[key] = theirs(*make(shape), shape, sequences, bf16=True, compiled=True)
    return found


def try_contenders(pipe, who: str, name: str, options: argparse.Namespace) -> None:
    """Life of a process: prepare its contenders, train each for a while whenever the parent asks, hand in figures."""
    import torch

    from curate.proxy_training.scheduling.workers import keep_freed_memory

    if who != "peers":
        keep_freed_memory()  # as a worker does
    torch.set_num_threads(options.threads)
    found = contenders(who, name, options)
    for contender in found.values():
        start = sum(os.times()[:4])
        contender.step()
        contender.step()
        contender.first_seconds += sum(os.times()[:4]) - start
    peaks = matmul_peaks() if who == "ours" else {}
    pipe.send("ready")
    while pipe.recv():
        for contender in found.values():
            budget = time.process_time() + options.seconds
            while time.process_time() < budget:
                start = time.process_time()
                contender.step()
                contender.best = min(contender.best, time.process_time() - start)
        pipe.send("done")
    warm = None
    if who == "ours":
        torch._dynamo.reset()
        start = sum(os.times()[:4])
        shape, sequences = shapes(options.vocab_size)[name]
        ours(shape, sequences, members=None, mode=options.mode, bf16=True).step()
        warm = sum(os.times()[:4]) - start
    figures = {key: (one.tokens, one.best, one.first_seconds, one.kind) for key, one in found.items()}
    pipe.send((figures, peaks, warm))


def matmul_peaks(*, seconds: float = 1.0) -> dict[str, float]:
    """FLOP/s of this process's CPU time in products of square matrices, the best of several sizes, by type."""
    import torch

    peaks = {}
    for kind, dtype in (("fp32", torch.float32), ("bf16", torch.bfloat16)):
        best = 0.0
        for size in (512, 1024, 1536, 2048):
            a, b = torch.randn(size, size).to(dtype), torch.randn(size, size).to(dtype)
            out = a @ b
            budget = time.process_time() + seconds
            while time.process_time() < budget:
                start = time.process_time()
                torch.mm(a, b, out=out)
                best = max(best, 2 * size**3 / (time.process_time() - start))
        peaks[kind] = best
    return peaks


def rung_result(name: str, options: argparse.Namespace) -> dict:
    """The figures of one rung."""
    context = multiprocessing.get_context("spawn")
    team = []
    kernels = Path(os.environ["TORCHINDUCTOR_CACHE_DIR"])
    fresh = not kernels.exists() or not any(kernels.iterdir())
    load = [os.getloadavg()[0]]
    for who in ("ours", "peers", "peers_kept"):
        mine, other = context.Pipe()
        process = context.Process(target=try_contenders, args=(other, who, name, options))
        process.start()
        other.close()
        mine.recv()  # one after the other: compilers are not timed side by side
        team.append((process, mine))
    for _ in range(options.rounds):
        for _, pipe in team:
            pipe.send(True)
            pipe.recv()
    load.append(os.getloadavg()[0])
    figures: dict[str, tuple[int, float, float, str]] = {}
    peaks: dict[str, float] = {}
    warm = 0.0
    for process, pipe in team:
        pipe.send(False)
        some, its_peaks, its_warm = pipe.recv()
        figures |= some
        peaks |= its_peaks
        warm = its_warm or warm
        process.join()
    shape, sequences = shapes(options.vocab_size)[name]
    rates = {key: tokens / best for key, (tokens, best, _, _) in figures.items()}

    def ours_over(*endings: str) -> float | None:
        theirs = [rate for key, rate in rates.items() if key.endswith(endings) and not key.startswith("ours")]
        return round(rates["ours"] / max(theirs), 2) if theirs else None

    return {
        "rung": name,
        "threads": options.threads,
        "vocab_size": options.vocab_size,
        "compile": options.mode,
        "parameters_blocks": shape.parameters_blocks,
        "batch_tokens": sequences * shape.sequence_length,
        "tokens_per_cpu_second": {key: round(rate) for key, rate in rates.items()},
        "ours_over_best_eager_peer": ours_over("_fp32", "_bf16"),
        "ours_over_best_eager_peer_kept": ours_over("_fp32_kept", "_bf16_kept"),
        "ours_over_best_compiled_peer": ours_over("_compiled"),
        "ours_over_best_compiled_peer_kept": ours_over("_compiled_kept"),
        "stack_over_single": {
            key.removeprefix("ours_stack_"): round(rate / rates["ours"], 2)
            for key, rate in rates.items()
            if key.startswith("ours_stack_")
        },
        "flops_per_token": shape.flops_per_token_exact,
        "peak_gflops": {kind: round(peak / 1e9) for kind, peak in peaks.items()},
        "kernels_cached_before": not fresh,
        "first_steps_cpu_seconds": {key: round(first, 1) for key, (_, _, first, _) in figures.items()},
        "ours_first_steps_cpu_seconds_warm": round(warm, 1),
        "load": [round(one, 1) for one in load],
    }


def add_shares(results: dict) -> None:
    """Shares of peak, against the best peak that any rung saw at as many threads: a busy machine lowers a peak."""
    rungs = results["rungs"].values()
    for rung in rungs:
        alike = [other["peak_gflops"] for other in rungs if other["threads"] == rung["threads"]]
        best = {kind: max(peaks[kind] for peaks in alike) for kind in ("fp32", "bf16")}
        rung["share_of_peak"] = {
            key: round(rate * rung["flops_per_token"] / 1e9 / best["fp32" if "fp32" in key else "bf16"], 3)
            for key, rate in rung["tokens_per_cpu_second"].items()
        }


Job = tuple[str, int, int]
"""A group to train: rung, members (0: a plain model), steps."""


def train_jobs(pipe, jobs: list[Job], threads: int, options: argparse.Namespace) -> None:
    """Life of a ladder's process: build, compile and train each job as a worker does; seconds of both, by job."""
    import torch

    from curate.proxy_training.scheduling.workers import keep_freed_memory

    keep_freed_memory()
    torch.set_num_threads(threads)
    rungs = shapes(options.vocab_size)
    seconds: list[tuple[str, float, float]] = []
    for name, members, steps in jobs:
        shape, sequences = rungs[name]
        start = time.perf_counter()
        contender = ours(shape, sequences, members=members or None, mode=options.mode, bf16=True)
        ready = time.perf_counter()
        for _ in range(steps):
            contender.step()
        seconds.append((name, ready - start, time.perf_counter() - ready))
    pipe.send(seconds)


def train_side(
    plans: list[list[Job]], threads: int, options: argparse.Namespace
) -> list[list[tuple[str, float, float]]]:
    """Train all plans at once, a process each; (rung, seconds to start, seconds of steps) of each job."""
    context = multiprocessing.get_context("spawn")
    team = []
    for plan in plans:
        mine, other = context.Pipe()
        process = context.Process(target=train_jobs, args=(other, plan, threads, options))
        process.start()
        team.append((process, mine))
    found = [pipe.recv() for _, pipe in team]
    for process, _ in team:
        process.join()
    return found


def ladder_result(options: argparse.Namespace) -> dict:
    """A scaled-down laptop ladder of four datasets: groups in one process a core against runs one by one."""
    from curate.proxy_training.planning.ladder_file import load_ladder
    from curate.proxy_training.training.stacking import members_for

    cores, datasets = os.cpu_count() or 1, 4
    one_by_one: list[Job] = []
    groups: list[Job] = []
    cost: dict[Job, float] = {}
    rungs = shapes(options.vocab_size)
    for scale in load_ladder("laptop").scales:
        shape, sequences = rungs[scale.name]
        batch = sequences * shape.sequence_length
        steps = max(2, round(scale.budgets_tokens[-1] / batch * options.scale_down))
        one_by_one += [(scale.name, 0, steps)] * datasets
        count = -(-datasets // members_for(shape, batch))  # as grouping.py cuts them
        for number in range(count):
            size = datasets * (number + 1) // count - datasets * number // count
            groups.append((scale.name, size if size > 1 else 0, steps))
            cost[groups[-1]] = size * steps * batch * shape.flops_per_token_exact**0.6
    plans: list[list[Job]] = [[] for _ in range(cores)]
    for group in sorted(groups, key=lambda group: -cost[group]):
        min(plans, key=lambda plan: sum(cost[one] for one in plan)).append(group)

    sides = {"one_by_one_all_threads": ([one_by_one], cores), "groups_one_process_a_core": (plans, 1)}
    best: dict[str, dict[str, float]] = {}
    by_rung: dict[str, dict[str, float]] = {}
    for number in range(options.rounds + 1):  # the first fills the cache of kernels
        for side, (some, threads) in sides.items():
            found = train_side(some, threads, options)
            steps_seconds = max(sum(job[2] for job in plan) for plan in found)
            starting = max(sum(job[1] for job in plan) for plan in found)
            whole = max(sum(job[1] + job[2] / options.scale_down for job in plan) for plan in found)
            now = {"steps": steps_seconds, "starting": starting, "at_full_length": whole}
            print(side, {key: round(value, 1) for key, value in now.items()}, os.getloadavg()[0], flush=True)
            if number and (side not in best or whole < best[side]["at_full_length"]):
                best[side] = now
                by_rung[side] = {
                    rung: round(sum(job[2] for plan in found for job in plan if job[0] == rung), 2) for rung in rungs
                }
    slow, fast = best.values()
    return {
        "ladder": "laptop",
        "datasets": datasets,
        "scale_down": options.scale_down,
        "compile": options.mode,
        "groups": [list(group) for group in groups],
        "seconds": {side: {key: round(value, 2) for key, value in values.items()} for side, values in best.items()},
        "seconds_of_steps_by_rung": by_rung,
        "ratio_of_steps": round(slow["steps"] / fast["steps"], 2),
        "ratio_at_full_length_with_starting": round(slow["at_full_length"] / fast["at_full_length"], 2),
        "load": round(os.getloadavg()[0], 1),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rungs", nargs="*", default=["0.25M", "0.6M", "1.3M", "4M", "14M"])
    parser.add_argument("--stacks", nargs="*", type=int, default=[])
    parser.add_argument("--mode", default="whole", help="as `compile: auto` settles it")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--vocab-size", type=int, default=4096)
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--seconds", type=float, default=0.3, help="CPU seconds of a contender in a round")
    parser.add_argument("--skip-compiled-peers", action="store_true")
    parser.add_argument("--kernels", help="a folder of compiled kernels, instead of an empty one")
    parser.add_argument("--ladder", action="store_true")
    parser.add_argument("--scale-down", type=float, default=0.005, help="part of the ladder's tokens (--ladder)")
    options = parser.parse_args()

    if not options.ladder:
        os.environ["TORCHINDUCTOR_COMPILE_THREADS"] = "1"  # compilers are a process's children: their time is seen
    import torch

    results = json.loads(OUT.read_text()) if OUT.exists() else {"rungs": {}}
    results["what"] = "training step, CPU; tokens per CPU second, least of several interleaved rounds"
    results["machine"] = {"processor": platform.processor() or platform.machine(), "cores": os.cpu_count()}
    results["versions"] = {"torch": torch.__version__, "python": platform.python_version()}
    results["seed"] = SEED
    with tempfile.TemporaryDirectory() as kernels:  # empty: the first steps compile
        os.environ["TORCHINDUCTOR_CACHE_DIR"] = options.kernels or kernels
        if options.ladder:
            results["ladder"] = ladder_result(options)
            print(json.dumps(results["ladder"], indent=1))
        for name in [] if options.ladder else options.rungs:
            result = rung_result(name, options)
            results["rungs"][f"{name} V{options.vocab_size} threads {options.threads}"] = result
            add_shares(results)
            print(json.dumps(result, indent=1), flush=True)
            OUT.write_text(json.dumps(results, indent=1) + "\n")
        OUT.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
