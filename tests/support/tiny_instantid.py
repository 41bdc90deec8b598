"""SDXL, IdentityNet and adapter in InstantID's layout, with random weights of a few hundred kilobytes.

Run by the Python that has torch and diffusers: `python tests/support/tiny_instantid.py FOLDER` makes `FOLDER/sdxl` and
`FOLDER/instantid`. Names and shapes of the adapter's tensors are those of its authors' `Resampler`.
"""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path
from typing import Any

WORDS = 64  # width of what the model attends to
EMBEDDING = 512  # of a face
TOKENS = 16
DEPTH = 4


def make(folder: Path) -> None:
    torch: Any = importlib.import_module("torch")
    torch.manual_seed(3)
    _sdxl(folder / "sdxl")
    _instantid(folder / "instantid", torch, folder / "sdxl")


def _sdxl(folder: Path) -> None:
    diffusers: Any = importlib.import_module("diffusers")
    transformers: Any = importlib.import_module("transformers")
    unet = diffusers.UNet2DConditionModel(
        block_out_channels=(32, 64),
        layers_per_block=1,
        sample_size=32,
        in_channels=4,
        out_channels=4,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        attention_head_dim=(2, 4),
        use_linear_projection=True,
        addition_embed_type="text_time",
        addition_time_embed_dim=8,
        transformer_layers_per_block=(1, 2),
        projection_class_embeddings_input_dim=80,
        cross_attention_dim=WORDS,
    )
    vae = diffusers.AutoencoderKL(
        block_out_channels=(32, 64),
        in_channels=3,
        out_channels=3,
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        latent_channels=4,
    )
    text = transformers.CLIPTextConfig(
        bos_token_id=0, eos_token_id=2, hidden_size=32, intermediate_size=37, num_attention_heads=4,
        num_hidden_layers=2, pad_token_id=1, vocab_size=1000, hidden_act="gelu", projection_dim=32,
    )  # fmt: skip
    tokenizer = _tokenizer(folder.parent / "words", transformers)
    diffusers.StableDiffusionXLPipeline(
        vae=vae,
        text_encoder=transformers.CLIPTextModel(text),
        text_encoder_2=transformers.CLIPTextModelWithProjection(text),
        tokenizer=tokenizer,
        tokenizer_2=tokenizer,
        unet=unet,
        scheduler=diffusers.EulerDiscreteScheduler(),
    ).save_pretrained(folder)


def _tokenizer(folder: Path, transformers: Any) -> Any:
    """Letters, and nothing longer."""
    folder.mkdir(parents=True)
    letters = "abcdefghijklmnopqrstuvwxyz"
    words = ["<|startoftext|>", "<pad>", "<|endoftext|>", *letters, *(f"{letter}</w>" for letter in letters)]
    (folder / "vocab.json").write_text(json.dumps({word: index for index, word in enumerate(words)}), encoding="utf-8")
    (folder / "merges.txt").write_text("#version: 0.2\n", encoding="utf-8")
    return transformers.CLIPTokenizer.from_pretrained(folder, model_max_length=77)


def _instantid(folder: Path, torch: Any, sdxl: Path) -> None:
    diffusers: Any = importlib.import_module("diffusers")
    unet = diffusers.UNet2DConditionModel.from_pretrained(sdxl, subfolder="unet")
    net = diffusers.ControlNetModel.from_unet(unet, conditioning_embedding_out_channels=(16, 32))
    for layer in (*net.controlnet_down_blocks, net.controlnet_mid_block, net.controlnet_cond_embedding.conv_out):
        torch.nn.init.normal_(layer.weight, std=0.2)  # they begin as zeros, through which nothing would be seen
    net.save_pretrained(folder / "ControlNetModel")
    torch.save({"image_proj": resampler(torch), "ip_adapter": _keys_and_values(torch, unet)}, folder / "ip-adapter.bin")


def resampler(torch: Any) -> dict[str, Any]:
    """The tensors of a resampler of one head, which is as wide as a head: 64."""

    def random(*shape: int) -> Any:
        return 0.2 * torch.randn(*shape)

    tensors = {
        "latents": random(1, TOKENS, 64),
        "proj_in.weight": random(64, EMBEDDING),
        "proj_in.bias": random(64),
        "proj_out.weight": random(WORDS, 64),
        "proj_out.bias": random(WORDS),
        "norm_out.weight": 1 + random(WORDS),
        "norm_out.bias": random(WORDS),
    }
    for layer in range(DEPTH):
        attends, thinks = f"layers.{layer}.0", f"layers.{layer}.1"
        for norm in (f"{attends}.norm1", f"{attends}.norm2", f"{thinks}.0"):
            tensors |= {f"{norm}.weight": 1 + random(64), f"{norm}.bias": random(64)}
        tensors |= {f"{attends}.to_q.weight": random(64, 64), f"{attends}.to_kv.weight": random(128, 64)}
        tensors |= {f"{attends}.to_out.weight": random(64, 64)}
        tensors |= {f"{thinks}.1.weight": random(256, 64), f"{thinks}.3.weight": random(64, 256)}
    return tensors


def _keys_and_values(torch: Any, unet: Any) -> dict[str, Any]:
    """Of each layer that attends to words, numbered as the model's processors are."""
    tensors = {}
    for index, name in enumerate(unet.attn_processors):
        if name.endswith("attn2.processor"):
            inner = unet.get_submodule(name.removesuffix(".processor")).to_k.weight.shape[0]
            for part in ("to_k_ip", "to_v_ip"):
                tensors[f"{index}.{part}.weight"] = 0.5 * torch.randn(inner, WORDS)
    return tensors


if __name__ == "__main__":
    make(Path(sys.argv[1]))
