"""Guards that weights are loaded whole or not at all, from every kind of file, and named by one checksum."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import huggingface_hub.constants
import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor

from benchmark.backbones.contract import (
    BackboneInfo,
    find_backbone,
    licence_of_weights,
    load_backbone,
    tensors_sha256,
)
from benchmark.backbones.parts.loading import load_strictly, resize_input
from benchmark.backbones.parts.weight_files import file_sha256
from benchmark.backbones.vit_nano import build as build_nano
from benchmark.backbones.vit_nano import read_bundled_tensors
from benchmark.errors import MissingError, RequestError
from benchmark.request import BackboneRequest, resolve_backbone, resolve_trial
from benchmark.training.model import assemble

Tensors = dict[str, Tensor]
TINY = "vit_tiny_patch16_224.augreg_in21k"


def _to_google_layout(tensors: Tensors, num_heads: int) -> dict[str, np.ndarray[Any, Any]]:
    """Put timm's tensors into Google's layout, the other way round than the suite reads it."""
    arrays = {name: tensor.numpy() for name, tensor in tensors.items()}
    width = arrays["norm.weight"].shape[0]
    google = {
        "cls": arrays["cls_token"],
        "embedding/kernel": arrays["patch_embed.proj.weight"].transpose(2, 3, 1, 0),
        "embedding/bias": arrays["patch_embed.proj.bias"],
        "Transformer/posembed_input/pos_embedding": arrays["pos_embed"],
        "Transformer/encoder_norm/scale": arrays["norm.weight"],
        "Transformer/encoder_norm/bias": arrays["norm.bias"],
    }
    for number in range(1 + max(int(name.split(".")[1]) for name in tensors if name.startswith("blocks."))):
        own, theirs = f"blocks.{number}.", f"Transformer/encoderblock_{number}/"
        attention = f"{theirs}MultiHeadDotProductAttention_1/"
        for ours, name in (("norm1", "LayerNorm_0"), ("norm2", "LayerNorm_2")):
            google[f"{theirs}{name}/scale"] = arrays[f"{own}{ours}.weight"]
            google[f"{theirs}{name}/bias"] = arrays[f"{own}{ours}.bias"]
        for ours, name in (("fc1", "Dense_0"), ("fc2", "Dense_1")):
            google[f"{theirs}MlpBlock_3/{name}/kernel"] = arrays[f"{own}mlp.{ours}.weight"].T
            google[f"{theirs}MlpBlock_3/{name}/bias"] = arrays[f"{own}mlp.{ours}.bias"]
        for part, name in enumerate(("query", "key", "value")):
            rows = slice(part * width, (part + 1) * width)
            kernel, bias = arrays[f"{own}attn.qkv.weight"][rows], arrays[f"{own}attn.qkv.bias"][rows]
            google[f"{attention}{name}/kernel"] = kernel.T.reshape(width, num_heads, -1)
            google[f"{attention}{name}/bias"] = bias.reshape(num_heads, -1)
        google[f"{attention}out/kernel"] = arrays[f"{own}attn.proj.weight"].T.reshape(num_heads, -1, width)
        google[f"{attention}out/bias"] = arrays[f"{own}attn.proj.bias"]
    return google


def _save_npz(tensors: Tensors, path: Path) -> None:
    arrays = _to_google_layout(tensors, find_backbone("vit_nano").num_heads)
    np.savez(path, **{"head/kernel": np.zeros((64, 7), np.float32), "head/bias": np.zeros(7, np.float32)}, **arrays)


def _save_pth(wrap: Callable[[Tensors], Any]) -> Callable[[Tensors, Path], None]:
    return lambda tensors, path: torch.save(wrap(tensors), path)


def _with_head(tensors: Tensors) -> Tensors:
    return {**tensors, "head.weight": torch.zeros(1000, 64), "head.bias": torch.zeros(1000)}


SAVERS: dict[str, tuple[str, Callable[[Tensors, Path], None]]] = {
    "safetensors": (".safetensors", lambda tensors, path: save_file(tensors, path)),
    "a 1000-class head": (".safetensors", lambda tensors, path: save_file(_with_head(tensors), path)),
    "pth": (".pth", _save_pth(lambda tensors: tensors)),
    "pth under model": (".pth", _save_pth(lambda tensors: {"model": tensors, "epoch": 3})),
    "pth of DDP": (
        ".pth",
        _save_pth(lambda tensors: {"state_dict": {f"module.{name}": value for name, value in tensors.items()}}),
    ),
    "npz of Google": (".npz", _save_npz),
}


@pytest.fixture(params=SAVERS)
def saved_file(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """Return the bundled weights in each kind of file in turn."""
    suffix, save = SAVERS[request.param]
    path = tmp_path / f"weights{suffix}"
    save(read_bundled_tensors(), path)
    return path


def _load_file(path: Path, image_size_pixels: int = 18) -> Any:
    return load_backbone("vit_nano", "file", image_size_pixels, weights_file=str(path))


def _write(tensors: Tensors, tmp_path: Path) -> Path:
    save_file(tensors, tmp_path / "weights.safetensors")
    return tmp_path / "weights.safetensors"


def test_model_and_checksum_are_the_bundled_ones_when_loaded_from_a_file(saved_file: Path) -> None:
    bundled, loaded = load_backbone("vit_nano", "bundled", 18), _load_file(saved_file)
    assert loaded.weights_sha256 == bundled.weights_sha256
    assert tensors_sha256(loaded.model.state_dict()) == bundled.weights_sha256


def test_checksum_is_over_the_files_tensors_when_nothing_is_converted() -> None:
    assert load_backbone("vit_nano", "bundled", 18).weights_sha256 == tensors_sha256(read_bundled_tensors())


def test_checksum_stays_when_position_embeddings_are_resampled() -> None:
    own, larger = (load_backbone("vit_nano", "bundled", size) for size in (18, 24))
    assert larger.weights_sha256 == own.weights_sha256
    assert larger.model.pos_embed.shape[1] == 1 + 4 * 4
    assert torch.equal(larger.model.pos_embed[:, 0], own.model.pos_embed[:, 0])  # the CLS token's is never resampled


def test_file_of_another_size_is_resampled_from_its_own_when_loaded(tmp_path: Path) -> None:
    at_24 = dict(load_backbone("vit_nano", "bundled", 24).model.state_dict())
    loaded = _load_file(_write(at_24, tmp_path), 24)
    assert loaded.weights_sha256 == tensors_sha256(at_24)
    assert torch.equal(loaded.model.pos_embed, at_24["pos_embed"])


def test_google_layout_is_read_as_timm_does_when_both_load_one_file(tmp_path: Path) -> None:
    _save_npz(read_bundled_tensors(), tmp_path / "weights.npz")
    by_timm = build_nano(find_backbone("vit_nano"), 18)
    by_timm.load_pretrained(str(tmp_path / "weights.npz"))
    assert tensors_sha256(by_timm.state_dict()) == _load_file(tmp_path / "weights.npz").weights_sha256


def test_tensors_become_float32_when_the_file_has_halves(tmp_path: Path) -> None:
    halves = {name: tensor.half() for name, tensor in read_bundled_tensors().items()}
    loaded = _load_file(_write(halves, tmp_path))
    assert {parameter.dtype for parameter in loaded.model.parameters()} == {torch.float32}


def _without_a_key(tensors: Tensors) -> Tensors:
    return {name: tensor for name, tensor in tensors.items() if name != "blocks.3.attn.qkv.bias"}


@pytest.mark.parametrize(
    ("change", "named"),
    [
        pytest.param(_without_a_key, r"missing: blocks\.3\.attn\.qkv\.bias", id="missing"),
        pytest.param(
            lambda tensors: {**tensors, "blocks.0.gate": torch.zeros(1)},
            r"not part of it: blocks\.0\.gate",
            id="unexpected",
        ),
        pytest.param(
            lambda tensors: {**tensors, "norm.weight": torch.zeros(65)}, r"norm\.weight \(65,\) instead", id="shape"
        ),
        pytest.param(
            lambda tensors: {**tensors, "patch_embed.proj.weight": torch.zeros(64, 3, 8, 8)}, "8 pixels", id="patch"
        ),
    ],
)
def test_file_is_refused_with_its_keys_when_it_does_not_fit(
    tmp_path: Path, change: Callable[[Tensors], Tensors], named: str
) -> None:
    with pytest.raises(RequestError, match=named) as refused:
        _load_file(_write(change(read_bundled_tensors()), tmp_path))
    assert "weights: random" in str(refused.value)


class _Marker:
    """Writes a file when it is unpickled, as a malicious checkpoint might."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os.mkdir, (str(self.path),)


def test_pickled_code_does_not_run_when_a_checkpoint_holds_it(tmp_path: Path) -> None:
    torch.save({"model": read_bundled_tensors(), "args": _Marker(tmp_path / "ran")}, tmp_path / "weights.pth")
    with pytest.raises(RequestError, match="not read"):
        _load_file(tmp_path / "weights.pth")
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    ("content", "named"),
    [
        pytest.param({"model": {}, "args": argparse.Namespace(lr=1)}, "not read", id="objects"),
        pytest.param(
            {"student": {"w": torch.zeros(1)}, "teacher": {"w": torch.zeros(1)}}, "student, teacher", id="two"
        ),
        pytest.param({"model": {"w": torch.zeros(1)}, "state_dict": {"w": torch.zeros(1)}}, "one model", id="both"),
        pytest.param([torch.zeros(1)], "list", id="list"),
    ],
)
def test_checkpoint_is_refused_when_it_is_not_one_models_tensors(tmp_path: Path, content: Any, named: str) -> None:
    torch.save(content, tmp_path / "weights.pth")
    with pytest.raises(RequestError, match=named):
        _load_file(tmp_path / "weights.pth")


@pytest.mark.parametrize("suffix", [".safetensors", ".pth", ".npz"])
def test_file_is_refused_when_it_is_damaged(tmp_path: Path, suffix: str) -> None:
    (tmp_path / f"weights{suffix}").write_bytes(b"no weights at all")
    with pytest.raises(RequestError, match=r"backbone\.weights"):
        _load_file(tmp_path / f"weights{suffix}")


def test_archive_is_refused_when_an_array_is_of_objects(tmp_path: Path) -> None:
    np.savez(tmp_path / "weights.npz", cls=np.array([{"a": 1}], dtype=object))
    with pytest.raises(RequestError, match="plain arrays"):
        _load_file(tmp_path / "weights.npz")


def test_archive_is_refused_with_the_array_when_it_is_of_another_layout(tmp_path: Path) -> None:
    np.savez(tmp_path / "weights.npz", **{"params/img/embedding/kernel": np.zeros(1)})
    with pytest.raises(RequestError, match="params/img/embedding/kernel"):
        _load_file(tmp_path / "weights.npz")


def test_file_is_refused_when_it_changed_since_the_plan(tmp_path: Path) -> None:
    path = _write(read_bundled_tensors(), tmp_path)
    spec = resolve_trial({"backbone": _named(path), "dataset": "digits", "method": "head_only"})
    save_file(_with_head(read_bundled_tensors()), path)
    with pytest.raises(MissingError, match="planned with"):
        assemble(spec, 10)


def _named(path: Path | str) -> dict[str, Any]:
    return {"name": "vit_nano", "weights": str(path)}


def test_identity_follows_the_content_when_a_file_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tiny_request: dict[str, Any]
) -> None:
    path = _write(read_bundled_tensors(), tmp_path)
    (tmp_path / "copy.safetensors").write_bytes(path.read_bytes())
    monkeypatch.chdir(tmp_path)
    specs = [resolve_trial({**tiny_request, "backbone": _named(name)}) for name in (path, "copy.safetensors")]
    assert specs[0].backbone.weights_sha256 == file_sha256(path)
    assert specs[1].backbone.weights_file == str(tmp_path / "copy.safetensors")
    assert specs[0].trial_id == specs[1].trial_id != resolve_trial(tiny_request).trial_id


def test_request_fails_before_anything_runs_when_the_file_is_absent(tmp_path: Path) -> None:
    with pytest.raises(MissingError, match=r"absent\.safetensors"):
        resolve_trial({"backbone": _named(tmp_path / "absent.safetensors"), "dataset": "digits", "method": "head_only"})


@pytest.mark.parametrize(("name", "weights"), [("vit_nano", "pretrained"), (TINY, "bundled"), (TINY, "randm")])
def test_request_is_refused_when_the_weights_are_no_choice(name: str, weights: str) -> None:
    with pytest.raises(RequestError, match=r"backbone\.weights: found .*random, or the path"):
        resolve_trial({"backbone": {"name": name, "weights": weights}, "dataset": "digits", "method": "head_only"})


def test_weights_are_the_published_ones_when_a_request_is_silent() -> None:
    spec = resolve_trial({"backbone": {"name": TINY, "image_size": 96}, "dataset": "digits", "method": "head_only"})
    assert (spec.backbone.weights, spec.backbone.weights_sha256) == ("pretrained", None)
    assert spec.backbone.image_size_pixels == 96


@pytest.fixture
def hub_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty Hugging Face cache without a network."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    return tmp_path


def test_error_names_three_ways_when_published_weights_are_not_here(hub_cache: Path) -> None:
    with pytest.raises(MissingError) as missing:
        load_backbone(TINY, "pretrained", 224)
    assert [way for way in ("HF_HOME", "weights: FILE", "weights: random") if way not in str(missing.value)] == []


def test_published_weights_are_loaded_strictly_when_the_cache_has_them(hub_cache: Path) -> None:
    random = load_backbone(TINY, "random", 224, seed=5)
    snapshot = hub_cache / f"models--timm--{TINY}" / "snapshots" / ("0" * 40)
    snapshot.mkdir(parents=True)
    (snapshot.parents[1] / "refs").mkdir()
    (snapshot.parents[1] / "refs" / "main").write_text("0" * 40)
    save_file({**random.model.state_dict(), "head.weight": torch.zeros(3, 192)}, snapshot / "model.safetensors")
    loaded = load_backbone(TINY, "pretrained", 96)
    assert loaded.weights_sha256 == random.weights_sha256
    assert loaded.model.pos_embed.shape[1] == 1 + 6 * 6
    assert loaded.model(torch.zeros(1, 3, 96, 96)).shape == (1, 192)


SHAPES: dict[str, dict[str, Any]] = {
    "plain": {},
    "DINOv2-like": {"init_values": 0.1, "reg_tokens": 4, "no_embed_class": True},
    "CLIP-like": {"pre_norm": True},
    "average pool, no CLS": {"class_token": False, "global_pool": "avg"},
}


def _small(shape: str) -> Callable[[int], VisionTransformer]:
    return lambda size: VisionTransformer(
        img_size=size, patch_size=8, embed_dim=32, depth=2, num_heads=2, num_classes=0, **SHAPES[shape]
    )


@pytest.mark.parametrize("shape", SHAPES)
def test_any_shape_loads_and_is_resampled_when_timm_builds_it(shape: str) -> None:
    source = _small(shape)(32)
    loaded = load_strictly(_small(shape), source.state_dict(), "small", "test", 32).eval()
    resized = load_strictly(_small(shape), source.state_dict(), "small", "test", 32).eval()
    resize_input(resized, 48)
    pixels = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    assert torch.equal(loaded(pixels), source.eval()(pixels))
    assert resized(torch.zeros(2, 3, 48, 48)).shape == (2, 32)


def test_authors_dinov2_file_is_converted_when_it_has_registers() -> None:
    converted = dict(_small("DINOv2-like")(32).state_dict())
    position_of_cls = torch.full((1, 1, 32), 0.25)
    authors = {
        **{name: tensor for name, tensor in converted.items() if name != "reg_token"},
        "register_tokens": converted["reg_token"],
        "pos_embed": torch.cat([position_of_cls, converted["pos_embed"]], dim=1),
        "mask_token": torch.zeros(1, 32),
    }
    loaded = load_strictly(_small("DINOv2-like"), authors, "small", "test", 32).state_dict()
    expected = {**converted, "cls_token": converted["cls_token"] + position_of_cls}
    assert tensors_sha256(loaded) == tensors_sha256(expected)


def test_random_weights_follow_the_seed_alone_when_asked_for() -> None:
    torch.manual_seed(1)
    first = load_backbone("vit_nano", "random", 18, seed=1).weights_sha256
    torch.manual_seed(2)
    assert load_backbone("vit_nano", "random", 18, seed=1).weights_sha256 == first
    assert load_backbone("vit_nano", "random", 18, seed=2).weights_sha256 != first


def test_info_is_still_made_by_position_when_the_new_fields_are_left_out() -> None:
    info = BackboneInfo("x", 64, 2, 8, 32, 0, (0, 0, 0), (1, 1, 1), "bicubic", "MIT", "")
    assert (info.mlp_ratio, info.default_weights, info.is_non_commercial) == (4.0, "pretrained", False)


def test_tag_is_assumed_and_marked_when_the_paper_names_it_barely() -> None:
    asked = BackboneRequest(name="deit_tiny_patch16_224", weights="random")
    spec, _ = resolve_backbone(asked, "paper")
    assert (spec.name, spec.assumed_from) == ("deit_tiny_patch16_224.fb_in1k", "deit_tiny_patch16_224")
    with pytest.raises(RequestError, match=r"deit_tiny_patch16_224\.fb_in1k"):
        resolve_backbone(asked, "fair")


@pytest.mark.parametrize(
    ("weights", "expected"),
    [("pretrained", "CC-BY-NC-4.0 (non-commercial)"), ("random", None), ("file", "CC-BY-NC-4.0 (non-commercial) by")],
)
def test_licence_is_the_loaded_weights_when_a_result_states_it(weights: str, expected: str | None) -> None:
    licence = licence_of_weights("vit_base_patch16_224.mae", weights)
    assert licence == expected or str(licence).startswith(f"{expected} its name")
