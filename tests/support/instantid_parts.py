"""What each part of InstantID sees of a face, and what the decoder gets at a time, printed as JSON.

`python tests/support/instantid_parts.py FOLDER`: run by the Python that has torch, on the weights that
`tiny_instantid.py` made, through the worker's own loading.
"""

from __future__ import annotations

import importlib
import json
import math
import sys
from pathlib import Path
from typing import Any

from pools.modal.worker.faces import Face
from pools.modal.worker.instantid import ADAPTER, load_instantid
from pools.modal.worker.pictures import Picture, decode_in_pieces

HEAD = 64


def resampled(torch: Any, weights: dict[str, Any], face: Any) -> Any:
    """A perceiver resampler (arXiv 2204.14198) over one vector: queries attend to it and to themselves, layer by
    layer. Names of tensors as in InstantID's file; one head.
    """
    functional = torch.nn.functional

    def normed(name: str, values: Any) -> Any:
        return functional.layer_norm(values, values.shape[-1:], weights[f"{name}.weight"], weights[f"{name}.bias"])

    seen = functional.linear(face, weights["proj_in.weight"], weights["proj_in.bias"])
    queries = weights["latents"][0]
    for layer in range(4):
        attends, thinks = f"layers.{layer}.0", f"layers.{layer}.1"
        given, asking = normed(f"{attends}.norm1", seen), normed(f"{attends}.norm2", queries)
        keys, values = (torch.cat([given, asking]) @ weights[f"{attends}.to_kv.weight"].T).chunk(2, dim=-1)
        wanted = asking @ weights[f"{attends}.to_q.weight"].T
        shares = (wanted @ keys.T / math.sqrt(HEAD)).softmax(dim=-1)
        queries = queries + (shares @ values) @ weights[f"{attends}.to_out.weight"].T
        wide = functional.gelu(normed(f"{thinks}.0", queries) @ weights[f"{thinks}.1.weight"].T)
        queries = queries + wide @ weights[f"{thinks}.3.weight"].T
    projected = functional.linear(queries, weights["proj_out.weight"], weights["proj_out.bias"])
    return normed("norm_out", projected)


def main(folder: Path) -> None:
    torch: Any = importlib.import_module("torch")
    seen: list[Any] = []
    model = load_instantid(str(folder / "instantid"), str(folder / "sdxl"), "cpu")
    pipeline = model.pipeline

    def note(_net: Any, _positional: Any, named: dict[str, Any]) -> None:
        seen.append(named["encoder_hidden_states"].clone())

    pipeline.controlnet.register_forward_pre_hook(note, with_kwargs=True)

    def picture(step: int, count: int = 1) -> bytes:
        embedding = [math.sin(step * index) for index in range(512)]
        face = Face(embedding, [(20, 20), (44, 20), (32, 32), (24, 44), (40, 44)], 1.0)
        asked = Picture("a lake", count, 64, 64, 1, 1)
        return model.make(face, (64, 64), asked, lambda seed: torch.Generator().manual_seed(seed), lambda: False).body

    def differs(adapter: float, net: float) -> bool:
        pipeline.set_ip_adapter_scale(adapter)
        for layer in (*pipeline.controlnet.controlnet_down_blocks, pipeline.controlnet.controlnet_mid_block):
            layer.weight.data.mul_(net)
        first, second = (json.loads(picture(step))["data"] for step in (1, 2))
        return bool(first != second)

    def decoded(pictures: int, side: int, precision: Any) -> list[list[int]]:
        """Shapes that the decoder gets for so many pictures of so many pixels a side."""
        shapes: list[list[int]] = []
        vae = pipeline.vae.to(precision)
        decode_in_pieces(pipeline)
        hook = vae.decoder.register_forward_pre_hook(lambda _, given: shapes.append(list(given[0].shape)))
        with torch.no_grad():
            vae.decode(torch.zeros(pictures, 4, side // 8, side // 8, dtype=precision))
        hook.remove()
        return shapes

    picture(1, count=2)
    weights = torch.load(folder / "instantid" / ADAPTER)["image_proj"]
    halves = (torch.zeros(1, 512), torch.tensor([[math.sin(index) for index in range(512)]]))
    expected = torch.stack([resampled(torch, weights, half) for half in halves for _ in range(2)])
    report = {
        "furthest_token": float((seen[0] - expected).abs().max()),
        "net_sees_the_tokens": seen[0].shape == expected.shape,
        "net_alone_sees_the_face": differs(adapter=0.0, net=1.0),
        "adapter_alone_sees_the_face": differs(adapter=1.0, net=0.0),
        "decoded": decoded(2, 1024, torch.float32),
        "decoded_in_float16": decoded(1, 1024, torch.float16),
    }
    print(json.dumps(report))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
