"""A proxy as a Hugging Face model folder, and back: config.json, model.safetensors, tokenizer, generation_config.json.

The class follows from the shape, so that nobody runs code from a folder: Llama (no QK-norm), Qwen3 (per head), HYV3
with dense layers only (per head and biases: open-sci-ref), OLMo 2 (whole projection, norms after), OLMoE with a single
expert (whole projection, norms before). What none of them has is folded into weights, in float64: multipliers of muP
and CompleteP, and LayerNorm, which is RMSNorm of a stream whose writers write no mean (Ashkboos et al. 2024, SliceGPT).
Logits agree to 1e-5; weights come back bit for bit where nothing was folded. A proxy that was trained with
`document_mask` does not mask documents there.
"""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
import transformers
from tokenizers import Tokenizer
from torch import Tensor

from curate.errors import InputError, RecipeError
from curate.proxy_training.model import Proxy
from curate.proxy_training.network.shape import ModelShape
from curate.proxy_training.tokens.tokenizer import end_of_text

CLASSES = {
    "llama": "LlamaForCausalLM",
    "qwen3": "Qwen3ForCausalLM",
    "hy_v3": "HYV3ForCausalLM",
    "olmo2": "Olmo2ForCausalLM",
    "olmoe": "OlmoeForCausalLM",
}


def export_to_hugging_face(model: Proxy, folder: Path, tokenizer: Tokenizer | None = None) -> str:
    """Write `model` (not a stack) so that AutoModelForCausalLM and AutoTokenizer load `folder`; returns the class.

    Raises RecipeError where no class of transformers computes the same numbers.
    """
    if model.members is not None:
        raise RecipeError(f"A stack of {model.members} models cannot be exported; export `stack.member(i)`.")
    plain = without_layer_norm(without_multipliers(model))
    kind = architecture(plain.shape)
    end = None if tokenizer is None else end_of_text(tokenizer)
    config = _config(kind, plain.shape, end)
    with torch.random.fork_rng(devices=()):  # its initialisation draws numbers that a training must not miss
        exported = getattr(transformers, CLASSES[kind])(config)
    exported.load_state_dict(_to_names(kind, plain), strict=True)
    folder.mkdir(parents=True, exist_ok=True)
    exported.generation_config = transformers.GenerationConfig(bos_token_id=end, eos_token_id=end, pad_token_id=end)
    exported.save_pretrained(folder)
    if tokenizer is not None:
        separator = tokenizer.id_to_token(end_of_text(tokenizer))
        transformers.PreTrainedTokenizerFast(
            tokenizer_object=tokenizer,
            bos_token=separator,
            eos_token=separator,
            pad_token=separator,
            model_max_length=plain.shape.sequence_length,
        ).save_pretrained(folder)
    return CLASSES[kind]


def load_from_hugging_face(folder: Path) -> Proxy:
    """The proxy of a folder that `export_to_hugging_face` wrote, or of any model of these classes that a ModelShape
    describes, in float32. Weights are read from safetensors only, and no code of the folder runs.

    Raises InputError naming the field of config.json that a proxy does not have.
    """
    path = folder / "config.json"
    try:
        facts = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: not the configuration of a Hugging Face model ({error}).") from error
    kind = facts.get("model_type") if isinstance(facts, dict) else None
    if kind not in CLASSES:
        raise InputError(f"{path}: model_type is {kind!r}; a proxy can be {', '.join(CLASSES)}.")
    if not any((folder / name).exists() for name in ("model.safetensors", "model.safetensors.index.json")):
        raise InputError(f"{folder}: no model.safetensors; weights of other formats can run code and are not read.")
    try:
        stored, loading = getattr(transformers, CLASSES[kind]).from_pretrained(
            folder,
            dtype=torch.float32,
            use_safetensors=True,
            trust_remote_code=False,
            local_files_only=True,
            output_loading_info=True,
        )
    except Exception as error:  # a hostile or truncated file raises whatever its reader does
        raise InputError(f"{folder}: its weights cannot be read as a {CLASSES[kind]} ({error}).") from error
    absent = sorted({*loading["missing_keys"], *loading["unexpected_keys"], *map(str, loading["mismatched_keys"])})
    if absent:
        raise InputError(f"{folder}: weights are missing, unknown or of another shape: {', '.join(absent[:5])}.")
    shape = _shape(kind, stored.config, path)
    model = Proxy(shape)
    model.load_state_dict(_from_names(kind, shape, stored.state_dict()), strict=True)
    return model


def architecture(shape: ModelShape) -> str:
    """`model_type` of the class of transformers that computes what a model of `shape` does, all norms being RMSNorm."""
    if shape.norm_placement == "before":
        if shape.qk_norm == "none":
            return "llama"
        if shape.qk_norm == "per_head":
            return "hy_v3" if shape.bias else "qwen3"
        if not shape.bias:
            return "olmoe"
    elif shape.qk_norm == "full" and not shape.bias:
        return "olmo2"
    raise RecipeError(
        f"No class of transformers {transformers.__version__} has norms {shape.norm_placement} attention and SwiGLU, "
        f"qk_norm {shape.qk_norm!r} and {'biases' if shape.bias else 'no biases'} together; this model is not exported."
    )


def without_multipliers(model: Proxy) -> Proxy:
    """The same function under the standard parametrisation: multipliers of the forward pass become weights."""
    rule = model.parametrisation
    if rule.kind == "standard":
        return model
    shape = model.shape
    attention = 1.0 if rule.attention_scale is None else rule.attention_scale * shape.head_width**0.5
    into_the_stream = (
        ("attention_out.", "down.") if shape.norm_placement == "before" else ("attention_norm.", "ffn_norm.")
    )

    def fold(name: str, weight: Tensor) -> Tensor:
        if name == "final_norm.weight":
            return weight * rule.output_multiplier
        part = name.removeprefix("blocks.").partition(".")[2]
        if part.startswith(into_the_stream):
            return weight * rule.residual_multiplier
        if part in ("query_scale", "query_norm.weight"):
            return weight * attention
        if part.startswith("qkv.") and shape.qk_norm == "none":
            return torch.cat((weight[: shape.width] * attention, weight[shape.width :]))
        return weight

    return _changed(model, shape, fold)


def without_layer_norm(model: Proxy) -> Proxy:
    """The same function with RMSNorm for LayerNorm: what LayerNorm takes the mean of is made to have none.

    The mean of the residual stream goes by taking it out of all that writes there, embedding included, so the head gets
    a matrix of its own; that of queries and keys by taking it out of the rows that make them.
    """
    shape = model.shape
    if shape.norm == "rms":
        return model
    if shape.norm_placement == "after":
        raise RecipeError(
            "A model with LayerNorm after attention and SwiGLU is not exported: no weight can be rid of the mean that "
            "its last norm takes. Put norms before them, or take RMSNorm."
        )
    queries_and_keys = shape.qkv_widths[:2]
    heads = sum(queries_and_keys)
    widths = {"none": (), "per_head": (shape.head_width,) * (shape.heads + shape.groups)}.get(
        str(shape.qk_norm), queries_and_keys
    )

    def fold(name: str, weight: Tensor) -> Tensor:
        if name == "embedding.weight":
            return weight - weight.mean(1, keepdim=True)
        if name.endswith(("attention_out.weight", "attention_out.bias", "down.weight", "down.bias")):
            return weight - weight.mean(0, keepdim=True)
        if ".qkv." in name and widths:
            parts = weight[:heads].split(widths)
            return torch.cat((*(part - part.mean(0, keepdim=True) for part in parts), weight[heads:]))
        return weight

    return _changed(model, replace(shape, norm="rms", tied=False), fold)


def _changed(model: Proxy, shape: ModelShape, change: Callable[[str, Tensor], Tensor]) -> Proxy:
    """A model of `shape` and of the weights of `model`, changed one by one in float64."""
    changed = Proxy(shape, bf16=model.bf16, z_loss=model.z_loss, document_mask=model.document_mask)
    weights = {name: weight.detach().double() for name, weight in model.named_parameters()}
    if model.shape.tied and not shape.tied:
        weights["head.weight"] = weights["embedding.weight"]
    changed.load_state_dict({name: change(name, weight).float() for name, weight in weights.items()}, strict=True)
    return changed.train(model.training)


def _config(kind: str, shape: ModelShape, end: int | None) -> Any:
    """The configuration of transformers for `shape`; `end` is the token of end-of-text, if one is known."""
    facts: dict[str, Any] = {
        "vocab_size": shape.vocab_size,
        "hidden_size": shape.width,
        "intermediate_size": shape.ffn,
        "num_hidden_layers": shape.layers,
        "num_attention_heads": shape.heads,
        "num_key_value_heads": shape.groups,
        "max_position_embeddings": shape.sequence_length,
        "rope_parameters": {"rope_type": "default", "rope_theta": shape.rope_theta},
        "rms_norm_eps": shape.norm_eps,
        "tie_word_embeddings": shape.tied,
        "attention_bias": shape.bias,
        "attention_dropout": shape.dropout,
        "hidden_act": "silu",
        "bos_token_id": end,
        "eos_token_id": end,
        "pad_token_id": end,
    }
    if kind in ("llama", "qwen3", "hy_v3"):
        facts["head_dim"] = shape.head_width
    if kind in ("llama", "hy_v3"):
        facts["mlp_bias"] = shape.bias
    if kind == "hy_v3":
        facts["mlp_layer_types"] = ["dense"] * shape.layers
    if kind == "olmoe":
        facts |= {"num_experts": 1, "num_experts_per_tok": 1, "norm_topk_prob": False, "output_router_logits": False}
    return transformers.AutoConfig.for_model(kind, **facts)


def _shape(kind: str, config: Any, path: Path) -> ModelShape:
    """The ModelShape of a configuration; raises InputError naming a field that a proxy cannot follow."""
    layers = config.num_hidden_layers
    bias = bool(config.attention_bias)
    rope = config.rope_parameters or {}
    expected = {
        "hidden_act": "silu",
        "head_dim": config.hidden_size // config.num_attention_heads,
        "mlp_bias": bias,
        "mlp_layer_types": ["dense"] * layers,
        "layer_types": ["full_attention"] * layers,
        "num_experts": 1,
        "clip_qkv": None,
        "pretraining_tp": 1,
    }
    checked = {name for name in expected if getattr(config, name, None) is not None}
    if kind == "hy_v3":
        checked.discard("num_experts")  # of the sparse layers, which it has none of
    for name in sorted(checked):
        if getattr(config, name) != expected[name]:
            raise InputError(f"{path}: {name} is {getattr(config, name)!r}; a proxy has {expected[name]!r}.")
    if bias and kind not in ("llama", "hy_v3"):
        raise InputError(f"{path}: attention_bias is true; a proxy has biases in all linear layers or in none.")
    if rope.get("rope_type", "default") != "default" or rope.get("partial_rotary_factor", 1.0) != 1.0:
        raise InputError(f"{path}: rope_parameters are {rope}; a proxy turns whole heads by plain frequencies.")
    try:
        return ModelShape(
            vocab_size=config.vocab_size,
            width=config.hidden_size,
            layers=layers,
            heads=config.num_attention_heads,
            kv_heads=config.num_key_value_heads,
            ffn=config.intermediate_size,
            sequence_length=config.max_position_embeddings,
            tied=bool(config.tie_word_embeddings),
            bias=bias,
            qk_norm={"llama": "none", "olmo2": "full", "olmoe": "full"}.get(kind, "per_head"),  # type: ignore[arg-type]
            rope_theta=float(rope["rope_theta"]),
            norm_eps=config.rms_norm_eps,
            norm_placement="after" if kind == "olmo2" else "before",
            dropout=float(config.attention_dropout or 0.0),
        )
    except RecipeError as error:
        raise InputError(f"{path}: {error}") from error


def _norm_names(kind: str) -> tuple[str, str]:
    """Theirs for our attention_norm and ffn_norm."""
    if kind == "olmo2":
        return "post_attention_layernorm", "post_feedforward_layernorm"
    return "input_layernorm", "post_attention_layernorm"


def _to_names(kind: str, model: Proxy) -> dict[str, Tensor]:
    """Weights by the names of `kind`."""
    shape, weights = model.shape, dict(model.state_dict())
    head = weights.get("head.weight", weights["embedding.weight"])
    theirs = {
        "model.embed_tokens.weight": weights["embedding.weight"],
        "model.norm.weight": weights["final_norm.weight"],
        "lm_head.weight": head,
    }
    attention_norm, ffn_norm = _norm_names(kind)
    for layer in range(shape.layers):
        ours, block = f"blocks.{layer}.", f"model.layers.{layer}."
        theirs[f"{block}{attention_norm}.weight"] = weights[f"{ours}attention_norm.weight"]
        theirs[f"{block}{ffn_norm}.weight"] = weights[f"{ours}ffn_norm.weight"]
        for which in ("weight", "bias") if shape.bias else ("weight",):
            for name, part in zip("qkv", weights[f"{ours}qkv.{which}"].split(shape.qkv_widths), strict=True):
                theirs[f"{block}self_attn.{name}_proj.{which}"] = part
            theirs[f"{block}self_attn.o_proj.{which}"] = weights[f"{ours}attention_out.{which}"]
            if kind != "olmoe":
                gate, up = weights[f"{ours}gate_up.{which}"].chunk(2)
                theirs[f"{block}mlp.gate_proj.{which}"], theirs[f"{block}mlp.up_proj.{which}"] = gate, up
                theirs[f"{block}mlp.down_proj.{which}"] = weights[f"{ours}down.{which}"]
        if shape.qk_norm != "none":
            query, key = ("query_scale", "key_scale") if shape.qk_norm == "per_head" else _FULL_NORMS
            theirs[f"{block}self_attn.q_norm.weight"] = weights[ours + query]
            theirs[f"{block}self_attn.k_norm.weight"] = weights[ours + key]
        if kind == "olmoe":
            theirs[f"{block}mlp.gate.weight"] = torch.zeros(1, shape.width)  # a router with one way to go
            theirs[f"{block}mlp.experts.gate_up_proj"] = weights[f"{ours}gate_up.weight"][None]
            theirs[f"{block}mlp.experts.down_proj"] = weights[f"{ours}down.weight"][None]
    return theirs


_FULL_NORMS = ("query_norm.weight", "key_norm.weight")


def _from_names(kind: str, shape: ModelShape, theirs: dict[str, Tensor]) -> dict[str, Tensor]:
    """The reverse of `_to_names`."""
    weights = {
        "embedding.weight": theirs["model.embed_tokens.weight"],
        "final_norm.weight": theirs["model.norm.weight"],
    }
    if not shape.tied:
        weights["head.weight"] = theirs["lm_head.weight"]
    attention_norm, ffn_norm = _norm_names(kind)
    for layer in range(shape.layers):
        ours, block = f"blocks.{layer}.", f"model.layers.{layer}."
        weights[f"{ours}attention_norm.weight"] = theirs[f"{block}{attention_norm}.weight"]
        weights[f"{ours}ffn_norm.weight"] = theirs[f"{block}{ffn_norm}.weight"]
        for which in ("weight", "bias") if shape.bias else ("weight",):
            qkv = [theirs[f"{block}self_attn.{name}_proj.{which}"] for name in "qkv"]
            weights[f"{ours}qkv.{which}"] = torch.cat(qkv)
            weights[f"{ours}attention_out.{which}"] = theirs[f"{block}self_attn.o_proj.{which}"]
            if kind != "olmoe":
                gate_up = [theirs[f"{block}mlp.{name}_proj.{which}"] for name in ("gate", "up")]
                weights[f"{ours}gate_up.{which}"] = torch.cat(gate_up)
                weights[f"{ours}down.{which}"] = theirs[f"{block}mlp.down_proj.{which}"]
        if shape.qk_norm != "none":
            query, key = ("query_scale", "key_scale") if shape.qk_norm == "per_head" else _FULL_NORMS
            weights[ours + query] = theirs[f"{block}self_attn.q_norm.weight"]
            weights[ours + key] = theirs[f"{block}self_attn.k_norm.weight"]
        if kind == "olmoe":
            weights[f"{ours}gate_up.weight"] = theirs[f"{block}mlp.experts.gate_up_proj"][0]
            weights[f"{ours}down.weight"] = theirs[f"{block}mlp.experts.down_proj"][0]
    return weights
