"""How fast a training step is, rung by rung: ours as it ships against Hugging Face Llama and a nanoGPT-style loop.

    python benchmarks/training/speed.py [--rungs 0.25M 4M] [--members 2 4] [--threads 1] [--skip-compiled-peers]
    python benchmarks/training/speed.py --ladder

All contenders of a rung train in one process on the same tokens, in rounds that take turns; a contender's figure is the
least CPU time of a round (shared machines are noisy, ratios of minima are not). Compilation is stated apart. A rung's
share of peak is (6 x matrices + attention) FLOPs over the matmul rate of its type measured in the same process.
`--ladder`: a ladder of stacked groups in one-thread processes, one a core, against its runs one by one in a process
with all threads; wall time, so let the machine be idle. Results are merged into speed.json by rung and threads.
"""

import argparse
import json
import multiprocessing
import os
import platform
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

OUT = Path(__file__).with_suffix(".json")
SEED = 0
TWELVE_M = {"name": "14M", "width": 384, "layers": 7, "heads": 6, "ffn": 1024}


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
    from curate.proxy_training.ladder_file import load_ladder
    from curate.proxy_training.shape import ModelShape

    ladder = load_ladder("laptop")
    rungs = [scale.model_dump(include={"name", "width", "layers", "heads", "ffn"}) for scale in ladder.scales]
    found = {}
    for rung in [*rungs, TWELVE_M]:
        sizes = {key: rung[key] for key in ("width", "layers", "heads", "ffn")}
        shape = ModelShape(vocab_size=vocab_size, sequence_length=ladder.sequence_length, **sizes)
        found[rung["name"]] = (shape, 8 if shape.parameters_blocks > 2_000_000 else 4)
    return found


def ours(shape, sequences: int, *, members: int | None, mode: str, bf16: bool) -> Contender:
    """Our model, loss, compilation and optimiser."""
    import torch

    from curate.proxy_training.compiling import compile_model, compile_now
    from curate.proxy_training.model import Proxy
    from curate.proxy_training.optimiser import AdamSettings, TensorRule, make_optimiser

    model = Proxy(shape, members=members, bf16=bf16, z_loss=1e-4).initialise(list(range(members or 1)))
    seconds = -sum(os.times()[:4])
    compile_model(model, mode)
    if mode != "eager":
        compile_now(model, drawn(shape, sequences, members).shape)
    seconds += sum(os.times()[:4])
    rules = {
        name: TensorRule(weight_decay=model.parametrisation.weight_decay_multiplier(name))
        for name, _ in model.named_parameters()
    }
    settings = AdamSettings(beta1=0.9, beta2=0.95, eps=1e-8, weight_decay=0.05, clip_norm=1.0)
    optimiser = make_optimiser(model, settings, rules, members=members)
    tokens = drawn(shape, sequences, members)

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


def contenders(shape, sequences: int, options: argparse.Namespace) -> dict[str, Contender]:
    """All ways of training a rung."""
    found = {
        "ours": ours(shape, sequences, members=None, mode="whole", bf16=True),
        "ours_eager_fp32": ours(shape, sequences, members=None, mode="eager", bf16=False),
    }
    for members in options.members:
        found[f"ours_stack_{members}"] = ours(shape, sequences, members=members, mode="whole", bf16=True)
    for name, make in (("hugging_face", hugging_face), ("nanogpt", nanogpt)):
        for bf16 in (False, True):
            kind = "bf16" if bf16 else "fp32"
            found[f"{name}_{kind}"] = theirs(*make(shape), shape, sequences, bf16=bf16, compiled=False)
        if not options.skip_compiled_peers:
            found[f"{name}_compiled"] = theirs(*make(shape), shape, sequences, bf16=True, compiled=True)
    return found


def measure(found: dict[str, Contender], *, rounds: int, seconds: float) -> None:
    """Fill `first_seconds` and `best`."""
    for contender in found.values():
        start = sum(os.times()[:4])
        contender.step()
        contender.step()
        contender.first_seconds += sum(os.times()[:4]) - start
    for _ in range(rounds):
        for contender in found.values():
            budget = time.process_time() + seconds
            while time.process_time() < budget:
                start = time.process_time()
                contender.step()
                contender.best = min(contender.best, time.process_time() - start)


def matmul_peaks(*, rounds: int = 6) -> dict[str, float]:
    """FLOP/s of this process's CPU time in a product of 1,024 x 1,024 matrices, by type."""
    import torch

    peaks = {}
    for kind, dtype in (("fp32", torch.float32), ("bf16", torch.bfloat16)):
        a = torch.randn(1024, 1024).to(dtype)
        best = float("inf")
        for _ in range(rounds * 3):
            start = time.process_time()
            a @ a
            best = min(best, time.process_time() - start)
        peaks[kind] = 2 * 1024**3 / best
    return peaks


def rung_result(name: str, options: argparse.Namespace) -> dict:
    """The figures of one rung."""
    import torch

    torch.set_num_threads(options.threads)
    shape, sequences = shapes(options.vocab_size)[name]
    found = contenders(shape, sequences, options)
    load = [os.getloadavg()[0]]
    measure(found, rounds=options.rounds, seconds=options.seconds)
    load.append(os.getloadavg()[0])
    peaks = matmul_peaks()
    rates = {key: one.tokens / one.best for key, one in found.items()}
    eager = max(rate for key, rate in rates.items() if key.endswith(("_fp32", "_bf16")) and not key.startswith("ours"))
    compiled = max((rate for key, rate in rates.items() if key.endswith("_compiled")), default=None)
    return {
        "rung": name,
        "threads": options.threads,
        "vocab_size": options.vocab_size,
        "parameters_blocks": shape.parameters_blocks,
        "batch_tokens": sequences * shape.sequence_length,
        "tokens_per_cpu_second": {key: round(rate) for key, rate in rates.items()},
        "ours_over_best_eager_peer": round(rates["ours"] / eager, 2),
        "ours_over_best_compiled_peer": round(rates["ours"] / compiled, 2) if compiled else None,
        "stack_over_single": {
            key.removeprefix("ours_stack_"): round(rate / rates["ours"], 2)
            for key, rate in rates.items()
            if key.startswith("ours_stack_")
        },
        "share_of_peak": {
            key: round(rate * shape.flops_per_token_exact / peaks[found[key].kind], 3) for key, rate in rates.items()
        },
        "peak_gflops": {kind: round(peak / 1e9) for kind, peak in peaks.items()},
        "first_steps_cpu_seconds": {key: round(one.first_seconds, 1) for key, one in found.items()},
        "load": [round(one, 1) for one in load],
    }


def _ladder_worker(pipe, plan: list[tuple[str, int, int]], threads: int, vocab_size: int) -> None:
    """Prepare every (rung, members or 0, steps), then train them all each time the parent asks."""
    import torch

    torch.set_num_threads(threads)
    rungs = shapes(vocab_size)
    jobs: dict[tuple[str, int], Contender] = {}
    for name, members, _ in plan:
        if (name, members) not in jobs:
            shape, sequences = rungs[name]
            jobs[name, members] = ours(shape, sequences, members=members or None, mode="whole", bf16=True)
            jobs[name, members].step()
            jobs[name, members].step()
    pipe.send("ready")
    while pipe.recv():
        for name, members, steps in plan:
            for _ in range(steps):
                jobs[name, members].step()
        pipe.send("done")


def ladder_result(options: argparse.Namespace) -> dict:
    """A scaled-down laptop ladder of four datasets: groups in one process a core against runs one by one."""
    from curate.proxy_training.ladder_file import load_ladder
    from curate.proxy_training.stacking import members_for

    cores, datasets = os.cpu_count() or 1, 4
    one_by_one: list[tuple[str, int, int]] = []
    groups: list[tuple[str, int, int]] = []
    cost: dict[tuple[str, int, int], float] = {}
    rungs = shapes(options.vocab_size)
    for scale in load_ladder("laptop").scales:
        shape, sequences = rungs[scale.name]
        batch = sequences * shape.sequence_length
        steps = max(1, round(scale.budgets_tokens[-1] / batch * options.scale_down))
        one_by_one += [(scale.name, 0, steps)] * datasets
        members = members_for(shape, batch)
        for first in range(0, datasets, members):
            size = min(members, datasets - first)
            group = (scale.name, size if size > 1 else 0, steps)
            groups.append(group)
            cost[group] = size * steps * batch * shape.flops_per_token_exact**0.5
    plans: list[list[tuple[str, int, int]]] = [[] for _ in range(cores)]
    for group in sorted(groups, key=lambda group: -cost[group]):
        min(plans, key=lambda plan: sum(cost[one] for one in plan)).append(group)
    context = multiprocessing.get_context("spawn")
    teams = []
    for threads, some in ((cores, [one_by_one]), (1, plans)):
        team = []
        for plan in some:
            mine, other = context.Pipe()
            process = context.Process(target=_ladder_worker, args=(other, plan, threads, options.vocab_size))
            process.start()
            team.append((process, mine))
        for _, pipe in team:
            pipe.recv()
        teams.append(team)
    seconds: list[list[float]] = [[], []]
    for _ in range(options.rounds):
        for team, measured in zip(teams, seconds, strict=True):
            start = time.perf_counter()
            for _, pipe in team:
                pipe.send(True)
            for _, pipe in team:
                pipe.recv()
            measured.append(time.perf_counter() - start)
    for team in teams:
        for process, pipe in team:
            pipe.send(False)
            process.join()
    return {
        "ladder": "laptop",
        "datasets": datasets,
        "scale_down": options.scale_down,
        "groups": [list(group) for group in groups],
        "one_by_one_all_threads_seconds": [round(one, 2) for one in seconds[0]],
        "groups_one_process_a_core_seconds": [round(one, 2) for one in seconds[1]],
        "ratio_of_best": round(min(seconds[0]) / min(seconds[1]), 2),
        "load": round(os.getloadavg()[0], 1),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rungs", nargs="*", default=["0.25M", "0.6M", "1.3M", "4M", "14M"])
    parser.add_argument("--members", nargs="*", type=int, default=[2, 4])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--vocab-size", type=int, default=4096)
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--seconds", type=float, default=0.3, help="CPU seconds of a contender in a round")
    parser.add_argument("--skip-compiled-peers", action="store_true")
    parser.add_argument("--ladder", action="store_true")
    parser.add_argument("--scale-down", type=float, default=0.005, help="part of the ladder's tokens (--ladder)")
    options = parser.parse_args()

    os.environ["TORCHINDUCTOR_COMPILE_THREADS"] = "1"  # compilers are this process's children, and their time is seen
    import torch

    from curate.proxy_training.workers import keep_freed_memory

    keep_freed_memory()  # as a worker does; it helps the peers as much
    results = json.loads(OUT.read_text()) if OUT.exists() else {"rungs": {}}
    results["what"] = "training step, CPU; tokens per CPU second, least of several interleaved rounds in one process"
    results["machine"] = {"processor": platform.processor() or platform.machine(), "cores": os.cpu_count()}
    results["versions"] = {"torch": torch.__version__, "python": platform.python_version()}
    results["seed"] = SEED
    if options.ladder:
        results["ladder"] = ladder_result(options)
        OUT.write_text(json.dumps(results, indent=1) + "\n")
        print(json.dumps(results["ladder"], indent=1))
        return
    for name in options.rungs:
        result = rung_result(name, options)
        results["rungs"][f"{name} V{options.vocab_size} threads {options.threads}"] = result
        OUT.write_text(json.dumps(results, indent=1) + "\n")
        print(json.dumps(result, indent=1), flush=True)


if __name__ == "__main__":
    main()
